"""Results, what was copied beside them and the truth of simulations are no recordings, wherever series are chosen."""

import shutil

import numpy as np
import pytest

from nwb_sbtt import inspect, read_nwb, write_nwb
from nwb_sbtt.errors import FileError, SelectionError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.results import Provenance, provenance_of, without_results
from tests.support import nwbfiles
from tests.support.commands import recording
from tests.support.latents import latents_of


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A recording, its results, and a copy of it to which results were appended."""
    folder = tmp_path_factory.mktemp("files")
    nwbfile = nwbfiles.new_file(identifier="recording")
    nwbfiles.add_watched_units(nwbfile, np.random.default_rng(0))
    source = nwbfiles.write(nwbfile, folder / "recording.nwb")
    latents = latents_of(source, [("units", "units", [0, 1, 2])])
    return {
        "source": source,
        "results": write_nwb(latents, folder / "results.nwb"),
        "appended": write_nwb(latents, folder / "appended.nwb", append=True),
    }


def roles(path):
    return {series.path.rsplit("/", 1)[-1]: series.role for series in inspect(path)}


def test_results_and_what_was_copied_beside_them_are_no_recordings(files):
    assert roles(files["source"]) == {"units": "recording"}
    found = roles(files["results"])
    assert found.pop("units") == "copy"
    assert found and set(found.values()) == {"result"}
    assert {"sbtt_rates", "sbtt_rates_sd"} <= set(found)
    appended = roles(files["appended"])
    assert appended.pop("units") == "recording"
    assert set(appended.values()) == {"result"}
    assert [series.path for series in inspect(files["appended"]) if series.default] == ["units"]


def test_the_truth_of_a_simulation_is_no_recording(tmp_path):
    found = roles(recording(tmp_path / "lorenz.nwb"))
    assert found == {"latents": "truth", "rates": "truth", "units": "recording"}
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.zeros(5), rate=1.0, module="ground_truth", name="patch")
    assert roles(nwbfiles.write(nwbfile, tmp_path / "patch.nwb")) == {"patch": "recording"}


def test_the_recordings_of_results_are_named(files):
    def found(name):
        with open_nwb(files[name]) as nwbfile:
            return provenance_of(nwbfile)

    assert found("source") == Provenance()
    assert found("results") == Provenance(("sbtt",), ("recording.nwb",), derived=True)
    assert found("appended") == Provenance(("sbtt",), ("recording.nwb",))


def test_a_file_of_results_is_not_read_unless_its_series_is_named(files):
    with pytest.raises(SelectionError, match="the file has no recording, but results of a model and"):
        read_nwb(files["results"])
    with pytest.raises(SelectionError, match=r"'u\*' matches no recorded series, but copies stored with results"):
        read_nwb(files["results"], series="u*")
    with pytest.raises(SelectionError, match="matches no recorded series, but results of a model"):
        read_nwb(files["appended"], series="processing/*")
    assert read_nwb(files["results"], series="units").sizes["channel"] == 3


def test_several_files_are_fitted_without_the_results_among_them(files, tmp_path):
    source, results, appended = files["source"], files["results"], files["appended"]
    kept, remarks = without_results([appended, source, results])
    assert kept == [source]
    assert remarks == [
        "appended.nwb: a copy of another of these files with added results ('sbtt'), so it is left out",
        "results.nwb: contains results ('sbtt'), inferred from 'recording.nwb', but no recording, so it is left out",
    ]
    assert without_results([appended, results])[0] == [appended]
    assert without_results([results]) == ([results], [])
    other = shutil.copy(results, tmp_path / "other.nwb")
    with pytest.raises(FileError, match="none of the 2 files is a recording"):
        without_results([results, other])
