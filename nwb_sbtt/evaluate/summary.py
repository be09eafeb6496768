"""Scores of a model and of the baselines on entries that none of them was shown."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nwb_sbtt.errors import DataError, MismatchError
from nwb_sbtt.evaluate.baselines import BASELINES, MaskedData, predict
from nwb_sbtt.evaluate.checks import checks
from nwb_sbtt.evaluate.metrics import (
    bits_per_spike,
    bits_per_spike_by_channel,
    explained_variance_by_channel,
    pearson_r2,
    pooled_explained_variance,
    r2,
)

Mask = NDArray[np.bool_]
Array = NDArray[np.floating]

MODEL, MEAN = "model", "mean_rate"


@dataclass(frozen=True)
class HiddenChannels:
    """What was inferred of the validation trials without some of their channels.

    Parameters
    ----------
    latents : Dataset
        Of the validation trials alone.
    channels : bool array (channel)
        That were hidden throughout.
    """

    latents: xr.Dataset
    channels: Mask


def evaluate_latents(
    ds: xr.Dataset,
    latents: xr.Dataset,
    hidden: Mask,
    *,
    mask_length: int = 1,
    hidden_channels: HiddenChannels | None = None,
) -> dict[str, Any]:
    """Score a model and all registered baselines on the hidden entries of the validation trials.

    The latents must have been inferred without the hidden entries; the baselines are not shown them either. Channels marked
    ``held_out`` (co-smoothing) and bins marked ``forecast`` (forward prediction), from which nothing is inferred, are scored
    separately.

    Parameters
    ----------
    ds : Dataset
        The data, with ``split``; without it all trials are validation trials.
    latents : Dataset
        ``rates`` in Hz for counts or ``mean`` in the data's unit, of the same trials, bins and channels.
    hidden : bool array (trial, time, channel)
    mask_length : int
        Bins of a channel that are hidden together.
    hidden_channels : HiddenChannels, optional
        For a score on whole channels (co-smoothing) of a model that was fitted to all of them.

    Returns
    -------
    dict
        JSON-safe, without NaN:

        - ``headline``: the result in one line; ``metric``: "bits per spike" or "explained variance";
        - ``scored``: numbers of trials, entries and spikes behind the scores, and seconds of a channel hidden together;
        - ``scores``: of the model and of each baseline, None where not defined; ``gain``: the same minus that of the mean;
        - ``undefined``: why, by name, where a score is None;
        - ``names``: what the model and the baselines are called in words; ``baselines``: how each was set;
        - ``zero``: a sentence on what a score of 0 means;
        - ``by_channel``: scores of each channel, None where not defined;
        - ``held_out``: scores on held-out channels, if there are any, but for forecast bins;
        - ``cosmoothing``: scores on hidden channels, if there are any;
        - ``forecast``: scores on forecast bins, if there are any;
        - ``truth``: R² of the true rates (where rates are inferred) and latents, if the data hold them;
        - ``checks``: a list of {name, level ("ok", "warn" or "bad"), text}.

    Raises
    ------
    MismatchError
        If shapes or channels differ.
    DataError
        If a registered baseline gives values of the wrong shape or that are not finite.
    """
    is_counts = "mean" not in latents
    if is_counts and "rates" not in latents:
        raise MismatchError(f"the latents have neither 'rates' nor 'mean', only {sorted(map(str, latents.data_vars))}")
    variable = "rates" if is_counts else "mean"
    if not ds["values"].shape == latents[variable].shape == hidden.shape:
        raise MismatchError(
            f"data {ds['values'].shape}, {variable} {latents[variable].shape} and hidden {hidden.shape} must have the same "
            "shape (trial, time, channel)"
        )
    if "channel_id" in latents.coords and (latents["channel_id"].values != ds["channel_id"].values).any():
        raise MismatchError(
            "data and latents have the same number of channels, but not the same channels in the same order"
        )
    label = _split_labels(ds)
    ds, latents, hidden = ds.isel(trial=label != ""), latents.isel(trial=label != ""), hidden[label != ""]
    valid = label[label != ""] == "valid"
    observed, held_out, forecast = ds["observed"].values, _marked(ds, "held_out"), _marked(ds, "forecast")[:, None]
    of_valid = observed & valid[:, None, None]
    scored = of_valid & hidden & ~held_out & ~forecast
    scorer = _Scorer(ds, is_counts)
    masked = replace(_shown_to_baselines(ds, hidden, valid, is_counts), mask_length=mask_length)
    everything = (
        masked if hidden_channels is None else _with_hidden_channels(masked, ds, hidden_channels.channels, valid)
    )
    # The baselines solve many small systems, on which several threads take longer than one.
    with threadpool_limits(limits=1, user_api="blas"):
        predictions = {name: predict(name, everything) for name in BASELINES.names()}
    expected: dict[str, Array] = {MODEL: scorer.expected(latents[variable].values)}
    expected |= {name: prediction.expected[: len(valid)] for name, prediction in predictions.items()}
    scores, undefined = scorer.scores(expected, scored)
    names = {MODEL: "this model", **{name: prediction.label for name, prediction in predictions.items()}}
    result: dict[str, Any] = {
        "metric": scorer.metric,
        "scored": {
            "trials": int(valid.sum()),
            "entries": int(scored.sum()),
            **({"spikes": int(ds["values"].values[scored].sum())} if is_counts else {}),
            **({"seconds_together": mask_length * scorer.bin_width} if mask_length > 1 else {}),
        },
        "scores": scores,
        **({"undefined": undefined} if undefined else {}),
        "gain": {name: _difference(score, scores[MEAN]) for name, score in scores.items()},
        "names": names,
        "baselines": {name: prediction.description for name, prediction in predictions.items()},
        "zero": _meaning_of_zero(scores[MEAN], names[MEAN], is_counts=is_counts),
        "by_channel": scorer.by_channel(expected, scored),
    }
    for part, where in (("held_out", of_valid & held_out & ~forecast), ("forecast", of_valid & forecast)):
        if where.any() and scorer.can_score(where):
            result[part], _ = scorer.scores(expected, where)
    if hidden_channels is not None:
        of_channels = {MODEL: scorer.expected(hidden_channels.latents[variable].values)}
        of_channels |= {name: prediction.expected[len(valid) :] for name, prediction in predictions.items()}
        where = observed[valid] & hidden_channels.channels & ~forecast
        scorer_of_valid = _Scorer(ds.isel(trial=valid), is_counts)
        if scorer_of_valid.can_score(where):
            result["cosmoothing"], _ = scorer_of_valid.scores(of_channels, where)
    if "true_rates" in ds:
        rates: dict[str, Array] = {MODEL: scorer.bin_width * latents["rates"].values} if "rates" in latents else {}
        result["truth"] = _truth(ds, latents, expected if is_counts else rates, valid)
    shown = masked.predictors & valid[:, None, None]
    score_on_shown = scorer.scores({MODEL: expected[MODEL]}, shown)[0][MODEL] if scorer.can_score(shown) else None
    defined = {name: score for name, score in scores.items() if score is not None}
    result["checks"] = checks(
        ds,
        latents,
        scored,
        scores=defined,
        names=names,
        score_on_shown=score_on_shown,
        cosmoothing=result.get("cosmoothing", {}).get(MODEL),
        seconds_together=result["scored"].get("seconds_together"),
    )
    return {"headline": _headline(result), **result}


def _headline(result: Mapping[str, Any]) -> str:
    scores, names = result["scores"], result["names"]
    line = f"{result['metric']} on hidden entries {_shown(scores[MODEL])}"
    if known := [name for name in result["baselines"] if scores[name] is not None]:
        best = max(known, key=scores.__getitem__)
        line += f" ({names[MEAN]} {_shown(scores[MEAN])}, best baseline: {names[best]} {_shown(scores[best])})"
    if MODEL in result.get("undefined", {}):
        line += f": {result['undefined'][MODEL]}"
    if "cosmoothing" in result:
        line += f"; on hidden channels {_shown(result['cosmoothing'][MODEL])}"
    if "held_out" in result:
        line += f"; on held-out channels {_shown(result['held_out'][MODEL])}"
    if "forecast" in result:
        line += f"; on forecast bins {_shown(result['forecast'][MODEL])}"
    if "rates_r2" in result.get("truth", {}):
        line += f"; R² of the true rates {_shown(result['truth']['rates_r2'][MODEL])}"
    return line


def _shown(score: float | None) -> str:
    return "not defined" if score is None else f"{score:.3f}"


def _difference(score: float | None, other: float | None) -> float | None:
    return None if score is None or other is None else score - other


def _meaning_of_zero(score_of_mean: float | None, name_of_mean: str, *, is_counts: bool) -> str:
    text = "0 = always predicting each channel's true mean over the scored entries"
    if is_counts:
        text += " (as in the Neural Latents Benchmark)"
    text += f"; {name_of_mean!r} uses the shown data only"
    return text + (
        " and therefore falls below 0, further with fewer scored entries." if (score_of_mean or 0) < 0 else "."
    )


class _Scorer:
    """Bits per spike of counts, explained variance of samples."""

    def __init__(self, ds: xr.Dataset, is_counts: bool) -> None:
        self.bin_width = float(ds.attrs["bin_width"])
        self._ds = ds
        self._is_counts = is_counts
        self._values = ds["values"].values
        self._exposure = ds["exposure"].values if "exposure" in ds else None
        self._sd = ds["values"].where(ds["observed"]).std(("trial", "time"), dtype=np.float64).fillna(0).values
        self.metric: Literal["bits per spike", "explained variance"] = (
            "bits per spike" if is_counts else "explained variance"
        )

    def expected(self, inferred: Array) -> Array:
        """Expected counts in whole bins of rates [Hz]; the mean of a signal as it is."""
        return inferred * self.bin_width if self._is_counts else inferred

    def can_score(self, where: Mask) -> bool:
        """Whether the metric is defined: there are spikes, or the signal varies."""
        values = self._values[where]
        return bool(values.size) and bool((values > 0).any() if self._is_counts else (values != values[0]).any())

    def scores(self, expected: Mapping[str, Array], where: Mask) -> tuple[dict[str, float | None], dict[str, str]]:
        """Scores by name, None where the metric is not defined, and why it is not."""
        scores: dict[str, float | None] = dict.fromkeys(expected)
        undefined: dict[str, str] = {}
        for name, array in expected.items():
            try:
                scores[name] = self._score(array, where)
            except DataError as error:
                undefined[name] = str(error)
        return scores, undefined

    def _score(self, expected: Array, where: Mask) -> float:
        if not where.any():
            raise DataError(
                "no observed entry of the validation trials is hidden: there is nothing to compare models on"
            )
        if self._is_counts:
            return bits_per_spike(expected, self._values, where, exposure=self._exposure)
        return pooled_explained_variance(expected, self._values, where, sd=self._sd)

    def by_channel(self, expected: Mapping[str, Array], where: Mask) -> dict[str, list[Any]]:
        table: dict[str, list[Any]] = {
            "channel_id": self._ds["channel_id"].values.tolist(),
            "entries": where.sum((0, 1)).tolist(),
        }
        if self._is_counts:
            table["spikes"] = np.where(where, self._values, 0).sum((0, 1)).astype(int).tolist()
        for name, array in expected.items():
            if not where.any():
                table[name] = [None] * where.shape[2]
                continue
            if self._is_counts:
                scores, defined = bits_per_spike_by_channel(array, self._values, where, exposure=self._exposure)
            else:
                scores, defined = explained_variance_by_channel(array, self._values, where)
            table[name] = [float(s) if is_defined else None for s, is_defined in zip(scores, defined, strict=True)]
        return table


def _split_labels(ds: xr.Dataset) -> NDArray[np.str_]:
    """Label of each trial: "train", "valid", or "" for neither."""
    if "split" not in ds.coords:
        return np.full(ds.sizes["trial"], "valid")
    labels = ds["split"].values.astype(str)
    return np.where(np.isin(labels, ("train", "valid")), labels, "")


def _marked(ds: xr.Dataset, name: Literal["held_out", "forecast"]) -> Mask:
    """Held-out channels (channel), or forecast bins (time)."""
    if name not in ds.coords:
        return np.zeros(ds.sizes["channel" if name == "held_out" else "time"], dtype=bool)
    return np.asarray(ds[name].values.astype(bool))


def _shown_to_baselines(ds: xr.Dataset, hidden: Mask, valid: NDArray[np.bool_], is_counts: bool) -> MaskedData:
    """What the baselines may look at: they predict from what the encoder may read, and learn from what the model is fitted to.

    Parameters
    ----------
    ds : Dataset
    hidden : bool array (trial, time, channel)
    valid : bool array (trial)
    is_counts : bool
    """
    held_out, forecast = _marked(ds, "held_out"), _marked(ds, "forecast")
    never_shown = (held_out | forecast[:, None]) & valid[:, None, None]
    return MaskedData(
        ds["values"].values,
        ds["observed"].values & ~hidden & ~never_shown,
        # With a single group of trials there is nothing else to learn from.
        ~valid if not valid.all() else valid,
        is_counts,
        exposure=ds["exposure"].values if "exposure" in ds else None,
        held_in=~held_out,
        forecast=np.broadcast_to(forecast, hidden.shape[:2]),
    )


def _with_hidden_channels(masked: MaskedData, ds: xr.Dataset, channels: Mask, valid: NDArray[np.bool_]) -> MaskedData:
    """Append the validation trials once more, with whole channels hidden instead of entries: a baseline then learns once."""
    shown = ds["observed"].values[valid] & ~channels
    if masked.forecast is not None:
        shown &= ~masked.forecast[valid][:, :, None]
    return replace(
        masked,
        values=np.concatenate([masked.values, ds["values"].values[valid]]),
        shown=np.concatenate([masked.shown, shown]),
        train=np.concatenate([masked.train, np.zeros(len(shown), dtype=bool)]),
        exposure=None if masked.exposure is None else np.concatenate([masked.exposure, ds["exposure"].values[valid]]),
        forecast=None if masked.forecast is None else np.concatenate([masked.forecast, masked.forecast[valid]]),
    )


def _truth(
    ds: xr.Dataset, latents: xr.Dataset, expected: Mapping[str, Array], valid: Mask
) -> dict[str, dict[str, float]]:
    """R² over all entries of the validation trials: of expected counts, and of true latents regressed on the factors."""
    counts = ds["true_rates"].values[valid] * float(ds.attrs["bin_width"])
    result: dict[str, dict[str, float]] = {}
    if expected:
        with suppress(DataError):  # True rates that do not vary.
            result["rates_r2"] = {name: r2(counts, array[valid]) for name, array in expected.items()}
            result["rates_pearson_r2"] = {name: pearson_r2(counts, array[valid]) for name, array in expected.items()}
    if "true_latents" in ds and "factors" in latents and not valid.all():
        factors, true = latents["factors"].values, ds["true_latents"].values
        n_latents = true.shape[2]
        weights, *_ = np.linalg.lstsq(_design(factors[~valid]), true[~valid].reshape(-1, n_latents), rcond=None)
        with suppress(DataError):
            result["latents_r2"] = {MODEL: r2(true[valid].reshape(-1, n_latents), _design(factors[valid]) @ weights)}
    return result


def _design(factors: Array) -> NDArray[np.float64]:
    """Factors and a one (bin, factor + 1)."""
    flat = factors.reshape(-1, factors.shape[-1]).astype(np.float64)
    return np.column_stack([flat, np.ones(len(flat))])
