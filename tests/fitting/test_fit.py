import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nwb_sbtt.config import (
    BandwidthConfig,
    ConvConfig,
    FitConfig,
    LFADSConfig,
    MaskConfig,
    SAEConfig,
    TrainConfig,
    override,
)
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import DataError, FileError, MismatchError, TrainingError
from nwb_sbtt.evaluate.intervals import interval
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.fitting.runfolder import change_settings, read_changes
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.simulate.lorenz import lorenz
from nwb_sbtt.train import loop
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import MODEL, Stopping, population, settings
from tests.support.latents import write_exactly


def test_what_is_inferred_is_labelled_like_the_data(ds, fitted):
    latents = fitted.infer(ds)
    assert set(latents.data_vars) == {
        *("rates", "rates_sd", "factors", "factors_sd", "inputs", "inputs_sd", "initial_condition"),
        *("initial_condition_sd", "observed"),
    }
    assert set(ds.coords) <= set(latents.coords)
    assert (latents["rates"] > 0).all()
    record = json.loads(latents.attrs["model"])
    assert record["model_type"] == "lfads"
    assert [entry["epoch"] for entry in record["training"]] == [1, 2]


def test_a_result_records_what_the_settings_left_open(ds, tmp_path):
    config = FitConfig(train=TrainConfig(epochs=1), model=ConvConfig(width=16, layers=1))
    fitted = fit(ds, config, run_dir=tmp_path / "run", tracker=Silent())
    filled = fitted.record()["filled_in"]
    assert config.model.dropout is None
    assert filled["model"]["dropout"] == 0.4
    assert filled["train"]["batch_size"] == 16
    assert filled["train"]["epochs"] == 1


def test_rates_are_in_hz(ds, tmp_path):
    """A model without dropout or latents to speak of gives the mean rate: counts over seconds."""
    fitted = fit(
        ds, settings(train=TrainConfig(epochs=40, learning_rate=0.02)), run_dir=tmp_path / "r", tracker=Silent()
    )
    rates = fitted.infer(ds)["rates"].mean(("trial", "time")).values
    expected = ds["values"].mean(("trial", "time")).values / ds.attrs["bin_width"]
    np.testing.assert_allclose(rates, expected, rtol=0.35)


def test_a_loaded_model_infers_the_same(ds, fitted):
    again = load(fitted.run_dir)
    assert again.config == fitted.config
    np.testing.assert_array_equal(again.infer(ds)["rates"].values, fitted.infer(ds)["rates"].values)


def test_channels_may_come_in_any_order(ds, fitted):
    shuffled = ds.isel(channel=[3, 0, 5, 1, 2, 4])
    one, other = fitted.infer(ds), fitted.infer(shuffled)
    assert other["channel_id"].values.tolist() == shuffled["channel_id"].values.tolist()
    np.testing.assert_array_equal(one["rates"].values[..., [3, 0, 5, 1, 2, 4]], other["rates"].values)


def test_a_model_is_applied_to_another_recording_only_if_it_is_said_to_have_the_same_channels(ds, tmp_path):
    monday, tuesday = (ds.assign_attrs(source=json.dumps({"object_id": day, "name": f"{day}.nwb"})) for day in "mt")
    fitted = fit(monday, settings(), run_dir=tmp_path / "run", tracker=Silent())
    for other in (tuesday, ds):
        for apply in (fitted.infer, fitted.evaluate):
            with pytest.raises(
                MismatchError, match=r"'m\.nwb' \(object id m\), so channels .* may be different channels."
            ):
                apply(other)
            apply(other, same_channels=True)
    np.testing.assert_array_equal(
        fitted.infer(tuesday, same_channels=True)["rates"].values, fitted.infer(monday)["rates"].values
    )


def test_other_channels_are_an_error_that_lists_the_difference(ds, fitted):
    other = ds.assign_coords(channel_id=("channel", [*ds["channel_id"].values[:-1], 777]))
    with pytest.raises(MismatchError, match=r"missing in the data: .*not in the model: .*777"):
        fitted.infer(other)
    with pytest.raises(MismatchError, match=r"bins of 0\.01 s, but the model was fitted to bins of 0\.02 s"):
        fitted.infer(ds.assign_attrs(bin_width=0.01))


def test_the_same_call_again_loads_what_is_there(ds, fitted):
    before = (fitted.run_dir / "best.safetensors").read_bytes()
    fit(ds, settings(), run_dir=fitted.run_dir, tracker=Silent())
    assert (fitted.run_dir / "best.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "seed is 3 instead of 0"),
        ({"model": SAEConfig()}, "model.encoder is 64 instead of 6"),
    ],
)
def test_a_run_folder_of_other_settings_is_an_error(ds, fitted, change, message):
    with pytest.raises(TrainingError, match=message):
        fit(ds, settings(**change), run_dir=fitted.run_dir, tracker=Silent())


def test_more_epochs_of_a_finished_fit_are_an_error_that_says_how(ds, fitted):
    longer = settings(train=TrainConfig(epochs=9, batch_size=8, checkpoint_every=1))
    with pytest.raises(TrainingError, match=r"to start from its weights: --init .*initial --set init.channels=same"):
        fit(ds, longer, run_dir=fitted.run_dir, tracker=Silent())


def test_a_fit_that_has_not_finished_says_so_where_it_is_used(ds, fitted, tmp_path):
    assert fitted.unfinished == ""
    with pytest.raises(KeyboardInterrupt):
        fit(ds, settings(), run_dir=tmp_path / "run", tracker=Stopping(2))
    stopped = load(tmp_path / "run")
    assert stopped.unfinished.startswith("Training has not finished: this is the best state of the first 1 epochs")
    check = stopped.evaluate(ds)["checks"][0]
    assert (check["name"], check["level"], check["text"]) == ("training", "warn", f"{stopped.unfinished}.")
    assert "training" not in [check["name"] for check in fitted.evaluate(ds)["checks"]]


def test_the_number_of_torch_threads_is_left_as_it_was(ds, fitted, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        fitted.infer(ds)
        fit(ds, settings(train=TrainConfig(epochs=1)), run_dir=tmp_path / "run", tracker=Silent())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_run_folder_of_other_data_is_an_error(fitted):
    with pytest.raises(TrainingError, match="session 'session' has different data"):
        fit(population(seed=1), settings(), run_dir=fitted.run_dir, tracker=Silent())


def test_a_folder_that_is_no_run_folder_is_left_alone(ds, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(TrainingError, match="is not a run folder"):
        fit(ds, settings(), run_dir=tmp_path, tracker=Silent())
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(FileError, match="has no fitted"):
        load(tmp_path)


def diverging(monkeypatch, epoch):
    """Let the loss be infinite from an epoch on, at the rates that the settings of these tests have."""
    step = loop._Run.step

    def wild(self, batch, generator, number, *, total_steps):
        terms = step(self, batch, generator, number, total_steps=total_steps)
        return terms * float("inf") if self.progress.epoch + 1 >= epoch else terms

    monkeypatch.setattr(loop._Run, "step", wild)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_folder_of_a_fit_that_broke_down_takes_gentler_settings(ds, tmp_path, monkeypatch, seeds):
    gentle = settings(train=TrainConfig(epochs=2, batch_size=8, learning_rate=1e-3), seeds=seeds)
    fresh = fit(ds, gentle, run_dir=tmp_path / "fresh", tracker=Silent())
    with monkeypatch.context() as patch:
        diverging(patch, epoch=2)
        for _ in range(2):
            with pytest.raises(
                TrainingError, match=r"^(member 1 of 2: )?the reconstruction .* of epoch 2, .* may be the same"
            ):
                fit(ds, settings(seeds=seeds), run_dir=tmp_path / "run", tracker=Silent())
    (tmp_path / "run" / "notes.txt").write_text("mine")
    fitted = fit(ds, gentle, run_dir=tmp_path / "run", tracker=Silent())
    np.testing.assert_array_equal(fitted.infer(ds)["rates"].values, fresh.infer(ds)["rates"].values)
    left = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*")}
    assert left == {str(path.relative_to(tmp_path / "fresh")) for path in (tmp_path / "fresh").rglob("*")} | {
        "notes.txt"
    }
    with pytest.raises(TrainingError, match="has a fit of different data or"):
        fit(ds, settings(seeds=seeds), run_dir=tmp_path / "run", tracker=Silent())


def test_a_fit_that_broke_down_may_still_end_well_and_is_then_kept(ds, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        diverging(patch, epoch=2)
        with pytest.raises(TrainingError):
            fit(ds, settings(), run_dir=tmp_path / "run", tracker=Silent())
    assert fit(ds, settings(), run_dir=tmp_path / "run", tracker=Silent()).finished
    with pytest.raises(TrainingError, match="has a fit of different data or"):
        fit(ds, settings(seed=1), run_dir=tmp_path / "run", tracker=Silent())


def test_a_seed_of_training_changes_the_model_and_not_what_it_is_compared_on(ds, fitted, tmp_path):
    config = settings(train=TrainConfig(epochs=2, batch_size=8, checkpoint_every=1, seed=9))
    other = fit(ds, config, run_dir=tmp_path / "run", tracker=Silent())
    assert other.signature == fitted.signature
    assert (other.infer(ds)["rates"].values != fitted.infer(ds)["rates"].values).any()
    baselines = [{k: v for k, v in f.evaluate(ds)["scores"].items() if k != "model"} for f in (fitted, other)]
    assert baselines[0] == baselines[1]


def test_negative_counts_are_an_error(ds, tmp_path):
    bad = ds.copy(deep=True)
    bad["values"].values[0, 0, 0] = -1
    with pytest.raises(DataError, match=r"1 of 1728 values are negative"):
        fit(bad, settings(), run_dir=tmp_path / "run", tracker=Silent())
    assert not (tmp_path / "run").exists()


def test_datasets_without_names_are_an_error_of_one_line(ds, tmp_path):
    with pytest.raises(
        DataError, match=r"^got a list; expected a Dataset, .*, or Datasets by the names of their sessions"
    ):
        fit([ds, ds], run_dir=tmp_path / "run")


def test_too_few_trials_are_an_error(ds, tmp_path):
    with pytest.raises(DataError, match="trial"):
        fit(ds.isel(trial=[0, 1]), settings(), run_dir=tmp_path / "run", tracker=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_signals_get_a_gaussian_likelihood_and_means_in_their_unit(tmp_path):
    generator = np.random.default_rng(0)
    volts = 1e-4 * np.sin(np.arange(20) / 3)[:, None] * generator.standard_normal(5) + 3e-5
    values = volts + 1e-5 * generator.standard_normal((30, 20, 5))
    ds = make_dataset(values, np.ones(values.shape, bool), bin_width=0.01, kind="electrodes", attrs={"unit": "volts"})
    config = settings(train=TrainConfig(epochs=50, learning_rate=0.04))
    fitted = fit(ds, config, run_dir=tmp_path / "run", tracker=Silent())
    mean = fitted.infer(ds)["mean"].mean("trial").values
    assert np.corrcoef(mean.ravel(), volts.ravel())[0, 1] > 0.95
    metrics = fitted.evaluate(ds)
    assert metrics["scores"]["model"] > metrics["scores"]["mean_rate"]


@pytest.mark.slow
def test_intervals_of_signals_are_calibrated_and_written(tmp_path):
    rng = np.random.default_rng(0)
    shared = np.sin(np.arange(20) / 3 + rng.uniform(0, 6, (120, 1)))[..., None] * rng.normal(size=12)
    values = 1e-5 * (shared + 0.5 * rng.normal(size=(120, 20, 12)))
    ds = make_dataset(values, np.ones(values.shape, bool), bin_width=0.01, kind="electrodes", attrs={"unit": "volts"})
    config = FitConfig(model=ConvConfig(width=16, layers=1), train=TrainConfig(epochs=15, learning_rate=0.02))
    fitted = fit(ds, config, run_dir=tmp_path / "run", tracker=Silent())
    again = load(fitted.run_dir)
    assert again.calibrations == fitted.calibrations
    latents = fitted.infer(ds)
    errors = (latents["mean"].values - 1e-5 * shared).std()
    np.testing.assert_allclose(latents["noise_sd"], 0.5e-5, rtol=0.3)
    np.testing.assert_allclose(np.sqrt((latents["mean_sd"] ** 2).mean()), errors, rtol=0.5)
    some = latents.isel(trial=slice(24)).assign_attrs(session_start_time="2024-01-01T00:00:00+00:00")
    written = read_result(write_exactly(some, tmp_path / "out.nwb"))
    for level in (0.5, 0.95):
        bounds = interval(latents, level, of="data")
        assert abs(float(((values >= bounds[0]) & (values <= bounds[1])).mean()) - level) < 0.06
        for one, other in zip(bounds, interval(written, level, of="data"), strict=True):
            np.testing.assert_allclose(one.values[:24], other.values, rtol=1e-5, atol=1e-9)


def test_each_session_has_a_calibration_of_its_own(tmp_path):
    sessions = {name: lorenz(n_channels=n, conditions=2, trials_per_condition=20) for name, n in (("a", 6), ("b", 4))}
    fitted = fit(sessions, settings(), run_dir=tmp_path / "run", tracker=Silent())
    assert set(fitted.calibrations) == {"a", "b"}
    assert [len(fitted.calibrations[name].mean) for name in ("a", "b")] == [6, 4]
    one = fitted.infer(sessions["b"], session="b")["rates_sd"]
    halved = replace(fitted.calibrations["b"], scale=fitted.calibrations["b"].scale / 4)
    other = replace(fitted, calibrations={**fitted.calibrations, "b": halved})
    np.testing.assert_allclose(other.infer(sessions["b"], session="b")["rates_sd"], one / 2, rtol=1e-4)
    np.testing.assert_array_equal(
        other.infer(sessions["a"], session="a")["rates_sd"], fitted.infer(sessions["a"], session="a")["rates_sd"]
    )


def test_held_out_channels_are_predicted_without_being_seen(ds, tmp_path):
    config = settings(masks=MaskConfig(held_out_channels=0.34))
    fitted = fit(ds, config, run_dir=tmp_path / "run", tracker=Silent())
    from nwb_sbtt.fitting.preparation import prepare

    prepared = prepare(ds, config)
    held_out = prepared["held_out"].values
    assert held_out.sum() == 2
    changed = prepared.copy(deep=True)
    changed["values"].values[..., held_out] += 5
    np.testing.assert_array_equal(fitted.infer(prepared)["rates"].values, fitted.infer(changed)["rates"].values)
    assert "held_out" in fitted.evaluate(ds)


def test_several_sessions_share_all_but_their_channels(tmp_path):
    sessions = {"monday": population(0), "tuesday": population(1).isel(channel=slice(0, 4))}
    fitted = fit(sessions, settings(), run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.infer(sessions["tuesday"], session="tuesday").sizes["channel"] == 4
    with pytest.raises(MismatchError, match=r"the sessions 'monday', 'tuesday'.*session='monday' .--session monday."):
        fitted.infer(sessions["monday"])
    again = load(tmp_path / "run")
    one, other = (f.infer(sessions["monday"], session="monday") for f in (fitted, again))
    np.testing.assert_array_equal(one["rates"].values, other["rates"].values)


def test_a_joint_fit_does_not_depend_on_the_order_of_its_sessions(tmp_path):
    sessions = {"a": population(0), "b": population(1).isel(channel=slice(0, 4))}
    one = fit(sessions, settings(), run_dir=tmp_path / "one", tracker=Silent())
    turned = dict(reversed(sessions.items()))
    for run_dir in (tmp_path / "other", one.run_dir):
        other = fit(turned, settings(), run_dir=run_dir, tracker=Silent())
        assert other.checkpoint_sha256 == one.checkpoint_sha256
        for name, ds in sessions.items():
            expected = one.infer(ds, session=name)["rates"].values
            np.testing.assert_array_equal(other.infer(ds, session=name)["rates"].values, expected)
    with pytest.raises(
        TrainingError, match=r"those of the fit in the folder, but without session 'b' and with session 'c'"
    ):
        fit({"a": sessions["a"], "c": sessions["b"]}, settings(), run_dir=one.run_dir, tracker=Silent())
    exchanged = {"a": sessions["b"], "b": sessions["a"]}
    with pytest.raises(
        TrainingError, match=r"session 'a' has 4 channels instead of 6 .without '19', '22'.; session 'b' has 6"
    ):
        fit(exchanged, settings(), run_dir=one.run_dir, tracker=Silent())


def test_sessions_of_other_bin_widths_are_not_fitted_together(ds, tmp_path):
    sessions = {"a": ds, "b": population(1).assign_attrs(bin_width=0.01)}
    with pytest.raises(MismatchError, match=r"session 'b' has bins of 0\.01 s, but session 'a' has bins of 0\.02 s"):
        fit(sessions, settings(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_same_data_are_not_fitted_as_two_sessions(ds, tmp_path):
    with pytest.raises(DataError, match=r"sessions 'a' and 'c' have exactly the same data; pass each recording"):
        fit({"a": ds, "b": population(1), "c": ds.copy()}, settings(), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_error_of_a_joint_fit_names_the_session(ds, tmp_path):
    negative = population(1)
    negative["values"].values[0, 0, 0] = -1
    for unfit in (negative, population(1).isel(trial=[0, 1])):
        with pytest.raises(
            DataError, match=r"^session 'tuesday': .* Correct it, or fit the other sessions without this one"
        ):
            fit({"monday": ds, "tuesday": unfit}, settings(), run_dir=tmp_path / "run")


def with_all(ds):
    """The same data with everything that tensors are made of."""
    return ds.assign(exposure=(ds["values"].dims, np.full(ds["values"].shape, 0.5, np.float32))).assign_coords(
        held_out=("channel", np.arange(6) == 0),
        forecast=("time", np.arange(12) > 10),
        split=("trial", np.where(np.arange(24) < 20, "train", "valid")),
        trial_id=("trial", np.arange(24)),
    )


CHANGES = {
    "values": lambda ds: ds.assign(values=ds["values"] + 1),
    "mask": lambda ds: limit_bandwidth(ds, BandwidthConfig(k=5)),
    "exposure": lambda ds: ds.assign(exposure=ds["exposure"] / 2),
    "no exposure": lambda ds: ds.drop_vars("exposure"),
    "held out": lambda ds: ds.assign_coords(held_out=("channel", np.arange(6) == 1)),
    "nothing held out": lambda ds: ds.drop_vars("held_out"),
    "forecast": lambda ds: ds.assign_coords(forecast=("time", np.arange(12) > 9)),
    "split": lambda ds: ds.assign_coords(split=("trial", np.where(np.arange(24) < 19, "train", "valid"))),
    "trials": lambda ds: ds.assign_coords(trial_id=("trial", np.arange(24)[::-1])),
    "channels": lambda ds: ds.assign_coords(channel_id=("channel", ds["channel_id"].values[::-1])),
    "bin width": lambda ds: ds.assign_attrs(bin_width=0.01),
}


@pytest.fixture(scope="module")
def fitted_to_all(ds, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "all"
    return fit(with_all(ds), settings(), run_dir=run_dir, tracker=Silent())


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_folder_is_of_all_that_tensors_are_made_of(ds, fitted_to_all, change):
    data = with_all(ds)
    assert fitted_to_all.is_fitted_to(data.copy(deep=True))
    changed = CHANGES[change](data)
    assert not fitted_to_all.is_fitted_to(changed)
    with pytest.raises(TrainingError, match="has a fit of different data"):
        fit(changed, settings(), run_dir=fitted_to_all.run_dir, tracker=Silent())


@pytest.mark.slow
def test_the_model_beats_the_baselines_where_there_is_something_to_learn(tmp_path):
    """A small version of benchmarks/accuracy.py: 5 of 20 neurons per bin."""
    ds = limit_bandwidth(lorenz(n_channels=20, conditions=8, trials_per_condition=20, seed=0), BandwidthConfig(k=5))
    config = FitConfig(
        model=LFADSConfig(read_in=16, encoder=24, controller=16, generator=32, factors=8),
        train=TrainConfig(epochs=40, batch_size=16),
        posterior_samples=8,
    )
    metrics = fit(ds, config, run_dir=tmp_path / "run", tracker=Silent()).evaluate(ds)
    scores = metrics["scores"]
    assert scores["model"] > max(value for name, value in scores.items() if name != "model")
    assert metrics["truth"]["rates_r2"]["model"] > 0.6


def sizes_of_events(*, smallest=0.2, **coords):
    """Event sizes in five channels, of which one follows a slow wave; imaged every third bin."""
    rng = np.random.default_rng(0)
    shape = (40, 30, 5)
    wave = np.sin(np.arange(30) / 5 + rng.uniform(0, 6, (40, 1)))[..., None]
    happens = rng.random(shape) < 0.3 * np.exp(wave * [1, 1, 0, 0, 0]) / np.e
    values = happens * (smallest + rng.gamma(2.0, 1.0, shape) * [0.01, 1, 1, 100, 1])
    observed = (np.arange(30)[:, None] + np.arange(5)) % 3 == np.zeros((40, 1, 1))
    coords = {name: ("channel", np.full(5, value)) for name, value in coords.items()}
    attrs = {"unit": "a.u.", "signal": "events"}
    return make_dataset(values, observed, bin_width=0.01, kind="rois", coords=coords, attrs=attrs)


@pytest.mark.parametrize("model", [MODEL, ConvConfig(read_in=8, width=16, layers=2, groups=4, max_lag=8, factors=4)])
@pytest.mark.slow
def test_events_get_a_zero_inflated_gamma_likelihood_by_themselves(tmp_path, model):
    ds = sizes_of_events(smallest_event=0.19)
    train = TrainConfig(epochs=30, batch_size=8, learning_rate=0.01)
    fitted = fit(ds, settings(model=model, train=train), run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.signature.likelihood == "zig"
    assert fitted.signature.sessions["session"].channel_values == {"smallest_event": (0.19,) * 5}
    latents = load(tmp_path / "run").infer(ds)
    np.testing.assert_array_equal(latents["mean"].values, fitted.infer(ds)["mean"].values)
    per_channel = ds["values"].where(ds["observed"]).mean(("trial", "time")).values
    np.testing.assert_allclose(latents["mean"].mean(("trial", "time")).values, per_channel, rtol=0.35)
    assert fitted.history[-1]["valid_loss"] < fitted.history[0]["valid_loss"]


def test_what_a_likelihood_cannot_hold_is_an_error_that_says_what_to_set(tmp_path):
    ds = sizes_of_events()
    with pytest.raises(DataError, match=r"are above 0 but not above the smallest event.*smallest_event=0"):
        fit(ds, settings(likelihood={"name": "zig", "smallest_event": 0.25}), run_dir=tmp_path / "a", tracker=Silent())
    with pytest.raises(DataError, match="zero or less, which a gamma"):
        fit(ds, settings(likelihood="gamma"), run_dir=tmp_path / "b", tracker=Silent())
    negative = ds.assign(values=-ds["values"])
    with pytest.raises(DataError, match="negative, which sizes of events cannot be"):
        fit(negative, settings(), run_dir=tmp_path / "c", tracker=Silent())
    assert not list(tmp_path.iterdir())


def test_positive_signals_may_be_gamma_distributed(tmp_path):
    ds = sizes_of_events(smallest=0.0)
    ds = ds.assign(values=(ds["values"] + 0.5) * ds["observed"])
    fitted = fit(ds, settings(likelihood="gamma"), run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.signature.likelihood == "gamma"
    assert (fitted.infer(ds)["mean"] > 0).all()


def test_a_fit_in_pieces_ends_in_the_numbers_of_one(ds, tmp_path):
    whole = fit(ds, settings(train=TrainConfig(epochs=4)), run_dir=tmp_path / "whole", tracker=Silent())
    for until in (1, 3):
        piece = fit(ds, whole.config, run_dir=tmp_path / "pieces", tracker=Silent(), until=until)
        assert not piece.finished
        assert piece.members[0].progress.epoch == until
        assert not (tmp_path / "pieces" / "calibration.json").exists()
    pieces = fit(ds, whole.config, run_dir=tmp_path / "pieces", tracker=Silent(), until=9)
    assert pieces.checkpoint_sha256 == whole.checkpoint_sha256
    assert (tmp_path / "pieces" / "calibration.json").exists()
    assert [e["valid_loss"] for e in pieces.history] == [e["valid_loss"] for e in whole.history]


def test_settings_may_change_between_two_pieces_and_that_is_recorded(ds, tmp_path):
    run, config = tmp_path / "run", settings(train=TrainConfig(epochs=4))
    fit(ds, config, run_dir=run, tracker=Silent(), until=2)
    faster = override(config, ["train.learning_rate=0.03", "masks.coordinated_dropout=[0.2, 0.2]"])
    change_settings(run, faster, epoch=2, note="weights of trial 3")
    fitted = fit(ds, faster, run_dir=run, tracker=Silent())
    assert fitted.finished
    assert load(run).config == faster
    (change,) = read_changes(run)
    assert (change["epoch"], change["note"]) == (2, "weights of trial 3")
    assert any(text.startswith("train.learning_rate is 0.03 instead of ") for text in change["settings"])
    assert fitted.history[2]["learning_rate"] > fitted.history[1]["learning_rate"]


def test_trials_kept_for_a_test_are_scored_apart(ds, tmp_path):
    fitted = fit(ds, settings(test_fraction=0.3), run_dir=tmp_path / "run", tracker=Silent())
    valid, test = fitted.evaluate(ds), fitted.evaluate(ds, on="test")
    assert test["scored"]["trials"] == round(0.3 * ds.sizes["trial"])
    assert test["scores"]["model"] != valid["scores"]["model"]
    other = ds.copy()
    other["values"] = ds["values"].where(fitted_split(ds, fitted) != "test", 0)
    again = fit(other, fitted.config, run_dir=tmp_path / "again", tracker=Silent())
    assert again.checkpoint_sha256 == fitted.checkpoint_sha256


def fitted_split(ds, fitted):
    return prepare(ds, fitted.config)["split"]


def test_a_test_needs_trials(ds, fitted):
    with pytest.raises(DataError, match=r"no test trials; set test_fraction"):
        fitted.evaluate(ds, on="test")
