"""Recordings are read within the memory allowed, and the table says what each way of reading took."""

import json

import pytest

from tests.support.processes import BENCHMARKS, script


@pytest.mark.slow
def test_recordings_four_times_the_limit_are_read_within_it(tmp_path):
    words = ["--small", "--json", tmp_path / "r.json", "--figure", tmp_path / "r.png"]
    ended = script(BENCHMARKS / "reading.py", *words)
    assert ended.code == 0, ended.out + ended.err
    content = json.loads((tmp_path / "r.json").read_text())
    rows = [row for row in content["rows"] if "read" in row]
    assert [row["read"] for row in rows if "series" in row["read"]] == [
        "series as lfp",
        "series as power",
        "series as spikes",
    ]
    for row in rows:
        assert row["within"] == "yes" and 0 < row["peak MB"] < 200
        assert row["seconds"] > 0 and row["h5py MB/s"] > 0
    assert rows[-1]["MB"] >= 4 * 0.99 * content["settings"]["limit"] / 1e6
    ours, *others = [row for row in content["rows"] if "counts by" in row]
    # Those in the second that was not watched are not counted, and none twice.
    assert 0.85 < ours["spikes"] / (content["settings"]["spikes"] / 100) <= 1
    assert [row["counts by"] for row in others] == ["pynapple", "nlb_tools"]
    assert all(row["seconds"] == "-" or row["spikes"] > 0 for row in others)
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_a_peak_above_what_is_allowed_is_told(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import reading

    found = {"bytes": 4e9, "limit": 1e9, "result": 1e7, "plain": [20.0, 20.0], "ours": [25.0, 30.0]}
    found |= {"again": [16.0, 17.0], "bins": [10.0, 5.0], "digest": [1.0, 2.0]}
    found |= {"fresh": {"plain": [40.0, 30.0], "ours": [80.0, 70.0]}}
    row = reading._row("series", {**found, "peak": 1.1e9})
    assert row["of h5py"] == pytest.approx(0.8) and row["CPU"] == pytest.approx(1.5) and row["within"] == "yes"
    assert row["fresh of h5py"] == 0.5
    assert (row["again of h5py"], row["bins of h5py"], row["bins CPU"], row["digest CPU"]) == (1.25, 2, 0.25, 0.1)
    assert reading._row("series", {**found, "peak": 1.2e9})["within"] == "NO"
