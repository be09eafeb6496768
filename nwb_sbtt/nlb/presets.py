"""Settings that a fit to a set of the benchmark starts from: those published for LFADS, in the terms of this package.

`conv`, the default, has no presets: what regularises it and how long it trains follow from the number of training trials
(`nwb_sbtt.train.schedules`), and nothing it has is tuned to a set. `benchmarks/README.md` says how close to the true rates it
comes with that.

The published models of 5 ms bins were found by a search over learning rates, dropout, hidden shares and weights of penalties;
what was published of these is where the search began. Here they are this package's defaults, which lie within what was
searched. Values that were used as they stand are those of mc_maze at 20 ms and of dmfc_rsg.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nwb_sbtt.config import FitConfig, build
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.nlb.definitions import BIN_WIDTHS, DEFINITIONS, definition, group_name

DEFAULT = "conv"


@dataclass(frozen=True)
class Preset:
    """Settings of LFADS; None leaves one at this package's default.

    A share that is hidden is that of coordinated dropout. KL weights are published for sums over a trial beside a mean over its
    bins and units; here 1 is the evidence lower bound, so they are multiplied with bins times units. Penalties of recurrent
    weights are published for half their mean square.
    """

    encoder: int = 100
    initial_condition: int = 100
    controller: int = 80
    inputs: int = 4
    generator: int = 100
    factors: int = 40
    dropout: float | None = None
    hidden: float | None = None
    learning_rate: float = 4e-3
    batch_size: int = 256
    kl_weight: float | None = None
    l2_weight: float | None = None
    epochs: int | None = None
    patience: int | None = None


_MAZE_20 = Preset(
    encoder=64,
    initial_condition=64,
    controller=64,
    generator=200,
    factors=100,
    dropout=0.3,
    hidden=0.3,
    kl_weight=8e-4,
    epochs=1000,
    patience=200,
)

PRESETS: dict[str, Preset] = {
    "mc_maze": Preset(),
    "mc_rtt": Preset(learning_rate=1e-2),
    "area2_bump": Preset(),
    "dmfc_rsg": Preset(controller=64, dropout=0.15, hidden=0.3, learning_rate=5e-3, kl_weight=5.5e-3, l2_weight=1.5e-3),
    "mc_maze_large": Preset(),
    "mc_maze_medium": Preset(batch_size=128),
    "mc_maze_small": Preset(batch_size=64),
    "mc_maze_20": _MAZE_20,
    "mc_maze_large_20": _MAZE_20,
    "mc_maze_medium_20": replace(_MAZE_20, batch_size=128),
    "mc_maze_small_20": replace(_MAZE_20, batch_size=64),
}
"""By group. For 20 ms bins of the other sets nothing is published; those of 5 ms hold there too."""


def preset(name: str, bin_width: float) -> Preset:
    """Where LFADS starts on a set.

    Raises
    ------
    ConfigError
        If there is no such set, or bins are neither 5 nor 20 ms.
    """
    return PRESETS.get(group_name(name, bin_width), PRESETS[definition(name).name])


def preset_settings(name: str, bin_width: float) -> dict[str, Any]:
    """The same as settings of a fit, as a YAML file would hold them."""
    chosen = {key: value for key, value in asdict(preset(name, bin_width)).items() if value is not None}
    hidden = chosen.pop("hidden", None)
    training = {key: chosen.pop(key) for key in _TRAINING if key in chosen}
    masks = {} if hidden is None else {"masks": {"coordinated_dropout": [hidden, hidden]}}
    return {"model": {"name": "lfads", **chosen}, **masks, "train": training}


def starting_config(
    name: str, bin_width: float, *, model: str | None = None, settings: Mapping[str, Any] | None = None
) -> FitConfig:
    """Settings of a fit to a set: the preset of the model, changed by what a person set.

    Parameters
    ----------
    name : str
        Of the set.
    bin_width : float
    model : str, optional
        "conv" (taken where the settings name none either), "lfads" or "sae".
    settings : mapping, optional
        As a YAML file holds them; each is put in the preset's place.

    Raises
    ------
    ConfigError
        If a setting is unknown, or model and settings name different models.
    """
    given = dict(settings or {})
    named = given["model"].get("name") if isinstance(given.get("model"), Mapping) else None
    if model is not None and named not in (None, model):
        raise ConfigError(f"the settings are for model {named!r}, and {model!r} was asked for; name one of them")
    start = preset_settings(name, bin_width) if model == "lfads" else {"model": {"name": model or named or DEFAULT}}
    return build(FitConfig, _changed(start, given))


def listing(name: str | None = None) -> dict[str, list[str]]:
    """Presets of one set or of all, by group; each setting as `--set` takes it.

    Raises
    ------
    ConfigError
        If there is no such set.
    """
    names = list(DEFINITIONS) if name is None else [definition(name).name]
    return {
        group_name(each, width): list(_assignments(preset_settings(each, width)))
        for each in names
        for width in BIN_WIDTHS
    }


def _assignments(settings: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _assignments(value, f"{before}{key}.")
        elif key != "name":
            yield f"{before}{key}={value}"


_TRAINING = ("learning_rate", "batch_size", "kl_weight", "l2_weight", "epochs", "patience")


def _changed(start: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others put in their place, part by part."""
    found = dict(start)
    for key, value in changes.items():
        own = found.get(key)
        found[key] = _changed(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else value
    return found
