"""Predicted rates in the benchmark's submission file, checked before they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.io.benchmark.tensorfile import read_tensors, write_tensors
from nwb_sbtt.nlb.definitions import BIN_WIDTHS, DEFINITIONS, SCALING
from nwb_sbtt.nlb.preparation import Prepared

Array = NDArray[Any]
REQUIRED = ("train_rates_heldin", "train_rates_heldout", "eval_rates_heldin", "eval_rates_heldout")
FORWARD_RATES = ("eval_rates_heldin_forward", "eval_rates_heldout_forward")
"""Both or neither; without them there is no fp-bps."""
SUBMISSION_GROUPS = [name + suffix for name in DEFINITIONS for suffix in BIN_WIDTHS.values()]


def check_rates(group: str, rates: Mapping[str, Array], prepared: Prepared | None = None) -> None:
    """Refuse rates that the benchmark would refuse, or misread.

    Parameters
    ----------
    group : str
        Such as "mc_maze" or "mc_maze_20".
    rates : mapping of name to array (trial, time, unit)
        Expected counts per bin.
    prepared : Prepared, optional
        The tensors of the prediction, whose trials, bins and units the rates must have.

    Raises
    ------
    DataError
        If names, shapes or numbers are not as expected; the message says which.
    """
    if group not in SUBMISSION_GROUPS:
        raise DataError(f"a submission has no group {group!r}; expected one of {SUBMISSION_GROUPS}")
    names = {*REQUIRED, *FORWARD_RATES, *(name.replace("eval", "train") for name in FORWARD_RATES)}
    missing, unknown = [name for name in REQUIRED if name not in rates], sorted(set(rates) - names)
    half = [name for name in FORWARD_RATES if name in rates]
    if missing or unknown or len(half) == 1:
        raise DataError(
            f"{group} has {sorted(rates)}: missing {missing or list(set(FORWARD_RATES) - set(half))}, unknown {unknown}; "
            f"expected {list(REQUIRED)} and, for forward prediction, {list(FORWARD_RATES)}"
        )
    for name, array in rates.items():
        if array.ndim != 3 or array.dtype.kind != "f":
            raise DataError(
                f"{group}/{name} is {array.dtype} of shape {array.shape}; expected floats (trial, time, unit)"
            )
        if (bad := int((~np.isfinite(array)).sum())) or (array < 0).any():
            below = int((array < 0).sum())
            raise DataError(
                f"{group}/{name}: {bad} entries are not finite and {below} are negative; expected counts per bin"
            )
    for part in ("train", "eval"):
        shapes = {name: array.shape for name, array in rates.items() if name.startswith(part)}
        n_trials = {shape[0] for shape in shapes.values()}
        n_bins = [
            {shape[1] for name, shape in shapes.items() if name.endswith("_forward") == is_forward}
            for is_forward in (0, 1)
        ]
        if len(n_trials) > 1 or any(len(numbers) > 1 for numbers in n_bins):
            raise DataError(f"{group}: {shapes} have different numbers of trials or bins")
    for kind in ("heldin", "heldout"):
        shapes = {name: array.shape for name, array in rates.items() if f"_{kind}" in name}
        if len({shape[2] for shape in shapes.values()}) > 1:
            raise DataError(f"{group}: {shapes} have different numbers of units")
    for name, expected in ({} if prepared is None else expected_shapes(prepared)).items():
        if name in rates and rates[name].shape != expected:
            raise DataError(f"{group}/{name} has shape {rates[name].shape}; expected {expected} (trial, time, unit)")


def expected_shapes(prepared: Prepared) -> dict[str, tuple[int, ...]]:
    """Return the shapes that rates predicted from prepared tensors must have.

    Parameters
    ----------
    prepared : Prepared

    Returns
    -------
    dict of name to (trial, time, unit)

    Raises
    ------
    DataError
        If there are no training trials.
    """
    inputs = prepared.inputs
    if "train_spikes_heldout" not in inputs:
        raise DataError("there are no training trials; prepare the set with the file that has them")
    n_eval = len(inputs["eval_spikes_heldin"])
    shapes: dict[str, tuple[int, ...]] = {}
    for kind in ("heldin", "heldout", "heldin_forward", "heldout_forward"):
        shape = inputs[f"train_spikes_{kind}"].shape
        shapes |= {f"train_rates_{kind}": shape, f"eval_rates_{kind}": (n_eval, *shape[1:])}
    return shapes


def write_submission(
    path: Path | str, sets: Mapping[str, Mapping[str, Array]], *, overwrite: bool = False
) -> list[str]:
    """Write the rates of one or several sets into a submission file.

    Parameters
    ----------
    path : path
        Ends in ``.h5``.
    sets : mapping of group to mapping of name to array (trial, time, unit)
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    list of str
        Notes for the user, on scores that the benchmark will leave out.

    Raises
    ------
    DataError
        As `check_rates`.
    FileError
        If the file exists and may not be replaced, or cannot be written.
    """
    if not sets:
        raise DataError("there is nothing to submit; pass the rates of at least one set")
    for group, rates in sets.items():
        check_rates(group, rates)
    write_tensors(path, sets, overwrite=overwrite)
    return submission_notes(sets)


def submission_notes(sets: Mapping[str, Mapping[str, Array]]) -> list[str]:
    """Return notes on scores that the benchmark will leave out of a submission.

    Parameters
    ----------
    sets : mapping of group to mapping of name to array
    """
    notes = []
    for suffix in BIN_WIDTHS.values():
        scaling = [name + suffix for name in SCALING]
        if 0 < sum(name in sets for name in scaling) < len(scaling):
            lacking = [name for name in scaling if name not in sets]
            notes.append(
                f"the benchmark scores {', '.join(scaling)} together, but this file lacks {', '.join(lacking)}"
            )
    for group, rates in sets.items():
        if FORWARD_RATES[0] not in rates:
            notes.append(f"{group} has no rates of forecast bins, so there is no score fp-bps")
    return notes


def read_submission(paths: Sequence[Path | str]) -> dict[str, dict[str, Array]]:
    """Read the rates of one or several files, and check them.

    Parameters
    ----------
    paths : sequence of path

    Returns
    -------
    dict of group to dict of name to array (trial, time, unit)

    Raises
    ------
    FileError
        If a file cannot be read, or two have the same set.
    DataError
        As `check_rates`.
    """
    sets: dict[str, dict[str, Array]] = {}
    for path in paths:
        for group, arrays in read_tensors(path).items():
            if not group:
                raise DataError(
                    f"{str(path)!r} has {sorted(arrays)} without the name of a set; expected a file of rates, such as "
                    "GROUP.PHASE.rates.h5 in the run folder of nlb fit"
                )
            if group in sets:
                raise FileError(f"{group!r} is in {str(path)!r} and in another file; pass each set only once")
            if ragged := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise DataError(
                    f"{group} of {str(path)!r} has lists ({ragged}), which only files of targets have; expected a "
                    "file of rates"
                )
            sets[group] = {name: np.asarray(array) for name, array in arrays.items()}
            check_rates(group, sets[group])
    return sets
