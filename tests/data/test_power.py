"""What sampling less saves: small masks by hand, laws of the formula, and the cost of switching."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.devices import Device, published_devices
from nwb_sbtt.data.power import Power, power_saved
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import DataError
from tests.support.limited import SCHEMES, dataset

DEVICE = Device(title="mine", amplifier=10.0, converter=2.0, radio=6.0, constant=1.0, settling=0.005)


def masked(observed):
    return make_dataset(np.ones(np.shape(observed)), observed, bin_width=0.02, kind="units")


def seconds_on(row, settling):
    """Slow and obvious: the clock in steps of 1 ms, an amplifier on while sampled or about to be; the trial repeats."""
    sampled = np.repeat(row, 20)
    ahead = [np.roll(sampled, -step) for step in range(min(round(settling * 1000) + 1, len(sampled)))]
    return np.any(ahead, axis=0).sum() / 1000


def test_a_small_mask_by_hand():
    # Two channels in four bins of 20 ms: one sampled once, one in the last two bins; three of eight entries.
    observed = np.array([[[1, 0], [0, 0], [0, 1], [0, 1]]], bool)
    saved = power_saved(masked(observed), DEVICE)
    assert (saved.n_channels, saved.sampled) == (2, 3 / 8)
    # Each settles once for a quarter of a bin: the first at the end of the trial before.
    assert saved.amplifiers_on == pytest.approx(3.5 / 8)
    assert saved.full == Power(amplifier=20, converter=4, radio=12, constant=2)
    assert saved.conversions == Power(amplifier=20, converter=1.5, radio=12, constant=2)
    assert saved.radio == Power(amplifier=20, converter=1.5, radio=4.5, constant=2)
    assert saved.amplifiers == Power(amplifier=pytest.approx(8.75), converter=1.5, radio=4.5, constant=2)
    assert (saved.full.total, saved.conversions.total) == (38, 35.5)
    assert saved.share(saved.full) == 0
    assert saved.share(saved.radio) == pytest.approx(1 - 28 / 38)
    assert saved.share(saved.amplifiers) == pytest.approx(1 - 16.75 / 38)


def test_conversions_of_a_spike_band_save_a_seventh_at_most():
    ds = limit_bandwidth(dataset(n_channels=29), BandwidthConfig(k=10))
    saved = power_saved(ds, "karpowicz_2024")
    assert saved.sampled == pytest.approx(10 / 29)
    assert saved.share(saved.conversions) == pytest.approx(19 / 29 * 3.8 / 27.5)
    assert saved.share(saved.conversions) < 0.14 < 1 - saved.sampled


def test_nothing_is_saved_where_everything_is_sampled():
    saved = power_saved(dataset(), DEVICE)
    assert saved.full == saved.conversions == saved.radio == saved.amplifiers
    assert saved.share(saved.amplifiers) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_of_equal_budget_differ_only_in_amplifiers(scheme):
    saved = power_saved(limit_bandwidth(dataset(), BandwidthConfig(scheme=scheme, k=3)), DEVICE)
    assert saved.radio == Power(amplifier=120, converter=pytest.approx(6), radio=pytest.approx(18), constant=12)
    assert saved.amplifiers == replace(saved.radio, amplifier=pytest.approx(120 * saved.amplifiers_on))
    assert saved.amplifiers_on >= saved.sampled - 1e-12
    assert (saved.amplifiers_on == pytest.approx(0.25)) == (scheme == "fixed")


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4), ms=st.integers(0, 150))
def test_amplifiers_are_on_as_long_as_a_clock_in_small_steps_says(rows, ms):
    observed = np.array(rows, bool).T[None]
    if not observed.any():
        return
    on = sum(seconds_on(row, ms / 1000) for row in observed[0].T) / (0.12 * len(rows))
    saved = power_saved(masked(observed), replace(DEVICE, settling=ms / 1000))
    assert saved.amplifiers_on == pytest.approx(on)
    assert saved.amplifiers.amplifier == pytest.approx(10.0 * on * len(rows))


def test_amplifiers_that_settle_longer_than_the_gaps_stay_on_under_a_speckled_mask():
    ds = limit_bandwidth(dataset(), BandwidthConfig(scheme="speckled", k=6))  # gaps of one bin of 10 ms in the mean
    on = [power_saved(ds, replace(DEVICE, settling=seconds)).amplifiers_on for seconds in (0.0, 0.005, 0.05, 1.0)]
    assert on == sorted(on) and on[0] == pytest.approx(0.5)
    assert on[2] > 0.95
    assert on[3] == pytest.approx(1)


@pytest.mark.parametrize(
    ("unknown", "step"), [("converter", "conversions"), ("radio", "radio"), ("amplifier", "amplifiers")]
)
def test_what_is_unknown_is_none_and_not_counted(unknown, step):
    saved = power_saved(limit_bandwidth(dataset(), BandwidthConfig(k=3)), replace(DEVICE, **{unknown: None}))
    assert getattr(saved, step) is None
    assert [each for each in ("conversions", "radio", "amplifiers") if getattr(saved, each) is None] == [step]
    assert getattr(saved.full, unknown) is None
    assert saved.full.total == pytest.approx(12 * (DEVICE.total - getattr(DEVICE, unknown)))


def test_without_a_settling_time_amplifiers_are_not_switched_off():
    saved = power_saved(limit_bandwidth(dataset(), BandwidthConfig(k=3)), replace(DEVICE, settling=None))
    assert saved.amplifiers is None and saved.amplifiers_on is None


def test_it_is_shown_as_a_table_that_names_what_is_unknown():
    lines = str(power_saved(limit_bandwidth(dataset(), BandwidthConfig(k=3)), "neuralink_2019")).splitlines()
    assert lines[0].startswith(published_devices()["neuralink_2019"].title)
    assert lines[0].endswith(": 12 channels, 25.0% of the entries sampled")
    cells = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert cells["amplifier"] == ["62.4", "–", "–", "–"] and cells["converter"] == ["–"] * 4
    assert cells["total"][0] == "281.2"
    assert lines[-1] == "unknown, and not counted: converter, radio, settling"
    full = str(power_saved(dataset(), DEVICE)).splitlines()
    assert full[-1].split() == ["saved", *["0.0%"] * 4]


def test_a_device_that_was_not_published_is_named_with_those_that_were():
    with pytest.raises(
        DataError, match="no published device is named 'karpowicz'; expected karpowicz_2024, or another"
    ):
        power_saved(dataset(), "karpowicz")
    with pytest.raises(DataError, match=r"named 'x'; expected karpowicz_2024, .*pass a nwb_sbtt\.data\.Device"):
        power_saved(dataset(), "x")
    with pytest.raises(DataError, match=r"no published device is named \['x'\]"):
        power_saved(dataset(), ["x"])


@pytest.mark.parametrize("figure", ["12", True])
def test_figures_that_are_no_numbers_are_refused(figure):
    with pytest.raises(DataError, match=rf"amplifier is {figure!r}; expected zero or a positive number of µW"):
        Device(title="mine", amplifier=figure, converter=1.0)
