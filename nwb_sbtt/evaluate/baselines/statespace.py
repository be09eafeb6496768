"""State-space models fitted by EM to masked data: factor analysis, and a linear dynamical system.

Both have a state of few dimensions and `emissions` of all channels: counts with log-linear Poisson rates, samples with Gaussian
noise. In a linear dynamical system the state moves linearly with noise and is inferred by Kalman smoothing (`kalman`); factor
analysis is the same model with independent bins. Entries that are not shown are left out of every sum, exactly: the E-step uses
the shown entries of held-in channels, the M-step those of all channels.

With a lag the training trials are still smoothed in full for EM; what predicts entries, hidden ones of the training trials and
those that are scored, is a Kalman filter, or a smoother up to the lag. The likelihood of counts is then expanded bin by bin,
where the filter stands: Newton's method on a whole trial would carry what comes later into every bin.

Written for this package because no library serves: scikit-learn's FactorAnalysis and elephant's GPFA take no missing values,
pykalman drops a whole bin where one channel is missing, it and statsmodels fit a single series, and dynamax has no masks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nwb_sbtt.evaluate.baselines.components import Components, measure_components
from nwb_sbtt.evaluate.baselines.emissions import Emissions, GaussianEmissions, Observations, PoissonEmissions
from nwb_sbtt.evaluate.baselines.kalman import (
    JITTER,
    Dynamics,
    Posterior,
    SmoothedPosterior,
    States,
    m_step,
    smooth,
    smooth_to_lag,
)
from nwb_sbtt.evaluate.baselines.protocol import Floats, MaskedData, Prediction
from nwb_sbtt.evaluate.baselines.smoothing import mean_rate
from nwb_sbtt.evaluate.baselines.tuning import TUNING_ENTRIES, apply_floor, tuning_task
from nwb_sbtt.evaluate.baselines.windows import merge_windows, to_windows

FACTOR_COUNTS = (1, 2, 3, 4, 6, 8, 12)
"""Numbers of factors to choose from, for factor analysis."""
OSCILLATOR_COUNTS = (1, 2, 3, 4, 6)
"""Numbers of components to choose from, for a linear dynamical system; each has two dimensions, so it can oscillate."""
FIRST_ITERATIONS = 12
"""Iterations of EM after which model sizes are compared."""
MORE_ITERATIONS, MAX_EXTENSIONS = 10, 5
"""Further iterations of the best size, and how often as many are added at most."""
SIZE_GAIN, ITERATION_GAIN = 0.005, 0.003
"""Gain on hidden entries, relative to the gain over the mean, for which a larger state, or more iterations, are taken."""
LAST_ITERATIONS = 10
"""Iterations on all training trials, with nothing hidden."""
TUNING_BINS, TRAINING_BINS = 15_000, 50_000
"""Bins of training trials for choosing settings, and for the final fit, at most: the smoother's cost."""
TRAINING_ENTRIES = 2_000_000
"""Entries of training trials for the final fit, at most: the emissions' cost."""
NEWTON_STEPS = 8
"""Newton steps on the posterior of counts, at most; for samples one is exact."""
TOLERANCE = 0.05
"""Change of any log rate below which Newton's method stops."""
MAX_LOG_STEP = 2.0
"""Largest change of a log rate in one Newton step."""
DECAYS = 1 - np.geomspace(0.015, 1, 30)
"""Decays per bin from which EM may start."""


def factor_analysis(data: MaskedData) -> Prediction:
    """Predict every entry from the shown entries of other channels in the same bin.

    The numbers of factors and of iterations of EM are those that best predict hidden entries of the training trials.

    Parameters
    ----------
    data : MaskedData

    Returns
    -------
    Prediction
    """
    return _fit_and_predict(data, FACTOR_COUNTS, dynamic=False)


def linear_dynamics(data: MaskedData) -> Prediction:
    """Predict every entry from all shown entries of its trial, by a linear dynamical system and its Kalman smoother.

    With a lag it is predicted from the shown entries up to there, by the Kalman filter or a smoother of that lag.

    The dimension of the state and the number of iterations of EM are those that best predict hidden entries of the training
    trials. Trials longer than 128 bins are smoothed in overlapping windows.

    Parameters
    ----------
    data : MaskedData

    Returns
    -------
    Prediction
    """
    return _fit_and_predict(data, OSCILLATOR_COUNTS, dynamic=True)


@dataclass(frozen=True)
class _StateSpaceModel:
    """Dynamics and emissions; samples are standardised: deviations from `mean` in units of `scale`."""

    dynamics: Dynamics
    emissions: Emissions
    mean: Floats
    scale: Floats
    is_counts: bool
    dynamic: bool

    @property
    def n_dimensions(self) -> int:
        """Dimensions of the state."""
        return int(self.emissions.loadings.shape[1])

    def predictors(self, data: MaskedData) -> Observations:
        """Entries from which states are inferred: those shown of held-in channels."""
        values = np.where(data.predictors, data.values.astype(np.float64), 0)
        return self._observations(values, np.where(data.predictors, data.weights, 0))

    def shown(self, data: MaskedData) -> Observations:
        """Entries from which emissions are estimated: all that are shown."""
        return self._observations(np.asarray(data.values, dtype=np.float64), data.weights)

    def expected(self, posterior: Posterior, data: MaskedData) -> Floats:
        """Expected values (trial, time, channel) of such data."""
        expected, shape = self.emissions.expected(posterior), data.shape[:2]
        merged = merge_windows(expected, shape, lag=data.lag) if self.dynamic else expected.reshape(*shape, -1)
        return merged if self.is_counts else self.mean + self.scale * merged

    def _observations(self, values: Floats, weights: Floats) -> Observations:
        scaled = values if self.is_counts else (values - self.mean * weights) / self.scale
        return Observations(self._to_windows(scaled), self._to_windows(weights))

    def _to_windows(self, array: Floats) -> Floats:
        """Windows of trials; every bin is one of its own in factor analysis."""
        return to_windows(array) if self.dynamic else array.reshape(-1, 1, array.shape[2])


def _fit_and_predict(data: MaskedData, sizes: tuple[int, ...], *, dynamic: bool) -> Prediction:
    label = "linear dynamical system" if dynamic else "factor analysis"
    model = _choose_model(data, sizes, dynamic=dynamic)
    if model is None:
        text = "no state, because no state predicted hidden entries better (chosen)"
        return Prediction(mean_rate(data).expected, text, label=label, lag=data.lag)
    training = data.training_sample(min(TRAINING_ENTRIES, TRAINING_BINS * data.shape[2]))
    _, model = _run_em(model, training, _zero_posterior(model, model.predictors(training)), iterations=LAST_ITERATIONS)
    d = model.n_dimensions
    kind = f"state of {d} dimensions" if dynamic else f"{d} factor{'s' * (d != 1)}"
    expected = data.predictions(lambda part: apply_floor(part, _predict(model, part)))
    never_shown = ~training.shown.any((0, 1))
    expected[:, :, never_shown] = data.channel_mean[never_shown]
    description = f"{kind} (chosen){_training_share(data, training)}"
    return Prediction(expected, description, label=label, lag=data.lag)


def _predict(model: _StateSpaceModel, data: MaskedData) -> Floats:
    """Expected values (trial, time, channel)."""
    observations = model.predictors(data)
    posterior: Posterior
    if data.lag is None:
        posterior = _infer(model, observations, _zero_posterior(model, observations), steps=NEWTON_STEPS)
    else:
        posterior = _infer_to_lag(model, observations, lag=data.lag)
    return model.expected(posterior, data)


def _choose_model(data: MaskedData, sizes: tuple[int, ...], *, dynamic: bool) -> _StateSpaceModel | None:
    """The size, and number of EM iterations, that best predict hidden entries of training trials; None for the mean."""
    task = tuning_task(data, min(TUNING_ENTRIES, TUNING_BINS * data.shape[2]))
    training = task.data

    def loss_of(model: _StateSpaceModel, posterior: SmoothedPosterior) -> float:
        expected = model.expected(posterior, training) if training.lag is None else _predict(model, training)
        return task.loss(apply_floor(training, expected))

    components = measure_components(training)
    mean_loss = task.loss(np.asarray(mean_rate(training).expected))
    best, chosen = mean_loss, None
    for size in (size for size in sizes if size <= len(components.strength)):
        model = _initial_model(training, components, size, dynamic=dynamic)
        start = _zero_posterior(model, model.predictors(training))
        posterior, model = _run_em(model, training, start, iterations=FIRST_ITERATIONS)
        loss = loss_of(model, posterior)
        if loss > best - SIZE_GAIN * (mean_loss - best):
            break
        best, chosen = loss, (model, posterior)
    if chosen is None:
        return None
    model, posterior = chosen
    for _ in range(MAX_EXTENSIONS):
        posterior, longer = _run_em(model, training, posterior, iterations=MORE_ITERATIONS)
        loss = loss_of(longer, posterior)
        if loss > best:
            break
        model, gain, best = longer, best - loss, loss
        if gain < ITERATION_GAIN * (mean_loss - best):
            break
    return model


def _initial_model(data: MaskedData, components: Components, size: int, *, dynamic: bool) -> _StateSpaceModel:
    """A model made of the strongest components."""
    autocovariances = [basis @ basis.T for basis in components.bases[:size]]
    power = np.array([np.trace(autocovariance) / len(autocovariance) for autocovariance in autocovariances])
    # A deviation of `scale` in a count is one of `scale` / mean in the logarithm of its rate.
    unit = components.scale / data.channel_mean if data.is_counts else 1.0
    loadings = components.loadings[:, :size] * np.sqrt(power)
    loadings = loadings * np.broadcast_to(unit, len(loadings))[:, None]
    if dynamic:
        dynamics = _critically_damped([_fit_decay(autocovariance) for autocovariance in autocovariances])
        loadings = np.column_stack([loadings, np.zeros(loadings.shape)])
    else:
        dynamics = _independent_bins(size)
    n_channels = len(loadings)
    emissions: Emissions
    if data.is_counts:
        emissions = PoissonEmissions(loadings, np.log(data.channel_mean), (0.5, 0.5 / data.overall_mean))
    else:
        emissions = GaussianEmissions(loadings, np.zeros(n_channels), np.ones(n_channels))
    return _StateSpaceModel(dynamics, emissions, data.channel_mean, components.scale, data.is_counts, dynamic)


def _independent_bins(size: int) -> Dynamics:
    return Dynamics(np.zeros((size, size)), np.eye(size), np.zeros(size), np.eye(size))


def _fit_decay(autocovariance: Floats) -> float:
    """Decay per bin of the critically damped process with the closest autocovariance.

    Its autocorrelation is ρ^k (1 + k (1 − ρ²) / (1 + ρ²)) at lag k; lags are weighted by their number of pairs of bins.
    """
    n_bins = len(autocovariance)
    lag, pairs = np.arange(n_bins), np.arange(n_bins, 0, -1)
    measured = np.array([np.diag(autocovariance, k).mean() for k in range(n_bins)])
    errors = []
    for rho in DECAYS:
        shape = rho**lag * (1 + lag * (1 - rho**2) / (1 + rho**2))
        power = (pairs * shape * measured).sum() / (pairs * shape**2).sum()
        errors.append((pairs * (measured - max(power, 0) * shape) ** 2).sum())
    return float(DECAYS[int(np.argmin(errors))])


def _critically_damped(decays: list[float]) -> Dynamics:
    """For each component a state z and its drive u, both of variance 1 and of the same decay: z' = ρ z + u, u' = ρ u + w.

    Critical damping lies between decay and oscillation, so EM can turn it into either.
    """
    rho = np.array(decays)
    # Stationary variances of u and z, and their covariance, for w of variance 1.
    drive = 1 / (1 - rho**2)
    shared = rho * drive / (1 - rho**2)
    power = (drive + 2 * rho * shared) / (1 - rho**2)
    transition = np.block(
        [[np.diag(rho), np.diag(np.sqrt(drive / power))], [np.zeros((len(rho), len(rho))), np.diag(rho)]]
    )
    noise = np.diag([*[10 * JITTER] * len(rho), *(1 / drive)])
    stationary = np.block(
        [
            [np.eye(len(rho)), np.diag(shared / np.sqrt(drive * power))],
            [np.diag(shared / np.sqrt(drive * power)), np.eye(len(rho))],
        ]
    )
    return Dynamics(transition, noise, np.zeros(2 * len(rho)), stationary + 10 * JITTER * np.eye(2 * len(rho)))


def _zero_posterior(model: _StateSpaceModel, observations: Observations) -> SmoothedPosterior:
    """States at 0 with variance 0, where Newton's method starts."""
    d = model.n_dimensions
    shape = observations.values.shape[:2]
    return SmoothedPosterior(np.zeros((*shape, d)), np.zeros((*shape, d, d)), np.zeros((shape[0], shape[1] - 1, d, d)))


def _infer(
    model: _StateSpaceModel, observations: Observations, posterior: SmoothedPosterior, *, steps: int
) -> SmoothedPosterior:
    """E-step: smoothed posterior from a starting point; exact for samples, up to so many Newton steps for counts."""
    for _ in range(steps if model.is_counts else 1):
        target = smooth(model.dynamics, *model.emissions.natural_parameters(observations, posterior))
        if not model.is_counts:
            return target
        share, largest = _newton_share(model, posterior, target)
        posterior = replace(target, mean=posterior.mean + share * (target.mean - posterior.mean))
        if largest.max() < TOLERANCE:
            break
    return posterior


def _infer_to_lag(model: _StateSpaceModel, observations: Observations, *, lag: int) -> States:
    """Posterior of each bin's states given the bins up to the lag."""

    def update(t: int, prior: States) -> States:
        at_bin = Observations(observations.values[:, t : t + 1], observations.weights[:, t : t + 1])
        return _update(model, at_bin, prior)

    return smooth_to_lag(model.dynamics, observations.values.shape[:2], update, lag=lag)


def _update(model: _StateSpaceModel, observations: Observations, prior: States) -> States:
    """Posterior of the states in single bins (window, 1, …), each by itself, given their prior."""
    prior_precision = np.linalg.inv(prior.covariance)
    prior_information = prior_precision @ prior.mean[..., None]
    states, moving = replace(prior, covariance=np.zeros(prior.covariance.shape)), np.ones((len(prior.mean), 1, 1), bool)
    for _ in range(NEWTON_STEPS if model.is_counts else 1):
        precision, information = model.emissions.natural_parameters(observations, states)
        covariance = np.asarray(np.linalg.inv(prior_precision + precision), dtype=np.float64)
        target = States((covariance @ (prior_information + information[..., None]))[..., 0], covariance)
        if not model.is_counts:
            return target
        share, largest = _newton_share(model, states, target)
        mean: Floats = states.mean + np.where(moving, share, 0) * (target.mean - states.mean)
        states = States(mean, np.where(moving[..., None], covariance, states.covariance))
        # A window stays where it came to rest, whatever others do.
        moving = moving & (largest >= TOLERANCE)
        if not moving.any():
            break
    return states


def _newton_share(model: _StateSpaceModel, posterior: Posterior, target: Posterior) -> tuple[Floats, Floats]:
    """Share of a Newton step that is taken in each window, and the largest change of a log rate in it (window, 1, 1)."""
    change = np.abs((target.mean - posterior.mean) @ model.emissions.loadings.T)
    largest: Floats = change.max((1, 2), keepdims=True)
    return np.minimum(1, MAX_LOG_STEP / np.maximum(largest, 1e-12)), largest


def _run_em(
    model: _StateSpaceModel, training: MaskedData, posterior: SmoothedPosterior, *, iterations: int
) -> tuple[SmoothedPosterior, _StateSpaceModel]:
    """Run EM from a posterior; give the model and its posterior of the training data."""
    predictors, shown = model.predictors(training), model.shown(training)
    for _ in range(iterations):
        posterior = _infer(model, predictors, posterior, steps=1)
        emissions = model.emissions.m_step(shown, posterior)
        dynamics = m_step(posterior) if model.dynamic and posterior.mean.shape[1] > 1 else model.dynamics
        model = replace(model, emissions=emissions, dynamics=dynamics)
    return _infer(model, predictors, posterior, steps=1), model


def _training_share(data: MaskedData, training: MaskedData) -> str:
    """Share of the training entries used in the fit, if not all."""
    total, used = int(data.shown.sum((1, 2))[data.train].sum()), int(training.shown.sum())
    return "" if used == total else f", fitted to {used / total:.0%} of the training entries"
