"""Rows of a stored array with room for those that were lost between them."""

import numpy as np
import pytest

from nwb_sbtt.io.read.runs import Runs, SpacedSlabs
from nwb_sbtt.io.read.slabs import Slabs


@pytest.fixture
def spaced():
    runs = Runs(firsts=np.array([0, 7, 12]), rows=np.array([0, 5, 11]), lengths=np.array([5, 5, 4]))
    return SpacedSlabs(Slabs(np.arange(30, dtype=np.int16).reshape(15, 2) + 100), runs)


def test_stored_rows_lie_where_their_runs_do(spaced):
    assert (spaced.n_rows, spaced.n_columns, spaced.dtype) == (16, 2, np.int16)
    whole = spaced.read(0, 16)
    # Row 10 of the array has no time, and belongs to no run.
    expected = [0, 1, 2, 3, 4, None, None, 5, 6, 7, 8, 9, 11, 12, 13, 14]
    for sample, row in enumerate(expected):
        assert whole[sample].tolist() == ([100 + 2 * row, 101 + 2 * row] if row is not None else [sample % 2] * 2)
    assert spaced.only(np.array([1])).read(0, 16)[:, 0].tolist() == whole[:, 1].tolist()


@pytest.mark.parametrize(("first", "stop"), [(-3, 4), (3, 9), (5, 7), (6, 6), (11, 13), (8, 40)])
def test_parts_are_those_of_the_whole(spaced, first, stop):
    part = spaced.read(first, stop)
    inside = spaced.read(0, 16)[max(first, 0) : stop]
    # Which of 0 and 1 stands where a sample was lost follows from where a part begins.
    assert np.array_equal(np.where(part < 2, 0, part), np.where(inside < 2, 0, inside))


def test_kept_ranges_read_as_before(spaced):
    before = spaced.read(2, 13).copy()
    spaced.keep([(2, 13), (5, 7)], limit=1e6)
    assert np.array_equal(spaced.read(2, 13), before)
