from pathlib import Path

import pytest

from tests.support.processes import BENCHMARKS, rows_of, script

pytest.importorskip("oasis")


@pytest.mark.slow
def test_spikes_of_generated_cells_are_found_better_than_by_oasis_alone(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "spike_inference.py", "--small", "--seeds", "0", "1")
    assert len(rows) == 2
    for row in rows:
        assert row["full rate"] > 0.85 and row["frames"] > row["oasis alone"]
        assert 0.4 < row["decay"] < 1.2


@pytest.mark.slow
def test_a_folder_without_recordings_is_an_error_that_says_so(tmp_path: Path) -> None:
    ended = script(BENCHMARKS / "spike_inference.py", "--data", tmp_path)
    assert ended.code != 0 and "name the folder of the ground truth with --data" in ended.err


@pytest.mark.slow
@pytest.mark.realdata
def test_recorded_spikes_are_found_with_one_set_of_settings(realdata: Path, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "spike_inference.py", "--data", realdata / "spike_ground_truth")
    assert len(rows) == 10
    middle = {name: sorted(row[name] for row in rows)[5] for name in ("frames", "full rate")}
    assert middle["full rate"] > 0.75 and middle["frames"] > 0.6
    slow = [row["decay"] for row in rows if row["indicator"] == "GCaMP6s"]
    fast = [row["decay"] for row in rows if row["indicator"] == "jGCaMP8f"]
    assert min(slow) > max(fast)
