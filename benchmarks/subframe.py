"""What each cell's own moment within the frame is worth: latents that turn faster than frames follow, from fluorescence.

The synthetic task of RADICaL (Zhu et al. 2022), generated anew: 278 cells of a Lorenz system whose z turns some 7 times a
second, 32 conditions × 30 trials, frames of 30 ms, in whose first, second and third 10 ms a third of the cells each is sampled.
Events are found once, by OASIS, which is told the decay unless `--events` says otherwise; all rows but the ladder have the same
ones, the same model and the same number of steps:

* `sub-frame`: each sample in the 10 ms bin of its cell's moment, all other bins unobserved;
* `ladder`: the same bins, but a ladder from the fluorescence itself, which is told no decay and finds its own spikes;
* `no offsets`: the same bins, but every sample in the middle one of its frame, as if all cells were sampled then;
* `frame rate`: bins of 30 ms, all observed; what the model says is interpolated to 10 ms by cubic splines;
* `smoothed events`: no model; a Gaussian over the events at their own moments, of the width that suits the training trials;
* `smoothed, no offsets`: the same of events in the middle bin of their frame.

X, Y and Z by ridge (1e-6, with an offset) from the model's factors, fitted on the training trials. R² is 1 − SSE/SST on the
fifth of the trials that models are compared on, as in the published tutorial. Events are found in all that was recorded, and
trials of 600 ms are cut out then.

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
"""RADICaL's tutorial, z turning 7 times a second, on its own data."""
LADDER = "ladder"
DECAY = Imaging().decay_time
RIDGE = 1e-6
WIDTHS = (5, 7, 10, 14, 20, 30, 40, 60)
"""Sds of the Gaussians tried, in milliseconds."""


def main() -> None:
    """Fit each model at each frequency and print the table."""
    arguments = options(__doc__, small="60 cells, 160 trials, a few steps, a model and smoothing")
    arguments.add_argument("--frequencies", type=float, nargs="+", default=[7.0], help="of z, in turns a second")
    arguments.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    arguments.add_argument("--cells", type=int, default=278)
    arguments.add_argument("--noise", type=float, default=0.3, help="of the fluorescence, in units of a spike")
    arguments.add_argument("--split", choices=["trial", "condition"], default="trial")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data and models")
    arguments.add_argument(
        "--events",
        nargs="*",
        default=[f"decay_time={DECAY}"],
        help="settings of finding events; with none each decay is fitted",
    )
    arguments.add_argument("--set", nargs="*", default=[], dest="settings", help="changes of the defaults, a.b=value")
    asked = arguments.parse_args()
    sizes = {"conditions": 32, "trials_per_condition": 30}
    if asked.small:
        asked.models = ["sub-frame", "smoothed events", "smoothed, no offsets"]
        asked.frequencies, asked.cells, sizes = [15.0], 60, {"conditions": 8, "trials_per_condition": 20}
        asked.settings = ["train.epochs=8", *asked.settings]
    rows = []
    for seed in asked.seeds:
        for frequency in asked.frequencies:
            imaging = subframe(frequency=frequency, noise_sd=asked.noise)
            ds = calcium(n_channels=asked.cells, seed=seed, split_by=asked.split, imaging=imaging, **sizes)
            light = _trials(ds, imaging)
            found = _trials(sb.calcium.find_events(ds, override(sb.config.EventsConfig(), asked.events)), imaging)
            for model in asked.models:
                config = override(sb.FitConfig(seed=seed), asked.settings)
                scores = _scores(light if model == LADDER else found, imaging, model, config)
                rows.append({"model": model, "frequency": frequency, "seed": seed, **scores})
                print(rows[-1], flush=True)
                save(asked.json, vars(asked), rows)
    report(asked, rows, lambda: _figure(rows))


def _trials(found: xr.Dataset, imaging: Imaging) -> xr.Dataset:
    """Cut the lead off."""
    values, observed, latents = (
        found[name].values[:, imaging.lead_bins :] for name in ("values", "observed", "true_latents")
    )
    cut = _like(found, values, observed, bin_width=imaging.bin_width)
    return cut.assign(true_latents=(("trial", "time", "latent"), latents))


def _subframe(found: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    return _factors(found, config)


def _ladder(light: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    return _factors(light, config.model_copy(update={"model": LadderConfig()}))


def _no_offsets(found: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    return _factors(_together(found, imaging), config)


def _frame_rate(found: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    values, known = _framed(found, imaging)
    factors = _factors(_like(found, values, known, bin_width=imaging.bins_per_frame * imaging.bin_width), config)
    middles = np.arange(factors.shape[1]) * imaging.bins_per_frame + (imaging.bins_per_frame - 1) / 2
    return np.asarray(CubicSpline(middles, factors, axis=1)(np.arange(found.sizes["time"])))


def _smoothed(found: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    observed, train = found["observed"].values.astype(float), found["split"].values == "train"
    fifth = np.arange(train.sum()) % 5 == 0
    truth = found["true_latents"].values[train]

    def smooth(milliseconds: float) -> Floats:
        sd = milliseconds / 1000 / imaging.bin_width
        above, below = (
            gaussian_filter1d(each, sd, axis=1, mode="constant", truncate=6)
            for each in (found["values"].values.astype(float), observed)
        )
        return np.asarray(above / np.maximum(below, 1e-12))

    def score(milliseconds: float) -> float:
        features = smooth(milliseconds)[train]
        return float(_explained(features[~fifth], truth[~fifth], features[fifth], truth[fifth]).mean())

    return smooth(max(WIDTHS, key=score))


def _smoothed_together(found: xr.Dataset, imaging: Imaging, config: sb.FitConfig) -> Floats:
    together = _together(found, imaging)
    return _smoothed(together.assign(true_latents=found["true_latents"]), imaging, config)


MODELS = {
    "sub-frame": _subframe,
    LADDER: _ladder,
    "no offsets": _no_offsets,
    "frame rate": _frame_rate,
    "smoothed events": _smoothed,
    "smoothed, no offsets": _smoothed_together,
}
"""Each gives features (trial, time, feature) in the bins of the truth."""


def _together(found: xr.Dataset, imaging: Imaging) -> xr.Dataset:
    """All samples of a frame in its middle bin."""
    values, known = _framed(found, imaging)
    shape, middle = found["values"].shape, slice(imaging.bins_per_frame // 2, None, imaging.bins_per_frame)
    box, observed = np.zeros(shape, np.float32), np.zeros(shape, bool)
    box[:, middle], observed[:, middle] = values, known
    return _like(found, box, observed, bin_width=imaging.bin_width)


def _framed(found: xr.Dataset, imaging: Imaging) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sizes of events (trial, frame, cell), and which of them are known."""
    _, n_bins, n_cells = found["values"].shape
    phase = np.round(found["sampling_offset"].values / imaging.bin_width).astype(int)
    bins = np.arange(0, n_bins, imaging.bins_per_frame)[:, None] + phase
    cells = np.arange(n_cells)
    return found["values"].values[:, bins, cells], found["observed"].values[:, bins, cells]


def _like(
    found: xr.Dataset, values: NDArray[np.float32], observed: NDArray[np.bool_], *, bin_width: float
) -> xr.Dataset:
    """The same trials and cells with other bins."""
    return make_dataset(
        values,
        observed,
        bin_width=bin_width,
        kind="rois",
        channel_id=found["channel_id"].values,
        trial_start=found["trial_start"].values,
        coords={
            "split": ("trial", found["split"].values),
            "sampling_offset": ("channel", found["sampling_offset"].values),
        },
        attrs={name: found.attrs[name] for name in ("unit", "signal", "signal_reason")},
    )


def _factors(data: xr.Dataset, config: sb.FitConfig) -> Floats:
    with tempfile.TemporaryDirectory() as folder:
        fitted = sb.fit(data, config, run_dir=Path(folder) / "run", tracker=Silent())
        return np.asarray(fitted.infer(data)["factors"].values, dtype=float)


def _scores(found: xr.Dataset, imaging: Imaging, model: str, config: sb.FitConfig) -> dict[str, Any]:
    started = time.process_time()
    features = MODELS[model](found, imaging, config)
    seconds = time.process_time() - started
    truth, valid = found["true_latents"].values, found["split"].values == "valid"
    explained = _explained(features[~valid], truth[~valid], features[valid], truth[valid])
    return {**dict(zip(PUBLISHED, explained.tolist(), strict=True)), "CPU-seconds": seconds}


def _explained(seen: Floats, of_seen: Floats, new: Floats, of_new: Floats) -> Floats:
    """R² of each latent (trial, time, latent) by ridge from features of other trials."""
    flat = [each.reshape(-1, each.shape[-1]).astype(float) for each in (seen, of_seen, new, of_new)]
    centre, middle = flat[0].mean(0), flat[1].mean(0)
    left, right = flat[0] - centre, flat[1] - middle
    weights = np.linalg.solve(left.T @ left + RIDGE * np.eye(left.shape[1]), left.T @ right)
    missed = flat[3] - middle - (flat[2] - centre) @ weights
    return np.asarray(1 - (missed**2).sum(0) / ((flat[3] - flat[3].mean(0)) ** 2).sum(0))


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(5.5, 3.5)
    axes = figure.subplots()
    frequencies = sorted({row["frequency"] for row in rows})
    for model, colour in zip(MODELS, ("#0072B2", "#CC79A7", "#D55E00", "#009E73", "#666666", "#BBBBBB"), strict=True):
        of = [row for row in rows if row["model"] == model]
        if not of:
            continue
        own = sorted({row["frequency"] for row in of})
        means = [np.mean([row["Z"] for row in of if row["frequency"] == each]) for each in own]
        axes.plot(own, means, "-", color=colour, label=model)
        axes.plot([row["frequency"] for row in of], [row["Z"] for row in of], "o", ms=4, color=colour)
    axes.plot(7, PUBLISHED["Z"], "k*", ms=9, label="RADICaL, published\n(its own data)")
    axes.axvline(100 / 6, color="#999999", lw=0.8, ls=":")
    axes.text(100 / 6, 0.02, "half the frame rate ", ha="right", fontsize=8, color="#666666")
    axes.set(xlabel="turns of Z a second", ylabel="R² of Z (test trials)", ylim=(0, 1), xticks=frequencies)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
