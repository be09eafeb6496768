"""The small version of the benchmark of sub-frame timing."""

from tests.benchmarks.scripts import rows_of


def test_a_model_finds_latents_in_staggered_samples_that_smoothing_does_not(tmp_path):
    ours, smoothed = rows_of(tmp_path, "subframe.py", "--small")
    assert (ours["model"], smoothed["model"]) == ("sub-frame", "smoothed events")
    assert ours["X"] > 0.9 and ours["Y"] > 0.9
    assert ours["X"] > smoothed["X"] + 0.05 and ours["Y"] > smoothed["Y"] + 0.05
