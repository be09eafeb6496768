"""A stream infers bin by bin what `infer` does of the whole recording."""

import numpy as np
import pytest
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.config import ConvConfig, FitConfig, TrainConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import ConfigError, DataError, MismatchError

TRIALS, BINS, CHANNELS, WIDTH = 12, 40, 7, 0.02
SMALL = {"width": 16, "groups": 4, "layers": 3, "factors": 5, "read_in": 8, "max_lag": 20}


def dataset(kind="counts", *, missing=0.3, exposure=False, seed=0):
    rng = np.random.default_rng(seed)
    shape = (TRIALS, BINS, CHANNELS)
    course = np.sin(np.arange(BINS)[:, None] / 5 + np.arange(CHANNELS))
    values = rng.poisson(0.6 + 0.5 * course, shape) if kind == "counts" else 3 + 2 * course + rng.normal(0, 0.5, shape)
    observed = rng.random(shape) >= missing
    attrs = {"unit": "counts" if kind == "counts" else "volts"}
    share = rng.uniform(0.3, 1, shape) if exposure else None
    ids = np.arange(CHANNELS) + 10
    what = "units" if kind == "counts" else "electrodes"
    return make_dataset(
        np.where(observed, values, np.nan),
        observed,
        bin_width=WIDTH,
        kind=what,
        channel_id=ids,
        exposure=share,
        attrs=attrs,
    )


def fit(ds, folder, *, lag=2, seeds=1):
    config = FitConfig(model=ConvConfig(lag=lag, **SMALL), train=TrainConfig(epochs=3), seeds=seeds)
    return sb.fit(ds, config, run_dir=folder)


@pytest.fixture(scope="module")
def ds():
    return dataset()


@pytest.fixture(scope="module")
def fitted(ds, tmp_path_factory):
    return fit(ds, tmp_path_factory.mktemp("stream") / "run")


def streamed(stream, trial, *, sizes=None, exposure=None):
    """All estimates of a trial; `sizes` are the numbers of bins of each call, one bin a call by default."""
    values = np.where(trial["observed"].values, trial["values"].values, np.nan)
    share = None if exposure is None else exposure
    steps = []
    if sizes is None:
        for t in range(len(values)):
            steps.append(stream.step(values[t], exposure=None if share is None else share[t]))
    else:
        for first, last in zip(np.cumsum([0, *sizes]), np.cumsum(sizes), strict=False):
            steps.append(stream.step(values[first:last]))
    steps.append(stream.finish())
    bins = np.concatenate([np.atleast_1d(step.bin) for step in steps])

    def joined(name):
        arrays = [getattr(step, name) for step in steps]
        return np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])[bins >= 0]

    assert bins[bins >= 0].tolist() == list(range(len(values)))
    return joined


def check(joined, latents, names):
    for name in names:
        expected = latents[name].values
        np.testing.assert_allclose(joined(name), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("lag", [0, 1, 5])
@pytest.mark.parametrize("kind", ["counts", "signals"])
def test_each_bin_is_inferred_as_in_the_whole_trial(kind, lag, tmp_path):
    ds = dataset(kind)
    fitted = fit(ds, tmp_path / "run", lag=lag)
    latents, stream = fitted.infer(ds), fitted.stream()
    assert stream.lag == lag and stream.bin_width == WIDTH
    names = ("rates", "rates_sd", "factors") if kind == "counts" else ("mean", "mean_sd", "factors")
    for trial in range(3):
        stream.reset()
        check(streamed(stream, ds.isel(trial=trial)), latents.isel(trial=trial), names)


def test_an_ensemble_is_averaged_as_by_infer(ds, tmp_path):
    fitted = fit(ds, tmp_path / "run", seeds=2)
    latents = fitted.infer(ds)
    check(streamed(fitted.stream(), ds.isel(trial=1)), latents.isel(trial=1), ("rates", "rates_sd", "factors"))


def test_partly_observed_bins_are_weighted_as_by_infer(tmp_path):
    ds = dataset(exposure=True)
    fitted = fit(ds, tmp_path / "run")
    joined = streamed(fitted.stream(), ds.isel(trial=2), exposure=ds["exposure"].values[2])
    check(joined, fitted.infer(ds).isel(trial=2), ("rates", "rates_sd", "factors"))


@pytest.mark.parametrize("share", [0, np.nan, 0.5])
def test_the_exposure_of_missing_samples_does_not_matter(fitted, ds, share):
    one, another = fitted.stream(), fitted.stream()
    for counts in np.where(ds["observed"].values[0], ds["values"].values[0], np.nan):
        exposure = np.where(np.isnan(counts), share, 1)
        np.testing.assert_array_equal(one.step(counts, exposure=exposure).rates, another.step(counts).rates)


@pytest.mark.parametrize("sizes", [[BINS], [1, 7, 2, 30], [39, 1]])
def test_bins_may_come_a_few_at_a_time(fitted, ds, sizes):
    one_by_one = streamed(fitted.stream(), ds.isel(trial=0))
    together = streamed(fitted.stream(), ds.isel(trial=0), sizes=sizes)
    for name in ("rates", "rates_sd", "factors"):
        np.testing.assert_array_equal(one_by_one(name), together(name))


def test_no_estimate_is_due_before_the_lag_has_passed(fitted, ds):
    stream = fitted.stream()
    steps = [stream.step(ds["values"].values[0, t]) for t in range(3)]
    assert [step.bin for step in steps] == [-2, -1, 0]
    assert np.isnan(steps[1].rates).all() and np.isfinite(steps[2].rates).all()
    assert stream.n_bins == 3


def test_observed_false_and_nan_are_both_missing(fitted, ds):
    trial = ds.isel(trial=0)
    observed, values = trial["observed"].values, trial["values"].values
    one, other = fitted.stream(), fitted.stream()
    for t in range(BINS):
        first = one.step(np.where(observed[t], values[t], np.nan))
        second = other.step(np.where(observed[t], values[t], 99.0), observed[t])
    np.testing.assert_array_equal(first.rates, second.rates)


def test_another_process_goes_on_from_a_saved_state(fitted, ds, tmp_path):
    values = np.where(ds["observed"].values[0], ds["values"].values[0], np.nan)
    stream = fitted.stream()
    for t in range(15):
        stream.step(values[t])
    np.savez(tmp_path / "state.npz", **stream.state())
    expected = [stream.step(values[t]) for t in range(15, BINS)] + [stream.finish()]
    other = sb.load(fitted.run_dir).stream()
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        other.restore(state)
    again = [other.step(values[t]) for t in range(15, BINS)] + [other.finish()]
    for one, two in zip(expected, again, strict=True):
        np.testing.assert_array_equal(one.rates, two.rates)
        np.testing.assert_array_equal(one.bin, two.bin)


def test_a_state_of_another_model_is_refused(fitted, ds, tmp_path):
    state = fit(ds, tmp_path / "run", lag=0).stream().state()
    with pytest.raises(DataError, match="state is of another model"):
        fitted.stream().restore(state)


def test_a_state_of_another_fit_of_the_same_size_is_refused(fitted, ds, tmp_path):
    state = fit(dataset(seed=1), tmp_path / "run").stream().state()
    with pytest.raises(DataError, match="state is of another model: its fit or its session differ"):
        fitted.stream().restore(state)


@pytest.mark.parametrize("state", [None, {}, [1]])
def test_what_is_no_state_is_refused(fitted, state):
    with pytest.raises(DataError, match=r"expected what stream\.state\(\) returned"):
        fitted.stream().restore(state)


def test_what_a_masked_array_masks_is_missing(fitted, ds):
    stream, other = fitted.stream(), fitted.stream()
    values = ds["values"].values[0, :9] + 1
    hidden = np.arange(values.size).reshape(values.shape) % 3 == 0
    expected = other.step(np.where(hidden, np.nan, values))
    np.testing.assert_array_equal(stream.step(np.ma.masked_array(values, hidden)).rates, expected.rates)
    stream.reset()
    observed = np.ma.masked_array(np.ones(values.shape, bool), hidden)
    np.testing.assert_array_equal(stream.step(values, observed).rates, expected.rates)


def test_an_ended_trial_takes_no_more_bins_until_reset(fitted, ds):
    stream, values = fitted.stream(), ds["values"].values[0]
    first = stream.step(values)
    stream.finish()
    for go_on in (stream.finish, lambda: stream.step(values)):
        with pytest.raises(DataError, match=r"has ended.*stream\.reset\(\)"):
            go_on()
    stream.reset()
    np.testing.assert_array_equal(stream.step(values).rates, first.rates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"] * 7,), r"values cannot be an array of numbers \(list\)"),
        (([[1.0] * 7, [1.0] * 6],), r"values cannot be an array of numbers \(list\)"),
        ((np.zeros(7), None, "all"), r"exposure cannot be an array of numbers \(str\)"),
        ((np.zeros(7), np.arange(7)), "observed has int64 values other than 0 and 1"),
        ((np.zeros(7), np.full(7, np.nan)), "observed has float64 values other than 0 and 1"),
        (([1.0, 2.0],), r"shape \(2,\); expected \(7,\), one value of each channel"),
        ((np.zeros((2, 3, 7)),), r"shape \(2, 3, 7\); expected \(7,\)"),
        ((np.zeros(7), np.ones(6, bool)), r"observed has the shape \(6,\); expected that of the values, \(7,\)"),
        ((np.zeros(7), None, np.ones(1)), r"exposure has the shape \(1,\)"),
        ((np.full(7, np.inf),), "infinite"),
        ((np.full(7, -1.0),), "count is -1"),
        ((np.zeros(7), None, np.zeros(7)), r"\(0, 1\]"),
    ],
)
def test_what_cannot_be_a_bin_is_refused_and_leaves_the_stream_as_it_was(fitted, ds, arguments, message):
    stream, untouched = fitted.stream(), fitted.stream()
    with pytest.raises(DataError, match=message):
        stream.step(*arguments)
    bins = ds["values"].values[0, :4]
    np.testing.assert_array_equal(stream.step(bins).rates, untouched.step(bins).rates)


def test_a_fit_without_a_lag_has_no_stream(ds, tmp_path):
    fitted = fit(ds, tmp_path / "run", lag=None)
    with pytest.raises(ConfigError, match=r"no lag.*model\.lag=0"):
        fitted.stream()


def test_a_session_that_was_not_fitted_has_no_stream(fitted):
    with pytest.raises(MismatchError, match="not fitted to session"):
        fitted.stream(session="other")


# Decoded behaviour


def decoded_from(fitted, ds, of):
    latents = fitted.infer(ds)
    course = latents["factors"].values @ np.random.default_rng(2).normal(size=(SMALL["factors"], 2))
    hand = xr.DataArray(course + 3, dims=("trial", "time", "column"), name="hand")
    return latents, sb.decode(latents, hand, of=of)


@pytest.mark.parametrize("of", ["factors", "rates"])
def test_behaviour_is_decoded_as_from_the_whole_recording(of, fitted, ds):
    latents, decoded = decoded_from(fitted, ds.isel(channel=slice(None, None, -1)), of)
    stream = fitted.stream()
    stream.decode(decoded)
    assert stream.columns == ("hand 0", "hand 1")
    expected = sb.evaluate.apply_decoder(decoded, latents).isel(trial=3).values
    for sizes in (None, [1, 7, 32]):
        stream.reset()
        joined = streamed(stream, ds.isel(trial=3), sizes=sizes)
        np.testing.assert_allclose(joined("decoded"), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    stream.reset()
    assert np.isnan(stream.step(np.zeros(CHANNELS)).decoded).all(), "not due yet"
    assert fitted.stream().step(np.zeros(CHANNELS)).decoded is None


def test_the_decoder_goes_on_in_another_process(fitted, ds, tmp_path):
    _, decoded = decoded_from(fitted, ds, "factors")
    values = np.where(ds["observed"].values, ds["values"].values, np.nan)[0]
    stream = fitted.stream()
    stream.decode(decoded)
    stream.step(values[:11])
    np.savez(tmp_path / "state.npz", **stream.state())
    other = fitted.stream()
    with np.load(tmp_path / "state.npz") as state:
        other.restore(state)
    assert other.columns == stream.columns
    np.testing.assert_array_equal(other.step(values[11:]).decoded, stream.step(values[11:]).decoded)
    stream.decode(None)
    other.restore(stream.state())
    assert other.step(values[0]).decoded is None and other.columns == ()


def test_a_decoder_of_other_latents_is_refused(fitted, ds):
    latents, decoded = decoded_from(fitted, ds, "factors")
    stream = fitted.stream()
    with pytest.raises(DataError, match="decoder is of 4 factors; expected one of 5 factors or 7 rates"):
        stream.decode(decoded.isel(feature=slice(4)))
    with pytest.raises(DataError, match="no decoder of bins"):
        stream.decode(latents)
    _, of_rates = decoded_from(fitted, ds, "rates")
    with pytest.raises(DataError, match="the decoder has no channel"):
        stream.decode(of_rates.assign_coords(channel_id=("feature", np.arange(CHANNELS))))
    assert stream.columns == ()
