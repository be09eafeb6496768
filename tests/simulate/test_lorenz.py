from collections import Counter

import numpy as np
import pytest
import xarray as xr

from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz


def test_the_demo_task_has_its_published_size_split_and_difficulty() -> None:
    ds = check_dataset(lorenz())
    assert dict(ds.sizes) == {"trial": 1560, "time": 50, "channel": 29, "latent": 3}
    assert Counter(ds["split"].values.tolist()) == {"train": 1248, "valid": 312}
    per_condition = Counter(ds["condition"].values[ds["split"].values == "valid"].tolist())
    assert len(per_condition) == 65 and set(per_condition.values()) == {4, 5}
    expected = ds["true_rates"].values * 0.02
    assert 0.19 < expected.mean() < 0.28
    low, middle, high = np.quantile(expected, [0.01, 0.5, 0.99])
    assert 0.003 < low < 0.006 and 0.09 < middle < 0.11 and 1.5 < high < 2.6
    spread = np.log(expected).std((0, 1))
    assert spread.min() >= 1.35 * 0.75 - 0.01 and spread.max() <= 1.35 * 1.25 + 0.01


def test_one_seed_has_the_numbers_of_the_data_set_that_peers_were_measured_on() -> None:
    # Over seeds the mean goes from .22 to .30 counts a bin; theirs, .219, lies at the lower end.
    expected = lorenz(seed=20)["true_rates"].values * 0.02
    assert expected.mean() == pytest.approx(0.219, abs=0.002)
    assert np.quantile(expected, [0.01, 0.5, 0.99, 0.999]) == pytest.approx([0.004, 0.106, 1.6, 4.2], rel=0.05)
    assert (expected - expected * np.log(expected)).mean() == pytest.approx(0.393, abs=0.004)


def test_counts_are_poisson_about_the_true_rates() -> None:
    ds = lorenz(conditions=5, trials_per_condition=200)
    expected = ds["true_rates"].values * 0.02
    error = ds["values"].values - expected
    assert abs(error.sum()) < 4 * np.sqrt(expected.sum())
    assert (error**2).sum() / expected.sum() == pytest.approx(1, abs=0.02)


def test_trials_of_a_condition_share_their_course_and_nothing_else() -> None:
    ds = lorenz(conditions=4, trials_per_condition=3)
    for _, same in ds.groupby("condition"):
        assert (same["true_rates"].values == same["true_rates"].values[0]).all()
        assert (same["values"].values[0] != same["values"].values[1]).any()
    first = ds["true_rates"].values[np.unique(ds["condition"].values, return_index=True)[1]]
    assert len(np.unique(first[:, 0, 0])) == 4


def test_latents_follow_the_lorenz_equations() -> None:
    course = lorenz(conditions=3, trials_per_condition=1, n_bins=600, dynamics=LorenzDynamics(speed=0.005))
    latents = course["true_latents"].values.astype(float)
    assert latents.mean((0, 1)) == pytest.approx(0, abs=1e-5)
    assert latents.std((0, 1)) == pytest.approx(1, abs=1e-5)
    # In units of their own spread, dx/dt = 10 (y − x) says: the velocity of x is a linear function of x and y alone.
    velocity = np.diff(latents, axis=1) / 0.005
    middle = (latents[:, 1:] + latents[:, :-1]) / 2
    inputs = np.column_stack([middle.reshape(-1, 3), np.ones(middle[..., 0].size)])
    weights, *_ = np.linalg.lstsq(inputs, velocity[..., 0].ravel(), rcond=None)
    assert weights[0] == pytest.approx(-10, abs=0.05)
    assert weights[2] == pytest.approx(0, abs=0.05)


def test_the_seed_decides() -> None:
    small = {"conditions": 3, "trials_per_condition": 2}
    xr.testing.assert_identical(lorenz(seed=4, **small), lorenz(seed=4, **small))
    assert (lorenz(seed=4, **small)["values"] != lorenz(seed=5, **small)["values"]).any()


def test_a_split_by_condition_keeps_validation_courses_new() -> None:
    ds = lorenz(conditions=10, trials_per_condition=4, dynamics=LorenzDynamics(split_by="condition"))
    parts = [set(ds["condition"].values[ds["split"].values == part].tolist()) for part in ("train", "valid")]
    assert not parts[0] & parts[1]
    assert len(parts[1]) == 2


def test_the_mean_rate_is_what_was_asked_for() -> None:
    ds = lorenz(conditions=5, trials_per_condition=5, dynamics=LorenzDynamics(mean_rate=3.0))
    assert ds["true_rates"].values.mean() == pytest.approx(3.0, rel=1e-5)


def test_trials_lie_apart_and_their_cue_on_a_bin_edge() -> None:
    ds = lorenz(conditions=2, trials_per_condition=10, bin_width=0.01)
    starts = ds["trial_start"].values
    assert (np.diff(starts) > 0.5 + 0.29).all()
    bins = (ds["go_time"].values - starts) / 0.01
    assert bins == pytest.approx(np.round(bins), abs=1e-6)
    assert (np.round(bins) > 0).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"n_channels": 0}, "n_channels is 0"),
        ({"n_bins": 1}, "n_bins is 1"),
        ({"conditions": 0}, "conditions is 0"),
        ({"bin_width": float("nan")}, "bin_width is nan"),
    ],
)
def test_impossible_sizes_are_refused(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(DataError, match=named):
        lorenz(**wrong)


def test_impossible_dynamics_are_refused() -> None:
    with pytest.raises(DataError, match="speed is -1"):
        LorenzDynamics(speed=-1)
    with pytest.raises(DataError, match="split_by"):
        LorenzDynamics(split_by="neuron")  # type: ignore[arg-type]
