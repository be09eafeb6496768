"""The small version of the benchmark of decoded behaviour."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


def test_true_rates_are_decoded_best_and_fewer_samples_worse(tmp_path):
    half, quarter = rows_of(tmp_path, "decoding.py", "--small")
    assert (half["observed"], quarter["observed"]) == ("half", "quarter")
    for row in (half, quarter):
        assert row["true rates"] > row["reachable"] > row["rates"] + 0.05
        assert row["true rates"] > 0.95 and row["behind"] == pytest.approx(row["true rates"] - row["rates"])
        assert 0.1 < row["rates"] < row["true rates"] and abs(row["rates"] - row["factors"]) < 0.1
    assert quarter["smoothed counts"] < half["smoothed counts"]
