"""R² against power: accuracies are read and averaged, and fewer samples need less power."""

import json

import pytest

import nwb_sbtt as sb
from tests.support.processes import BENCHMARKS, rows_of
from tests.support.processes import script as run_script


@pytest.fixture
def accuracy(tmp_path):
    file = tmp_path / "accuracy.json"
    rows = [{"observed of 29": k, "seed": seed, "R2": k / 30 + seed / 100} for seed in (0, 1) for k in (29, 10)]
    file.write_text(json.dumps({"rows": rows}))
    return file


def test_accuracies_are_means_over_seeds(script, accuracy):
    assert script("power").accuracies(accuracy) == pytest.approx({29: 29 / 30 + 0.005, 10: 10 / 30 + 0.005})


def test_columns_are_those_of_the_device_per_channel(script):
    ds = sb.data.limit_bandwidth(sb.simulate.lorenz(conditions=2, n_channels=8), sb.config.BandwidthConfig(k=2))
    columns = script("power").power_columns(ds, sb.data.published_devices()["karpowicz_2024"], [0.0, 10.0])
    assert list(columns) == ["full", "conversions", "radio", "settling 0 ms", "settling 10000 ms"]
    assert columns["radio"] == ""
    assert columns["full"] == pytest.approx(27.5) and columns["conversions"] == pytest.approx(23.7 + 3.8 / 4)
    assert columns["settling 0 ms"] == pytest.approx(27.5 / 4)
    assert columns["settling 10000 ms"] == pytest.approx(columns["conversions"])


@pytest.mark.slow
def test_r2_of_a_table_is_set_against_power(tmp_path, accuracy):
    rows = rows_of(tmp_path, "power.py", "--small", "--accuracy", accuracy)
    assert [(row["sampled of 29"], row["R2"]) for row in rows[::2]] == [
        (29, pytest.approx(29 / 30 + 0.005)),
        (10, pytest.approx(10 / 30 + 0.005)),
    ]
    for whole, limited in zip(rows[:2], rows[2:], strict=True):
        assert whole["device"] == limited["device"] and whole["full"] == limited["full"]
        assert limited["settling 1.5 ms"] < limited["settling 20 ms"] < limited["conversions"] < limited["full"]


@pytest.mark.slow
def test_a_level_without_an_accuracy_is_refused(tmp_path, accuracy):
    accuracy.write_text(json.dumps({"rows": json.loads(accuracy.read_text())["rows"][:1]}))
    ended = run_script(BENCHMARKS / "power.py", "--small", "--accuracy", accuracy)
    assert ended.code == 2 and "has no R² at [10] of 29; available: [29]" in ended.err


@pytest.mark.slow
def test_without_a_table_models_are_fitted(tmp_path):
    rows = rows_of(tmp_path, "power.py", "--small", "--devices", "neuralink_2019")
    assert [row["sampled of 29"] for row in rows] == [29, 10]
    assert all(row["R2"] > 0.1 and row["conversions"] == "" for row in rows)
