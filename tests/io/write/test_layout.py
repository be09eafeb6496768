"""Trials that overlap go to different layers; nothing is lost, and no clock runs backwards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.io.write.layout import check_latents, check_name, group_suffixes, layers, series_name
from tests.support.latents import make_latents

STARTS = st.lists(st.integers(0, 30).map(lambda tenths: tenths / 10), min_size=1, max_size=12)


@given(starts=STARTS, n_bins=st.integers(1, 8))
def test_every_trial_is_in_one_layer_and_as_few_layers_as_can_be(starts, n_bins):
    by_layer = layers(make_latents(starts=starts, n_bins=n_bins, bin_width=0.1))
    assert sorted(trial for layer in by_layer for trial in layer.trials) == list(range(len(starts)))
    edges = np.round(np.array(starts) * 10).astype(int)
    busiest = max(int(((edges <= tick) & (tick < edges + n_bins)).sum()) for tick in range(60))
    assert len(by_layer) == busiest


@given(starts=STARTS, n_bins=st.integers(1, 8))
def test_within_a_layer_time_only_goes_forward(starts, n_bins):
    for layer in layers(make_latents(starts=starts, n_bins=n_bins, bin_width=0.1)):
        assert (np.diff(layer.centres) > 0.09).all()
        expected = [starts[trial] + (i + 0.5) * 0.1 for trial in layer.trials for i in range(n_bins)]
        np.testing.assert_allclose(layer.centres, expected, atol=1e-12)


@pytest.mark.parametrize("width", [0.005, 1 / 30, 0.0333])
def test_trials_that_follow_each_other_without_a_gap_have_one_step(width):
    together = layers(make_latents(starts=np.arange(50) * 40 * width, n_bins=40, bin_width=width))
    assert len(together) == 1
    assert together[0].step == width
    assert layers(make_latents(starts=[0.0, 40.5 * width], n_bins=40, bin_width=width))[0].step is None


def test_single_bins_far_apart_have_the_step_between_them():
    assert layers(make_latents(starts=[0.0, 1.0, 2.0], n_bins=1, bin_width=0.1))[0].step == 1.0


@given(st.lists(st.sampled_from(["a/P", "b/P", "P", "P_2", "a/P_2", "units", ""]), min_size=1, max_size=7))
def test_series_of_different_tables_have_different_names(tables):
    suffixes = group_suffixes(tables)
    names = {series_name("sbtt", "rates", suffix=suffix) for suffix in suffixes.values()}
    assert len(names) == len(set(tables))
    if len(set(tables)) == 1:
        assert names == {"sbtt_rates"}


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a.b", " a"])
def test_names_that_a_file_cannot_hold_are_refused(name):
    with pytest.raises(ConfigError, match="cannot be named"):
        check_name(name)


def _nan(ds):
    values = ds["rates"].values.copy()
    values[1, 2, 3] = np.nan
    return ds.assign(rates=(ds["rates"].dims, values))


def _found(ds, value):
    events = np.full(ds["rates"].shape, value, dtype=np.float32)
    return ds.assign(dict.fromkeys(("events", "denoised"), (ds["rates"].dims, events)))


def test_events_may_be_missing_where_nothing_was_sampled():
    check_latents(_found(make_latents(), np.nan))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: _found(ds, np.inf), "values that are not finite"),
        (_nan, "1 values that are not finite"),
        (lambda ds: ds.assign(states=ds["factors"]), "cannot write 'states'"),
        (lambda ds: ds.drop_vars("observed"), "no 'observed'"),
        (
            lambda ds: ds.drop_vars("factors"),
            "'factors_sd' is in the Dataset, but the variable it belongs to is not; add the variable, or remove it with",
        ),
        (lambda ds: ds.assign(mean=ds["rates"]), "expected 'rates' or 'mean'"),
        (lambda ds: ds.assign(rates=ds["rates"].astype(float)), "float64; expected float32"),
        (lambda ds: ds.assign(rates=ds["rates"].transpose("time", "trial", "channel")), "has dims"),
        (lambda ds: ds.isel(trial=0), "has dims"),
        (lambda ds: ds.drop_vars("trial_start"), "no coordinate 'trial_start'"),
        (lambda ds: ds.assign_coords(trial_start=ds["trial_start"] * np.nan), "'trial_start' are not finite"),
        (lambda ds: ds.assign_attrs(bin_width=0.0), "bin_width"),
        (lambda ds: ds.assign_attrs(kind="cells"), "kind"),
    ],
)
def test_what_is_not_a_result_is_refused_in_words(change, message):
    check_latents(make_latents())
    with pytest.raises(DataError, match=message):
        check_latents(change(make_latents()))
