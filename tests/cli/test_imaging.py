"""Imaging on the command line: what a series holds decides how it is fitted, and what is found is written."""

import numpy as np
import pynwb
import pytest
from pynwb import NWBHDF5IO
from pynwb.ophys import Fluorescence, RoiResponseSeries

from nwb_sbtt import pipeline
from nwb_sbtt.config import (
    Chop,
    ConvConfig,
    EventsConfig,
    FitConfig,
    GaussianConfig,
    LadderConfig,
    ReadConfig,
    RoiConfig,
    TrainConfig,
    Window,
)
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import reading_of
from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.io.write.writer import write_nwb
from nwb_sbtt.train.trackers import Silent
from tests.support.fluorescence import dff as relative
from tests.support.fluorescence import light, write
from tests.support.nwbfiles import Imaged

SMALL = ConvConfig(width=8, read_in=4, layers=2, groups=2, max_lag=8, factors=3)


@pytest.fixture(scope="module")
def dff(tmp_path_factory):
    return write(tmp_path_factory.mktemp("route") / "dff.nwb", relative(light()[0]))


CONFIG = FitConfig(model=SMALL, train=TrainConfig(epochs=1), posterior_samples=2)
READ = ReadConfig(cut=Chop(length=3.0, overlap=1.0, start=5.0, stop=29.0))


def test_fluorescence_stays_as_it_is_for_what_takes_fluorescence():
    for likelihood in ("auto", "zig"):
        assert reading_of(ReadConfig(), FitConfig(likelihood=likelihood)) == ReadConfig()
    never = ReadConfig(rois=RoiConfig(deconvolve="never"))
    assert reading_of(ReadConfig(), FitConfig(likelihood="gaussian")) == never
    assert reading_of(ReadConfig(), FitConfig(model=LadderConfig())) == never
    for asked in (ReadConfig(events=EventsConfig()), never):
        assert reading_of(asked, FitConfig(likelihood="gaussian")) == reading_of(asked, FitConfig()) == asked


def test_what_rois_hold_is_decided_by_the_reader(dff, tmp_path):
    ds = read_nwb(dff, READ)
    assert ds.attrs["signal"] == "events" and "denoised" in ds
    assert "contains dF/F" in ds.attrs["notes"] and "events inferred by deconvolution" in ds.attrs["notes"]
    as_it_is = read_nwb(dff, READ.model_copy(update={"rois": RoiConfig(deconvolve="never")}))
    assert as_it_is.attrs["signal"] == "dF/F" and "read unchanged" in as_it_is.attrs["notes"]
    spikes = write(tmp_path / "spks.nwb", Imaged("Deconvolved", light()[1], Fluorescence, start=5.0))
    stored = read_nwb(spikes, READ)
    assert stored.attrs["signal"] == "events" and "denoised" not in stored
    assert "contains events" in stored.attrs["notes"]
    noise = write(tmp_path / "noise.nwb", relative(np.random.default_rng(0).normal(0, 1, (20, 3))))
    short = read_nwb(noise, ReadConfig(cut=Window(start=5.0, stop=6.0)))
    assert (
        short.attrs["signal"] == "dF/F"
        and "deconvolution found no events: no events can be found" in short.attrs["notes"]
    )


def test_events_that_nobody_asked_for_are_not_fitted_as_fluorescence(dff, tmp_path):
    ds = read_nwb(dff, READ)
    for config in (FitConfig(likelihood="gaussian"), FitConfig(model=LadderConfig())):
        with pytest.raises(DataError, match=r"needs fluorescence, but the data are events .*deconvolve='never'"):
            fit(ds, config, run_dir=tmp_path / "run")
    with pytest.raises(DataError, match=r"'poisson' is for counts, but the data are events .*likelihood.name=auto"):
        fit(ds, FitConfig(likelihood="poisson"), run_dir=tmp_path / "run")
    asked = read_nwb(dff, READ.model_copy(update={"events": EventsConfig()}))
    assert (asked["values"] == ds["values"]).all()
    fit(asked, CONFIG.model_copy(update={"likelihood": GaussianConfig()}), run_dir=tmp_path / "run", tracker=Silent())


def test_python_and_the_command_line_make_the_same_model(dff, tmp_path):
    pipeline.fit_files([dff], READ, CONFIG, run_dir=tmp_path / "one", log=lambda text: None)
    other = fit(read_nwb(dff, READ), CONFIG, run_dir=tmp_path / "other", tracker=Silent())
    assert load(tmp_path / "one").checkpoint_sha256 == other.checkpoint_sha256


@pytest.mark.slow
def test_what_was_found_is_written_with_the_rois_it_was_found_in(dff, tmp_path):
    ds = read_nwb(dff, READ)
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
    assert np.isnan(written[0]).all() and np.isfinite(written[1:]).all(), "no event can be known at the first sample"
    assert np.corrcoef(written[1:, 0], sizes[1 : len(written), 0])[0, 1] > 0.9
    result = read_result(out)
    np.testing.assert_array_equal(result["events"].values[0], written)
    assert (np.abs(result["denoised"].values[0][5:-5] - data[5 : len(written) - 5]) < 1.5).all()
    assert not [each.path for each in inspect(out) if each.default], "results are no recordings"


def test_the_command_line_goes_that_way_and_says_so(dff, tmp_path):
    said, output = [], pipeline.Output(tmp_path / "out.nwb", append=True)
    pipeline.fit_files([dff], READ, CONFIG, run_dir=tmp_path / "run", output=output, log=said.append)
    assert "events inferred by deconvolution" in said[0]
    assert [each.path for each in inspect(output.path) if each.default] == ["processing/ophys/DfOverF/dff"]
