"""With a lag of L bins nothing that happens more than L bins later changes an estimate or its gradient, bit for bit."""

from dataclasses import replace

import pytest
import torch

from nwb_sbtt.batch import to_sparse
from nwb_sbtt.config import ConvConfig
from nwb_sbtt.models import make_model
from nwb_sbtt.models.conv import look_ahead
from nwb_sbtt.models.posterior import posterior as sampled
from nwb_sbtt.nn.inputs import InputStatistics
from tests.support.batches import fluorescence_statistics, make_batch, to_dense

T = 20
"""Bins of a trial."""
NOW = 11
LAGS = [0, 1, 3, 7]
LIKELIHOODS = ["poisson", "gaussian", "gamma", "zig", "gaussian_moments", "edgeworth"]


def make(lag, batch, likelihood, **sizes):
    torch.manual_seed(0)
    sizes = {"read_in": 8, "width": 8, "layers": 3, "groups": 4, "max_lag": 5, "factors": 3, "dropout": 0.1, **sizes}
    statistics = fluorescence_statistics(to_dense(batch) if batch.entries is not None else batch)
    statistics = replace(statistics, inputs=InputStatistics.measured(batch))
    return make_model(ConvConfig(lag=lag, **sizes), {batch.session: statistics}, likelihood)


def other_future(batch, first):
    """Other values and another mask in the bins from `first` on."""
    drawn = make_batch(*batch.shape, missing=0.2, seed=7)
    later = torch.arange(batch.shape[1])[:, None] >= first
    observed = torch.where(later, drawn.observed, batch.observed)
    values = torch.where(later, 1 + 2 * drawn.values, batch.values) * observed
    return replace(batch, values=values, observed=observed, shown=observed, scored=observed)


def with_inputs(batch, *, other_from=None):
    """Two known inputs, some of them missing; from a bin on, others."""
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(2, *batch.shape[:2], 2, generator=generator)
    known = torch.rand(2, *batch.shape[:2], 2, generator=generator) < 0.8
    later = torch.arange(batch.shape[1])[:, None] >= (batch.shape[1] if other_from is None else other_from)
    inputs, observed = torch.where(later, drawn[1], drawn[0]), torch.where(later, known[1], known[0])
    return replace(batch, inputs=inputs * observed, inputs_observed=observed)


def posterior(model, batch):
    return sampled(model, batch, samples=1, generator=torch.Generator().manual_seed(0))


def forms(batch, form):
    return to_sparse(batch) if form == "sparse" else batch


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("lag", LAGS)
def test_estimates_do_not_depend_on_later_inputs(lag, form):
    batch = forms(make_batch(4, T, missing=0.3), form)
    given = with_inputs(batch)
    model = make(lag, given, "poisson").eval()
    found = posterior(model, given)["factors"]
    for beyond, same in ((1, True), (0, False)):
        changed = posterior(model, with_inputs(batch, other_from=NOW + lag + beyond))["factors"]
        assert torch.equal(found[:, : NOW + 1], changed[:, : NOW + 1]) == same


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("lag", LAGS)
def test_estimates_do_not_depend_on_what_is_later(lag, likelihood, form):
    batch = make_batch(4, T, missing=0.3)
    model = make(lag, batch, likelihood).eval()
    found = posterior(model, forms(batch, form))
    for beyond, same in ((1, True), (0, False)):
        changed = posterior(model, forms(other_future(batch, NOW + lag + beyond), form))
        for name, array in found.items():
            if array.ndim == 3 and array.shape[1] == T:
                assert torch.equal(array[:, :NOW], changed[name][:, :NOW]), name
        assert torch.equal(found["factors"][:, NOW], changed["factors"][:, NOW]) == same


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("lag", [0, 3])
def test_gradients_of_what_was_do_not_depend_on_what_is_later(lag, likelihood, form):
    batch = make_batch(4, T, missing=0.3)
    until = (torch.arange(T) <= NOW)[:, None]
    gradients = []
    for each in (batch, other_future(batch, NOW + lag + 1)):
        each = replace(each, scored=each.scored & until)
        model = make(lag, batch, likelihood, factor_noise=0.0)
        shown = forms(each, form)
        inference = model(shown)
        loss = model.likelihood.total(inference.factors, shown) + inference.factors[:, : NOW + 1].square().sum()
        loss = loss + inference.factor_variance[:, : NOW + 1].sum()
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    for name, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0 or "biases" in name or "masks" in name, name
        assert torch.equal(gradient, gradients[1][name]), name


@pytest.mark.parametrize("lag", [0, 4])
def test_long_trials_in_tiles_look_no_further_ahead(lag):
    batch = make_batch(2, 1200, missing=0.5)
    model = make(lag, batch, "poisson", max_lag=64).eval()
    found = posterior(model, batch)
    first = 700
    changed = posterior(model, other_future(batch, first + lag))
    assert torch.equal(found["factors"][:, :first], changed["factors"][:, :first])
    assert not torch.equal(found["factors"][:, first], changed["factors"][:, first])
    short = replace(
        batch, **{name: getattr(batch, name)[:, :500] for name in ("values", "observed", "shown", "scored")}
    )
    at_once = posterior(model, short)["factors"]
    torch.testing.assert_close(at_once[:, : 500 - lag], found["factors"][:, : 500 - lag], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("lag", "layers"), [(0, 6), (3, 6), (6, 6), (64, 6), (7, 3)])
def test_the_look_ahead_of_all_layers_adds_up_to_the_lag(lag, layers):
    assert sum(look_ahead(lag, layers)) == lag
