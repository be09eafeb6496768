"""Mean responses of conditions (PSTHs), and the trials of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.nlb.counting import Floats, cut_windows
from nwb_sbtt.nlb.definitions import Definition, Psth
from nwb_sbtt.nlb.windows import BenchmarkWindows, grid_bin, trial_column

SHORTEST_SHARE = 0.8
"""Trials shorter than this share of their condition's mean length are left out."""


@dataclass(frozen=True)
class ConditionMeans:
    """PSTHs and the trials that they are means of.

    Parameters
    ----------
    psth : array (condition, time, unit)
        Counts per bin.
    rows : tuple of list of int arrays
        For each part (training, evaluated) and condition, the trials of that condition by their number in the part.
    """

    psth: Floats
    rows: tuple[list[NDArray[np.int64]], ...]


def condition_means(
    smoothed: Floats,
    trials: Mapping[str, NDArray[Any]],
    definition: Definition,
    *,
    bin_width: float,
    parts: tuple[BenchmarkWindows, ...],
    compat: bool = False,
) -> ConditionMeans:
    """Average smoothed counts over the trials of each condition, of all parts together.

    Where scoring starts from an event, a PSTH is as long as its shortest trial, counted back from the windows' event; earlier
    bins are NaN.

    Parameters
    ----------
    smoothed : array (time, unit)
        Smoothed counts per bin of the session.
    trials : mapping of column to array (trial)
    definition : Definition
        With conditions.
    bin_width : float
        Seconds.
    parts : tuple of BenchmarkWindows
        Training and evaluated trials.
    compat : bool
        Average bins at the same distance from the bin of the event, as nlb_tools does: where a window does not start a whole
        number of bins from its event these are not the same bins of all windows. By default windows are averaged bin by bin.

    Raises
    ------
    DataError
        If the set has no conditions, or no condition has a trial.
    """
    if definition.psth is None:
        raise DataError(f"{definition.name} has no conditions, so PSTHs are not defined")
    rows = np.sort(np.concatenate([part.rows for part in parts]))
    labels, has_condition = _labels(trials, definition.psth, rows)
    n_bins = parts[0].n_bins
    times = trial_column(trials, definition.event)[rows].astype(np.float64)
    event, first = grid_bin(times, bin_width), grid_bin(times + definition.start, bin_width)
    windows = cut_windows(smoothed, first, n_bins)
    length = np.full(len(rows), n_bins)
    if definition.produced is not None:
        begin = grid_bin(trial_column(trials, definition.produced.scored_from)[rows].astype(np.float64), bin_width)
        length = first + n_bins - begin
        windows[np.arange(n_bins) < (n_bins - length)[:, None]] = np.nan
    means, members = [], []
    for condition in sorted({label for label, usable in zip(labels, has_condition, strict=True) if usable}):
        member = np.array([label == condition for label in labels]) & has_condition
        member &= length >= SHORTEST_SHARE * length[member].mean()
        mean = _mean(_by_event(windows[member], (first - event)[member]) if compat else windows[member])
        mean[: max(n_bins - int(length[member].min()), 0)] = np.nan
        means.append(mean)
        members.append(rows[member])
    if not means:
        raise DataError(f"no trial of {definition.name} has a condition in the columns {list(definition.psth.columns)}")
    part_rows = tuple([np.flatnonzero(np.isin(part.rows, trial_rows)) for trial_rows in members] for part in parts)
    return ConditionMeans(np.stack(means), part_rows)


def _labels(
    trials: Mapping[str, NDArray[Any]], psth: Psth, rows: NDArray[np.intp]
) -> tuple[list[tuple[Any, ...]], NDArray[np.bool_]]:
    """Condition of each trial, and whether it has one."""
    columns = [trial_column(trials, name)[rows] for name in psth.columns]
    has_condition = np.ones(len(rows), dtype=bool)
    for values in columns:
        has_condition &= np.isfinite(values) if values.dtype.kind == "f" else values != "nan"
    if psth.excluded is not None:
        has_condition &= trial_column(trials, psth.excluded)[rows].astype(np.float64) != 1
    return list(zip(*(values.tolist() for values in columns), strict=True)), has_condition


def _by_event(windows: Floats, since: NDArray[np.int64]) -> Floats:
    """Windows moved so that bins at the same distance from the event stand together; NaN where a window ends."""
    moved = np.full(windows.shape, np.nan)
    for target, window, shift in zip(moved, windows, since - since.min(), strict=True):
        target[shift:] = window[: len(window) - shift]
    return moved


def _mean(windows: Floats) -> Floats:
    """Mean over trials without NaN; NaN where all are."""
    finite = np.isfinite(windows)
    n = finite.sum(0)
    return np.where(n > 0, np.where(finite, windows, 0).sum(0) / np.maximum(n, 1), np.nan)
