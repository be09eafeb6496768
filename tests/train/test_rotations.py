"""Processes of few rotations, found where each channel is sampled at long and regular intervals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig, DynamicsConfig
from nwb_sbtt.data.sampling import sampling_lags
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.train import rotations
from nwb_sbtt.train.dynamics import _averages, learn, weigh_against
from nwb_sbtt.train.trackers import Silent
from tests.fitting.test_forward import SPEED, config, rotation

BINS, CHANNELS = 40, 25


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rotations, "ROTATIONS", 1)
    monkeypatch.setattr(rotations, "BEGINNINGS", 12)
    monkeypatch.setattr(rotations, "STEPS", 50)
    monkeypatch.setattr(rotations, "READ_OUT_STEPS", 60)


def regular(*, counts, trials=120, scheme="round_robin", k=2):
    ds, clean = rotation(trials=trials, bins=BINS, channels=CHANNELS, counts=counts)
    return sb.data.limit_bandwidth(ds, BandwidthConfig.model_validate({"scheme": scheme, "k": k})), clean


@pytest.fixture(scope="module", params=[True, False], ids=["counts", "signals"])
def sampled(request, tmp_path_factory):
    ds, clean = regular(counts=request.param)
    fitted = sb.fit(ds, config(1, system=None), run_dir=tmp_path_factory.mktemp("regular") / "run", tracker=Silent())
    return ds, clean, fitted


def test_factors_follow_the_rotation_between_samples(sampled):
    ds, clean, fitted = sampled
    batch, likelihood = to_batch(ds, fitted.session_name()), fitted.members[0].model.likelihood
    found = rotations.infer_rotations(batch, likelihood, torch.Generator().manual_seed(0))
    assert found.factors.shape == (120, BINS, 2)
    assert (found.variance > 0).all()
    factors, log = found.factors.numpy().reshape(-1, 2), (np.log(clean) if fitted.expects_counts else clean)
    score = LinearRegression().fit(factors, log.reshape(-1, CHANNELS)).score(factors, log.reshape(-1, CHANNELS))
    assert score > 0.6
    read_out = found.likelihood.expected(found.factors, batch.session).numpy()
    assert np.corrcoef(read_out.ravel(), clean.ravel())[0, 1] > 0.75
    # The model's own read-outs are left as they were.
    assert likelihood.read_outs(batch.session)[0][0].shape[1] == fitted.config.model.factors


def test_the_frequency_is_found_where_it_hides_behind_the_scheme(monkeypatch):
    monkeypatch.setattr(rotations, "BEGINNINGS", 32)
    ds, _ = regular(counts=False)
    batch = to_batch(ds, "session")
    observed = batch.observed.double()
    away = torch.where(batch.observed, batch.values, 0.0).double()
    spread = torch.ones(CHANNELS).double()
    found = rotations._fitted(away, observed, spread, torch.Generator().manual_seed(0))
    costs = [rotations._cost(each, away, observed, spread) for each in found]
    best = found[int(np.argmin(costs))]
    assert abs(float(best.frequency)) == pytest.approx(SPEED, abs=0.03)
    # Each of them is better than no covariance at all.
    none = replace(best, a=0 * best.a, b=0 * best.b)
    assert rotations._cost(none, away, observed, spread) == 0
    assert max(costs) < 0


def test_windows_of_long_trials_join(sampled, monkeypatch):
    ds, _, fitted = sampled
    batch, likelihood = to_batch(ds, fitted.session_name()), fitted.members[0].model.likelihood
    whole = rotations.infer_rotations(batch, likelihood, torch.Generator().manual_seed(0))
    monkeypatch.setattr(rotations, "WINDOW", 32)
    parts = rotations.infer_rotations(batch, likelihood, torch.Generator().manual_seed(0))
    assert np.corrcoef(whole.factors.numpy().ravel(), parts.factors.numpy().ravel())[0, 1] > 0.97


def test_a_system_says_alone_what_lies_between_regular_samples(sampled, monkeypatch):
    ds, _, fitted = sampled
    name, model = fitted.session_name(), fitted.members[0].model
    train, valid = (
        to_batch(ds.isel(trial=np.flatnonzero(ds["split"].values == part)), name) for part in ("train", "valid")
    )
    settings = DynamicsConfig(dimensions=2, width=16, window=20, steps=20, courses=150)
    dynamics = learn(model, [train], settings, torch.Generator().manual_seed(0), tracker=Silent())
    weigh_against(dynamics, model, [valid])
    assert float(dynamics.shares[name]) == 1
    # One that says less than the average of each channel takes no part.
    monkeypatch.setattr("nwb_sbtt.train.dynamics._averages", lambda _, batch: batch.dense(batch.values) + 1e-3)
    weigh_against(dynamics, model, [valid])
    assert float(dynamics.shares[name]) == 0


def test_averages_of_signals_do_not_depend_on_exposure(sampled):
    ds, _, fitted = sampled
    batch = to_batch(ds, fitted.session_name())
    halved = replace(batch, exposure=torch.full_like(batch.values, 0.5))
    likelihood = fitted.members[0].model.likelihood
    factor = 2 if fitted.expects_counts else 1
    torch.testing.assert_close(_averages(likelihood, halved), factor * _averages(likelihood, batch))


@pytest.mark.parametrize(
    ("scheme", "k", "long"), [("round_robin", 2, True), ("speckled", 2, False), ("round_robin", 5, False)]
)
def test_long_lags_are_those_of_regular_samples(scheme, k, long):
    ds, _ = regular(counts=True, scheme=scheme, k=k)
    assert sampling_lags(ds["observed"].values).are_long == long


def test_lags_of_full_or_single_samples_are_none():
    assert sampling_lags(np.ones((2, 5, 3), bool)) is None
    once = np.zeros((2, 5, 3), bool)
    once[:, 2] = True
    assert sampling_lags(once) is None


@pytest.mark.parametrize("sampled", [False], indirect=True, ids=["signals"])
def test_rotations_of_small_signals_are_those_of_large_ones(sampled, monkeypatch):
    ds, _, fitted = sampled
    monkeypatch.setattr(rotations, "STEPS", 20)
    batch, likelihood = to_batch(ds, fitted.session_name()), fitted.members[0].model.likelihood

    def factors(scale):
        scaled = replace(batch, values=batch.values * scale)
        return rotations.infer_rotations(scaled, likelihood, torch.Generator().manual_seed(0)).factors

    torch.testing.assert_close(factors(2.0**-40), factors(1.0), rtol=1e-3, atol=1e-3)
