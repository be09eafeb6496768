import numpy as np
import pytest

import nwb_sbtt as sb
from nwb_sbtt.data.schema import check_dataset
from tests.support.processes import rows_of


@pytest.fixture
def adaptation(script):
    return script("adaptation")


@pytest.mark.slow
def test_few_full_trials_help_and_every_way_is_in_table_and_figure(tmp_path):
    found = {row["trained"]: row["R2"] for row in rows_of(tmp_path, "adaptation.py", "--small")}
    assert list(found) == ["few", "sparse", "mixed", "adapted, none frozen", "adapted, decoder frozen"]
    assert found["mixed"] > found["sparse"]
    assert found["adapted, none frozen"] > found["few"]


def test_a_mixture_has_some_trials_in_full_and_the_others_as_they_were_limited(adaptation):
    whole = sb.simulate.lorenz(conditions=2, trials_per_condition=10, n_channels=8)
    sparse = sb.data.limit_bandwidth(whole, sb.config.BandwidthConfig(k=3))
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
