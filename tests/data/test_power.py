"""What sampling less saves: bounds, laws of the formula, and the cost of switching."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.data.power import power_saved
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import DataError
from tests.support.limited import SCHEMES, dataset


def masked(observed):
    return make_dataset(np.ones(np.shape(observed)), observed, bin_width=0.02, kind="units")


def seconds_on(row, settling):
    """Slow and obvious: the clock in steps of 1 ms, an amplifier on while sampled or about to be."""
    sampled = np.repeat(row, 20)
    steps = round(settling * 1000)
    return sum(sampled[i : i + steps + 1].any() for i in range(len(sampled))) / 1000


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_schemes_save_alike_where_every_sample_costs_the_same(scheme):
    ds = limit_bandwidth(dataset(), BandwidthConfig(scheme=scheme, k=3))
    assert power_saved(ds) == pytest.approx(1 - 3 / 12)
    assert power_saved(ds, per_sample=0.4) == pytest.approx(0.4 * (1 - 3 / 12))
    assert power_saved(ds, per_sample=0.4, front_end=0.6) == pytest.approx(1 - 3 / 12)


def test_nothing_is_saved_where_everything_is_sampled():
    assert power_saved(dataset(), per_sample=0.5, front_end=0.5, settling=0.1) == 0


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4), ms=st.integers(0, 150))
def test_amplifiers_are_on_as_long_as_a_clock_in_small_steps_says(rows, ms):
    observed = np.array(rows, bool).T[None]
    if not observed.any():
        return
    on = sum(seconds_on(row, ms / 1000) for row in observed[0].T) / (0.12 * len(rows))
    assert power_saved(masked(observed), per_sample=0, front_end=1, settling=ms / 1000) == pytest.approx(1 - on)


def test_switching_costs_a_speckled_scheme_more_than_a_fixed_one():
    saved = {
        scheme: power_saved(
            limit_bandwidth(dataset(), BandwidthConfig(scheme=scheme, k=3)),
            per_sample=0.5,
            front_end=0.5,
            settling=0.005,
        )
        for scheme in ("fixed", "round_robin", "speckled")
    }
    assert saved["fixed"] == pytest.approx(0.75)
    assert saved["speckled"] < saved["fixed"] and saved["round_robin"] < saved["fixed"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"per_sample": 1.2}, "per_sample is 1.2"),
        ({"per_sample": 0.7, "front_end": 0.7}, "expected fractions whose"),
        ({"settling": -1.0}, "settling is -1"),
    ],
)
def test_impossible_shares_are_refused(wrong, named):
    with pytest.raises(DataError, match=named):
        power_saved(dataset(), **wrong)
