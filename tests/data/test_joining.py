"""Several series on one grid: each row of a table is one channel, observed where any series observed it."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from nwb_sbtt.data.grid import Binned, Grid
from nwb_sbtt.data.joining import join
from nwb_sbtt.errors import DataError, SelectionError

GRID = Grid(np.array([0.0]), 1.0, 4)


@dataclass(frozen=True)
class Stored:
    """A source whose bins are known: values (time, channel), NaN where unobserved."""

    rows: tuple[int, ...]
    values: tuple
    exposure: tuple | None = None
    path: str = "acquisition/a"
    kind: str = "electrodes"
    unit: str = "volts"
    table: str = "electrodes"
    span: tuple[float, float] = (0.0, 4.0)
    sampling_period: float | None = 0.1
    notes: tuple[str, ...] = ()
    channel_columns: dict = field(default_factory=dict)

    @property
    def channel_row(self):
        return np.array(self.rows)

    @property
    def channel_id(self):
        return np.array(self.rows) + 100

    def bin(self, grid):
        values = np.array(self.values, dtype=np.float32).T[None]
        observed = np.isfinite(values)
        exposure = None if self.exposure is None else np.array(self.exposure, dtype=np.float32).T[None]
        return Binned(np.where(observed, values, 0), observed, exposure)


NO = np.nan


def test_two_probes_stand_side_by_side():
    joined = join([Stored((0, 1), ([1, 2, 3, 4], [5, 6, 7, 8])), Stored((4,), ([9, 9, 9, 9],), path="b")], GRID)
    assert joined.binned.values[0].T.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]
    assert joined.source.tolist() == [0, 0, 1]
    assert joined.source_channel.tolist() == [0, 1, 0]
    assert joined.notes == ()


def test_the_same_rows_of_different_tables_are_different_channels():
    joined = join([Stored((0,), ([1] * 4,)), Stored((0,), ([2] * 4,), table="other", path="b")], GRID)
    assert joined.binned.values[0].T.tolist() == [[1] * 4, [2] * 4]


def test_a_switched_electrode_bank_becomes_one_masked_set_of_channels():
    first = Stored((0, 1), ([1, 2, NO, NO], [3, 4, NO, NO]), span=(0.0, 2.0))
    second = Stored((1, 2), ([NO, NO, 5, 6], [NO, NO, 7, 8]), path="b", span=(2.0, 4.0))
    joined = join([first, second], GRID)
    assert joined.binned.values[0].T.tolist() == [[1, 2, 0, 0], [3, 4, 5, 6], [0, 0, 7, 8]]
    assert joined.binned.observed[0].T.tolist() == [
        [True, True, False, False],
        [True] * 4,
        [False, False, True, True],
    ]
    assert "1 channels are in several series" in joined.notes[0]


def test_series_that_contradict_each_other_are_refused():
    with pytest.raises(DataError, match="different values for channel 100"):
        join([Stored((0,), ([1, 2, 3, 4],)), Stored((0,), ([1, 2, 0, 4],), path="b")], GRID)


def test_series_that_agree_may_overlap():
    joined = join([Stored((0,), ([1, 2, 3, NO],)), Stored((0,), ([NO, 2, 3, 4],), path="b")], GRID)
    assert joined.binned.values[0, :, 0].tolist() == [1, 2, 3, 4]


def test_a_bin_where_one_recording_ends_and_the_next_begins_has_the_mean():
    first = Stored((0,), ([1, 2, NO, NO],), span=(0.0, 1.5))
    second = Stored((0,), ([NO, 4, 5, 6],), span=(1.5, 4.0), path="b")
    joined = join([first, second], GRID)
    assert joined.binned.values[0, :, 0].tolist() == [1, 3, 5, 6]
    assert any("the mean of both" in note for note in joined.notes)


def test_a_third_series_is_held_against_each_of_the_others():
    first, third = Stored((0,), ([1, 2, NO, NO],)), Stored((0,), ([NO, 4, NO, NO],), path="c")
    second = Stored((0,), ([NO, NO, 5, 6],), span=(4.0, 4.5), path="b")
    with pytest.raises(DataError, match="'acquisition/a' and 'c'"):
        join([first, second, third], GRID)


def test_counts_of_disjoint_parts_of_a_bin_add_up():
    counts = {"unit": "counts", "sampling_period": None}
    first = Stored((0,), ([1, 2, NO, NO],), exposure=([1, 0.25, 1, 1],), **counts)
    second = Stored((0,), ([NO, 3, 5, 6],), exposure=([1, 0.5, 1, 1],), path="b", **counts)
    joined = join([first, second], GRID)
    assert joined.binned.values[0, :, 0].tolist() == [1, 5, 5, 6]
    assert joined.binned.exposure[0, :, 0].tolist() == [1, 0.75, 1, 1]


def test_a_row_named_twice_by_one_series_is_refused_where_its_columns_differ():
    with pytest.raises(DataError, match="twice"):
        join([Stored((3, 3), ([1, 2, 3, 4], [1, 2, 3, 5]))], GRID)


def test_series_of_different_kinds_or_units_are_refused():
    with pytest.raises(SelectionError, match="different kinds"):
        join([Stored((0,), ([1] * 4,)), Stored((0,), ([1] * 4,), kind="units", table="units")], GRID)
    with pytest.raises(SelectionError, match="different units"):
        join([Stored((0,), ([1] * 4,)), Stored((1,), ([1] * 4,), unit="lumens")], GRID)
