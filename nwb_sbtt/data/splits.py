"""Which trials train a model and which only compare models: drawn trial by trial, in blocks, or by condition."""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.data.datasets import dataset_of, with_trials
from nwb_sbtt.data.schema import is_chopped
from nwb_sbtt.errors import DataError

LABELS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
    **dict.fromkeys(("none", "nan", "unused", "excluded", ""), "none"),
    "gap": "gap",
}
"""Values that a `split` column may have, in any case, and the label that each becomes."""
LEAST_TRAIN, LEAST_VALID = 2, 1
"""Trials."""
MOST_BLOCKS = 5
BLOCK_LENGTH = 4
"""A chopped session has one validation block for every `BLOCK_LENGTH` validation chops, but at most `MOST_BLOCKS`: further
blocks would cost more in gaps than they are worth."""
SUGGESTED_CHOPS = 12
"""Chops that an error suggests for a session too short to be split."""


def split(ds: xr.Dataset, *, valid: float = 0.2, test: float = 0.0, seed: int = 0) -> xr.Dataset:
    """Label every trial in the coordinate ``split``: "train", "valid", or a label of trials that are not used.

    * Trials that have a ``split`` keep it (train/val/test/none, as in benchmark files). If there are training trials but
      no validation trials, validation trials are drawn from the training trials; "test" and "none" never change. If there
      are neither training nor validation trials (a file with only test trials), all trials are drawn again.
    * Trials that are chops of a session, or that overlap in time, are split in contiguous blocks (at most five,
      one at a random place in each part of the session), and training chops that share bins with a validation chop
      become "gap": no sample is in both.
    * All others are drawn one by one; trials with the same start are drawn together.
    * If `test` is above 0 and there are no test trials, test trials are drawn first, in the same way.
    * A training trial with the same start as a trial of another label has the same data, and becomes "gap" too.

    Parameters
    ----------
    ds : Dataset
    valid, test : float
        Fractions of the trials.
    seed : int

    Returns
    -------
    Dataset
        The same data with the coordinate ``split`` (trial).

    Raises
    ------
    DataError
        If fewer than two training trials and one validation trial would remain, or a label is unknown.

    Examples
    --------
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = lorenz(conditions=1, trials_per_condition=10).drop_vars("split")
    >>> sorted(split(ds)["split"].values.tolist())[-3:]
    ['train', 'valid', 'valid']
    """
    _check_share(valid)
    ds = with_trials(dataset_of(ds))
    if not 0 <= test < 1 - valid:
        raise DataError(f"valid is {valid:g} and test is {test:g}; expected fractions that leave trials to train on")
    labels = (
        _canonical(ds["split"].values) if "split" in ds.coords else np.full(ds.sizes["trial"], "train", dtype="<U5")
    )
    if not np.isin(labels, ("train", "valid")).any():
        labels = np.full(len(labels), "train", dtype="<U5")
    if test and not (labels == "test").any():
        # Another stream of random numbers than that of the validation trials.
        labels = _label(ds, labels, "test", test, np.random.default_rng([seed, 1]))
    if not (labels == "valid").any():
        labels = _label(ds, labels, "valid", valid, np.random.default_rng(seed))
    labels = _without_copies(labels, ds["trial_start"].values.astype(float))
    count = Counter(labels.tolist())
    if count["train"] < LEAST_TRAIN:
        raise DataError(
            f"the trials are labelled {dict(count)}, which leaves {count['train']} to train on; expected at least "
            f"{LEAST_TRAIN}. Drop the `split` coordinate to draw a new split, or cut the data into more trials"
        )
    return ds.assign_coords(split=("trial", labels))


def split_by_label(ds: xr.Dataset, label: str, *, valid: float = 0.2, seed: int = 0) -> xr.Dataset:
    """Hold out whole conditions: all trials of a condition train, or all of them validate.

    Where trials of a condition repeat the same trajectory, a model that memorises trajectories does well on their other
    trials; on a condition without training trials it must have learned the dynamics. `label` is any trial coordinate
    (`ReadConfig.trial_columns` reads it from the table of trials) and stays as it is. Whole conditions are drawn until they
    have about the wanted share of the trials. An existing ``split`` is replaced.

    Parameters
    ----------
    ds : Dataset
    label : str
        Trial coordinate whose equal values make a condition.
    valid : float
        Share of the trials.
    seed : int

    Returns
    -------
    Dataset
        The same data with the coordinate ``split`` (trial), "train" or "valid"; "gap" for a trial that would train, but
        starts when one that validates does.

    Raises
    ------
    DataError
        If there is no such coordinate, it has missing values, or there is only one condition.

    Examples
    --------
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = split_by_label(lorenz(conditions=10, trials_per_condition=4), "condition")
    >>> len(np.unique(ds["condition"][ds["split"] == "valid"]))
    2
    """
    _check_share(valid)
    ds = with_trials(dataset_of(ds))
    if label not in ds.coords or ds[label].dims != ("trial",):
        of_trials = (str(name) for name, coord in ds.coords.items() if coord.dims == ("trial",))
        existing = sorted(name for name in of_trials if name != "trial")
        raise DataError(
            f"the trials have no label {label!r}, but {existing}; read it with trial_columns (--set "
            f"read.trial_columns=[{label}])"
        )
    values = ds[label].values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} trials have no {label!r}; remove these trials first")
    names, condition = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"all trials have the same {label!r}; expected at least two conditions, one to train on and one to validate"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    n_trials = np.cumsum(np.bincount(condition)[order])[:-1]
    n_held_out = int(np.argmin(np.abs(n_trials - valid * len(condition)))) + 1
    labels = np.where(np.isin(condition, order[:n_held_out]), "valid", "train").astype("<U5")
    return ds.assign_coords(split=("trial", _without_copies(labels, ds["trial_start"].values.astype(float))))


def _check_share(valid: float) -> None:
    if not 0 < valid < 1:
        raise DataError(f"valid is {valid}; expected a fraction between 0 and 1, such as 0.2")


def _canonical(values: NDArray[np.generic]) -> NDArray[np.str_]:
    """Labels of a `split` column, as this package writes them."""
    words = [str(value).strip().lower() for value in values]
    unknown = sorted(set(words) - set(LABELS))
    if unknown:
        raise DataError(
            f"the trials' `split` has labels {unknown[:5]}; expected train, val, test or none; rename the labels, or "
            "drop the coordinate to draw a new split"
        )
    return np.array([LABELS[word] for word in words], dtype="<U5")


def _check_enough(n_trials: int) -> None:
    if n_trials < LEAST_TRAIN + LEAST_VALID:
        raise DataError(
            f"{n_trials} trial{'s' * (n_trials != 1)} to fit; at least {LEAST_TRAIN} to train and {LEAST_VALID} to "
            "validate are needed. Read more trials, or chop the session (cut=Chop(length=…), or --chop)"
        )


def _label(
    ds: xr.Dataset, labels: NDArray[np.str_], label: str, share: float, generator: np.random.Generator
) -> NDArray[np.str_]:
    """Give a share of the training trials another label."""
    labels, candidates = labels.copy(), np.flatnonzero(labels == "train")
    _check_enough(len(candidates))
    chosen, gap = _draw(ds.isel(trial=candidates), share, generator)
    labels[candidates[chosen]], labels[candidates[gap]] = label, "gap"
    return labels


def _draw(ds: xr.Dataset, valid: float, generator: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows for validation, and rows to leave out."""
    n_trials = ds.sizes["trial"]
    n_valid = min(max(LEAST_VALID, round(valid * n_trials)), n_trials - LEAST_TRAIN)
    starts = ds["trial_start"].values.astype(float)
    order = np.argsort(starts, kind="stable")
    # Data without a clock have equal starts.
    apart = ds.sizes["time"] * float(ds.attrs["bin_width"]) - 4 * float(tolerance(starts).max())
    groups = _equal_starts(starts)
    firsts = starts[order][np.flatnonzero(np.diff(groups[order], prepend=-1))]
    overlapping = starts[order[0]] != starts[order[-1]] and (np.diff(firsts) < apart).any()
    if not is_chopped(ds) and not overlapping:
        return _whole_groups(groups, n_valid, generator), np.empty(0, dtype=np.intp)
    # Gaps cost training trials: where too few are left, one block at the end, and at last a single trial.
    for chosen in (order[_blocks(n_trials, n_valid, generator)], order[-n_valid:], order[-LEAST_VALID:]):
        gap = np.setdiff1d(_within(starts, starts[chosen], apart), chosen) if overlapping else order[:0]
        if n_trials - len(chosen) - len(gap) >= LEAST_TRAIN:
            return chosen, gap
    duration = starts[order[-1]] - starts[order[0]] + apart
    bins = max(1, int(duration / float(ds.attrs["bin_width"]) / SUGGESTED_CHOPS))
    raise DataError(
        f"{n_trials} overlapping trials cannot be split so that {LEAST_TRAIN} to train and {LEAST_VALID} to validate "
        "share no sample; use shorter trials without overlap, such as "
        f"Chop(length={bins * float(ds.attrs['bin_width']):g}, overlap=0)"
    )


def _equal_starts(starts: NDArray[np.float64]) -> NDArray[np.intp]:
    """First trial, of those that start when each trial does; trials of equal starts are one group.

    Where all starts are equal the data have no clock, and each trial is a group of its own.
    """
    order = np.argsort(starts, kind="stable")
    begins = np.diff(starts[order], prepend=-np.inf) > tolerance(starts[order])
    groups = np.arange(len(starts))
    if begins.sum() > 1:
        groups[order] = order[begins][np.cumsum(begins) - 1]
    return groups


def _whole_groups(groups: NDArray[np.intp], n_valid: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw groups until they have the wanted number of trials, without those that would leave too few to train."""
    firsts, sizes = np.unique(groups, return_counts=True)
    chosen, n_chosen = [], 0
    for group in generator.permutation(len(firsts)):
        if n_chosen < n_valid and n_chosen + sizes[group] <= len(groups) - LEAST_TRAIN:
            chosen.append(firsts[group])
            n_chosen += int(sizes[group])
    if not chosen:
        raise DataError(
            f"{len(groups)} trials have only {len(firsts)} different start times; at least {LEAST_TRAIN} trials to "
            f"train and {LEAST_VALID} to validate with different data are needed. Read more trials, or chop the "
            "session (cut=Chop(length=…), or --chop)"
        )
    return np.flatnonzero(np.isin(groups, chosen))


def _without_copies(labels: NDArray[np.str_], starts: NDArray[np.float64]) -> NDArray[np.str_]:
    """Labels without training trials that are the same data as trials of another label."""
    groups = _equal_starts(starts)
    copies = (labels == "train") & np.isin(groups, groups[np.isin(labels, ("valid", "test"))])
    return np.where(copies, "gap", labels)


def _within(starts: NDArray[np.float64], others: NDArray[np.float64], apart: float) -> NDArray[np.intp]:
    """Rows whose start is less than `apart` seconds from one of the others."""
    others = np.concatenate([[-np.inf], np.sort(others), [np.inf]])
    after = np.searchsorted(others, starts)
    nearest = np.minimum(starts - others[after - 1], others[np.minimum(after, len(others) - 1)] - starts)
    return np.flatnonzero(nearest < apart)


def _blocks(n_trials: int, n_valid: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Contiguous blocks, one in each of a few equal parts of the session."""
    n_blocks = max(1, min(MOST_BLOCKS, n_valid // BLOCK_LENGTH))
    edges = np.linspace(0, n_trials, n_blocks + 1).astype(int)
    lengths = np.diff(np.linspace(0, n_valid, n_blocks + 1).astype(int))
    blocks = []
    for first, stop, length in zip(edges[:-1], edges[1:], lengths, strict=True):
        start = generator.integers(first, stop - length + 1)
        blocks.append(np.arange(start, start + length))
    return np.concatenate(blocks)
