"""Timestamps that were rounded as coarsely as samples follow each other are read by the even clock behind them."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nwb_sbtt import inspect, read_nwb
from nwb_sbtt.config import ElectricalConfig, ReadConfig, Window
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read import rounding
from nwb_sbtt.io.read.clock import sample_clock
from nwb_sbtt.io.read.recording import find_pieces
from tests.support import nwbfiles

RATES = (30_000.0, 24_414.0625, 20_000.0, 2500.0, 2000.0, 1250.0, 1000.0, 512.0, 30.0)


def clock_of(timestamps):
    series = SimpleNamespace(name="es", timestamps=timestamps, rate=None, starting_time=None, get_read_io=lambda: None)
    return sample_clock(series, n_samples=len(timestamps))


def recorded(n_samples, rate, start, gaps):
    """Times of an even clock, with a gap of so many seconds before each of some samples."""
    times = start + np.arange(n_samples) / rate
    for sample, seconds in gaps:
        times[sample:] += seconds
    return times


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    start=st.floats(0, 20_000),
    gaps=st.lists(
        st.tuples(st.integers(700, 5300), st.floats(0.5, 30)), max_size=3, unique_by=lambda gap: gap[0] // 500
    ),
    store=st.sampled_from(["single", "ms", "half ms", "down to ms"]),
)
# Samples fall on the edge of a quantum, and errors of arithmetic take some of them to the quantum before.
@example(rate=1000.0, start=4.0, gaps=[(700, 1.9375)], store="down to ms")
@example(rate=1000.0, start=41.928, gaps=[(3473, 27.454)], store="down to ms")
@example(rate=1000.0, start=43.222, gaps=[], store="down to ms")
@example(rate=500.0, start=20.004, gaps=[], store="down to ms")
@example(rate=1000.0, start=472.96825, gaps=[(802, 9.4515)], store="half ms")
@example(rate=1000.0, start=984.364, gaps=[(5060, 1.044)], store="down to ms")
def test_a_rounded_clock_is_the_even_one_within_the_rounding(rate, start, gaps, store):
    true = recorded(6000, rate, start, gaps)
    quantum = {"ms": 1e-3, "half ms": 5e-4, "down to ms": 1e-3}.get(store, 0.0)
    stored = true.astype(np.float32) if store == "single" else np.round(true / quantum) * quantum
    if store == "down to ms":
        stored = np.floor(true / quantum) * quantum
    rounding_error = float(np.abs(stored - true).max())
    clock = clock_of(stored)
    assert np.abs(clock.times(0, 6000) - true).max() <= 2.1 * rounding_error + 1e-9
    # Where many samples share a timestamp, a piece of them may be too short to tell.
    if rounding_error * rate <= 2:
        assert 1 / clock.period == pytest.approx(rate, rel=0.01)
        # A sample beside a gap that errors of arithmetic take to another quantum cannot be told from one lost next to it.
        jumps = np.flatnonzero(np.abs(np.diff(stored - true)) > 0.999 * quantum) if quantum else np.empty(0, dtype=int)
        edges = [edge for sample in (0, *(sample for sample, _ in gaps), 6000) for edge in (sample - 2, sample)]
        doubtful = int(np.isin(jumps, edges).sum())
        assert len(gaps) <= clock.gaps <= len(gaps) + doubtful
        pieces, runs = find_pieces(clock, "es")
        assert len(pieces) <= 1 + clock.gaps and len(pieces if runs is None else runs.firsts) == 1 + clock.gaps


@given(st.lists(st.floats(1e-6, 3), min_size=2, max_size=300))
def test_times_that_are_rounded_to_nothing_stay_as_they_are(steps):
    times = np.cumsum(steps)
    read = clock_of(times).times(0, len(times))
    if len(times) < rounding.LEAST_RUN:
        assert (read == times).all()
    else:
        assert read == pytest.approx(times, abs=float(np.max(steps)))


@pytest.mark.parametrize(
    "times",
    [
        np.concatenate([np.arange(1000) * 0.01 + 20 * k for k in range(8)]),
        np.delete(np.arange(20_000) * 0.001, [1000, 7000, 7050, 13_000]),
        8200 + np.delete(np.arange(20_000) / 1024, [1000, 7000, 13_000]),
        np.round(np.cumsum(np.random.default_rng(0).exponential(0.05, 5000)), 3),
        np.round(np.cumsum(np.random.default_rng(0).uniform(0.028, 0.038, 5000)), 3),
    ],
    ids=["gaps", "lost samples", "lost samples on a grid of single precision", "events", "jitter"],
)
def test_clocks_that_no_lines_explain_better_stay_as_they_are(times):
    assert (clock_of(times).times(0, len(times)) == times).all()


def test_lost_samples_are_still_gaps():
    lost = [5000, 12_000, 19_000]
    true = np.delete(np.arange(24_000) / 1250, lost)
    clock = clock_of(np.round(true, 3))
    assert clock.gaps == 3
    (piece,), runs = find_pieces(clock, "es")
    assert np.abs(runs.firsts[1:] - 1 - lost).max() <= 3 and piece.stop == 24_000
    assert np.abs(runs.rows[1:] - (lost - np.arange(3))).max() <= 3
    assert "rounded to 0.001 s, the sampling period is 0.0008 s" in clock.notes[0]


def test_lines_go_on_from_part_to_part_and_across_times_that_are_missing(monkeypatch):
    true = recorded(20_000, 1250.0, 3.0, [(9000, 2.5)])
    stored = np.round(true, 3)
    stored[[50, 4000, 15_001]] = np.nan
    whole = clock_of(stored)
    # A missing time is a gap of two periods.
    for length in (1000, 4097):
        monkeypatch.setattr(rounding, "AT_ONCE", length)
        clock = clock_of(stored)
        assert clock.gaps == 4 and clock.untimed == 3
        assert np.flatnonzero(np.isnan(clock.times(0, 20_000))).tolist() == [50, 4000, 15_001]
        times = clock.times(0, 20_000)
        assert np.nanmax(np.abs(times - true)) < 6e-4
        assert np.nanmax(np.abs(times - whole.times(0, 20_000))) < 6e-4
        assert (times[7000:7100] == clock.times(7000, 7100)).all()


def test_a_clock_that_drifts_is_followed():
    true = np.cumsum(8e-4 * (1 + 1e-4 * np.sin(np.arange(100_000) / 2e4)))
    clock = clock_of(np.round(true, 3))
    assert np.abs(clock.times(0, 100_000) - true).max() < 7e-4
    assert clock.gaps == 0 and len(find_pieces(clock, "es")[0]) == 1


def test_voltages_with_rounded_timestamps_are_filtered_as_one_piece(tmp_path):
    n = 12_500
    data = np.random.default_rng(0).normal(size=(n, 2))
    config = ReadConfig(bin_width=0.02, cut=Window(start=2, stop=8), electrical=ElectricalConfig(band=(2, 20)))
    read = {}
    for name, times in (("true", 1 + np.arange(n) / 1250), ("rounded", np.round(1 + np.arange(n) / 1250, 3))):
        nwbfile = nwbfiles.new_file()
        nwbfiles.add_electrodes(nwbfile, 2)
        nwbfiles.add_electrical(nwbfile, data, timestamps=times)
        path = nwbfiles.write(nwbfile, tmp_path / f"{name}.nwb")
        begun = time.perf_counter()
        read[name] = read_nwb(path, config)
        assert time.perf_counter() - begun < 5
    assert read["rounded"]["observed"].values.all()
    assert read["rounded"]["values"].values == pytest.approx(read["true"]["values"].values, abs=1e-3)
    (candidate,) = inspect(path)
    assert candidate.rate == pytest.approx(1250, rel=1e-6) and candidate.regular and candidate.gaps == 0


def test_what_cannot_be_told_is_refused_at_once():
    irregular = np.round(np.cumsum(np.random.default_rng(0).exponential(0.002, 20_000)), 3)
    with pytest.raises(
        DataError, match=r"of 'es' split its 20000 samples into \d+ parts.*rounded to 0.001 s; expected evenly"
    ):
        find_pieces(clock_of(irregular), "es")


def test_the_numbers_of_long_recordings_are_estimated_with_rounding(tmp_path, monkeypatch):
    monkeypatch.setattr("nwb_sbtt.io.read.description.MOST_EXACT", 10_000)
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.zeros(300_000, dtype=np.int8), timestamps=np.round(np.arange(300_000) / 1250, 3))
    (candidate,) = inspect(nwbfiles.write(nwbfile, tmp_path / "x.nwb"))
    assert candidate.estimated and candidate.gaps == 0 and candidate.regular
    assert candidate.rate == pytest.approx(1250, rel=1e-3)
    assert "timestamps are rounded to 0.001 s" in candidate.notes[0]


@pytest.mark.parametrize("period", [0.02, 1 / 3])
def test_a_few_timestamps_that_repeat_move_no_other(period, monkeypatch):
    true = recorded(3000, 1 / period, 0.0, [(900, 3.0), (2000, period)])
    stored = true.copy()
    stored[[100, 500, 1000]] = stored[[99, 499, 999]]
    for length in (3000, 1000, 501):
        monkeypatch.setattr(rounding, "AT_ONCE", length)
        clock = clock_of(stored)
        # The next step makes up for each, so that they are read where the others say; what is lost stays a gap.
        assert np.abs(clock.times(0, 3000) - true).max() < 1e-8
        assert clock.gaps == 2
        assert "3 timestamps of 'es' repeat the previous one or are half" in clock.notes[0]


@pytest.mark.parametrize("later", [0, 5], ids=["nothing is lost", "lost later"])
def test_repeats_that_the_next_step_does_not_make_up_for_are_no_slips(later):
    times = np.insert(0.02 * np.arange(3000), [100, 500], 0.02 * np.array([99, 499]))
    if later:
        times = np.delete(times, [100 + later, 501 + later])
    assert not rounding.find_slips(times, 0.02).any()
    assert not any("makes up" in note for note in clock_of(times).notes)


def test_timestamps_less_than_half_a_period_off_stay():
    times = 0.02 * np.arange(3000)
    times[[100, 500]] -= 0.004
    assert (clock_of(times).times(0, 3000) == times).all()


def test_repeats_in_long_recordings_are_no_gaps_in_what_is_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr("nwb_sbtt.io.read.description.MOST_EXACT", 10_000)
    times = recorded(300_000, 1000.0, 4.0, [(700, 1.9375)])
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_series(nwbfile, np.zeros(300_000, dtype=np.int8), timestamps=np.floor(times / 1e-3) * 1e-3)
    (candidate,) = inspect(nwbfiles.write(nwbfile, tmp_path / "x.nwb"))
    assert candidate.estimated and candidate.gaps == 1
    assert candidate.rate == pytest.approx(1000, rel=1e-6)
    assert "the next makes up for it" in candidate.notes[0]


@pytest.mark.parametrize(("rate", "block"), [(2000.0, 512), (30_000.0, 30), (1000.0, 2)])
def test_blocks_of_samples_have_the_time_of_their_first(rate, block):
    true = recorded(20_480, rate, 7.0, [(10 * block, 3.0)])
    clock = clock_of(np.repeat(true[::block], block)[: len(true)])
    assert np.abs(clock.times(0, len(true)) - true).max() < 1e-6
    assert any(f"each {block} samples of 'es' share a timestamp" in note for note in clock.notes)
