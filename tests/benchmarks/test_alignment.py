import numpy as np
import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_a_decoder_carries_over_to_aligned_or_stitched_days(tmp_path):
    rows = rows_of(tmp_path, "alignment.py", "--small")
    assert [row["day"] for row in rows] == [f"day {i}" for i in range(4)] * 2
    others = [row for row in rows if row["day"] != "day 0"]
    plain, stitched = ([row for row in others if row["start"] == way] for way in ("plain", "stitched"))
    assert all(row["carried"] < 0 < 0.6 < row["carried, aligned"] for row in plain)
    assert all(row["carried"] > 0.9 for row in stitched)


@pytest.mark.parametrize("system", ["Lorenz", "Rössler"])
def test_days_share_trajectories_and_not_neurons(script, system):
    one, other = script("alignment").days(system, 0, conditions=3, per_condition=2, n_days=2).values()
    for condition in range(3):
        first, second = (ds["true_latents"].values[ds["condition"].values == condition][0] for ds in (one, other))
        np.testing.assert_array_equal(first, second)
    latents = one["true_latents"].values
    assert np.isfinite(latents).all()
    assert latents.std() == pytest.approx(1, abs=0.1)
    assert one["true_rates"].values.mean() != other["true_rates"].values.mean()
