import json
from pathlib import Path

import pytest

from tests.support.processes import BENCHMARKS, script


@pytest.mark.slow
def test_the_small_table_holds_every_method_in_its_order(tmp_path: Path) -> None:
    table, figure = tmp_path / "table.json", tmp_path / "figure.png"
    ended = script(BENCHMARKS / "baselines.py", "--small", "--json", table, "--figure", figure, subject="benchmarks/")
    assert ended.code == 0, ended.err
    content = json.loads(table.read_text())
    scores = {row["method"]: row["R2"] for row in content["rows"]}
    order = [
        "mean rate",
        "masked smoothing",
        "factor analysis",
        "low-rank Wiener filter",
        "linear dynamical system",
        "oracle",
    ]
    assert [name for name in sorted(scores, key=scores.__getitem__) if name != "PSTH by condition"] == order
    assert abs(scores["mean rate"]) < 0.02 and scores["oracle"] > 0.99
    assert 0.6 < scores["PSTH by condition"] < 0.95 and scores["linear dynamical system"] > 0.7
    assert all(name in ended.out for name in scores)
    assert content["machine"]["numpy"] and figure.read_bytes().startswith(b"\x89PNG")
