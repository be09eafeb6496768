import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def step_time(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import step_time

    return step_time


def test_a_step_of_ours_is_faster_than_the_plain_one(tmp_path):
    words = ["--small", "--repeats", "7", "--json", tmp_path / "s.json", "--figure", tmp_path / "s.png"]
    subprocess.run([sys.executable, BENCHMARKS / "step_time.py", *words], check=True, capture_output=True)
    content = json.loads((tmp_path / "s.json").read_text())
    plain, ours, autonomous, conv = content["rows"]
    assert 1.8 < plain["GFLOP"] < 2.4
    assert ours["ratio"] < 0.7
    assert autonomous["CPU s/step"] < ours["CPU s/step"]
    assert conv["GFLOP"] > ours["GFLOP"]
    assert all(0 < row["share"] < 1.1 for row in content["rows"])
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_matrix_products_are_counted_in_both_passes_and_in_place(step_time):
    layer, x, total = nn.Linear(5, 7), torch.randn(3, 5), torch.zeros(3, 7)

    def step():
        layer(x).sum().backward()
        with torch.no_grad():
            total.addmm_(x, layer.weight.t())

    products = step_time._products(step)
    assert products == {(1, 3, 5, 7): 2, (1, 7, 3, 5): 1}
    assert step_time._gflop(products) == pytest.approx(2 * 3 * 105 / 1e9)


def test_the_plain_model_learns_what_it_should(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from plain_lfads import PlainLFADS

    torch.manual_seed(0)
    net = PlainLFADS(6, inputs=2, generator=8, factors=3, encoder=4)
    log_rates, kl = net(torch.poisson(torch.ones(5, 4, 6)))
    (log_rates.sum() + kl).backward()
    assert log_rates.shape == (5, 4, 6)
    assert kl > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
