"""The kicked oscillation: its equation, its kicks, and that no trial is like another."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.perturbation import KickedOscillation, perturbation

SMALL = {"conditions": 6, "trials_per_condition": 5, "n_channels": 4}


def as_complex(course):
    return course[..., 0] + 1j * course[..., 1]


def test_sizes_labels_and_counts_are_those_of_a_recording() -> None:
    ds = check_dataset(perturbation(conditions=20, trials_per_condition=20))
    assert dict(ds.sizes) == {"trial": 400, "time": 50, "channel": 29, "latent": 2, "true_input": 2}
    assert (ds["split"].values == "valid").sum() == 80
    expected = ds["true_rates"].values * 0.02
    error = ds["values"].values - expected
    assert abs(error.sum()) < 4 * np.sqrt(expected.sum())
    assert np.log(expected).std((0, 1)).mean() == pytest.approx(1.35, rel=0.1)


def test_the_state_follows_its_equation() -> None:
    dynamics = KickedOscillation(strength=2.0)
    ds = perturbation(**SMALL, dynamics=dynamics)
    moved = ds["true_inputs"].values.sum(1) * 0.02
    for trial in (0, 7):
        middle = float(ds["kick_time"][trial] - ds["trial_start"][trial])
        kick = as_complex(moved[trial].astype(float))

        def velocity(moment: float, z: np.ndarray, middle: float = middle, kick: complex = kick) -> np.ndarray:
            phase = (moment - middle) / dynamics.pulse
            push = np.cos(np.pi * phase) * np.pi / 2 / dynamics.pulse if abs(phase) < 0.5 else 0.0
            free = 2j * np.pi * dynamics.frequency * z + (1 - abs(z) ** 2) * z / 2 / dynamics.relaxation
            return np.asarray(free + kick * push)

        course = as_complex(ds["true_latents"].values[trial].astype(float))
        moments = ds["time"].values
        solved = solve_ivp(velocity, (moments[0], moments[-1]), course[:1], t_eval=moments, rtol=1e-8, max_step=1e-3)
        np.testing.assert_allclose(solved.y[0], course, atol=3e-3)


def test_a_kick_comes_once_when_the_trial_says() -> None:
    ds = perturbation(**SMALL)
    size = np.hypot(*np.moveaxis(ds["true_inputs"].values, -1, 0))
    share = size / size.sum(1, keepdims=True)
    middle = (share * ds["time"].values).sum(1)
    assert middle == pytest.approx(ds["kick_time"].values - ds["trial_start"].values, abs=2e-3)
    assert (size.sum(1) * 0.02 + 1e-6 >= 0.5).all() and (size.sum(1) * 0.02 <= 1.5 + 1e-6).all()
    assert (size > 0).sum(1).max() <= 4


def test_trials_of_a_condition_agree_until_the_first_kick_and_not_after() -> None:
    ds = perturbation(**SMALL)
    for _, same in ds.groupby("condition"):
        kicked = same["kick_time"].values - same["trial_start"].values - 0.03
        before = ds["time"].values < kicked.min()
        course = same["true_latents"].values
        np.testing.assert_allclose(course[:, before], course[:1, before].repeat(5, 0), atol=1e-6)
        assert np.ptp(course[:, -1], axis=0).max() > 0.1


def test_without_strength_nothing_but_the_phase_counts() -> None:
    ds = perturbation(**SMALL, dynamics=KickedOscillation(strength=0, split_by="condition"))
    course = as_complex(ds["true_latents"].values)
    np.testing.assert_allclose(np.abs(course), 1, atol=1e-6)
    np.testing.assert_allclose(np.angle(course[:, 1:] / course[:, :-1]), 2 * np.pi * 1.5 * 0.02, atol=1e-5)
    parts = [set(ds["condition"].values[ds["split"].values == part].tolist()) for part in ("train", "valid")]
    assert not parts[0] & parts[1]


def test_impossible_dynamics_are_refused() -> None:
    for wrong in ({"pulse": 0}, {"frequency": -1}, {"relaxation": np.nan}, {"strength": -1}, {"split_by": "neuron"}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            KickedOscillation(**wrong)
    with pytest.raises(DataError, match="n_bins is 1"):
        perturbation(n_bins=1)
