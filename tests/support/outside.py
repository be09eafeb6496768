"""Files that would have another file of the machine read as their data, each in another way."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

N_UNITS = 6
COLUMN = {
    "namespace": "hdmf-common",
    "neurodata_type": "VectorData",
    "object_id": "b" * 36,
    "description": "looks plain",
}
KEY_BYTES = b"".join(hashlib.sha256(bytes([i])).hexdigest().encode() for i in range(64))
"""Stands for a private key; no eight bytes of it are in any other file."""


def private_files(folder: Path) -> dict[str, Path]:
    """A key, and an HDF5 file that holds it, which the files below point at."""
    folder.mkdir()
    key, held = folder / "key", folder / "held.h5"
    key.write_bytes(KEY_BYTES)
    texts = np.frombuffer(KEY_BYTES[: 64 * N_UNITS], dtype="S64")
    with h5py.File(held, "w") as file:
        file.attrs["nwb_version"] = "2.8.0"
        file["text"] = KEY_BYTES[:64].decode()
        file.create_dataset("quality", data=texts).attrs.update(COLUMN)
        group = file.create_group("subject")
        group.attrs.update({"namespace": "core", "neurodata_type": "Subject", "object_id": "c" * 36})
        group["subject_id"] = KEY_BYTES[:64].decode()
        group["description"] = KEY_BYTES[64:128].decode()
    return {"key": key, "held": held}


def _add_column(file: h5py.File, name: str = "quality", table: str = "units") -> None:
    file[table][name].attrs.update(COLUMN)
    names = [*file[table].attrs["colnames"], name]
    file[table].attrs["colnames"] = np.array(names, dtype=h5py.string_dtype())


def column_in_external_storage(file, private):
    file["units"].create_dataset("quality", (N_UNITS,), "S64", external=[(str(private["key"]), 0, 64 * N_UNITS)])
    _add_column(file)


def column_of_numbers(file, private):
    file["units"].create_dataset("quality", (N_UNITS,), "u8", external=[(str(private["key"]), 0, 8 * N_UNITS)])
    _add_column(file)


def column_of_trials(file, private):
    n = len(file["intervals/trials/id"])
    file["intervals/trials"].create_dataset("block", (n,), "S64", external=[(str(private["key"]), 0, 64 * n)])
    _add_column(file, "block", "intervals/trials")


def ragged_column(file, private):
    file["units"].create_dataset("notes", (N_UNITS,), "S64", external=[(str(private["key"]), 0, 64 * N_UNITS)])
    _add_column(file, "notes")
    index = file["units"].create_dataset("notes_index", data=np.arange(1, N_UNITS + 1))
    index.attrs.update({**COLUMN, "neurodata_type": "VectorIndex", "object_id": "d" * 36})
    index.attrs["target"] = file["units/notes"].ref


def spike_times(file, private):
    """Measurements, which are read and named."""
    times = file["units/spike_times"]
    content, attributes = times[:], dict(times.attrs)
    beside = Path(file.filename).parent / "times.bin"
    content.astype("<f8").tofile(beside)
    del file["units/spike_times"]
    stored = file["units"].create_dataset(
        "spike_times", content.shape, "<f8", external=[(str(beside), 0, content.nbytes)]
    )
    stored.attrs.update(attributes)
    file["units/spike_times_index"].attrs["target"] = stored.ref


def text_by_external_link(file, private):
    file["general/notes"] = h5py.ExternalLink(str(private["held"]), "/text")


def column_by_external_link(file, private):
    file["units/quality"] = h5py.ExternalLink(str(private["held"]), "/quality")
    names = [*file["units"].attrs["colnames"], "quality"]
    file["units"].attrs["colnames"] = np.array(names, dtype=h5py.string_dtype())


def subject_by_external_link(file, private):
    del file["general/subject"]
    file["general/subject"] = h5py.ExternalLink(str(private["held"]), "/subject")


def text_by_a_link_through_another(file, private):
    file["scratch_of_mine"] = h5py.ExternalLink(str(private["held"]), "/")
    file["general/notes"] = h5py.SoftLink("/scratch_of_mine/text")


def column_by_a_link_to_external_storage(file, private):
    file.create_dataset("analysis/quality", (N_UNITS,), "S64", external=[(str(private["key"]), 0, 64 * N_UNITS)])
    file["analysis/quality"].attrs.update(COLUMN)
    file["units/quality"] = h5py.SoftLink("/analysis/quality")
    _add_column(file)


def column_by_another_name_of_external_storage(file, private):
    file.create_dataset("analysis/quality", (N_UNITS,), "S64", external=[(str(private["key"]), 0, 64 * N_UNITS)])
    file["units/quality"] = file["analysis/quality"]
    _add_column(file)


def virtual_column(file, private):
    layout = h5py.VirtualLayout((N_UNITS,), "S64")
    layout[:] = h5py.VirtualSource(str(private["held"]), "quality", (N_UNITS,))
    file["units"].create_virtual_dataset("quality", layout)
    _add_column(file)


def virtual_column_of_external_storage(file, private):
    file.create_dataset("analysis/quality", (N_UNITS,), "S64", external=[(str(private["key"]), 0, 64 * N_UNITS)])
    _virtual_within(file, "/analysis/quality")


def virtual_column_through_a_link(file, private):
    file["analysis/quality"] = h5py.ExternalLink(str(private["held"]), "/quality")
    _virtual_within(file, "/analysis/quality")


def _virtual_within(file: h5py.File, path: str) -> None:
    layout = h5py.VirtualLayout((N_UNITS,), "S64")
    layout[:] = h5py.VirtualSource(".", path, (N_UNITS,), "S64")
    file["units"].create_virtual_dataset("quality", layout)
    _add_column(file)


LEFT_OUT: tuple[Callable[[h5py.File, dict[str, Path]], None], ...] = (
    column_in_external_storage,
    column_of_numbers,
    column_of_trials,
    ragged_column,
    text_by_external_link,
    column_by_external_link,
    subject_by_external_link,
    column_by_a_link_to_external_storage,
    column_by_another_name_of_external_storage,
    virtual_column,
    virtual_column_of_external_storage,
    virtual_column_through_a_link,
)
"""Of a file of the user's own, these are left out, and the rest is read."""


def ids(file, private):
    attributes = dict(file["units/id"].attrs)
    del file["units/id"]
    stored = file["units"].create_dataset("id", (N_UNITS,), "i8", external=[(str(private["key"]), 0, 8 * N_UNITS)])
    stored.attrs.update(attributes)


def event_times(file, private):
    trials = file["intervals/trials"]
    n, attributes = len(trials["id"]), dict(trials["start_time"].attrs)
    del trials["start_time"]
    stored = trials.create_dataset("start_time", (n,), "f8", external=[(str(private["key"]), 0, 8 * n)])
    stored.attrs.update(attributes)


def description(file, private):
    del file["session_description"]
    file["session_description"] = h5py.ExternalLink(str(private["held"]), "/text")


def specifications(file, private):
    file["specifications/mine"] = h5py.ExternalLink(str(private["held"]), "/")


def observation_intervals(file, private):
    """Without them every unit would count as observed."""
    n, attributes = file["units/obs_intervals"].shape[0], dict(file["units/obs_intervals"].attrs)
    del file["units/obs_intervals"]
    stored = file["units"].create_dataset("obs_intervals", (n, 2), "f4", external=[(str(private["key"]), 0, 8 * n)])
    stored.attrs.update(attributes)
    file["units/obs_intervals_index"].attrs["target"] = stored.ref


REFUSED = (ids, event_times, description, specifications, observation_intervals, text_by_a_link_through_another)
"""Without these there is no file."""


def crafted(source: Path, target: Path, private: dict[str, Path], *ways: Callable[..., None]) -> Path:
    """A copy of a recording that points at the private files, in one or several ways."""
    shutil.copy(source, target)
    with h5py.File(target, "a") as file:
        for way in ways:
            way(file, private)
    return target


def holds_key(path: Path) -> list[str]:
    """Where a file holds eight bytes of the key, compressed or not."""
    windows = {KEY_BYTES[i : i + 8] for i in range(0, 64 * 32, 4)}

    def found(content: bytes) -> bool:
        return any(window in content for window in windows)

    places = ["the file"] if found(path.read_bytes()) else []
    if not h5py.is_hdf5(path):
        return places
    with h5py.File(path, "r") as file:

        def look(name, item):
            content = json.dumps({key: str(value) for key, value in item.attrs.items()}).encode()
            if isinstance(item, h5py.Dataset):
                values = np.asarray(item[()])
                content += values.tobytes() if values.dtype.kind != "O" else str(values.tolist()).encode()
            if found(content):
                places.append(name)

        file.visititems(look)
    return places
