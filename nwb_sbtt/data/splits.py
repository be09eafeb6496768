"""Which trials train a model and which only compare models."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.binning import tolerance
from nwb_sbtt.errors import DataError

WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
    **dict.fromkeys(("none", "nan", "unused", "excluded", ""), "none"),
    "gap": "gap",
}
"""What a `split` column may say, in any case, and what it is called here."""
LEAST_TRAIN, LEAST_VALID = 2, 1
BLOCKS = 5
"""Validation blocks of a chopped session, at most, and the chops that make a further one worth its gaps."""
BLOCK_LENGTH = 4
PIECES = 12
"""Pieces that a session too short for its cut had better be cut into."""


def split(ds: xr.Dataset, *, valid: float = 0.2, seed: int = 0) -> xr.Dataset:
    """Give every trial a label in the coordinate ``split``: "train", "valid", or one of those that are left out.

    * Trials that carry a ``split`` keep it (train/val/test/none, as benchmark files have them). If there are training but
      no validation trials among them, validation trials are drawn from the training trials; "test" and "none" are never
      touched. Labels that name neither say nothing of fitting (a file of test trials alone) and are drawn anew.
    * Trials that are pieces of a chopped session, or that overlap in time, are split in contiguous blocks (at most five,
      one at a random place in each part of the session), and training pieces that share bins with a validation piece
      become "gap": no sample is in both.
    * All others are drawn one by one.

    Parameters
    ----------
    ds : Dataset
    valid : float
        Share of the trials.
    seed : int

    Raises
    ------
    DataError
        If fewer than two training trials and one validation trial would come out, or a label is not known.

    Examples
    --------
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = lorenz(conditions=1, trials_per_condition=10).drop_vars("split")
    >>> sorted(split(ds)["split"].values.tolist())[-3:]
    ['train', 'valid', 'valid']
    """
    if not 0 < valid < 1:
        raise DataError(f"valid is {valid}; expected a share between 0 and 1, such as 0.2")
    labels = _known(ds["split"].values) if "split" in ds.coords else np.full(ds.sizes["trial"], "train", dtype="<U5")
    if not np.isin(labels, ("train", "valid")).any():
        labels = np.full(len(labels), "train", dtype="<U5")
    if not (labels == "valid").any():
        candidates = np.flatnonzero(labels == "train")
        _enough(len(candidates))
        chosen, gap = _draw(ds.isel(trial=candidates), valid, np.random.default_rng(seed))
        labels[candidates[chosen]], labels[candidates[gap]] = "valid", "gap"
    count = Counter(labels.tolist())
    if count["train"] < LEAST_TRAIN:
        raise DataError(
            f"the trials are labelled {dict(count)}: {count['train']} are left to train on, at least {LEAST_TRAIN} are "
            "needed; drop the `split` coordinate to draw anew, or cut the data into more trials"
        )
    return ds.assign_coords(split=("trial", labels))


def _known(given: NDArray[np.generic]) -> NDArray[np.str_]:
    words = [str(word).strip().lower() for word in given]
    unknown = sorted(set(words) - set(WORDS))
    if unknown:
        raise DataError(
            f"the trials' `split` has labels {unknown[:5]}; expected train, val, test or none; rename them, or drop the "
            "coordinate to draw anew"
        )
    return np.array([WORDS[word] for word in words], dtype="<U5")


def _enough(n_trials: int) -> None:
    if n_trials < LEAST_TRAIN + LEAST_VALID:
        raise DataError(
            f"{n_trials} trial{'s' * (n_trials != 1)} to fit; at least {LEAST_TRAIN} to train and {LEAST_VALID} to validate "
            "are needed: take more trials, or cut the session into pieces (cut=Chop(length=…), or --chop)"
        )


def _draw(ds: xr.Dataset, valid: float, generator: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows for validation, and rows to leave out."""
    n_trials = ds.sizes["trial"]
    wanted = min(max(LEAST_VALID, round(valid * n_trials)), n_trials - LEAST_TRAIN)
    starts = ds["trial_start"].values.astype(float)
    order = np.argsort(starts, kind="stable")
    # Equal starts are those of data that do not know their clock.
    apart = ds.sizes["time"] * float(ds.attrs["bin_width"]) - 4 * float(tolerance(starts).max())
    overlapping = starts[order[0]] != starts[order[-1]] and (np.diff(starts[order]) < apart).any()
    chopped = json.loads(str(ds.attrs.get("cut", "null"))) or {}
    if chopped.get("by") != "chop" and not overlapping:
        return generator.permutation(n_trials)[:wanted], np.empty(0, dtype=np.intp)
    for chosen in (order[_blocks(n_trials, wanted, generator)], order[-wanted:], order[-LEAST_VALID:]):
        gap = np.setdiff1d(_within(starts, starts[chosen], apart), chosen) if overlapping else order[:0]
        if n_trials - len(chosen) - len(gap) >= LEAST_TRAIN:
            return chosen, gap
    bins = max(1, int((starts[order[-1]] - starts[order[0]] + apart) / float(ds.attrs["bin_width"]) / PIECES))
    raise DataError(
        f"{n_trials} overlapping pieces cannot be split so that {LEAST_TRAIN} to train and {LEAST_VALID} to validate share "
        f"no sample; cut shorter ones, such as Chop(length={bins * float(ds.attrs['bin_width']):g}, overlap=0)"
    )


def _within(starts: NDArray[np.float64], others: NDArray[np.float64], apart: float) -> NDArray[np.intp]:
    """Rows whose start is less than `apart` seconds from one of the others."""
    others = np.concatenate([[-np.inf], np.sort(others), [np.inf]])
    after = np.searchsorted(others, starts)
    nearest = np.minimum(starts - others[after - 1], others[np.minimum(after, len(others) - 1)] - starts)
    return np.flatnonzero(nearest < apart)


def _blocks(n_trials: int, wanted: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Contiguous blocks, one in each of a few equal parts of the session."""
    n_blocks = max(1, min(BLOCKS, wanted // BLOCK_LENGTH))
    edges = np.linspace(0, n_trials, n_blocks + 1).astype(int)
    lengths = np.diff(np.linspace(0, wanted, n_blocks + 1).astype(int))
    blocks = []
    for first, stop, length in zip(edges[:-1], edges[1:], lengths, strict=True):
        start = generator.integers(first, stop - length + 1)
        blocks.append(np.arange(start, start + length))
    return np.concatenate(blocks)
