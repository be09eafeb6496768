"""What commonly goes wrong with a fit, looked for in what it inferred; each finding says what to try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.evaluate.calibration import interval

Mask = NDArray[np.bool_]
Check = dict[str, str]
Level = Literal["ok", "warn", "bad"]

FEW_SPIKES = 300
LINEAR = {
    "low_rank_wiener": "linear filter",
    "factor_analysis": "factor analysis of single bins",
    "linear_dynamics": "linear dynamical system",
}
"""What models without a network are called."""
DEAD = 0.01
"""A factor that varies less than this share of the strongest is not used."""
COLLAPSED = 0.01
"""Variance between trials, in units of the posterior's own, below which an initial condition says nothing."""
COVERED = 0.85
"""Share of true rates inside their 95 % intervals below which these are called too narrow."""
TOO_SURE = 1.5
"""Squared errors, in units of the variance that model and Poisson noise predict, above which a model is over-confident."""

SPACED = 8
"""Bins between the samples of a channel from which on what lies between is not to be trusted, if they never come closer."""
CLOSEST = 0.2
"""Share of the samples that may come closer all the same; of random ones, so many come within a third of the median."""
MANY = 10**7
"""Entries that are looked at, or those of one trial."""


def checks(
    ds: xr.Dataset, latents: xr.Dataset, scored: Mask, *, scores: Mapping[str, float], seen: float | None
) -> list[Check]:
    """Look for the common failures.

    Parameters
    ----------
    ds, latents : Dataset
        Data and what was inferred from the shown part of them.
    scored : bool array (trial, time, channel)
        Entries that were hidden and scored.
    scores : mapping of "model" and baselines to score
    seen : float, optional
        The model's score on entries that it was shown.

    Returns
    -------
    list of {"name", "level", "text"}
        ``level`` is "ok", "warn" or "bad".
    """
    found = [_baselines(scores)]
    # Of a ladder, which alone gives signals, spikes and rates, the lower level is there to follow each sample it is shown.
    if seen is not None and not {"mean", "events", "rates"} <= set(latents):
        found.append(_copying(scores["model"], seen))
    if "mean" not in latents:
        found.append(_spikes(ds, scored))
        if "rates_sd" in latents:
            found.append(_confidence(ds, latents, scored))
    if {"rates", "rates_sd"} <= set(latents) and "true_rates" in ds:
        found.append(_coverage(ds, latents, scored))
    spaced = _spacing(ds)
    if spaced:
        found.append(spaced)
    if "factors" in latents:
        found.append(_factors(latents))
    if "initial_condition_sd" in latents and latents.sizes["trial"] > 1:
        found.append(_initial_condition(latents))
    return found


def _check(name: str, level: Level, text: str) -> Check:
    return {"name": name, "level": level, "text": text}


def _baselines(scores: Mapping[str, float]) -> Check:
    model, mean, smooth = (scores[key] for key in ("model", "mean_rate", "masked_smoothing"))
    best = max((key for key in scores if key != "model"), key=scores.__getitem__)
    name = "better than simple methods"
    if model <= mean:
        return _check(
            name,
            "bad",
            f"The model ({model:.3f}) predicts hidden entries no better than each channel's mean: train longer, "
            "lower the learning rate, or check bins and masks.",
        )
    if model < smooth:
        return _check(
            name,
            "warn",
            f"Masked smoothing ({smooth:.3f}) predicts hidden entries better than the model ({model:.3f}): train "
            "longer, or take a smaller model.",
        )
    if model < scores[best]:
        return _check(
            name,
            "warn",
            f"A {LINEAR[best]} ({scores[best]:.3f}) predicts hidden entries better than the model ({model:.3f}): train "
            "longer, or try several seeds.",
        )
    return _check(name, "ok", f"The model ({model:.3f}) predicts hidden entries better than every simple method.")


def _copying(hidden: float, seen: float) -> Check:
    name = "does not copy its input"
    if seen > 2 * max(hidden, 0) + 0.1:
        return _check(
            name,
            "warn",
            f"The score is {seen:.3f} on entries the model was shown and {hidden:.3f} on hidden ones: it copies "
            "single entries instead of finding what they share. Raise masks.coordinated_dropout or train.kl_weight.",
        )
    return _check(name, "ok", f"The score is {seen:.3f} on entries the model was shown, {hidden:.3f} on hidden ones.")


def _spikes(ds: xr.Dataset, scored: Mask) -> Check:
    n_spikes = int(ds["values"].values[scored].sum())
    name = "enough spikes to compare"
    if n_spikes < FEW_SPIKES:
        return _check(
            name,
            "warn",
            f"The scores rest on {n_spikes} spikes and are uncertain: hide more entries or keep more validation "
            "trials.",
        )
    return _check(name, "ok", f"The scores rest on {n_spikes} spikes.")


def _confidence(ds: xr.Dataset, latents: xr.Dataset, scored: Mask) -> Check:
    width = float(ds.attrs["bin_width"])
    share = ds["exposure"].values[scored] if "exposure" in ds else 1.0
    mean = latents["rates"].values[scored].astype(float) * width * share
    spread = latents["rates_sd"].values[scored].astype(float) * width * share
    squares = (ds["values"].values[scored] - mean) ** 2
    ratio = float(squares.sum() / max((mean + spread**2).sum(), 1e-12))
    name = "counts as noisy as expected"
    if ratio > TOO_SURE:
        return _check(
            name,
            "warn",
            f"Errors on hidden entries are {ratio:.1f} times what posterior and Poisson noise allow: the "
            "model is over-confident, or the counts vary more than Poisson counts do.",
        )
    return _check(
        name, "ok", f"Errors on hidden entries are {ratio:.2f} times what posterior and Poisson noise predict."
    )


def _spacing(ds: xr.Dataset) -> Check | None:
    """Samples that keep their distance; None where no channel is sampled twice in a trial, or all are in every bin."""
    observed = ds["observed"].values
    if observed.all():
        return None
    observed = observed[:: 1 + observed.size // MANY]
    trial, channel, time = np.nonzero(observed.transpose(0, 2, 1))
    apart = np.diff(time)[(np.diff(trial) == 0) & (np.diff(channel) == 0)]
    if not len(apart):
        return None
    closest, usual = int(np.quantile(apart, CLOSEST)), float(np.median(apart))
    name = "samples at all distances"
    if closest >= max(SPACED, usual / 2):
        return _check(
            name,
            "warn",
            f"Samples of a channel are hardly ever less than {closest} bins apart, so nothing between two of them was scored: "
            "rates may be right where they were sampled and wrong elsewhere. Take wider bins; a recording that samples at "
            "random moments does not have this flaw.",
        )
    return _check(
        name,
        "ok",
        f"A fifth of the samples of a channel follow the one before within {closest} bin{'s' * (closest > 1)}.",
    )


def _coverage(ds: xr.Dataset, latents: xr.Dataset, scored: Mask) -> Check:
    """Counts say little of the posterior's width, because Poisson noise is wider; true rates do."""
    true = ds["true_rates"].values
    lower, upper = interval(latents, 0.95)
    share = float(((true >= lower.values) & (true <= upper.values))[scored].mean())
    name = "honest uncertainty"
    text = f"The 95% intervals hold {share:.0%} of the true rates."
    if share < COVERED:
        return _check(
            name, "warn", text + " They are too narrow: average several seeds (--seeds 5), or train on more trials."
        )
    return _check(name, "ok", text)


def _factors(latents: xr.Dataset) -> Check:
    factors = latents["factors"].values.astype(float)
    flat = factors.reshape(-1, factors.shape[-1])
    spread = flat.std(0)
    dead = int((spread <= DEAD * spread.max()).sum())
    name = "factors in use"
    if dead == len(spread):
        return _check(name, "bad", "No factor varies: the model gives the same course to every trial.")
    variance = np.linalg.eigvalsh(np.atleast_2d(np.cov(flat.T, bias=True)))
    dimension = f"they span about {variance.sum() ** 2 / (variance**2).sum():.1f} dimensions"
    if dead:
        return _check(
            name, "warn", f"{dead} of {len(spread)} factors do not vary; {dimension}. Fewer factors would do."
        )
    return _check(name, "ok", f"All {len(spread)} factors vary; {dimension}.")


def _initial_condition(latents: xr.Dataset) -> Check:
    between = latents["initial_condition"].values.astype(float).var(0)
    within = (latents["initial_condition_sd"].values.astype(float) ** 2).mean(0)
    used = int((between > COLLAPSED * within).sum())
    name = "initial condition in use"
    if used == 0:
        return _check(
            name,
            "warn",
            "The initial condition is the same in all trials (its posterior has collapsed to the prior): lower "
            "train.kl_weight, or train longer.",
        )
    return _check(name, "ok", f"{used} of {len(between)} dimensions of the initial condition tell trials apart.")
