"""The small version of the benchmark of known inputs."""

import numpy as np
import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_fits_with_and_without_inputs_are_scored(tmp_path):
    rows = rows_of(tmp_path, "inputs.py", "--small")
    assert [(row["model"], row["inputs"]) for row in rows] == [
        ("ridge", "without"),
        ("conv", "with"),
        ("conv", "without"),
    ]
    assert all(-1 < row["r2"] < 1 for row in rows) and rows[1]["r2"] != rows[2]["r2"]


def test_the_network_follows_its_pulses(script):
    task = script("flipflop").simulate(0, trials=40, steps=5)
    assert task.counts.shape == task.rates.shape == (40, 100, 50) and task.inputs.shape == (40, 100, 3)
    assert set(np.unique(task.inputs)) == {-1.0, 0.0, 1.0}
    np.testing.assert_allclose(task.counts.mean(), task.rates.mean() * 0.01, rtol=0.05)
