import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_every_length_of_a_trial_is_in_table_and_figure(tmp_path):
    rows = rows_of(tmp_path, "long_trials.py", "--small")
    assert [row["bins"] for row in rows] == [100, 600]
    assert all(row["CPU-seconds"] > 0 and 0.1 < row["peak GiB"] < 2 for row in rows)
