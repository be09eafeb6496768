from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from nwb_sbtt.evaluate.baselines import Evidence, mean_rate
from nwb_sbtt.evaluate.components import components
from nwb_sbtt.evaluate.emissions import GaussianReadout, PoissonReadout, Seen
from nwb_sbtt.evaluate.kalman import Course, Dynamics, learned_dynamics, smooth
from nwb_sbtt.evaluate.statespace import (
    LEARNED_BINS,
    _decay,
    _initial,
    _oscillators,
    _posterior,
    _unknown,
    factor_analysis,
    linear_dynamics,
)
from tests.support.dynamics import joint


def turning(*, counts: bool, shape: tuple[int, int, int] = (60, 40, 16), seed: int = 0) -> tuple[Evidence, np.ndarray]:
    """Channels that read a plane turning at one speed, from a random phase in each trial; also without noise."""
    rng = np.random.default_rng(seed)
    angle = 0.3 * np.arange(shape[1]) + rng.uniform(0, 2 * np.pi, (shape[0], 1))
    state = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    clean = state @ rng.normal(size=(2, shape[2]))
    clean = 0.5 * np.exp(clean) if counts else clean
    values = rng.poisson(clean).astype(float) if counts else clean + rng.normal(size=shape)
    return Evidence(values, rng.random(shape) < 0.5, np.arange(shape[0]) < shape[0] * 3 // 4, counts), clean


def explained(evidence: Evidence, clean: np.ndarray, estimate: np.ndarray) -> float:
    valid = ~evidence.train
    error, total = clean[valid] - estimate[valid], clean[valid] - clean[valid].mean((0, 1))
    return float(1 - (error**2).sum() / (total**2).sum())


@pytest.mark.parametrize("counts", [True, False])
def test_what_turns_is_followed_by_a_linear_dynamical_system(counts: bool) -> None:
    evidence, clean = turning(counts=counts)
    moving, still = linear_dynamics(evidence), factor_analysis(evidence)
    assert explained(evidence, clean, moving.expected) > 0.9
    assert explained(evidence, clean, moving.expected) > explained(evidence, clean, still.expected) + 0.1
    assert explained(evidence, clean, still.expected) > 0.4
    assert moving.how.startswith("state of ") and still.how.startswith(("2 factors", "3 factors"))


def test_the_posterior_of_gaussian_data_is_exact_after_one_pass() -> None:
    evidence, _ = turning(counts=False, shape=(8, 20, 6))
    model = _initial(evidence, components(evidence), 2, moving=True)
    seen = model.readable(evidence)
    once = _posterior(model, seen, _unknown(model, seen), passes=1)
    again = _posterior(model, seen, once, passes=1)
    np.testing.assert_array_equal(once.mean, again.mean)


def test_the_posterior_of_counts_is_where_the_variational_bound_is_highest() -> None:
    rng = np.random.default_rng(0)
    loadings, offset = rng.normal(size=(12, 2)) * 0.7, np.full(12, -0.5)
    dynamics = Dynamics(np.zeros((2, 2)), np.eye(2), np.zeros(2), np.array([[1.0, 0.3], [0.3, 0.8]]))
    seen = Seen(rng.poisson(0.8, (1, 1, 12)).astype(float), rng.uniform(0.3, 1, (1, 1, 12)))
    readout = PoissonReadout(loadings, offset, (0.5, 1.0))
    course = Course(np.zeros((1, 1, 2)), np.zeros((1, 1, 2, 2)), np.zeros((1, 0, 2, 2)))
    for _ in range(60):
        course = smooth(dynamics, *readout.information(seen, course))

    def negative_bound(x: np.ndarray) -> float:
        mean, root = x[:2], np.array([[np.exp(x[2]), 0], [x[3], np.exp(x[4])]])
        covariance = root @ root.T
        log = loadings @ mean + offset
        expected = seen.weights[0, 0] * np.exp(log + np.einsum("ci,ij,cj->c", loadings, covariance, loadings) / 2)
        inverse = np.linalg.inv(dynamics.start_noise)
        prior = mean @ inverse @ mean + np.trace(inverse @ covariance) - np.linalg.slogdet(covariance)[1]
        return float((expected - seen.values[0, 0] * log).sum() + prior / 2)

    best = minimize(negative_bound, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    root = np.array([[np.exp(best[2]), 0], [best[3], np.exp(best[4])]])
    np.testing.assert_allclose(course.mean[0, 0], best[:2], atol=1e-4)
    np.testing.assert_allclose(course.covariance[0, 0], root @ root.T, atol=1e-4)


def test_learning_from_gaussian_data_never_lowers_their_likelihood() -> None:
    evidence, _ = turning(counts=False, shape=(20, 10, 5))
    model = _initial(evidence, components(evidence), 1, moving=True)
    seen = model.readable(evidence)
    at = seen.weights.reshape(20, -1) > 0
    readout = GaussianReadout(model.readout.loadings, np.zeros(5), np.ones(5))
    dynamics, found = model.dynamics, []
    for _ in range(12):
        found.append(_log_posterior(dynamics, readout, seen.values.reshape(20, -1), at))
        course = smooth(dynamics, *readout.information(seen, _unknown(model, seen)))
        readout, dynamics = readout.learned(seen, course), learned_dynamics(course)
    # The priors of noise and offset, and the least noise, may cost a trifle.
    assert np.diff(found).min() > -0.05 and found[-1] > found[0] + 5


def _log_posterior(dynamics: Dynamics, readout: GaussianReadout, values: np.ndarray, at: np.ndarray) -> float:
    """Log-likelihood of all trials as one large Gaussian each, and the prior of the loadings."""
    n_bins = values.shape[1] // len(readout.offset)
    mean, whole = joint(dynamics, n_bins)
    reads = np.kron(np.eye(n_bins), readout.loadings)
    center = reads @ mean + np.tile(readout.offset, n_bins)
    spread = reads @ whole @ reads.T + np.diag(np.tile(readout.noise, n_bins))
    total = -float((readout.loadings**2).sum()) / 2
    for row, seen in zip(values, at, strict=True):
        left, part = row[seen] - center[seen], spread[np.ix_(seen, seen)]
        total -= float(left @ np.linalg.solve(part, left) + np.linalg.slogdet(2 * np.pi * part)[1]) / 2
    return total


def test_a_course_starts_with_variance_one_and_the_correlation_that_was_measured() -> None:
    dynamics = _oscillators([0.8, 0.3])
    stationary = dynamics.start_noise
    after = dynamics.transition @ stationary @ dynamics.transition.T + dynamics.noise
    np.testing.assert_allclose(after, stationary, atol=2e-3)
    np.testing.assert_allclose(np.diag(stationary), 1, atol=2e-3)
    lag = np.abs(np.arange(30)[:, None] - np.arange(30))
    power = np.array([(np.linalg.matrix_power(dynamics.transition, k) @ stationary)[0, 0] for k in range(30)])
    assert _decay(power[lag]) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("baseline", [factor_analysis, linear_dynamics])
def test_noise_without_structure_is_left_at_its_mean(baseline: object) -> None:
    rng = np.random.default_rng(3)
    evidence = Evidence(
        rng.poisson(0.3, (40, 30, 8)).astype(float), rng.random((40, 30, 8)) < 0.5, np.arange(40) < 30, True
    )
    mean = mean_rate(evidence).expected
    estimate = baseline(evidence).expected  # type: ignore[operator]
    assert np.abs(estimate / mean - 1).mean() < 0.15


@pytest.mark.parametrize("baseline", [factor_analysis, linear_dynamics])
def test_a_burst_beyond_anything_learned_gives_finite_positive_rates(baseline: object) -> None:
    evidence, _ = turning(counts=True)
    values = evidence.values.copy()
    values[-1] = 500
    estimate = baseline(replace(evidence, values=values)).expected  # type: ignore[operator]
    assert np.isfinite(estimate).all() and (estimate > 0).all()


def test_learning_from_a_part_of_the_trials_is_said() -> None:
    n_trials = LEARNED_BINS // 40 * 2
    evidence, _ = turning(counts=True, shape=(n_trials, 40, 3))
    share = round(100 * LEARNED_BINS / (40 * n_trials * 0.75))
    assert f"learned from {share}% of the training entries" in linear_dynamics(evidence).how


def test_a_long_trial_is_estimated_in_windows_without_seams() -> None:
    evidence, clean = turning(counts=False, shape=(4, 700, 12))
    assert explained(evidence, clean, linear_dynamics(evidence).expected) > 0.9
