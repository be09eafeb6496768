"""Events of simulated cells: across missing frames, with kinetics that nobody names, and how long they take.

Cells fire at 0.3 Hz, with bursts of 12 Hz; the response is ``(1 − exp(−t / rise)) exp(−t / decay)``, sampled at the end of
each frame. Three tables, by `--table`:

* gaps: 30 Hz, three frames missing every two seconds, or 10 % at random. `first` to `fifth` are the mean event in the frames
  after a gap over that of the same frames where none is missing (other frames have other spikes), in units of this ratio
  elsewhere, and `sd` the sd of the first between seeds. `complete` is the mean event of those first frames where none is
  missing, `spikes` their true spikes, both over the mean elsewhere, each with its sd between seeds: what chance alone makes of
  it. `r` is the correlation with spikes in sums of three frames, `r whole` that of the same frames where none is missing, and
  `r line` that after linear interpolation.
* kinetics: estimated decay over the true one, the lowest and the highest of the cells, and the same of the noise; `r` as above,
  in bins of about 100 ms, and `r known` that of OASIS with the true decay, no rise and no penalty.
* speed: CPU-seconds for an ROI of `--minutes` at 30 Hz, complete and with gaps: the mean of `--rois`, and the most of any.

    python benchmarks/deconvolution.py --table gaps --seeds 0 1 2 3 --json gaps.json --figure gaps.png
    python benchmarks/deconvolution.py --table kinetics
    python benchmarks/deconvolution.py --table speed --rois 15
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from machine import canvas, options, report
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from nwb_sbtt.calcium.deconvolution import Deconvolved, deconvolve, known_indicator, running_baseline
from nwb_sbtt.config import EventsConfig

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

KINETICS = {
    "GCaMP6f": (0.05, 0.4, 0.19),
    "GCaMP6s": (0.18, 1.5, 0.23),
    "jGCaMP8f": (0.003, 0.1, 0.25),
    "jGCaMP8m": (0.007, 0.14, 0.3),
}
"""Rise and decay time [s], and the peak of one spike [ΔF/F], of what is simulated."""
RATES = (7.0, 15.0, 30.0, 60.0)
CELLS, SECONDS, FINE = 8, 240.0, 1000.0
"""Cells and seconds a seed, and steps a second of the simulation."""
BINS = 0.1
"""Seconds in which events and spikes are compared."""
POSITIONS = ("first", "second", "third", "fourth", "fifth")


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Simulate, deconvolve and print the table."""
    parser = options(__doc__, small="two cells of one indicator for a minute")
    parser.add_argument("--table", choices=("gaps", "kinetics", "speed"), default="gaps")
    parser.add_argument("--noise", type=float, default=0.08, help="sd of the noise [ΔF/F]")
    parser.add_argument("--minutes", type=float, default=60.0, help="of an ROI, for the table of speed")
    parser.add_argument("--rois", type=int, default=1, help="of each indicator, for the table of speed")
    parser.add_argument("--indicators", choices=tuple(KINETICS), nargs="+", default=tuple(KINETICS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args(argv)
    indicators = ("jGCaMP8m",) if arguments.small else tuple(arguments.indicators)
    size = (2, 60.0) if arguments.small else (CELLS, SECONDS)
    rows: list[dict[str, Any]] = []
    for indicator in indicators:
        if arguments.table == "gaps" and indicator != "jGCaMP8f":
            rows += _gaps(indicator, arguments.noise, arguments.seeds, size)
        elif arguments.table == "kinetics":
            rows += _kinetics(indicator, arguments.noise, arguments.seeds, size)
        elif arguments.table == "speed":
            rows.append(
                _speed(indicator, arguments.noise, 0.5 if arguments.small else arguments.minutes, arguments.rois)
            )
    report(arguments, rows, lambda: _figure(rows))
    return rows


def _simulated(indicator: str, rate: float, noise: float, seed: int, size: tuple[int, float]) -> tuple[Floats, Floats]:
    """Spikes in each frame, and fluorescence, (frame, cell)."""
    rng = np.random.default_rng(seed)
    n_cells, seconds = size
    rates = np.full((int(seconds * FINE), n_cells), 0.3)
    for cell in range(n_cells):
        for start in np.flatnonzero(rng.random(len(rates)) < 0.08 / FINE):
            rates[start : start + int(0.6 * FINE), cell] += 12
    spikes = (rng.random(rates.shape) < rates / FINE).astype(float)
    rise, decay, peak = KINETICS[indicator]
    t = np.arange(0, 8 * decay, 1 / FINE)
    response = (1 - np.exp(-t / rise)) * np.exp(-t / decay)
    light = fftconvolve(spikes, peak * response[:, None] / response.max(), axes=0)[: len(spikes)]
    ends = np.round(np.arange(1, int(seconds * rate) + 1) / rate * FINE).astype(int) - 1
    counts = np.diff(np.cumsum(spikes, axis=0)[ends], axis=0, prepend=0)
    return counts, light[ends] + rng.normal(0, noise, counts.shape)


def _events(values: Floats, missing: Bools, rate: float, indicator: str) -> Deconvolved:
    times = np.arange(len(values)) / rate
    config = EventsConfig()
    return deconvolve(values[~missing], times[~missing], config=config, indicator=known_indicator(config, indicator))


def _correlation(events: Floats, counts: Floats, counted: Bools, together: int) -> float:
    """Correlation of sums over some frames, of which only those that are counted enter."""
    n = len(events) // together

    def sums(values: Floats) -> Floats:
        return np.asarray(np.where(counted, values, 0)[: n * together].reshape(n, together).sum(1))

    some = sums(np.ones(len(events))) > 0
    return float(np.corrcoef(sums(events)[some], sums(counts)[some])[0, 1])


def _masks(n: int, seed: int) -> Iterator[tuple[str, Bools]]:
    yield "3 every 2 s", (np.arange(n) + 13 * seed) % 60 >= 57
    yield "10 % at random", np.random.default_rng(seed).random(n) < 0.1


def _gaps(indicator: str, noise: float, seeds: Sequence[int], size: tuple[int, float]) -> list[dict[str, Any]]:
    rate = 30.0
    rows: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        counts, values = _simulated(indicator, rate, noise, seed, size)
        for name, missing in _masks(len(values), seed):
            row = rows.setdefault(
                name, {"sums": [], "complete": [], "spikes": [], "frames": [], "r": [], "whole": [], "line": []}
            )
            for kind in ("sums", "complete", "spikes", "frames"):
                row[kind].append(np.zeros(6))
            gaps = np.maximum.accumulate(np.where(missing, np.arange(len(values)), -100))
            position = np.minimum(np.arange(len(values)) - gaps, 6)
            for cell in range(values.shape[1]):
                trace, spikes = values[:, cell], counts[:, cell]
                found = _events(trace, missing, rate, indicator)
                sizes, known = np.zeros(len(trace)), np.zeros(len(trace), dtype=bool)
                sizes[~missing], known[~missing] = found.sizes, found.observed
                nothing = np.zeros(len(trace), dtype=bool)
                frames = np.arange(len(trace))
                line = np.interp(frames, frames[~missing], trace[~missing])
                whole = _events(trace, nothing, rate, indicator).sizes
                for place in range(1, 7):
                    here = known & (position == place)
                    for kind, these in (("sums", sizes), ("complete", whole), ("spikes", spikes), ("frames", here)):
                        row[kind][-1][place - 1] += these[here].sum()
                row["r"].append(_correlation(sizes, spikes, known, 3))
                row["whole"].append(_correlation(whole, spikes, known, 3))
                row["line"].append(_correlation(_events(line, nothing, rate, indicator).sizes, spikes, known, 3))
    result = []
    for missing_name, row in rows.items():
        ratios = dict(zip(POSITIONS, _about_gaps(row, "sums", "complete")[0].tolist(), strict=True))
        for name, kind, of in (
            ("", "sums", "complete"),
            ("complete", "complete", "frames"),
            ("spikes", "spikes", "frames"),
        ):
            mean, sd = _about_gaps(row, kind, of)
            ratios |= ({name: float(mean[0])} if name else {}) | {f"{name} sd".strip(): float(sd[0])}
        scores = {
            name: float(np.mean(row[key])) for name, key in (("r", "r"), ("r whole", "whole"), ("r line", "line"))
        }
        result.append({"indicator": indicator, "missing": missing_name, **ratios, **scores})
    return result


def _about_gaps(row: dict[str, Any], kind: str, of: str) -> tuple[Floats, Floats]:
    """A ratio in the first five frames after a gap over that elsewhere, of all seeds together, and its sd between them."""

    def ratio(sums: Floats, units: Floats) -> Floats:
        means = sums / units
        return np.asarray(means[:5] / means[5])

    each = [ratio(sums, units) for sums, units in zip(row[kind], row[of], strict=True)]
    return ratio(np.sum(row[kind], axis=0), np.sum(row[of], axis=0)), np.std(each, axis=0)


def _kinetics(indicator: str, noise: float, seeds: Sequence[int], size: tuple[int, float]) -> list[dict[str, Any]]:
    from oasis.oasis_methods import oasisAR1

    rows, (_, decay, _) = [], KINETICS[indicator]
    for rate in RATES:
        if decay * rate < 2:
            continue
        together = max(1, round(BINS * rate))
        decays, noises, scores, known = [], [], [], []
        for seed in seeds:
            counts, values = _simulated(indicator, rate, noise, seed, size)
            for trace, spikes in zip(values.T, counts.T, strict=True):
                every = np.ones(len(trace), dtype=bool)
                found = _events(trace, ~every, rate, indicator)
                decays.append(found.kinetics.decay / decay)
                noises.append(found.kinetics.noise_sd / noise)
                scores.append(_correlation(found.sizes, spikes, every, together))
                above = trace - running_baseline(trace, window=60 * rate, smoothing=10)
                plain = np.maximum(oasisAR1(above, float(np.exp(-1 / (decay * rate))))[1], 0)
                known.append(_correlation(plain, spikes, every, together))
        rows.append(
            {
                "indicator": indicator,
                "rate": rate,
                "decay": decay,
                "lowest": min(decays),
                "highest": max(decays),
                "noise low": min(noises),
                "noise high": max(noises),
                "r": float(np.mean(scores)),
                "r known": float(np.mean(known)),
            }
        )
    return rows


def _speed(indicator: str, noise: float, minutes: float, n_rois: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}
    for seed in range(n_rois):
        _, values = _simulated(indicator, 30.0, noise, seed, (1, 60 * minutes))
        masks = {"complete": np.zeros(len(values), dtype=bool)} | dict(_masks(len(values), seed))
        for name, missing in masks.items():
            start = time.process_time()
            _events(values[:, 0], missing, 30.0, indicator)
            seconds.setdefault(name, []).append(time.process_time() - start)
    means = {name: float(np.mean(row)) for name, row in seconds.items()}
    return {
        "indicator": indicator,
        "minutes": minutes,
        "rois": n_rois,
        **means,
        "most": float(np.max([*seconds.values()])),
    }


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(9, 4)
    left, right = figure.subplots(1, 2)
    for i, row in enumerate(rows):
        label = " ".join(str(row[name]) for name in ("indicator", "missing", "rate") if name in row)
        if "first" in row:
            left.plot(range(1, 6), [row[position] for position in POSITIONS], "o-", label=label)
            right.plot([row["r whole"], row["r line"]], [row["r"]] * 2, "o-", label=label)
        elif "lowest" in row:
            left.plot([row["lowest"], row["highest"]], [i, i], "o-", label=label)
            right.plot(row["r known"], row["r"], "o", label=label)
        else:
            left.plot([row[name] for name in ("complete", "3 every 2 s", "10 % at random")], [i] * 3, "o-", label=label)
    left.legend(frameon=False, fontsize=7)
    if "first" in rows[0]:
        left.set(xlabel="frame after a gap", ylabel="mean event over that elsewhere", ylim=(0, 2), xticks=range(1, 6))
        left.axhspan(0.9, 1.1, color="0.9")
        right.set(xlabel="correlation, complete and interpolated", ylabel="with frames missing")
    elif "lowest" in rows[0]:
        left.set(xlabel="estimated decay over the true one", yticks=[])
        left.axvspan(0.7, 1.3, color="0.9")
        right.set(xlabel="correlation of OASIS with the true decay", ylabel="correlation")
    else:
        left.set(xlabel="CPU-seconds, complete and with gaps", yticks=[])
    if "r" in rows[0]:
        right.axline((0.8, 0.8), slope=1, color="0.7", lw=1)
    return figure


if __name__ == "__main__":
    main()
