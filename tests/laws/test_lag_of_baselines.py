"""With a lag, what is shown of a trial later than that changes no prediction of a baseline, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest

from nwb_sbtt.evaluate.baselines import BASELINES, MaskedData, predict, protocol
from tests.support.dynamics import rotation

TRAIN = 6
OF_ITS_BIN_ONLY = ("factor_analysis",)
OF_NO_BIN = ("mean_rate",)

each = pytest.mark.parametrize("name", BASELINES.names())
kinds = pytest.mark.parametrize("counts", [True, False], ids=["counts", "signals"])


def make_data(*, counts: bool, n_bins: int = 40, lag: int | None = None) -> MaskedData:
    data, _ = rotation(counts=counts, shape=(9, n_bins, 5))
    exposure = np.random.default_rng(1).uniform(0.2, 1, data.shape)
    return replace(data, train=np.arange(9) < TRAIN, exposure=exposure, lag=lag)


def later_changes(data: MaskedData, first: int) -> list[MaskedData]:
    """The same data, from a bin on with other values; some entries removed and some added; all removed; in predicted trials."""
    rng = np.random.default_rng(2)
    later = (np.arange(data.shape[1]) >= first)[:, None] & ~data.train[:, None, None]
    values = np.where(later, data.values + rng.integers(1, 40, data.shape), data.values)
    exposure = np.where(later & data.shown, 0.7, np.where(data.shown, data.exposure, 0.4))
    drawn = later & (rng.random(data.shape) < 0.5)
    return [
        replace(data, values=values, exposure=exposure),
        replace(data, values=values, exposure=exposure, shown=data.shown ^ drawn),
        replace(data, shown=data.shown & ~later),
    ]


@pytest.mark.parametrize("lag", [0, 3])
@kinds
@each
def test_what_is_shown_after_the_lag_changes_no_prediction(name: str, counts: bool, lag: int) -> None:
    check(name, make_data(counts=counts, lag=lag), bins=(17,))


@kinds
@each
def test_what_is_shown_after_the_lag_changes_no_prediction_of_a_long_trial(name: str, counts: bool) -> None:
    """Long enough for windows, and for smoothing without a matrix."""
    check(name, make_data(counts=counts, n_bins=540, lag=3), bins=(255,))


@each
def test_trials_that_are_predicted_a_few_at_a_time_see_no_later_bin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(counts=True, lag=3)
    monkeypatch.setattr(protocol, "ENTRIES_AT_ONCE", 2 * data.shape[1] * data.shape[2])
    check(name, data, bins=(17,))


def check(name: str, data: MaskedData, bins: tuple[int, ...]) -> None:
    assert data.lag is not None
    before = predict(name, data)
    assert protocol.SEES_ALL not in before.label
    for t in bins:
        for changed in later_changes(data, t + data.lag + 1):
            after = predict(name, changed).expected
            np.testing.assert_array_equal(after[~data.train, : t + 1], before.expected[~data.train, : t + 1])
            np.testing.assert_array_equal(after[data.train], before.expected[data.train])
        if name not in OF_NO_BIN:
            last = t if name in OF_ITS_BIN_ONLY else t + data.lag
            after = predict(name, later_changes(data, last)[0]).expected
            assert (after[~data.train, t] != before.expected[~data.train, t]).any()


@kinds
@each
def test_without_a_lag_later_entries_count(name: str, counts: bool) -> None:
    data = make_data(counts=counts)
    before, after = (predict(name, each).expected for each in (data, later_changes(data, 20)[0]))
    assert name in OF_ITS_BIN_ONLY or (after[~data.train, :20] != before[~data.train, :20]).any()


@pytest.mark.parametrize("lag", [39, 1000])
@kinds
@each
def test_a_lag_of_the_whole_trial_is_as_none(name: str, counts: bool, lag: int) -> None:
    """All trials are for training, so that means are the same; Newton's method on states of counts ends elsewhere."""
    data = replace(make_data(counts=counts), train=np.ones(9, bool))
    whole, lagged = predict(name, data).expected, predict(name, replace(data, lag=lag)).expected
    if counts and name in ("factor_analysis", "linear_dynamics"):
        assert np.corrcoef(np.log(whole).ravel(), np.log(lagged).ravel())[0, 1] > 0.99
    else:
        np.testing.assert_allclose(lagged, whole, rtol=1e-8, atol=1e-8)


def test_the_means_of_channels_are_those_of_the_training_trials() -> None:
    data = make_data(counts=True, lag=0)
    of_training = data.select_trials(np.arange(TRAIN))
    np.testing.assert_array_equal(data.channel_mean, of_training.channel_mean)
    assert data.overall_mean == of_training.overall_mean
