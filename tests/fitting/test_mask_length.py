"""Entries of signals are hidden together for as long as what is a channel's own is correlated with itself."""

import numpy as np
import pytest
from scipy.signal import lfilter

import nwb_sbtt as sb
from nwb_sbtt.config import ConvConfig, FitConfig, LFADSConfig, MaskConfig, TrainConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.data.splits import split
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.evaluate.baselines import statespace
from nwb_sbtt.fitting.preparation import channels_to_hide, hidden_entries, mask_length_of
from nwb_sbtt.train.trackers import Silent

SMALL = ConvConfig(read_in=8, width=8, layers=2, groups=4, max_lag=8, factors=3)
TRIALS, BINS, CHANNELS = 30, 60, 8


@pytest.fixture(scope="module")
def signals():
    """Two slow signals that all channels share, and noise of their own with a memory of four bins."""
    rng = np.random.default_rng(41)

    def slow(n, bins):
        decay = np.exp(-1 / bins)
        noise = lfilter([np.sqrt(1 - decay**2)], [1, -decay], rng.normal(size=(TRIALS * BINS, n)), axis=0)
        return noise.reshape(TRIALS, BINS, n)

    values = slow(2, 15) @ rng.normal(size=(2, CHANNELS)) + 0.7 * slow(CHANNELS, 4)
    ds = make_dataset(
        values.astype(np.float32),
        np.ones(values.shape, bool),
        bin_width=0.01,
        kind="electrodes",
        attrs={"unit": "volts"},
    )
    return split(ds, valid=0.2, seed=0)


def test_the_mask_length_of_signals_is_measured_on_the_training_trials(signals):
    length = mask_length_of(signals, FitConfig(model=SMALL))
    assert 8 <= length <= 24
    assert mask_length_of(signals, FitConfig(model=LFADSConfig())) == length
    assert mask_length_of(signals, FitConfig(masks=MaskConfig(mask_length=3))) == 3
    changed = signals.copy(deep=True)
    changed["values"].values[changed["split"].values == "valid"] = 0
    assert mask_length_of(changed, FitConfig(model=SMALL)) == length


def test_counts_are_hidden_one_by_one():
    counts = split(sb.simulate.lorenz(n_channels=6, conditions=4, trials_per_condition=4), valid=0.2, seed=0)
    assert mask_length_of(counts, FitConfig()) == 1


def test_hidden_entries_of_a_channel_lie_in_blocks(signals):
    length = mask_length_of(signals, FitConfig())
    hidden = hidden_entries(signals, to_batch(signals), FitConfig()).numpy()
    starts = (hidden[:, 1:] & ~hidden[:, :-1]).sum() + hidden[:, 0].sum()
    assert hidden.sum() / starts > length / 2


def test_a_fit_of_signals_is_scored_on_blocks_and_on_hidden_channels(signals, tmp_path, monkeypatch):
    for name, value in (("FACTOR_COUNTS", (2,)), ("OSCILLATOR_COUNTS", (1,)), ("MAX_EXTENSIONS", 0)):
        monkeypatch.setattr(statespace, name, value)
    config = FitConfig(model=SMALL, train=TrainConfig(epochs=2))
    fitted = sb.fit(signals, config, run_dir=tmp_path / "run", tracker=Silent())
    length = mask_length_of(signals, config)
    assert fitted.signature.sessions[fitted.session_name()].mask_length == length
    metrics = fitted.evaluate(signals)
    assert metrics["scored"]["seconds_together"] == pytest.approx(0.01 * length)
    assert metrics["cosmoothing"].keys() == metrics["scores"].keys()
    # Smoothing has nothing to smooth where a channel is hidden.
    assert metrics["cosmoothing"]["factor_analysis"] > 0.4 > 0.1 > metrics["cosmoothing"]["masked_smoothing"]
    assert "on hidden channels" in metrics["headline"]
    # Hidden channels are read by no one; values that they do not hold are what they are scored on.
    hidden = channels_to_hide(signals, config)
    changed = signals.copy(deep=True)
    changed["values"].values[np.ix_(changed["split"].values == "valid", np.ones(BINS, bool), hidden)] += 100
    assert 1 <= hidden.sum() < CHANNELS and sb.load(tmp_path / "run").evaluate(changed)["cosmoothing"]["model"] < -10
