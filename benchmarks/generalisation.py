"""Generalisation of the accuracy on the demo task: to new conditions, faster dynamics, other data, and external inputs.

Tasks, each with k of N neurons observed per bin, in training and validation trials:

* same: the Lorenz task of `accuracy.py`, whose validation trials share conditions with training trials;
* new: the same, but whole conditions (starts) are held out for validation;
* speed 2, speed 4: as "same", with the Lorenz system two and four times as fast;
* vlgp: spikes simulated elsewhere (`vlgp_lorenz1.h5` of the vlgp package, --vlgp FILE): 50 neurons with refractoriness, ten
  trials of 1000 steps, here 10 steps of 1 ms a bin, in parts of 50 bins; two whole trials are for validation. k is scaled to
  50 neurons. Its rates depend on each neuron's spike history, which bins do not show: "R2 latents" is more telling;
* perturbation: an oscillation kicked in each trial at an unknown time (`nwb_sbtt.simulate.perturbation`), so the
  initial state does not determine the trial. Fitted with the defaults and by LFADS with and without a controller (--inputs).

R² is that of the true rates of the validation trials, 1 − SSE/SST, mean over neurons; "R2 latents" that of the true latents,
decoded linearly from the factors. Wiener and smoothing are the baselines of `nwb_sbtt.evaluate` on the same samples.

For inferred inputs, "timing error" is the median distance, in ms, between a validation trial's kick and the largest inferred
input: the largest distance from the mean over trials of the bin, in sd; a constant delay is estimated on
training trials. "by chance" is the same with the trials' inputs shuffled. "R2 kicks" is that of the true kicks decoded
linearly from the inferred inputs within two bins.

    python benchmarks/generalisation.py --vlgp vlgp_lorenz1.h5 --json generalisation.json --figure generalisation.png
    python benchmarks/generalisation.py --small
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import fitted_to, observe, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.evaluate import MaskedData, r2
from nwb_sbtt.evaluate.baselines import predict

N = 29
TASKS = {"same": "#0072B2", "new": "#D55E00", "speed 2": "#009E73", "speed 4": "#E69F00", "vlgp": "#888888"}
"""With their colours in the figure."""
PERTURBATION, DEFAULT = "perturbation", "default"
NOTHING = "–"
STEPS, PART_BINS = 10, 50
"""Steps of the vlgp file in a bin, and bins in a part of its trials."""
LAG = 2
"""Bins on either side from which kicks are read out."""
SMALL = ["train.epochs=4", "train.batch_size=12", "posterior_samples=2"]


def main() -> None:
    """Fit each task at each level and print the table."""
    parser = options(__doc__, small="two tasks, a tenth of the data, few epochs, one level")
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, PERTURBATION], choices=[*TASKS, PERTURBATION])
    parser.add_argument("--levels", type=int, nargs="+", default=[29, 10, 5, 2], help="neurons observed per bin, of 29")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--inputs", type=int, nargs="+", default=[2, 0], help="of the controllers of LFADS")
    parser.add_argument("--vlgp", type=Path, help="vlgp_lorenz1.h5; its task is left out without it")
    take_settings(parser)
    parser.add_argument("--lfads", nargs="*", default=[], help="further changes where LFADS is fitted")
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        arguments.tasks, arguments.levels, conditions = ["new", PERTURBATION], [10], 5
        arguments.settings = [*SMALL, *arguments.settings]
    if arguments.vlgp is None and "vlgp" in arguments.tasks:
        print("the task 'vlgp' is left out: name its file with --vlgp", flush=True)
        arguments.tasks = [task for task in arguments.tasks if task != "vlgp"]
    rows = [
        row for seed in arguments.seeds for task in arguments.tasks for row in _rows(task, seed, conditions, arguments)
    ]
    report(arguments, rows, lambda: _figure(rows))


def data_of(task: str, *, seed: int, conditions: int = 65, vlgp: Path | None = None) -> xr.Dataset:
    """Simulate a task, or read the file of the task "vlgp"."""
    if task == "vlgp":
        assert vlgp is not None
        return read_vlgp(vlgp, seed=seed)
    if task == PERTURBATION:
        return sb.simulate.perturbation(conditions=conditions, seed=seed)
    speed = float(task.removeprefix("speed")) if task.startswith("speed") else 1.0
    simulated = sb.simulate.Task(
        conditions=conditions, speed=speed, split_by="condition" if task == "new" else "trial", seed=seed
    )
    return simulated.simulate()


def read_vlgp(path: Path, *, seed: int) -> xr.Dataset:
    """The file's trials in bins of ten steps and parts of fifty bins; validation is on whole trials."""
    import h5py

    with h5py.File(path) as file:
        spikes, rates, latents = (file[name][:] for name in ("y", "rate", "x"))
    n_trials, n_steps, n_channels = spikes.shape
    width = STEPS * 0.001
    n_parts = n_steps // STEPS // PART_BINS

    def to_bins(array: np.ndarray) -> np.ndarray:
        return array.reshape(n_trials * n_parts, PART_BINS, STEPS, -1)

    valid = np.random.default_rng(seed).permutation(n_trials)[: n_trials // 5]
    trial = np.repeat(np.arange(n_trials), n_parts)
    start = trial * (n_steps * 0.001 + 1) + np.tile(np.arange(n_parts), n_trials) * PART_BINS * width
    ds = make_dataset(
        to_bins(spikes).sum(2),
        np.ones((n_trials * n_parts, PART_BINS, n_channels), bool),
        bin_width=width,
        kind="units",
        trial_start=start,
        coords={"split": ("trial", np.where(np.isin(trial, valid), "valid", "train")), "condition": ("trial", trial)},
        attrs={"unit": "counts", "session_id": "vlgp"},
    )
    return ds.assign(
        true_rates=(DIMS, (to_bins(rates).sum(2) / width).astype(np.float32)),
        true_latents=(("trial", "time", "latent"), to_bins(latents).mean(2).astype(np.float32)),
    )


def latents_r2(ds: xr.Dataset, factors: np.ndarray) -> float:
    """R² of the true latents of validation trials, decoded linearly from the factors; fitted to the training trials."""
    return _decoding_r2(factors, ds["true_latents"].values, ds["split"].values == "valid")


def kicks_r2(ds: xr.Dataset, inputs: np.ndarray) -> float:
    """R² of the validation trials' kicks decoded linearly from the inferred inputs in the bins around."""
    padded = np.pad(inputs, ((0, 0), (LAG, LAG), (0, 0)))
    around = [padded[:, lag : lag + inputs.shape[1]] for lag in range(2 * LAG + 1)]
    return _decoding_r2(np.concatenate(around, axis=2), ds["true_inputs"].values, ds["split"].values == "valid")


def timing_error(ds: xr.Dataset, inputs: np.ndarray, *, order: np.ndarray | None = None) -> float:
    """Median distance, in ms, of the largest inferred input from the kick of its validation trial.

    `order` gives each trial another's inputs.
    """
    away = (inputs - inputs.mean(0)) / np.maximum(inputs.std((0, 1)), 1e-12)
    largest = ds["time"].values[np.linalg.norm(away, axis=2).argmax(1)]
    if order is not None:
        largest = largest[order]
    error = largest - (ds["kick_time"].values - ds["trial_start"].values)
    valid = ds["split"].values == "valid"
    return float(1000 * np.median(np.abs(error[valid] - np.median(error[~valid]))))


def _decoding_r2(features: np.ndarray, target: np.ndarray, valid: np.ndarray) -> float:
    with_one = np.concatenate([features, np.ones((*features.shape[:2], 1))], axis=2).astype(np.float64)
    flat = with_one[~valid].reshape(-1, with_one.shape[2])
    weights, *_ = np.linalg.lstsq(flat, target[~valid].reshape(-1, target.shape[2]), rcond=None)
    return r2(target[valid], with_one[valid] @ weights)


def _rows(task: str, seed: int, conditions: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    whole = data_of(task, seed=seed, conditions=conditions, vlgp=arguments.vlgp)
    n = whole.sizes["channel"]
    models = {DEFAULT: override(sb.FitConfig(seed=seed), arguments.settings)}
    if task == PERTURBATION:
        # What --set says of the model is of the default one.
        common = [text for text in arguments.settings if not text.startswith("model.")]
        for inputs in arguments.inputs:
            changes = [f"model={{name: lfads, inputs: {inputs}}}", *common, *arguments.lfads]
            models[f"LFADS, inputs {inputs}"] = override(sb.FitConfig(seed=seed), changes)
    rows = []
    for level in arguments.levels:
        k = round(level * n / N)
        ds = observe(whole, k, seed=seed)
        simple = _baselines(ds)
        for name, config in models.items():
            row = {"task": task, "model": name, "observed": k, "of": n, "seed": seed, **_scores(ds, config), **simple}
            print(row, flush=True)
            rows.append(row)
    return rows


def _scores(ds: xr.Dataset, config: sb.FitConfig) -> dict[str, Any]:
    with fitted_to(ds, config) as (fitted, seconds):
        latents = fitted.infer(ds)
        epochs = len(fitted.history)
    valid = ds["split"].values == "valid"
    columns: dict[str, Any] = {
        "R2": r2(ds["true_rates"].values[valid], latents["rates"].values[valid]),
        "R2 latents": latents_r2(ds, latents["factors"].values),
        "timing error": NOTHING,
        "by chance": NOTHING,
        "R2 kicks": NOTHING,
    }
    if "inputs" in latents and latents.sizes["input"] and "true_inputs" in ds:
        inputs = latents["inputs"].values
        shuffled = np.random.default_rng(config.seed).permutation(len(inputs))
        columns |= {
            "timing error": timing_error(ds, inputs),
            "by chance": timing_error(ds, inputs, order=shuffled),
            "R2 kicks": kicks_r2(ds, inputs),
        }
    return {**columns, "epochs": epochs, "CPU-seconds": seconds}


def _baselines(ds: xr.Dataset) -> dict[str, float]:
    valid = ds["split"].values == "valid"
    data = MaskedData(ds["values"].values, ds["observed"].values, ~valid, is_counts=True)
    expected = ds["true_rates"].values[valid] * float(ds.attrs["bin_width"])
    columns = {}
    with threadpool_limits(limits=1, user_api="blas"):
        for column, name in (("Wiener", "low_rank_wiener"), ("smoothing", "masked_smoothing")):
            started = time.process_time()
            columns[column] = r2(expected, predict(name, data).expected[valid])
            columns[f"{column} CPU-seconds"] = time.process_time() - started
    return columns


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(12, 3.6)
    left, middle, right = figure.subplots(1, 3)
    for task, colour in TASKS.items():
        ours = [row for row in rows if row["task"] == task]
        _line(left, ours, "R2", {"color": colour, "marker": "o", "label": task})
        _line(left, ours, "Wiener", {"color": colour, "linestyle": ":", "marker": "s"})
    kicked = [row for row in rows if row["task"] == PERTURBATION]
    for model, colour in zip(
        dict.fromkeys(row["model"] for row in kicked), ("#0072B2", "#D55E00", "#888888"), strict=False
    ):
        ours = [row for row in kicked if row["model"] == model]
        _line(middle, ours, "R2", {"color": colour, "marker": "o", "label": model})
        timed = [row for row in ours if row["timing error"] != NOTHING]
        _line(right, timed, "timing error", {"color": colour, "marker": "o", "label": model})
        _line(right, timed, "by chance", {"color": colour, "linestyle": ":", "marker": "s", "label": "shuffled trials"})
    _line(
        middle,
        [row for row in kicked if row["model"] == DEFAULT],
        "Wiener",
        {"color": "#000000", "linestyle": ":", "marker": "s", "label": "Wiener"},
    )
    left.set(title="Lorenz: fit (solid), Wiener (dotted)", ylabel="R² to true rates (validation)")
    middle.set(title="a kick at an unknown time", ylabel="R² to true rates (validation)")
    right.set(title="time of the kick from inferred inputs", ylabel="median timing error [ms]")
    for axes in (left, middle, right):
        axes.set(xlabel="share of samples dropped")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small")
    for axes in (left, middle):
        axes.set_ylim(max(-0.2, min(0.0, *(row["R2"] for row in rows))), 1.02)
    right.set_ylim(0, 1.1 * right.get_ylim()[1])
    return figure


def _line(axes: Any, rows: list[dict[str, Any]], name: str, style: dict[str, Any]) -> None:
    """Mean over seeds against the share dropped; points are seeds."""
    dropped = sorted({1 - row["observed"] / row["of"] for row in rows})
    values = [[row[name] for row in rows if 1 - row["observed"] / row["of"] == share] for share in dropped]
    if rows:
        axes.plot(dropped, [np.mean(scores) for scores in values], markersize=3.5, **style)
        for share, scores in zip(dropped, values, strict=True):
            if len(scores) > 1:
                axes.plot([share] * len(scores), scores, ".", color=style["color"], alpha=0.4)


if __name__ == "__main__":
    main()
