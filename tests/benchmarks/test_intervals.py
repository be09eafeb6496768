"""The small version of the benchmark of intervals: it runs, and intervals hold what they say."""

import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_intervals_of_band_power_hold_what_they_say(tmp_path):
    (row,) = rows_of(tmp_path, "intervals.py", "--small", drawn=False)
    for of in ("mean", "data"):
        for level in (50, 80, 90, 95):
            assert abs(row[f"{of} in {level}%"] - level / 100) < 0.1
