"""What lies outside a file is named or refused, and never written into a result."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

from nwb_sbtt.config import Trials, WriteConfig
from nwb_sbtt.errors import FileError, SbttError, SelectionError
from nwb_sbtt.io.dandi.origin import record_path
from nwb_sbtt.io.dandi.uploads import upload
from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.outside import outside_of
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.writer import write_nwb
from tests.support import outside
from tests.support.commands import call, recording
from tests.support.latents import digest, latents_of
from tests.support.outside import LEFT_OUT, REFUSED, crafted, holds_key, private_files

AROUND = Trials(event="start_time", start=0.0, stop=1.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("recording") / "lorenz.nwb")


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    return private_files(tmp_path_factory.mktemp("home") / "private")


@pytest.fixture(scope="module")
def plain(source):
    """What the recording holds without any of these ways."""
    return read_nwb(source, trials=AROUND)


@pytest.fixture(scope="module")
def latents(source):
    return latents_of(source, [("units", "units", range(6))])


def _of(path, latents):
    """Results of the crafted file, as of the one that it was made from."""
    origin = {**json.loads(latents.attrs["source"]), "path": str(path), "name": path.name, "sha256": digest(path)}
    return latents.assign_attrs(source=json.dumps(origin))


def test_the_key_is_found_where_it_is(source, private, tmp_path):
    """What the tests below look for can be found: in the crafted file itself, by way of h5py."""
    assert not holds_key(source)
    for way in LEFT_OUT:
        path = crafted(source, tmp_path / f"{way.__name__}.nwb", private, way)
        if "link" not in way.__name__:
            assert holds_key(path), way.__name__


@pytest.mark.parametrize("way", LEFT_OUT, ids=lambda way: way.__name__)
def test_what_lies_outside_is_named_and_left_out(source, plain, latents, private, tmp_path, way):
    path = crafted(source, tmp_path / "crafted.nwb", private, way)
    ds = read_nwb(path, trials=AROUND)
    (note,) = (note for note in json.loads(ds.attrs["notes"]) if "outside" in note)
    assert note.startswith("left out, because it is outside the")
    assert "private" in note
    assert (ds["values"] == plain["values"]).all()
    assert (ds["observed"] == plain["observed"]).all()
    out = write_nwb(_of(path, latents), tmp_path / "out.nwb", source=path)
    assert holds_key(out) == []
    with open_nwb(out) as written:
        assert outside_of(written) == ()
        assert "quality" not in written.units.colnames


@pytest.mark.parametrize("way", LEFT_OUT, ids=lambda way: way.__name__)
def test_a_file_from_an_archive_is_refused_unless_allowed(source, private, tmp_path, way):
    path = crafted(source, tmp_path / "crafted.nwb", private, way)
    record_path(path).write_text(json.dumps({"digests": {"sha2-256": "0" * 64}}))
    for read in (read_nwb, inspect):
        with pytest.raises(
            FileError, match=r"refers to data outside the file: .*--set read.external_data=true"
        ) as refused:
            read(path)
        assert "\n" not in str(refused.value)
    assert inspect(path, external_data=True)


@pytest.mark.parametrize("way", REFUSED, ids=lambda way: way.__name__)
def test_what_a_file_cannot_do_without_is_an_error(source, private, tmp_path, way):
    path = crafted(source, tmp_path / "crafted.nwb", private, way)
    with pytest.raises(SbttError) as refused:
        read_nwb(path, trials=AROUND)
    assert isinstance(refused.value, FileError | SelectionError)
    assert "\n" not in str(refused.value)


def test_measurements_in_another_file_are_read_named_and_not_copied(source, plain, latents, private, tmp_path):
    path = crafted(source, tmp_path / "crafted.nwb", private, outside.spike_times)
    ds = read_nwb(path, trials=AROUND)
    assert any("read from outside the file: 'units/spike_times'" in note for note in json.loads(ds.attrs["notes"]))
    assert (ds["values"] == plain["values"]).all()
    out = write_nwb(_of(path, latents), tmp_path / "out.nwb", source=path)
    with open_nwb(out) as written:
        assert "spike_times" not in written.units.colnames
        assert len(written.units) == 6
    (units,) = (each for each in inspect(path) if each.path == "units")
    assert any("outside the file" in note for note in units.notes)


def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(source, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for way in (outside.text_by_external_link, outside.column_in_external_storage):
        path = crafted(source, tmp_path / f"{way.__name__}.nwb", dict.fromkeys(("key", "held"), tmp_path / "pipe"), way)
        with pytest.raises(FileError, match="It is not a regular file, and reading it might never end"):
            read_nwb(path)


def test_a_virtual_data_set_of_the_file_itself_is_its_own(source, tmp_path):
    path = tmp_path / "own.nwb"
    shutil.copy(source, path)
    with h5py.File(path, "a") as file:
        file["units"].create_dataset("hidden", data=np.full(6, b"good"))
        outside._virtual_within(file, "/units/hidden")
    with open_nwb(path) as nwb:
        assert outside_of(nwb) == ()
        assert "quality" in nwb.units.colnames


def test_an_appended_copy_that_points_elsewhere_is_not_uploaded(source, private, tmp_path):
    path = crafted(source, tmp_path / "crafted.nwb", private, outside.column_in_external_storage)
    with pytest.raises(FileError, match=r"refers to data outside the file: 'units/quality' .*write the results again"):
        upload(path, "000123")


@pytest.mark.parametrize(
    "way",
    [
        outside.text_by_external_link,
        outside.subject_by_external_link,
        outside.column_by_external_link,
        outside.virtual_column,
    ],
)
def test_results_are_added_to_a_copy_without_reading_where_it_points(source, latents, private, tmp_path, way):
    path = crafted(source, tmp_path / "crafted.nwb", private, way)
    latents = _of(path, latents)
    out = write_nwb(latents, tmp_path / "out.nwb", source=path, append=True, config=WriteConfig(precision="full"))
    result = read_result(out)
    assert (result["rates"] == latents["rates"]).all()
    told = next(note for note in json.loads(result.attrs["notes"]) if "the copy refers to data in other files" in note)
    with open_nwb(path) as nwb:
        assert all(repr(each.path) in told for each in outside_of(nwb)[:3])
    assert "the file" not in holds_key(out)


def test_a_column_in_a_file_that_cannot_be_opened_is_left_out_of_what_is_read_and_added_to(source, latents, tmp_path):
    private = private_files(tmp_path / "private")
    path = crafted(source, tmp_path / "crafted.nwb", private, outside.column_by_external_link)
    with h5py.File(private["held"], "r"):  # While it is read, nothing opens it for writing, as the copy would.
        write_nwb(_of(path, latents), tmp_path / "out.nwb", source=path, append=True)
    private["held"].unlink()
    with open_nwb(path) as nwb:
        assert "quality" not in nwb.units.colnames


@pytest.mark.slow
def test_a_fit_of_a_crafted_file_writes_no_byte_of_the_key(monkeypatch, capsys, source, private, tmp_path):
    ways = (outside.column_in_external_storage, outside.column_of_trials, outside.text_by_external_link)
    path = crafted(source, tmp_path / "crafted.nwb", private, *ways)
    words = ["--series", "units", "--trials", "start_time:0:1", "--model", "sae", "--set", "train.epochs=1"]
    assert call(monkeypatch, "fit", path, *words, "--run-dir", tmp_path / "run", "--out", tmp_path / "out.nwb") == 0
    assert "left out, because it is outside the" in capsys.readouterr().out
    for written in [tmp_path / "out.nwb", *(tmp_path / "run").iterdir()]:
        assert holds_key(written) == [], written


@pytest.fixture
def store(source, tmp_path):
    """A Zarr copy of the recording's units."""
    pytest.importorskip("hdmf_zarr")
    from tests.support.nwbfiles import add_units, new_file, write

    nwb = new_file()
    add_units(nwb, [np.arange(0.05, 5, 0.1 + 0.01 * i) for i in range(6)])
    nwb.add_unit_column("quality", "x", data=[f"{i}" for i in range(6)])
    return write(nwb, tmp_path / "x.nwb.zarr", zarr=True)


def _symlinked_chunk(store, private):
    chunk = next(path for path in (store / "units" / "spike_times").iterdir() if path.name[0].isdigit())
    content = chunk.read_bytes()
    chunk.unlink()
    (store.parent / "chunk").write_bytes(content)
    chunk.symlink_to(store.parent / "chunk")


def _symlinked_array(store, private):
    (store / "units" / "quality").rename(store.parent / "quality")
    (store / "units" / "quality").symlink_to(store.parent / "quality")


def _linked(store, private):
    for name in (".zattrs", ".zmetadata"):
        path = store / "general" / name if name == ".zattrs" else store / name
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        attributes = content if name == ".zattrs" else content["metadata"].setdefault("general/.zattrs", {})
        attributes["zarr_link"] = [{"name": "notes", "source": "../other.zarr", "path": "/text"}]
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("way", [_symlinked_chunk, _symlinked_array, _linked])
def test_a_zarr_store_that_leads_out_of_its_folder_is_refused(store, private, way):
    assert read_nwb(store).sizes["channel"] == 6
    way(store, private)
    with pytest.raises(FileError, match=r"refers to data outside the file: .*--set read.external_data=true"):
        read_nwb(store)


def test_a_symbolic_link_within_a_zarr_store_is_its_own(store):
    (store / "units" / "quality").rename(store / "units" / "kept")
    (store / "units" / "quality").symlink_to(store / "units" / "kept")
    assert read_nwb(store).sizes["channel"] == 6
