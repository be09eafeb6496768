"""Mean responses of conditions (PSTHs), and which trials belong to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.nlb.counting import Floats, cut
from nwb_sbtt.nlb.definitions import Definition, Psth
from nwb_sbtt.nlb.windows import Windows, column, grid_bin

SHORT = 0.8
"""Trials shorter than this share of their condition's mean length take no part."""


@dataclass(frozen=True)
class ConditionMeans:
    """PSTHs (condition, time, unit) in counts per bin, and for each part the rows of its trials of each condition."""

    psth: Floats
    rows: tuple[list[NDArray[np.int64]], ...]


def condition_means(
    smoothed: Floats,
    trials: Mapping[str, NDArray[Any]],
    which: Definition,
    *,
    bin_width: float,
    parts: tuple[Windows, ...],
    compat: bool = False,
) -> ConditionMeans:
    """Average smoothed counts over the trials of each condition, of all parts together.

    Where windows have an event that scoring starts from, a PSTH is as long as its shortest trial, counted back from the
    windows' event; NaN stands before it.

    Parameters
    ----------
    smoothed : array (time, unit)
        Over the session.
    trials : mapping of column to array
    which : Definition
        With conditions.
    bin_width : float
    parts : tuple of Windows
        Training and evaluated trials.
    compat : bool
        Average bins at the same distance from the bin of the event, as nlb_tools does: where a window does not start a whole
        number of bins from its event these are not the same bins of all windows. By default the windows are averaged.

    Raises
    ------
    DataError
        If no condition has a trial.
    """
    if which.psth is None:
        raise DataError(f"{which.name} has no conditions")
    rows = np.sort(np.concatenate([part.rows for part in parts]))
    labels, known = _labels(trials, which.psth, rows)
    n_bins = parts[0].n_bins
    times = column(trials, which.event)[rows].astype(np.float64)
    event, first = grid_bin(times, bin_width), grid_bin(times + which.start, bin_width)
    windows = cut(smoothed, first, n_bins)
    length = np.full(len(rows), n_bins)
    if which.produced is not None:
        begin = grid_bin(column(trials, which.produced.scored_from)[rows].astype(np.float64), bin_width)
        length = first + n_bins - begin
        windows[np.arange(n_bins) < (n_bins - length)[:, None]] = np.nan
    means, members = [], []
    for label in sorted({label for label, there in zip(labels, known, strict=True) if there}):
        own = np.array([each == label for each in labels]) & known
        own &= length >= SHORT * length[own].mean()
        mean = _mean(_by_event(windows[own], (first - event)[own]) if compat else windows[own])
        mean[: max(n_bins - int(length[own].min()), 0)] = np.nan
        means.append(mean)
        members.append(rows[own])
    if not means:
        raise DataError(f"no trial of {which.name} has a condition in the columns {list(which.psth.columns)}")
    of_parts = tuple([np.flatnonzero(np.isin(part.rows, each)) for each in members] for part in parts)
    return ConditionMeans(np.stack(means), of_parts)


def _labels(
    trials: Mapping[str, NDArray[Any]], psth: Psth, rows: NDArray[np.intp]
) -> tuple[list[tuple[Any, ...]], NDArray[np.bool_]]:
    """Condition of each trial, and whether it has one."""
    columns = [column(trials, name)[rows] for name in psth.columns]
    known = np.ones(len(rows), dtype=bool)
    for values in columns:
        known &= np.isfinite(values) if values.dtype.kind == "f" else values != "nan"
    if psth.excluded is not None:
        known &= column(trials, psth.excluded)[rows].astype(np.float64) != 1
    return list(zip(*(values.tolist() for values in columns), strict=True)), known


def _by_event(windows: Floats, since: NDArray[np.int64]) -> Floats:
    """Windows moved so that bins at the same distance from the event stand together; NaN where nothing is left."""
    moved = np.full(windows.shape, np.nan)
    for target, window, late in zip(moved, windows, since - since.min(), strict=True):
        target[late:] = window[: len(window) - late]
    return moved


def _mean(windows: Floats) -> Floats:
    """Mean over trials of what is there; NaN where nothing is."""
    there = np.isfinite(windows)
    n = there.sum(0)
    return np.where(n > 0, np.where(there, windows, 0).sum(0) / np.maximum(n, 1), np.nan)
