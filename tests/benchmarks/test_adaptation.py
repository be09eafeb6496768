import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nwb_sbtt as sb
from nwb_sbtt.data.schema import check_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def adaptation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import adaptation

    return adaptation


def test_few_full_trials_help_and_every_way_is_in_table_and_figure(tmp_path):
    words = ["--small", "--json", tmp_path / "a.json", "--figure", tmp_path / "a.png"]
    subprocess.run([sys.executable, BENCHMARKS / "adaptation.py", *words], check=True, capture_output=True)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["machine"]["processor"]
    found = {row["trained"]: row["R2"] for row in content["rows"]}
    assert list(found) == ["few", "sparse", "mixed", "adapted, none frozen", "adapted, decoder frozen"]
    assert found["mixed"] > found["sparse"]
    assert found["adapted, none frozen"] > found["few"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_mixture_has_some_trials_in_full_and_the_others_as_they_were_limited(adaptation):
    whole = sb.lorenz(conditions=2, trials_per_condition=10, n_channels=8)
    sparse = sb.limit_bandwidth(whole, sb.BandwidthConfig(k=3))
    full = np.array([1, 4, 7])
    both = check_dataset(adaptation.mixture(whole, sparse, full))
    assert both.sizes == whole.sizes
    observed = both["observed"].sum("channel").values
    assert (observed[:3] == 8).all()
    assert (observed[3:] == 3).all()
    ordered = both.sortby("trial_start")
    expected = whole.sortby("trial_start")
    for name in ("true_rates", "condition", "split"):
        np.testing.assert_array_equal(ordered[name].values, expected[name].values)
    np.testing.assert_array_equal(ordered["values"], np.where(ordered["observed"], expected["values"], 0))
