"""Cutting into windows loses nothing, and chops merge back to what they were cut from."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.config import Chop, Trials, Window
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.schema import check_dataset, make_dataset
from nwb_sbtt.data.trials import chop_starts, chop_windows, single_window, trial_windows, whole_bins
from nwb_sbtt.errors import ConfigError, DataError


def chopped(values, observed, firsts, length, *, width=0.01, start=3.0):
    """A continuous recording (time, channel) cut into chops."""
    pieces = [slice(first, first + length) for first in firsts]
    return make_dataset(
        np.stack([values[piece] for piece in pieces]),
        np.stack([observed[piece] for piece in pieces]),
        bin_width=width,
        kind="units",
        exposure=np.stack([np.where(observed, 0.5, 1)[piece] for piece in pieces]),
        trial_start=start + np.asarray(firsts) * width,
        coords={"trial_id": ("trial", np.arange(len(firsts))), "area": ("channel", ["V1", "M1", "M1"])},
        attrs={"unit": "counts"},
    )


@given(st.integers(1, 400), st.integers(1, 60), st.data())
def test_chops_cover_every_bin_and_nothing_beyond(n_bins, length, data):
    length = min(length, n_bins)
    overlap = data.draw(st.integers(0, length - 1))
    starts = chop_starts(n_bins, length, overlap)
    covered = np.zeros(n_bins, dtype=int)
    for start in starts:
        covered[start : start + length] += 1
        assert start + length <= n_bins
    assert covered.min() >= 1
    assert (np.diff(starts) <= length - overlap).all()
    assert (np.diff(starts) > 0).all()


@given(st.integers(12, 80), st.integers(3, 12), st.integers(0, 2**31), st.randoms())
def test_merging_chops_gives_back_what_was_cut(n_bins, length, seed, shuffler):
    random = np.random.default_rng(seed)
    values = random.poisson(2, (n_bins, 3)).astype(np.float32)
    observed = random.random(values.shape) < 0.7
    observed[0] = True
    firsts = list(chop_starts(n_bins, length, length // 3))
    shuffler.shuffle(firsts)
    merged = check_dataset(merge(chopped(values, observed, firsts, length)))
    assert merged.sizes["trial"] == 1
    assert (merged["observed"].values[0] == observed).all()
    assert (merged["values"].values[0] == np.where(observed, values, 0)).all()
    assert (merged["exposure"].values[0] == np.where(observed, 0.5, 1)).all()
    assert merged["trial_start"].values == pytest.approx([3.0])
    assert merged["time"].values == pytest.approx((np.arange(n_bins) + 0.5) * 0.01)
    assert merged["area"].values.tolist() == ["V1", "M1", "M1"]
    assert "covered" not in merged.coords


def test_estimates_are_blended_linearly_over_what_two_chops_share():
    ds = latents([0, 6], length=10, levels=[1.0, 3.0])
    rates = merge(ds)["rates"].values[0, :, 0]
    assert rates[:6] == pytest.approx(1.0)
    assert rates[10:] == pytest.approx(3.0)
    assert np.diff(rates[5:11]) == pytest.approx(2 / 5)


@given(st.integers(11, 60), st.integers(4, 11), st.integers(0, 3))
def test_estimates_that_agree_are_not_changed_by_blending(n_bins, length, overlap):
    firsts = chop_starts(n_bins, length, overlap)
    whole = np.sin(np.arange(n_bins))
    ds = latents(firsts, length=length, levels=[0.0] * len(firsts))
    ds["rates"].values[:, :, 0] = np.stack([whole[first : first + length] for first in firsts])
    assert merge(ds)["rates"].values[0, :, 0] == pytest.approx(whole, abs=1e-6)


def test_bins_that_lie_in_no_chop_are_marked_and_hold_no_nan():
    merged = merge(latents([0, 20], length=10, levels=[1.0, 2.0]))
    assert merged["covered"].values.tolist() == [True] * 10 + [False] * 10 + [True] * 10
    assert not merged["observed"].values[0, 10:20].any()
    assert np.isfinite(merged["rates"].values).all()
    assert merged["initial_condition"].values.tolist() == [[0.0]]


def test_trials_aligned_to_events_are_not_merged():
    ds = latents([0, 20], length=10, levels=[1.0, 2.0])
    ds["trial_start"].values[1] += 0.0043
    with pytest.raises(DataError, match="off the grid"):
        merge(ds)


def latents(firsts, *, length, levels):
    shape = (len(firsts), length, 1)
    dims = ("trial", "time", "channel")
    return xr.Dataset(
        {
            "rates": (dims, np.broadcast_to(np.reshape(levels, (-1, 1, 1)), shape).astype(np.float32).copy()),
            "observed": (dims, np.ones(shape, dtype=bool)),
            "initial_condition": (("trial", "initial"), np.arange(len(firsts), dtype=np.float32)[:, None]),
        },
        coords={
            "time": ("time", (np.arange(length) + 0.5) * 0.01),
            "trial_start": ("trial", np.asarray(firsts) * 0.01),
            "channel_id": ("channel", [7]),
        },
        attrs={"bin_width": 0.01, "kind": "units", "unit": "counts"},
    )


@pytest.mark.parametrize(("seconds", "width", "n"), [(0.7, 0.005, 140), (0.3, 0.1, 3), (3600.0, 0.001, 3_600_000)])
def test_decimal_lengths_are_whole_numbers_of_bins(seconds, width, n):
    assert whole_bins(seconds, width, "the window") == n


def test_a_window_that_is_no_whole_number_of_bins_is_refused_with_the_nearest_that_are():
    with pytest.raises(ConfigError, match=r"make it 0\.68 or 0\.7 s"):
        single_window(Window(start=0, stop=0.69), 0.02)
    with pytest.raises(ConfigError, match=r"make it 0\.02 s"):
        single_window(Window(start=0, stop=0.01), 0.02)


def test_rows_without_an_event_are_left_out_and_counted():
    cut = Trials(event="go", start=-0.1, stop=0.2)
    windows = trial_windows(np.array([5.0, np.nan, 1.0, np.nan]), cut, 0.1)
    assert windows.rows.tolist() == [0, 2]
    assert windows.grid.starts == pytest.approx([4.9, 0.9])
    assert windows.grid.n_bins == 3
    assert windows.start == -0.1
    assert "2 rows of 'trials' have no time in 'go' and are left out" in windows.notes


def test_a_table_without_any_event_is_an_error():
    with pytest.raises(DataError, match="none of the 2 rows"):
        trial_windows(np.full(2, np.nan), Trials(event="go", start=0, stop=1), 0.1)


def test_a_session_is_chopped_into_a_hundred_bins_with_a_fifth_shared():
    grid = chop_windows(Chop(), 0.02, (10.0, 35.0)).grid
    assert grid.n_bins == 100
    assert np.diff(grid.starts)[:-1] == pytest.approx(1.6)
    assert grid.starts[0] == pytest.approx(10.0)
    assert grid.stops[-1] == pytest.approx(35.0)


def test_a_short_session_is_chopped_into_enough_pieces_to_fit():
    assert chop_windows(Chop(), 0.1, (0.0, 25.0)).grid.shape == (13, 25)
    assert chop_windows(Chop(), 0.1, (0.0, 0.7)).grid.shape == (1, 7)


def test_chops_longer_than_the_session_or_than_nothing_are_refused():
    with pytest.raises(ConfigError, match="longer than the session"):
        chop_windows(Chop(length=5.0), 0.1, (0.0, 2.5))
    with pytest.raises(ConfigError, match="has no bin"):
        chop_windows(Chop(start=9.0), 0.1, (0.0, 2.5))
    with pytest.raises(ConfigError, match="the overlap"):
        chop_windows(Chop(length=1.0, overlap=0.25), 0.1, (0.0, 2.5))


def test_an_overlap_of_zero_is_taken_as_said():
    starts = chop_windows(Chop(length=1.0, overlap=0.0), 0.1, (0.0, 3.0)).grid.starts
    assert starts == pytest.approx([0.0, 1.0, 2.0])


def test_chops_of_a_slow_signal_are_longer_up_to_a_fourth_of_the_session():
    assert chop_windows(Chop(), 0.01, (0.0, 60.0), least_length=3.0).grid.n_bins == 300
    assert chop_windows(Chop(), 0.01, (0.0, 8.0), least_length=3.0).grid.n_bins == 200
    assert chop_windows(Chop(length=1.0), 0.01, (0.0, 60.0), least_length=3.0).grid.n_bins == 100
