"""One candidate is taken; several, or none that fits, are an error that says what to write."""

from dataclasses import dataclass

import numpy as np
import pytest
from pynwb import TimeSeries

from nwb_sbtt import read_nwb
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.selection import find_series, select
from tests.support import nwbfiles


@dataclass(frozen=True)
class Series:
    path: str
    default: bool = True
    role: str = "recording"


UNITS = Series("units")
RAW = Series("acquisition/ElectricalSeries")
LFP = Series("processing/ecephys/LFP/LFP")
HAND = Series("processing/behavior/hand", default=False)


def paths(*candidates, **patterns):
    return [series.path for series in select(list(candidates), **patterns)]


def test_the_only_candidate_is_taken_whatever_else_there_is():
    assert paths(HAND, UNITS) == ["units"]


def test_several_candidates_are_listed_as_they_are_to_be_written():
    with pytest.raises(SelectionError) as caught:
        paths(UNITS, LFP, HAND)
    assert str(caught.value).endswith("choose one or several: --series units, --series processing/ecephys/LFP/LFP")


def test_a_file_without_candidates_names_the_other_series():
    with pytest.raises(SelectionError, match="--series processing/behavior/hand"):
        paths(HAND)
    with pytest.raises(SelectionError, match="no other series of numbers"):
        paths()


def test_exact_paths_and_globs_are_taken_in_their_order_and_once():
    everything = (RAW, HAND, LFP, UNITS)
    assert paths(*everything, patterns=["processing/behavior/hand"]) == ["processing/behavior/hand"]
    assert paths(*everything, patterns=["/units"]) == ["units"]
    assert paths(*everything, patterns=["processing/ecephys/*", "acq*"]) == [LFP.path, RAW.path]
    assert paths(*everything, patterns=["units", "u*"]) == ["units"]


def test_a_glob_prefers_recordings_to_other_series():
    assert paths(HAND, LFP, patterns=["processing/*"]) == [LFP.path]
    assert paths(HAND, UNITS, patterns=["processing/*"]) == [HAND.path]


def test_an_unknown_path_names_the_nearest():
    with pytest.raises(SelectionError, match="did you mean 'processing/ecephys/LFP/LFP'"):
        paths(UNITS, LFP, patterns=["processing/ecephys/LFP/lfp"])
    with pytest.raises(SelectionError, match="did you mean 'acquisition/ElectricalSeries'"):
        paths(UNITS, RAW, patterns=["ElectricalSeries"])
    with pytest.raises(SelectionError, match="the file has 'units'"):
        paths(UNITS, patterns=["zzz"])
    with pytest.raises(SelectionError, match="`series` is empty"):
        paths(UNITS, patterns=[])


def test_series_are_found_wherever_they_lie():
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [[0.1]])
    nwbfiles.add_electrodes(nwbfile, 2)
    nwbfiles.add_electrical(nwbfile, np.zeros((5, 2)), rate=1.0)
    nwbfiles.add_electrical(nwbfile, np.zeros((5, 2)), rate=1.0, name="lfp", lfp=True)
    nwbfiles.add_rois(nwbfile, np.zeros((5, 3)), rate=1.0)
    nwbfiles.add_series(nwbfile, np.zeros(5), rate=1.0, module="behavior", name="eye")
    nwbfiles.add_series(nwbfile, np.zeros((5, 4, 4)), rate=1.0, name="film")
    nwbfile.add_stimulus(TimeSeries(name="light", data=np.zeros(5), unit="W", rate=1.0))
    nwbfiles.add_series(nwbfile, np.array(["a"] * 5), rate=1.0, name="words")
    stored = find_series(nwbfile)
    assert [(series.path, series.kind, series.default) for series in stored] == [
        ("acquisition/ElectricalSeries", "electrodes", True),
        ("processing/behavior/eye", "series", False),
        ("processing/ecephys/LFP/lfp", "electrodes", True),
        ("processing/ophys/Fluorescence/RoiResponseSeries", "rois", True),
        ("stimulus/presentation/light", "series", False),
        ("units", "units", True),
    ]


def test_results_and_units_without_spikes_are_not_candidates():
    from ndx_sbtt import LatentFactorSeries

    nwbfile = nwbfiles.new_file()
    nwbfile.add_unit_column("quality", "generated")
    nwbfile.add_unit(quality="good")
    nwbfile.create_processing_module(name="results", description="generated").add(
        LatentFactorSeries(name="z", data=np.zeros((5, 2), dtype="f4"), unit="a.u.", rate=10.0, kind="factors")
    )
    assert [(series.path, series.default) for series in find_series(nwbfile)] == [
        ("processing/results/z", False),
        ("units", False),
    ]


def test_the_reason_is_given_why_a_named_series_cannot_be_read(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfile.add_acquisition(TimeSeries(name="cube", data=np.zeros((5, 3, 2)), unit="a.u.", rate=1.0))
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with pytest.raises(SelectionError, match=r"'acquisition/cube' cannot be read: its data of shape \(5, 3, 2\)"):
        read_nwb(path, series=("acquisition/cube",))
    with pytest.raises(SelectionError, match=r"has no usable .*; 'acquisition/cube' cannot be read: its data"):
        read_nwb(path)
