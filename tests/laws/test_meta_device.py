"""A training step needs no device of its own: torch's "meta" device, which has no numbers, runs it from end to end.

What mixes devices, or waits for a number (`.item()`, `int`, `bool` of a tensor, a size that follows from values), fails there,
and would fail or stall on a GPU.
"""

import pytest
import torch

from nwb_sbtt.batch import to_sparse
from nwb_sbtt.config import ConvConfig, FitConfig, LadderConfig, LFADSConfig, SAEConfig
from nwb_sbtt.models import make_model
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.train import schedules
from nwb_sbtt.train.loop import _Run
from tests.support.batches import fluorescence_statistics, make_masked_batch

CONVOLUTION = {"read_in": 5, "width": 8, "layers": 2, "groups": 2, "max_lag": 4, "factors": 3}
RECURRENT = {"read_in": 5, "encoder": 6, "initial_condition": 4, "controller": 5, "generator": 6, "factors": 3}
MODELS = {
    "sae": SAEConfig(encoder=6, generator=5, factors=3),
    "lfads": LFADSConfig(**RECURRENT, inputs=2),
    "autonomous": LFADSConfig(**RECURRENT, inputs=0),
    "conv": ConvConfig(**CONVOLUTION, dropout=0.1, factor_noise=0.1),
}
LADDER = LadderConfig(**CONVOLUTION, dropout=0.1)


def step(config, likelihood, tmp_path, *, sparse, rise=0.0, mask_length=1, exposure=False):
    """One step of training on the meta device: mask, objective, backward pass, optimiser, average."""
    batch = make_masked_batch(missing=0.4, seed=0, exposure=exposure, n_bins=5)
    model = make_model(config, {"session": fluorescence_statistics(batch, rise=rise)}, likelihood).to("meta").train()
    settings = FitConfig(model=config, train={"l2_weight": 0.1})
    run = _Run(model, settings, tmp_path, schedules.plan(settings, [len(batch.trials)]), mask_length)
    part = (to_sparse(batch) if sparse else batch).to("meta").select(torch.arange(3))
    return model, run.step([(part, torch.Generator().manual_seed(0))], 1, 5, total_steps=10)


def check(model, terms):
    assert terms.device.type == "meta" and terms.shape == (4,)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.device.type == "meta" for p in trained)
    assert sum(p.grad is not None for p in trained) > len(trained) / 2


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS.names())
@pytest.mark.parametrize("config", list(MODELS.values()), ids=list(MODELS))
def test_a_step_of_training_waits_for_no_number_and_mixes_no_devices(config, likelihood, sparse, tmp_path):
    check(*step(config, likelihood, tmp_path, sparse=sparse))


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("rise", [0.0, 1.5], ids=["prompt", "rising"])
def test_neither_does_a_step_of_a_ladder(rise, sparse, tmp_path):
    check(*step(LADDER, "gaussian", tmp_path, sparse=sparse, rise=rise))


@pytest.mark.parametrize("likelihood", ["poisson", "gamma"])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_nor_with_exposure(likelihood, sparse, tmp_path):
    check(*step(MODELS["conv"], likelihood, tmp_path, sparse=sparse, exposure=True))


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_nor_where_bins_are_hidden_together(sparse, tmp_path):
    check(*step(MODELS["conv"], "gaussian", tmp_path, sparse=sparse, mask_length=3))
    check(*step(LADDER, "gaussian", tmp_path, sparse=sparse, mask_length=3))


def test_a_number_that_is_waited_for_is_found_on_the_meta_device():
    for wait in (int, float, bool, torch.Tensor.item, torch.Tensor.nonzero):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait(torch.zeros((), device="meta"))
