"""A submission scored against targets, under the benchmark's own names of splits and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.nlb import metrics
from nwb_sbtt.nlb.definitions import BIN_WIDTHS, DEFINITIONS, SCALING, get_definition
from nwb_sbtt.nlb.submission import FORWARD_RATES, check_rates

Array = NDArray[Any]
Targets = Mapping[str, Any]


def evaluate(sets: Mapping[str, Mapping[str, Array]], targets: Mapping[str, Targets]) -> dict[str, dict[str, float]]:
    """Score all sets of a submission that have targets.

    Parameters
    ----------
    sets : mapping of group to mapping of name to array (trial, time, unit)
        Rates, in expected counts per bin; groups are named "mc_maze", "mc_maze_20", ….
    targets : mapping of group to targets
        As `nwb_sbtt.nlb.preparation.prepare` or the benchmark make them.

    Returns
    -------
    dict
        By split ("mc_maze_split", "mc_maze_scaling_20_split", …) the scores "co-bps", "vel R2" or "tp corr", "psth R2" and
        "fp-bps"; those of the scaling sets have the set's mark before them, as "[100] co-bps".

    Raises
    ------
    DataError
        If the benchmark would refuse the rates, they do not fit the targets, or no set has targets.
    """
    scores: dict[str, dict[str, float]] = {}
    for name in DEFINITIONS:
        for suffix in BIN_WIDTHS.values():
            group = name + suffix
            if group not in sets or group not in targets:
                continue
            set_scores = score(group, sets[group], targets[group])
            if name in SCALING:
                split_scores = scores.setdefault(f"mc_maze_scaling{suffix}_split", {})
                split_scores |= {f"{SCALING[name]} {key}": value for key, value in set_scores.items()}
            else:
                scores[f"{group}_split"] = set_scores
    if not scores:
        raise DataError(
            f"there are rates of {sorted(sets)} and targets of {sorted(targets)}; expected at least one set in both"
        )
    return scores


def score(group: str, rates: Mapping[str, Array], targets: Targets) -> dict[str, float]:
    """Score one set.

    Parameters
    ----------
    group : str
        Such as "mc_maze" or "mc_maze_20".
    rates : mapping of name to array (trial, time, unit)
        Expected counts per bin.
    targets : mapping of name to array

    Returns
    -------
    dict
        By the benchmark's names, such as "co-bps".

    Raises
    ------
    DataError
        As `evaluate`.
    """
    check_rates(group, rates)
    definition = get_definition(group.removesuffix("_20"))
    _check_targets(group, targets, timed=definition.produced is not None)
    spikes = np.asarray(targets["eval_spikes_heldout"], dtype=np.float64)
    _check_shape(group, "eval_rates_heldout", rates["eval_rates_heldout"], spikes)
    all_units = _joined(rates, "eval_rates_{}")
    scores = {"co-bps": metrics.bits_per_spike(rates["eval_rates_heldout"], spikes)}
    behavior = np.asarray(targets["eval_behavior"])
    if definition.produced is not None:
        scores["tp corr"] = metrics.speed_correlation(all_units, behavior, ~np.isnan(spikes[..., 0]))
    else:
        scores["vel R2"] = metrics.velocity_r2(
            _joined(rates, "train_rates_{}"),
            np.asarray(targets["train_behavior"]),
            all_units,
            behavior,
            train_groups=_optional(targets, "train_decode_mask"),
            eval_groups=_optional(targets, "eval_decode_mask"),
        )
    if "psth" in targets:
        scores["psth R2"] = metrics.psth_r2(
            np.asarray(targets["psth"]),
            all_units,
            list(targets["eval_cond_idx"]),
            jitter=_optional(targets, "eval_jitter"),
        )
    if FORWARD_RATES[0] in rates and "eval_spikes_heldin_forward" in targets:
        forward = np.concatenate(
            [np.asarray(targets[f"eval_spikes_{kind}_forward"]) for kind in ("heldin", "heldout")], axis=2
        )
        predicted = _joined(rates, "eval_rates_{}_forward")
        _check_shape(group, "the forward rates", predicted, forward)
        scores["fp-bps"] = metrics.bits_per_spike(predicted, forward)
    if undefined := [name for name, value in scores.items() if not np.isfinite(value)]:
        raise DataError(f"{group}: {undefined[0]} is not a finite number with these targets; prepare them again")
    return scores


def _check_targets(group: str, targets: Targets, *, timed: bool) -> None:
    needed = ["eval_spikes_heldout", "eval_behavior", *(() if timed else ("train_behavior",))]
    needed += ["eval_cond_idx"] if "psth" in targets else []
    needed += ["eval_spikes_heldout_forward"] if "eval_spikes_heldin_forward" in targets else []
    if missing := [name for name in needed if name not in targets]:
        raise DataError(
            f"the targets of {group} have {sorted(targets)} and lack {missing}; pass a file written by nlb prepare "
            f"({group}.val.targets.h5) or one in the benchmark's own layout"
        )
    for name, array in targets.items():
        if name.endswith("_cond_idx"):
            continue
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            raise DataError(f"{name!r} of the targets of {group} is not an array of numbers; prepare the targets again")
    if targets["eval_spikes_heldout"].ndim != 3:
        shape = targets["eval_spikes_heldout"].shape
        raise DataError(f"the spikes of the targets of {group} have shape {shape}; expected (trial, time, unit)")
    for name in (name for name in targets if name.startswith("eval_spikes")):
        if ((targets[name] < 0) | np.isinf(targets[name])).any():
            raise DataError(
                f"{name!r} of the targets of {group} has values that are not counts; prepare the targets again"
            )
    forward = [
        targets[name] for name in ("eval_spikes_heldin_forward", "eval_spikes_heldout_forward") if name in targets
    ]
    if len({array.shape[:2] for array in forward}) > 1 or any(array.ndim != 3 for array in forward):
        shapes = [array.shape for array in forward]
        raise DataError(
            f"the forward spikes of the targets of {group} have shapes {shapes}; expected (trial, time, unit)"
        )


def _joined(rates: Mapping[str, Array], name: str) -> Array:
    """Held-in and held-out units side by side."""
    return np.concatenate([rates[name.format(kind)] for kind in ("heldin", "heldout")], axis=2).astype(np.float64)


def _optional(targets: Targets, name: str) -> Array | None:
    return np.asarray(targets[name]) if name in targets else None


def _check_shape(group: str, name: str, rates: Array, spikes: Array) -> None:
    if rates.shape != spikes.shape:
        raise DataError(
            f"{group}: {name} has shape {rates.shape}, the targets {spikes.shape}; use rates and targets of the same "
            "phase"
        )
