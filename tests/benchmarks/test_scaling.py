import pytest
import torch

from tests.support.processes import rows_of


@pytest.fixture
def scaling(script):
    return script("scaling")


@pytest.mark.slow
def test_every_case_is_in_table_and_figure_and_memory_is_not_that_of_the_box(tmp_path):
    rows = rows_of(tmp_path, "scaling.py", "--small")
    assert [(row["samples"], row["channels"]) for row in rows] == [
        (64000, 40000),
        (32000, 4000),
    ]
    assert all(row["CPU-seconds a step"] > 0 and row["weights GiB"] < row["peak GiB"] < 2 for row in rows)
    large, small = (row["CPU-seconds a step"] for row in rows)
    assert large < 10 * small, "the box is ten times as large, the samples are twice as many"


def test_each_bin_observes_as_many_channels_all_over(scaling):
    batch = scaling.draw(3, 4, 1000, per_bin=10, generator=torch.Generator().manual_seed(0))
    assert batch.shape == (3, 4, 1000)
    observed = batch.dense(batch.observed)
    assert (observed.reshape(3, 4, 10, 100).sum(-1) == 1).all()
    assert (batch.values >= 0).all()
    assert batch.values.max() > 0


def test_the_slope_of_what_grows_in_proportion_is_one(scaling):
    rows = [{"samples": n, "channel part": 3e-9 * n} for n in (10, 1000, 5000)]
    assert scaling.slope(rows) == pytest.approx(1)
