"""Is it good? A model's estimates beside those of simple methods, on entries that none of them saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nwb_sbtt.errors import DataError, MismatchError
from nwb_sbtt.evaluate.baselines import Evidence, Prediction, masked_smoothing, mean_rate
from nwb_sbtt.evaluate.checks import checks
from nwb_sbtt.evaluate.metrics import (
    bits_per_spike,
    bits_per_spike_by_channel,
    explained_variance_by_channel,
    pearson_r2,
    pooled_explained_variance,
    r2,
)
from nwb_sbtt.evaluate.statespace import factor_analysis, linear_dynamics
from nwb_sbtt.evaluate.wiener import low_rank_wiener

Mask = NDArray[np.bool_]
Estimate = NDArray[np.floating]

BASELINES: dict[str, Callable[[Evidence], Prediction]] = {
    "mean_rate": mean_rate,
    "masked_smoothing": masked_smoothing,
    "low_rank_wiener": low_rank_wiener,
    "factor_analysis": factor_analysis,
    "linear_dynamics": linear_dynamics,
}
MEAN = "mean_rate"
MODEL = "model"
NAMES = {
    MODEL: "this model",
    "mean_rate": "mean rate",
    "masked_smoothing": "masked smoothing",
    "low_rank_wiener": "low-rank Wiener filter",
    "factor_analysis": "factor analysis",
    "linear_dynamics": "linear dynamical system",
}
"""What the keys of the scores are called in words."""


def evaluate_latents(ds: xr.Dataset, latents: xr.Dataset, hidden: NDArray[np.bool_]) -> dict[str, Any]:
    """Score a model's estimates and those of the baselines on the hidden entries of the validation trials.

    The estimates must have been inferred without the hidden entries; the baselines are not shown them either. Channels
    marked ``held_out``, which nothing is inferred from, are scored apart.

    Parameters
    ----------
    ds : Dataset
        The data, with ``split``; all trials are validation trials where there is none.
    latents : Dataset
        ``rates`` in Hz for counts or ``mean`` in the data's unit, of the same trials, bins and channels.
    hidden : bool array (trial, time, channel)

    Returns
    -------
    dict
        JSON-safe, without NaN. ``headline`` is one line; ``metric`` "bits per spike" or "explained variance"; ``scores`` of
        the model and of each baseline, and ``gain`` the same above the mean of what was shown; ``names`` what these are
        called and ``baselines`` how each was set; ``zero`` a sentence on what a score of 0 means; ``by_channel`` the
        scores of each channel (None where not defined); ``held_out`` the scores on held-out channels; ``truth`` R² of the
        true rates (where rates are estimated) and latents where the data carry them; ``checks`` a list of {name, level
        ("ok", "warn" or "bad"), text}.

    Raises
    ------
    MismatchError
        If shapes or channels differ.
    DataError
        If nothing can be scored.
    """
    counts = "mean" not in latents
    if counts and "rates" not in latents:
        raise MismatchError(f"the latents have neither 'rates' nor 'mean', only {sorted(map(str, latents.data_vars))}")
    name = "rates" if counts else "mean"
    if not ds["values"].shape == latents[name].shape == hidden.shape:
        raise MismatchError(
            f"data {ds['values'].shape}, estimates {latents[name].shape} and hidden {hidden.shape} must have the same shape "
            "(trial, time, channel)"
        )
    if "channel_id" in latents.coords and (latents["channel_id"].values != ds["channel_id"].values).any():
        raise MismatchError(
            "data and estimates have the same number of channels, but not the same channels in the same order"
        )
    part = _part(ds)
    ds, latents, hidden = ds.isel(trial=part != ""), latents.isel(trial=part != ""), hidden[part != ""]
    valid = part[part != ""] == "valid"
    observed, held_out = ds["observed"].values, _held_out(ds)
    scored = hidden & observed & valid[:, None, None] & ~held_out
    if not scored.any():
        raise DataError("no observed entry of the validation trials is hidden: there is nothing to compare models on")
    score = _Score(ds, counts)
    estimates: dict[str, Estimate] = {MODEL: score.expected(latents[name].values)}
    evidence = Evidence(
        ds["values"].values,
        observed & ~hidden & ~(held_out & valid[:, None, None]),
        # With a single group of trials there is nothing else to learn from.
        ~valid if not valid.all() else valid,
        counts,
        exposure=ds["exposure"].values if "exposure" in ds else None,
        held_in=~held_out,
    )
    # On the many small systems of these methods, threads cost several times more than they give.
    with threadpool_limits(limits=1, user_api="blas"):
        predictions = {key: baseline(evidence) for key, baseline in BASELINES.items()}
    estimates.update({key: prediction.expected for key, prediction in predictions.items()})
    scores = {key: score.whole(estimate, scored) for key, estimate in estimates.items()}
    result: dict[str, Any] = {
        "metric": score.metric,
        "scored": {
            "trials": int(valid.sum()),
            "entries": int(scored.sum()),
            **({"spikes": int(ds["values"].values[scored].sum())} if counts else {}),
        },
        "scores": scores,
        "gain": {key: value - scores[MEAN] for key, value in scores.items()},
        "names": NAMES if counts else {**NAMES, MEAN: "mean"},
        "baselines": {key: prediction.how for key, prediction in predictions.items()},
        "zero": _zero(scores[MEAN], counts=counts),
        "by_channel": score.by_channel(estimates, scored),
    }
    cosmoothing = observed & valid[:, None, None] & held_out
    if cosmoothing.any() and score.possible(cosmoothing):
        result["held_out"] = {key: score.whole(estimate, cosmoothing) for key, estimate in estimates.items()}
    if "true_rates" in ds:
        rates: dict[str, Estimate] = {MODEL: score.bin_width * latents["rates"].values} if "rates" in latents else {}
        result["truth"] = _truth(ds, latents, estimates if counts else rates, valid)
    shown = evidence.readable & valid[:, None, None]
    seen = score.whole(estimates[MODEL], shown) if shown.any() and score.possible(shown) else None
    result["checks"] = checks(ds, latents, scored, scores=scores, seen=seen)
    return {"headline": _headline(result), **result}


def _headline(result: dict[str, Any]) -> str:
    scores, names = result["scores"], result["names"]
    best = max((key for key in BASELINES), key=scores.__getitem__)
    others = f"{names[MEAN]} {scores[MEAN]:.3f}, best simple method: {names[best]} {scores[best]:.3f}"
    line = f"{result['metric']} on hidden entries {scores[MODEL]:.3f} ({others})"
    if "held_out" in result:
        line += f"; on held-out channels {result['held_out'][MODEL]:.3f}"
    if "rates_r2" in result.get("truth", {}):
        line += f"; R² of the true rates {result['truth']['rates_r2'][MODEL]:.3f}"
    return line


def _zero(mean: float, *, counts: bool) -> str:
    """What a score of 0 means, in a sentence."""
    name = NAMES[MEAN] if counts else "mean"
    text = "Zero is each channel's mean over the scored entries themselves, which no method knows"
    if counts:
        text += " (as in the Neural Latents Benchmark)"
    text += f"; {name!r} knows only what was shown"
    return text + (", and so falls below zero, the more so the less is scored." if mean < 0 else ".")


class _Score:
    """Bits per spike of counts, explained variance of samples."""

    def __init__(self, ds: xr.Dataset, counts: bool) -> None:
        self.bin_width = float(ds.attrs["bin_width"])
        self._ds = ds
        self._counts = counts
        self._values = ds["values"].values
        self._exposure = ds["exposure"].values if "exposure" in ds else None
        self._sd = ds["values"].where(ds["observed"]).std(("trial", "time"), dtype=np.float64).fillna(0).values
        self.metric: Literal["bits per spike", "explained variance"] = (
            "bits per spike" if counts else "explained variance"
        )

    def expected(self, estimate: Estimate) -> Estimate:
        """Counts expected in a whole bin, or the mean as it is."""
        return estimate * self.bin_width if self._counts else estimate

    def possible(self, where: Mask) -> bool:
        values = self._values[where]
        return bool((values > 0).any() if self._counts else (values != values[0]).any())

    def whole(self, estimate: Estimate, where: Mask) -> float:
        if self._counts:
            return bits_per_spike(estimate, self._values, where, exposure=self._exposure)
        return pooled_explained_variance(estimate, self._values, where, sd=self._sd)

    def by_channel(self, estimates: dict[str, Estimate], where: Mask) -> dict[str, list[Any]]:
        table: dict[str, list[Any]] = {
            "channel_id": self._ds["channel_id"].values.tolist(),
            "entries": where.sum((0, 1)).tolist(),
        }
        if self._counts:
            table["spikes"] = np.where(where, self._values, 0).sum((0, 1)).astype(int).tolist()
        for key, estimate in estimates.items():
            if self._counts:
                found, defined = bits_per_spike_by_channel(estimate, self._values, where, exposure=self._exposure)
            else:
                found, defined = explained_variance_by_channel(estimate, self._values, where)
            table[key] = [float(one) if known else None for one, known in zip(found, defined, strict=True)]
        return table


def _part(ds: xr.Dataset) -> NDArray[np.str_]:
    """Of each trial "train", "valid" or, where it takes no part, ""."""
    if "split" not in ds.coords:
        return np.full(ds.sizes["trial"], "valid")
    labels = ds["split"].values.astype(str)
    return np.where(np.isin(labels, ("train", "valid")), labels, "")


def _held_out(ds: xr.Dataset) -> Mask:
    if "held_out" not in ds.coords:
        return np.zeros(ds.sizes["channel"], dtype=bool)
    return np.asarray(ds["held_out"].values.astype(bool))


def _truth(
    ds: xr.Dataset, latents: xr.Dataset, estimates: dict[str, Estimate], valid: Mask
) -> dict[str, dict[str, float]]:
    """R² on the validation trials, all entries: of rates, where these are estimated, and of latents by linear read-out."""
    rates = ds["true_rates"].values[valid] * float(ds.attrs["bin_width"])
    found: dict[str, dict[str, float]] = {}
    if estimates:
        found["rates_r2"] = {key: r2(rates, estimate[valid]) for key, estimate in estimates.items()}
        found["rates_pearson_r2"] = {key: pearson_r2(rates, estimate[valid]) for key, estimate in estimates.items()}
    if "true_latents" in ds and "factors" in latents and not valid.all():
        factors, course = latents["factors"].values, ds["true_latents"].values
        n_latents = course.shape[2]
        weights, *_ = np.linalg.lstsq(_with_one(factors[~valid]), course[~valid].reshape(-1, n_latents), rcond=None)
        found["latents_r2"] = {MODEL: r2(course[valid].reshape(-1, n_latents), _with_one(factors[valid]) @ weights)}
    return found


def _with_one(factors: NDArray[np.floating]) -> NDArray[np.float64]:
    flat = factors.reshape(-1, factors.shape[-1]).astype(np.float64)
    return np.column_stack([flat, np.ones(len(flat))])
