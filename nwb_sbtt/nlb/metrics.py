"""The five scores of the Neural Latents Benchmark.

Arrays are (trial, time, unit); rates are expected counts per bin; NaN in the targets marks what is not scored. Wherever
nlb_tools 0.0.4 gives a number, these give the same; where it gives NaN they raise. No function changes its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.evaluate import metrics

Floats = NDArray[np.float64]
PENALTIES = np.logspace(-4, 0, 9)
"""Ridge penalties among which the decoder chooses, by five-fold cross-validation."""
GROUPED_BY = [0, 1, 2]
"""Columns of the behaviour of dmfc_rsg that make a group of trials: is_eye, theta and is_short."""


def bits_per_spike(rates: ArrayLike, spikes: ArrayLike) -> float:
    """Bits per spike beyond each unit's mean over the scored bins: co-bps of held-out units, fp-bps of forward bins.

    A rate of 0 counts as 1e-9.

    Parameters
    ----------
    rates, spikes : arrays (trial, time, unit)
        Where spikes are NaN nothing is scored.

    Raises
    ------
    DataError
        If shapes differ, a scored rate is not finite or negative, or no spike is scored.

    Examples
    --------
    >>> spikes = np.array([[[0.0], [2.0], [np.nan]]])
    >>> bits_per_spike(np.ones((1, 3, 1)), spikes)
    0.0
    """
    mean, counts = np.asarray(rates, dtype=np.float64), np.asarray(spikes, dtype=np.float64)
    where = ~np.isnan(counts)
    bits = metrics.bits_per_spike(mean, counts, where)
    # The general metric takes all rates below its floor for the floor; the benchmark takes only zeros for it.
    faint = where & (mean > 0) & (mean < metrics.SMALLEST_COUNT)
    if not faint.any():
        return bits
    r, k, floor = mean[faint], counts[faint], metrics.SMALLEST_COUNT
    lost = (r - floor) - k * (np.log(r) - np.log(floor))
    return float(bits - lost.sum() / counts[where].sum() / np.log(2))


def velocity_r2(
    train_rates: ArrayLike,
    train_behavior: ArrayLike,
    eval_rates: ArrayLike,
    eval_behavior: ArrayLike,
    *,
    train_groups: ArrayLike | None = None,
    eval_groups: ArrayLike | None = None,
) -> float:
    """R² of a linear decoder of velocity, fitted to training trials and scored on the others (vel R2).

    Ridge regression on the rates of all units in each bin; bins in which any velocity is NaN are left out.

    Parameters
    ----------
    train_rates, eval_rates : arrays (trial, time, unit)
        Held-in and held-out units.
    train_behavior, eval_behavior : arrays (trial, time, axis)
        At the benchmark's lag.
    train_groups, eval_groups : bool arrays (trial, group), optional
        Trials that have a decoder of their own; the R² of the groups are averaged.

    Raises
    ------
    DataError
        If shapes do not agree, a rate is not finite, or a group has no trial in one of the two.
    """
    parts = [np.asarray(each, dtype=np.float64) for each in (train_rates, train_behavior, eval_rates, eval_behavior)]
    groups = [_groups(train_groups, parts[0]), _groups(eval_groups, parts[2])]
    if groups[0].shape[1] != groups[1].shape[1]:
        raise DataError(
            f"there are {groups[0].shape[1]} groups of training and {groups[1].shape[1]} of evaluated trials; expected as "
            "many of both"
        )
    scores = []
    for own, other in zip(groups[0].T, groups[1].T, strict=True):
        scores.append(_decoded(*_rows(parts[0][own], parts[1][own]), *_rows(parts[2][other], parts[3][other])))
    return float(np.mean(scores))


def psth_r2(
    psth: ArrayLike, rates: ArrayLike, trials_of: Sequence[NDArray[np.integer]], *, jitter: ArrayLike | None = None
) -> float:
    """R² between mean rates of conditions and PSTHs, over conditions and bins, averaged over units (psth R2).

    Parameters
    ----------
    psth : array (condition, time, unit)
        Counts per bin; bins in which the first unit is NaN are left out of their condition.
    rates : array (trial, time, unit)
        Held-in and held-out units.
    trials_of : sequence of int arrays
        Rows of `rates` of each condition; a condition without any is left out.
    jitter : int array (trial), optional
        Bins by which each trial's window was moved forward.

    Raises
    ------
    DataError
        If shapes do not agree, no condition has a trial, or a rate is missing where there is a PSTH.
    """
    from sklearn.metrics import r2_score

    truth, given = np.asarray(psth, dtype=np.float64), np.asarray(rates, dtype=np.float64)
    if truth.ndim != 3 or truth.shape[1:] != given.shape[1:] or len(trials_of) != len(truth):
        raise DataError(
            f"PSTHs {truth.shape}, rates {given.shape} and {len(trials_of)} lists of trials do not fit together; expected "
            "(condition, time, unit), (trial, time, unit) and one list a condition"
        )
    moved = given if jitter is None else _moved(given, np.asarray(jitter))
    true_parts, parts = [], []
    for condition, rows in zip(truth, trials_of, strict=True):
        if len(rows) == 0:
            continue
        there = ~np.isnan(condition[:, 0])
        mean = moved[np.asarray(rows, dtype=np.intp)].mean(axis=0)[there]
        if not np.isfinite([mean, condition[there]]).all():
            raise DataError("rates or PSTHs of a condition are not finite where its first unit's PSTH is")
        true_parts.append(condition[there])
        parts.append(mean)
    if not parts:
        raise DataError("no condition has an evaluated trial: psth R2 is not defined")
    return float(r2_score(np.concatenate(true_parts), np.concatenate(parts)))


def speed_correlation(rates: ArrayLike, behavior: ArrayLike, scored: ArrayLike) -> float:
    """Correlation of the speed of the rates with the produced interval, within groups of trials, averaged (tp corr).

    Parameters
    ----------
    rates : array (trial, time, unit)
        Held-in and held-out units.
    behavior : array (trial, column)
        is_eye, theta, is_short, …, and last the produced interval; rows of NaN are left out.
    scored : bool array (trial, time)
        Bins between set and go.

    Raises
    ------
    DataError
        If shapes do not agree, or a group has fewer than two trials or no spread in speed or interval.
    """
    from scipy.stats import pearsonr

    given, labels = np.asarray(rates, dtype=np.float64), np.asarray(behavior, dtype=np.float64)
    marked = np.asarray(scored, dtype=bool)
    if given.ndim != 3 or labels.ndim != 2 or marked.shape != given.shape[:2] or len(labels) != len(given):
        raise DataError(
            f"rates {given.shape}, behaviour {labels.shape} and scored bins {marked.shape} do not fit together"
        )
    kinds = labels[:, GROUPED_BY]
    kinds = np.unique(kinds[~np.isnan(kinds).all(axis=1)], axis=0)
    if len(kinds) == 0:
        raise DataError("no trial has a condition: tp corr is not defined")
    found = []
    for kind in kinds:
        rows = np.flatnonzero((labels[:, GROUPED_BY] == kind).all(axis=1))
        speed = np.array([_speed(given[row][marked[row]]) for row in rows])
        interval = labels[rows, -1]
        if len(rows) < 2 or not np.isfinite([speed, interval]).all() or not np.ptp(speed) or not np.ptp(interval):
            raise DataError(
                f"the {len(rows)} trials of is_eye, theta, is_short = {kind.tolist()} have no correlation of speed with "
                "interval: two with different ones and at least two scored bins each are needed"
            )
        found.append(pearsonr(speed, interval)[0])
    return float(np.mean(found))


def _groups(given: ArrayLike | None, rates: Floats) -> NDArray[np.bool_]:
    groups = np.ones((len(rates), 1), bool) if given is None else np.asarray(given, dtype=bool)
    if groups.ndim != 2 or len(groups) != len(rates):
        raise DataError(f"groups {groups.shape} do not fit {len(rates)} trials; expected (trial, group)")
    return groups


def _rows(rates: Floats, behavior: Floats) -> tuple[Floats, Floats]:
    """Bins of all trials below each other, those with a velocity."""
    if rates.shape[:-1] != behavior.shape[:-1]:
        raise DataError(f"rates {rates.shape} and behaviour {behavior.shape} are not of the same trials and bins")
    flat, speeds = rates.reshape(-1, rates.shape[-1]), behavior.reshape(-1, behavior.shape[-1])
    there = ~np.isnan(speeds).any(axis=1)
    flat, speeds = flat[there], speeds[there]
    if len(flat) == 0:
        raise DataError("a group of trials has no bin with a velocity: vel R2 is not defined")
    if not np.isfinite(flat).all():
        raise DataError("rates are not finite in bins with a velocity; give rates for all bins")
    return flat, speeds


def _decoded(train_rates: Floats, train_speeds: Floats, rates: Floats, speeds: Floats) -> float:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    decoder = GridSearchCV(Ridge(), {"alpha": PENALTIES})
    decoder.fit(train_rates, train_speeds)
    return float(decoder.score(rates, speeds))


def _moved(rates: Floats, jitter: NDArray[np.integer]) -> Floats:
    """Rates with each trial moved later by its jitter; NaN where nothing is."""
    moved = np.full(rates.shape, np.nan)
    for target, trial, bins in zip(moved, rates, jitter, strict=True):
        n = len(trial) - abs(int(bins))
        if n > 0:
            target[max(bins, 0) : max(bins, 0) + n] = trial[max(-bins, 0) : max(-bins, 0) + n]
    return moved


def _speed(rates: Floats) -> float:
    return float(np.linalg.norm(np.diff(rates, axis=0), axis=1).mean()) if len(rates) > 1 else float("nan")
