"""Correlation of events with spikes recorded from the same cells, and estimated decay times compared with the indicator's.

Simultaneous imaging and cell-attached recordings (`CAttached` files of the CASCADE ground truth: ΔF/F, its times, and the
times of the spikes). Fluorescence becomes events by `nwb_sbtt.calcium.find_events`, with one set of settings for all cells.
Events and spikes are compared in bins of 40 ms. `frames` is the correlation if the fluorescence is first averaged to 25
frames per second, an ordinary frame rate; `full rate` if it is deconvolved as recorded and the events are summed; `oasis
alone` is `frames` with the defaults of oasis-deconv. `decay` is the estimated decay time of each cell, within a factor of
`within`, and `known` the mean lifetime of the indicator's response in the literature. With --ladder, `ladder` is the
correlation of the spikes of a ladder, fitted to the frames of each cell alone in trials of 5 s with the name of the
indicator, `ladder's spikes` their number, and `ladder's decay` and `gain` its decay time and spike amplitude.

    python benchmarks/spike_inference.py --data ../shared/realdata/spike_ground_truth --json spikes.json --figure spikes.png
    python benchmarks/spike_inference.py --small
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from machine import canvas, options, report, show_medians
from matplotlib.figure import Figure
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.calcium.decay import response
from nwb_sbtt.calcium.indicators import INDICATORS, indicator_of
from nwb_sbtt.config import LadderConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import FileError
from nwb_sbtt.train.trackers import Silent

Floats = NDArray[np.float64]

RATE = 25.0
"""Bins per second in which events and spikes are compared."""
LADDER_BINS, LADDER_EPOCHS = 125, 5
"""Bins of a trial, and epochs; the rates of one cell converge early."""
STORED = 1e-4
"""Seconds in a unit of the stored spike times."""


@dataclass(frozen=True)
class Cell:
    """ΔF/F at evenly spaced times, and times of spikes [s]."""

    name: str
    indicator: str
    times: Floats
    values: Floats
    spikes: Floats

    @property
    def full_rate(self) -> float:
        """Samples per second."""
        return 1 / float(np.median(np.diff(self.times)))

    def counts(self, n_bins: int) -> Floats:
        """Spikes in bins of 1/25 s from the first sample on."""
        indices = np.floor((self.spikes - self.times[0]) * RATE).astype(int)
        return np.bincount(indices[(indices >= 0) & (indices < n_bins)], minlength=n_bins).astype(float)


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Deconvolve every cell and print the table."""
    parser = options(__doc__, small="one generated cell a seed instead of recorded ones")
    parser.add_argument("--data", type=Path, default=Path("../shared/realdata/spike_ground_truth"))
    parser.add_argument("--threshold", type=float, default=0.0, help="least size of events, in sds of the noise")
    parser.add_argument("--ladder", action="store_true", help="fit a ladder to each cell, half a minute each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the generated cells")
    arguments = parser.parse_args(argv)
    config = sb.config.EventsConfig(threshold=arguments.threshold)
    cells = [_generated(seed) for seed in arguments.seeds] if arguments.small else list(_recorded(arguments.data))
    rows = [_score(cell, config) | (_by_ladder(cell) if arguments.ladder else {}) for cell in cells]
    report(arguments, rows, lambda: _figure(cells, rows, config))
    show_medians(rows, ("frames", "full rate", "oasis alone", *(["ladder"] if arguments.ladder else [])))
    return rows


def _recorded(folder: Path) -> Iterator[Cell]:
    from scipy.io import loadmat

    paths = sorted(folder.glob("*/CAttached*.mat"))
    if not paths:
        raise FileError(f"{str(folder)!r} holds no DS*/CAttached*.mat; name the folder of the ground truth with --data")
    for path in paths:
        stored = np.atleast_1d(loadmat(path, squeeze_me=True, struct_as_record=False)["CAttached"])
        name = re.sub(r"CAttached_|Allen_|_neuropil_subtracted|_mini", "", path.stem)
        for i, record in enumerate(stored):
            times, values, spikes = (
                np.asarray(getattr(record, field), dtype=float) for field in ("fluo_time", "fluo_mean", "events_AP")
            )
            label = f"{name}.{i + 1}" if len(stored) > 1 else name
            yield Cell(label, indicator_of(path.parent.name).name, times, values, spikes * STORED)


def _generated(seed: int) -> Cell:
    """Two minutes at 100 Hz: spikes in bursts, GCaMP6f's mean response, noise of a third of it."""
    rng = np.random.default_rng(seed)
    times = np.arange(12_000) / 100
    drive = np.repeat(rng.gamma(0.3, 1 / 0.3, 240), 50)
    counts = rng.poisson(0.5 * drive / 100)
    known = INDICATORS["GCaMP6f"]
    light = np.convolve(counts, response(known.decay * 100, known.rise * 100, n=1000))[: len(times)]
    spikes = np.repeat(times, counts) + rng.uniform(0, 0.01, counts.sum())
    return Cell(f"generated {seed}", known.name, times, 0.3 * light + rng.normal(0, 0.1, len(times)), np.sort(spikes))


def _score(cell: Cell, config: sb.config.EventsConfig) -> dict[str, Any]:
    from oasis.functions import deconvolve

    frames = _frames(cell)
    events = sb.calcium.find_events(_dataset(frames, RATE, cell.indicator), config)
    counts, sizes = cell.counts(len(frames)), events["values"].values[0, :, 0]
    fine = sb.calcium.find_events(_dataset(cell.values, cell.full_rate, cell.indicator), config)["values"].values[
        0, :, 0
    ]
    indices = np.floor((cell.times - cell.times[0]) * RATE + 1e-9).astype(int)
    summed = np.bincount(indices, fine, minlength=len(frames))[: len(frames)]
    known = INDICATORS[cell.indicator]
    return {
        "indicator": cell.indicator,
        "cell": cell.name,
        "spikes": len(cell.spikes),
        "noise": _noise_level(frames),
        "decay": float(events["decay"].values[0]),
        "within": float(np.exp(events["decay_log_sd"].values[0])),
        "known": known.decay,
        "frames": correlation(sizes, counts),
        "full rate": correlation(summed.astype(float), counts),
        "oasis alone": correlation(deconvolve(frames).s, counts),
    }


def _by_ladder(cell: Cell) -> dict[str, float]:
    frames = _frames(cell)
    n_trials = len(frames) // LADDER_BINS
    values_3d = frames[: n_trials * LADDER_BINS].reshape(n_trials, LADDER_BINS, 1)
    attrs = {"unit": "dF/F", "signal": "dF/F"}
    ds = make_dataset(values_3d, np.ones(values_3d.shape, bool), bin_width=1 / RATE, kind="rois", attrs=attrs)
    config = sb.FitConfig(
        model=LadderConfig(indicator=cell.indicator), train=sb.config.TrainConfig(epochs=LADDER_EPOCHS)
    )
    with tempfile.TemporaryDirectory() as folder:
        latents = sb.fit(ds, config, run_dir=Path(folder) / "run", tracker=Silent()).infer(ds)
    spikes = latents["events"].values.ravel()
    return {
        "ladder": correlation(spikes, cell.counts(len(frames))[: len(spikes)]),
        "ladder's spikes": float(spikes.sum()),
        "ladder's decay": float(latents["decay"].values[0]),
        "gain": float(latents["gain"].values[0]),
    }


def _frames(cell: Cell) -> Floats:
    """Mean of the samples in bins of 40 ms."""
    indices = np.floor((cell.times - cell.times[0]) * RATE + 1e-9).astype(int)
    return np.asarray(np.bincount(indices, cell.values)[:-1] / np.bincount(indices)[:-1])


def _dataset(values: Floats, rate: float, indicator: str) -> xr.Dataset:
    array = values.reshape(1, -1, 1)
    attrs = {"unit": "dF/F", "signal": "dF/F", "indicator": indicator}
    return make_dataset(array, np.ones(array.shape, bool), bin_width=1 / rate, kind="rois", attrs=attrs)


def _noise_level(frames: Floats) -> float:
    """Median change between frames over the root of their rate, in per cent of ΔF/F, as CASCADE measures noise."""
    return float(100 * np.median(np.abs(np.diff(frames))) / np.sqrt(RATE))


def correlation(first: Floats, second: Floats) -> float:
    """Pearson correlation; 0 if one of them is all zeros."""
    return float(np.corrcoef(first, second)[0, 1]) if first.any() and second.any() else 0.0


def _figure(cells: list[Cell], rows: list[dict[str, Any]], config: sb.config.EventsConfig) -> Figure:
    figure = canvas(9, 6.4)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    top, bottom = halves
    best = int(np.argsort([row["frames"] for row in rows])[len(rows) // 2])
    cell, frames = cells[best], _frames(cells[best])
    events = sb.calcium.find_events(_dataset(frames, RATE, cell.indicator), config)
    traces, marks = top.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    busiest = int(np.argmax(np.convolve(cell.counts(len(frames)), np.ones(int(20 * RATE)), mode="valid")))
    window = slice(busiest, busiest + int(20 * RATE))
    time = np.arange(len(frames))[window] / RATE
    traces.plot(time, frames[window], color="#999999", lw=0.8, label="ΔF/F")
    traces.plot(time, events["denoised"].values[0, window, 0], color="#0072B2", lw=1.2, label="from the events")
    traces.set(ylabel="ΔF/F", title=f"{rows[best]['indicator']}, {cell.name}: the median cell of {len(rows)}")
    traces.legend(frameon=False, ncols=2, loc="upper right")
    sizes = events["values"].values[0, window, 0]
    marks.vlines(time, 0, sizes / sizes.max(), color="#0072B2", lw=1)
    inside = cell.spikes - cell.times[0]
    marks.plot(inside, np.full(len(inside), -0.25), "|", color="black", ms=7)
    marks.set(xlim=(time[0], time[-1]), xlabel="time [s]", yticks=[-0.25, 0.5], yticklabels=["spikes", "events"])
    scores, decays = bottom.subplots(1, 2)
    position = np.arange(len(rows))
    for name, colour, marker in (
        ("full rate", "#009E73", "^"),
        ("frames", "#0072B2", "o"),
        ("oasis alone", "#999999", "x"),
        ("ladder", "#D55E00", "D"),
    ):
        if name in rows[0]:
            scores.plot([row[name] for row in rows], position, marker, color=colour, label=name)
    labels = [f"{row['indicator']} · {row['spikes']} spikes" for row in rows]
    scores.set(yticks=position, yticklabels=labels, xlim=(0, 1), xlabel="correlation with spikes, 40 ms bins")
    scores.invert_yaxis()
    scores.legend(frameon=False, loc="lower left", fontsize=8)
    decay, within = (np.array([row[name] for row in rows]) for name in ("decay", "within"))
    errors = np.stack([decay - decay / within, decay * within - decay])
    decays.errorbar(decay, position, xerr=errors, fmt="o", color="#0072B2", label="estimated, ±1 sd")
    decays.plot([row["known"] for row in rows], position, "|", color="black", ms=14, label="of the indicator")
    if "ladder" in rows[0]:
        decays.plot([row["ladder's decay"] for row in rows], position, "D", color="#D55E00", label="of the ladder")
    ticks = [0.2, 0.5, 1, 2]
    decays.set(xscale="log", xlabel="decay [s]", yticks=[], xticks=ticks, xticklabels=ticks)
    decays.minorticks_off()
    decays.invert_yaxis()
    decays.legend(frameon=False, fontsize=8, loc="upper right")
    for axes in (traces, marks, scores, decays):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
