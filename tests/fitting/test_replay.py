"""A recording is given to a stream bin by bin, and takes the time that it takes."""

import time

import numpy as np
import pytest

from nwb_sbtt.data.chops import merge, n_merged_bins
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.fitting.replay import replay
from tests.fitting.test_lag import chopped, fitted, session  # noqa: F401 (fixtures)
from tests.fitting.test_stream import BINS, TRIALS, WIDTH, dataset, fit


def test_trials_are_inferred_as_at_once_and_every_bin_is_timed(tmp_path):
    ds = dataset()
    model = fit(ds, tmp_path / "run")
    counted = []
    found = replay(model, ds.isel(channel=slice(None, None, -1)), advance=counted.append)
    assert len(found.latency) == sum(counted) == TRIALS * BINS
    assert (found.latency > 0).all() and found.missed == 0
    assert found.difference < 1e-5 and n_merged_bins(ds) == TRIALS * BINS
    whole = model.infer(ds)
    assert {"rates", "rates_sd", "factors", "observed"} == set(found.latents.data_vars)
    for name in ("rates", "rates_sd", "factors"):
        np.testing.assert_allclose(found.latents[name].values, whole[name].values, rtol=1e-4, atol=1e-5)
    summary = found.summary()
    assert sum(summary["histogram"].values()) == summary["bins"] == TRIALS * BINS
    assert summary["p50_ms"] <= summary["p99_ms"] <= summary["max_ms"]


def test_a_session_in_chops_is_one_recording(fitted, session):  # noqa: F811
    ds = chopped(session)
    found = replay(fitted, ds)
    assert len(found.latency) == merge(ds).sizes["time"] == n_merged_bins(ds)
    assert found.latents["rates"].shape == ds["values"].shape and found.difference < 1e-5


def test_held_out_channels_are_not_given_to_the_stream(tmp_path):
    ds = dataset()
    ds = ds.assign_coords(held_out=("channel", np.arange(ds.sizes["channel"]) < 2))
    assert replay(fit(ds, tmp_path / "run"), ds).difference < 1e-5


def test_bins_come_at_a_multiple_of_real_time(tmp_path):
    ds = dataset().isel(trial=slice(0, 8))
    model = fit(ds, tmp_path / "run")
    started = time.perf_counter()
    found = replay(model, ds.isel(trial=[0, 1]), speed=2.0)
    assert time.perf_counter() - started >= 2 * BINS * WIDTH / 2
    late = replay(model, ds.isel(trial=[0]), speed=1e5)
    assert late.missed > BINS / 2 >= found.missed or found.latency.max() > WIDTH / 2


def test_a_fit_without_a_lag_cannot_be_replayed(tmp_path):
    ds = dataset()
    with pytest.raises(ConfigError, match="no lag"):
        replay(fit(ds, tmp_path / "run", lag=None), ds)
