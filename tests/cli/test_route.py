"""Imaging on the command line: what a series holds decides how it is fitted, and what is found is written."""

import numpy as np
import pynwb
import pytest
from pynwb import NWBHDF5IO
from pynwb.ophys import Fluorescence, RoiResponseSeries

from nwb_sbtt.cli import pipeline
from nwb_sbtt.cli.route import route
from nwb_sbtt.config import Chop, ConvConfig, EventsConfig, FitConfig, ReadConfig, TrainConfig
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.writer import write_nwb
from nwb_sbtt.train.trackers import Silent
from tests.support import nwbfiles
from tests.support.fluorescence import dff as relative
from tests.support.fluorescence import light, write
from tests.support.nwbfiles import Imaged

SMALL = ConvConfig(width=8, read_in=4, layers=2, groups=2, max_lag=8, factors=3)


@pytest.fixture(scope="module")
def dff(tmp_path_factory):
    return write(tmp_path_factory.mktemp("route") / "dff.nwb", relative(light()[0]))


def test_events_are_found_in_relative_fluorescence_unless_another_likelihood_is_asked_for(dff):
    for likelihood in ("auto", "zig"):
        read, lines = route([dff], ReadConfig(), FitConfig(likelihood=likelihood))
        assert read.events == EventsConfig() and "holds dF/F" in lines[0] and "found in it by OASIS" in lines[0]
    read, lines = route([dff], ReadConfig(), FitConfig(likelihood="gaussian"))
    assert read.events is None and "gaussian likelihood takes it as it is" in lines[0]


def test_settings_of_events_are_left_as_they_are(dff):
    asked = ReadConfig(events=EventsConfig(threshold=2.0))
    assert route([dff], asked, FitConfig()) == (asked, [])


def test_events_are_taken_as_they_are(tmp_path):
    path = write(tmp_path / "spks.nwb", Imaged("Deconvolved", light()[1], Fluorescence, start=5.0))
    read, lines = route([path], ReadConfig(), FitConfig())
    assert read == ReadConfig() and "its events are fitted" in lines[0]


def test_what_is_no_imaging_is_left_alone(tmp_path):
    nwb = nwbfiles.new_file()
    nwbfiles.add_units(nwb, [[0.1, 0.5], [0.2]])
    path = nwbfiles.write(nwb, tmp_path / "units.nwb")
    assert route([path], ReadConfig(), FitConfig()) == (ReadConfig(), [])


CONFIG = FitConfig(model=SMALL, train=TrainConfig(epochs=1), posterior_samples=2)
READ = ReadConfig(cut=Chop(length=3.0, overlap=1.0, start=5.0, stop=29.0))


def test_what_was_found_is_written_with_the_rois_it_was_found_in(dff, tmp_path):
    ds = read_nwb(dff, READ.model_copy(update={"events": EventsConfig()}))
    out = write_nwb(fit(ds, CONFIG, run_dir=tmp_path / "run", tracker=Silent()).infer(ds), tmp_path / "out.nwb")
    assert not pynwb.validate(path=str(out))
    with NWBHDF5IO(out, "r") as io:
        module = io.read().processing["ophys"]
        for name in ("sbtt_events", "sbtt_denoised"):
            assert type(module[name]) is RoiResponseSeries
            assert module[name].rois.table.name == "Seg0" and list(module[name].rois.data[:]) == [0, 1, 2]
        channels = module["sbtt_channels"]
        assert channels["roi"].table.name == "Seg0" and (channels["decay"].data[:] > 0.1).all()
        written = module["sbtt_events"].data[:]
    data, sizes = light()
    assert np.corrcoef(written[:, 0], sizes[: len(written), 0])[0, 1] > 0.9
    result = read_result(out)
    np.testing.assert_array_equal(result["events"].values[0], written)
    assert (np.abs(result["denoised"].values[0][5:-5] - data[5 : len(written) - 5]) < 1).all()
    assert not [each.path for each in inspect(out) if each.default], "results are no recordings"


def test_the_command_line_goes_that_way_and_says_so(dff, tmp_path):
    said, output = [], pipeline.Output(tmp_path / "out.nwb", append=True)
    pipeline.fit_files([dff], READ, CONFIG, run_dir=tmp_path / "run", output=output, log=said.append)
    assert "events are found in it by OASIS" in said[0]
    assert [each.path for each in inspect(output.path) if each.default] == ["processing/ophys/DfOverF/dff"]
