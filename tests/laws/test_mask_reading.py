"""Laws of reading: what was not observed leaves no trace, and a mask never depends on what else is read."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwb_sbtt import ReadConfig, Trials, Window, read_nwb
from nwb_sbtt.data.schema import check_dataset
from tests.support import nwbfiles

LENGTH = 6.0
seeds = st.integers(0, 2**31)
files = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def intervals(random, n):
    """Some (k, 2) seconds in the session, in rising order, on a clock of 10 ms."""
    return np.sort(random.choice(int(LENGTH * 100), 2 * n, replace=False)).reshape(n, 2) / 100


def recording(seed, *, junk):
    """Units and a sampled series; with `junk`, other spikes and samples wherever nothing was observed."""
    random, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    nwbfile = nwbfiles.new_file()
    # The last half second is always watched and valid, so that something is observed.
    watched = [np.vstack([intervals(random, 2), [LENGTH - 0.5, LENGTH]]) for _ in range(3)]
    invalid = np.minimum(intervals(random, 2), LENGTH - 0.5)
    ticks = np.arange(int(LENGTH * 1000))
    spikes = []
    for each in watched:
        allowed = np.zeros(len(ticks), dtype=bool)
        for start, stop in np.round(each * 1000).astype(int):
            allowed[start:stop] = True
        for start, stop in np.round(invalid * 1000).astype(int):
            allowed[start:stop] = False
        # More than half of the spikes must count.
        kept = random.choice(ticks[allowed], 80, replace=False)
        outside = random.choice(ticks[~allowed], 30, replace=False)
        extra = noise.choice(ticks[~allowed], 50) if junk else outside
        spikes.append(np.sort(np.concatenate([kept, extra])) / 1000)
    nwbfiles.add_units(nwbfile, spikes, obs_intervals=watched)
    nwbfiles.add_invalid_times(nwbfile, invalid)

    times = np.arange(0, LENGTH, 0.02)
    data = random.normal(size=(len(times), 2))
    control = random.integers(0, 2, len(times)).astype(np.uint8)
    hidden = control == 0
    for start, stop in invalid:
        hidden |= (times >= start - 1e-9) & (times < stop - 1e-9)
    if junk:
        data[hidden] = noise.choice([1e30, -7.0, np.nan, np.inf], size=(hidden.sum(), 2))
    nwbfiles.add_series(nwbfile, data, timestamps=times, control=control, control_description=["no", "yes"])
    nwbfiles.add_trials(nwbfile, np.arange(6.0), np.arange(6.0) + 1)
    return nwbfile


@files
@given(seeds)
@pytest.mark.slow
def test_junk_where_nothing_was_observed_changes_no_bit(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("junk")
    paths = [nwbfiles.write(recording(seed, junk=junk), folder / f"{junk}.nwb") for junk in (False, True)]
    trials = Trials(event="start_time", start=0.0, stop=1.5)
    for series, width in (("units", 0.03), ("acquisition/series", 0.03)):
        config = ReadConfig(series=(series,), control=(1,), bin_width=width, cut=trials)
        clean, dirty = (check_dataset(read_nwb(path, config)) for path in paths)
        xr.testing.assert_identical(clean.drop_attrs(), dirty.drop_attrs())


@files
@given(seeds, st.sampled_from([0.01, 0.02, 0.05, 0.06]))
@pytest.mark.slow
def test_exposure_adds_up_to_the_time_watched_and_counts_to_the_spikes_in_it(tmp_path_factory, seed, width):
    nwbfile = recording(seed, junk=True)
    path = nwbfiles.write(nwbfile, tmp_path_factory.mktemp("sum") / "x.nwb")
    ds = read_nwb(path, series="units", bin_width=width, trials=Window(start=0, stop=LENGTH))
    exposure = ds["exposure"].values if "exposure" in ds else np.ones(ds["values"].shape)
    watched = np.where(ds["observed"].values, exposure, 0).sum(axis=(0, 1)) * width
    invalid = nwbfile.invalid_times
    ticks = np.arange(int(LENGTH * 1000)) / 1000
    for unit in range(3):
        allowed = np.zeros(len(ticks), dtype=bool)
        for start, stop in nwbfile.units["obs_intervals"][unit]:
            allowed |= (ticks >= start - 1e-9) & (ticks < stop - 1e-9)
        for row in range(len(invalid)):
            start, stop = invalid["start_time"][row], invalid["stop_time"][row]
            allowed &= ~((ticks >= start - 1e-9) & (ticks < stop - 1e-9))
        assert watched[unit] == pytest.approx(allowed.sum() / 1000, abs=1e-4)
        ms = np.round(np.asarray(nwbfile.units["spike_times"][unit]) * 1000).astype(int)
        assert ds["values"].values[0, :, unit].sum() == allowed[ms].sum()


@files
@given(seeds, st.permutations(range(5)))
@pytest.mark.slow
def test_the_order_of_trials_and_units_in_the_file_is_only_an_order(tmp_path_factory, seed, order):
    folder = tmp_path_factory.mktemp("order")
    random = np.random.default_rng(seed)
    watched = [intervals(random, 2) for _ in range(3)]
    within = [random.uniform(*each[0], 60) for each in watched]
    spikes = [np.sort(np.append(times, random.uniform(0, LENGTH, 60))).round(3) for times in within]
    starts = random.uniform(0, LENGTH - 1, 5).round(3)
    units = list(random.permutation(3))
    read = []
    for name, trial_order, unit_order in (("plain", range(5), range(3)), ("mixed", order, units)):
        nwbfile = nwbfiles.new_file()
        nwbfiles.add_units(
            nwbfile,
            [spikes[unit] for unit in unit_order],
            obs_intervals=[watched[unit] for unit in unit_order],
            ids=[int(unit) for unit in unit_order],
        )
        nwbfiles.add_trials(nwbfile, starts[list(trial_order)], starts[list(trial_order)] + 1)
        path = nwbfiles.write(nwbfile, folder / f"{name}.nwb")
        read.append(read_nwb(path, bin_width=0.02, trials=Trials(event="start_time", start=0, stop=1)))
    plain, mixed = read
    back = mixed.isel(trial=np.argsort(order), channel=np.argsort(units))
    for name in plain.data_vars:
        assert (plain[name].values == back[name].values).all()
    assert (plain["channel_id"].values == back["channel_id"].values).all()


@files
@given(seeds, st.integers(1, 20))
@pytest.mark.slow
def test_a_coarse_bin_holds_what_its_fine_bins_hold(tmp_path_factory, seed, factor):
    path = nwbfiles.write(recording(seed, junk=True), tmp_path_factory.mktemp("coarse") / "x.nwb")
    n_coarse = int(LENGTH / 0.01) // factor
    window = Window(start=0.0, stop=n_coarse * factor * 0.01)
    fine = read_nwb(path, series="units", bin_width=0.01, trials=window)
    coarse = read_nwb(path, series="units", bin_width=0.01 * factor, trials=window)
    folded = fine["values"].values[0].reshape(n_coarse, factor, 3).sum(axis=1)
    seen = fine["observed"].values[0].reshape(n_coarse, factor, 3)
    assert (coarse["values"].values[0] == folded).all()
    assert (coarse["observed"].values[0] == seen.any(axis=1)).all()
    share = coarse["exposure"].values[0] if "exposure" in coarse else np.ones(folded.shape)
    assert np.where(seen.any(axis=1), share, 0) == pytest.approx(seen.mean(axis=1), abs=1e-5)
