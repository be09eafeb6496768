"""Processes of few rotations, found where each channel is sampled at long and regular intervals."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.linear_model import LinearRegression

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig, DynamicsConfig
from nwb_sbtt.data.sampling import sampling_lags
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.train import dynamics, loop, rotations, shares
from nwb_sbtt.train.dynamics import learn
from nwb_sbtt.train.shares import _averages, weigh_against
from nwb_sbtt.train.trackers import Silent
from tests.fitting.test_forward import SPEED, config, rotation

BINS, CHANNELS = 40, 25


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(rotations, "STAGES", ((12, 40, 0.06), (4, 60, 0.04)))
    monkeypatch.setattr(rotations, "READ_OUT_STEPS", 30)
    monkeypatch.setattr(dynamics, "STEPS_TRIED", 20)


def regular(*, counts, trials=120, scheme="round_robin", k=2):
    ds, clean = rotation(trials=trials, bins=BINS, channels=CHANNELS, counts=counts)
    return sb.data.limit_bandwidth(ds, BandwidthConfig.model_validate({"scheme": scheme, "k": k})), clean


@pytest.fixture(scope="module", params=[True, False], ids=["counts", "signals"])
def sampled(request, tmp_path_factory):
    ds, clean = regular(counts=request.param)
    fitted = sb.fit(ds, config(1, system=None), run_dir=tmp_path_factory.mktemp("regular") / "run", tracker=Silent())
    return ds, clean, fitted


def search(batch, likelihood, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return rotations.infer_rotations(batch, likelihood, 2, generator, tell=lambda step: None)


def test_factors_follow_the_rotation_between_samples(sampled):
    ds, clean, fitted = sampled
    batch, likelihood = to_batch(ds, fitted.session_name()), fitted.members[0].model.likelihood
    found, *_ = search(batch, likelihood)
    assert found.factors.shape == (120, BINS, 2)
    assert (found.variance > 0).all()
    factors, log = found.factors.numpy().reshape(-1, 2), (np.log(clean) if fitted.expects_counts else clean)
    score = LinearRegression().fit(factors, log.reshape(-1, CHANNELS)).score(factors, log.reshape(-1, CHANNELS))
    assert score > 0.6
    read_out = found.likelihood.expected(found.factors, batch.session).numpy()
    assert np.corrcoef(read_out.ravel(), clean.ravel())[0, 1] > 0.75
    # The model's own read-outs are left as they were.
    assert likelihood.read_outs(batch.session)[0][0].shape[1] == fitted.config.model.factors


def random_process(n, *, channels=5, dimensions=3, parts=4, seed=0):
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn((n, *shape), generator=g, dtype=torch.float64)

    return rotations._Process(
        drawn(channels, dimensions),
        drawn(dimensions, parts),
        drawn(dimensions, parts),
        drawn(parts),
        1 + 0.3 * drawn(parts),
        0.3 * drawn(channels),
    )


def covariance(process, bins, channels):
    """Of entries of one process, by the formula, part by part."""
    tau = np.subtract.outer(bins, bins)
    a, b, loadings = process.a.numpy(), process.b.numpy(), process.loadings.numpy()
    total = np.zeros(tau.shape)
    for p, (frequency, width) in enumerate(
        zip(process.frequency.numpy(), process.log_width.exp().numpy(), strict=True)
    ):
        x, y = (loadings[channels] @ each[:, p] for each in (a, b))
        alike = np.outer(x, x) + np.outer(y, y)
        turned = np.outer(x, y) - np.outer(y, x)
        total += np.exp(-(tau**2) / (2 * width**2)) * (
            np.cos(frequency * tau) * alike + np.sin(frequency * tau) * turned
        )
    return total


def sparse_values(*, trials=7, bins=12, channels=5, seed=1):
    """Values of which some entries are observed, in two patterns, with exposures."""
    rng = np.random.default_rng(seed)
    weights = (rng.random((2, bins, channels)) < 0.4) * rng.uniform(0.5, 1, (2, bins, channels))
    weights = weights[[0, 1, 0, 0, 1, 0, 1]][:trials]
    away = rng.normal(size=weights.shape) * weights
    return torch.from_numpy(away), torch.from_numpy(weights)


def test_costs_are_those_of_a_normal_distribution():
    away, weights = sparse_values()
    patterns = rotations._Patterns.of(away, weights)
    assert patterns.numbers.tolist() == [4, 3]
    processes = random_process(2)
    costs = patterns.all_costs(processes)
    for cost, process in zip(costs, map(processes.select, range(2)), strict=True):
        total = 0.0
        for values, weight in zip(away.numpy(), weights.numpy(), strict=True):
            bins, channels = np.nonzero(weight)
            own = process.log_noise.exp().numpy()[channels] / weight[bins, channels]
            normal = multivariate_normal(cov=covariance(process, bins, channels) + np.diag(own))
            total -= normal.logpdf(values[bins, channels] / weight[bins, channels]) + len(bins) / 2 * np.log(2 * np.pi)
        assert float(cost) * len(away) == pytest.approx(total, rel=1e-9)


def test_slopes_are_those_of_the_costs():
    patterns = rotations._Patterns.of(*sparse_values())
    process = random_process(2)
    both = torch.arange(2)
    leaves = rotations._Process(*(each.clone().requires_grad_(True) for each in process.parameters))
    patterns.costs(leaves, both, learn=True)

    def cost(i, by):
        moved = [each.clone() for each in process.parameters]
        moved[i].view(-1)[1] += by
        return float(patterns.costs(rotations._Process(*moved), both).sum())

    for i, leaf in enumerate(leaves.parameters):
        slope = (cost(i, 1e-5) - cost(i, -1e-5)) / 2e-5
        assert float(leaf.grad.view(-1)[1]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_states_are_the_posterior_mean_and_variance():
    away, weights = sparse_values(trials=3)
    process = random_process(1).select(0).whitened()
    means, variance = rotations._states(process, away, weights, counts=False)
    n_bins, n = weights.shape[1], process.loadings.shape[1]
    # Dimensions are channels that read out themselves, in each bin.
    every = replace(process, loadings=torch.cat([process.loadings, torch.eye(n).double()]))
    grid = np.repeat(np.arange(n_bins), n), 5 + np.tile(np.arange(n), n_bins)
    variances = []
    for trial in range(3):
        bins, channels = np.nonzero(weights[trial].numpy())
        whole = covariance(every, np.r_[bins, grid[0]], np.r_[channels, grid[1]])
        of_weight = weights[trial].numpy()[bins, channels]
        known, crossed = whole[: len(bins), : len(bins)], whole[len(bins) :, : len(bins)]
        known = known + np.diag(process.log_noise.exp().numpy()[channels] / of_weight)
        expected = crossed @ np.linalg.solve(known, away[trial].numpy()[bins, channels] / of_weight)
        np.testing.assert_allclose(means[trial].numpy().ravel(), expected, rtol=1e-3, atol=1e-4)
        left = whole[len(bins) :, len(bins) :] - crossed @ np.linalg.solve(known, crossed.T)
        variances.append(np.diag(left))
    np.testing.assert_allclose(variance[0].numpy().ravel(), np.mean(variances, 0), rtol=1e-3, atol=1e-4)


def test_states_of_counts_are_where_the_posterior_is_highest():
    _, weights = sparse_values()
    process = random_process(1).select(0).whitened()
    rng = np.random.default_rng(2)
    away = torch.from_numpy(np.where(weights > 0, rng.poisson(0.5, weights.shape) / 0.5, 0)) - weights
    prior = rotations._prior(process, weights.shape[1])
    _, means = rotations._of_counts(prior, process, away, weights)
    of_logs = torch.log1p(process.loadings.square().sum(1))
    loadings = process.loadings * (of_logs / process.loadings.square().sum(1)).sqrt()[:, None]

    def log_posterior(states):
        logs = states.reshape(*weights.shape[:2], -1) @ loadings.T - of_logs / 2
        likelihood = ((away + weights) * logs - weights * logs.exp()) / process.log_noise.exp()
        return likelihood.sum() - (states * torch.linalg.solve(prior, states.T).T).sum() / 2

    def steepest(states):
        states = states.clone().requires_grad_(True)
        return float(torch.autograd.grad(log_posterior(states), states)[0].abs().max())

    assert steepest(means) < 1e-3 * steepest(0 * means)


def test_dimensions_are_whitened_and_explain_the_same():
    process = random_process(1).select(0)
    white = process.whitened()
    torch.testing.assert_close(white.covariances(1)[0], torch.eye(3).double(), rtol=1e-4, atol=1e-4)
    bins, channels = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    np.testing.assert_allclose(
        covariance(white, bins, channels), covariance(process, bins, channels), rtol=1e-4, atol=1e-4
    )


def test_the_frequency_is_found_where_it_hides_behind_the_scheme(monkeypatch):
    monkeypatch.setattr(rotations, "MORE_PARTS", -1)
    ds, _ = regular(counts=False)
    batch = to_batch(ds, "session")
    observed = batch.observed.double()
    away = torch.where(batch.observed, batch.values, 0.0).double()
    patterns, own = rotations._Patterns.of(away, observed), torch.ones(CHANNELS).double()
    found = rotations._found(patterns, own, 2, torch.Generator().manual_seed(0), lambda step: None)
    assert abs(float(found[0].frequency)) == pytest.approx(SPEED, abs=0.03)
    # The others are worse, and no two are the same.
    costs = [float(patterns.all_costs(rotations._Process(*(p[None] for p in each.parameters)))) for each in found]
    assert costs == sorted(costs)
    tables = [each.of_channels(BINS).flatten().numpy() for each in found]
    assert all(table.shape == (BINS * CHANNELS**2,) for table in tables)
    assert (np.triu(np.corrcoef(tables), 1) < 0.99).all()


def test_windows_of_long_trials_join(sampled, monkeypatch):
    ds, _, fitted = sampled
    batch, likelihood = to_batch(ds, fitted.session_name()), fitted.members[0].model.likelihood
    whole, *_ = search(batch, likelihood)
    monkeypatch.setattr(rotations, "WINDOW", 32)
    parts, *_ = search(batch, likelihood)
    assert np.corrcoef(whole.factors.numpy().ravel(), parts.factors.numpy().ravel())[0, 1] > 0.97


def test_a_system_says_alone_what_lies_between_regular_samples(sampled, monkeypatch):
    ds, _, fitted = sampled
    name, model = fitted.session_name(), fitted.members[0].model
    train, valid = (
        to_batch(ds.isel(trial=np.flatnonzero(ds["split"].values == part)), name) for part in ("train", "valid")
    )
    settings = DynamicsConfig(dimensions=2, width=16, window=20, steps=20, courses=150)
    system = learn(model, [train], settings, torch.Generator().manual_seed(0), with_markov=False, tracker=Silent())
    weigh_against(system, model, [valid], biased=True)
    assert float(system.shares[name]) == 1
    # One that says less than the average of each channel takes no part.
    monkeypatch.setattr("nwb_sbtt.train.shares._averages", lambda _, batch: batch.dense(batch.values) + 1e-3)
    weigh_against(system, model, [valid], biased=True)
    assert float(system.shares[name]) == 0


def test_a_system_that_explains_much_less_than_the_network_does_not_speak_alone(sampled, monkeypatch):
    ds, clean, fitted = sampled
    name, model, parts = fitted.session_name(), fitted.members[0].model, ds["split"].values
    train, valid = (to_batch(ds.isel(trial=np.flatnonzero(parts == part)), name) for part in ("train", "valid"))
    settings = DynamicsConfig(dimensions=2, width=16, window=20, steps=20, courses=150)
    system = learn(model, [train], settings, torch.Generator().manual_seed(0), with_markov=False, tracker=Silent())
    # A network that knows the truth.
    truth = torch.from_numpy(clean[parts == "valid"]).float()
    monkeypatch.setattr(model.likelihood, "expected", lambda *_: truth)
    found = []
    for biased, enough in ((False, shares.ENOUGH), (True, 0.0), (True, 2.0)):
        monkeypatch.setattr(shares, "ENOUGH", enough)
        weigh_against(system, model, [valid], biased=biased)
        found.append(float(system.shares[name]))
    assert found[0] < 1 == found[1]
    assert found[2] == found[0], "hidden entries decide, as where samples are not regular"


def test_where_channels_were_chosen_hidden_entries_do_not_stand_for_all(tmp_path, monkeypatch):
    ds, _ = rotation(trials=20, bins=16, channels=6, counts=True)
    told = []
    monkeypatch.setattr(loop, "weigh_against", lambda *_, biased: told.append(biased))
    for attrs in ({}, {"bandwidth": '{"scheme": "scheduled"}'}):
        settings = config(1, system=DynamicsConfig(dimensions=2, width=8, steps=3, courses=16))
        sb.fit(ds.assign_attrs(attrs), settings, run_dir=tmp_path / str(len(told)), tracker=Silent())
    assert told == [False, True]


def test_every_channel_counts_alike_however_often_it_is_sampled(sampled, monkeypatch):
    ds, clean, fitted = sampled
    name, model = fitted.session_name(), fitted.members[0].model
    system = learn(
        model,
        [to_batch(ds, name)],
        DynamicsConfig(dimensions=2, width=16, steps=5, courses=50),
        torch.Generator().manual_seed(0),
        with_markov=False,
        tracker=Silent(),
    )
    # One channel is observed in all bins, the others in one of forty.
    observed = np.random.default_rng(0).random(clean.shape) < 1 / BINS
    observed[..., 0] = True
    whole, _ = rotation(trials=len(clean), bins=BINS, channels=CHANNELS, counts=fitted.expects_counts)
    shown = whole.assign(observed=(whole["observed"].dims, observed), values=whole["values"].where(observed, 0))
    batch = to_batch(shown, name)
    truth = torch.from_numpy(clean).float()
    average = truth.mean((0, 1)).expand(truth.shape)
    of_system, of_network = truth.clone(), average.clone()
    of_system[..., 0], of_network[..., 0] = average[..., 0], truth[..., 0]
    monkeypatch.setattr(model.likelihood, "expected", lambda *_: of_network)
    monkeypatch.setattr(shares, "weigh", lambda *_: SimpleNamespace(expected=of_system))
    weigh_against(system, model, [batch], biased=False)
    assert float(system.shares[name]) > 0.8


@pytest.mark.parametrize("sampled", [False], indirect=True, ids=["signals"])
def test_of_several_beginnings_the_one_of_the_likeliest_system_goes_on(sampled, monkeypatch):
    ds, _, fitted = sampled
    train, model = to_batch(ds, fitted.session_name()), fitted.members[0].model
    right = search(train, model.likelihood, seed=1)[0]
    # States of other trials say nothing of these.
    wrong = replace(right, factors=right.factors.roll(1, 0).flip(1))
    learned, told = [], []
    learn_from = dynamics._learned

    def found(*_, tell):
        for step in range(1, rotations.search_steps() + 1):
            tell(step)
        return [wrong, right]

    monkeypatch.setattr(dynamics, "infer_rotations", found)
    monkeypatch.setattr(dynamics, "STEPS_TRIED", 15)
    monkeypatch.setattr(dynamics, "_learned", lambda *args, **k: learned.append(args[2][0]) or learn_from(*args, **k))

    class Noted(Silent):
        def learning(self, step, n_steps):
            told.append((step, n_steps))

    settings = DynamicsConfig(dimensions=2, width=16, window=20, steps=20, courses=150)
    learn(model, [train], settings, torch.Generator().manual_seed(0), with_markov=False, tracker=Noted())
    assert [each is right for each in learned] == [False, True, True]
    assert [step for step, _ in told] == [*range(1, told[-1][1] + 1)]


@pytest.mark.parametrize("sampled", [False], indirect=True, ids=["signals"])
def test_with_known_inputs_few_of_the_dimensions_begin_in_rotations(sampled, monkeypatch):
    ds, _, fitted = sampled
    driven = sb.with_inputs(ds, {"input": np.random.default_rng(0).normal(size=(120, BINS))})
    train, model = to_batch(driven, fitted.session_name()), fitted.members[0].model
    asked, find = [], rotations.infer_rotations
    monkeypatch.setattr(dynamics, "DIMENSIONS", 2)
    monkeypatch.setattr(dynamics, "infer_rotations", lambda *args, **k: asked.append(args[2]) or find(*args, **k))
    settings = DynamicsConfig(dimensions=6, width=16, window=20, steps=20, courses=800)
    system = learn(model, [train], settings, torch.Generator().manual_seed(0), with_markov=False, tracker=Silent())
    assert asked == [2]
    assert system.dimensions == 6 and system.starts[fitted.session_name()].isfinite().all()


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
    monkeypatch.setattr(rotations, "STAGES", ((12, 20, 0.06),))
    batch, likelihood = to_batch(ds, fitted.session_name()), fitted.members[0].model.likelihood

    def factors(scale):
        scaled = replace(batch, values=batch.values * scale)
        return search(scaled, likelihood)[0].factors

    torch.testing.assert_close(factors(2.0**-40), factors(1.0), rtol=1e-3, atol=1e-3)
