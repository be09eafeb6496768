"""Simulated imaging comes back from its file: each sample in its bin, and the truth beside it."""

import numpy as np
import pytest
from nwbinspector import Importance, inspect_nwbfile

from nwb_sbtt.config import ReadConfig, RoiConfig, Trials
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.candidates import inspect
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import read_truth
from nwb_sbtt.io.write.simulation import write_simulation
from nwb_sbtt.simulate.calcium import calcium, subframe
from nwb_sbtt.simulate.tasks import Task, write_task

SIZES = {"n_channels": 7, "conditions": 3, "trials_per_condition": 4}
AS_IT_IS = ReadConfig(rois=RoiConfig(deconvolve="never"))
TRUTH = ("true_rates", "true_latents", "true_spikes", "true_calcium")


def in_order(ds):
    return ds.isel(trial=np.argsort(ds["trial_start"].values))


def test_the_ladder_set_comes_back_from_its_file(tmp_path):
    path = write_task(tmp_path / "calcium.nwb", Task("calcium", **SIZES, seed=1))
    written = in_order(calcium(**SIZES, seed=1))
    ds = read_truth(path, read_nwb(path, AS_IT_IS, bin_width=0.1, trials=Trials(event="start_time", start=0, stop=10)))
    assert ds["observed"].values.all()
    np.testing.assert_array_equal(ds["values"].values, written["values"].values)
    np.testing.assert_array_equal(ds["channel_id"].values, written["channel_id"].values)
    for name in TRUTH:
        np.testing.assert_allclose(ds[name].values, written[name].values, rtol=1e-4, atol=1e-4)
    assert ds.attrs["signal"] == "dF/F" and ds.attrs["kind"] == "rois"
    candidates = [candidate for candidate in inspect(path) if candidate.default]
    assert [candidate.path for candidate in candidates] == ["processing/ophys/DfOverF/dff"]


def test_each_cell_of_the_subframe_set_comes_back_in_its_own_bins(tmp_path):
    written = in_order(calcium(**SIZES, imaging=subframe()))
    path = write_simulation(tmp_path / "subframe.nwb", written)
    config = ReadConfig(
        bin_width=0.01,
        cut=Trials(event="go_time", start=0, stop=0.6),
        rois=RoiConfig(offset="column", deconvolve="never"),
    )
    ds = read_truth(path, read_nwb(path, config))
    for name in ("values", "observed", *TRUTH):
        np.testing.assert_allclose(ds[name].values, written[name].values[:, 30:], rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(ds["sampling_offset"].values, written["sampling_offset"].values)
    whole = read_nwb(path, AS_IT_IS, bin_width=0.03, trials=Trials(event="start_time", start=0, stop=0.9))
    assert whole["observed"].values.all(), "without offsets all cells lie in the bin of their frame"


def test_spikes_of_wider_bins_are_summed(tmp_path):
    written = in_order(calcium(**SIZES))
    path = write_simulation(tmp_path / "calcium.nwb", written)
    ds = read_truth(path, read_nwb(path, bin_width=0.5, trials=Trials(event="start_time", start=0, stop=10)))
    summed = written["true_spikes"].values.reshape(12, 20, 5, 7).sum(2)
    np.testing.assert_allclose(ds["true_spikes"].values, summed, atol=1e-3)
    rates = written["true_rates"].values.reshape(12, 20, 5, 7).mean(2)
    np.testing.assert_allclose(ds["true_rates"].values, rates, rtol=1e-3)


def test_what_was_not_observed_is_not_in_the_file(tmp_path):
    written = in_order(calcium(**SIZES))
    observed = written["observed"].values.copy()
    observed[2, 10:40, 3] = False
    hidden = written.assign(
        observed=(("trial", "time", "channel"), observed), values=written["values"] * observed.astype(np.float32)
    )
    path = write_simulation(tmp_path / "gaps.nwb", hidden)
    ds = read_nwb(path, AS_IT_IS, bin_width=0.1, trials=Trials(event="start_time", start=0, stop=10))
    assert np.array_equal(ds["observed"].values, observed)


def test_the_file_is_a_good_one(tmp_path):
    path = write_task(tmp_path / "calcium.nwb", Task("calcium-subframe", **SIZES))
    grave = [
        message.message
        for message in inspect_nwbfile(nwbfile_path=path)
        if message.importance in (Importance.CRITICAL, Importance.ERROR, Importance.PYNWB_VALIDATION)
    ]
    assert grave == []


def test_a_bandwidth_limit_is_for_spikes(tmp_path):
    with pytest.raises(DataError, match="observed_per_bin is for spikes"):
        write_task(tmp_path / "x.nwb", Task("calcium", **SIZES), observed_per_bin=3)
    assert not list(tmp_path.iterdir())
