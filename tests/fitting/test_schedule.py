"""A schedule chooses channels that tell much of the latents, from what was sampled before and nothing else."""

import json

import numpy as np
import pytest

import nwb_sbtt as sb
from nwb_sbtt.config import BandwidthConfig, ConvConfig, DynamicsConfig, FitConfig, MaskConfig, TrainConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError, FileError, MismatchError
from nwb_sbtt.train.trackers import Silent

TRIALS, BINS, CHANNELS, WIDTH, BUDGET = 16, 30, 6, 0.02, 2
SMALL = {"width": 16, "groups": 4, "layers": 2, "factors": 4, "read_in": 8, "max_lag": 20}


def dataset(kind="counts", *, missing=0.0, seed=0):
    """Two latents; the first three channels follow them closely, the last three hardly at all."""
    rng = np.random.default_rng(seed)
    latents = np.sin(np.arange(BINS)[:, None] / 4 + rng.uniform(0, 6, (TRIALS, 1, 2)))
    depth = np.array([[1.5, 0, 1, 0.1, 0, 0.1], [0, 1.5, -1, 0, 0.1, 0.1]])
    course = latents @ depth
    values = rng.poisson(np.exp(course)) if kind == "counts" else course + rng.normal(0, 0.3, course.shape)
    observed = rng.random(values.shape) >= missing
    return make_dataset(
        np.where(observed, values, np.nan),
        observed,
        bin_width=WIDTH,
        kind="units" if kind == "counts" else "electrodes",
        channel_id=np.arange(CHANNELS) + 10,
        trial_start=np.arange(TRIALS) * 1.0,
        attrs={"unit": "counts" if kind == "counts" else "volts"},
    )


def fit(ds, folder, *, lag=0, epochs=40, **changes):
    config = FitConfig(
        model=ConvConfig(lag=lag, **SMALL), train=TrainConfig(epochs=epochs, learning_rate=0.02), **changes
    )
    return sb.fit(ds, config, run_dir=folder, tracker=Silent())


@pytest.fixture(scope="module")
def ds():
    return dataset()


def fit_whole(ds, folder, *, epochs=40, **changes):
    """A fit to whole trials, with a hidden Markov model."""
    system = DynamicsConfig(dimensions=2, steps=5, courses=64, markov_states=24)
    return fit(ds, folder, lag=None, epochs=epochs, **{"dynamics": system, **changes})


FITS = {"stream": fit, "markov": fit_whole}


@pytest.fixture(scope="module", params=FITS)
def fitted(ds, tmp_path_factory, request):
    return FITS[request.param](ds, tmp_path_factory.mktemp("schedule") / "run")


@pytest.fixture(scope="module")
def streamed(ds, tmp_path_factory):
    return fit(ds, tmp_path_factory.mktemp("schedule") / "run")


@pytest.fixture(scope="module")
def scheduler(fitted, ds):
    return sb.schedule(fitted, budget=BUDGET, data=ds, explore=0)


def chosen_of(scheduler, trial, first_bin=0, *, given=None):
    """Masks of a trial; `given` changes the values of each bin before they are given."""
    scheduler.reset(first_bin)
    masks = []
    for values in trial["values"].values:
        masks.append(scheduler.next())
        scheduler.step(values if given is None else given(values, masks[-1]))
    return np.array(masks)


def test_as_many_channels_as_the_budget_are_chosen_in_each_bin(scheduler, ds):
    limited = scheduler.limit(ds)
    mask = limited["observed"].values
    assert (mask.sum(-1) == BUDGET).all()
    assert np.array_equal(limited["values"].values[mask], ds["values"].values[mask])
    assert (limited["values"].values[~mask] == 0).all()
    record = json.loads(limited.attrs["bandwidth"])
    assert (record["scheme"], record["k"], record["channels_per_bin"]) == ("scheduled", BUDGET, BUDGET)
    with pytest.raises(DataError, match="already have a bandwidth limit"):
        scheduler.limit(limited)


def test_channels_that_tell_much_of_the_latents_are_chosen_most_of_the_time(scheduler, ds):
    share = scheduler.limit(ds)["observed"].values.mean((0, 1))
    assert share[:3].sum() > 0.8 * BUDGET


def test_more_is_known_of_the_latents_than_from_samples_at_random(scheduler, fitted, ds):
    random = sb.data.limit_bandwidth(ds, BandwidthConfig(k=BUDGET))
    whole = fitted.infer(ds)["rates"].values
    errors = [
        np.square(np.log(fitted.infer(limited)["rates"].values / whole)).mean()
        for limited in (scheduler.limit(ds), random)
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("explore", [0, 0.5])
@pytest.mark.parametrize("kind", ["counts", "signals"])
@pytest.mark.parametrize("by", FITS)
def test_the_choice_of_a_bin_follows_from_earlier_bins_only(by, kind, explore, tmp_path):
    ds = dataset(kind)
    scheduler = sb.schedule(FITS[by](ds, tmp_path / "run", epochs=2), budget=BUDGET, data=ds, explore=explore)
    ds = ds.isel(trial=slice(3))
    before = scheduler.limit(ds)["observed"].values
    assert len(np.unique(before.reshape(-1, CHANNELS), axis=0)) > 1
    for t in (0, 20):
        changed = ds.copy(deep=True)
        changed["values"][:, t:] = changed["values"].values[:, t:] * 3 + 5
        after = scheduler.limit(changed)["observed"].values
        assert np.array_equal(after[:, : t + 1], before[:, : t + 1])
    changed["values"][:, 0] += 40
    # The information of signals does not depend on values, so choices by a stream do not either.
    fixed = by == "stream" and kind == "signals"
    if fixed or not explore:
        assert np.array_equal(scheduler.limit(changed)["observed"].values, before) == fixed


def test_values_that_were_not_chosen_are_not_used(scheduler, ds):
    trial = ds.isel(trial=3)
    expected = chosen_of(scheduler, trial)
    for wrong in (np.nan, np.inf, -1, 500):
        masks = chosen_of(scheduler, trial, given=lambda values, mask, wrong=wrong: np.where(mask, values, wrong))
        assert np.array_equal(masks, expected)


def test_offline_and_bin_by_bin_the_same_channels_are_chosen(fitted, ds):
    scheduler = sb.schedule(fitted, budget=BUDGET, data=ds, explore=0.3, seed=4)
    limited = scheduler.limit(ds)["observed"].values
    for trial in (0, 5):
        first = round(float(ds["trial_start"].values[trial]) / WIDTH)
        assert np.array_equal(chosen_of(scheduler, ds.isel(trial=trial), first), limited[trial])
    some = scheduler.limit(ds.isel(trial=[5, 0], channel=slice(None, None, -1)))["observed"].values
    assert np.array_equal(some[..., ::-1], limited[[5, 0]])


def test_the_step_is_that_of_the_stream_for_the_chosen_channels(streamed, ds):
    scheduler, stream = sb.schedule(streamed, budget=BUDGET, data=ds, explore=0), streamed.stream()
    for values in ds["values"].values[2]:
        mask = scheduler.next()
        np.testing.assert_array_equal(scheduler.next(), mask)
        np.testing.assert_array_equal(scheduler.step(values).rates, stream.step(values, mask).rates)


def test_a_sample_that_is_lost_tells_nothing(scheduler, ds):
    values = ds["values"].values[0]
    choices = []
    for lost in (np.nan, None):
        scheduler.reset()
        mask = scheduler.next()
        if lost is None:
            scheduler.step(values[0], np.zeros(CHANNELS, bool))
        else:
            scheduler.step(np.where(mask, lost, values[0]))
        choices.append(scheduler._belief.ahead())
    for name in ("covariance", "weights", "information"):
        np.testing.assert_array_equal(*(getattr(each, name) for each in choices))
    scheduler.reset()
    scheduler.step(values[0])
    spread = [
        np.trace(each.weights @ each.covariance @ each.weights.T) for each in (scheduler._belief.ahead(), choices[0])
    ]
    assert spread[0] < spread[1]


def test_channels_are_chosen_greedily_by_the_log_determinant(scheduler, ds):
    scheduler.reset()
    for values in ds["values"].values[1, :5]:
        scheduler.step(values)
    ahead = scheduler._belief.ahead()
    weights, information, covariance = ahead.weights, ahead.information, ahead.covariance
    chosen = []
    for _ in range(BUDGET):
        gains = []
        for channel in range(CHANNELS):
            some = [*chosen, channel]
            told = (weights[some].T * information[some]) @ weights[some]
            gains.append(-np.inf if channel in chosen else np.linalg.slogdet(np.eye(len(told)) + told @ covariance)[1])
        chosen.append(int(np.argmax(gains)))
    assert set(np.flatnonzero(scheduler.next())) == set(chosen)


def test_the_covariance_is_updated_as_by_a_kalman_filter(streamed, ds):
    scheduler = sb.schedule(streamed, budget=BUDGET, data=ds, explore=0)
    before, shown = scheduler._belief.ahead(), scheduler.next()
    scheduler.step(ds["values"].values[0, 0])
    weights = before.weights[shown]
    after = np.linalg.inv(np.linalg.inv(before.covariance) + (weights.T * before.information[shown]) @ weights)
    of = scheduler._belief._dynamics
    np.testing.assert_allclose(
        scheduler._belief.ahead().covariance, of.step @ after @ of.step.T + of.added, rtol=1e-6, atol=1e-9
    )


def test_random_samples_leave_no_channel_out(fitted, ds):
    scheduler = sb.schedule(fitted, budget=BUDGET, data=ds, explore=1)
    share = scheduler.limit(ds)["observed"].values.mean((0, 1))
    np.testing.assert_allclose(share, BUDGET / CHANNELS, atol=0.1)
    random = sb.data.limit_bandwidth(ds, BandwidthConfig(k=BUDGET))
    assert np.array_equal(scheduler.limit(ds)["observed"].values, random["observed"].values)


def test_only_channels_that_can_be_sampled_are_chosen(fitted, ds):
    allowed = np.arange(CHANNELS) != 0
    scheduler = sb.schedule(fitted, budget=BUDGET, data=ds, allowed=allowed, explore=0.5)
    assert not scheduler.limit(ds)["observed"].values[..., 0].any()
    scheduler.reset()
    available = np.arange(CHANNELS) == 4
    assert np.array_equal(scheduler.next(available), available)
    scheduler.step(ds["values"].values[0, 0])
    gaps = dataset(missing=0.5)
    mask = scheduler.limit(gaps)["observed"].values
    assert np.array_equal(mask.sum(-1), np.minimum((gaps["observed"].values & allowed).sum(-1), BUDGET))


@pytest.mark.parametrize("by", FITS)
def test_channels_that_the_fit_holds_out_are_never_chosen(by, tmp_path, ds):
    held_out = FITS[by](ds, tmp_path / "run", epochs=2, masks=MaskConfig(held_out_channels=0.34))
    scheduler = sb.schedule(held_out, budget=BUDGET, data=ds, explore=0.5)
    limited = scheduler.limit(ds)["observed"].values
    assert limited.any((0, 1)).sum() == CHANNELS - 2
    assert np.array_equal(chosen_of(scheduler, ds.isel(trial=0)), limited[0])
    with pytest.raises(ConfigError, match="of which 4 may be sampled"):
        sb.schedule(held_out, budget=5, data=ds)


def test_what_a_masked_array_masks_is_not_available(scheduler):
    scheduler.reset()
    can = np.ma.masked_array(np.ones(CHANNELS, bool), mask=np.arange(CHANNELS) != 4)
    assert np.array_equal(scheduler.next(can), np.arange(CHANNELS) == 4)


@pytest.mark.parametrize("first", [2.5, np.nan, "one", None])
def test_the_first_bin_is_a_whole_number(scheduler, first):
    with pytest.raises(ConfigError, match="expected a whole number"):
        scheduler.reset(first)


def test_of_an_unfinished_fit_it_is_said_how_to_go_on(ds, tmp_path):
    config = FitConfig(model=ConvConfig(**SMALL), train=TrainConfig(epochs=2))
    part = sb.fit(ds, config, run_dir=tmp_path / "run", tracker=Silent(), until=1)
    with pytest.raises(ConfigError, match="is not finished, so its hidden Markov model is not known"):
        sb.schedule(part, budget=BUDGET)


def test_with_a_lag_the_next_bin_is_forecast_from_the_last_estimate(tmp_path, ds):
    scheduler = sb.schedule(fit(ds, tmp_path / "run", lag=2, epochs=2), budget=BUDGET, data=ds, explore=0)
    of = scheduler._belief._dynamics
    for t, values in enumerate(ds["values"].values[0]):
        step = scheduler.step(values)
        expected = of.mean if t < 2 else of.ahead @ step.factors + of.offset
        np.testing.assert_array_equal(scheduler._belief._mean, expected)


@pytest.mark.parametrize("by", FITS)
def test_an_ensemble_has_a_schedule(tmp_path, ds, by):
    scheduler = sb.schedule(FITS[by](ds, tmp_path / "run", epochs=2, seeds=2), budget=BUDGET, data=ds)
    assert (scheduler.limit(ds)["observed"].values.sum(-1) == BUDGET).all()


def test_a_chopped_recording_is_scheduled_as_one(fitted, ds):
    chops = ds.isel(trial=slice(4)).assign_coords(trial_start=("trial", np.arange(4) * 20 * WIDTH))
    values = chops["values"].values
    for i in range(3):
        values[i + 1, :10] = values[i, 20:]
    chops = chops.assign(values=(ds["values"].dims, values)).assign_attrs(cut='{"by": "chop"}')
    scheduler = sb.schedule(fitted, budget=BUDGET, data=ds, explore=0.2)
    mask = scheduler.limit(chops)["observed"].values
    for i in range(3):
        assert np.array_equal(mask[i + 1, :10], mask[i, 20:])
    whole = sb.data.merge(chops)
    assert np.array_equal(scheduler.limit(whole)["observed"].values[0, :30], mask[0])


def test_the_limited_data_can_be_fitted(scheduler, ds, tmp_path):
    limited = scheduler.limit(ds)
    rates = fit(limited, tmp_path / "run", lag=None, epochs=2).infer(limited)["rates"].values
    assert rates.shape == ds["values"].shape and np.isfinite(rates).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "budget is 0, with 6 channels"),
        ({"budget": 6}, "budget is 6, with 6 channels"),
        ({"budget": 3, "allowed": np.arange(6) < 2}, "of which 2 may be sampled"),
        ({"budget": 1, "allowed": np.zeros(6, bool)}, "none of the 6 channels may be sampled"),
        ({"budget": 2.5}, "budget is 2.5"),
        ({"explore": 1.5}, r"explore is 1\.5; expected a fraction"),
        ({"explore": np.nan}, "explore is nan"),
        ({"explore": "some"}, "explore is 'some'; expected a fraction"),
        ({"budget": True}, "budget is True"),
        ({"seed": 1.5}, r"seed is 1\.5; expected a whole number"),
        ({"allowed": np.ones(5, bool)}, r"allowed has the shape \(5,\) and type bool; expected a bool for each of 6"),
        ({"allowed": np.arange(6)}, r"allowed has the shape \(6,\) and type int64"),
    ],
)
def test_settings_out_of_range_are_refused(fitted, ds, changes, message):
    with pytest.raises(ConfigError, match=message):
        sb.schedule(fitted, **{"budget": BUDGET, "data": ds, **changes})


def test_the_path_of_a_fit_is_no_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"got the path .*; expected a fit: load its run folder first, sb\.load"):
        sb.schedule(tmp_path / "run", budget=BUDGET)


def test_what_cannot_be_a_bin_is_refused_and_leaves_the_scheduler_as_it_was(scheduler, ds):
    scheduler.reset()
    chosen = scheduler.next()
    before = scheduler._belief.ahead()
    for values, observed, message in [
        (np.zeros(5), None, r"values have the shape \(5,\); expected \(6,\)"),
        (np.zeros((2, 6)), None, r"values have the shape \(2, 6\); expected \(6,\)"),
        (np.zeros(6), np.ones(5, bool), r"observed has the shape \(5,\)"),
        (np.full(6, -1.0), None, "count is -1"),
    ]:
        with pytest.raises(DataError, match=message):
            scheduler.step(values, observed)
    np.testing.assert_array_equal(scheduler.next(), chosen)
    np.testing.assert_array_equal(scheduler._belief.ahead().weights, before.weights)
    np.testing.assert_array_equal(scheduler._belief.ahead().covariance, before.covariance)
    with pytest.raises(ConfigError, match=r"available has the shape \(3,\)"):
        scheduler.next(np.ones(3, bool))


def test_data_of_other_channels_are_refused(scheduler, ds):
    with pytest.raises(MismatchError, match="channel"):
        scheduler.limit(ds.isel(channel=slice(4)))


def test_a_fit_with_neither_a_hidden_markov_model_nor_a_lag_has_no_schedule(ds, tmp_path):
    with pytest.raises(ConfigError, match=r"neither a hidden Markov model nor a lag.*model\.lag=0"):
        sb.schedule(fit(ds, tmp_path / "run", lag=None, epochs=1), budget=BUDGET)


def test_a_fit_to_arrays_needs_its_data_if_it_has_a_lag(fitted, ds):
    if fitted.config.lag is None:
        assert sb.schedule(fitted, budget=BUDGET).stream is None
    else:
        with pytest.raises(FileError, match="data"):
            sb.schedule(fitted, budget=BUDGET)


@pytest.mark.parametrize("kind", ["counts", "signals"])
def test_the_step_of_a_hidden_markov_model_is_what_it_infers_of_the_bins_so_far(kind, tmp_path):
    ds = dataset(kind)
    fitted = fit_whole(ds, tmp_path / "run", epochs=5)
    scheduler, trial = sb.schedule(fitted, budget=BUDGET, explore=0.5), ds.isel(trial=[0])
    limited = scheduler.limit(ds).isel(trial=[0])
    system, width = fitted.best.dynamics, WIDTH if kind == "counts" else 1
    scheduler.reset(0)
    for t, values in enumerate(trial["values"].values[0]):
        step = scheduler.step(values)
        so_far = to_batch(limited.isel(time=slice(t + 1)), fitted.session_name())
        expected, variance = system.markov.infer(system.likelihood, so_far)
        assert step.bin == t and step.factors.shape == (SMALL["factors"],) and np.isfinite(step.factors).all()
        found, sd = (step.rates, step.rates_sd) if kind == "counts" else (step.mean, step.mean_sd)
        np.testing.assert_allclose(found * width, expected[0, -1], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose((sd * width) ** 2, variance[0, -1], rtol=1e-2, atol=1e-4)
    with pytest.raises(DataError, match="no known inputs"):
        scheduler.step(values, inputs=[1.0])


def test_data_that_are_no_dataset_are_refused(fitted):
    with pytest.raises(DataError, match="expected a Dataset"):
        sb.schedule(fitted, budget=BUDGET, data="recording.nwb")


def test_trials_that_are_too_short_are_refused(streamed, ds):
    with pytest.raises(DataError, match="the trials have 1 bins; expected more than 1"):
        sb.schedule(streamed, budget=BUDGET, data=ds.isel(time=[0]))
