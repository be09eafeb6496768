"""The small version of the benchmark of inference with a lag."""

import pytest

from tests.support.processes import rows_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("part", ["accuracy", "reachable"])
def test_accuracy_with_a_lag_and_what_is_reachable_are_measured_and_drawn_again(tmp_path, part):
    (row,) = rows_of(tmp_path, "online.py", part, "--small")
    assert (row["observed of 29"], row["lag"]) == (10, 0)
    assert -1 < row["R2"] < 1 and row["R2"] != row["from bin 10"]
    table = (tmp_path / "table.json").rename(tmp_path / "earlier.json")
    assert rows_of(tmp_path, "online.py", "draw", "--tables", table) == [row]


def test_a_bin_is_timed_in_numpy_torch_and_onnx_runtime(tmp_path):
    pytest.importorskip("onnxruntime", reason="extra `test`")
    rows = rows_of(tmp_path, "online.py", "latency", "--small")
    ways = ["stream.step", "numpy", "torch, bin by bin", "ONNX Runtime", "torch, 50 bins"]
    assert [row["way"] for row in rows] == ways
    assert all(0 < row["p50"] <= row["p99"] <= row["longest"] for row in rows)
