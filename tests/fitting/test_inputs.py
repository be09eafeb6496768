"""Fits with known inputs: what they learn, what they are given again, and what they refuse."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import nwb_sbtt as sb
from nwb_sbtt.config import ConvConfig, FitConfig, LadderConfig, LFADSConfig, SAEConfig, TrainConfig
from nwb_sbtt.data.inputs import without_inputs
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError, MismatchError
from nwb_sbtt.fitting.replay import replay
from nwb_sbtt.nn.inputs import InputStatistics

TRIALS, BINS, CHANNELS, WIDTH = 60, 30, 8, 0.02
CONV = {"width": 16, "groups": 4, "layers": 2, "factors": 4, "read_in": 8, "max_lag": 10, "input_memory": 8}
LFADS = {"read_in": 6, "encoder": 6, "initial_condition": 4, "controller": 4, "generator": 12, "factors": 3}


def driven(*, trials=TRIALS, missing=0.0, seed=0):
    """Counts of units that follow the last of two pulses, in data of which each bin tells little."""
    random = np.random.default_rng(seed)
    pulses = (random.random((trials, BINS, 2)) < 0.06).astype(float)
    state = np.zeros((trials, 2))
    course = np.zeros((trials, BINS, 2))
    for t in range(BINS):
        state = 0.8 * state + pulses[:, t]
        course[:, t] = state
    rates = np.exp(-1.5 + 1.5 * course @ random.normal(size=(2, CHANNELS)).clip(-1, 1))
    ds = sb.from_numpy(random.poisson(rates), bin_width=WIDTH)
    known = np.where(random.random(pulses.shape) < missing, np.nan, pulses)
    return sb.with_inputs(ds, {"left": known[..., 0], "right": known[..., 1]}), rates / WIDTH


def config(model, epochs=3, **changes):
    return FitConfig(model=model, train=TrainConfig(epochs=epochs, batch_size=16), **changes)


@pytest.fixture(scope="module")
def data():
    return driven(missing=0.1)[0]


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    return sb.fit(data, config(ConvConfig(lag=1, **CONV)), run_dir=tmp_path_factory.mktemp("inputs") / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [ConvConfig(lag=0, **CONV), LFADSConfig(**LFADS), LFADSConfig(inputs=0, **LFADS)],
    ids=["conv", "lfads", "lfads without a controller"],
)
def test_inputs_explain_what_the_data_hardly_tell(model, tmp_path):
    ds, rates = driven(trials=80)
    with_them = sb.fit(ds, config(model, epochs=20), run_dir=tmp_path / "with")
    alone = sb.fit(without_inputs(ds), config(model, epochs=20), run_dir=tmp_path / "without")
    errors = [
        float(((fit.infer(each)["rates"].values - rates) ** 2).sum())
        for fit, each in ((with_them, ds), (alone, without_inputs(ds)))
    ]
    assert errors[0] < 0.8 * errors[1]


def test_a_loaded_fit_infers_the_same(data, fitted):
    again = sb.load(fitted.run_dir)
    assert again.signature.sessions[again.session_name(None)].inputs == ("left", "right")
    np.testing.assert_array_equal(again.infer(data)["rates"], fitted.infer(data)["rates"])
    assert "inputs" not in fitted.infer(data) and "input" not in fitted.infer(data).coords


def test_inferred_inputs_stand_beside_known_ones(data, tmp_path):
    fit = sb.fit(data, config(LFADSConfig(**LFADS), epochs=1), run_dir=tmp_path / "run")
    assert fit.infer(data)["inputs"].sizes["input"] == LFADSConfig().inputs


def test_inputs_are_put_into_the_order_of_the_fit(data, fitted):
    turned = data.isel(input=[1, 0])
    np.testing.assert_array_equal(fitted.infer(turned)["rates"], fitted.infer(data)["rates"])


def test_other_inputs_are_refused(data, fitted):
    with pytest.raises(MismatchError, match="known inputs none, but the model was fitted with 'left', 'right'"):
        fitted.infer(without_inputs(data))
    more = sb.with_inputs(data, {"up": np.zeros((TRIALS, BINS))})
    with pytest.raises(MismatchError, match="'left', 'right', 'up', but the model was fitted with"):
        fitted.infer(more)


def test_what_is_missing_does_not_matter(data, fitted):
    """Values outside `inputs_observed` are 0 by rule; a batch with others gives the same factors."""
    batch = to_batch(data, fitted.session_name(None))
    other = torch.where(batch.inputs_observed, batch.inputs, torch.tensor(7.0))
    with torch.no_grad():
        same = fitted.model(batch).factors
        changed = fitted.model(replace(batch, inputs=other)).factors
    assert torch.equal(same, changed)


def test_models_without_inputs_say_so(data, tmp_path):
    with pytest.raises(ConfigError, match=r"model 'sae' takes no known inputs.*conv.*lfads"):
        sb.fit(data, config(SAEConfig(encoder=4, generator=4, factors=2)), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stream_is_given_inputs_bin_by_bin(data, fitted):
    stream = fitted.stream()
    assert stream.inputs == ("left", "right")
    replayed = replay(fitted, data.isel(trial=slice(0, 6)))
    assert replayed.difference < 1e-5
    counts = np.zeros(CHANNELS)
    first = stream.step(counts, inputs=[0.0, 1.0])
    kept = stream.state()
    then = [stream.step(counts, inputs=[np.nan, 0.0]) for _ in range(3)]
    other = fitted.stream()
    other.restore(kept)
    together = other.step(np.zeros((3, CHANNELS)), inputs=[[np.nan, 0.0]] * 3)
    np.testing.assert_array_equal(together.rates, [step.rates for step in then])
    assert first.bin == -1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "fitted with the known inputs 'left', 'right'; pass inputs=, 2 numbers"),
        ([1.0], r"inputs have the shape \(1,\); expected \(2,\)"),
        ([1.0, np.inf], "inputs are infinite"),
    ],
)
def test_a_stream_refuses_other_inputs(fitted, inputs, message):
    with pytest.raises(DataError, match=message):
        fitted.stream().step(np.zeros(CHANNELS), inputs=inputs)


def test_sessions_need_the_same_inputs(data, tmp_path):
    other = without_inputs(driven(seed=1)[0])
    with pytest.raises(
        MismatchError, match=r"session 'b' has the known inputs \[\], but session 'a' has \['left', 'right'\]"
    ):
        sb.fit({"a": data, "b": other}, config(ConvConfig(**CONV)), run_dir=tmp_path / "run")


def test_a_fit_starts_from_one_with_the_same_inputs(data, fitted, tmp_path):
    settings = config(ConvConfig(lag=1, **CONV), init={"run_dir": fitted.run_dir, "channels": "same"})
    other = sb.with_inputs(
        sb.from_numpy(driven(seed=2)[0]["values"].values, bin_width=WIDTH), {"left": np.eye(TRIALS, BINS)}
    )
    with pytest.raises(
        MismatchError, match=r"known inputs are \['left'\], but those of the initial fit are \['left', 'right'\]"
    ):
        sb.fit(other, settings, run_dir=tmp_path / "other")
    assert sb.fit(data, settings, run_dir=tmp_path / "same").finished


def test_other_inputs_are_another_fit(data, fitted):
    changed = data.assign(inputs=data["inputs"] * 2)
    assert not fitted.is_fitted_to(changed)


@pytest.mark.slow
def test_a_ladder_takes_inputs(tmp_path):
    random = np.random.default_rng(0)
    pulses = (random.random((8, 60)) < 0.05).astype(float)
    spikes = random.poisson(0.05 + pulses[..., None], (8, 60, 4))
    calcium = np.zeros(spikes.shape)
    for t in range(60):
        calcium[:, t] = 0.8 * calcium[:, t - 1] * (t > 0) + spikes[:, t]
    ds = sb.from_numpy(calcium + random.normal(0, 0.1, spikes.shape), bin_width=0.1, kind="rois")
    ds = sb.with_inputs(ds, {"pulse": pulses})
    fit = sb.fit(ds, config(LadderConfig(**CONV), epochs=1), run_dir=tmp_path / "run")
    assert np.isfinite(fit.infer(ds)["rates"]).all()


def test_statistics_of_sessions_are_pooled(data):
    whole = InputStatistics.measured(to_batch(data))
    parts = [InputStatistics.measured(to_batch(data.isel(trial=part))) for part in (slice(0, 10), slice(10, None))]
    pooled = InputStatistics.pooled(parts)
    for name in ("count", "mean", "sd"):
        torch.testing.assert_close(getattr(pooled, name), getattr(whole, name))
    assert InputStatistics.measured(to_batch(without_inputs(data))) is None


def test_scores_reports_and_texts_say_what_the_baselines_lack(data, fitted):
    metrics = fitted.evaluate(data)
    assert metrics["known_inputs"] == ["left", "right"]
    assert "best baseline, without the known inputs" in metrics["headline"]
    assert re.search(r"known inputs +left, right", repr(fitted))
    page = fitted.report(data)[0].read_text()
    assert "The model was given the known inputs left, right; the baselines were not." in page
    assert json.loads(fitted.infer(data).attrs["model"])["known_inputs"] == ["left", "right"]


@pytest.mark.parametrize(
    ("value", "message"), [(1.0, "it is 1 in all of them"), (np.nan, "it is missing in all of them")]
)
def test_an_input_that_does_not_vary_in_training_is_refused(value, message, tmp_path):
    ds = sb.split(without_inputs(driven()[0]))
    constant = np.where((ds["split"].values == "train")[:, None], value, 2.0) * np.ones((TRIALS, BINS))
    with pytest.raises(DataError, match=f"learned from the known input 'light': {message}"):
        sb.fit(sb.with_inputs(ds, {"light": constant}), config(ConvConfig(**CONV)), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
