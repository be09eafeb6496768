"""The small versions of the benchmarks of accuracy: they run, and more training comes closer to the truth."""

import pytest

from tests.support.processes import rows_of


@pytest.mark.slow
def test_time_to_quality_rises_with_time(tmp_path):
    brief, longer = rows_of(tmp_path, "time_to_quality.py", "--small")
    assert (brief["epochs"], longer["epochs"]) == (1, 4)
    assert longer["R2"] > brief["R2"] + 0.1


@pytest.mark.slow
def test_accuracy_of_an_ensemble_and_its_intervals(tmp_path):
    (row,) = rows_of(tmp_path, "accuracy.py", "--small", "--members", "2")
    assert row["R2"] > 0.1
    assert row["R2 of 2"] > row["R2"] - 0.02
    assert 0.2 < row["in 50%"] < row["in 80%"] < row["in 90%"] < row["in 95%"] <= 1


@pytest.mark.slow
def test_cosmoothing_of_real_segments_is_better_than_their_mean(tmp_path, realdata):
    file = realdata / "nlb" / "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
    (row,) = rows_of(tmp_path, "cosmoothing.py", file, "--small", "--set", "train.epochs=15", drawn=False)
    assert row["bits/spike"] > 0


@pytest.mark.slow
def test_hidden_entries_of_real_segments_are_better_predicted_than_by_smoothing(tmp_path, realdata):
    file = realdata / "nlb" / "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
    words = ("--speckled", "--small", "--set", "train.epochs=25")
    (row,) = rows_of(tmp_path, "cosmoothing.py", file, *words, drawn=False)
    assert row["bits/spike"] > row["smoothing"] > 0
    assert row["Wiener"] > 0
