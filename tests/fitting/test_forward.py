"""Systems that fits learn: what they are worth, what they simulate and forecast, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import nwb_sbtt as sb
from nwb_sbtt.config import (
    BandwidthConfig,
    ConvConfig,
    DynamicsConfig,
    FitConfig,
    LFADSConfig,
    SearchConfig,
    TrainConfig,
)
from nwb_sbtt.errors import ConfigError, DataError, FileError
from nwb_sbtt.evaluate.metrics import r2
from nwb_sbtt.fitting.forward import _Forecast, system_forecast, systems_of
from nwb_sbtt.fitting.runfolder import FORECAST, read_json, write_json
from nwb_sbtt.train.checkpoint import DYNAMICS, LAST, load
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import Stopping

CONV = {"width": 16, "groups": 4, "layers": 2, "factors": 4, "read_in": 8, "max_lag": 10, "input_memory": 8}
LFADS = {"read_in": 6, "encoder": 6, "initial_condition": 4, "controller": 4, "generator": 8, "factors": 3}
SYSTEM = DynamicsConfig(dimensions=2, width=16, window=10, steps=20, courses=200, further_training=0.5)
WIDTH, SPEED = 0.02, 0.25


def rotation(*, trials=90, bins=40, channels=12, counts=True, inputs=False, seed=0):
    """Channels that read out a rotation of one speed from a random phase; with inputs, those decide its direction."""
    random = np.random.default_rng(seed)
    turn = random.choice([-1.0, 1.0], trials) if inputs else np.ones(trials)
    phase = random.uniform(0, 2 * np.pi, (trials, 1)) + SPEED * turn[:, None] * np.arange(bins)
    clean = np.stack([np.cos(phase), np.sin(phase)], 2) @ random.normal(size=(2, channels))
    clean = 0.6 * np.exp(0.8 * clean) if counts else clean
    values = random.poisson(clean) if counts else clean + 0.5 * random.normal(size=clean.shape)
    ds = sb.from_numpy(values.astype(float), bin_width=WIDTH, kind="units" if counts else "series")
    if inputs:
        ds = sb.with_inputs(ds, {"turn": np.repeat(turn[:, None], bins, 1)})
    return sb.split(ds, valid=0.2, test=0.0, seed=seed), clean


def config(epochs=4, model=None, system=SYSTEM, **changes):
    train = TrainConfig(epochs=epochs, batch_size=24, checkpoint_every=1)
    return FitConfig(model=model or ConvConfig(**CONV), train=train, dynamics=system, **changes)


@pytest.fixture(scope="module")
def data():
    return rotation()[0]


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    return sb.fit(data, config(), run_dir=tmp_path_factory.mktemp("forward") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("counts", [True, False], ids=["counts", "signals"])
def test_a_learned_rotation_turns_at_its_speed_and_foretells_trials(counts, tmp_path):
    ds, clean = rotation(counts=counts, trials=160)
    ds = sb.data.limit_bandwidth(ds, BandwidthConfig(k=8))
    system = DynamicsConfig(dimensions=2, window=20, steps=300, courses=1000)
    fitted = sb.fit(ds, config(30, system=system), run_dir=tmp_path / "run")
    (system,) = systems_of(fitted)
    states = system.run(system.starts["session"][:40], 40)
    turned = torch.complex(states[:, 1:, 0], states[:, 1:, 1]) / torch.complex(states[:, :-1, 0], states[:, :-1, 1])
    assert abs(turned.angle().mean().abs().item() - SPEED) < 0.02
    valid = np.flatnonzero(ds["split"].values == "valid")
    early = ds.isel(trial=valid, time=slice(0, 28))
    forecast = fitted.forecast(early, bins=12)
    name = "rates" if counts else "mean"
    true = clean[valid, 28:] / (WIDTH if counts else 1.0)
    last = np.repeat(fitted.infer(early)[name].values[:, -1:], 12, 1)
    score, persistence = r2(true, forecast[name].values), r2(true, last)
    assert score > 0.8 > persistence + 0.5
    lower, upper = sb.interval(forecast, 0.9)
    assert 0.75 < ((true >= lower.values) & (true <= upper.values)).mean() < 0.99


@pytest.mark.slow
def test_known_inputs_may_act_in_their_own_bin(tmp_path):
    random = np.random.default_rng(0)
    kicks = 1.5 * (random.random((200, 40, 1)) < 0.1) * random.choice([-1.0, 1.0], (200, 40, 1))
    state = kicks.copy()
    for t in range(1, 40):
        state[:, t] += 0.8 * state[:, t - 1]
    clean = state @ random.normal(size=(1, 12))
    values = clean + 0.3 * random.normal(size=clean.shape)
    ds = sb.with_inputs(sb.from_numpy(values, bin_width=WIDTH, kind="series"), {"kick": kicks[..., 0]})
    ds = sb.split(ds, valid=0.2, test=0.0)
    system = DynamicsConfig(dimensions=2, window=20, steps=500, courses=1000)
    fitted = sb.fit(ds, config(20, system=system), run_dir=tmp_path / "run")
    valid = np.flatnonzero(ds["split"].values == "valid")
    forecast = fitted.forecast(ds.isel(trial=valid, time=slice(0, 20)), bins=20, inputs=kicks[valid, 20:])
    # Without the kick of the bin itself it could reach .8 ** 2 = .64.
    assert r2(clean[valid, 20:], forecast["mean"].values) > 0.85


def test_a_fit_goes_on_with_simulated_trials_and_keeps_the_best_epoch(fitted):
    assert len(fitted.history) == 6 and fitted.model.config.factors == 4
    progress = fitted.members[0].progress
    assert progress.first_epochs == 4 and progress.finished.startswith("all 6 epochs finished")
    scores = [row["valid_loss"] for row in fitted.history]
    assert progress.best_score == min(scores) and progress.best_epoch == 1 + scores.index(min(scores))
    rates = [row["learning_rate"] for row in fitted.history]
    assert rates[3] == pytest.approx(0, abs=1e-6) and rates[4] > 1e-3 and rates[5] == pytest.approx(0, abs=1e-6)


def test_without_simulated_trials_only_the_system_is_learned(data, fitted, tmp_path):
    system = SYSTEM.model_copy(update={"further_training": 0.0})
    other = sb.fit(data, config(system=system), run_dir=tmp_path / "with")
    plain = sb.fit(data, config(system=None), run_dir=tmp_path / "without")
    assert len(other.history) == 4 and systems_of(other)
    assert other.checkpoint_sha256 == plain.checkpoint_sha256
    same = [systems_of(other)[0].state_dict(), systems_of(fitted)[0].state_dict()]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[1])
    assert not (tmp_path / "without" / "run" / DYNAMICS).exists()


@pytest.mark.slow
def test_a_system_takes_part_in_what_is_inferred_where_it_explains_hidden_entries(tmp_path):
    ds, clean = rotation(trials=160)
    ds = sb.data.limit_bandwidth(ds, BandwidthConfig(k=3))
    learned = DynamicsConfig(dimensions=2, window=20, steps=300, courses=1000)
    fitted = sb.fit(ds, config(10, system=learned), run_dir=tmp_path / "run")
    (member,) = fitted.members
    system = member.dynamics
    assert system is not None and system.markov is not None
    shares = [system.shares["session"].item(), system.markov.shares["session"].item()]
    assert 0.5 <= sum(shares) <= 1
    (record,) = fitted.record()["learned_systems"]
    assert record["markov_states"] == system.markov.n_states
    recorded = [record[name]["session"] for name in ("shares", "markov_shares")]
    assert recorded == pytest.approx(shares, abs=1e-3)
    of_system, of_markov = (f"{100 * share:.0f} %" for share in shares)
    assert f"2 dimensions, has a share in what is inferred of {of_system}; a hidden Markov model of " in repr(fitted)
    assert f" states beside it one of {of_markov} (decided on hidden entries)" in repr(fitted)
    alone = replace(fitted, members=(replace(member, dynamics=None),))
    valid = np.flatnonzero(ds["split"].values == "valid")
    scores = [r2(clean[valid] / WIDTH, each.infer(ds.isel(trial=valid))["rates"].values) for each in (fitted, alone)]
    assert scores[0] > scores[1] + 0.1
    assert sb.load(fitted.run_dir).infer(ds).identical(fitted.infer(ds))


@pytest.mark.slow
def test_a_system_of_data_that_have_none_takes_hardly_a_part(tmp_path):
    random = np.random.default_rng(3)
    rates = np.exp(random.normal(size=(120, 20, 3)) @ random.normal(size=(3, 12)) * 0.7)
    ds = sb.split(sb.from_numpy(random.poisson(rates).astype(float), bin_width=WIDTH), valid=0.3, test=0.0)
    learned = DynamicsConfig(dimensions=2, window=20, steps=100, courses=500)
    fitted = sb.fit(ds, config(10, system=learned), run_dir=tmp_path / "run")
    alone = replace(fitted, members=(replace(fitted.members[0], dynamics=None),))
    valid = ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))
    true = rates[ds["split"].values == "valid"] / WIDTH
    with_system, without = (r2(true, each.infer(valid)["rates"].values) for each in (fitted, alone))
    assert with_system > without - 0.02


def test_validation_trials_and_their_truth_enter_no_system(data, tmp_path):
    changed = data.copy(deep=True).assign(true_rates=data["values"] * 100.0)
    valid = data["split"].values == "valid"
    changed["values"][valid] = 3 - changed["values"][valid].clip(0, 3)
    systems = []
    for i, ds in enumerate((data, changed)):
        # One epoch, which is the best one whatever validation trials say.
        fitted = sb.fit(
            ds, config(1, system=SYSTEM.model_copy(update={"further_training": 0.0})), run_dir=tmp_path / str(i)
        )
        systems.append(fitted.members[0].dynamics.state_dict())
    decided = {name for name in systems[0] if name.startswith(("kinds.", "shares.", "markov.shares."))}
    assert len(decided) == 3
    assert all(torch.equal(systems[0][name], systems[1][name]) for name in systems[0].keys() - decided)


def test_models_with_a_lag_infer_without_their_system(data, tmp_path):
    fitted = sb.fit(data, config(2, ConvConfig(**CONV, lag=0)), run_dir=tmp_path / "run")
    system = fitted.members[0].dynamics
    assert system is not None and system.shares["session"] == 0
    alone = replace(fitted, members=(replace(fitted.members[0], dynamics=None),))
    assert (alone.infer(data)["rates"].values == fitted.infer(data)["rates"].values).all()
    assert "2 dimensions, takes no part in what is inferred, as the model has a lag" in repr(fitted)


@pytest.mark.parametrize("after", [2, 4, 5])
def test_an_interrupted_fit_ends_in_the_same_numbers(data, fitted, after, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sb.fit(data, config(), run_dir=tmp_path / "run", tracker=Stopping(after))
    resumed = sb.fit(data, config(), run_dir=tmp_path / "run")
    for name in (LAST, "best.safetensors"):
        one, other = load(resumed.run_dir / name)[0], load(fitted.run_dir / name)[0]
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Interrupting(Silent):
    """Breaks off when 17 steps of a system are learned."""

    def learning(self, step, steps):
        if step == 17:
            raise KeyboardInterrupt


def test_a_fit_that_was_interrupted_while_a_system_was_learned_learns_the_same_system(data, fitted, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sb.fit(data, config(), run_dir=tmp_path / "run", tracker=Interrupting())
    assert (tmp_path / "run" / LAST).exists() and not (tmp_path / "run" / DYNAMICS).exists()
    resumed = sb.fit(data, config(), run_dir=tmp_path / "run")
    for name in (DYNAMICS, LAST):
        one, other = load_file(resumed.run_dir / name), load_file(fitted.run_dir / name)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name


class Progress(Silent):
    """Keeps how many steps of how many were last told of."""

    def learning(self, step, steps):
        self.last = step, steps


@pytest.mark.parametrize("states", [0, 3])
def test_what_is_told_of_learning_ends_with_all_steps(data, states, tmp_path):
    tracker = Progress()
    system = SYSTEM.model_copy(update={"markov_states": states})
    fitted = sb.fit(data, config(2, system=system), run_dir=tmp_path / "run", tracker=tracker)
    assert (fitted.members[0].dynamics.markov is None) == (states == 0)
    assert tracker.last[0] == tracker.last[1]


def test_a_fit_in_pieces_ends_in_the_same_numbers(data, fitted, tmp_path):
    for epoch in (3, 4, 5, 6):
        pieces = sb.fit(data, config(), run_dir=tmp_path / "run", until=epoch)
        assert len(pieces.history) == epoch
    assert pieces.finished and pieces.checkpoint_sha256 == fitted.checkpoint_sha256


def test_simulated_trials_are_data_with_their_truth(data, fitted):
    limited = sb.data.limit_bandwidth(data, BandwidthConfig(k=4))
    ds = fitted.simulate(limited, trials=100)
    assert ds.sizes == {"trial": 100, "time": 40, "channel": 12, "latent": 2}
    assert (ds["observed"].values[:90] == limited["observed"].values).all()
    assert (ds["values"].values[~ds["observed"].values] == 0).all()
    full = fitted.simulate(limited, masked=False, seed=1)
    assert full["observed"].values.all()
    expected, counts = full["true_rates"].values * WIDTH, full["values"].values
    assert abs((counts - expected).mean()) < 4 * np.sqrt(expected.mean() / counts.size)
    assert ((counts - expected) ** 2 / expected).mean() == pytest.approx(1, abs=0.1)
    assert fitted.simulate(limited, masked=False, seed=1).identical(full)
    assert not fitted.simulate(limited, masked=False, seed=2).identical(full)


def test_the_hidden_markov_model_simulates_trials_that_turn_at_random(data, fitted):
    ds = fitted.simulate(data, trials=100, by="markov")
    markov = systems_of(fitted)[0].markov
    assert ds.sizes == {"trial": 100, "time": 40, "channel": 12, "latent": 4}
    rates = ds["true_rates"].values.reshape(-1, 12)
    assert 1 < len(np.unique(rates, axis=0)) <= markov.n_states
    error, expected = ds["values"].values - ds["true_rates"].values * WIDTH, ds["true_rates"].values * WIDTH
    assert (error**2 / expected).mean() == pytest.approx(1, abs=0.1)
    assert ds.identical(fitted.simulate(data, trials=100, by="markov"))
    assert not ds.identical(fitted.simulate(data, trials=100, by="markov", seed=1))


def test_a_simulation_by_what_was_not_learned_is_refused(data, fitted, tmp_path):
    with pytest.raises(DataError, match="by is 'hmm'; expected 'system' or 'markov'"):
        fitted.simulate(data, by="hmm")
    with pytest.raises(DataError, match="start is a state of the system"):
        fitted.simulate(data, by="markov", trials=2, start=np.zeros((2, 2)))
    alone = config(2, system=SYSTEM.model_copy(update={"markov_states": 0}))
    with pytest.raises(ConfigError, match=r"no hidden Markov model to simulate by: .*; simulate by its system"):
        sb.fit(data, alone, run_dir=tmp_path / "run").simulate(data, by="markov")


def test_the_same_start_has_the_same_course(data, fitted):
    ds = fitted.simulate(data, trials=3, start=np.zeros((3, 2)))
    rates = ds["true_rates"].values
    np.testing.assert_allclose(rates, np.broadcast_to(rates[:1], rates.shape), rtol=1e-4)
    assert len({trial.tobytes() for trial in ds["values"].values}) == 3
    assert (ds["true_latents"].values[:, 0] == 0).all()


def test_counts_of_a_part_of_a_bin_are_a_part(data, fitted):
    exposure = np.full(data["values"].shape, 0.25, np.float32)
    ds = fitted.simulate(data.assign(exposure=(data["values"].dims, exposure)), seed=3)
    assert (ds["exposure"].values == 0.25).all()
    expected = 0.25 * ds["true_rates"].values * WIDTH
    assert abs((ds["values"].values - expected).mean()) < 4 * np.sqrt(expected.mean() / expected.size)


def test_a_simulation_can_be_fitted(data, fitted, tmp_path):
    simulated = fitted.simulate(data)
    again = sb.fit(simulated, config(2, system=None), run_dir=tmp_path / "run")
    rates = again.infer(simulated)["rates"]
    assert rates.sizes == simulated["true_rates"].sizes and np.isfinite(rates.values).all()


def test_without_data_the_trials_are_those_of_the_fitted_file(data, fitted, tmp_path):
    with pytest.raises(FileError, match="did not come from a file"):
        fitted.simulate()


def test_a_forecast_goes_on_where_the_trials_end(data, fitted):
    forecast = fitted.forecast(data.isel(time=slice(0, 30)), bins=10)
    np.testing.assert_allclose(forecast["time"].values, data["time"].values[30:])
    assert (forecast["trial_id"].values == data["trial_id"].values).all() if "trial_id" in data.coords else True
    assert forecast["forecast"].values.all() and not forecast["observed"].values.any()
    assert (forecast["rates_sd"].values > 0).all()
    assert json.loads(forecast.attrs["model"])["model_type"] == "conv"
    sb.interval(forecast)


def test_forecasts_that_are_no_better_than_an_average_are_warned_of(data, fitted, tmp_path):
    errors = sb.dynamics.forecast_error(fitted, data)["excess"].sel(truth="inferred", predictor="average")
    found = read_json(fitted.run_dir / FORECAST)
    assert found["errors"]["session"] == pytest.approx(1 - float(errors), rel=1e-5)
    words = "its forecasts are no better than the average of the trials"
    for error in (0.9, 4.8):
        run = tmp_path / str(error)
        shutil.copytree(fitted.run_dir, run)
        write_json(run / FORECAST, {**found, "errors": {"session": error}, "markov_shares": {"session": 0.0}})
        loaded = sb.load(run)
        for ds in (loaded.simulate(data, trials=2), loaded.forecast(data, bins=2)):
            notes = json.loads(ds.attrs.get("notes", "[]"))
            assert any("miss by 4.8 times the variance over trials" in note for note in notes) == (error > 1)
        assert (words in repr(loaded)) == (error > 1)


def test_forecasts_by_the_hidden_markov_model_are_not_warned_of_where_the_system_is_poor(data, fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted.run_dir, run)
    found = read_json(run / FORECAST)
    write_json(run / FORECAST, {**found, "errors": {"session": 4.8}, "markov_shares": {"session": 1.0}})
    loaded = sb.load(run)
    notes = [
        [note for note in json.loads(ds.attrs.get("notes", "[]")) if "miss by 4.8" in note]
        for ds in (loaded.forecast(data, bins=2), loaded.simulate(data, trials=2))
    ]
    assert not notes[0] and "do not rely on the trials that it simulates; its hidden Markov model" in notes[1][0]
    assert "notes" not in loaded.simulate(data, trials=2, by="markov").attrs


def test_a_hidden_markov_model_that_was_worth_nothing_is_warned_of(data, fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted.run_dir, run)
    write_json(run / FORECAST, {**read_json(run / FORECAST), "markov_shares": {"session": 0.0}})
    loaded = sb.load(run)
    (markov,) = [member.dynamics.markov for member in loaded.members]
    for share, warned in ((0.0, True), (0.2, False)):
        markov.shares["session"].fill_(share)
        notes = loaded.simulate(data, trials=2, by="markov").attrs.get("notes", "")
        assert ("the hidden Markov model has no share" in notes) == warned


def test_a_forecast_is_the_mixture_by_the_stored_share(data, fitted, tmp_path):
    found, forecasts = read_json(fitted.run_dir / FORECAST), []
    assert 0 <= found["markov_shares"]["session"] <= 1
    for share in (0.0, 0.25, 1.0):
        run = tmp_path / str(share)
        shutil.copytree(fitted.run_dir, run)
        write_json(run / FORECAST, {**found, "markov_shares": {"session": share}})
        forecasts.append(sb.load(run).forecast(data, bins=6)["rates"].values)
    np.testing.assert_allclose(forecasts[1], 0.75 * forecasts[0] + 0.25 * forecasts[2], rtol=1e-4)
    valid = data.isel(time=slice(0, 34))
    np.testing.assert_allclose(
        system_forecast(fitted, data, given=34, session="session"),
        sb.load(tmp_path / "0.0").forecast(valid, bins=6)["rates"].values,
        rtol=1e-5,
    )


def test_the_share_in_forecasts_has_the_least_squared_error():
    random = np.random.default_rng(0)
    truth, apart = random.normal(size=(2, 5, 8, 3))
    truth, apart = truth * [1.0, 100.0, 0.0], apart * [1.0, 100.0, 0.0]
    for share in (0.0, 0.3, 1.0):
        one, other = truth - share * apart, truth + (1 - share) * apart
        forecast = _Forecast((one, np.ones_like(one)), (other, np.ones_like(one)))
        assert forecast.share_of_markov(truth) == pytest.approx(share)
        mean, variance = forecast.mixed(share)
        np.testing.assert_allclose(mean, truth, atol=1e-9)
        np.testing.assert_allclose(variance, 1 + share * (1 - share) * apart**2)
    assert _Forecast((truth, truth), None).share_of_markov(truth) == 0
    assert _Forecast((truth, truth), (truth, truth)).share_of_markov(truth) == 0


def test_a_silent_channel_does_not_decide_by_what_share_a_hidden_markov_model_forecasts():
    random = np.random.default_rng(0)
    truth, one, other = (1 + 0.5 * random.normal(size=(30, 10, 5)) for _ in range(3))
    one = truth + 0.2 * (one - 1)
    among = _Forecast((one, one), (other, other)).share_of_markov(truth)
    assert among < 0.2
    # Inferred of it is nearly the same in all bins, and what both foretell is farther from that than it varies.
    truth[..., 0] = 1e-6 + 1e-9 * random.normal(size=(30, 10))
    one[..., 0], other[..., 0] = 2e-6, 1.1e-6
    assert _Forecast((one, one), (other, other)).share_of_markov(truth) == pytest.approx(among, abs=0.05)


def test_a_forecast_depends_on_nothing_that_was_not_observed(data, fitted):
    early = sb.data.limit_bandwidth(data, BandwidthConfig(k=6)).isel(time=slice(0, 30))
    changed = early.copy(deep=True)
    changed["values"] = changed["values"].where(changed["observed"], 0)
    later = sb.data.limit_bandwidth(data, BandwidthConfig(k=6)).isel(time=slice(0, 30))
    assert fitted.forecast(changed, bins=5).identical(fitted.forecast(later, bins=5))


@pytest.mark.parametrize("model", [ConvConfig(**CONV), LFADSConfig(**LFADS)], ids=["conv", "lfads"])
def test_known_inputs_drive_the_system(model, tmp_path):
    ds, _ = rotation(inputs=True, trials=60)
    fitted = sb.fit(ds, config(2, model), run_dir=tmp_path / "run")
    turn = np.ones((60, 40, 1))
    states = [
        fitted.simulate(ds.assign(inputs=(ds["inputs"].dims, sign * turn.astype(np.float32))), start=np.ones((60, 2)))
        for sign in (1, -1)
    ]
    assert not np.allclose(states[0]["true_latents"].values[:, -1], states[1]["true_latents"].values[:, -1])
    early = ds.isel(time=slice(0, 30))
    forecast = fitted.forecast(early, bins=10, inputs=turn[:, :10])
    assert np.isfinite(forecast["rates"].values).all()
    assert fitted.members[0].dynamics.markov is None
    assert "no hidden Markov model beside it, as known inputs drive the data" in repr(fitted)
    with pytest.raises(DataError, match="known inputs turn; a forecast needs them too"):
        fitted.forecast(early, bins=10)
    with pytest.raises(DataError, match=r"inputs have the shape \(60, 9, 1\); expected \(60, 10, 1\)"):
        fitted.forecast(early, bins=10, inputs=turn[:, :9])
    with pytest.raises(DataError, match=r"inputs are infinite; expected .* finite numbers or NaN, of 'turn'"):
        fitted.forecast(early, bins=10, inputs=np.inf * turn[:, :10])


def test_sessions_share_one_system(tmp_path):
    one, other = rotation(seed=0)[0], rotation(seed=1, channels=9, trials=50)[0]
    fitted = sb.fit({"a": one, "b": other}, config(2), run_dir=tmp_path / "run")
    (system,) = systems_of(fitted)
    assert system.sessions == ["a", "b"] and len(system.starts["b"]) == 160
    assert fitted.simulate(other, session="b", trials=5).sizes["channel"] == 9
    assert fitted.forecast(one, session="a", bins=3).sizes["channel"] == 12


def test_members_of_an_ensemble_have_their_own_systems(data, tmp_path):
    fitted = sb.fit(data, config(2, seeds=2), run_dir=tmp_path / "run")
    one, other = systems_of(fitted)
    assert not torch.equal(one.starts["session"], other.starts["session"])
    forecast = fitted.forecast(data, bins=4)
    single = sb.load(tmp_path / "run" / "member-0").forecast(data, bins=4)
    assert not np.allclose(forecast["rates"].values, single["rates"].values)
    for member, share in zip(fitted.members, (0.2, 0.6), strict=True):
        member.dynamics.shares["session"].fill_(share)
        member.dynamics.markov.shares["session"].fill_(share / 2)
    n_states = one.markov.n_states
    beside = f"; a hidden Markov model of {n_states} states beside it one "
    assert f"of 40 %{beside}of 20 % (decided on hidden entries; average of 2 models)" in repr(fitted)
    first, second = fitted.members
    partly = replace(fitted, members=(first, replace(second, dynamics=None)))
    assert f"of 20 %{beside}of 10 % (decided on hidden entries; average of 1 of 2 models)" in repr(partly)


def test_entries_of_many_channels_are_simulated_where_they_were_observed(tmp_path):
    ds = sb.data.limit_bandwidth(rotation(channels=300, trials=40, bins=20)[0], BandwidthConfig(k=6))
    fitted = sb.fit(ds, config(2), run_dir=tmp_path / "run")
    simulated = fitted.simulate(ds)
    assert (simulated["observed"].values == ds["observed"].values).all()


@pytest.mark.parametrize("call", ["systems", "simulate", "forecast"])
def test_a_fit_without_a_system_says_how_to_get_one(data, call, tmp_path):
    fitted = sb.fit(data, config(1, system=None), run_dir=tmp_path / "run")
    calls = {
        "systems": lambda: systems_of(fitted),
        "simulate": lambda: fitted.simulate(data),
        "forecast": lambda: fitted.forecast(data, bins=3),
    }
    with pytest.raises(ConfigError, match=r"no system .*: none was to be learned .*dynamics\.dimensions=4"):
        calls[call]()


def test_a_system_that_is_not_learned_yet_is_named(data, tmp_path):
    fitted = sb.fit(data, config(), run_dir=tmp_path / "run", until=2)
    with pytest.raises(ConfigError, match="has not learned its system yet; run the same fit again"):
        systems_of(fitted)


def test_a_fit_that_ends_at_its_time_limit_without_a_system_is_a_fit_all_the_same(data, tmp_path):
    limited = config()
    limited = limited.model_copy(update={"train": limited.train.model_copy(update={"max_minutes": 1e-6})})
    fitted = sb.fit(data, limited, run_dir=tmp_path / "run")
    assert fitted.finished.startswith("time limit") and len(fitted.history) == 1
    assert np.isfinite(fitted.infer(data)["rates_sd"].values).all()
    for call in (fitted.simulate, lambda ds: fitted.forecast(ds, bins=2)):
        with pytest.raises(
            ConfigError, match=r"ended before its system was learned \(time limit of .*train\.max_minutes"
        ):
            call(data)


def test_a_system_has_no_more_dimensions_than_the_model_has_factors(data, tmp_path):
    many = config(system=SYSTEM.model_copy(update={"dimensions": 5}))
    with pytest.raises(
        ConfigError, match=r"dynamics\.dimensions is 5, and the model has 4 factors.*raise model\.factors"
    ):
        sb.fit(data, many, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_forecast_waits_for_the_end_of_training(data, tmp_path):
    fitted = sb.fit(data, config(), run_dir=tmp_path / "run", until=5)
    assert fitted.simulate(data, trials=2).sizes["trial"] == 2
    with pytest.raises(ConfigError, match="is not finished, so the width"):
        fitted.forecast(data, bins=2)


def test_a_damaged_system_is_refused(data, tmp_path):
    fitted = sb.fit(data, config(2), run_dir=tmp_path / "run")
    path = tmp_path / "run" / DYNAMICS
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="damaged"):
        sb.load(fitted.run_dir)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 0}, "trials is 0; expected a whole number, one or more"),
        ({"trials": 2.5}, r"trials is 2\.5; expected a whole number"),
        ({"trials": "3"}, "trials is '3'; expected a whole number"),
        ({"seed": 1.5}, r"seed is 1\.5; expected a whole number, zero or more"),
        ({"trials": 1, "start": "a"}, r"start cannot be an array of numbers \(str\)"),
        ({"trials": 2, "start": np.zeros((3, 2))}, r"start has the shape \(3, 2\); expected .* \(2, 2\)"),
        ({"trials": 1, "start": np.full((1, 2), np.nan)}, "start has 2 numbers that are NaN or infinite"),
    ],
)
def test_starts_and_numbers_that_do_not_suit_are_refused(data, fitted, arguments, message):
    with pytest.raises(DataError, match=message):
        fitted.simulate(data, **arguments)


def test_a_forecast_of_nothing_is_refused(data, fitted):
    for arguments in ({"bins": 0}, {"bins": 2.5}, {"bins": "3"}, {"bins": True}):
        with pytest.raises(DataError, match=r"bins is .*; expected a whole number, one or more"):
            fitted.forecast(data, **arguments)
    with pytest.raises(DataError, match="the fit has no known inputs"):
        fitted.forecast(data, bins=2, inputs=np.zeros((90, 2, 1)))


def test_likelihoods_that_do_not_draw_are_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="the model is 'conv' with the likelihood 'zig'; possible are"):
        sb.fit(data, {**config().model_dump(), "likelihood": "zig"}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_system_that_is_missing_or_another_fits_is_refused(data, fitted, tmp_path):
    other = sb.fit(data, config(2, seed=7), run_dir=tmp_path / "run")
    (other.run_dir / DYNAMICS).write_bytes((fitted.run_dir / DYNAMICS).read_bytes())
    with pytest.raises(FileError, match="was learned beside other weights than those in the run folder"):
        sb.load(other.run_dir)
    (other.run_dir / DYNAMICS).unlink()
    with pytest.raises(FileError, match=DYNAMICS):
        sb.load(other.run_dir)


@pytest.mark.slow
def test_all_sessions_take_part_in_a_system_however_many_there_are(tmp_path):
    sessions = {f"s{i}": rotation(seed=i, channels=6, trials=10)[0] for i in range(6)}
    learned = SYSTEM.model_copy(update={"window": 40, "further_training": 0.0})
    fitted = sb.fit(sessions, config(1, system=learned), run_dir=tmp_path / "run")
    steps = fitted.members[0].dynamics
    again = (
        sb.fit(sessions, config(1, system=learned.model_copy(update={"steps": 1})), run_dir=tmp_path / "again")
        .members[0]
        .dynamics
    )
    for name in sessions:
        one, other = (each.likelihood.read_outs(name)[0][0] for each in (steps, again))
        assert not torch.equal(one, other)


@pytest.mark.slow
def test_a_report_of_data_that_do_not_vary_is_written_all_the_same(tmp_path):
    ds = sb.from_numpy(np.full((20, 20, 4), 3.0), bin_width=WIDTH, kind="series")
    fitted = sb.fit(ds, config(1, system=SYSTEM.model_copy(update={"further_training": 0.0})), run_dir=tmp_path / "run")
    assert np.isnan(sb.dynamics.forecast_error(fitted, ds)["excess"].values).all()
    (page,) = fitted.report(ds)
    assert page.exists()


def test_data_that_are_too_wide_for_a_system_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr("nwb_sbtt.fitting.learnable.MOST_WEIGHED", 40_000)
    with pytest.raises(ConfigError, match=r"has 90 trials of 40 bins and 12 channels; expected at most 4e\+04 entries"):
        sb.fit(data, config(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_search_refuses_systems(data, tmp_path):
    with pytest.raises(ConfigError, match="a search compares fits without a learned system"):
        sb.search(data, SearchConfig(trials=2), run_dir=tmp_path / "search", fit=config())
