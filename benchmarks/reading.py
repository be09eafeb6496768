"""Time and memory of reading, compared with h5py on the same bytes.

Recordings are generated: sorted units (with and without intervals, stored plainly and by gzip) and a compressed
ElectricalSeries of int16. Each way of reading is measured in a separate process, h5py and `read_nwb` in turn; times
are medians. h5py reads a series chunk by chunk, and the spike times of units as one array, the usual way
to read them. `of h5py` is h5py's time by ours, `CPU` ours by h5py's, `peak` the memory of the process beyond its
imports, and `within` whether that is at most the limit, HDF5's chunk cache and the memory for the result.
`bins CPU` is the part of `CPU` that opening a units table and counting its spikes take, `digest CPU` that of the file's
SHA-256, which `read_nwb` records and a thread of its own computes; `bins of h5py` is h5py's time by that of the former. A
process remembers the digest while the file does not change: `seconds` and `of h5py` are those of a first read, which
computes it, and `again of h5py` is h5py's time by that of the next. These reuse memory just released by the previous read;
`fresh of h5py` is the ratio for a first read in a separate process, `--pause` seconds after the last. The
last rows count the same few units with other programs, in the Python that `--others` names.

    python benchmarks/reading.py --spikes 1e8 --gigabytes 1 --limit 256 --json reading.json --figure reading.png
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from machine import apart, save, show
from recordings import make_series, make_units

Use = Literal["lfp", "power", "spikes"]
USES: tuple[Use, ...] = get_args(Use)
BIN_WIDTH = 0.02
MEGABYTE = 1e6
CHUNK_CACHE = 64 * 2**20
"""HDF5's chunk cache of the reader, in addition to the limit."""
MAKING = 6
"""Most memory that a result takes while it is made, in sizes of the result."""
OTHERS = ("pynapple", "nlb_tools")
NO_NUMBER = "-"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and save; 1 where a peak was above its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spikes", type=float, default=1e8, help="of the largest units table")
    parser.add_argument("--units", type=int, default=1000, help="of the largest units table")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the series, uncompressed")
    parser.add_argument("--limit", type=float, help="megabytes of memory; a quarter of the series where left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds before each reading with fresh memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--others", type=Path, default=Path(sys.executable), help="Python with pynapple, nlb_tools")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--small", action="store_true", help="a megabyte of spikes, 24 MB of 16 channels, once")
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=OTHERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.count is not None:
        print(json.dumps(_count_otherwise(arguments.count, arguments.way)))
        return 0
    if arguments.small:
        arguments.spikes, arguments.units, arguments.gigabytes, arguments.repeats, arguments.pause = (
            1.2e5,
            40,
            0.024,
            1,
            0.0,
        )
    import nwb_sbtt.io.read.reader  # noqa: F401  # so that what is measured apart has no imports in it

    limit = arguments.gigabytes * 1e9 / 4 if arguments.limit is None else arguments.limit * MEGABYTE
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NWB_SBTT_CACHE_DIR"] = str(Path(folder) / "cache")
        rows = [*_of_units(Path(folder), arguments, limit), *_of_series(Path(folder), arguments, limit)]
        show(rows)
        compared = _compared(Path(folder), arguments)
    print()
    show(compared)
    save(arguments.json, {**vars(arguments), "limit": limit, "bin_width": BIN_WIDTH}, [*rows, *compared])
    if arguments.figure:
        _figure(rows, compared, arguments.figure)
    return 0 if all(row["within"] == "yes" for row in rows) else 1


def _of_units(folder: Path, arguments: argparse.Namespace, limit: float) -> list[dict[str, Any]]:
    size = {"n_spikes": int(arguments.spikes), "n_units": arguments.units, "seed": arguments.seed}
    tenth = {"n_spikes": int(arguments.spikes / 10), "n_units": max(arguments.units // 10, 1), "seed": arguments.seed}
    cases = [
        ("units", {**size, "packed": False, "intervals": True}),
        ("units, no intervals", {**size, "packed": False, "intervals": False}),
        ("units, gzip", {**tenth, "packed": True, "intervals": True}),
    ]
    rows = []
    for name, options in cases:
        path = folder / "units.nwb"
        apart(make_units, path, **options)
        parameters = {"series": "units/spike_times", "limit": limit, "repeats": arguments.repeats}
        measured = apart(_measure, path, **parameters) | {"fresh": _fresh(path, **parameters, pause=arguments.pause)}
        rows.append(_row(name, {"bytes": 8 * options["n_spikes"], **measured}))
        path.unlink()
    return rows


def _of_series(folder: Path, arguments: argparse.Namespace, limit: float) -> list[dict[str, Any]]:
    path, shape = folder / "series.nwb", (8000.0, 16) if arguments.small else (20000.0, 128)
    apart(make_series, path, gigabytes=arguments.gigabytes, rate=shape[0], channels=shape[1], seed=arguments.seed)
    parameters = {"series": "acquisition/raw/data", "limit": limit, "repeats": arguments.repeats}
    n_bytes = {"bytes": arguments.gigabytes * 1e9}
    rows = [_row(f"series as {use}", n_bytes | apart(_measure, path, use=use, **parameters)) for use in USES]
    path.unlink()
    return rows


def _row(name: str, measured: dict[str, Any]) -> dict[str, Any]:
    print(f"{name}: {json.dumps(measured)}", file=sys.stderr, flush=True)
    ours, plain, bins, fresh = measured["ours"], measured["plain"], measured["bins"], measured["fresh"]
    peak, allowed = measured["peak"], measured["limit"] + CHUNK_CACHE + MAKING * measured["result"]
    return {
        "read": name,
        "MB": round(measured["bytes"] / MEGABYTE),
        "seconds": ours[0],
        "MB/s": round(measured["bytes"] / MEGABYTE / ours[0]),
        "h5py MB/s": round(measured["bytes"] / MEGABYTE / plain[0]),
        "of h5py": plain[0] / ours[0],
        "fresh of h5py": fresh["plain"][0] / fresh["ours"][0] if fresh else NO_NUMBER,
        "again of h5py": plain[0] / measured["again"][0],
        "bins of h5py": plain[0] / bins[0] if bins else NO_NUMBER,
        "CPU": ours[1] / plain[1],
        "bins CPU": bins[1] / plain[1] if bins else NO_NUMBER,
        "digest CPU": measured["digest"][1] / plain[1],
        "peak MB": round(peak / MEGABYTE),
        "result MB": round(measured["result"] / MEGABYTE, 1),
        "limit MB": round(measured["limit"] / MEGABYTE),
        "within": "yes" if peak <= allowed else "NO",
    }


def _measure(path: Path, *, series: str, limit: float, repeats: int, use: Use = "lfp") -> dict[str, Any]:
    """Read a file by h5py and by `read_nwb` in turn, and time parts of the latter; times are pairs of wall and CPU seconds."""
    ways = _ways(path, series=series, limit=limit, use=use)
    before = _peak()
    result = float(ways["again"]().nbytes)
    peak = _peak() - before
    times = [{name: _timed(way) for name, way in ways.items() if name != "digest"} for _ in range(repeats)]
    medians = {name: _middle([row[name] for row in times]) for name in times[0]}
    # Apart from the others, which all take memory that one of them has just given back; the system is slow to give other.
    medians["digest"] = list(_timed(ways["digest"]))
    return {"limit": limit, "result": result, "peak": peak, "bins": None, "fresh": None, **medians}


def _fresh(path: Path, *, series: str, limit: float, repeats: int, pause: float) -> dict[str, list[float]]:
    """Time h5py and a first `read_nwb`, each in a separate process, some time after memory was released."""
    times_by_program: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
    for _ in range(repeats):
        for name, times in times_by_program.items():
            time.sleep(pause)
            times.append(apart(_once, path, series=series, limit=limit, way=name))
    return {name: _middle(times) for name, times in times_by_program.items()}


def _once(path: Path, *, series: str, limit: float, way: str) -> tuple[float, float]:
    return _timed(_ways(path, series=series, limit=limit, use=USES[0])[way])


def _middle(times: Sequence[tuple[float, float]]) -> list[float]:
    return [statistics.median(row[i] for row in times) for i in (0, 1)]


def _ways(path: Path, *, series: str, limit: float, use: Use) -> dict[str, Callable[[], Any]]:
    """Return the timed functions by name; only `again` returns what it read."""
    import h5py
    import numpy as np

    from nwb_sbtt.config import ElectricalConfig, ReadConfig, Window
    from nwb_sbtt.data.grid import Grid
    from nwb_sbtt.io.read.files import forget_digests, open_nwb, sha256
    from nwb_sbtt.io.read.reader import read_nwb
    from nwb_sbtt.io.read.units import units_source

    with h5py.File(path, "r") as file:
        seconds = file[series].attrs.get("seconds")
    window = None if seconds is None else Window(start=0.0, stop=float(seconds))
    config = ReadConfig(electrical=ElectricalConfig(feature=use), bin_width=BIN_WIDTH, cut=window, memory_limit=limit)

    def plain() -> None:
        with h5py.File(path, "r") as file:
            data = file[series]
            step = data.chunks[0] if data.ndim == 2 else len(data)
            for first in range(0, data.shape[0], step):
                data[first : first + step]

    def ours() -> None:
        forget_digests()
        read_nwb(path, config)

    def again() -> Any:
        return read_nwb(path, config)

    def digest() -> None:
        forget_digests()
        sha256(path)

    def bins() -> None:
        with open_nwb(path) as nwbfile:
            grid = Grid(np.zeros(1), BIN_WIDTH, round(float(seconds) / BIN_WIDTH))
            units_source(nwbfile, nwbfile.units, config).bin(grid)

    ways = {"plain": plain, "ours": ours, "again": again, "digest": digest}
    return ways if seconds is None else {**ways, "bins": bins}


def _compared(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Count the same few units by `read_nwb` and by other programs; each opens the file itself."""
    path = folder / "few.nwb"
    n_units = max(arguments.units // 10, 1)
    apart(make_units, path, n_spikes=int(arguments.spikes / 100), n_units=n_units, seed=arguments.seed, intervals=True)
    rows = [{"counts by": "nwb_sbtt", **apart(_count, path)}]
    for name in OTHERS:
        known = subprocess.run([arguments.others, "-c", f"import {name}"], capture_output=True, text=True, check=False)
        command = [arguments.others, __file__, "--count", path, "--way", name]
        done = known if known.returncode else subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            # What another program lacks, or does wrong with the libraries at hand, is a row as well.
            why = "not installed" if known.returncode else f"failed: {done.stderr.splitlines()[-1]}"
            nothing = dict.fromkeys(("seconds", "CPU s", "peak MB", "spikes"), NO_NUMBER)
            rows.append({"counts by": name, **nothing, "version": why})
        else:
            rows.append({"counts by": name, **json.loads(done.stdout.splitlines()[-1])})
    return rows


def _count(path: Path) -> dict[str, Any]:
    from importlib.metadata import version

    import h5py

    from nwb_sbtt.config import Window
    from nwb_sbtt.io.read.reader import read_nwb

    with h5py.File(path, "r") as file:
        window = Window(start=0.0, stop=float(file["units/spike_times"].attrs["seconds"]))
    return _counted(
        lambda: read_nwb(path, bin_width=BIN_WIDTH, trials=window)["values"].values.sum(), version("nwb_sbtt")
    )


def _count_otherwise(path: Path, way: str) -> dict[str, Any]:
    """Count spikes in bins with another program, which must be installed in this Python."""
    from importlib.metadata import version

    if way == "pynapple":
        import pynapple

        return _counted(lambda: pynapple.load_file(str(path))["units"].count(BIN_WIDTH).values.sum(), version(way))
    import numpy as np
    from nlb_tools.nwb_interface import NWBDataset

    def count() -> float:
        dataset = NWBDataset(str(path), split_heldout=False)
        dataset.resample(round(BIN_WIDTH * 1000))
        return float(np.nansum(dataset.data["spikes"].values))

    return _counted(count, version(way))


def _counted(count: Callable[[], float], version: str) -> dict[str, Any]:
    before, start, work = _peak(), time.perf_counter(), time.process_time()
    n_spikes = int(count())
    seconds, used = time.perf_counter() - start, time.process_time() - work
    peak = round((_peak() - before) / MEGABYTE)
    return {"seconds": seconds, "CPU s": used, "peak MB": peak, "spikes": n_spikes, "version": version}


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    start, work = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - start, time.process_time() - work


def _peak() -> float:
    """Return the peak memory of this process [bytes]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _figure(rows: list[dict[str, Any]], compared: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    rates, memory, others = figure.subplots(1, 3)
    names = [row["read"] for row in rows]
    places = range(len(rows))
    rates.barh([place - 0.2 for place in places], [row["h5py MB/s"] for row in rows], 0.38, label="h5py", color="0.7")
    rates.barh([place + 0.2 for place in places], [row["MB/s"] for row in rows], 0.38, label="read_nwb", color="C0")
    rates.set(xscale="log", xlabel="MB of stored values a second", yticks=places, yticklabels=names)
    memory.barh(places, [row["peak MB"] for row in rows], 0.6, color="C0", label="peak")
    memory.barh(places, [row["result MB"] for row in rows], 0.3, color="C1", label="result")
    memory.axvline(rows[0]["limit MB"], color="k", ls="--", label="memory limit, beside the result")
    memory.set(xlabel="MB", yticks=places, yticklabels=[])
    there = [row for row in compared if row["seconds"] != NO_NUMBER]
    others.barh(
        [f"{row['counts by']} {row['version']}" for row in there], [row["seconds"] for row in there], color="C0"
    )
    others.set(xlabel=f"s to count {compared[0]['spikes']:,} spikes in bins")
    for axes in (rates, memory, others):
        axes.invert_yaxis()
    rates.legend(fontsize="small")
    memory.legend(fontsize="small")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
