"""Published settings of LFADS for each set of the benchmark, in the terms of this package: a table of values.

`conv`, the default model, has no presets: its regularisation and the length of training follow from the number of training
trials (`nwb_sbtt.train.schedules`), and no setting is tuned to a set; `benchmarks/README.md` has its scores beside those of the
true rates.

The published models of 5 ms bins come from a search over learning rates, dropout, shares of coordinated dropout and weights of
penalties; published is where the search began. These four are left at this package's defaults, which lie within the ranges
searched. The values of mc_maze at 20 ms and of dmfc_rsg were used as they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nwb_sbtt.config import FitConfig, build
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.nlb.definitions import BIN_WIDTHS, DEFINITIONS, get_definition, group_name

DEFAULT_MODEL = "conv"
TRAIN_SETTINGS = ("learning_rate", "batch_size", "kl_weight", "l2_weight", "epochs", "patience")
"""Settings of a preset that belong to ``train``; `coordinated_dropout` belongs to ``masks``, the others to ``model``."""


@dataclass(frozen=True)
class Preset:
    """Settings of LFADS; None leaves one at this package's default.

    Published KL weights are for sums over a trial beside a mean over its bins and units; here a weight of 1 gives the evidence
    lower bound, so they are multiplied by bins times units. Published penalties of recurrent weights are for half their mean
    square.

    Parameters
    ----------
    encoder, initial_condition, controller, inputs, generator, factors : int
    dropout, learning_rate : float
    coordinated_dropout : float
        Share of the entries hidden.
    batch_size, epochs, patience : int
    kl_weight, l2_weight : float
    """

    encoder: int = 100
    initial_condition: int = 100
    controller: int = 80
    inputs: int = 4
    generator: int = 100
    factors: int = 40
    dropout: float | None = None
    coordinated_dropout: float | None = None
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
    coordinated_dropout=0.3,
    kl_weight=8e-4,
    epochs=1000,
    patience=200,
)

PRESETS: dict[str, Preset] = {
    "mc_maze": Preset(),
    "mc_rtt": Preset(learning_rate=1e-2),
    "area2_bump": Preset(),
    "dmfc_rsg": Preset(
        controller=64, dropout=0.15, coordinated_dropout=0.3, learning_rate=5e-3, kl_weight=5.5e-3, l2_weight=1.5e-3
    ),
    "mc_maze_large": Preset(),
    "mc_maze_medium": Preset(batch_size=128),
    "mc_maze_small": Preset(batch_size=64),
    "mc_maze_20": _MAZE_20,
    "mc_maze_large_20": _MAZE_20,
    "mc_maze_medium_20": replace(_MAZE_20, batch_size=128),
    "mc_maze_small_20": replace(_MAZE_20, batch_size=64),
}
"""By group. For 20 ms bins of the other sets nothing is published; the values of 5 ms are used."""


def get_preset(name: str, bin_width: float) -> Preset:
    """Return the published settings of a set.

    Parameters
    ----------
    name : str
        Of the set.
    bin_width : float
        Seconds.

    Raises
    ------
    ConfigError
        If there is no such set, or bins are neither 5 nor 20 ms.
    """
    return PRESETS.get(group_name(name, bin_width), PRESETS[get_definition(name).name])


def preset_settings(name: str, bin_width: float) -> dict[str, Any]:
    """Return the published settings of a set as settings of a fit, as a YAML file would have them.

    Parameters
    ----------
    name : str
        Of the set.
    bin_width : float
        Seconds.

    Raises
    ------
    ConfigError
        As `get_preset`.
    """
    published = {key: value for key, value in asdict(get_preset(name, bin_width)).items() if value is not None}
    share = published.pop("coordinated_dropout", None)
    training = {key: published.pop(key) for key in TRAIN_SETTINGS if key in published}
    masks = {} if share is None else {"masks": {"coordinated_dropout": [share, share]}}
    return {"model": {"name": "lfads", **published}, **masks, "train": training}


def starting_config(
    name: str, bin_width: float, *, model: str | None = None, settings: Mapping[str, Any] | None = None
) -> FitConfig:
    """Combine the preset of a model with the settings of the user, which take precedence.

    Parameters
    ----------
    name : str
        Of the set.
    bin_width : float
        Seconds.
    model : str, optional
        Such as "lfads". Default: the one that the settings name, or else "conv".
    settings : mapping, optional
        As a YAML file has them.

    Raises
    ------
    ConfigError
        If a setting is unknown, or model and settings name different models.
    """
    changes = dict(settings or {})
    named = changes["model"].get("name") if isinstance(changes.get("model"), Mapping) else None
    if model is not None and named not in (None, model):
        raise ConfigError(f"the settings are for model {named!r}, but --model is {model!r}; use the same model in both")
    start = (
        preset_settings(name, bin_width) if model == "lfads" else {"model": {"name": model or named or DEFAULT_MODEL}}
    )
    return build(FitConfig, _merged(start, changes))


def list_presets(name: str | None = None) -> dict[str, list[str]]:
    """List the presets of one set or of all.

    Parameters
    ----------
    name : str, optional
        Of the set. Default: all sets.

    Returns
    -------
    dict of group to list of str
        Each setting as `--set` takes it.

    Raises
    ------
    ConfigError
        If there is no such set.
    """
    names = list(DEFINITIONS) if name is None else [get_definition(name).name]
    return {
        group_name(set_name, width): list(_assignments(preset_settings(set_name, width)))
        for set_name in names
        for width in BIN_WIDTHS
    }


def _assignments(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Settings as ``a.b=value``, without names of models."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _assignments(value, f"{prefix}{key}.")
        elif key != "name":
            yield f"{prefix}{key}={value}"


def _merged(start: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes in their place, section by section."""
    merged = dict(start)
    for key, value in changes.items():
        section = merged.get(key)
        merged[key] = _merged(section, value) if isinstance(section, Mapping) and isinstance(value, Mapping) else value
    return merged
