"""Systems that are learned from fluorescence, by way of the spikes that a ladder infers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.config import DynamicsConfig, FitConfig, LadderConfig, override
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.forward import systems_of
from nwb_sbtt.simulate.calcium import LADDER, calcium
from nwb_sbtt.simulate.learned import write_learned
from nwb_sbtt.train.trackers import Silent

SMALL = LadderConfig(read_in=8, width=8, layers=2, groups=4, max_lag=16, factors=4, decay_time=0.3476)
SYSTEM = DynamicsConfig(dimensions=2, width=8, steps=20, courses=50, markov_states=8)


def config(epochs, system=SYSTEM, **changes):
    found = override(FitConfig(model=SMALL), [f"train.epochs={epochs}", "train.learning_rate=0.01"])
    return found.model_copy(update={"dynamics": system, **changes})


@pytest.fixture(scope="module")
def data():
    """A third of the samples is missing."""
    ds = calcium(n_channels=4, conditions=3, trials_per_condition=8, seed=3, imaging=replace(LADDER, n_bins=30))
    observed = np.random.default_rng(0).random(ds["observed"].shape) < 2 / 3
    return ds.assign(observed=(ds["observed"].dims, observed), values=ds["values"].where(observed, 0))


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    return sb.fit(data, config(3), run_dir=tmp_path_factory.mktemp("spiking") / "run", tracker=Silent())


def with_shares(fitted, *, system, markov):
    """The same fit with other shares in what is inferred."""
    member = fitted.members[0]
    (dynamics,) = systems_of(fitted)
    dynamics.shares[dynamics.sessions[0]].fill_(system)
    dynamics.markov.shares[dynamics.sessions[0]].fill_(markov)
    return replace(fitted, members=(replace(member, dynamics=dynamics),))


def test_a_fit_of_fluorescence_learns_a_system_of_its_spikes(data, fitted):
    (system,) = systems_of(fitted)
    assert system.dimensions == 2 and system.markov is not None and "learned system" in repr(fitted)
    latents = fitted.infer(data)
    assert {"mean", "events", "rates", "factors"} <= set(latents)
    assert (latents["rates"].values > 0).all() and np.isfinite(latents["rates_sd"].values).all()


def test_the_system_takes_part_in_rates_and_in_what_follows_from_them(data, fitted, tmp_path):
    network, system, half = (with_shares(fitted, system=share, markov=0).infer(data) for share in (0.0, 1.0, 0.5))
    np.testing.assert_allclose(half["rates"].values, (network["rates"].values + system["rates"].values) / 2, rtol=1e-4)
    apart = abs(network["rates"].values - system["rates"].values) / 2
    assert (half["rates_sd"].values >= 0.999 * apart).all()
    # After the last sample events are as many as rates let expect.
    after = ~np.logical_or.accumulate(data["observed"].values[:, ::-1], 1)[:, ::-1]
    assert after.sum() > 10
    for latents in (network, system):
        expected = latents["rates"].values[after] * data.attrs["bin_width"]
        np.testing.assert_allclose(latents["events"].values[after], expected, rtol=1e-4)
    assert abs(system["mean"].values - network["mean"].values).max() > 0
    for name in ("factors", "factors_sd"):
        np.testing.assert_array_equal(system[name].values, network[name].values)


def test_validation_trials_and_the_truth_enter_no_system(data, tmp_path):
    changed = data.copy(deep=True).assign({name: data[name] * 100 for name in data if name.startswith("true_")})
    valid = data["split"].values == "valid"
    changed["values"][valid] = 3 * changed["values"][valid]
    systems = []
    for i, ds in enumerate((data, changed)):
        # One epoch, which is the best one whatever validation trials say.
        fitted = sb.fit(ds, config(1), run_dir=tmp_path / str(i), tracker=Silent())
        systems.append(fitted.members[0].dynamics.state_dict())
    decided = {name for name in systems[0] if name.startswith(("kinds.", "shares.", "markov.shares."))}
    assert len(decided) == 3
    assert all(torch.equal(systems[0][name], systems[1][name]) for name in systems[0].keys() - decided)


def test_what_is_not_shown_tells_nothing(data, fitted):
    batch = to_batch(data, fitted.session_name())
    batch = replace(batch, shown=batch.observed & (torch.rand(batch.shape, generator=torch.manual_seed(0)) < 0.7))
    other = replace(batch, values=torch.where(batch.shown, batch.values, 7.0))
    one, two = (fitted.model.evidence(each) for each in (batch, other))
    for name in ("values", "exposure", "observed"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert not torch.equal(fitted.model.evidence(batch, hidden=True).values, one.values)


def test_rates_are_compared_by_hidden_samples(data, fitted, monkeypatch):
    batch, model = to_batch(data, fitted.session_name()), fitted.model
    hidden = batch.observed & (torch.rand(batch.shape, generator=torch.manual_seed(0)) < 0.3)
    batch, every = replace(batch, shown=batch.observed & ~hidden, scored=hidden), torch.ones(4)
    with torch.no_grad():
        inference = model(batch)
        rates = model.rates(inference, batch)
        cost = model.cost_of_hidden(rates, batch, every)
        torch.testing.assert_close(cost.float(), model.held_out_nll(inference, batch))
        true = torch.from_numpy(data["true_rates"].values).float() * data.attrs["bin_width"]
        assert model.cost_of_hidden(true, batch, every) < model.cost_of_hidden(true.roll(1, 0), batch, every)
        weights = torch.tensor([0.0, 2.0, 0.0, 0.0])
        single = model.cost_of_hidden(rates, replace(batch, scored=hidden & (weights > 0)), every)
        torch.testing.assert_close(model.cost_of_hidden(rates, batch, weights), 2 * single)
        monkeypatch.setattr("nwb_sbtt.models.ladder.MOST_SCORED", rates.numel() // 3)
        third = model.cost_of_hidden(rates[::3], batch.select(torch.arange(0, 24, 3)), every)
        torch.testing.assert_close(model.cost_of_hidden(rates, batch, every), third)


@pytest.mark.parametrize("by", ["system", "markov"])
def test_simulated_trials_are_fluorescence_of_simulated_spikes(data, fitted, by):
    ds = fitted.simulate(data, trials=400, masked=False, by=by)
    assert ds.attrs["kind"] == "rois" and ds.attrs["signal"] == "dF/F" and ds["observed"].values.all()
    rates, spikes = ds["true_rates"].values * ds.attrs["bin_width"], ds["true_spikes"].values
    assert (spikes == spikes.round()).all()
    assert spikes.mean() == pytest.approx(float(rates.mean()), abs=float(4 * np.sqrt(rates.mean() / rates.size)))
    kinetics = fitted.model.kinetics(fitted.session_name())
    values = ds["values"].values
    light = (values - kinetics.baseline.numpy()) / kinetics.amplitude.numpy()
    rest = light[:, 1:] - kinetics.decay_per_bin.numpy() * light[:, :-1] - spikes[:, 1:]
    # Noise of two samples is left.
    sd = kinetics.noise_sd.numpy() / kinetics.amplitude.numpy() * np.sqrt(1 + kinetics.decay_per_bin.numpy() ** 2)
    np.testing.assert_allclose(rest.std((0, 1)), sd, rtol=0.05)
    assert (abs(rest.mean((0, 1))) < 4 * sd / np.sqrt(rest[..., 0].size)).all()
    again = fitted.infer(ds, same_channels=True)["events"].values
    assert np.corrcoef(again.ravel(), spikes.ravel())[0, 1] > 0.8


def test_simulated_samples_are_missing_where_those_of_the_recording_are(data, fitted):
    ds = fitted.simulate(data)
    xr.testing.assert_equal(ds["observed"].variable, data["observed"].variable)
    assert (ds["values"].values[~ds["observed"].values] == 0).all()
    assert ds.identical(fitted.simulate(data)) and not ds.identical(fitted.simulate(data, seed=1))


def test_rates_are_forecast_with_intervals(data, fitted):
    ahead = fitted.forecast(data.isel(time=slice(0, 20)), bins=10)
    assert set(ahead) >= {"rates", "rates_sd"} and (ahead["rates_sd"].values > 0).all()
    assert json.loads(ahead.attrs["model"])["model_type"] == "ladder"
    lower, upper = sb.interval(ahead, 0.9)
    assert (lower.values <= upper.values).all()
    errors = sb.dynamics.forecast_error(fitted, data)
    assert {"inferred", "true"} == set(errors["truth"].values)
    assert sb.dynamics.fixed_points(fitted, data)["rates"].dims == ("point", "channel")


def test_a_stop_while_the_system_is_learned_changes_no_number(data, fitted, tmp_path):
    for epoch in (1, 2, 3):
        again = sb.fit(data, config(3), run_dir=tmp_path / "run", tracker=Silent(), until=epoch)
    assert again.checkpoint_sha256 == fitted.checkpoint_sha256
    again = sb.load(tmp_path / "run").infer(data)
    xr.testing.assert_identical(again.drop_attrs(), fitted.infer(data).drop_attrs())


def test_what_needs_counts_says_so(data, fitted, tmp_path):
    with pytest.raises(ConfigError, match=r"is one of fluorescence.*channels are chosen by fits to counts or signals"):
        sb.schedule(fitted, budget=2)
    with pytest.raises(DataError, match=r"get its trials as a Dataset in Python"):
        write_learned(tmp_path / "out.nwb", fitted.run_dir)
    further = SYSTEM.model_copy(update={"further_training": 0.5})
    with pytest.raises(
        ConfigError, match=r"simulated ones cannot train it further; expected dynamics.further_training=0"
    ):
        sb.fit(data, config(3, further), run_dir=tmp_path / "run", tracker=Silent())


@pytest.mark.slow
def test_a_system_infers_rates_better_where_few_trials_train(tmp_path):
    ds = calcium(n_channels=8, conditions=6, trials_per_condition=10, seed=3, imaging=replace(LADDER, n_bins=60))
    system = DynamicsConfig(dimensions=3, width=16, steps=100, courses=500, markov_states=16)
    fitted = sb.fit(ds, config(20, system), run_dir=tmp_path / "run", tracker=Silent())
    without = replace(fitted, members=tuple(replace(member, dynamics=None) for member in fitted.members))
    valid = ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))
    score, alone = (r2(valid["true_rates"].values, each.infer(valid)["rates"].values) for each in (fitted, without))
    assert score > alone + 0.05
