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

from nwb_sbtt.data.datasets import check_matching, dataset_of
from nwb_sbtt.data.inputs import input_names
from nwb_sbtt.data.schema import NEVER_SHOWN
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

Floats = NDArray[np.float64]
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
    lag: int | None = None,
    hidden_channels: HiddenChannels | None = None,
    baselines: bool = True,
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
    lag : int, optional
        Bins after each one that the baselines may look at; default: the whole trial. The name of one that does not keep to it
        says that it sees the whole trial.
    hidden_channels : HiddenChannels, optional
        For a score on whole channels (co-smoothing) of a model that was fitted to all of them.
    baselines : bool
        Whether all baselines are scored, or the mean alone, which the others' gain is counted from.

    Returns
    -------
    dict
        JSON-safe, without NaN:

        - ``headline``: the result in one line; ``metric``: "bits per spike" or "explained variance";
        - ``scored``: numbers of trials, entries and spikes behind the scores, and seconds of a channel hidden together;
        - ``lag``: bins after each one that the baselines looked at, where that is not the whole trial;
        - ``known_inputs``: names of the inputs that the model was given, and the baselines were not;
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
        If a registered baseline gives values of the wrong shape or that are not finite, or the lag is negative.
    """
    ds, latents = dataset_of(ds), dataset_of(latents, of="latents")
    is_counts = "mean" not in latents
    if is_counts and "rates" not in latents:
        raise MismatchError(
            f"the latents have neither 'rates' nor 'mean'; they have {sorted(map(str, latents.data_vars))}"
        )
    variable = "rates" if is_counts else "mean"
    if not ds["values"].shape == latents[variable].shape == hidden.shape:
        raise MismatchError(
            f"data {ds['values'].shape}, {variable} {latents[variable].shape} and hidden {hidden.shape} must have the same "
            "shape (trial, time, channel)"
        )
    check_matching(ds, latents)
    label = _split_labels(ds)
    if (label == "").any():
        ds, latents, hidden = ds.isel(trial=label != ""), latents.isel(trial=label != ""), hidden[label != ""]
    valid = label[label != ""] == "valid"
    held_out, forecast = _marked(ds, "held_out"), _marked(ds, "forecast")[:, None]
    scorer = _Scorer(ds, valid, is_counts)
    of_valid = ds["observed"].values[valid]
    scored = of_valid & hidden[valid] & ~held_out & ~forecast
    scorer.add("scores", scored)
    for part, where in (("held_out", of_valid & held_out & ~forecast), ("forecast", of_valid & forecast)):
        if where.any() and scorer.can_score(where):
            scorer.add(part, where)
    masked = replace(_shown_to_baselines(ds, hidden, valid, is_counts), mask_length=mask_length, lag=lag)
    shown = masked.predictors[valid]
    scorer.score(MODEL, scorer.expected(latents[variable].values[valid]))
    of_channels = None
    if hidden_channels is not None:
        of_channels = _scorer_of_channels(ds, valid, hidden_channels.channels & ~forecast, is_counts)
        of_channels.score(MODEL, scorer.expected(hidden_channels.latents[variable].values))
        masked = _with_hidden_channels(masked, ds, hidden_channels.channels, valid)
    names, described = {MODEL: "this model"}, {}
    for name in BASELINES.names() if baselines else [MEAN]:
        # The baselines solve many small systems, on which several threads take longer than one.
        with threadpool_limits(limits=1, user_api="blas"):
            prediction = predict(name, masked)
        names[name], described[name] = prediction.label, prediction.description
        # What a baseline expects of every entry is not kept: it takes as much memory as the data.
        scorer.score(name, prediction.expected[: len(valid)][valid])
        if of_channels is not None:
            of_channels.score(name, prediction.expected[len(valid) :])
        del prediction
    scores, undefined = scorer.found["scores"], scorer.undefined
    result: dict[str, Any] = {
        "metric": scorer.metric,
        "scored": {
            "trials": int(valid.sum()),
            "entries": int(scored.sum()),
            **({"spikes": int(ds["values"].values[valid][scored].sum())} if is_counts else {}),
            **({"seconds_together": mask_length * scorer.bin_width} if mask_length > 1 else {}),
        },
        **({} if lag is None else {"lag": lag}),
        **({"known_inputs": list(input_names(ds))} if "inputs" in ds else {}),
        "scores": scores,
        **({"undefined": undefined} if undefined else {}),
        "gain": {name: _difference(score, scores[MEAN]) for name, score in scores.items()},
        "names": names,
        "baselines": described,
        "zero": _meaning_of_zero(scores[MEAN], names[MEAN], is_counts=is_counts),
        "by_channel": scorer.by_channel,
        **{part: found for part, found in scorer.found.items() if part != "scores"},
    }
    if of_channels is not None:
        result |= of_channels.found
    if "true_rates" in ds:
        if not is_counts and "rates" in latents:
            scorer.compare_rates(MODEL, scorer.bin_width * latents["rates"].values[valid])
        result["truth"] = {**scorer.of_rates, **_latents_r2(ds, latents, valid)}
    score_on_shown = None
    if scorer.can_score(shown):
        score_on_shown, _ = scorer.metric_of(scorer.expected(latents[variable].values[valid]), shown)
    defined = {name: score for name, score in scores.items() if score is not None}
    result["checks"] = checks(
        ds,
        latents,
        scored,
        np.flatnonzero(valid),
        scores=defined,
        names=names,
        score_on_shown=score_on_shown,
        cosmoothing=result.get("cosmoothing", {}).get(MODEL),
        seconds_together=result["scored"].get("seconds_together"),
    )
    return {"headline": _headline(result), **result}


def _headline(result: Mapping[str, Any]) -> str:
    scores, names = result["scores"], result["names"]
    lag = f" at a lag of {result['lag']} bins" if "lag" in result else ""
    line = f"{result['metric']} on hidden entries{lag} {_shown(scores[MODEL])}"
    if known := [name for name in result["baselines"] if scores[name] is not None]:
        best = max(known, key=scores.__getitem__)
        without = ", without the known inputs" if "known_inputs" in result else ""
        line += f" ({names[MEAN]} {_shown(scores[MEAN])}, best baseline{without}: {names[best]} {_shown(scores[best])})"
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
    """Bits per spike of counts, explained variance of samples, of one method after the other on the validation trials.

    Arrays have the validation trials alone (valid trial, time, channel). `found` holds scores by part of the entries and by
    method, None where the metric is not defined, which `undefined` says of the hidden entries why; `by_channel` those of each
    channel; `of_rates` the R² of true rates, where the data hold them.
    """

    def __init__(self, ds: xr.Dataset, valid: Mask, is_counts: bool) -> None:
        self.bin_width = float(ds.attrs["bin_width"])
        self.metric: Literal["bits per spike", "explained variance"] = (
            "bits per spike" if is_counts else "explained variance"
        )
        self.found: dict[str, dict[str, float | None]] = {}
        self.undefined: dict[str, str] = {}
        self.by_channel: dict[str, list[Any]] = {"channel_id": ds["channel_id"].values.tolist()}
        self.of_rates: dict[str, dict[str, float]] = {}
        self._is_counts = is_counts
        self._values = ds["values"].values[valid]
        self._exposure = ds["exposure"].values[valid] if "exposure" in ds else None
        self._sd = None if is_counts else _sd_of_channels(ds["values"].values, ds["observed"].values)
        self._parts: dict[str, Mask] = {}
        self._true_counts = ds["true_rates"].values[valid] * self.bin_width if "true_rates" in ds else None

    def expected(self, inferred: Array) -> Array:
        """Expected counts in whole bins of rates [Hz]; the mean of a signal as it is."""
        return inferred * self.bin_width if self._is_counts else inferred

    def can_score(self, where: Mask) -> bool:
        """Whether the metric is defined: there are spikes, or the signal varies."""
        values = self._values[where]
        return bool(values.size) and bool((values > 0).any() if self._is_counts else (values != values[0]).any())

    def add(self, part: str, where: Mask) -> None:
        """Name a part of the entries that every method is scored on; the first, "scores", channel by channel too."""
        self._parts[part] = where
        self.found[part] = {}
        if part == "scores":
            self.by_channel["entries"] = where.sum((0, 1)).tolist()
            if self._is_counts:
                spikes = [int(self._values[:, :, i][where[:, :, i]].sum()) for i in range(where.shape[2])]
                self.by_channel["spikes"] = spikes

    def score(self, name: str, expected: Array) -> None:
        """Score a method on all parts."""
        for part, where in self._parts.items():
            self.found[part][name], reason = self.metric_of(expected, where)
            if part == "scores":
                self.by_channel[name] = self._scores_of_channels(expected, where)
                self.undefined |= {name: reason} if reason else {}
        if self._is_counts:
            self.compare_rates(name, expected)

    def compare_rates(self, name: str, expected: Array) -> None:
        """Compare expected counts with those of the true rates, where the data hold them."""
        if self._true_counts is None:
            return
        with suppress(DataError):  # True rates that do not vary.
            self.of_rates.setdefault("rates_r2", {})[name] = r2(self._true_counts, expected)
            self.of_rates.setdefault("rates_pearson_r2", {})[name] = pearson_r2(self._true_counts, expected)

    def metric_of(self, expected: Array, where: Mask) -> tuple[float | None, str]:
        """The score of expected values; None where the metric is not defined, and why it is not."""
        try:
            return self._score(expected, where), ""
        except DataError as error:
            return None, str(error)

    def _score(self, expected: Array, where: Mask) -> float:
        if not where.any():
            raise DataError(
                "no observed entry of the validation trials is hidden, so models cannot be compared; hide more "
                "entries (masks.sample_validation)"
            )
        if self._sd is None:
            return bits_per_spike(expected, self._values, where, exposure=self._exposure)
        return pooled_explained_variance(expected, self._values, where, sd=self._sd)

    def _scores_of_channels(self, expected: Array, where: Mask) -> list[float | None]:
        if not where.any():
            return [None] * where.shape[2]
        if self._is_counts:
            scores, defined = bits_per_spike_by_channel(expected, self._values, where, exposure=self._exposure)
        else:
            scores, defined = explained_variance_by_channel(expected, self._values, where)
        return [float(score) if is_defined else None for score, is_defined in zip(scores, defined, strict=True)]


def _sd_of_channels(values: Array, observed: Mask) -> Floats:
    """Standard deviation of the observed values of each channel; 0 where there is none."""
    n = observed.sum((0, 1))
    mean = values.sum((0, 1), dtype=np.float64, where=observed) / np.maximum(n, 1)
    squares = np.zeros(len(n))
    for trial, is_observed in zip(values, observed, strict=True):
        squares += (np.where(is_observed, trial - mean, 0) ** 2).sum(0)
    return np.asarray(np.sqrt(squares / np.maximum(n, 1)))


def _split_labels(ds: xr.Dataset) -> NDArray[np.str_]:
    """Label of each trial: "train", "valid", or "" for neither."""
    if "split" not in ds.coords:
        return np.full(ds.sizes["trial"], "valid")
    labels = ds["split"].values.astype(str)
    return np.where(np.isin(labels, ("train", "valid")), labels, "")


def _marked(ds: xr.Dataset, name: Literal["held_out", "forecast"]) -> Mask:
    """Held-out channels (channel), or forecast bins (time)."""
    if name not in ds.coords:
        return np.zeros(ds.sizes[NEVER_SHOWN[name]], dtype=bool)
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


def _scorer_of_channels(ds: xr.Dataset, valid: Mask, where: Mask, is_counts: bool) -> _Scorer:
    """A scorer of whole channels that were hidden in the validation trials."""
    of_valid = ds[[name for name in ("values", "observed", "exposure") if name in ds]].isel(trial=valid)
    scorer = _Scorer(of_valid, np.ones(of_valid.sizes["trial"], dtype=bool), is_counts)
    scored = of_valid["observed"].values & where
    if scorer.can_score(scored):
        scorer.add("cosmoothing", scored)
    return scorer


def _latents_r2(ds: xr.Dataset, latents: xr.Dataset, valid: Mask) -> dict[str, dict[str, float]]:
    """R² of the true latents in the validation trials, regressed on the factors in the others."""
    if "true_latents" not in ds or "factors" not in latents or valid.all():
        return {}
    factors, true = latents["factors"].values, ds["true_latents"].values
    n_latents = true.shape[2]
    weights, *_ = np.linalg.lstsq(_design(factors[~valid]), true[~valid].reshape(-1, n_latents), rcond=None)
    with suppress(DataError):
        return {"latents_r2": {MODEL: r2(true[valid].reshape(-1, n_latents), _design(factors[valid]) @ weights)}}
    return {}


def _design(factors: Array) -> NDArray[np.float64]:
    """Factors and a one (bin, factor + 1)."""
    flat = factors.reshape(-1, factors.shape[-1]).astype(np.float64)
    return np.column_stack([flat, np.ones(len(flat))])
