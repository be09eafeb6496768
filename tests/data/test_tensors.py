import numpy as np
import pytest
import torch
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.data import tensors
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.train.trackers import Silent
from tests.support.batches import assert_same, to_dense


def recording(n_channels: int, *, share: float, seed: int = 0, n_trials: int = 4) -> xr.Dataset:
    random = np.random.default_rng(seed)
    shape = (n_trials, 10, n_channels)
    observed = random.random(shape) < share
    return make_dataset(random.poisson(0.8, shape), observed, bin_width=0.02, kind="units", attrs={"unit": "counts"})


@pytest.mark.parametrize(
    ("n_channels", "share", "sparse"), [(1000, 0.1, True), (1000, 0.5, False), (100, 0.05, False), (400, 0.05, True)]
)
def test_little_of_many_channels_makes_a_sparse_batch(n_channels, share, sparse):
    assert (to_batch(recording(n_channels, share=share)).entries is not None) == sparse


def test_both_forms_hold_the_same_data(monkeypatch):
    ds = recording(500, share=0.1).assign_coords(held_out=("channel", np.arange(500) % 4 == 0))
    sparse = to_batch(ds, "session3")
    assert sparse.entries is not None
    monkeypatch.setattr(tensors, "SPARSE_SHARE", 0.0)
    dense = to_batch(ds, "session3")
    assert dense.entries is None
    assert_same(to_dense(sparse), dense)


def test_a_dataset_is_fitted_inferred_and_evaluated_in_the_sparse_form(tmp_path, monkeypatch):
    """All along the way of `fit`, and what was inferred is, but for rounding, what the dense form gives."""
    ds = recording(300, share=0.05, n_trials=24)
    config = sb.FitConfig(
        model=sb.config.LFADSConfig(read_in=8, encoder=8, controller=4, generator=8, factors=4, initial_condition=4),
        train=sb.config.TrainConfig(epochs=2),
        posterior_samples=3,
    )
    fitted = sb.fit(ds, config, run_dir=tmp_path / "run", tracker=Silent())
    sparse = fitted.infer(ds)
    assert "model" in fitted.evaluate(ds)["scores"]
    monkeypatch.setattr(tensors, "SPARSE_SHARE", 0.0)
    dense = sb.load(tmp_path / "run").infer(ds)
    for name in ("rates", "rates_sd", "factors"):
        np.testing.assert_allclose(sparse[name].values, dense[name].values, rtol=2e-3, atol=1e-5)


def test_the_entries_hidden_from_a_sparse_fit_are_those_that_it_is_evaluated_on(tmp_path):
    ds = sb.split(recording(300, share=0.05, n_trials=24), valid=0.25, seed=0)
    from nwb_sbtt.fitting.preparation import hidden_entries, train_and_valid

    batch = to_batch(ds)
    hidden = batch.dense(hidden_entries(ds, batch, sb.FitConfig()))
    _, valid = train_and_valid(ds, batch, sb.FitConfig())
    rows = torch.from_numpy(np.flatnonzero(ds["split"].values == "valid"))
    assert torch.equal(valid.dense(valid.scored), hidden[rows])
    assert hidden.sum() == hidden[rows].sum() > 0


def test_what_is_inferred_says_its_unit():
    ds = recording(3, share=0.5).assign_attrs(unit="volts")
    arrays = {name: torch.ones(4, 10, 3) for name in ("rates", "rates_sd", "mean", "mean_sd")}
    units = {name: each.attrs.get("units") for name, each in tensors.to_latents(ds, arrays, {}).data_vars.items()}
    assert units == {"rates": "Hz", "rates_sd": "Hz", "mean": "volts", "mean_sd": "volts", "observed": None}
