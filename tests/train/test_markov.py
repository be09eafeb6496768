"""A hidden Markov model is learned from what a model infers and what was observed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import nwb_sbtt as sb
from nwb_sbtt.batch import Batch
from nwb_sbtt.config import ConvConfig, DynamicsConfig, FitConfig, TrainConfig, override
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.nn.channels import blank_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.train import markov as learning
from nwb_sbtt.train.markov import learn_markov
from nwb_sbtt.train.rotations import Inferred
from nwb_sbtt.train.trackers import Silent

CHANNELS, WIDTH = 10, 0.02
CONV = {"width": 16, "groups": 4, "layers": 2, "factors": 4, "read_in": 8, "max_lag": 10, "input_memory": 8}


def switching(*, trials=120, bins=40, levels=3, stay=0.9, counts=True, seed=0):
    """Activity that stays at one of some levels, and jumps to any other at any moment."""
    random = np.random.default_rng(seed)
    table = np.exp(random.normal(size=(levels, CHANNELS)))
    state = np.zeros((trials, bins), int)
    state[:, 0] = random.integers(levels, size=trials)
    for t in range(1, bins):
        jump = random.random(trials) >= stay
        state[:, t] = np.where(jump, random.integers(levels, size=trials), state[:, t - 1])
    clean = table[state]
    values = random.poisson(clean) if counts else clean + random.normal(size=clean.shape)
    return state, table, clean, values.astype(np.float32)


def learned(*, n_states=3, share=0.5, kind="poisson", seed=0, trials=120):
    """A model of the activity, which begins in factors that are the true logarithms of rates, with noise."""
    _, table, clean, values = switching(trials=trials, counts=kind == "poisson")
    observed = torch.rand(values.shape, generator=torch.Generator().manual_seed(3)) < share
    shown = torch.tensor(values) * observed
    batch = Batch(shown, observed, observed, observed, torch.arange(len(values)))
    likelihood = LIKELIHOODS[kind]({"session": blank_statistics(CHANNELS, 0)}, CHANNELS).requires_grad_(False)
    weights, bias = likelihood.read_outs("session")[0]
    weights.copy_(torch.eye(CHANNELS)), bias.zero_()
    factors = torch.tensor(np.log(clean) if kind == "poisson" else clean, dtype=torch.float32)
    factors = factors + 0.3 * torch.randn(factors.shape, generator=torch.Generator().manual_seed(4))
    rounds = list[int]()
    model = model_of(likelihood, batch, factors, n_states=n_states, seed=seed, tell=rounds.append)
    assert rounds == ([3] if model is None else [1, 2, 3])
    return model, likelihood, batch, table, clean


def model_of(likelihood, batch, factors, *, n_states, seed=0, tell=lambda _: None):
    """Learn from one session, of which these factors are inferred."""
    inferred, generator = Inferred(likelihood, factors, None), torch.Generator().manual_seed(seed)
    return learn_markov(likelihood, [batch], [inferred], [factors], n_states, generator, tell=tell)


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_states_and_their_transitions_are_those_of_the_activity(kind):
    model, likelihood, batch, table, clean = learned(kind=kind)
    expected = model.expected["session"].numpy()
    order = np.abs(expected[:, None] - table[None]).mean(2).argmin(0)
    assert sorted(order) == [0, 1, 2]
    factors = model.factors.numpy()[order]
    np.testing.assert_allclose(factors, np.log(table) if kind == "poisson" else table, rtol=0.1, atol=0.15)
    np.testing.assert_allclose(expected[order], table, rtol=0.15, atol=0.15)
    transitions = model.transitions.numpy()[np.ix_(order, order)]
    np.testing.assert_allclose(transitions, 0.9 * np.eye(3) + 0.1 / 3, atol=0.02)
    np.testing.assert_allclose(transitions.sum(1), 1, rtol=1e-5)
    true = HiddenMarkov(3, {"session": CHANNELS}, 2)
    true.transitions.copy_(torch.tensor(0.9 * np.eye(3) + 0.1 / 3))
    true.expected["session"].copy_(torch.tensor(table))
    reached, best = (r2(clean, each.infer(likelihood, batch)[0].numpy()) for each in (model, true))
    assert best > 0.9 and reached > best - 0.01


def test_what_was_not_observed_changes_nothing():
    _, likelihood, batch, _, _ = learned()
    hidden = replace(batch, values=torch.where(batch.observed, batch.values, 9.0))
    factors = torch.randn(*batch.shape[:2], CHANNELS, generator=torch.Generator().manual_seed(5))
    models = [model_of(likelihood, each, factors, n_states=4).state_dict() for each in (batch, hidden)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_channel_that_was_never_observed_keeps_what_the_model_infers():
    _, likelihood, batch, _, _ = learned()
    without = batch.observed.clone()
    without[:, :, 0] = False
    batch = replace(batch, observed=without, shown=without, scored=without)
    factors = torch.full((*batch.shape[:2], CHANNELS), 0.7)
    factors = factors + 0.01 * torch.randn(factors.shape, generator=torch.Generator().manual_seed(5))
    model = model_of(likelihood, batch, factors, n_states=4)
    torch.testing.assert_close(model.expected["session"][:, 0], torch.full((4,), 0.7).exp(), rtol=0.02, atol=0)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_beginning_counts_for_bins_as_they_were_exposed(share):
    _, likelihood, batch, _, _ = learned(trials=20)
    begun = torch.full((3, CHANNELS), 2.0)
    model = HiddenMarkov(3, {"session": CHANNELS}, 2)
    model.expected["session"].copy_(begun)
    exposed = replace(batch, values=3.0 * share * batch.observed, exposure=torch.full(batch.shape, share))
    found = learning._expectations(model, likelihood, exposed, torch.zeros(20, 40, 2), begun).expected
    # Equal states share the bins; each has a third of them at 3 a bin, and some at 2.
    bins = 20 * 40 / 3
    expected = (3 * bins + 2 * learning.OF_BINS) / (bins + learning.OF_BINS)
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=1e-4, atol=0)


def test_there_are_ten_bins_for_each_state_at_least():
    assert learned(n_states=1000, trials=3)[0].n_states == 3 * 40 // learning.BINS_OF_STATE
    assert learned(n_states=1)[0] is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bins", [1, 40])
def test_a_model_that_infers_the_same_everywhere_gives_a_model_of_equal_states(bins):
    _, likelihood, batch, _, _ = learned(trials=60)
    batch = replace(
        batch, **{name: getattr(batch, name)[:, :bins] for name in ("values", "observed", "shown", "scored")}
    )
    factors = torch.full((60, bins, CHANNELS), 0.5)
    model = model_of(likelihood, batch, factors, n_states=5)
    assert model.transitions.isfinite().all() and model.infer(likelihood, batch)[0].isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("counts", [True, False], ids=["counts", "signals"])
def test_a_fit_to_activity_that_jumps_is_better_with_it(counts, tmp_path):
    _, _, clean, values = switching(trials=200, counts=counts)
    ds = sb.from_numpy(values.astype(float), bin_width=WIDTH, kind="units" if counts else "series")
    ds = sb.split(sb.data.limit_bandwidth(ds, sb.config.BandwidthConfig(k=4)), valid=0.25, test=0.0)
    settings = FitConfig(
        model=ConvConfig(**CONV),
        train=TrainConfig(epochs=25, batch_size=24),
        dynamics=DynamicsConfig(dimensions=2, width=16, window=20, steps=60, courses=200),
    )
    valid = ds["split"].values == "valid"
    true = clean[valid] / WIDTH if counts else clean[valid]
    name, scores, shares = "rates" if counts else "mean", [], []
    ahead = []
    for states in (20, 0):
        changed = override(settings, [f"dynamics.markov_states={states}"])
        fitted = sb.fit(ds, changed, run_dir=tmp_path / str(states), tracker=Silent())
        scores.append(r2(true, fitted.infer(ds)[name].values[valid]))
        early = ds.isel(time=slice(0, 30), trial=valid)
        ahead.append(r2(true[:, 30:], fitted.forecast(early, bins=10)[name].values))
        markov = fitted.members[0].dynamics.markov
        shares.append(0.0 if markov is None else markov.shares["session"].item())
    assert shares[0] > 0.3 and shares[1] == 0
    assert scores[0] > scores[1] + 0.05
    assert ahead[0] > max(0.1, ahead[1] + 0.05)
    again = sb.load(tmp_path / "20").infer(ds)
    assert again.identical(sb.load(tmp_path / "20").infer(ds))
    assert r2(true, again[name].values[valid]) == pytest.approx(scores[0], abs=1e-6)
