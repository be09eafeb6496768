import pytest
import torch
from torch import nn

from tests.support.processes import rows_of


@pytest.fixture
def step_time(script):
    return script("step_time")


@pytest.mark.slow
def test_a_step_of_ours_is_faster_than_the_plain_one(tmp_path):
    rows = rows_of(tmp_path, "step_time.py", "--small", "--repeats", "7")
    plain, ours, autonomous, conv = rows
    assert 1.8 < plain["GFLOP"] < 2.4
    assert ours["ratio"] < 0.7
    assert autonomous["CPU s/step"] < ours["CPU s/step"]
    assert conv["GFLOP"] > ours["GFLOP"]
    assert all(0 < row["share"] < 1.1 for row in rows)


@pytest.mark.slow
def test_the_shape_of_calcium_data_has_a_row_for_the_ladder(tmp_path):
    rows = rows_of(tmp_path, "step_time.py", "--small", "--calcium", "--repeats", "2")
    conv, ladder = rows[-2:]
    assert "ladder" in ladder["model"]
    assert conv["GFLOP"] < ladder["GFLOP"] < 1.2 * conv["GFLOP"]


def test_matrix_products_are_counted_in_both_passes_and_in_place(step_time):
    layer, x, total = nn.Linear(5, 7), torch.randn(3, 5), torch.zeros(3, 7)

    def step():
        layer(x).sum().backward()
        with torch.no_grad():
            total.addmm_(x, layer.weight.t())

    products = step_time._products(step)
    assert products == {(1, 3, 5, 7): 2, (1, 7, 3, 5): 1}
    assert step_time._gflop(products) == pytest.approx(2 * 3 * 105 / 1e9)


def test_the_plain_model_learns_what_it_should(script):
    torch.manual_seed(0)
    net = script("plain_lfads").PlainLFADS(6, inputs=2, generator=8, factors=3, encoder=4)
    log_rates, kl = net(torch.poisson(torch.ones(5, 4, 6)))
    (log_rates.sum() + kl).backward()
    assert log_rates.shape == (5, 4, 6)
    assert kl > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
