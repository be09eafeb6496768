"""What a hidden Markov model says of trials."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from nwb_sbtt.batch import Batch, to_sparse
from nwb_sbtt.models import markov as markov_module
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.nn.channels import blank_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS

STATES, CHANNELS, BINS, TRIALS = 3, 4, 4, 5


def random_model(kind="poisson", *, states=STATES):
    generator = torch.Generator().manual_seed(1)
    model = HiddenMarkov(states, {"session": CHANNELS}, 2)
    model.transitions.copy_((2 * torch.randn(states, states, generator=generator)).softmax(1))
    model.starts["session"].copy_(torch.randn(states, generator=generator).softmax(0))
    model.expected["session"].copy_(3 * torch.rand(states, CHANNELS, generator=generator))
    return model, LIKELIHOODS[kind]({"session": blank_statistics(CHANNELS, 0)}, 2).requires_grad_(False)


def trials(*, bins=BINS, exposure=False):
    generator = torch.Generator().manual_seed(2)
    shape = (TRIALS, bins, CHANNELS)
    observed = torch.rand(shape, generator=generator) < 0.6
    values = torch.poisson(2 * torch.rand(shape, generator=generator), generator) * observed
    share = 0.2 + 0.8 * torch.rand(shape, generator=generator) if exposure else None
    return Batch(values, observed, observed, observed, torch.arange(TRIALS), exposure=share)


def enumerated(model, likelihood, batch):
    """Posterior and numbers of transitions by going through every sequence of states."""
    sequences = torch.tensor([*product(range(model.n_states), repeat=batch.shape[1])])
    log = model.starts["session"].log()[sequences[:, 0]]
    log = log + model.transitions.log()[sequences[:, :-1], sequences[:, 1:]].sum(1)
    slope, cost = likelihood.natural(model.expected["session"], "session")
    share = torch.ones(batch.shape) if batch.exposure is None or not likelihood.expects_counts else batch.exposure
    away = batch.values - likelihood.reference("session")
    terms = away[:, :, None] * slope - share[:, :, None] * cost
    per_state = (terms * batch.shown[:, :, None]).sum(-1)
    each = per_state[:, torch.arange(batch.shape[1]), sequences].sum(-1)
    weights = (log + each).softmax(1)
    chosen = torch.nn.functional.one_hot(sequences, model.n_states).float()
    pairs = torch.einsum("sti,stj->sij", chosen[:, :-1], chosen[:, 1:])
    return torch.einsum("bs,sti->bti", weights, chosen), torch.einsum("bs,sij->ij", weights, pairs)


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
@pytest.mark.parametrize("exposure", [False, True], ids=["whole bins", "parts of bins"])
def test_the_posterior_is_that_over_all_sequences_of_states(kind, exposure):
    model, likelihood = random_model(kind)
    batch = trials(exposure=exposure)
    posterior, transitions = model.expectations(likelihood, batch, batch.shown)
    expected, counts = enumerated(model, likelihood, batch)
    torch.testing.assert_close(posterior, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(transitions, counts, rtol=1e-4, atol=1e-4)
    assert transitions.sum().item() == pytest.approx(TRIALS * (BINS - 1), rel=1e-4)


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_estimates_are_the_posterior_mean_and_its_variance(kind):
    model, likelihood = random_model(kind)
    batch = trials()
    posterior, _ = enumerated(model, likelihood, batch)
    table = model.expected["session"]
    expected, variance = model.infer(likelihood, batch)
    torch.testing.assert_close(expected, posterior @ table, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(variance, posterior @ table**2 - (posterior @ table) ** 2, rtol=1e-3, atol=1e-4)


def test_what_is_not_shown_changes_nothing():
    model, likelihood = random_model()
    batch = trials()
    other = replace(batch, values=torch.where(batch.shown, batch.values, 7.0))
    assert torch.equal(model.infer(likelihood, batch)[0], model.infer(likelihood, other)[0])


def test_a_trial_without_samples_has_what_is_expected_before_any():
    model, likelihood = random_model()
    batch = trials()
    nothing = replace(batch, shown=torch.zeros_like(batch.shown))
    posterior, _ = model.expectations(likelihood, nothing, nothing.shown)
    for t in range(BINS):
        prior = model.starts["session"] @ torch.linalg.matrix_power(model.transitions, t)
        torch.testing.assert_close(posterior[:, t], prior.expand(TRIALS, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_a_forecast_is_what_is_inferred_of_bins_without_samples(kind):
    model, likelihood = random_model(kind)
    batch = trials(bins=7)
    early = replace(batch, **{name: getattr(batch, name)[:, :4] for name in ("values", "observed", "shown", "scored")})
    shown = batch.shown.clone()
    shown[:, 4:] = False
    inferred = model.infer(likelihood, replace(batch, shown=shown))
    for forecast, whole in zip(model.forecast(likelihood, early, 3), inferred, strict=True):
        torch.testing.assert_close(forecast, whole[:, 4:], rtol=1e-4, atol=1e-4)


def test_trials_have_the_same_estimates_alone_in_pieces_and_from_sparse_batches(monkeypatch):
    model, likelihood = random_model()
    batch = trials()
    together = model.infer(likelihood, batch)
    torch.testing.assert_close(model.infer(likelihood, to_sparse(batch)), together)
    monkeypatch.setattr(markov_module, "NUMBERS_AT_ONCE", 2 * BINS * CHANNELS)
    assert [len(piece.trials) for piece in model.pieces(batch)] == [2, 2, 1]
    torch.testing.assert_close(model.infer(likelihood, batch), together)


@pytest.mark.parametrize(("states", "expected"), [(2, [2, 2, 1]), (CHANNELS, [2, 2, 1]), (2 * CHANNELS, [1] * TRIALS)])
def test_pieces_are_as_small_as_states_or_channels_ask_for(monkeypatch, states, expected):
    monkeypatch.setattr(markov_module, "NUMBERS_AT_ONCE", 2 * BINS * CHANNELS)
    model, _ = random_model(states=states)
    assert [len(piece.trials) for piece in model.pieces(trials())] == expected


def test_pieces_of_long_trials_are_limited_once(monkeypatch):
    monkeypatch.setattr(markov_module, "NUMBERS_AT_ONCE", 2 * 1024 * CHANNELS)
    model, _ = random_model()
    assert [len(piece.trials) for piece in model.pieces(trials(bins=1024))] == [2, 2, 1]


def test_samples_that_no_likely_state_explains_are_no_end_of_it():
    model, likelihood = random_model()
    model.transitions.copy_(torch.eye(STATES) * (1 - 3e-7) + 1e-7)
    model.expected["session"].copy_(torch.tensor([[1e-6], [50.0], [900.0]]).expand(-1, CHANNELS))
    batch = trials(bins=40)
    values = torch.where(torch.arange(40)[:, None] % 2 == 0, 0.0, 1000.0).expand(batch.shape) * batch.observed
    expected, variance = model.infer(likelihood, replace(batch, values=values))
    assert expected.isfinite().all() and variance.isfinite().all()


@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_simulated_trials_go_from_state_to_state_as_often_as_the_model_says(kind):
    model, likelihood = random_model(kind)
    generator = torch.Generator().manual_seed(3)
    shape = (4000, BINS, CHANNELS)
    observed = torch.rand(shape, generator=generator) < 0.6
    share = 0.2 + 0.8 * torch.rand(shape, generator=generator)
    batch = Batch(torch.zeros(shape), observed, observed, observed, torch.arange(shape[0]), exposure=share)
    values, expected, factors = model.draw(likelihood, batch, generator)
    table = model.expected["session"]
    states = (expected[:, :, None] - table).abs().sum(-1).argmin(-1)
    torch.testing.assert_close(expected, table[states])
    torch.testing.assert_close(factors, model.factors[states])
    for t in range(BINS):
        prior = model.starts["session"] @ torch.linalg.matrix_power(model.transitions, t)
        found = torch.bincount(states[:, t], minlength=STATES) / shape[0]
        torch.testing.assert_close(found, prior, rtol=0, atol=4 * 0.5 / shape[0] ** 0.5)
    pairs = torch.zeros(STATES, STATES).index_put_(
        (states[:, :-1].flatten(), states[:, 1:].flatten()), torch.ones(()), accumulate=True
    )
    torch.testing.assert_close(pairs / pairs.sum(1, keepdim=True), model.transitions, rtol=0, atol=0.05)
    assert (values[~observed] == 0).all()
    error = values - expected * (share if kind == "poisson" else 1)
    variance = expected * share if kind == "poisson" else likelihood.noise_sd("session").expand(shape) ** 2
    assert abs(error[observed].mean()) < 4 * (variance.mean() / observed.sum()) ** 0.5
    assert (error**2 / variance)[observed].mean().item() == pytest.approx(1, abs=0.05)


def test_entries_of_a_sparse_batch_are_simulated_as_those_of_a_dense_one():
    model, likelihood = random_model()
    batch = trials(exposure=True)
    dense, sparse = (
        model.draw(likelihood, each, torch.Generator().manual_seed(4)) for each in (batch, to_sparse(batch))
    )
    for one, other in zip(dense, sparse, strict=True):
        assert torch.equal(one, other)
