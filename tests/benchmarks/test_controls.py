from itertools import pairwise

import numpy as np
import pytest

import nwb_sbtt as sb
from nwb_sbtt.data.schema import check_dataset
from tests.support.processes import rows_of


@pytest.fixture
def controls(script):
    return script("controls")


@pytest.fixture
def limited():
    whole = sb.simulate.lorenz(conditions=2, trials_per_condition=5, n_channels=8, n_bins=20)
    return sb.data.limit_bandwidth(whole, sb.config.BandwidthConfig(k=2))


@pytest.mark.slow
def test_budgets_are_equal_and_zeros_are_the_mistake_that_they_are(tmp_path):
    rows = {(row["scheme"], row["treatment"]): row for row in rows_of(tmp_path, "controls.py", "--small")}
    assert list(rows) == [("none", "SBTT"), ("speckled", "SBTT"), ("speckled", "zeros"), ("fixed", "SBTT")]
    for (scheme, _), row in rows.items():
        assert row["sampled of 29"] == (29 if scheme == "none" else pytest.approx(5))
        assert row["samples dropped"] == pytest.approx(1 - row["sampled of 29"] / 29)
        # Of the spike band's 27.5 µW a channel, 3.8 are the converter's.
        assert row["saved by conversions"] == pytest.approx(row["samples dropped"] * 3.8 / 27.5)
        switched = row["saved by amplifiers"]
        assert row["samples dropped"] + 1e-9 >= switched >= row["saved by conversions"] - 1e-9
        assert (switched == pytest.approx(row["samples dropped"])) == (scheme in ("none", "fixed"))
    assert rows["speckled", "SBTT"]["R2"] > rows["speckled", "zeros"]["R2"]
    # Of 24 neurons that are never seen, the mean is all that is known.
    assert rows["fixed", "SBTT"]["R2"] == pytest.approx(rows["fixed", "SBTT"]["R2 sampled"] * 5 / 29, abs=0.02)


def test_zeros_are_taken_for_measured_and_nothing_else_changes(controls, limited):
    zeros = check_dataset(controls.as_zeros(limited))
    assert zeros["observed"].values.all()
    np.testing.assert_array_equal(zeros["values"], limited["values"])


def test_interpolation_is_linear_between_samples_and_holds_the_ends(controls, limited):
    filled = check_dataset(controls.interpolated(limited))
    assert filled["observed"].values.all()
    there = limited["observed"].values
    np.testing.assert_array_equal(filled["values"].values[there], limited["values"].values[there])
    for trial in range(10):
        for channel in range(8):
            seen = np.flatnonzero(there[trial, :, channel])
            course = filled["values"].values[trial, :, channel]
            if len(seen) == 0:
                assert np.ptp(course) == 0
                continue
            assert (course[: seen[0]] == course[seen[0]]).all() and (course[seen[-1] :] == course[seen[-1]]).all()
            for left, right in pairwise(seen):
                np.testing.assert_allclose(np.diff(course[left : right + 1], 2), 0, atol=1e-5)


def test_neurons_that_are_never_sampled_get_their_mean_rate(controls):
    whole = sb.simulate.lorenz(conditions=2, trials_per_condition=5, n_channels=8)
    limited = sb.data.limit_bandwidth(whole, sb.config.BandwidthConfig(scheme="fixed", k=3))
    part = controls.sampled_part(limited)
    assert part.sizes["channel"] == 3 and part["observed"].values.all()
    everyone = controls.spread_out(part["true_rates"].values, limited, whole)
    sampled = np.isin(whole["channel_id"].values, part["channel_id"].values)
    np.testing.assert_array_equal(everyone[..., sampled], whole["true_rates"].values[..., sampled])
    training = whole["true_rates"].values[whole["split"].values == "train"]
    np.testing.assert_allclose(everyone[3, 7, ~sampled], training.mean((0, 1))[~sampled], rtol=1e-6)
