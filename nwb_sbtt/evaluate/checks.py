"""Checks of a fit for common failures; each says what to try."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.bandwidth import was_chosen
from nwb_sbtt.data.sampling import sampling_lags
from nwb_sbtt.data.schema import infers_spikes
from nwb_sbtt.evaluate.intervals import (
    interval,
    predictive_coverage,
    quantiles_of_residuals,
    relative_variance,
)

Mask = NDArray[np.bool_]
Check = dict[str, str]
Level = Literal["ok", "warn", "bad"]

FEW_SPIKES = 300
MOST_NAMED = 8
"""Channels that a text names."""
COPIED = 0.15
"""Explained variance of shown entries, beyond that of hidden blocks or channels, from which signals count as copied."""
UNUSED_SD = 0.01
"""A factor whose sd is below this share of the largest is not used."""
COLLAPSED_VARIANCE = 0.01
"""Variance between trials, relative to the posterior variance, below which an initial condition carries no information."""
CHECKED_LEVELS = (0.5, 0.8, 0.95)
"""Levels of the intervals whose coverage is checked."""
MOST_OFF, MOST_OFF_IN_PART = 0.05, 0.1
"""Largest difference of coverage from its level: of predictive intervals over all hidden entries, and of these in a third of
the entries, of low, middle or high expected values, or below it of intervals of true rates."""
MIN_CHECKED = 300
"""Smallest number of entries for a check of coverage."""
MAX_DISPERSION = 1.5
"""Squared errors, relative to posterior plus Poisson variance, above which the posterior is overconfident."""


def checks(
    ds: xr.Dataset,
    latents: xr.Dataset,
    scored: Mask,
    rows: NDArray[np.intp],
    *,
    scores: Mapping[str, float],
    names: Mapping[str, str],
    score_on_shown: float | None,
    cosmoothing: float | None = None,
    seconds_together: float | None = None,
) -> list[Check]:
    """Check a fit for common failures.

    Parameters
    ----------
    ds, latents : Dataset
        Data and what was inferred from the shown entries.
    scored : bool array (row, time, channel)
        Entries that were hidden and scored,
    rows : int array (row)
        in these trials.
    scores : mapping of "model" and baselines to score
        On the scored entries; without those that are not defined.
    names : mapping of baselines to names in words
    score_on_shown : float, optional
        The model's score on entries that it was shown; None where it is not defined.
    cosmoothing : float, optional
        The model's score on channels that were hidden throughout.
    seconds_together : float, optional
        Time for which entries of a channel were hidden together, where it is more than a bin.

    Returns
    -------
    list of {"name", "level", "text"}
        ``name`` is one of "baselines", "copying", "spikes", "dispersion", "intervals", "coverage", "sampling", "unobserved",
        "factors" and "initial condition"; ``level`` is "ok", "warn" or "bad". Checks that do not apply are left out.
    """
    results = (
        [_baselines(scores, names)] if {"model", "mean_rate", "masked_smoothing"} <= set(scores) else [_unscored()]
    )
    # A ladder, the only model with signals, spikes and rates, is meant to follow each shown sample at its lower level.
    if score_on_shown is not None and "model" in scores and not infers_spikes(latents):
        results.append(
            _copying(scores["model"], score_on_shown, cosmoothing=cosmoothing, seconds_together=seconds_together)
        )
    if "mean" not in latents:
        of_rows = ds[[name for name in ("values", "exposure") if name in ds]].isel(trial=rows)
        results.append(_spikes(of_rows, scored))
        if "rates_sd" in latents and scored.any():
            results.append(_dispersion(of_rows, latents[["rates", "rates_sd"]].isel(trial=rows), scored))
    if intervals := _intervals(ds, latents, rows, scored):
        results.append(intervals)
    if {"rates", "rates_sd"} <= set(latents) and "true_rates" in ds and scored.any():
        true, inferred = ds[["true_rates"]].isel(trial=rows), latents[["rates", "rates_sd"]].isel(trial=rows)
        results.append(_coverage(true, inferred, scored))
    sampling = _sampling(ds)
    if sampling:
        results.append(sampling)
    if unobserved := _unobserved(ds):
        results.append(unobserved)
    if "factors" in latents:
        results.append(_factors(latents))
    if "initial_condition_sd" in latents and latents.sizes["trial"] > 1:
        results.append(_initial_condition(latents))
    return results


def _check(name: str, level: Level, text: str) -> Check:
    return {"name": name, "level": level, "text": text}


def _baselines(scores: Mapping[str, float], names: Mapping[str, str]) -> Check:
    model, mean, smoothing = (scores[key] for key in ("model", "mean_rate", "masked_smoothing"))
    best = max((key for key in scores if key != "model"), key=scores.__getitem__)
    comparison = f"on hidden entries the model scores {model:.3f}"
    beside = "mean_rate" if model <= mean else "masked_smoothing"
    best_of_all = "" if best == beside else f"; the best baseline ({names[best]}) {scores[best]:.3f}"
    if model <= mean:
        return _check(
            "baselines",
            "bad",
            f"Does not beat the baselines: {comparison}, no more than each channel's mean ({mean:.3f}){best_of_all}. Train "
            "longer, lower the learning rate, or check bins and masks.",
        )
    if model < smoothing:
        return _check(
            "baselines",
            "warn",
            f"Does not beat the baselines: {comparison}, masked smoothing {smoothing:.3f}{best_of_all}. Train longer, or "
            "use a smaller model.",
        )
    if model < scores[best]:
        return _check(
            "baselines",
            "warn",
            f"Does not beat the baselines: {comparison}, the {names[best]} {scores[best]:.3f}. Train longer, or try several "
            "seeds.",
        )
    return _check(
        "baselines", "ok", f"Beats the baselines: {comparison}, the best baseline ({names[best]}) {scores[best]:.3f}."
    )


def _unscored() -> Check:
    return _check(
        "baselines",
        "warn",
        "The scores are not defined, so the quality of the fit is unknown. Use data that vary in every channel, subtract a "
        "large constant offset, or hide more entries.",
    )


def _copying(
    hidden: float, shown: float, *, cosmoothing: float | None = None, seconds_together: float | None = None
) -> Check:
    scores = f"The score is {shown:.3f} on shown entries and {hidden:.3f} on hidden ones"
    if seconds_together is not None:
        scores += f" (blocks of {seconds_together:.3g} s of a channel)"
    if cosmoothing is not None:
        scores += f", {cosmoothing:.3f} on hidden channels"
    if cosmoothing is not None and shown > min(hidden, cosmoothing) + COPIED:
        return _check(
            "copying",
            "warn",
            f"{scores}: the model follows noise or signals of single channels, not only signals that channels share. Hide "
            "longer blocks (masks.mask_length) or more of them (masks.coordinated_dropout), or raise train.kl_weight.",
        )
    if shown > 2 * max(hidden, 0) + 0.1:
        return _check(
            "copying",
            "warn",
            f"{scores}: the model copies its input. Raise masks.coordinated_dropout or train.kl_weight.",
        )
    return _check("copying", "ok", f"{scores}: the model does not copy its input.")


def _spikes(ds: xr.Dataset, scored: Mask) -> Check:
    n_spikes = int(ds["values"].values[scored].sum())
    if n_spikes < FEW_SPIKES:
        return _check(
            "spikes",
            "warn",
            f"The scores are uncertain because they are computed from only {n_spikes} spikes. Hide more entries, or use more "
            "validation trials.",
        )
    return _check("spikes", "ok", f"The scores are computed from {n_spikes} spikes.")


def _dispersion(ds: xr.Dataset, latents: xr.Dataset, scored: Mask) -> Check:
    """Squared errors of hidden counts, relative to the variance of posterior and Poisson noise."""
    bin_width = float(ds.attrs["bin_width"])
    exposure = ds["exposure"].values[scored] if "exposure" in ds else 1.0
    mean = latents["rates"].values[scored].astype(float) * bin_width * exposure
    sd = latents["rates_sd"].values[scored].astype(float) * bin_width * exposure
    squares = (ds["values"].values[scored] - mean) ** 2
    dispersion = float(squares.sum() / max((mean + sd**2).sum(), 1e-12))
    text = (
        f"Dispersion is {dispersion:.2f}: squared errors on hidden entries relative to posterior plus Poisson variance."
    )
    if dispersion > MAX_DISPERSION:
        text += " It should be near 1: the posterior sd is too small, or counts are more variable than Poisson counts."
        return _check("dispersion", "warn", text)
    return _check("dispersion", "ok", text)


def _unobserved(ds: xr.Dataset) -> Check | None:
    """Channels without a single observed entry, whose estimates are those of weights that nothing has trained."""
    channels = ds["channel_id"].values[~ds["observed"].values.any((0, 1))].tolist()
    if not channels:
        return None
    more = f" and {len(channels) - MOST_NAMED} more" if len(channels) > MOST_NAMED else ""
    return _check(
        "unobserved",
        "warn",
        f"Channels {', '.join(map(str, channels[:MOST_NAMED]))}{more} were never observed: nothing is known of them, and what "
        "is inferred of them is arbitrary. Leave them out.",
    )


def _sampling(ds: xr.Dataset) -> Check | None:
    """Whether samples were chosen by earlier values, and lags between successive samples of a channel.

    None where none is sampled twice in a trial, or all in every bin.
    """
    if was_chosen(ds):
        return _check(
            "sampling",
            "warn",
            "Samples were chosen by earlier values, so they tell of the hidden ones among these. Scores on hidden entries are "
            "too good; do not compare them with those of other samples. Inferred rates can be worse the longer a model is "
            "trained: try a third of the epochs.",
        )
    lags = sampling_lags(ds["observed"].values)
    if lags is None:
        return None
    short = lags.short
    if lags.are_long:
        return _check(
            "sampling",
            "warn",
            f"Sampling misses short lags: at least 80 % of samples follow the previous one of their channel by {short} bins "
            "or more. Inferred rates can therefore be correct at the samples and wrong between them. Use wider bins. In new "
            "recordings, sample at random times.",
        )
    return _check(
        "sampling",
        "ok",
        f"Sampling covers short lags: 20 % of samples follow the previous one by {short} bin{'s' * (short > 1)} or less.",
    )


def _intervals(ds: xr.Dataset, latents: xr.Dataset, rows: NDArray[np.intp], scored: Mask) -> Check | None:
    """Coverage of hidden values by predictive intervals; None where the model has no posterior, or little was hidden."""
    name = "mean" if "mean" in latents else "rates"
    if f"{name}_sd" not in latents or scored.sum() < MIN_CHECKED:
        return None
    ds = ds[[each for each in ("values", "exposure") if each in ds]].isel(trial=rows)
    follows_samples = infers_spikes(latents)
    latents = latents[[name, f"{name}_sd"]].isel(trial=rows)
    values, mean, sd = (
        array[scored].astype(float)
        for array in (ds["values"].values, latents[name].values, latents[f"{name}_sd"].values)
    )
    quantiles = None
    if name == "rates":
        spread = relative_variance(mean, sd)
        exposure = ds["exposure"].values[scored] if "exposure" in ds else 1.0
        mean = mean * float(ds.attrs["bin_width"]) * exposure
        height = mean
    elif "noise_sd" not in latents.coords:
        return _check(
            "intervals",
            "warn",
            "There are no predictive intervals: too few entries of the validation trials were hidden to measure the noise. "
            "Keep more trials for validation (valid_fraction).",
        )
    else:
        channel = np.nonzero(scored)[2]
        spread = np.sqrt(sd**2 + latents["noise_sd"].values[channel] ** 2)
        quantiles = quantiles_of_residuals(latents, CHECKED_LEVELS)
        centre, height = latents["mean"].values.mean((0, 1)), latents["mean"].values.std((0, 1))
        height = (mean - centre[channel]) / np.where(height > 0, height, 1.0)[channel]
    known = np.isfinite(spread)
    held = predictive_coverage(values[known], mean[known], spread[known], CHECKED_LEVELS, quantiles=quantiles)
    coverage = held.mean(0)
    text = f"Predictive intervals of {_percent(CHECKED_LEVELS)} contain {_percent(coverage)} of the hidden values."
    parts = np.array_split(np.argsort(height[known], kind="stable"), 3)
    of_parts = np.array([held[part].mean(0) for part in parts])
    part, level = np.unravel_index(np.abs(of_parts - CHECKED_LEVELS).argmax(), of_parts.shape)
    worst = f"{100 * of_parts[part, level]:.0f} % instead of {100 * CHECKED_LEVELS[level]:.0f} %"
    if np.abs(coverage - CHECKED_LEVELS).max() > MOST_OFF:
        return _check("intervals", "warn", text + " Coverage is off: these data differ from those of the calibration.")
    if np.abs(of_parts - CHECKED_LEVELS).max() > MOST_OFF_IN_PART:
        where = ("low", "middle", "high")[int(part)]
        return _check("intervals", "warn", f"{text} For {where} expected values they contain {worst}.")
    calibration = json.loads(str(latents.attrs.get("calibration", "{}")))
    # A ladder's mean follows each channel's own samples, and its sd is that of its spikes.
    if name == "mean" and not follows_samples and not calibration.get("told_apart", False):
        return _check(
            "intervals",
            "warn",
            f"{text} Intervals of the mean are approximate: with few channels or hidden entries, errors of the mean cannot be "
            "distinguished from noise. Their width is estimated from how much the mean changes when other entries are hidden.",
        )
    return _check("intervals", "ok", text)


def _coverage(ds: xr.Dataset, latents: xr.Dataset, scored: Mask) -> Check:
    """Coverage of true rates, which hidden counts cannot replace: Poisson noise is wider than the posterior."""
    true = ds["true_rates"].values
    coverage = []
    for level in CHECKED_LEVELS:
        lower, upper = interval(latents, level)
        coverage.append(float(((true >= lower.values) & (true <= upper.values))[scored].mean()))
    text = f"Intervals of {_percent(CHECKED_LEVELS)} contain {_percent(coverage)} of the true rates."
    if (np.array(CHECKED_LEVELS) - coverage).max() > MOST_OFF_IN_PART:
        return _check(
            "coverage",
            "warn",
            text + " They are too narrow: average several seeds (--seeds 5), or train on more trials.",
        )
    return _check("coverage", "ok", text)


def _percent(shares: Iterable[float]) -> str:
    """Shares in words: 50, 80 and 95 %."""
    numbers = [f"{100 * share:.0f}" for share in shares]
    return f"{', '.join(numbers[:-1])} and {numbers[-1]} %"


def _factors(latents: xr.Dataset) -> Check:
    factors = latents["factors"].values.astype(float)
    flat = factors.reshape(-1, factors.shape[-1])
    sd = flat.std(0)
    n_unused = int((sd <= UNUSED_SD * sd.max()).sum())
    if n_unused == len(sd):
        return _check(
            "factors",
            "bad",
            "No factor varies, so inferred rates are the same in every trial.",
        )
    # Participation ratio of the covariance's eigenvalues.
    variance = np.linalg.eigvalsh(np.atleast_2d(np.cov(flat.T, bias=True)))
    dimension = f"their effective dimension is {variance.sum() ** 2 / (variance**2).sum():.1f}"
    if n_unused:
        return _check(
            "factors",
            "warn",
            f"{n_unused} of {len(sd)} factors do not vary; {dimension}. Use fewer factors (model.factors).",
        )
    return _check("factors", "ok", f"All {len(sd)} factors vary; {dimension}.")


def _initial_condition(latents: xr.Dataset) -> Check:
    between = latents["initial_condition"].values.astype(float).var(0)
    within = (latents["initial_condition_sd"].values.astype(float) ** 2).mean(0)
    n_used = int((between > COLLAPSED_VARIANCE * within).sum())
    if n_used == 0:
        return _check(
            "initial condition",
            "warn",
            "The initial condition is the same in all trials (its posterior has collapsed to the prior): lower "
            "train.kl_weight, or train longer.",
        )
    return _check(
        "initial condition",
        "ok",
        f"{n_used} of {len(between)} dimensions of the initial condition differ between trials.",
    )
