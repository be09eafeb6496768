import json

import pytest

from tests.support.processes import BENCHMARKS, script


@pytest.mark.slow
def test_true_rates_lead_and_every_row_has_all_scores(tmp_path):
    target, figure = tmp_path / "rows.json", tmp_path / "rows.png"
    ended = script(BENCHMARKS / "nlb_accuracy.py", "--small", "--json", target, "--figure", figure)
    assert ended.code == 0, ended.err
    rows = {row.pop("rates"): row for row in json.loads(target.read_text())["rows"]}
    assert list(rows) == ["smoothing", "conv", "conv × 2", "true rates"]
    for scores in rows.values():
        assert {"co-bps", "vel R2", "psth R2", "fp-bps", "of oracle"} <= set(scores)
        assert scores["co-bps"] <= rows["true rates"]["co-bps"]
    assert rows["true rates"]["of oracle"] == 1
    assert rows["smoothing"]["co-bps"] > 0
    assert rows["conv"]["co-bps from"] <= rows["conv"]["co-bps"] <= rows["conv"]["to"]
    assert rows["conv × 2"]["co-bps"] > rows["conv"]["co-bps"] > 0.05
    assert -0.2 < rows["smoothing"]["fp-bps"] < rows["conv × 2"]["fp-bps"]
    assert figure.stat().st_size > 5000
