"""Large simulated recordings for `reading.py`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CHUNK_SECONDS = 0.5
CHUNK_SPIKES = 1 << 17
RATE = 25.0
"""Spikes per second of each unit."""


def make_units(path: Path, *, n_spikes: int, n_units: int, seed: int, intervals: bool, packed: bool = False) -> None:
    """Write units with random spikes, 25 Hz spikes_per_unit, on a clock of 30 kHz; `intervals` leaves one second unobserved."""
    import h5py
    import numpy as np
    from pynwb import NWBHDF5IO

    spikes_per_unit = n_spikes // n_units
    seconds = spikes_per_unit / RATE
    nwbfile = _new_file()
    observed = np.array([[0, seconds / 2], [seconds / 2 + 1, seconds]]).round(2) if intervals else None
    for _ in range(n_units):
        nwbfile.add_unit(spike_times=np.zeros(1), **({"obs_intervals": observed} if intervals else {}))
    for start in (0.0, seconds / 2 + 1):
        nwbfile.add_trial(start_time=start, stop_time=start + seconds / 2 - 1)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    rng = np.random.default_rng(seed)
    # pynwb would hold all spikes in memory at once.
    with h5py.File(path, "a") as file:
        index, column = file["units/spike_times_index"], file["units/spike_times"]
        stored = dict(column.attrs)
        del file["units/spike_times"]
        options = {"chunks": (min(CHUNK_SPIKES, n_spikes),), "compression": "gzip"} if packed else {}
        column = file["units"].create_dataset("spike_times", (spikes_per_unit * n_units,), "f8", **options)
        column.attrs.update({**stored, "seconds": round(seconds, 2)})
        attributes = dict(index.attrs)
        del file["units/spike_times_index"]
        ends = (np.arange(n_units, dtype=np.uint64) + 1) * spikes_per_unit
        file["units"].create_dataset("spike_times_index", data=ends).attrs.update(attributes)
        file["units/spike_times_index"].attrs["target"] = column.ref
        for unit in range(n_units):
            times = np.sort(rng.uniform(0, seconds, spikes_per_unit))
            column[unit * spikes_per_unit : (unit + 1) * spikes_per_unit] = np.round(times * 30000) / 30000


def make_series(path: Path, *, gigabytes: float, rate: float, channels: int, seed: int) -> None:
    """Write an int16 recording of about that size, chunk by chunk, by gzip."""
    import numpy as np
    from hdmf.data_utils import GenericDataChunkIterator
    from pynwb import NWBHDF5IO, H5DataIO
    from pynwb.ecephys import ElectricalSeries

    rows = int(gigabytes * 1e9 / 2 / channels)
    chunk_rows = int(CHUNK_SECONDS * rate)
    noise = (np.random.default_rng(seed).normal(size=(chunk_rows, channels)) * 20).astype(np.int16)

    class Noise(GenericDataChunkIterator):
        """Noise, another part of it in each chunk, over a slow wave and spikes every tenth of a second."""

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

    nwbfile = _new_file()
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


def _new_file() -> Any:
    from pynwb import NWBFile

    return NWBFile("generated", "reading", datetime(2024, 3, 1, tzinfo=UTC))
