import numpy as np
import pytest

from nwb_sbtt.evaluate.baselines.kalman import Dynamics, SmoothedPosterior, States, m_step, smooth, smooth_to_lag
from tests.support.dynamics import joint

D = 3


def make_dynamics(seed: int = 0) -> Dynamics:
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
    rng, dynamics = np.random.default_rng(1), make_dynamics()
    loadings, noise = rng.normal(size=(5, D)), rng.uniform(0.2, 1, 5)
    values, observed = rng.normal(size=(4, n_bins, 5)), rng.random((4, n_bins, 5)) < 0.4
    observed[0] = False
    precision = np.einsum("ntc,ci,cj->ntij", observed / noise, loadings, loadings)
    posterior = smooth(dynamics, precision, (observed * values / noise) @ loadings)
    mean, covariance = joint(dynamics, n_bins)
    stacked = np.kron(np.eye(n_bins), loadings)
    for trial in range(4):
        mask = observed[trial].ravel()
        C, r = stacked[mask], np.tile(noise, n_bins)[mask]
        gain = covariance @ C.T @ np.linalg.inv(C @ covariance @ C.T + np.diag(r))
        posterior_mean = mean + gain @ (values[trial].ravel()[mask] - C @ mean)
        remaining = (covariance - gain @ C @ covariance).reshape(n_bins, D, n_bins, D)
        np.testing.assert_allclose(posterior.mean[trial].ravel(), posterior_mean, atol=1e-8)
        for t in range(n_bins):
            np.testing.assert_allclose(posterior.covariance[trial, t], remaining[t, :, t], atol=1e-8)
            if t:
                np.testing.assert_allclose(posterior.lagged_covariance[trial, t - 1], remaining[t - 1, :, t], atol=1e-8)


def observed_through_noise(n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and information of samples of five channels, of which many are missing."""
    rng = np.random.default_rng(1)
    loadings, noise = rng.normal(size=(5, D)), rng.uniform(0.2, 1, 5)
    values, observed = rng.normal(size=(4, n_bins, 5)), rng.random((4, n_bins, 5)) < 0.4
    precision = np.einsum("ntc,ci,cj->ntij", observed / noise, loadings, loadings)
    return precision, (observed * values / noise) @ loadings


def infer_to_lag(dynamics: Dynamics, precision: np.ndarray, information: np.ndarray, lag: int) -> States:
    def update(t: int, prior: States) -> States:
        inverse = np.linalg.inv(prior.covariance[:, 0])
        covariance = np.linalg.inv(inverse + precision[:, t])
        mean = covariance @ (inverse @ prior.mean[:, 0, :, None] + information[:, t, :, None])
        return States(mean[:, None, :, 0], covariance[:, None])

    return smooth_to_lag(dynamics, precision.shape[:2], update, lag=lag)


@pytest.mark.parametrize("lag", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("n_bins", [1, 2, 11])
def test_a_fixed_lag_equals_a_smoother_of_the_trial_up_to_there(n_bins: int, lag: int) -> None:
    dynamics, (precision, information) = make_dynamics(), observed_through_noise(n_bins)
    states = infer_to_lag(dynamics, precision, information, lag)
    for t in range(n_bins):
        cut = smooth(dynamics, precision[:, : t + lag + 1], information[:, : t + lag + 1])
        np.testing.assert_allclose(states.mean[:, t], cut.mean[:, t], atol=1e-9)
        np.testing.assert_allclose(states.covariance[:, t], cut.covariance[:, t], atol=1e-9)


@pytest.mark.parametrize("lag", [10, 11, 500])
def test_a_lag_of_the_whole_trial_equals_the_smoother(lag: int) -> None:
    dynamics, observations = make_dynamics(), observed_through_noise(11)
    lagged, whole = infer_to_lag(dynamics, *observations, lag), smooth(dynamics, *observations)
    np.testing.assert_allclose(lagged.mean, whole.mean, atol=1e-9)
    np.testing.assert_allclose(lagged.covariance, whole.covariance, atol=1e-9)


def test_the_m_step_recovers_the_dynamics_of_known_states() -> None:
    rng, dynamics = np.random.default_rng(2), make_dynamics()
    states = np.empty((4000, 12, D))
    states[:, 0] = rng.multivariate_normal(dynamics.initial_mean, dynamics.initial_covariance, 4000)
    for t in range(1, 12):
        pushed = rng.multivariate_normal(np.zeros(D), dynamics.noise_covariance, 4000)
        states[:, t] = states[:, t - 1] @ dynamics.transition.T + pushed
    zeros = np.zeros((4000, 12, D, D))
    estimated = m_step(SmoothedPosterior(states, zeros, zeros[:, 1:]))
    for name in ("transition", "noise_covariance", "initial_mean", "initial_covariance"):
        np.testing.assert_allclose(getattr(estimated, name), getattr(dynamics, name), rtol=0.08, atol=0.12)
