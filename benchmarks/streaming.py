"""Listing a file of an archive by streaming, compared with downloading it: requests and bytes.

Files of about the same size are generated and served by the loopback archive of the tests, which counts both: a compressed
recording and its units; many spikes of units with `obs_intervals`; the same without, so that the length of the session
follows from the spikes alone. `nwb-sbtt` runs in a separate process with an empty cache. The time on a line of given latency
and speed is computed from the counts, as if requests came one after the other.

    python benchmarks/streaming.py --megabytes 100 --json streaming.json --figure streaming.png
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from machine import canvas, options, report
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.dandi.archive import Archive

PROGRAM = "from nwb_sbtt.cli.main import main; main()"
PATH, VERSION = "sub-S1/sub-S1_ses-1_ecephys.nwb", "0.240301.0000"
ADDRESS = f"DANDI:000140/{VERSION}/{PATH}"
N_UNITS = 200
CHANNELS, RATE = 64, 20000.0


def write_recording(path: Path, *, megabytes: float, seed: int) -> Path:
    """Write voltages in compressed chunks of about that size in all, and units."""
    from pynwb import H5DataIO
    from pynwb.ecephys import ElectricalSeries

    rng = np.random.default_rng(seed)
    nwbfile = _new_file(seed)
    group = nwbfile.create_electrode_group(
        name="probe", description="generated", location="cortex", device=nwbfile.create_device(name="probe")
    )
    for _ in range(CHANNELS):
        nwbfile.add_electrode(group=group, location="cortex")
    stored = 1.3  # bytes that gzip leaves of two of this noise
    rows = int(megabytes * 1e6 / stored / CHANNELS)
    noise = rng.normal(0, 100, (rows, CHANNELS)).astype(np.int16)
    data = H5DataIO(noise, compression="gzip", compression_opts=1, chunks=(8192, CHANNELS), shuffle=True)
    electrodes = nwbfile.create_electrode_table_region(list(range(CHANNELS)), "all")
    nwbfile.add_acquisition(ElectricalSeries(name="raw", data=data, electrodes=electrodes, rate=RATE, conversion=1e-6))
    _add_units(nwbfile, rng, n_spikes=2000, seconds=rows / RATE)
    return _write(nwbfile, path)


def write_units(path: Path, *, megabytes: float, seed: int, intervals: bool = True) -> Path:
    """Write many spikes of many units, with or without `obs_intervals`, and trials."""
    rng = np.random.default_rng(seed)
    nwbfile = _new_file(seed)
    seconds = 3600.0
    starts = np.arange(0, seconds, 4.0)
    nwbfile.add_trial_column("go_cue_time", "when the monkey may move")
    for start in starts:
        nwbfile.add_trial(start_time=start, stop_time=start + 3.5, go_cue_time=start + 1.0)
    n_spikes = int(megabytes * 1e6 / 8 / N_UNITS)
    _add_units(nwbfile, rng, n_spikes=n_spikes, seconds=seconds, intervals=intervals)
    return _write(nwbfile, path)


def write_bare_units(path: Path, *, megabytes: float, seed: int) -> Path:
    """Write many spikes of units without `obs_intervals`."""
    return write_units(path, megabytes=megabytes, seed=seed, intervals=False)


def _new_file(seed: int) -> Any:
    from pynwb import NWBFile

    return NWBFile("generated", f"streaming-{seed}", datetime(2024, 3, 1, tzinfo=UTC))


def _add_units(
    nwbfile: Any, rng: np.random.Generator, *, n_spikes: int, seconds: float, intervals: bool = True
) -> None:
    columns = {"obs_intervals": [[0.0, seconds]]} if intervals else {}
    for _ in range(N_UNITS):
        nwbfile.add_unit(spike_times=np.sort(rng.uniform(0, seconds, n_spikes)), **columns)


def _write(nwbfile: Any, path: Path) -> Path:
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


FILES = {"voltages": write_recording, "units": write_units, "no obs_intervals": write_bare_units}


def run(archive: Archive, words: list[str], folder: Path) -> str:
    """Run the command line in a separate process; return its output."""
    environment = {
        **os.environ,
        **{"DANDI_INSTANCE": archive.url, "DANDI_NO_ET": "1", "NO_PROXY": "127.0.0.1"},
        "NWB_SBTT_CACHE_DIR": str(folder / "cache"),
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(words)}: {ended.stderr}")
    return ended.stdout


def measure(kind: str, path: Path, folder: Path, *, latency: float, speed: float) -> list[dict[str, Any]]:
    """Measure requests and bytes of both ways, and check that they list the same."""
    size = path.stat().st_size
    rows, listed = [], []
    with Archive() as archive:
        archive.add("000140", PATH, path.read_bytes())
        archive.publish("000140", VERSION)
        ways = {
            "stream": [["inspect", ADDRESS]],
            "download": [["download", ADDRESS, "--to", str(folder)], ["inspect", str(folder / "000140" / PATH)]],
        }
        for way, commands in ways.items():
            archive.requests.clear()
            began = time.perf_counter()
            for words in commands:
                printed = run(archive, words, folder)
            seconds = time.perf_counter() - began
            _, _, below_the_title = printed.partition("\n")
            listed.append(below_the_title)
            sent = archive.sent("")
            rows.append(
                {
                    "file": f"{kind}, {size / 1e6:.0f} MB",
                    "way": way,
                    "requests to the API": archive.count("api"),
                    "to the storage": archive.count("storage"),
                    "MB": sent / 1e6,
                    "share": sent / size,
                    "s on loopback": seconds,
                    "s on the line": len(archive.requests) * latency + sent * 8 / speed,
                }
            )
    if listed[0] != listed[1]:
        raise SystemExit(f"{kind}: the listings differ")
    return rows


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw bytes and requests of both ways."""
    figure = canvas(11, 2.8)
    labels = ["\n".join([*row["file"].split(",")[0].split(), row["way"]]) for row in rows]
    colours = ["#1f77b4" if row["way"] == "stream" else "#bbbbbb" for row in rows]
    requests = [row["requests to the API"] + row["to the storage"] for row in rows]
    shown = {"MB": [row["MB"] for row in rows], "requests": requests}
    for panel, (title, values) in zip(figure.subplots(1, 2), shown.items(), strict=True):
        bars = panel.bar(labels, values, color=colours)
        panel.bar_label(bars, fmt="%.3g")
        panel.set_title(f"{title} to list a file")
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.15)
        panel.tick_params(axis="x", labelsize=7)
    return figure


def main() -> None:
    """Measure and show."""
    parser = options(__doc__.splitlines()[0], small="24 MB, the units only")
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds a request")
    parser.add_argument("--speed", type=float, default=100e6, help="bits a second")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.megabytes = 24.0
    rows = []
    kinds = ["units"] if arguments.small else list(FILES)
    for kind, make in ((kind, FILES[kind]) for kind in kinds):
        with tempfile.TemporaryDirectory() as folder:
            path = make(Path(folder) / "made.nwb", megabytes=arguments.megabytes, seed=arguments.seed)
            rows += measure(kind, path, Path(folder), latency=arguments.latency, speed=arguments.speed)
    report(arguments, rows, lambda: draw(rows))


if __name__ == "__main__":
    main()
