"""The five scores of the Neural Latents Benchmark.

Arrays are (trial, time, unit); rates are expected counts per bin; NaN in the targets marks what is not scored. Wherever
nlb_tools 0.0.4 returns a number, these return the same; where it returns NaN they raise. No function changes its arguments.
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
FEWEST_BINS = 5
"""Bins that five-fold cross-validation needs."""
GROUPED_BY = [0, 1, 2]
"""Columns of the behaviour of dmfc_rsg whose values together make a group of trials: is_eye, theta and is_short."""


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
    # The general metric raises all rates below its floor to it, the benchmark only zeros. The Poisson log-likelihood of
    # k counts at rate r is k ln r - r - ln k!, so with their own rates the others lose (r - k ln r) - (floor - k ln floor).
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
        Trials of each group; each group has its own decoder, and their R² are averaged.

    Raises
    ------
    DataError
        If shapes do not agree, a rate is not finite, or a group has no trial in one of the two.
    """
    parts = [np.asarray(array, dtype=np.float64) for array in (train_rates, train_behavior, eval_rates, eval_behavior)]
    for rates, behavior in ((parts[0], parts[1]), (parts[2], parts[3])):
        _check_bins(rates, behavior)
    if [array.shape[-1] for array in parts[:2]] != [array.shape[-1] for array in parts[2:]]:
        shapes = [array.shape for array in parts]
        raise DataError(f"rates and behaviour for training and of evaluated trials, {shapes}, differ in units or axes")
    groups = [_groups(train_groups, parts[0]), _groups(eval_groups, parts[2])]
    if groups[0].shape[1] != groups[1].shape[1]:
        raise DataError(
            f"there are {groups[0].shape[1]} groups of training and {groups[1].shape[1]} of evaluated trials; expected equal "
            "numbers"
        )
    scores = []
    for train, evaluated in zip(groups[0].T, groups[1].T, strict=True):
        training = _decodable_bins(parts[0][train], parts[1][train])
        scores.append(_decoder_r2(*training, *_decodable_bins(parts[2][evaluated], parts[3][evaluated])))
    return float(np.mean(scores))


def psth_r2(
    psth: ArrayLike,
    rates: ArrayLike,
    condition_trials: Sequence[NDArray[np.integer]],
    *,
    jitter: ArrayLike | None = None,
) -> float:
    """R² between mean rates of conditions and PSTHs, over conditions and bins, averaged over units (psth R2).

    Parameters
    ----------
    psth : array (condition, time, unit)
        Counts per bin; bins in which the first unit is NaN are left out of their condition.
    rates : array (trial, time, unit)
        Held-in and held-out units.
    condition_trials : sequence of int arrays
        Rows of `rates` of each condition; a condition without any is left out.
    jitter : int array (trial), optional
        Bins by which each trial's window was moved forward.

    Raises
    ------
    DataError
        If shapes do not agree, no condition has a trial, or a rate is missing where there is a PSTH.
    """
    from sklearn.metrics import r2_score

    truth, predicted = np.asarray(psth, dtype=np.float64), np.asarray(rates, dtype=np.float64)
    if truth.ndim != 3 or truth.shape[1:] != predicted.shape[1:] or len(condition_trials) != len(truth):
        raise DataError(
            f"PSTHs {truth.shape}, rates {predicted.shape} and {len(condition_trials)} lists of trials do not match; "
            "expected (condition, time, unit), (trial, time, unit) and one list per condition"
        )
    aligned = predicted if jitter is None else _moved_later(predicted, np.asarray(jitter))
    true_parts, parts = [], []
    for condition, rows in zip(truth, condition_trials, strict=True):
        trials = np.asarray(rows)
        if trials.size == 0:
            continue
        if trials.dtype.kind not in "iu" or trials.ndim != 1 or trials.min() < 0 or trials.max() >= len(predicted):
            raise DataError(
                f"a condition has the trials {trials.reshape(-1)[:5].tolist()}; expected indices below "
                f"{len(predicted)}, the number of evaluated trials"
            )
        scored = ~np.isnan(condition[:, 0])
        mean = aligned[trials].mean(axis=0)[scored]
        if not np.isfinite([mean, condition[scored]]).all():
            raise DataError("rates or PSTHs of a condition are not finite where its first unit's PSTH is")
        true_parts.append(condition[scored])
        parts.append(mean)
    if not parts:
        raise DataError("no condition has an evaluated trial, so psth R2 is not defined")
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

    predicted, labels = np.asarray(rates, dtype=np.float64), np.asarray(behavior, dtype=np.float64)
    mask = np.asarray(scored, dtype=bool)
    if (
        predicted.ndim != 3
        or labels.ndim != 2
        or labels.shape[1] < 4
        or mask.shape != predicted.shape[:2]
        or len(labels) != len(predicted)
    ):
        raise DataError(
            f"rates {predicted.shape}, behaviour {labels.shape} and scored bins {mask.shape} do not match; expected "
            "the same trials and bins"
        )
    kinds = labels[:, GROUPED_BY]
    kinds = np.unique(kinds[~np.isnan(kinds).all(axis=1)], axis=0)
    if len(kinds) == 0:
        raise DataError("no trial has a condition, so tp corr is not defined")
    correlations = []
    for kind in kinds:
        rows = np.flatnonzero((labels[:, GROUPED_BY] == kind).all(axis=1))
        speed = np.array([_speed(predicted[row][mask[row]]) for row in rows])
        interval = labels[rows, -1]
        if len(rows) < 2 or not np.isfinite([speed, interval]).all() or not np.ptp(speed) or not np.ptp(interval):
            raise DataError(
                f"the {len(rows)} trials of is_eye, theta, is_short = {kind.tolist()} have no correlation of speed "
                "with interval; expected at least two trials with different intervals and at least two scored bins "
                "each"
            )
        correlations.append(pearsonr(speed, interval)[0])
    return float(np.mean(correlations))


def _groups(masks: ArrayLike | None, rates: Floats) -> NDArray[np.bool_]:
    groups = np.ones((len(rates), 1), bool) if masks is None else np.asarray(masks, dtype=bool)
    if groups.ndim != 2 or len(groups) != len(rates):
        raise DataError(f"groups {groups.shape} do not match {len(rates)} trials; expected (trial, group)")
    return groups


def _check_bins(rates: Floats, behavior: Floats) -> None:
    if rates.shape[:-1] != behavior.shape[:-1]:
        raise DataError(f"rates {rates.shape} and behaviour {behavior.shape} have different trials or bins")
    if np.isinf(behavior).any():
        raise DataError("the behaviour has infinite velocities; prepare the targets again")


def _decodable_bins(rates: Floats, behavior: Floats) -> tuple[Floats, Floats]:
    """Rates (bin, unit) and velocities (bin, axis) of all bins with a velocity."""
    flat, velocities = rates.reshape(-1, rates.shape[-1]), behavior.reshape(-1, behavior.shape[-1])
    has_velocity = ~np.isnan(velocities).any(axis=1)
    flat, velocities = flat[has_velocity], velocities[has_velocity]
    if len(flat) < FEWEST_BINS:
        raise DataError(
            f"a group of trials has {len(flat) or 'no'} bins with a velocity, so vel R2 is not defined; expected at "
            f"least {FEWEST_BINS}"
        )
    if not np.isfinite(flat).all():
        raise DataError("rates are not finite in bins with a velocity; expected rates for all bins")
    return flat, velocities


def _decoder_r2(train_rates: Floats, train_velocities: Floats, rates: Floats, velocities: Floats) -> float:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    decoder = GridSearchCV(Ridge(), {"alpha": PENALTIES})
    decoder.fit(train_rates, train_velocities)
    return float(decoder.score(rates, velocities))


def _moved_later(rates: Floats, jitter: NDArray[np.integer]) -> Floats:
    """Rates with each trial moved later by its jitter, (trial, time, unit); NaN before and after it."""
    if jitter.shape != (len(rates),) or jitter.dtype.kind not in "iu":
        raise DataError(
            f"jitter of {jitter.dtype} {jitter.shape} does not match {len(rates)} trials; expected integers (trial,)"
        )
    moved = np.full(rates.shape, np.nan)
    for target, trial, bins in zip(moved, rates, jitter, strict=True):
        n = len(trial) - abs(int(bins))
        if n > 0:
            target[max(bins, 0) : max(bins, 0) + n] = trial[max(-bins, 0) : max(-bins, 0) + n]
    return moved


def _speed(rates: Floats) -> float:
    """Mean length of the steps of a trajectory (time, unit); NaN without a step."""
    return float(np.linalg.norm(np.diff(rates, axis=0), axis=1).mean()) if len(rates) > 1 else float("nan")
