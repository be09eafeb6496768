"""How true voltages are read: missing samples, dead stretches, artefacts and defaults, against a simulated truth and scipy.

Recordings are simulated anew for each seed (`tests/support/voltages.py`). A row is a figure; the columns are what version
0.1.0 gave (one recording, other seeds), each seed of this version, what a few lines of scipy and, where it is installed,
spikeinterface give where they can do the same (one value for each seed), and the truth or what is to be reached.

    python benchmarks/voltages.py --json voltages.json
    python benchmarks/voltages.py --fits --seeds 31 --seconds 120
    python benchmarks/voltages.py --large 3600 --seeds 31
    python benchmarks/voltages.py --crossings 30 --seeds 31
    python benchmarks/voltages.py --small

`--fits` asks instead whether fits with defaults find the shared signal in noise that is each channel's own and autocorrelated:
R² over the validation trials, next to the baselines. `--large SECONDS` writes a recording of 384 channels at 2.5 kHz and reads
it with nothing said. `--crossings SECONDS` writes one of 384 channels at 30 kHz and finds threshold crossings in it.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import voltages_spikeinterface as others
from machine import options, save, show
from numpy.typing import NDArray
from recordings import make_series
from scipy.signal import butter, hilbert, sosfiltfilt

from nwb_sbtt import fit, read_nwb, split
from nwb_sbtt.config import Chop, ElectricalConfig, FitConfig, ReadConfig, Window, override
from nwb_sbtt.evaluate.baselines import MaskedData, predict
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.preparation import mask_length_of
from nwb_sbtt.train.trackers import Silent
from tests.support.nwbfiles import add_electrical, add_electrodes, add_invalid_times, new_file, write
from tests.support.voltages import common_noise, field, modulated, probe, speckled, stimulated

N_CHANNELS = 8
WIDTH = 0.01
ONE_SECOND = Chop(length=1.0, overlap=0.0)
OTHERS = others.available()
Number = float | int | str


@dataclass(frozen=True)
class Figure:
    """A figure of this version, what version 0.1.0 and others give, and the truth or what is to be reached; "" for none."""

    value: Number
    before: Number = ""
    scipy: Number = ""
    spikeinterface: Number = ""
    truth: Number = ""


def main() -> None:
    """Simulate, read and print the table."""
    parser = options(__doc__, small="one seed, short recordings", figure=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each recording")
    parser.add_argument("--fits", action="store_true", help="fit models instead, some minutes for each seed")
    parser.add_argument("--models", nargs="+", default=["conv", "lfads"], help="models to fit")
    parser.add_argument("--large", type=float, default=0.0, help="read a large recording of so many seconds instead")
    parser.add_argument(
        "--crossings", type=float, default=0.0, help="time threshold crossings of so many seconds instead"
    )
    arguments = parser.parse_args()
    seeds, seconds = (arguments.seeds[:1], 12.0) if arguments.small else (arguments.seeds, arguments.seconds)
    rows: dict[str, dict[str, Any]] = {}
    if not OTHERS:
        print("spikeinterface is not installed, and its column stays empty")
    for seed in seeds:
        if arguments.fits:
            figures = own_noise(seconds, seed, models=arguments.models)
        elif arguments.large:
            figures = large(arguments.large, seed)
        elif arguments.crossings:
            figures = speed(arguments.crossings, seed)
        else:
            figures = {
                **missing_samples(seconds, seed),
                **bands(seconds, seed),
                **dead(seconds, seed),
                **references(seconds, seed),
                **bad_electrodes(seconds, seed),
                **artefacts(seconds, seed),
            }
        for name, figure in figures.items():
            row = rows.setdefault(name, {"figure": name, "0.1.0": figure.before})
            # The last columns stay last, each with what all seeds give.
            of_seeds = {other: (*row.pop(other, ()), getattr(figure, other)) for other in ("scipy", "spikeinterface")}
            row.pop("truth", None)
            row |= {f"seed {seed}": figure.value, **of_seeds, "truth": figure.truth}
        # Seeds take minutes, so what is known is shown after each.
        table = [_cells(row) for row in rows.values()]
        show(table)
    save(arguments.json, vars(arguments), table)


def read(
    volts: NDArray[Any],
    rate: float,
    *,
    blanks: NDArray[np.float64] | None = None,
    columns: dict[str, Any] | None = None,
    width: float | None = WIDTH,
    cut: Chop = ONE_SECOND,
    **settings: Any,
) -> Any:
    """Write voltages (time, channel) to a file and read it as one window would be: trials of one second."""
    nwbfile = new_file()
    add_electrodes(nwbfile, volts.shape[1], columns=columns or {})
    add_electrical(nwbfile, volts, rate=rate)
    if blanks is not None:
        add_invalid_times(nwbfile, blanks)
    config = ReadConfig(bin_width=width, electrical=ElectricalConfig(**settings), cut=cut)
    with tempfile.TemporaryDirectory() as folder:
        return read_nwb(write(nwbfile, Path(folder) / "voltages.nwb"), config)


def missing_samples(seconds: float, seed: int) -> dict[str, Figure]:
    """Share of what is stored that is observed, and correlation with the shared signal, of two ways of leaving samples out."""
    rate = 1000.0
    figures: dict[str, Figure] = {}
    voltage, shared = field(seconds, rate=rate, n_channels=N_CHANNELS, seed=seed)
    per_bin = round(WIDTH * rate)
    truth = shared.reshape(-1, per_bin, N_CHANNELS).mean(axis=1)
    for how, before in (("random", 0.003 / 0.7), ("every fourth", 0.0)):
        stored = speckled(voltage.shape, how=how, seed=seed + 1)
        ds = read(np.where(stored, voltage, np.nan), rate)
        values, observed = (ds[name].values.reshape(-1, N_CHANNELS)[: len(truth)] for name in ("values", "observed"))
        any_stored = np.asarray(stored.reshape(-1, per_bin, N_CHANNELS).any(axis=1))
        times = np.arange(len(voltage))
        filled = np.stack(
            [np.interp(times, times[stored[:, c]], voltage[stored[:, c], c]) for c in range(N_CHANNELS)], axis=1
        )
        low_passed = sosfiltfilt(butter(4, 40, fs=rate, output="sos"), filled, axis=0).reshape(-1, per_bin, N_CHANNELS)
        figures[f"{how}: share observed"] = Figure(float(observed.sum() / any_stored.sum()), before=before, truth=1.0)
        figures[f"{how}: correlation"] = Figure(
            _correlation(values, truth, observed),
            scipy=_correlation(low_passed.mean(axis=1), truth, any_stored),
            truth=1.0,
        )
    return figures


def bands(seconds: float, seed: int) -> dict[str, Figure]:
    """What passes of 6 Hz in a band of 8 to 12 Hz, and power of theta in bins of 20 ms."""
    rate, band = 1000.0, (8.0, 12.0)
    volts, amplitude = modulated(seconds, rate=rate, frequency=6.0, n_channels=4, seed=seed)
    ds = read(volts, rate, feature="lfp", band=band)
    inside = slice(200, -200)
    reference = sosfiltfilt(butter(4, band, "band", fs=rate, output="sos"), volts, axis=0)[5::10]
    figures: dict[str, Figure] = {
        "8 to 12 Hz: share of the variance outside": Figure(
            _outside(ds["values"].values.reshape(-1, 4)[inside], WIDTH, band),
            before=0.53,
            scipy=_outside(reference[inside], WIDTH, band),
            spikeinterface=_outside(others.banded(volts, rate, band)[5::10][inside], WIDTH, band) if OTHERS else "",
            truth="0.03 at most",
        )
    }
    ds = read(volts, rate, width=0.02, feature="power", band=(4.0, 8.0))
    envelope = np.abs(hilbert(sosfiltfilt(butter(4, (4, 8), "band", fs=rate, output="sos"), volts, axis=0), axis=0))
    power = np.log((envelope**2).reshape(-1, 20, 4).mean(axis=1))
    values, observed = (ds[name].values.reshape(-1, 4) for name in ("values", "observed"))
    truth = np.repeat(np.log(amplitude.reshape(-1, 20).mean(axis=1))[:, None], 4, axis=1)
    figures["power of theta, bins of 20 ms: correlation with the Hilbert envelope"] = Figure(
        _correlation(values[inside], power[inside], observed[inside]), before=0.76, truth="0.97 at least"
    )
    figures["power of theta, bins of 20 ms: correlation with its true amplitude"] = Figure(
        _correlation(values[inside], truth[inside], observed[inside]),
        scipy=_correlation(power[inside], truth[inside], observed[inside]),
        truth=1.0,
    )
    return figures


def references(seconds: float, seed: int) -> dict[str, Figure]:
    """Crossings a spike under hum and bursts that all electrodes share, and what the converter's delays leave of them."""
    rate, n_channels, figures = 20_000.0, 16, {}
    counted: dict[str, Any] = {"width": 0.02, "feature": "spikes"}
    for name, hum, bursts, before in (("hum", 25e-6, 0, 0.0), ("bursts", 0.0, max(int(seconds), 8), 41765 / 6366)):
        _, volts, spikes = common_noise(seconds, rate=rate, seed=seed, n_channels=n_channels, hum=hum, bursts=bursts)
        n_spikes = sum(map(len, spikes))
        band = butter(3, [300, 3000], "band", fs=rate, output="sos")
        filtered = sosfiltfilt(band, volts - np.median(volts, axis=1, keepdims=True), axis=0)
        ways: dict[str, dict[str, Any]] = {"nothing set": {}, "median": {"reference": "median"}}
        if hum:
            ways["notch"] = {"notch": 50.0}
        for how, settings in ways.items():
            ds = read(volts, rate, **counted, **settings)
            referenced = how == "median"
            figures[f"{name}, {how}: crossings a spike"] = Figure(
                float(ds["values"].sum() / n_spikes),
                before=before if how == "nothing set" else "",
                scipy=_crossings(filtered, rate) / n_spikes if referenced else "",
                spikeinterface=others.crossings(volts, rate, reference=referenced) / n_spikes
                if OTHERS and how != "notch"
                else "",
                truth="a note" if how == "nothing set" else 1.0,
            )
    rng, delay, times = np.random.default_rng(seed), np.arange(n_channels) / n_channels, np.arange(round(4 * rate))
    artefact = np.stack(
        [sum(np.sin(2 * np.pi * f / rate * (times + d)) for f in (400.0, 1900.0, 2700.0)) for d in delay], axis=1
    )
    volts = 1e-4 * artefact + 1e-8 * rng.normal(size=artefact.shape)
    settings = {"feature": "power", "band": (300.0, 3000.0), "reference": "average"}
    alone = read(volts, rate, width=0.02, feature="power", band=(300.0, 3000.0))["values"].values
    for name, columns in (("as they are", None), ("taken out", {"inter_sample_shift": delay})):
        left = read(volts, rate, width=0.02, columns=columns, **settings)["values"].values
        figures[f"delays of the converter {name}: share of a common artefact's power left"] = Figure(
            float(np.exp(left[1] - alone[1]).mean()),
            spikeinterface=others.common_left(volts, rate, delay if columns else None) if OTHERS else "",
            truth=0.0 if columns else "",
        )
    return figures


def bad_electrodes(seconds: float, seed: int) -> dict[str, Figure]:
    """Of three electrodes that are dead, noisy and on their own, how many are masked; and how many of 29 others."""
    volts, bad = probe(seconds, rate=1250.0, n_channels=32, seed=seed)
    masked = ~read(volts, 1250.0, bad_channels="auto")["observed"].values.any(axis=(0, 1))
    # Its thresholds are in µV² / Hz: noise of 2 µV.
    other = others.bad_electrodes(2e-5 * volts, 1250.0) if OTHERS else np.zeros(0, dtype=bool)
    return {
        "bad electrodes found": Figure(
            int(masked[bad].sum()), before=0, spikeinterface=int(other[bad].sum()) if OTHERS else "", truth=len(bad)
        ),
        "good electrodes taken for bad": Figure(
            int(np.delete(masked, bad).sum()),
            spikeinterface=int(np.delete(other, bad).sum()) if OTHERS else "",
            truth=0,
        ),
    }


def dead(seconds: float, seed: int) -> dict[str, Figure]:
    """An electrode that is dead, or at its converter's limit, for half of the time."""
    rate = 2000.0
    voltage, _ = field(seconds, rate=rate, n_channels=N_CHANNELS, seed=seed)
    good = (400 * voltage).astype(np.int16)
    n = len(good)
    figures: dict[str, Figure] = {}
    band: dict[str, Any] = {"feature": "spikes", "band": (200.0, 800.0), "threshold": -3.0}
    whole = read(good, rate, width=0.02, **band)["values"].values[: int(seconds / 2) - 1, :, 1].sum()
    for name, value in (("dead", 0), ("railed", 32767)):
        bad = good.copy()
        bad[n // 2 :, 1] = value
        power = read(bad, rate, width=0.02, feature="power")
        second = power["observed"].values[int(seconds / 2) + 1 :, :, 1]
        figures[f"{name}: share of bins observed"] = Figure(float(second.mean()), before=1.0, truth=0.0)
        crossings = read(bad, rate, width=0.02, **band)["values"].values[: int(seconds / 2) - 1, :, 1].sum()
        figures[f"{name}: crossings elsewhere, of those of the whole"] = Figure(
            float(crossings / whole), before=7.0, truth=1.0
        )
    return figures


def artefacts(seconds: float, seed: int) -> dict[str, Figure]:
    """Crossings for each spike, where artefacts are blanked and decay after their blank."""
    rate = 20_000.0
    figures: dict[str, Figure] = {}
    for tail in (0.0, 0.001, 0.002):
        volts, spikes, blanks = stimulated(seconds, rate=rate, seed=seed, tail=tail)
        ds = read(volts, rate, blanks=blanks, width=0.001, feature="spikes")
        band = sosfiltfilt(butter(3, [300, 3000], "band", fs=rate, output="sos"), volts, axis=0)
        times = np.arange(len(volts)) / rate
        beyond = band <= -4.5 * np.median(np.abs(band), axis=0) / 0.6745
        valid = ~np.asarray(((times[:, None] >= blanks[:, 0]) & (times[:, None] < blanks[:, 1])).any(axis=1))
        starts = (beyond[1:] & ~beyond[:-1]) & valid[1:, None]
        apart = sum(
            1 + int((np.diff(np.flatnonzero(starts[:, c])) >= 0.001 * rate).sum()) for c in range(volts.shape[1])
        )
        n_spikes = sum(map(len, spikes))
        figures[f"crossings a spike, decay {1e3 * tail:g} ms"] = Figure(
            float(ds["values"].sum() / n_spikes),
            before=415 / 330 if tail else "",
            scipy=apart / n_spikes,
            spikeinterface=others.crossings(volts, rate, blanks=blanks) / n_spikes if OTHERS else "",
            truth=1.0,
        )
    return figures


def own_noise(seconds: float, seed: int, *, models: Sequence[str]) -> dict[str, Figure]:
    """R² to the shared signal of fits with defaults and of baselines, in noise of a channel's own with a memory of 0.1 s."""
    voltages = field(seconds, rate=1000.0, n_channels=32, seed=seed, private=0.85, memory=0.1)
    ds, shared = (read(voltage, 1000.0, width=None, cut=Chop()) for voltage in voltages)
    ds = split(ds, valid=0.2, seed=0)
    valid = ds["split"].values == "valid"
    truth = shared["values"].values[valid]
    config = FitConfig()
    data = MaskedData(
        ds["values"].values, ds["observed"].values, ~valid, is_counts=False, mask_length=mask_length_of(ds, config)
    )
    figures: dict[str, Figure] = {"own noise: s hidden together": Figure(data.mask_length * WIDTH, before=WIDTH)}
    for model, before, target in (("conv", 0.902, 0.965), ("lfads", 0.80, 0.94)):
        if model in models:
            with tempfile.TemporaryDirectory() as folder:
                fitted = fit(ds, override(config, [f"model={model}"]), run_dir=Path(folder) / "run", tracker=Silent())
                found = r2(truth, fitted.infer(ds)["mean"].values[valid])
            figures[f"own noise: R² of {model}"] = Figure(found, before=before, truth=target)
    for name in ("factor_analysis", "linear_dynamics", "low_rank_wiener", "masked_smoothing"):
        found = r2(truth, predict(name, data).expected[valid])
        figures[f"own noise: R² of {name}"] = Figure(found, before=0.960 if name == "factor_analysis" else "")
    return figures


def large(seconds: float, seed: int) -> dict[str, Figure]:
    """CPU-seconds and memory of reading 384 channels at 2.5 kHz with nothing said, in a process of its own."""
    rng = np.random.default_rng(seed)
    nwbfile, n_channels, rate = new_file(), 384, 2500
    add_electrodes(nwbfile, n_channels)
    part = (50 * rng.standard_normal((10 * rate, n_channels))).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        add_electrical(nwbfile, part[:rate], rate=float(rate))
        path = write(nwbfile, Path(folder) / "large.nwb")
        with h5py.File(path, "r+") as file:
            series = file["acquisition/ElectricalSeries"]
            attributes = dict(series["data"].attrs)
            del series["data"]
            stored = series.create_dataset("data", (int(seconds * rate), n_channels), part.dtype, chunks=(rate, 64))
            stored.attrs.update(attributes)
            for start in range(0, len(stored), len(part)):
                stored[start : start + len(part)] = np.roll(part, start // len(part), axis=1)[: len(stored) - start]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            taken, peak = pool.submit(_cost_of_reading, path).result()
    return {
        f"{seconds:g} s of 384 channels: CPU-seconds": Figure(taken, truth=120.0),
        f"{seconds:g} s of 384 channels: GB": Figure(peak, before=93.0 * seconds / 3600, truth=4.0),
    }


def _cost_of_reading(path: Path) -> tuple[float, float]:
    """CPU-seconds, and GB at the peak."""
    started = time.process_time()
    read_nwb(path)
    return time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _crossings(filtered: NDArray[Any], rate: float) -> int:
    """Crossings of -4.5 robust sds, 1 ms apart at least."""
    beyond = filtered <= -4.5 * np.median(np.abs(filtered), axis=0) / 0.6745
    starts = beyond[1:] & ~beyond[:-1]
    return sum(
        1 + int((np.diff(np.flatnonzero(channel)) >= 0.001 * rate).sum()) for channel in starts.T if channel.any()
    )


def _outside(values: NDArray[Any], width: float, band: tuple[float, float]) -> float:
    frequencies = np.fft.rfftfreq(len(values), width)
    spectrum = (np.abs(np.fft.rfft(values * np.hanning(len(values))[:, None], axis=0)) ** 2).sum(axis=1)
    return float(spectrum[(frequencies < band[0]) | (frequencies > band[1])].sum() / spectrum.sum())


def speed(seconds: float, seed: int) -> dict[str, Figure]:
    """CPU-seconds of threshold crossings in a gzipped recording of a whole probe, for five minutes, beside those of h5py."""
    rate, channels = 30_000.0, 384
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.nwb"
        make_series(path, gigabytes=seconds * rate * channels * 2 / 1e9, rate=rate, channels=channels, seed=seed)
        shortest, took = round(seconds / 8, 1), []
        for stop in (shortest, seconds):
            started = time.process_time()
            read_nwb(
                path,
                ReadConfig(
                    bin_width=0.02, electrical=ElectricalConfig(feature="spikes"), cut=Window(start=0.0, stop=stop)
                ),
            )
            took.append(time.process_time() - started)
        started = time.process_time()
        with h5py.File(path, "r") as file:
            data = file["acquisition/raw/data"]
            for first in range(0, len(data), data.chunks[0]):
                data[first : first + data.chunks[0]]
        plain = time.process_time() - started
    # What is measured on parts of the whole recording takes as long whatever is read of it.
    each_second = (took[1] - took[0]) / (seconds - shortest)
    figure = f"CPU-seconds for 5 minutes of {channels} channels at {rate / 1000:g} kHz, from {seconds:g} s"
    return {
        figure: Figure(took[0] + (300 - shortest) * each_second, truth=240.0),
        f"{figure}: h5py alone": Figure(300 / seconds * plain),
    }


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose columns of one value for each seed are texts."""
    return {
        name: " ".join(f"{each:.3g}" for each in value if each != "") if isinstance(value, tuple) else value
        for name, value in row.items()
    }


def _correlation(values: NDArray[Any], truth: NDArray[Any], observed: NDArray[np.bool_]) -> float:
    return float(
        np.mean([np.corrcoef(values[observed[:, c], c], truth[observed[:, c], c])[0, 1] for c in range(truth.shape[1])])
    )


if __name__ == "__main__":
    main()
