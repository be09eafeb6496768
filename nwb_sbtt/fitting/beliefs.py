"""What is known of the next bin, from the bins so far: by a stream, or by the hidden Markov model of a fit to whole trials."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.fitting.stream import Step, as_numbers, check_bin
from nwb_sbtt.models.filtering import Filter
from nwb_sbtt.models.stepping import Counts, observation_of

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

RIDGE = 1e-6
"""Of the regression of factors on earlier ones, relative to their mean variance."""
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Ahead:
    """What a sample of each channel would tell of the next bin.

    Parameters
    ----------
    covariance : array (direction, direction)
        Of what is not known.
    weights : array (channel, direction)
        By which a channel follows it.
    information : array (channel)
        Fisher information of a sample on the product of both.
    """

    covariance: Floats
    weights: Floats
    information: Floats

    def sampled(self, channel: int) -> tuple[Ahead, Floats]:
        """Give what is left after a channel is sampled; and the vector whose outer product is subtracted.

        Parameters
        ----------
        channel : int

        Returns
        -------
        Ahead
        array (direction)
        """
        weights, information = self.weights[channel], self.information[channel]
        vector = self.covariance @ weights
        vector = vector * np.sqrt(information / (1 + information * (weights @ vector)))
        return replace(self, covariance=self.covariance - np.outer(vector, vector)), vector


class Belief(Protocol):
    """State of a recording, of which the next bin is forecast."""

    @property
    def n_bins(self) -> int:
        """Bins that were given since the last `reset`."""

    def reset(self) -> None:
        """Begin anew: the next bin is the first of a trial or of a recording."""

    def fresh(self) -> Self:
        """Give another one of the same fit, at its beginning."""

    def ahead(self) -> Ahead:
        """Forecast the next bin."""

    def step(
        self, values: NDArray[np.float32], shown: Mask, exposure: ArrayLike | None, inputs: ArrayLike | None
    ) -> Step:
        """Give the next bin, and infer from it.

        Parameters
        ----------
        values : array (channel)
        shown : bool array (channel)
            Whether there is a measurement.
        exposure, inputs
            As of `nwb_sbtt.fitting.stream.Stream.step`.

        Returns
        -------
        Step

        Raises
        ------
        DataError
            As there; nothing is changed then.
        """


class MarkovBelief(Belief):
    """By the hidden Markov model of a fit to whole trials.

    What is not known is the state. A channel follows it by the square root of what is expected of counts, or by the mean of
    signals: a sample tells as much of that in all states.

    Parameters
    ----------
    fitted : Fitted
        Of an ensemble the best member is taken.
    session : str

    Raises
    ------
    ConfigError
        If it has no hidden Markov model, or is not finished.
    """

    def __init__(self, fitted: Fitted, session: str):
        system = fitted.best.dynamics
        if fitted.unfinished:
            raise ConfigError(
                f"the fit in {str(fitted.run_dir)!r} is not finished, so its hidden Markov model is not known; run the same "
                "fit again to resume it"
            )
        if fitted.model.infers_spikes:
            raise ConfigError(
                f"the fit in {str(fitted.run_dir)!r} is one of fluorescence, and what the next frame shows is not forecast; "
                "channels are chosen by fits to counts or signals"
            )
        if system is None or system.markov is None:
            raise ConfigError(
                f"the fit in {str(fitted.run_dir)!r} has neither a hidden Markov model nor a lag, so that nothing is known of "
                "the next bin; fit with the defaults and without known inputs (print(fitted) shows whether there is a hidden "
                "Markov model), or a model with a lag: --model conv --set model.lag=0"
            )
        self._fitted, self._session = fitted, session
        self._filter = Filter(system.markov, system.likelihood, session)
        self._is_counts, self._bin_width = fitted.expects_counts, float(fitted.signature.sessions[session].bin_width)

    @property
    def n_bins(self) -> int:
        """Bins that were given since the last `reset`."""
        return self._filter.n_bins

    def reset(self) -> None:
        """Begin anew."""
        self._filter.reset()

    def fresh(self) -> MarkovBelief:
        """Give another one of the same fit, at its beginning."""
        return MarkovBelief(self._fitted, self._session)

    def ahead(self) -> Ahead:
        """Forecast the next bin."""
        weights, information = self._filter.spread()
        return Ahead(np.eye(weights.shape[1]), weights, information)

    def step(
        self, values: NDArray[np.float32], shown: Mask, exposure: ArrayLike | None, inputs: ArrayLike | None
    ) -> Step:
        """Give the next bin, and infer from it and those before; sds are not calibrated."""
        if inputs is not None:
            raise DataError("the fit has no known inputs; omit inputs")
        share = None if exposure is None else as_numbers("exposure", exposure)
        check_bin(values, shown, share, counts=self._is_counts)
        found, number = self._filter.step(values, shown, share), self._filter.n_bins - 1
        if not self._is_counts:
            return Step(number, found.factors, mean=found.expected, mean_sd=found.expected_sd)
        rates, sd = (each / np.float32(self._bin_width) for each in (found.expected, found.expected_sd))
        return Step(number, found.factors, rates=rates, rates_sd=sd)


class StreamBelief(Belief):
    """By the factors of a stream, which are taken to be Gaussian and to follow linear dynamics.

    From bin to bin their covariance P follows dynamics that are measured on the training trials. What a channel with weights w
    tells of them leaves P − Pw wᵀP λ / (1 + λ wᵀPw), as in the point-process filter of Eden, Frank, Barbieri, Solo and Brown
    2004 (Neural Computation 16:971), with the Fisher information λ: the expected count, or for signals 1 / σ².

    Parameters
    ----------
    fitted : Fitted
        With a lag.
    session : str
    data : Dataset
        Of the fit.

    Attributes
    ----------
    stream : Stream

    Raises
    ------
    ConfigError, DataError, MismatchError
        See `nwb_sbtt.schedule`.
    """

    def __init__(self, fitted: Fitted, session: str, data: xr.Dataset):
        self._fitted, self._session = fitted, session
        self.stream = fitted.stream(session=session)
        self._observation = observation_of(fitted.model.likelihood, session)
        self._weights = self._observation.weights.astype(float)
        self._dynamics = _dynamics(fitted, data, session)
        self.reset()

    @property
    def n_bins(self) -> int:
        """Bins that were given since the last `reset`."""
        return self.stream.n_bins

    def reset(self) -> None:
        """Begin anew: nothing is known but what the training trials tell of any bin."""
        self.stream.reset()
        self._mean, self._covariance = self._dynamics.mean, self._dynamics.covariance

    def fresh(self) -> StreamBelief:
        """Give another one of the same fit, at its beginning."""
        belief = copy.copy(self)
        belief.stream = self._fitted.stream(session=self._session)
        belief.reset()
        return belief

    def ahead(self) -> Ahead:
        """Forecast the next bin."""
        expected = self._observation.expected(self._mean.astype(np.float32), 1.0)
        return Ahead(self._covariance, self._weights, self._observation.information(expected).astype(float))

    def step(
        self, values: NDArray[np.float32], shown: Mask, exposure: ArrayLike | None, inputs: ArrayLike | None
    ) -> Step:
        """Give the next bin, and infer from it."""
        step, left = self.stream.step(values, shown, exposure, inputs=inputs), self.ahead()
        if exposure is not None and isinstance(self._observation, Counts):
            share = np.where(shown, as_numbers("exposure", exposure), 1)
            left = replace(left, information=left.information * share)
        for channel in np.flatnonzero(shown):
            left, _ = left.sampled(int(channel))
        of = self._dynamics
        self._covariance = of.step @ left.covariance @ of.step.T + of.added
        if step.bin >= 0:
            self._mean = of.ahead @ step.factors + of.offset
        return step


@dataclass(frozen=True)
class _Dynamics:
    """Of factors: mean and covariance in any bin, and how they follow from earlier ones.

    Parameters
    ----------
    mean : array (factor)
    covariance : array (factor, factor)
        Of the estimates over bins, and of their errors.
    step : array (factor, factor)
        Regression of a bin's factors on those of the bin before.
    added : array (factor, factor)
        Covariance that a bin adds.
    ahead, offset : array (factor, factor), array (factor)
        Regression on the last estimate that a stream has when a bin is to be chosen: ``lag + 1`` bins before.
    """

    mean: Floats
    covariance: Floats
    step: Floats
    added: Floats
    ahead: Floats
    offset: Floats


def _dynamics(fitted: Fitted, data: xr.Dataset, session: str) -> _Dynamics:
    """Measure linear dynamics of the factors that a fit infers of its training trials.

    What an estimate changes by that its past does not predict is what new data told. On average over many bins the dynamics
    add as much variance as data take away, so that the covariance of these changes is that added in a bin.
    """
    horizon = (fitted.config.lag or 0) + 1
    if "split" in data.coords and (training := data["split"].values == "train").any():
        data = data.isel(trial=np.flatnonzero(training))
    if data.sizes["time"] <= horizon:
        raise DataError(
            f"the trials have {data.sizes['time']} bins; expected more than {horizon}, as the dynamics of the factors are "
            "measured over the lag and the next bin"
        )
    latents = fitted.infer(data, session=session)
    factors = latents["factors"].values.astype(float)
    mean = factors.mean((0, 1))
    centred = factors - mean
    step, _ = _regression(centred, 1)
    ahead, changes = _regression(centred, horizon)
    covariance = _covariance(centred) + np.diag(np.square(latents["factors_sd"].values.astype(float)).mean((0, 1)))
    return _Dynamics(mean, covariance, step, changes / horizon, ahead, mean - ahead @ mean)


def _regression(factors: Floats, bins: int) -> tuple[Floats, Floats]:
    """Regress centred factors (trial, time, factor) on those some bins earlier; the map, and the covariance of its errors."""
    before, after = (part.reshape(-1, factors.shape[-1]) for part in (factors[:, :-bins], factors[:, bins:]))
    variance = before.T @ before / len(before)
    penalty = RIDGE * np.trace(variance) / len(variance) + np.finfo(float).tiny
    weights = np.linalg.solve(variance + penalty * np.eye(len(variance)), before.T @ after / len(before)).T
    return weights, _covariance(after - before @ weights.T)


def _covariance(rows: Floats) -> Floats:
    flat = rows.reshape(-1, rows.shape[-1])
    return np.asarray(flat.T @ flat / len(flat))
