"""Memory and speed of reading a recording larger than the memory allowed: one table, and one JSON file if asked for.

A compressed recording is generated piece by piece, then read in each of the three uses by a process of its own, whose
peak memory is compared with what it held after its imports.

    python benchmarks/reading_memory.py --gigabytes 1 --limit 256 --json reading_memory.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

USES = ("lfp", "power", "spikes")
SIZES = {"full": {"rate": 20000.0, "channels": 128}, "small": {"rate": 8000.0, "channels": 16}}
CHUNK_SECONDS = 0.5
BIN_WIDTH = 0.02
MEGABYTE = 1e6
CHUNK_CACHE = 64 * 2**20
"""What the reader lets HDF5 keep of a file; it comes on top of the limit."""


def generate(path: Path, *, gigabytes: float, rate: float, channels: int) -> int:
    """Write an int16 recording of about that size, chunk by chunk; give its size in bytes."""
    import numpy as np
    from hdmf.data_utils import GenericDataChunkIterator
    from pynwb import NWBHDF5IO, H5DataIO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    rows = int(gigabytes * 1e9 / 2 / channels)
    chunk_rows = int(CHUNK_SECONDS * rate)
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(chunk_rows, channels)) * 20).astype(np.int16)

    class Noise(GenericDataChunkIterator):
        """Noise, another stretch of it in each chunk, over a slow wave and spikes every tenth of a second."""

        def _get_data(self, selection: tuple[slice, ...]) -> np.ndarray:
            first, stop = selection[0].start, selection[0].stop
            wave = (500 * np.sin(2 * np.pi * 8 * np.arange(first, stop) / rate)).astype(np.int16)
            data = np.roll(noise, first // chunk_rows * 7919, axis=0)[: stop - first] + wave[:, None]
            data[:: int(rate / 10)] -= 400
            return data[:, selection[1]]

        def _get_maxshape(self) -> tuple[int, int]:
            return rows, channels

        def _get_dtype(self) -> np.dtype:
            return np.dtype(np.int16)

    nwbfile = NWBFile("generated", "reading_memory", datetime(2024, 3, 1, tzinfo=UTC))
    group = nwbfile.create_electrode_group(
        name="probe", description="generated", location="cortex", device=nwbfile.create_device(name="probe")
    )
    for _ in range(channels):
        nwbfile.add_electrode(group=group, location="cortex")
    shape = (chunk_rows, channels)
    data = H5DataIO(Noise(buffer_shape=shape, chunk_shape=shape), compression="gzip", compression_opts=1)
    electrodes = nwbfile.create_electrode_table_region(list(range(channels)), "all")
    nwbfile.add_acquisition(ElectricalSeries(name="raw", data=data, electrodes=electrodes, rate=rate, conversion=1e-6))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return rows * channels * 2


def peak() -> float:
    """Largest memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def read(path: Path, *, use: str, limit: float) -> dict[str, float]:
    """Read the recording once, in this process."""
    from nwb_sbtt.config import ElectricalConfig, ReadConfig
    from nwb_sbtt.io.files import open_nwb
    from nwb_sbtt.io.reader import read_nwb

    # What opening any file takes, for the definitions of its types, belongs to the imports.
    with open_nwb(path):
        before = peak()
    start = time.perf_counter()
    config = ReadConfig(electrical=ElectricalConfig(use=use), bin_width=BIN_WIDTH, memory_limit=limit)
    ds = read_nwb(path, config)
    return {"peak": peak() - before, "seconds": time.perf_counter() - start, "result": float(ds.nbytes)}


def read_plain(path: Path) -> float:
    """Seconds that h5py alone takes for all chunks."""
    import h5py

    start = time.perf_counter()
    with h5py.File(path, "r") as file:
        data = file["acquisition/raw/data"]
        for first in range(0, data.shape[0], data.chunks[0]):
            data[first : first + data.chunks[0]]
    return time.perf_counter() - start


def measure(*, gigabytes: float, limit: float, size: str) -> dict[str, object]:
    """Generate, read in every use, and clean up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.nwb"
        written = generate(path, gigabytes=gigabytes, **SIZES[size])
        rows = []
        for use in USES:
            command = [sys.executable, __file__, "--read", str(path), "--use", use, "--limit", str(limit / MEGABYTE)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"use": use, **json.loads(done.stdout.splitlines()[-1])})
        return {
            "recording": written,
            "stored": path.stat().st_size,
            "limit": limit,
            "plain_seconds": read_plain(path),
            "rows": rows,
        }


def table(found: dict[str, object]) -> str:
    """The one table."""
    size, limit, plain = found["recording"] / MEGABYTE, found["limit"] / MEGABYTE, found["plain_seconds"]
    lines = [
        f"recording {size:.0f} MB ({found['stored'] / MEGABYTE:.0f} MB compressed), memory limit {limit:.0f} MB, "
        f"h5py alone {size / plain:.0f} MB/s",
        f"{'use':8}{'peak MB':>10}{'result MB':>11}{'within':>8}{'seconds':>9}{'MB/s':>7}{'of h5py':>9}",
    ]
    for row in found["rows"]:
        lines.append(
            f"{row['use']:8}{row['peak'] / MEGABYTE:10.0f}{row['result'] / MEGABYTE:11.1f}{within(row, found):>8}"
            f"{row['seconds']:9.1f}{size / row['seconds']:7.0f}{plain / row['seconds']:9.0%}"
        )
    return "\n".join(lines)


def within(row: dict[str, float], found: dict[str, object]) -> str:
    """Whether the peak stayed below the limit, HDF5's cache of chunks, and what the result and its making take."""
    return "yes" if row["peak"] <= found["limit"] + CHUNK_CACHE + 6 * row["result"] else "NO"


def main() -> int:
    """Entry point; 1 where a peak was above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--limit", type=float, help="megabytes; a quarter of the recording where left out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true", help="0.06 GB of 16 channels")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--use", choices=USES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read is not None:
        print(json.dumps(read(given.read, use=given.use, limit=given.limit * MEGABYTE)))
        return 0
    gigabytes = 0.06 if given.small else given.gigabytes
    limit = gigabytes * 1e9 / 4 if given.limit is None else given.limit * MEGABYTE
    found = measure(gigabytes=gigabytes, limit=limit, size="small" if given.small else "full")
    print(table(found))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2))
    return 0 if all(within(row, found) == "yes" for row in found["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
