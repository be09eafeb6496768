"""Inference with a lag: how good it is, what could be reached, and how long a bin takes.

`accuracy`: the Lorenz task of `accuracy.py`; R² of inferred to true rates (1 − SSE/SST, mean over neurons, pooled over
validation trials) by lag and by neurons observed per bin, over all bins and from the eleventh on. Without a lag (-1) a model
sees the whole trial.

`reachable`: the same R² of the posterior mean given the known dynamics and read-out. Courses of the system from many other
starts are weighted by the likelihood of what was observed up to the lag after each bin (importance sampling from the prior;
`courses` is the smallest effective number of these, median over trials). What is not in the dynamics cannot be known, so no
model is better in the mean.

`latency`: microseconds a bin of the default model at lag 0 (median, 99th percentile and longest), 5 in 29 channels
observed, one thread: `stream.step` of a fit, which checks and calibrates, the network alone in numpy, the same step in torch,
the exported file in ONNX Runtime (calibrated too), and the network as it is trained, in torch, on a ring of the last 50 bins.
`memory` is what the process grew by from a tenth of the bins on [MB].

`draw` draws the rows of earlier runs of `accuracy` (points) and `reachable` (open points) in one figure.

    python benchmarks/online.py accuracy --levels 29 10 5 --lags 0 3 --seeds 0 1 2 --json online.json --figure online.png
    python benchmarks/online.py reachable --levels 29 10 5 --lags 0 3 --json bound.json
    python benchmarks/online.py draw --tables online.json bound.json --figure online.png
    python benchmarks/online.py latency --bins 1000000 --channels 200
    python benchmarks/online.py accuracy --small
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from fits import N_NEURONS, SCHEMES, fitted_to, lorenz_scale, lorenz_task, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import ConvConfig, TrainConfig, override
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.models.exporting import BinStep
from nwb_sbtt.models.stepping import Stepper
from nwb_sbtt.simulate.lorenz import lorenz_courses

FROM = 10
"""Bin from which the second R² is computed."""
CONDITIONS = 65
AT_ONCE = 20_000
"""Courses."""
SHARE = 5 / 29
Floats = NDArray[np.float32]


def main() -> None:
    """Run one part and print its table."""
    parser = options(__doc__, small="few data, epochs, courses and bins")
    parser.add_argument("part", choices=["accuracy", "reachable", "latency", "draw"])
    parser.add_argument("--tables", type=Path, nargs="+", default=[], help="rows of earlier runs (--json), for `draw`")
    parser.add_argument("--levels", type=int, nargs="+", default=[29, 10, 5], help="neurons observed per bin")
    parser.add_argument("--scheme", choices=SCHEMES, default="speckled", help="of sampling, for `reachable`")
    parser.add_argument("--lags", type=int, nargs="+", default=[0, 3], help="bins; -1: the whole trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--courses", type=int, default=200_000)
    parser.add_argument("--bins", type=int, default=20_000)
    parser.add_argument("--channels", type=int, nargs="+", default=[200, 1000])
    take_settings(parser)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.levels, arguments.lags, arguments.seeds, arguments.channels = [10], [0], [0], [30]
        arguments.courses, arguments.bins = 2000, 200
        arguments.settings = ["train.epochs=4", "model.width=16", "model.groups=4", *arguments.settings]
    parts: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
        "accuracy": accuracy,
        "reachable": reachable,
        "latency": latency,
        "draw": lambda given: [row for path in given.tables for row in json.loads(path.read_text())["rows"]],
    }
    rows = parts[arguments.part](arguments)
    report(arguments, rows, lambda: _figure(rows))


def accuracy(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Fit a model for each lag and level."""
    rows = []
    for seed in arguments.seeds:
        for k in arguments.levels:
            ds = lorenz_task(k, seed=seed, conditions=7 if arguments.small else CONDITIONS)
            for lag in arguments.lags:
                of_lag = [] if lag < 0 else [f"model.lag={lag}"]
                config = override(sb.FitConfig(seed=seed), [*of_lag, *arguments.settings])
                with fitted_to(ds, config) as (fitted, seconds):
                    valid = _valid(ds)
                    rates = fitted.infer(valid)["rates"].values
                rows.append({**_row(seed, k, lag, valid, rates), "CPU-seconds": seconds})
                print(rows[-1], flush=True)
    return rows


def reachable(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Compute the posterior mean given the dynamics for each lag and level."""
    rows = []
    for seed in arguments.seeds:
        conditions = 7 if arguments.small else CONDITIONS
        mean, sd = lorenz_scale(seed, conditions)
        latents = (lorenz_courses(np.random.default_rng([seed, 1]), arguments.courses) - mean) / sd
        for k in arguments.levels:
            valid = _valid(lorenz_task(k, seed=seed, conditions=conditions, scheme=arguments.scheme))
            log_rates = _read_out(valid, latents)
            for lag in arguments.lags:
                rates, effective = _posterior_mean(valid, log_rates, lag)
                rows.append({**_row(seed, k, lag, valid, rates), "courses": effective})
                print(rows[-1], flush=True)
    return rows


def _valid(ds: xr.Dataset) -> xr.Dataset:
    return ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))


def _row(seed: int, k: int, lag: int, valid: xr.Dataset, rates: NDArray[Any]) -> dict[str, Any]:
    true = valid["true_rates"].values
    return {
        "observed of 29": k,
        "lag": "no lag" if lag < 0 else lag,
        "seed": seed,
        "R2": r2(true, rates),
        f"from bin {FROM}": r2(true[:, FROM:], rates[:, FROM:]),
    }


def _read_out(ds: xr.Dataset, latents: NDArray[np.float64]) -> Floats:
    """Log of the expected counts of courses (course, time, channel): the data's own linear read-out of their latents."""
    known = ds["true_latents"].values.reshape(-1, 3)
    log_rates = np.log(ds["true_rates"].values * float(ds.attrs["bin_width"])).reshape(len(known), -1)
    weights, *_ = np.linalg.lstsq(np.column_stack([known, np.ones(len(known))]), log_rates, rcond=None)
    return np.asarray(latents @ weights[:3] + weights[3], np.float32)


def _posterior_mean(ds: xr.Dataset, log_rates: Floats, lag: int) -> tuple[NDArray[np.float64], float]:
    """Rates [Hz] given what was observed up to `lag` bins after each bin, and the effective number of courses."""
    observed = ds["observed"].values.astype(np.float32)
    counts = ds["values"].values * observed
    n_trials, n_bins, _ = counts.shape
    rates, effective = np.zeros(counts.shape), np.inf
    logs = np.zeros((n_trials, len(log_rates)), np.float32)
    ahead = n_bins if lag < 0 else lag
    taken = 0
    for t in range(n_bins):
        while taken < min(t + ahead + 1, n_bins):
            for first in range(0, len(log_rates), AT_ONCE):
                part = slice(first, first + AT_ONCE)
                of_bin = log_rates[part, taken]
                logs[:, part] += counts[:, taken] @ of_bin.T - observed[:, taken] @ np.exp(of_bin).T
            taken += 1
        weights = np.exp(logs - logs.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        effective = min(effective, float(np.median(1 / (weights**2).sum(1))))
        rates[:, t] = weights @ np.exp(log_rates[:, t])
    return rates / float(ds.attrs["bin_width"]), effective


def latency(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Time a bin in numpy and in torch."""
    torch.set_num_threads(1)
    rows = []
    for n_channels in arguments.channels:
        rng = np.random.default_rng(0)
        values = rng.poisson(0.3, (400, n_channels)).astype(np.float32)
        shown = rng.random(values.shape) < SHARE
        ds = sb.from_numpy(values.reshape(8, 50, n_channels), bin_width=0.02, observed=shown.reshape(8, 50, n_channels))
        config = override(
            sb.FitConfig(model=ConvConfig(lag=0), train=TrainConfig(epochs=1)),
            [text for text in arguments.settings if text.startswith("model.")],
        )
        with fitted_to(ds, config) as (fitted, _):
            stream = fitted.stream()
            stepper = Stepper(fitted.model, fitted.session_name())
            ways: dict[str, Callable[[Floats, NDArray[np.bool_]], object]] = {
                "stream.step": stream.step,
                "numpy": stepper.step,
                "torch, bin by bin": _bin_in_torch(fitted),
                "ONNX Runtime": _exported(fitted),
                "torch, 50 bins": _in_torch(fitted, ds),
            }
            for name, step in ways.items():
                n_bins = arguments.bins if name == "stream.step" else min(arguments.bins, 2000)
                times, grown = _times(step, values, shown, n_bins)
                rows.append(
                    {
                        "channels": n_channels,
                        "way": name,
                        "bins": n_bins,
                        **{key: 1e6 * value for key, value in times.items()},
                        "memory": grown,
                    }
                )
                print(rows[-1], flush=True)
    return rows


def _times(
    step: Callable[[Floats, NDArray[np.bool_]], object], values: Floats, shown: NDArray[np.bool_], n_bins: int
) -> tuple[dict[str, float], float]:
    times = np.empty(n_bins, np.float32)
    before = 0.0
    for i in range(n_bins):
        if i == n_bins // 10:
            before = _memory()
        row = i % len(values)
        started = time.perf_counter()
        step(values[row], shown[row])
        times[i] = time.perf_counter() - started
    times = times[n_bins // 10 :]
    found = {"p50": np.percentile(times, 50), "p99": np.percentile(times, 99), "longest": times.max()}
    return {name: float(value) for name, value in found.items()}, _memory() - before


def _memory() -> float:
    """Largest memory of the process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _bin_in_torch(fitted: sb.Fitted) -> Callable[[Floats, NDArray[np.bool_]], object]:
    """The step that is exported, run as it is."""
    step = BinStep(fitted.model, fitted.session_name())
    state, whole = torch.zeros(step.n_state), torch.ones(step.n_channels)

    def one(values: Floats, shown: NDArray[np.bool_]) -> object:
        nonlocal state
        with torch.no_grad():
            data = torch.from_numpy(values * shown), torch.from_numpy(shown.astype(np.float32))
            *estimate, state = step(*data, whole, None, state)
        return estimate

    return one


def _exported(fitted: sb.Fitted) -> Callable[[Floats, NDArray[np.bool_]], object]:
    """The exported file, as a rig runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = fitted.export(Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shapes = {each.name: each.shape for each in session.get_inputs()}
    state, whole = np.zeros(shapes["state"], np.float32), np.ones(shapes["values"], np.float32)

    def one(values: Floats, shown: NDArray[np.bool_]) -> object:
        nonlocal state
        *estimate, state = session.run(None, {"values": values, "observed": shown, "exposure": whole, "state": state})
        return estimate

    return one


def _in_torch(fitted: sb.Fitted, ds: xr.Dataset) -> Callable[[Floats, NDArray[np.bool_]], object]:
    """The model on a ring of the last bins, as it is trained."""
    first = ds.isel(trial=[0])
    batch = to_batch(first.assign(observed=first["observed"] | True), fitted.session_name())  # dense
    ring = torch.zeros_like(batch.values), torch.zeros_like(batch.observed)

    def step(values: Floats, shown: NDArray[np.bool_]) -> object:
        for kept, row in zip(ring, (values * shown, shown), strict=True):
            kept[:, :-1] = kept[:, 1:].clone()
            kept[:, -1] = torch.from_numpy(row)
        with torch.no_grad():
            return fitted.model(replace(batch, values=ring[0], observed=ring[1], shown=ring[1], scored=ring[1])).factors

    return step


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    figure = canvas(5, 3.5)
    axes = figure.subplots()
    if "way" in rows[0]:
        labels = [f"{row['way']}, {row['channels']} channels" for row in rows]
        axes.barh(labels, [row["p50"] for row in rows], color="#0072B2")
        axes.set_xlabel("µs a bin, median")
        return figure
    levels = sorted({row["observed of 29"] for row in rows}, reverse=True)
    lags = sorted({row["lag"] for row in rows if row["lag"] != "no lag"})
    for level, colour in zip(levels, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        of_level = [row for row in rows if row["observed of 29"] == level]
        for bound in (False, True):
            drawn = [row for row in of_level if ("courses" in row) == bound and row["lag"] in lags]
            at = sorted({row["lag"] for row in drawn})
            means = [np.mean([row["R2"] for row in drawn if row["lag"] == lag]) for lag in at]
            label = None if bound else f"{level} of {N_NEURONS} observed"
            face, line = ("white", ":") if bound else (colour, "-")
            axes.plot(at, means, color=colour, label=label, marker="o", markerfacecolor=face, linestyle=line)
        whole = [row["R2"] for row in of_level if row["lag"] == "no lag"]
        if whole:
            axes.axhline(np.mean(whole), color=colour, ls="--", lw=0.8)
    axes.set(xlabel="lag (bins of 20 ms)", ylabel="R² to true rates (validation)")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
