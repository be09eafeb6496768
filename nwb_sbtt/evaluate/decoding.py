"""Behaviour decoded from latents, and from smoothed data beside them, by cross-validation over trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.datasets import check_matching, dataset_of
from nwb_sbtt.errors import DataError
from nwb_sbtt.evaluate.baselines.protocol import MaskedData
from nwb_sbtt.evaluate.baselines.smoothing import smoothed, usable_widths
from nwb_sbtt.evaluate.classes import cross_validated_classes
from nwb_sbtt.evaluate.regression import Linear, Moments, choose, folds_of_trials, ridge, shares_moments
from nwb_sbtt.evaluate.targets import Target, target_of

FEWEST_TRIALS = 3
"""Trials with behaviour, at least: one that is decoded, and two among which the penalty is chosen."""
WINDOWS = 5
"""Parts of a trial over which predictors of a trial column are averaged."""
PRIOR = 1.0
"""Weight of a channel's mean in smoothed data, in expected spikes or in samples."""
UNSEEN = ("valid", "test")
"""Labels of ``split`` of the trials that a fit was not trained on."""
Of = Literal["factors", "aligned_factors", "rates", "mean"]
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Features = Callable[[Rows], NDArray[np.floating]]
"""Returns the predictors (trial, time, feature) of some trials."""


def decode(
    latents: xr.Dataset,
    behaviour: xr.DataArray | str,
    *,
    lag: float = 0.0,
    of: Of = "factors",
    data: xr.Dataset | None = None,
    classes: bool | None = None,
) -> xr.Dataset:
    """Decode behaviour linearly, bin by bin, or a column of the trials, trial by trial.

    Trials are divided into five folds. Each fold is decoded by a regression that was fitted to the other four, among which
    the penalty was chosen by cross-validation over folds too. Bins of one trial are never on both sides, and where trials
    overlap in time, folds are blocks of the session and trials at their borders are left out of the fits. Scores are those of
    the trials that the model of the latents was not trained on (``split`` is valid or test), if these are marked.

    Parameters
    ----------
    latents : Dataset
        As returned by `Fitted.infer`.
    behaviour : DataArray or str
        (trial, time, column) or (trial, time) of the same trials and bins, as `nwb_sbtt.read_behaviour` returns it: ridge
        regression. (trial), or the name of a trial column of the latents: ridge regression of numbers, logistic regression of
        classes, from the averages of the predictors in five parts of each trial. NaN where it was not measured.
    lag : float
        Seconds by which behaviour is later than the latents that it is decoded from; rounded to bins. Behaviour that was read
        with a lag is later by that already; both add up.
    of : "factors", "aligned_factors", "rates" or "mean"
        Latents that it is decoded from.
    data : Dataset, optional
        What the latents were inferred from; behaviour is then decoded from the smoothed data too. The width of the Gaussian
        kernel is chosen together with the penalty; if the model has a lag, the kernel ends there. Only observed entries count.
    classes : bool, optional
        Whether a trial column holds classes. Default: text, and numbers with at most 12 different values.

    Returns
    -------
    Dataset
        ``decoded`` (predictor, trial, time, column), for trial columns without ``time``: of every trial that has latents, also
        where behaviour was not measured. ``measured`` (trial, time, column), NaN where it was not. Of numbers ``r2``
        (predictor, column), NaN of columns that do not vary, and ``r2_weighted`` (predictor), in which each column counts by
        its variance; of classes ``accuracy`` (predictor) and ``chance``, that of always decoding the most frequent class.
        ``scored`` (trial). Of behaviour in bins also the decoder of the latents that was fitted to all trials, for
        `apply_decoder` and for ``decode`` of a stream: ``weights`` (feature, column) and ``intercept`` (column). ``attrs``:
        those of the latents, with ``of``, ``lag`` [s], ``behaviour``, ``unit``, ``scored_on`` and ``decoding_notes`` (JSON).

    Raises
    ------
    DataError
        If there are no such latents, too little behaviour, or behaviour that does not vary.
    MismatchError
        If trials or bins differ.
    SelectionError
        If the latents have no such column.
    """
    latents = dataset_of(latents, of="latents")
    if of not in latents:
        raise DataError(f"the latents have no {of!r}; they have {sorted(map(str, latents.data_vars))}")
    if data is not None:
        check_matching(dataset_of(data), latents)
    target = target_of(latents, behaviour, lag, classes)
    starts, length = _starts(latents), latents.sizes["time"] * float(latents.attrs.get("bin_width", 1.0))
    known = np.asarray(target.known.any(1))
    seen = ~np.isin(_split(latents), UNSEEN)
    unseen = known & ~seen
    if (~seen).any() and not unseen.any() and known.any():
        raise DataError(
            f"{target.name} was measured in no trial that the fit was not trained on ({int(known.sum())} training trials "
            "have it), so it cannot be scored; fit with another split, such as a column `split` of the trials"
        )
    if (n := int(known.sum())) < FEWEST_TRIALS:
        raise DataError(
            f"{target.name} was measured in {n} trial{'s' * (n != 1)}; expected at least {FEWEST_TRIALS}, because decoders "
            "are fitted to other trials than those that they decode. Cut a long trial into several (--chop)"
        )
    scored = unseen if unseen.any() else known
    # Each fold has its share of trials with behaviour, of those that are scored, and of every class.
    labels = np.array([f"{k} {s} {c}" for k, s, c in zip(~known, seen, target.labels, strict=True)])
    fold, n_folds = folds_of_trials(labels, starts, length)
    usable = known & ~(np.zeros_like(known) if starts is None else shares_moments(starts, length, fold))
    predictors: dict[str, list[Features]] = {of: [_of_latents(latents, of)]}
    if data is not None:
        smooth = _of_data(data, latents, by_trial=target.by_trial)
        predictors[f"smoothed {'counts' if data.attrs.get('unit') == 'counts' else 'data'}"] = smooth
    if target.by_trial:
        predictors = {name: [_in_windows(each) for each in sets] for name, sets in predictors.items()}
    split = _Split(fold, n_folds, usable)
    if target.is_classes:
        found = _as_classes(target, predictors, split, scored)
    else:
        found = _regressed(target, predictors, split, scored)
    return _labelled(found, latents, target, of, scored, on_unseen=bool(unseen.any()))


def apply_decoder(decoded: xr.Dataset, latents: xr.Dataset) -> xr.DataArray:
    """Decode behaviour from latents by a decoder that was fitted before.

    Parameters
    ----------
    decoded : Dataset
        From `decode`, of behaviour in bins.
    latents : Dataset
        With the same factors, or rates of the same channels.

    Returns
    -------
    DataArray (trial, time, column)
        Behaviour ``attrs["lag"]`` after each bin.

    Raises
    ------
    DataError
        If there is no decoder of bins, or no such latents.
    """
    decoder, of = decoder_of(decoded)
    if of not in dataset_of(latents, of="latents"):
        raise DataError(f"the latents have no {of!r}; they have {sorted(map(str, latents.data_vars))}")
    predictors = latents[of]
    if predictors.shape[2] != len(decoder.weights):
        raise DataError(
            f"the decoder is of {len(decoder.weights)} {of}, but there are {predictors.shape[2]}; decode the latents of "
            "the same fit"
        )
    if "channel_id" in decoded.coords and not np.array_equal(
        decoded["channel_id"].values, latents["channel_id"].values
    ):
        raise DataError(
            "the decoder is of other channels, or of the same in another order; select those of decoded.channel_id"
        )
    attrs = {name: decoded.attrs[name] for name in ("lag", "unit", "of", "behaviour") if name in decoded.attrs}
    coords = {**_coords_of_bins(latents), "column": decoded["column"].values}
    return xr.DataArray(decoder(predictors.values), dims=("trial", "time", "column"), coords=coords, attrs=attrs)


def decoder_of(decoded: xr.Dataset) -> tuple[Linear, str]:
    """Return the decoder that `decode` fitted to all trials, and the name of the latents that it takes.

    Parameters
    ----------
    decoded : Dataset

    Returns
    -------
    decoder : Linear
    of : str

    Raises
    ------
    DataError
        If it decodes no bins.
    """
    ds = dataset_of(decoded, expected="the result of sb.decode(latents, behaviour)")
    if not {"weights", "intercept"} <= set(ds):
        raise DataError(
            f"the Dataset has {sorted(map(str, ds.variables))}, and no decoder of bins ('weights', 'intercept'); expected the "
            "result of sb.decode(latents, behaviour) of behaviour in bins, not of a trial column"
        )
    return Linear(ds["weights"].values.astype(float), ds["intercept"].values.astype(float)), str(ds.attrs["of"])


def summary_of(decoded: xr.Dataset) -> dict[str, Any]:
    """Return the scores of decoded behaviour as plain numbers.

    Parameters
    ----------
    decoded : Dataset
        From `decode`.

    Returns
    -------
    dict
        JSON-safe: ``behaviour``, ``lag`` [s], ``scored_on``, ``trials`` that were scored, ``scores`` of each predictor (``r2``
        over all columns and of each, or ``accuracy``), ``chance`` of classes, ``notes``.
    """
    scores: dict[str, Any] = {}
    for i, name in enumerate(decoded["predictor"].values.tolist()):
        if "accuracy" in decoded:
            scores[name] = {"accuracy": float(decoded["accuracy"].values[i])}
            continue
        each = [None if np.isnan(value) else float(value) for value in decoded["r2"].values[i]]
        columns = dict(zip(decoded["column"].values.tolist(), each, strict=True))
        scores[name] = {"r2": float(decoded["r2_weighted"].values[i]), "columns": columns}
    chance = {"chance": float(decoded["chance"])} if "chance" in decoded else {}
    return {
        **{name: decoded.attrs[name] for name in ("behaviour", "lag", "scored_on")},
        "trials": int(decoded["scored"].sum()),
        "scores": scores,
        **chance,
        "notes": json.loads(decoded.attrs["decoding_notes"]),
    }


@dataclass(frozen=True)
class _Split:
    """Fold of each trial, and which trials decoders may be fitted to."""

    fold: Rows
    n_folds: int
    usable: NDArray[np.bool_]

    def __iter__(self) -> Iterator[tuple[Rows, Rows]]:
        """Go through the folds: trials that are decoded, and trials that their decoder is fitted to."""
        for k in range(self.n_folds):
            yield np.flatnonzero(self.fold == k), np.flatnonzero((self.fold != k) & self.usable)


def _of_latents(latents: xr.Dataset, of: str) -> Features:
    values = latents[of].values
    return lambda rows: values[rows]


def _of_data(data: xr.Dataset, latents: xr.Dataset, *, by_trial: bool) -> list[Features]:
    """Data smoothed with each of several kernels, over the entries that the model was shown."""
    n_bins = data.sizes["time"]
    model = json.loads(str(latents.attrs.get("model", "{}")))
    held_out = data["held_out"].values.astype(bool) if "held_out" in data.coords else None
    masked = MaskedData(
        data["values"].values,
        data["observed"].values,
        np.ones(data.sizes["trial"], dtype=bool),
        data.attrs.get("unit") == "counts",
        exposure=data["exposure"].values if "exposure" in data else None,
        held_in=None if held_out is None else ~held_out,
        lag=((model.get("config") or {}).get("model") or {}).get("lag"),
    )
    mean = masked.channel_mean

    def features(width: float) -> Features:
        return lambda rows: smoothed(masked.select_trials(rows, mean=mean), width, strength=PRIOR)

    # Averages over parts of a trial are smooth already.
    return [features(width) for width in (usable_widths(n_bins)[:1] if by_trial else usable_widths(n_bins)[::2])]


def _in_windows(features: Features) -> Features:
    """Averages over the parts of each trial, as predictors (trial, 1, part · feature)."""

    def averaged(rows: Rows) -> NDArray[np.floating]:
        parts = np.array_split(features(rows), min(WINDOWS, features(rows[:1]).shape[1]), axis=1)
        return np.concatenate([part.mean(1) for part in parts], axis=1)[:, None]

    return averaged


def _regressed(
    target: Target, predictors: dict[str, list[Features]], split: _Split, scored: NDArray[np.bool_]
) -> xr.Dataset:
    """Ridge regression of each set of predictors, with scores, and the decoder of the first, fitted to all trials."""
    known = target.values[target.known]
    if not (np.ptp(known, axis=0) > 0).any():
        raise DataError(f"{target.name} is constant where it was measured, so it cannot be decoded; choose another")
    decoded, decoder = [], None
    for sets in predictors.values():
        values, of_all = _cross_validated(target, sets, split)
        decoded.append(values)
        decoder = decoder or of_all
    assert decoder is not None
    bins = target.known & scored[:, None]
    measured = target.values[bins]
    total = ((measured - measured.mean(0)) ** 2).sum(0)
    if not (total > 0).any():
        raise DataError(
            f"{target.name} does not vary over the {int(scored.sum())} trials that are scored, so R² is not defined; use "
            "trials in which it varies"
        )
    errors = np.stack([((measured - values[bins]) ** 2).sum(0) for values in decoded])
    varies = total > 0
    scores = np.where(varies, 1 - errors / np.where(varies, total, 1), np.nan)
    weighted = 1 - errors[:, varies].sum(1) / total[varies].sum()
    found = {
        "measured": (("trial", "time", "column"), target.values.astype(float)),
        "decoded": (("predictor", "trial", "time", "column"), np.stack(decoded)),
        "r2": (("predictor", "column"), scores),
        "r2_weighted": ("predictor", weighted),
        "weights": (("feature", "column"), decoder.weights),
        "intercept": ("column", decoder.intercept),
    }
    return xr.Dataset(found, coords={"predictor": list(predictors)})


def _cross_validated(target: Target, sets: Sequence[Features], split: _Split) -> tuple[Floats, Linear]:
    """Every trial decoded by a regression on the other folds (trial, time, column), and a regression on all folds."""
    centres = [_centre(target, features, split) for features in sets]
    moments = [
        [
            _moments(target, features, np.flatnonzero((split.fold == k) & split.usable), centre)
            for k in range(split.n_folds)
        ]
        for features, centre in zip(sets, centres, strict=True)
    ]
    folds = [k for k in range(split.n_folds) if moments[0][k].n]
    if len(folds) < FEWEST_TRIALS:
        raise DataError(
            f"{target.name} was measured in {int(target.known.any(1).sum())} trials, too few to divide the session into "
            f"{FEWEST_TRIALS} parts that share no bin, each decoded by a regression on the others; use more or shorter trials, "
            "or trials that do not overlap"
        )

    def fitted(to: Sequence[int]) -> tuple[int, Linear]:
        best, penalty = choose(moments, to)
        (fit,) = ridge(reduce(add, [moments[best][k] for k in to]), [penalty])
        return best, fit.uncentred(centres[best])

    decoded = np.full(target.values.shape, np.nan)
    for k, (test, _) in enumerate(split):
        best, fit = fitted([other for other in folds if other != k])
        decoded[test] = fit(sets[best](test))
    return decoded, fitted(folds)[1]


def _centre(target: Target, features: Features, split: _Split) -> Floats:
    """Means of predictors and targets, of a few trials."""
    x = features(np.flatnonzero(split.usable)[:10])
    return np.concatenate([x.mean((0, 1), dtype=float), target.values[target.known].mean(0, dtype=float)])


def _moments(target: Target, features: Features, rows: Rows, centre: Floats) -> Moments:
    known = target.known[rows]
    n_columns = target.values.shape[2]
    x = features(rows)[known] if len(rows) else np.zeros((0, len(centre) - n_columns))
    return Moments.of(x, target.values[rows][known].astype(float), centre)


def _as_classes(
    target: Target, predictors: dict[str, list[Features]], split: _Split, scored: NDArray[np.bool_]
) -> xr.Dataset:
    """Logistic regression of each set of predictors, with its accuracy."""
    labels, rows = target.values[:, 0, 0].astype(str), np.arange(len(split.fold))
    decoded = [cross_validated_classes(sets[0](rows)[:, 0], labels, split) for sets in predictors.values()]
    true = labels[scored]
    accuracy = [float((each[scored] == true).mean()) for each in decoded]
    chance = float(np.unique(true, return_counts=True)[1].max() / len(true))
    found = {
        "measured": (("trial", "time", "column"), labels[:, None, None]),
        "decoded": (("predictor", "trial", "time", "column"), np.stack(decoded)[:, :, None, None]),
        "accuracy": ("predictor", accuracy),
        "chance": ((), chance),
    }
    return xr.Dataset(found, coords={"predictor": list(predictors)})


def _labelled(
    found: xr.Dataset,
    latents: xr.Dataset,
    target: Target,
    of: str,
    scored: NDArray[np.bool_],
    *,
    on_unseen: bool,
) -> xr.Dataset:
    """Label what was decoded, as the latents are."""
    if target.by_trial:
        found = found.drop_vars(["weights", "intercept"], errors="ignore").isel(time=0)
        coords = {str(name): each for name, each in latents.coords.items() if each.dims == ("trial",)}
    else:
        coords = {**_coords_of_bins(latents), **_labels_of_features(latents, of)}
    attrs = {
        **latents.attrs,
        "of": of,
        "lag": target.lag,
        "behaviour": target.name,
        "trial_length": latents.sizes["time"] * float(latents.attrs.get("bin_width", 1.0)),
        "unit": target.unit,
        "scored_on": "trials that the fit was not trained on" if on_unseen else "all trials",
        "decoding_notes": json.dumps(list(target.notes)),
    }
    if target.reference_frame is not None:
        attrs["reference_frame"] = target.reference_frame
    found = found.assign_coords({**coords, "column": target.columns, "scored": ("trial", scored)}).assign_attrs(attrs)
    return found.assign_attrs(description=_description(found))


def _description(decoded: xr.Dataset) -> str:
    """How behaviour was decoded, and how well, for files."""
    found = summary_of(decoded)
    scores = next(iter(found["scores"].values()))
    classes = "accuracy" in scores
    score = f"accuracy {scores['accuracy']:.3f}" if classes else f"R² {scores['r2']:.3f}"
    lag = f", {found['lag']:g} s before," if found["lag"] else ""
    return (
        f"{found['behaviour']} decoded from the {decoded.attrs['of']}{lag} by {'logistic' if classes else 'ridge'} regression. "
        f"Each trial was decoded by a regression on other trials; NaN where nothing was decoded. {score} on "
        f"{found['trials']} trials ({found['scored_on']})."
    )


def _coords_of_bins(latents: xr.Dataset) -> dict[str, Any]:
    return {str(name): each for name, each in latents.coords.items() if set(each.dims) <= {"trial", "time"}}


def _labels_of_features(latents: xr.Dataset, of: str) -> dict[str, Any]:
    """Labels of the channels along ``feature``, where rates are decoded."""
    if latents[of].dims[2] != "channel":
        return {}
    labels = {str(name): each.values for name, each in latents.coords.items() if each.dims == ("channel",)}
    return {name: ("feature", values) for name, values in labels.items() if name != "channel"}


def _split(latents: xr.Dataset) -> NDArray[np.str_]:
    n = latents.sizes["trial"]
    return latents["split"].values.astype(str) if "split" in latents.coords else np.full(n, "")


def _starts(latents: xr.Dataset) -> Floats | None:
    """Starts of the trials; None where they are not known, as of arrays, whose trials all start at 0."""
    if "trial_start" not in latents.coords:
        return None
    starts = latents["trial_start"].values.astype(float)
    return starts if len(np.unique(starts)) == len(starts) else None
