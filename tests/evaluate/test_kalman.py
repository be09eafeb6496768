import numpy as np
import pytest

from nwb_sbtt.evaluate.kalman import Course, Dynamics, learned_dynamics, smooth
from tests.support.dynamics import joint

D = 3


def made(seed: int = 0) -> Dynamics:
    rng = np.random.default_rng(seed)
    root, start = rng.normal(size=(D, D)), rng.normal(size=(D, D))
    return Dynamics(
        0.8 * np.linalg.qr(rng.normal(size=(D, D)))[0],
        root @ root.T / 4 + 0.1 * np.eye(D),
        rng.normal(size=D),
        start @ start.T + np.eye(D),
    )


@pytest.mark.parametrize("n_bins", [1, 2, 7])
def test_the_smoother_equals_conditioning_one_large_gaussian_on_the_observed_channels(n_bins: int) -> None:
    rng, dynamics = np.random.default_rng(1), made()
    loadings, noise = rng.normal(size=(5, D)), rng.uniform(0.2, 1, 5)
    values, seen = rng.normal(size=(4, n_bins, 5)), rng.random((4, n_bins, 5)) < 0.4
    seen[0] = False
    precision = np.einsum("ntc,ci,cj->ntij", seen / noise, loadings, loadings)
    course = smooth(dynamics, precision, (seen * values / noise) @ loadings)
    mean, covariance = joint(dynamics, n_bins)
    reads = np.kron(np.eye(n_bins), loadings)
    for trial in range(4):
        at = seen[trial].ravel()
        C, r = reads[at], np.tile(noise, n_bins)[at]
        gain = covariance @ C.T @ np.linalg.inv(C @ covariance @ C.T + np.diag(r))
        after = mean + gain @ (values[trial].ravel()[at] - C @ mean)
        left = (covariance - gain @ C @ covariance).reshape(n_bins, D, n_bins, D)
        np.testing.assert_allclose(course.mean[trial].ravel(), after, atol=1e-8)
        for t in range(n_bins):
            np.testing.assert_allclose(course.covariance[trial, t], left[t, :, t], atol=1e-8)
            if t:
                np.testing.assert_allclose(course.lagged[trial, t - 1], left[t - 1, :, t], atol=1e-8)


def test_dynamics_are_learned_back_from_states_that_are_known() -> None:
    rng, dynamics = np.random.default_rng(2), made()
    states = np.empty((4000, 12, D))
    states[:, 0] = rng.multivariate_normal(dynamics.start, dynamics.start_noise, 4000)
    for t in range(1, 12):
        pushed = rng.multivariate_normal(np.zeros(D), dynamics.noise, 4000)
        states[:, t] = states[:, t - 1] @ dynamics.transition.T + pushed
    zeros = np.zeros((4000, 12, D, D))
    found = learned_dynamics(Course(states, zeros, zeros[:, 1:]))
    for name in ("transition", "noise", "start", "start_noise"):
        np.testing.assert_allclose(getattr(found, name), getattr(dynamics, name), rtol=0.08, atol=0.12)
