import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_listing_a_file_takes_few_requests_and_few_of_its_bytes(tmp_path):
    words = ["--small", "--json", tmp_path / "s.json", "--figure", tmp_path / "s.png"]
    subprocess.run([sys.executable, BENCHMARKS / "streaming.py", *words], check=True, capture_output=True, timeout=200)
    streamed, fetched = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert fetched["to the storage"] == 1
    assert 1 <= fetched["share"] < 1.01
    assert streamed["to the storage"] <= 5
    assert streamed["share"] < 0.3
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
