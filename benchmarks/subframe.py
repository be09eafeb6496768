"""How much each cell's sampling time within the frame adds: latents that oscillate nearly as fast as the frame rate allows.

The synthetic task of RADICaL (Zhu et al. 2022), simulated again: 278 cells of a Lorenz system whose z oscillates at about 7
Hz, 32 conditions × 30 trials, frames of 30 ms; a third of the cells each is sampled in the first, second and third 10 ms of
a frame. Events are found once, by OASIS with the true decay time unless `--events` changes it; all rows but the ladder have
the same events, the same model and the same number of steps:

* `sub-frame`: each sample in the 10 ms bin of its cell's sampling time, all other bins missing;
* `ladder`: the same bins, but a ladder on the fluorescence itself, which estimates decay times and infers spikes;
* `no offsets`: the same bins, but every sample in the middle bin of its frame, as if all cells were sampled then;
* `frame rate`: bins of 30 ms, all observed; factors are interpolated to 10 ms by cubic splines;
* `smoothed events`: no model; events smoothed at their sampling times, with the width that is best on the training trials;
* `smoothed, no offsets`: the same with events in the middle bin of their frame.

X, Y and Z are decoded by ridge regression (1e-6, with an offset) from the model's factors, fitted to the training trials. R²
is 1 − SSE/SST on the fifth of the trials that is held for validation, as in the published tutorial. Events are found in the
whole recording before it is divided into trials of 600 ms.

    python benchmarks/subframe.py --frequencies 3 5 7 10 15 --json subframe.json --figure subframe.png
    python benchmarks/subframe.py --small
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from machine import canvas, options, report, save
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

import nwb_sbtt as sb
from nwb_sbtt.config import LadderConfig, override
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.simulate.calcium import Imaging, calcium, subframe
from nwb_sbtt.train.trackers import Silent

Floats = NDArray[np.float64]

PUBLISHED = {"X": 0.970, "Y": 0.944, "Z": 0.899}
"""RADICaL's tutorial, z at 7 Hz, on its own data."""
LADDER = "ladder"
DECAY = Imaging().decay_time
RIDGE = 1e-6
WIDTHS = (5, 7, 10, 14, 20, 30, 40, 60)
"""Sds of the Gaussians tried, in milliseconds."""


def main() -> None:
    """Fit each model at each frequency and print the table."""
    parser = options(__doc__, small="60 cells, 160 trials, a few steps, a model and smoothing")
    parser.add_argument("--frequencies", type=float, nargs="+", default=[7.0], help="of z [Hz]")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--cells", type=int, default=278)
    parser.add_argument("--noise", type=float, default=0.3, help="of the fluorescence, in units of a spike")
    parser.add_argument("--split", choices=["trial", "condition"], default="trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data and models")
    parser.add_argument(
        "--events",
        nargs="*",
        default=[f"decay_time={DECAY}"],
        help="settings of event finding; with none, the decay time of each cell is estimated",
    )
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="changes of the defaults, a.b=value")
    arguments = parser.parse_args()
    sizes = {"conditions": 32, "trials_per_condition": 30}
    if arguments.small:
        arguments.models = ["sub-frame", "smoothed events", "smoothed, no offsets"]
        arguments.frequencies, arguments.cells, sizes = [15.0], 60, {"conditions": 8, "trials_per_condition": 20}
        arguments.settings = ["train.epochs=8", *arguments.settings]
    rows = []
    for seed in arguments.seeds:
        for frequency in arguments.frequencies:
            imaging = subframe(frequency=frequency, noise_sd=arguments.noise)
            ds = calcium(n_channels=arguments.cells, seed=seed, split_by=arguments.split, imaging=imaging, **sizes)
            light = _trials(ds, imaging)
            events = _trials(sb.calcium.find_events(ds, override(sb.config.EventsConfig(), arguments.events)), imaging)
            for model in arguments.models:
                config = override(sb.FitConfig(seed=seed), arguments.settings)
                scores = _scores(light if model == LADDER else events, imaging, model, config)
                rows.append({"model": model, "frequency": frequency, "seed": seed, **scores})
                print(rows[-1], flush=True)
                save(arguments.json, vars(arguments), rows)
    report(arguments, rows, lambda: _figure(rows))


def _trials(events: xr.Dataset, imaging: Imaging) -> xr.Dataset:
    """Remove the bins before each trial."""
    values, observed, latents = (
        events[name].values[:, imaging.lead_bins :] for name in ("values", "observed", "true_latents")
    )
    trials = _like(events, values, observed, bin_width=imaging.bin_width)
    return trials.assign(true_latents=(("trial", "time", "latent"), latents))


def _subframe(events: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    return _factors(events, config)


def _ladder(light: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    return _factors(light, config.model_copy(update={"model": LadderConfig()}))


def _no_offsets(events: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    return _factors(_moved_to_frame(events, imaging), config)


def _frame_rate(events: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    values, observed = _by_frame(events, imaging)
    factors = _factors(_like(events, values, observed, bin_width=imaging.bins_per_frame * imaging.bin_width), config)
    middles = np.arange(factors.shape[1]) * imaging.bins_per_frame + (imaging.bins_per_frame - 1) / 2
    return np.asarray(CubicSpline(middles, factors, axis=1)(np.arange(events.sizes["time"])))


def _smoothed(events: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    observed, train = events["observed"].values.astype(float), events["split"].values == "train"
    fifth = np.arange(train.sum()) % 5 == 0
    truth = events["true_latents"].values[train]

    def smooth(milliseconds: float) -> Floats:
        sd = milliseconds / 1000 / imaging.bin_width
        above, below = (
            gaussian_filter1d(array, sd, axis=1, mode="constant", truncate=6)
            for array in (events["values"].values.astype(float), observed)
        )
        return np.asarray(above / np.maximum(below, 1e-12))

    def score(milliseconds: float) -> float:
        features = smooth(milliseconds)[train]
        return float(_explained(features[~fifth], truth[~fifth], features[fifth], truth[fifth]).mean())

    return smooth(max(WIDTHS, key=score))


def _smoothed_moved_to_frame(events: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    moved_events = _moved_to_frame(events, imaging)
    return _smoothed(moved_events.assign(true_latents=events["true_latents"]), imaging, config)


MODELS = {
    "sub-frame": _subframe,
    LADDER: _ladder,
    "no offsets": _no_offsets,
    "frame rate": _frame_rate,
    "smoothed events": _smoothed,
    "smoothed, no offsets": _smoothed_moved_to_frame,
}
"""Functions that compute features (trial, time, feature) in the bins of the true latents."""


def _moved_to_frame(events: xr.Dataset, imaging: Imaging) -> xr.Dataset:
    """All samples of a frame in its middle bin."""
    values, is_sampled = _by_frame(events, imaging)
    shape, middle = events["values"].shape, slice(imaging.bins_per_frame // 2, None, imaging.bins_per_frame)
    moved, observed = np.zeros(shape, np.float32), np.zeros(shape, bool)
    moved[:, middle], observed[:, middle] = values, is_sampled
    return _like(events, moved, observed, bin_width=imaging.bin_width)


def _by_frame(events: xr.Dataset, imaging: Imaging) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sizes of events (trial, frame, cell), and which of them are observed."""
    _, n_bins, n_cells = events["values"].shape
    phase = np.round(events["sampling_offset"].values / imaging.bin_width).astype(int)
    bins = np.arange(0, n_bins, imaging.bins_per_frame)[:, None] + phase
    cells = np.arange(n_cells)
    return events["values"].values[:, bins, cells], events["observed"].values[:, bins, cells]


def _like(
    events: xr.Dataset, values: NDArray[np.float32], observed: NDArray[np.bool_], *, bin_width: float
) -> xr.Dataset:
    """The same trials and cells with other bins."""
    return make_dataset(
        values,
        observed,
        bin_width=bin_width,
        kind="rois",
        channel_id=events["channel_id"].values,
        trial_start=events["trial_start"].values,
        coords={
            "split": ("trial", events["split"].values),
            "sampling_offset": ("channel", events["sampling_offset"].values),
        },
        attrs={name: events.attrs[name] for name in ("unit", "signal", "signal_reason")},
    )


def _factors(data: xr.Dataset, config: sb.FitConfig) -> Floats:
    with tempfile.TemporaryDirectory() as folder:
        fitted = sb.fit(data, config, run_dir=Path(folder) / "run", tracker=Silent())
        return np.asarray(fitted.infer(data)["factors"].values, dtype=float)


def _scores(events: xr.Dataset, imaging: Imaging, model: str, config: sb.FitConfig) -> dict[str, Any]:
    started = time.process_time()
    features = MODELS[model](events, imaging, config)
    seconds = time.process_time() - started
    truth, valid = events["true_latents"].values, events["split"].values == "valid"
    explained = _explained(features[~valid], truth[~valid], features[valid], truth[valid])
    return {**dict(zip(PUBLISHED, explained.tolist(), strict=True)), "CPU-seconds": seconds}


def _explained(train: Floats, train_truth: Floats, test: Floats, test_truth: Floats) -> Floats:
    """R² of each latent (trial, time, latent) of test trials, by ridge regression on features fitted to training trials."""
    flat = [array.reshape(-1, array.shape[-1]).astype(float) for array in (train, train_truth, test, test_truth)]
    centre, middle = flat[0].mean(0), flat[1].mean(0)
    left, right = flat[0] - centre, flat[1] - middle
    weights = np.linalg.solve(left.T @ left + RIDGE * np.eye(left.shape[1]), left.T @ right)
    error = flat[3] - middle - (flat[2] - centre) @ weights
    return np.asarray(1 - (error**2).sum(0) / ((flat[3] - flat[3].mean(0)) ** 2).sum(0))


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(5.5, 3.5)
    axes = figure.subplots()
    frequencies = sorted({row["frequency"] for row in rows})
    for model, colour in zip(MODELS, ("#0072B2", "#CC79A7", "#D55E00", "#009E73", "#666666", "#BBBBBB"), strict=True):
        model_rows = [row for row in rows if row["model"] == model]
        if not model_rows:
            continue
        levels = sorted({row["frequency"] for row in model_rows})
        means = [np.mean([row["Z"] for row in model_rows if row["frequency"] == level]) for level in levels]
        axes.plot(levels, means, "-", color=colour, label=model)
        axes.plot([row["frequency"] for row in model_rows], [row["Z"] for row in model_rows], "o", ms=4, color=colour)
    axes.plot(7, PUBLISHED["Z"], "k*", ms=9, label="RADICaL, published\n(its own data)")
    axes.axvline(100 / 6, color="#999999", lw=0.8, ls=":")
    axes.text(100 / 6, 0.02, "half the frame rate ", ha="right", fontsize=8, color="#666666")
    axes.set(xlabel="frequency of Z [Hz]", ylabel="R² of Z (test trials)", ylim=(0, 1), xticks=frequencies)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
