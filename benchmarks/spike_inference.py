"""Correlation of events with spikes that were recorded from the same cells, and the decay found against the indicator's.

Simultaneous imaging and cell-attached recordings (`CAttached` files of the CASCADE ground truth: ΔF/F, its times, and the times
of the spikes). Fluorescence becomes events by `nwb_sbtt.calcium.find_events`, with one set of settings for all cells,
and events and spikes
are compared in bins of 40 ms. `frames` is the correlation where the fluorescence was averaged to 25 frames a second first, as
an ordinary microscope has it; `full rate` where it was deconvolved as recorded and the events were summed; `oasis alone` is
the former by oasis-deconv's own defaults. `decay` is what was found for each cell, give or take a factor of `within`, and
`known` the mean lifetime of the indicator's response in the literature. With --ladder, `ladder` is the correlation of the
spikes that a ladder finds, fitted to the frames of each cell alone in trials of five seconds, told the indicator's name and no
more, `ladder's spikes` how many of these there are, and `ladder's decay` and `gain` its decay and size of a spike.

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
"""Bins of a trial, and epochs; one cell's rates are soon as good as they get."""
STORED = 1e-4
"""Seconds in a unit of the stored spike times."""


@dataclass(frozen=True)
class Cell:
    """ΔF/F at evenly spaced moments, and moments of spikes, in seconds."""

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
        places = np.floor((self.spikes - self.times[0]) * RATE).astype(int)
        return np.bincount(places[(places >= 0) & (places < n_bins)], minlength=n_bins).astype(float)


def main(given: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Deconvolve every cell and print the table."""
    arguments = options(__doc__, small="one generated cell a seed instead of recorded ones")
    arguments.add_argument("--data", type=Path, default=Path("../shared/realdata/spike_ground_truth"))
    arguments.add_argument("--threshold", type=float, default=0.0, help="least size of events, in sds of the noise")
    arguments.add_argument("--ladder", action="store_true", help="fit a ladder to each cell, half a minute each")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the generated cells")
    asked = arguments.parse_args(given)
    config = sb.config.EventsConfig(threshold=asked.threshold)
    cells = [_generated(seed) for seed in asked.seeds] if asked.small else list(_recorded(asked.data))
    rows = [_score(cell, config) | (_by_ladder(cell) if asked.ladder else {}) for cell in cells]
    report(asked, rows, lambda: _figure(cells, rows, config))
    show_medians(rows, ("frames", "full rate", "oasis alone", *(["ladder"] if asked.ladder else [])))
    return rows


def _recorded(folder: Path) -> Iterator[Cell]:
    from scipy.io import loadmat

    paths = sorted(folder.glob("*/CAttached*.mat"))
    if not paths:
        raise FileError(f"{str(folder)!r} holds no DS*/CAttached*.mat; name the folder of the ground truth with --data")
    for path in paths:
        stored = np.atleast_1d(loadmat(path, squeeze_me=True, struct_as_record=False)["CAttached"])
        name = re.sub(r"CAttached_|Allen_|_neuropil_subtracted|_mini", "", path.stem)
        for i, one in enumerate(stored):
            times, values, spikes = (
                np.asarray(getattr(one, field), dtype=float) for field in ("fluo_time", "fluo_mean", "events_AP")
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
    found = sb.calcium.find_events(_dataset(frames, RATE, cell.indicator), config)
    counts, sizes = cell.counts(len(frames)), found["values"].values[0, :, 0]
    fine = sb.calcium.find_events(_dataset(cell.values, cell.full_rate, cell.indicator), config)["values"].values[
        0, :, 0
    ]
    places = np.floor((cell.times - cell.times[0]) * RATE + 1e-9).astype(int)
    summed = np.bincount(places, fine, minlength=len(frames))[: len(frames)]
    known = INDICATORS[cell.indicator]
    return {
        "indicator": cell.indicator,
        "cell": cell.name,
        "spikes": len(cell.spikes),
        "noise": _noise_level(frames),
        "decay": float(found["decay"].values[0]),
        "within": float(np.exp(found["decay_log_sd"].values[0])),
        "known": known.decay,
        "frames": correlation(sizes, counts),
        "full rate": correlation(summed.astype(float), counts),
        "oasis alone": correlation(deconvolve(frames).s, counts),
    }


def _by_ladder(cell: Cell) -> dict[str, float]:
    frames = _frames(cell)
    n_trials = len(frames) // LADDER_BINS
    box = frames[: n_trials * LADDER_BINS].reshape(n_trials, LADDER_BINS, 1)
    attrs = {"unit": "dF/F", "signal": "dF/F"}
    ds = make_dataset(box, np.ones(box.shape, bool), bin_width=1 / RATE, kind="rois", attrs=attrs)
    config = sb.FitConfig(
        model=LadderConfig(indicator=cell.indicator), train=sb.config.TrainConfig(epochs=LADDER_EPOCHS)
    )
    with tempfile.TemporaryDirectory() as folder:
        found = sb.fit(ds, config, run_dir=Path(folder) / "run", tracker=Silent()).infer(ds)
    spikes = found["events"].values.ravel()
    return {
        "ladder": correlation(spikes, cell.counts(len(frames))[: len(spikes)]),
        "ladder's spikes": float(spikes.sum()),
        "ladder's decay": float(found["decay"].values[0]),
        "gain": float(found["gain"].values[0]),
    }


def _frames(cell: Cell) -> Floats:
    """Mean of the samples in each 25th of a second."""
    places = np.floor((cell.times - cell.times[0]) * RATE + 1e-9).astype(int)
    return np.asarray(np.bincount(places, cell.values)[:-1] / np.bincount(places)[:-1])


def _dataset(values: Floats, rate: float, indicator: str) -> xr.Dataset:
    box = values.reshape(1, -1, 1)
    attrs = {"unit": "dF/F", "signal": "dF/F", "indicator": indicator}
    return make_dataset(box, np.ones(box.shape, bool), bin_width=1 / rate, kind="rois", attrs=attrs)


def _noise_level(frames: Floats) -> float:
    """Median change between frames over the root of their rate, in per cent of ΔF/F, as CASCADE measures noise."""
    return float(100 * np.median(np.abs(np.diff(frames))) / np.sqrt(RATE))


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's, and 0 where nothing was found or is to be found."""
    return float(np.corrcoef(one, other)[0, 1]) if one.any() and other.any() else 0.0


def _figure(cells: list[Cell], rows: list[dict[str, Any]], config: sb.config.EventsConfig) -> Figure:
    figure = canvas(9, 6.4)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    top, bottom = halves
    best = int(np.argsort([row["frames"] for row in rows])[len(rows) // 2])
    cell, frames = cells[best], _frames(cells[best])
    found = sb.calcium.find_events(_dataset(frames, RATE, cell.indicator), config)
    traces, marks = top.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    busiest = int(np.argmax(np.convolve(cell.counts(len(frames)), np.ones(int(20 * RATE)), mode="valid")))
    window = slice(busiest, busiest + int(20 * RATE))
    time = np.arange(len(frames))[window] / RATE
    traces.plot(time, frames[window], color="#999999", lw=0.8, label="ΔF/F")
    traces.plot(time, found["denoised"].values[0, window, 0], color="#0072B2", lw=1.2, label="from the events")
    traces.set(ylabel="ΔF/F", title=f"{rows[best]['indicator']}, {cell.name}: the middle cell of {len(rows)}")
    traces.legend(frameon=False, ncols=2, loc="upper right")
    sizes = found["values"].values[0, window, 0]
    marks.vlines(time, 0, sizes / sizes.max(), color="#0072B2", lw=1)
    inside = cell.spikes - cell.times[0]
    marks.plot(inside, np.full(len(inside), -0.25), "|", color="black", ms=7)
    marks.set(xlim=(time[0], time[-1]), xlabel="time [s]", yticks=[-0.25, 0.5], yticklabels=["spikes", "events"])
    scores, decays = bottom.subplots(1, 2)
    place = np.arange(len(rows))
    for name, colour, marker in (
        ("full rate", "#009E73", "^"),
        ("frames", "#0072B2", "o"),
        ("oasis alone", "#999999", "x"),
        ("ladder", "#D55E00", "D"),
    ):
        if name in rows[0]:
            scores.plot([row[name] for row in rows], place, marker, color=colour, label=name)
    labels = [f"{row['indicator']} · {row['spikes']} spikes" for row in rows]
    scores.set(yticks=place, yticklabels=labels, xlim=(0, 1), xlabel="correlation with spikes, 40 ms bins")
    scores.invert_yaxis()
    scores.legend(frameon=False, loc="lower left", fontsize=8)
    found_decay, within = (np.array([row[name] for row in rows]) for name in ("decay", "within"))
    errors = np.stack([found_decay - found_decay / within, found_decay * within - found_decay])
    decays.errorbar(found_decay, place, xerr=errors, fmt="o", color="#0072B2", label="found, ±1 sd")
    decays.plot([row["known"] for row in rows], place, "|", color="black", ms=14, label="known of the indicator")
    if "ladder" in rows[0]:
        decays.plot([row["ladder's decay"] for row in rows], place, "D", color="#D55E00", label="found by the ladder")
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
