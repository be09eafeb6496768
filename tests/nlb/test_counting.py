"""Counts with `compat` beside a slow version of what nlb_tools 0.0.4 does, and without beside the rule of the project."""

import numpy as np
import pytest

from nwb_sbtt.nlb.counting import SpikeCounter, session_length_ms, units_in_order
from nwb_sbtt.nlb.definitions import DEFINITIONS
from nwb_sbtt.nlb.windows import place_windows
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set
from tests.support.uneven import unevenly_observed

KINDS = ("mc_maze", "mc_rtt", "dmfc_rsg")


@pytest.fixture(scope="module", params=KINDS)
def uneven(request):
    drawn = simulate_set(SetSettings(request.param, train=10, val=4, test=2, units=6, seed=1))
    recorded = unevenly_observed(drawn.training, 3)
    return recorded, DEFINITIONS[request.param]


def nlb_tools_counts(recorded, *, held_out, bin_ms):
    """The whole session as nlb_tools counts it: (time, unit), units in the order of their ids, NaN where it sees nothing.

    A row a millisecond; spikes fall into it by truncation; outside the intervals of the first row of the table of this kind of
    units, nothing was observed of any; a coarse bin sums what its milliseconds hold and is missing if the first of them is.
    """
    rows = [row for row in range(len(recorded.unit_id)) if recorded.held_out[row] == held_out]
    n_ms = round(max(intervals[-1, 1] for intervals in recorded.intervals) * 1000)
    observed_ms = [False] * n_ms
    for start, stop in recorded.intervals[rows[0]]:
        for moment in range(int(np.ceil(round(start * 1000, 6))), int(np.floor(round(stop * 1000, 6)))):
            observed_ms[moment] = True
    fine = np.zeros((n_ms, len(rows)))
    for column, row in enumerate(sorted(rows, key=lambda row: recorded.unit_id[row])):
        for spike in recorded.spikes[row]:
            fine[int(round(spike * 1000, 6)), column] += 1
    fine[~np.array(observed_ms)] = np.nan
    coarse = []
    for first in range(0, n_ms, bin_ms):
        part = fine[first : first + bin_ms]
        coarse.append(np.where(np.isnan(part[0]), np.nan, np.nansum(part, axis=0)))
    return np.array(coarse)


@pytest.mark.parametrize("bin_ms", [5, 20])
@pytest.mark.parametrize("held_out", [False, True])
def test_compat_counts_are_those_of_the_definition_bit_for_bit(uneven, bin_ms, held_out):
    recorded, definition = uneven
    width = bin_ms / 1000
    windows = place_windows(recorded.trials, definition, width, ("train", "val"))
    n_bins = windows.n_bins + windows.n_forward
    counter = SpikeCounter(recorded, units_in_order(recorded, held_out=held_out), width, compat=True)
    session = nlb_tools_counts(recorded, held_out=held_out, bin_ms=bin_ms)
    expected = np.stack([session[first : first + n_bins] for first in windows.first_bins])
    assert np.isnan(expected).any()
    assert np.nansum(expected) > 0
    np.testing.assert_array_equal(counter.counts(windows.first_bins, n_bins), expected)


@pytest.mark.parametrize("bin_ms", [5, 20])
def test_by_default_a_bin_is_there_if_its_own_unit_was_watched_all_of_it(uneven, bin_ms):
    recorded, definition = uneven
    width = bin_ms / 1000
    windows = place_windows(recorded.trials, definition, width, ("train",))
    units = units_in_order(recorded, held_out=False)
    counts = SpikeCounter(recorded, units, width).counts(windows.first_bins, windows.n_bins)
    for trial, first in enumerate(windows.first_bins[:3]):
        for column, unit in enumerate(units):
            for bin_number in range(windows.n_bins):
                begin, end = (first + bin_number) * width, (first + bin_number + 1) * width
                intervals = recorded.intervals[unit]
                observed = ((intervals[:, 0] <= begin + 1e-8) & (end - 1e-8 <= intervals[:, 1])).any()
                assert np.isfinite(counts[trial, bin_number, column]) == observed
                if observed:
                    spikes = recorded.spikes[unit]
                    assert counts[trial, bin_number, column] == ((spikes >= begin - 1e-9) & (spikes < end - 1e-9)).sum()


def test_both_ways_agree_where_all_units_were_watched_alike():
    recorded = simulate_set(SetSettings("mc_maze", train=10, val=4, test=2, units=6, seed=1)).training
    windows = place_windows(recorded.trials, DEFINITIONS["mc_maze"], 0.005, ("train",))
    units = units_in_order(recorded, held_out=False)
    counts = [
        SpikeCounter(recorded, units, 0.005, way).counts(windows.first_bins, windows.n_bins) for way in (False, True)
    ]
    np.testing.assert_array_equal(*counts)
    assert session_length_ms(recorded) >= windows.first_bins.max() * 5
