import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "baselines.py"


def test_the_small_table_holds_every_method_in_its_order(tmp_path: Path) -> None:
    table, figure = tmp_path / "table.json", tmp_path / "figure.png"
    command = [sys.executable, str(SCRIPT), "--small", "--json", str(table), "--figure", str(figure)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True
    )
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
    assert all(name in done.stdout for name in scores)
    assert content["machine"]["numpy"] and figure.read_bytes().startswith(b"\x89PNG")
