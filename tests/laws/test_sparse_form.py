"""The sparse form of a batch is another way to write the same batch: only rounding and random draws may differ."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwb_sbtt import batch as batch_module
from nwb_sbtt import masks
from nwb_sbtt.batch import sparse_batch, to_sparse
from nwb_sbtt.config import ConvConfig, LFADSConfig, SAEConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.models import make_model
from nwb_sbtt.nn.channels import channel_statistics
from nwb_sbtt.train.objective import Weights, objective, validation_score
from tests.support.batches import assert_same, make_masked_batch, to_dense

seeds = st.integers(0, 1000)
missing = st.sampled_from([0.0, 0.3, 0.8, 0.97, 1.0])
tiles = st.sampled_from([1, 3, 8, 4096])
laws = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MODELS = [
    SAEConfig(encoder=6, generator=5, factors=3),
    LFADSConfig(read_in=5, encoder=6, initial_condition=4, controller=5, generator=6, factors=3, inputs=2),
    ConvConfig(read_in=5, width=8, layers=2, groups=2, max_lag=4, factors=3, dropout=0.1, factor_noise=0.1),
]


@pytest.fixture
def tile(monkeypatch):
    """A function that sets how many channels a block has, so that small batches have several."""

    def set_to(width):
        monkeypatch.setattr(batch_module, "TILE", width)
        monkeypatch.setattr(batch_module, "ENTRIES_PER_ROW", 0)

    return set_to


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = objective(model, batch, torch.Generator().manual_seed(1), Weights(kl=0.5, l2=0.1))
    loss.total.backward()
    return loss.total.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@laws
@given(seeds, missing, tiles, st.booleans())
def test_a_batch_comes_back_from_the_sparse_form_to_the_bit(tile, seed, missing, width, exposure):
    tile(width)
    batch = make_masked_batch(missing=missing, seed=seed, exposure=exposure)
    listed = to_sparse(batch)
    assert listed.shape == batch.shape
    assert len(listed.values) == batch.observed.sum()
    assert_same(to_dense(listed), batch)
    assert to_sparse(listed) is listed


@laws
@given(seeds, missing, tiles, st.lists(st.integers(0, 5), max_size=8))
def test_trials_are_selected_alike_in_any_order_and_more_than_once(tile, seed, missing, width, rows):
    tile(width)
    batch, rows = make_masked_batch(missing=missing, seed=seed, exposure=True), torch.tensor(rows, dtype=torch.int64)
    assert_same(to_dense(to_sparse(batch).select(rows)), batch.select(rows))
    assert_same(to_dense(to_sparse(batch.select(rows))), batch.select(rows))


@laws
@given(seeds, missing, tiles)
def test_masks_that_are_not_drawn_are_the_same(tile, seed, missing, width):
    tile(width)
    batch = make_masked_batch(missing=missing, seed=seed)
    listed = to_sparse(batch)
    held_out = torch.arange(20) % 3 == 0
    assert_same(to_dense(masks.cosmoothing(listed, held_out)), masks.cosmoothing(batch, held_out))
    assert_same(to_dense(masks.forward_prediction(listed, 4)), masks.forward_prediction(batch, 4))
    some = torch.arange(6) < 3
    assert torch.equal(listed.dense(listed.along_trials(some) & listed.observed), some[:, None, None] & batch.observed)
    assert_same(
        to_dense(masks.hide(listed, listed.along_channels(held_out))),
        masks.hide(batch, held_out.expand(batch.values.shape)),
    )
    assert_same(to_dense(masks.score_only(listed, listed.shown)), masks.score_only(batch, batch.shown))


@laws
@given(seeds, st.booleans(), st.floats(0.0, 0.95))
def test_drawn_masks_keep_their_rules(seed, exposure, rate):
    listed = to_sparse(make_masked_batch(missing=0.3, seed=seed, exposure=exposure))
    first, second = (masks.coordinated_dropout(listed, rate, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first.shown, second.shown)
    assert not (first.shown & first.scored).any()
    assert not (first.shown & ~listed.shown).any()
    hidden = masks.sample_validation(listed, rate, torch.Generator().manual_seed(seed))
    assert not (hidden & ~listed.shown).any()


@laws
@given(seeds, missing, tiles, st.booleans())
def test_statistics_are_the_same(tile, seed, missing, width, exposure):
    tile(width)
    batch = make_masked_batch(missing=missing, seed=seed, exposure=exposure)
    one, other = channel_statistics(batch), channel_statistics(to_sparse(batch))
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.sd, other.sd)


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian", "gamma", "zig"])
@pytest.mark.parametrize("config", MODELS, ids=["sae", "lfads", "conv"])
@settings(laws, max_examples=8)
@given(seed=seeds, missing=missing, width=tiles, exposure=st.booleans())
def test_loss_gradients_and_features_are_the_same(tile, config, likelihood, seed, missing, width, exposure):
    tile(width)
    batch = make_masked_batch(missing=missing, seed=seed, exposure=exposure)
    listed = to_sparse(batch)
    torch.manual_seed(0)
    model = make_model(config, {"session": channel_statistics(batch)}, likelihood)
    with torch.no_grad():
        model.read_in.masks["session"].normal_()
    torch.testing.assert_close(model.read_in(listed), model.read_in(batch), rtol=1e-5, atol=5e-6)
    (one, gradients), (other, listed_gradients) = (loss_and_gradients(model, each) for each in (batch, listed))
    assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    assert gradients.keys() == listed_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(listed_gradients[name], gradient, rtol=1e-4, atol=2e-6, msg=name)
    with torch.no_grad():
        (score, n), (listed_score, listed_n) = (validation_score(model.eval(), each) for each in (batch, listed))
    assert n == listed_n
    torch.testing.assert_close(listed_score, score, rtol=1e-5, atol=1e-5)


def test_sessions_may_come_in_either_form():
    batches = [make_masked_batch(missing=0.5, seed=i, session=f"session{i}") for i in (0, 1)]
    torch.manual_seed(0)
    model = make_model(MODELS[1], {batch.session: channel_statistics(batch) for batch in batches}, "poisson")
    for batch in batches:
        (one, gradients), (other, listed) = (loss_and_gradients(model, each) for each in (batch, to_sparse(batch)))
        assert one == pytest.approx(other, rel=1e-5)
        touched = [name for name in gradients if "session" in name and gradients[name].any()]
        assert {name[-8:] for name in touched} == {batch.session}
        for name in touched:
            torch.testing.assert_close(listed[name], gradients[name], rtol=1e-4, atol=2e-6)


@laws
@given(seeds, st.booleans(), st.booleans())
def test_a_list_of_entries_may_come_in_any_order(tile, seed, by_trial, exposure):
    tile(3)
    batch = make_masked_batch(missing=0.6, seed=seed, exposure=exposure)
    batch = replace(batch, shown=batch.observed, scored=batch.observed)
    trial, time, channel = batch.observed.nonzero(as_tuple=True)
    order = torch.randperm(len(trial), generator=torch.Generator().manual_seed(seed))
    order = order[torch.argsort(trial[order], stable=True)] if by_trial else order
    places = [each[order] for each in (trial.to(torch.int16), time.to(torch.uint8), channel.to(torch.int32))]
    listed = sparse_batch(
        *places[:2],
        channel=places[2],
        values=batch.values[batch.observed][order],
        shape=batch.shape,
        exposure=batch.exposure[batch.observed][order] if exposure else None,
    )
    assert_same(to_dense(listed), batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trial": torch.tensor([0, 2])}, "trial run from 0 to 2; expected 0 to 1"),
        ({"time": torch.tensor([0])}, "one index for each value"),
        ({"channel": torch.tensor([-1, 3])}, "channel run from -1 to 3"),
        ({"values": torch.tensor([0.0, float("nan")])}, "not finite"),
        ({"exposure": torch.tensor([0.0, 1.0])}, "exposure"),
        ({"time": torch.tensor([1, 1]), "channel": torch.tensor([3, 3]), "trial": torch.tensor([1, 1])}, "once"),
    ],
)
def test_a_list_that_breaks_a_rule_is_refused(change, message):
    given_ = {"trial": torch.tensor([0, 1]), "time": torch.tensor([1, 1]), "channel": torch.tensor([0, 3])}
    given_ |= {"values": torch.tensor([1.0, 2.0]), **change}
    with pytest.raises(DataError, match=message):
        sparse_batch(given_.pop("trial"), given_.pop("time"), shape=(2, 4, 5), **given_)


def test_a_million_channels_take_the_memory_of_what_was_observed():
    listed = sparse_batch(
        torch.tensor([1, 0, 1]),
        torch.tensor([0, 2, 2]),
        channel=torch.tensor([999_999, 5, 3]),
        values=torch.tensor([1.0, 2.0, 3.0]),
        shape=(2, 3, 1_000_000),
    )
    tensors = (listed.values, listed.entries.channels, listed.entries.pointers, listed.observed)
    assert sum(each.untyped_storage().nbytes() for each in tensors) < 1000
    chosen = listed.select(torch.tensor([1]))
    assert chosen.values.tolist() == [1.0, 3.0] or chosen.values.tolist() == [3.0, 1.0]
    assert set(chosen.entries.channels.tolist()) == {3, 999_999}
    assert listed.to("cpu").shape == listed.shape
