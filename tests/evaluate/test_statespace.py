from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from nwb_sbtt.evaluate.baselines import MaskedData
from nwb_sbtt.evaluate.baselines.components import measure_components
from nwb_sbtt.evaluate.baselines.emissions import GaussianEmissions, Observations, PoissonEmissions
from nwb_sbtt.evaluate.baselines.kalman import Dynamics, SmoothedPosterior, m_step, smooth
from nwb_sbtt.evaluate.baselines.smoothing import mean_rate
from nwb_sbtt.evaluate.baselines.statespace import (
    TRAINING_BINS,
    _critically_damped,
    _fit_decay,
    _infer,
    _initial_model,
    _zero_posterior,
    factor_analysis,
    linear_dynamics,
)
from tests.support.dynamics import joint, rotation


def explained(data: MaskedData, clean: np.ndarray, estimate: np.ndarray) -> float:
    valid = ~data.train
    error, total = clean[valid] - estimate[valid], clean[valid] - clean[valid].mean((0, 1))
    return float(1 - (error**2).sum() / (total**2).sum())


@pytest.mark.parametrize("counts", [True, False])
def test_a_linear_dynamical_system_follows_a_rotation(counts: bool) -> None:
    data, clean = rotation(counts=counts)
    dynamic, static = linear_dynamics(data), factor_analysis(data)
    assert explained(data, clean, dynamic.expected) > 0.9
    assert explained(data, clean, dynamic.expected) > explained(data, clean, static.expected) + 0.1
    assert explained(data, clean, static.expected) > 0.4
    assert dynamic.description.startswith("state of ") and static.description.startswith(("2 factors", "3 factors"))


@pytest.mark.parametrize("counts", [True, False])
def test_the_more_of_a_trial_may_be_seen_the_better_it_is_estimated(counts: bool) -> None:
    data, clean = rotation(counts=counts)
    scores = [explained(data, clean, linear_dynamics(replace(data, lag=lag)).expected) for lag in (0, 3, None)]
    assert scores == sorted(scores) and scores[1] > scores[0] + 0.005
    assert scores[0] > explained(data, clean, factor_analysis(data).expected) + 0.05


def test_the_posterior_of_gaussian_data_is_exact_after_one_pass() -> None:
    data, _ = rotation(counts=False, shape=(8, 20, 6))
    model = _initial_model(data, measure_components(data), 2, dynamic=True)
    observations = model.predictors(data)
    once = _infer(model, observations, _zero_posterior(model, observations), steps=1)
    again = _infer(model, observations, once, steps=1)
    np.testing.assert_array_equal(once.mean, again.mean)


def test_the_posterior_of_counts_is_where_the_variational_bound_is_highest() -> None:
    rng = np.random.default_rng(0)
    loadings, offset = rng.normal(size=(12, 2)) * 0.7, np.full(12, -0.5)
    dynamics = Dynamics(np.zeros((2, 2)), np.eye(2), np.zeros(2), np.array([[1.0, 0.3], [0.3, 0.8]]))
    observations = Observations(rng.poisson(0.8, (1, 1, 12)).astype(float), rng.uniform(0.3, 1, (1, 1, 12)))
    emissions = PoissonEmissions(loadings, offset, (0.5, 1.0))
    posterior = SmoothedPosterior(np.zeros((1, 1, 2)), np.zeros((1, 1, 2, 2)), np.zeros((1, 0, 2, 2)))
    for _ in range(60):
        posterior = smooth(dynamics, *emissions.natural_parameters(observations, posterior))

    def negative_bound(x: np.ndarray) -> float:
        mean, root = x[:2], np.array([[np.exp(x[2]), 0], [x[3], np.exp(x[4])]])
        covariance = root @ root.T
        log = loadings @ mean + offset
        expected = observations.weights[0, 0] * np.exp(
            log + np.einsum("ci,ij,cj->c", loadings, covariance, loadings) / 2
        )
        inverse = np.linalg.inv(dynamics.initial_covariance)
        prior = mean @ inverse @ mean + np.trace(inverse @ covariance) - np.linalg.slogdet(covariance)[1]
        return float((expected - observations.values[0, 0] * log).sum() + prior / 2)

    best = minimize(negative_bound, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    root = np.array([[np.exp(best[2]), 0], [best[3], np.exp(best[4])]])
    np.testing.assert_allclose(posterior.mean[0, 0], best[:2], atol=1e-4)
    np.testing.assert_allclose(posterior.covariance[0, 0], root @ root.T, atol=1e-4)


def test_em_on_gaussian_data_never_lowers_their_likelihood() -> None:
    data, _ = rotation(counts=False, shape=(20, 10, 5))
    model = _initial_model(data, measure_components(data), 1, dynamic=True)
    observations = model.predictors(data)
    observed = observations.weights.reshape(20, -1) > 0
    emissions = GaussianEmissions(model.emissions.loadings, np.zeros(5), np.ones(5))
    dynamics, history = model.dynamics, []
    for _ in range(12):
        history.append(_log_posterior(dynamics, emissions, observations.values.reshape(20, -1), observed))
        posterior = smooth(dynamics, *emissions.natural_parameters(observations, _zero_posterior(model, observations)))
        emissions, dynamics = emissions.m_step(observations, posterior), m_step(posterior)
    # The priors of noise and offset, and the least noise, may cost a trifle.
    assert np.diff(history).min() > -0.05 and history[-1] > history[0] + 5


def _log_posterior(dynamics: Dynamics, emissions: GaussianEmissions, values: np.ndarray, observed: np.ndarray) -> float:
    """Log-likelihood of all trials as one large Gaussian each, and the prior of the loadings."""
    n_bins = values.shape[1] // len(emissions.offset)
    mean, whole = joint(dynamics, n_bins)
    loadings = np.kron(np.eye(n_bins), emissions.loadings)
    center = loadings @ mean + np.tile(emissions.offset, n_bins)
    covariance = loadings @ whole @ loadings.T + np.diag(np.tile(emissions.noise_variance, n_bins))
    total = -float((emissions.loadings**2).sum()) / 2
    for row, mask in zip(values, observed, strict=True):
        residual, part = row[mask] - center[mask], covariance[np.ix_(mask, mask)]
        total -= float(residual @ np.linalg.solve(part, residual) + np.linalg.slogdet(2 * np.pi * part)[1]) / 2
    return total


def test_the_initial_process_has_variance_one_and_the_measured_autocorrelation() -> None:
    dynamics = _critically_damped([0.8, 0.3])
    stationary = dynamics.initial_covariance
    after = dynamics.transition @ stationary @ dynamics.transition.T + dynamics.noise_covariance
    np.testing.assert_allclose(after, stationary, atol=2e-3)
    np.testing.assert_allclose(np.diag(stationary), 1, atol=2e-3)
    lag = np.abs(np.arange(30)[:, None] - np.arange(30))
    power = np.array([(np.linalg.matrix_power(dynamics.transition, k) @ stationary)[0, 0] for k in range(30)])
    assert _fit_decay(power[lag]) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("baseline", [factor_analysis, linear_dynamics])
def test_noise_without_structure_is_left_at_its_mean(baseline: object) -> None:
    rng = np.random.default_rng(3)
    data = MaskedData(
        rng.poisson(0.3, (40, 30, 8)).astype(float), rng.random((40, 30, 8)) < 0.5, np.arange(40) < 30, True
    )
    mean = mean_rate(data).expected
    estimate = baseline(data).expected  # type: ignore[operator]
    assert np.abs(estimate / mean - 1).mean() < 0.15


@pytest.mark.parametrize("baseline", [factor_analysis, linear_dynamics])
def test_a_burst_beyond_anything_learned_gives_finite_positive_rates(baseline: object) -> None:
    data, _ = rotation(counts=True)
    values = data.values.copy()
    values[-1] = 500
    estimate = baseline(replace(data, values=values)).expected  # type: ignore[operator]
    assert np.isfinite(estimate).all() and (estimate > 0).all()


def test_a_fit_to_part_of_the_trials_is_described() -> None:
    n_trials = TRAINING_BINS // 40 * 2
    data, _ = rotation(counts=True, shape=(n_trials, 40, 3))
    share = round(100 * TRAINING_BINS / (40 * n_trials * 0.75))
    assert f"fitted to {share}% of the training entries" in linear_dynamics(data).description


def test_a_long_trial_is_estimated_in_windows_without_seams() -> None:
    data, clean = rotation(counts=False, shape=(4, 700, 12))
    assert explained(data, clean, linear_dynamics(data).expected) > 0.9
