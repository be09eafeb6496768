"""What the courses of a system say of trials."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import DynamicsConfig
from nwb_sbtt.models.courses import log_likelihoods, weigh
from nwb_sbtt.models.dynamics import BOUND, OF_DISPLACED, Dynamics
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.models.mixture import mixed
from nwb_sbtt.models.windows import windows
from nwb_sbtt.nn.channels import blank_statistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.train.dynamics import _Windows
from tests.support.systems import become_linear

CHANNELS, BINS, TURN = 6, 12, 0.4


def turning(likelihood="poisson", *, window=BINS, courses=400, starts=400):
    """A rotation that begins anywhere on a circle."""
    torch.manual_seed(0)
    statistics = {"session": blank_statistics(CHANNELS, 0)}
    system = Dynamics(
        DynamicsConfig(dimensions=2, width=8, courses=courses),
        LIKELIHOODS[likelihood](statistics, 3),
        {"session": (starts, 0, starts)},
    )
    turn = [[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]]
    become_linear(system, turn)
    phase = torch.linspace(0, 2 * math.pi, starts + 1)[:-1]
    system.starts["session"].copy_(torch.stack([phase.cos(), phase.sin()], 1))
    system.visited["session"].copy_(system.starts["session"])
    system.kinds["session"].copy_(torch.tensor([1.0, 0, 0, 0]))
    with torch.no_grad():
        weights, _ = system.likelihood.read_outs("session")[0]
        weights.copy_(torch.randn(weights.shape))
    system.window.fill_(window)
    return system.requires_grad_(False)


PLAIN = SimpleNamespace(infers_spikes=False, evidence=lambda batch: batch)
"""A model of the values themselves, as far as a mixture asks."""


def drawn(system, trials=8, share=0.7, seed=0, bins=BINS):
    """Trials of a system, and what was expected of them."""
    generator = torch.Generator().manual_seed(seed)
    states = system.run(system.draw_starts("session", trials, generator), bins)
    observed = torch.rand(trials, bins, CHANNELS, generator=generator) < share
    empty = Batch(torch.zeros(observed.shape), observed, observed, observed, torch.arange(trials))
    expected = system.likelihood.expected(states, "session")
    values, _ = system.likelihood.draw(expected, empty, generator)
    return Batch(values * observed, observed, observed, observed, torch.arange(trials)), expected


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_courses_are_weighed_by_the_likelihood(likelihood):
    system = turning(likelihood)
    batch, _ = drawn(system)
    states = system.run(system.starts["session"][:5], BINS)
    found = log_likelihoods(system, states[None], batch, batch.observed)
    each = torch.stack([-_nll(system, states[i], batch) for i in range(5)], 1)
    torch.testing.assert_close(found - found[:, :1], each - each[:, :1], rtol=1e-4, atol=1e-3)
    own = log_likelihoods(system, states.expand(8, -1, -1, -1), batch, batch.observed)
    torch.testing.assert_close(own, found, rtol=1e-4, atol=1e-3)


def _nll(system, states, batch):
    terms = system.likelihood.nll(states.expand(len(batch.values), -1, -1), batch)
    return torch.where(batch.observed, terms, torch.zeros_like(terms)).sum((1, 2))


def test_exposure_counts_in_the_weights():
    system = turning()
    batch, _ = drawn(system)
    halved = Batch(**{**vars(batch), "exposure": torch.full(batch.values.shape, 0.5)})
    states = system.run(system.starts["session"][:5], BINS)
    found = log_likelihoods(system, states[None], halved, batch.observed)
    each = torch.stack([-_nll(system, states[i], halved) for i in range(5)], 1)
    torch.testing.assert_close(found - found[:, :1], each - each[:, :1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_estimates_are_the_posterior_mean_and_its_variance(likelihood):
    system = turning(likelihood)
    batch, true = drawn(system, trials=200)
    found = weigh(system, batch)
    courses = system.run(system.starts["session"], BINS)
    weights = log_likelihoods(system, courses[None], batch, batch.observed).softmax(1)
    expected = system.likelihood.expected(courses, "session")
    torch.testing.assert_close(found.expected, torch.einsum("bm,mtc->btc", weights, expected), rtol=1e-3, atol=1e-3)
    # The truth lies around the mean as the variance says.
    ratio = ((true - found.expected) ** 2).mean() / found.variance.mean()
    assert 0.8 < ratio < 1.25


def test_signals_far_from_zero_are_weighed_as_others_are():
    system = turning("gaussian")
    batch, _ = drawn(system)
    near = weigh(system, batch)
    with torch.no_grad():
        system.likelihood.biases["session"].add_(1000.0)
    far = weigh(system, replace(batch, values=torch.where(batch.observed, batch.values + 1000.0, 0.0)))
    torch.testing.assert_close(far.expected - 1000.0, near.expected, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(far.variance, near.variance, rtol=2e-2, atol=1e-4)


def test_known_inputs_are_weighed_in_pieces(monkeypatch):
    system = turning()
    monkeypatch.setattr(Dynamics, "features", lambda self, batch: torch.zeros(*batch.shape[:2], 0))
    batch, _ = drawn(system)
    whole = weigh(system, batch)
    monkeypatch.setattr("nwb_sbtt.models.courses.STATES_AT_ONCE", 3 * (400 // 32) * BINS)
    torch.testing.assert_close(weigh(system, batch).expected, whole.expected)
    ahead = weigh(system, batch, ahead=batch, bins=4)
    assert ahead.expected.shape == (8, 4, CHANNELS)


def test_what_is_not_shown_changes_nothing():
    system = turning()
    batch, _ = drawn(system)
    shown = batch.shown & (torch.rand(batch.shown.shape) < 0.5)
    one = Batch(**{**vars(batch), "shown": shown})
    other = Batch(**{**vars(batch), "shown": shown, "values": torch.where(shown, batch.values, 7.0)})
    assert torch.equal(weigh(system, one).expected, weigh(system, other).expected)
    assert not torch.equal(weigh(system, one).expected, weigh(system, batch).expected)


@pytest.mark.parametrize("driven", [False, True])
def test_a_trial_has_the_same_estimates_whatever_trials_are_inferred_with_it(driven, monkeypatch):
    system = turning(window=BINS)
    system.kinds["session"].copy_(torch.tensor([0.4, 0.2, 0.2, 0.2]))
    system.later["session"] = system.starts["session"]
    if driven:
        monkeypatch.setattr(Dynamics, "features", lambda self, batch: torch.zeros(*batch.shape[:2], 0))
    batch, _ = drawn(system, trials=10, bins=30)
    monkeypatch.setattr("nwb_sbtt.models.courses.TRIALS_AT_ONCE", 4)
    found, one = weigh(system, batch), weigh(system, batch.select(torch.tensor([7])))
    torch.testing.assert_close(found.expected[7:8], one.expected)


def test_candidates_of_many_trials_are_run_on_in_pieces(monkeypatch):
    system, features = turning(), torch.zeros(7, 3, 0)
    whole, _ = system.candidates(
        "session", 20, torch.Generator().manual_seed(0), first=True, after=3, features=features, every=True
    )
    monkeypatch.setattr("nwb_sbtt.models.dynamics.STATES_AT_ONCE", 2 * 20 * 4)
    pieces, _ = system.candidates(
        "session", 20, torch.Generator().manual_seed(0), first=True, after=3, features=features, every=True
    )
    assert whole.shape == (7, 80, 2)
    torch.testing.assert_close(pieces, whole)


def test_long_trials_are_weighed_in_windows_that_overlap():
    system = turning(window=BINS)
    batch, true = drawn(system, trials=40, bins=40)
    found = weigh(system, batch)
    assert found.expected.shape == true.shape and found.states.shape == (40, 40, 2)
    error = ((found.expected - true) ** 2).mean((0, 2))
    assert error.max() < 0.5 * true.var()
    parts = windows(batch, [0, 5], BINS)
    assert torch.equal(parts.values[40:], batch.values[:, 5 : 5 + BINS])
    # The first bins belong to the first window alone.
    of_first = weigh(system, windows(batch, [0], BINS)).expected[:, : BINS // 2]
    torch.testing.assert_close(found.expected[:, : BINS // 2], of_first)


def test_courses_go_on_where_trials_end():
    system = turning()
    batch, _ = drawn(system, trials=30, share=1.0)
    ahead = weigh(system, batch, bins=5)
    assert ahead.expected.shape == (30, 5, CHANNELS)
    last = weigh(system, batch).states[:, -1]
    turned = last @ torch.tensor([[math.cos(TURN), math.sin(TURN)], [-math.sin(TURN), math.cos(TURN)]])
    torch.testing.assert_close(ahead.states[:, 0], turned, rtol=1e-3, atol=1e-3)


def test_starts_that_are_kept_are_no_farther_than_a_run_may_go():
    system = turning()
    batch, _ = drawn(system)
    far = torch.full((8, 4, 2), 30.0)
    (sets,) = _Windows.of(system, batch, lambda _: far, window=BINS)
    sets.keep(system, torch.Generator().manual_seed(0))
    assert system.starts["session"].abs().max() == BOUND


def test_estimates_are_a_mixture_by_the_share():
    system = turning()
    batch, _ = drawn(system)
    arrays = {
        "expected": torch.ones(batch.shape),
        "expected_sd": torch.full(batch.shape, 0.5),
        "factors": torch.ones(8, BINS, 3),
    }
    assert mixed(PLAIN, system, batch, arrays) is arrays
    system.shares["session"].fill_(0.25)
    found, of_system = mixed(PLAIN, system, batch, arrays), weigh(system, batch)
    torch.testing.assert_close(found["expected"], 0.75 + 0.25 * of_system.expected)
    square = 0.75 * (0.25 + 1) + 0.25 * (of_system.variance + of_system.expected**2)
    torch.testing.assert_close(found["expected_sd"] ** 2, square - found["expected"] ** 2, rtol=1e-3, atol=1e-4)
    assert found["factors"] is arrays["factors"]


@pytest.mark.parametrize("share", [0.0, 0.15, 0.2, 0.4, 0.6, 0.8, 0.85, 1.0])
def test_a_network_without_a_share_moves_no_estimate(share):
    system = turning()
    batch, _ = drawn(system)
    with torch.no_grad():
        weights, bias = system.likelihood.read_outs("session")[0]
        weights.zero_(), bias.fill_(math.log(1e-3))
    system.markov = HiddenMarkov(2, {"session": CHANNELS}, 2)
    system.markov.expected["session"].fill_(1e-3)
    # Rounded to single precision, these can sum up to more than 1.
    system.shares["session"].fill_(1 - share), system.markov.shares["session"].fill_(share)
    arrays = {"expected": torch.full(batch.shape, 1e4), "expected_sd": torch.full(batch.shape, 7e4)}
    found = mixed(PLAIN, system, batch, arrays)
    torch.testing.assert_close(found["expected"], torch.full(batch.shape, 1e-3), rtol=1e-4, atol=0)
    torch.testing.assert_close(found["expected_sd"], torch.zeros(batch.shape), rtol=0, atol=1e-5)


def test_kinds_of_candidates_without_a_share_are_not_drawn():
    system = turning(courses=50)
    generator = torch.Generator().manual_seed(0)
    states, log_prior = system.candidates("session", 50, generator, first=True)
    assert len(states) == 50 and log_prior.exp().sum() == pytest.approx(1)
    assert (torch.cdist(states, system.starts["session"]).min(1).values < 1e-3).all()
    every, _ = system.candidates("session", 50, generator, first=True, every=True)
    assert len(every) == 200
    system.kinds["session"].copy_(torch.tensor([0.5, 0.3, 0, 0.2]))
    both, log_prior = system.candidates("session", 50, generator, first=True)
    assert len(both) == len(log_prior) == 50 + 2 * 50 * OF_DISPLACED
    of_kinds = [each.exp().sum() for each in log_prior.split([50, 50 * OF_DISPLACED, 50 * OF_DISPLACED])]
    torch.testing.assert_close(torch.stack(of_kinds), torch.tensor([0.5, 0.3, 0.2]))
    system.kinds["session"].copy_(torch.tensor([1.0, 0, 0, 0]))
    # Later windows begin in visited states where no others are known.
    later, _ = system.candidates("session", 50, generator, first=False)
    assert (torch.cdist(later, system.visited["session"]).min(1).values < 1e-3).all()


@pytest.mark.parametrize("driven", [False, True])
@pytest.mark.parametrize("window", [7, 12])
def test_windows_between_those_of_training_begin_in_states_of_their_bin(window, driven, monkeypatch):
    # All trials begin alike, so what is known of starts says nearly all of any bin.
    n_bins, bank = 3 * window + 2, 0.05
    system = turning(window=window, starts=50)
    phase = bank * torch.linspace(-1, 1, 50)
    system.starts["session"].copy_(torch.stack([phase.cos(), phase.sin()], 1))
    system.later["session"] = torch.cat(
        [system.run(system.starts["session"], first + 1)[:, -1] for first in (window, 2 * window)]
    )
    if driven:
        monkeypatch.setattr(Dynamics, "features", lambda self, batch: torch.zeros(*batch.shape[:2], 0))
        system.config = system.config.model_copy(update={"courses": 40 * 32})
    batch, true = drawn(system, trials=30, share=0.3, bins=n_bins)
    found = weigh(system, batch)
    error = ((found.expected / true).log() ** 2).mean((0, 2))
    assert error.max() < 0.15
    for given in range(window, n_bins - 4):
        early = windows(batch, [0], given)
        ahead = windows(batch, [given - 1], 5) if driven else None
        foretold = weigh(system, early, ahead=ahead, bins=4).expected
        assert ((foretold / true[:, given : given + 4]).log() ** 2).mean() < 0.15
