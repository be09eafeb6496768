"""A hidden Markov model bin by bin, in numpy: what is known of its state from the bins so far."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from nwb_sbtt.models.markov import LEAST, HiddenMarkov
from nwb_sbtt.models.stepping import Estimate, observation_of
from nwb_sbtt.nn.likelihoods import Likelihood

COVERED = 0.999
"""Probability of the states that are taken into account of what a sample would tell; the others have less each."""
Row = NDArray[np.float32]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Filter:
    """A hidden Markov model that is given one bin at a time (the forward algorithm; Rabiner 1989, doi:10.1109/5.18626).

    Parameters
    ----------
    markov : HiddenMarkov
    likelihood : Likelihood
        That it was learned with.
    session : str

    Attributes
    ----------
    n_bins : int
        Bins that were given since the last `reset`.
    ahead : array (state)
        Probabilities of the states in the next bin.

    Raises
    ------
    ConfigError
        If the likelihood is not one of counts or signals.
    """

    def __init__(self, markov: HiddenMarkov, likelihood: Likelihood, session: str):
        observation = observation_of(likelihood, session)
        expected = markov.expected[session]
        slope, cost = likelihood.natural(expected, session)
        self._slope, self._cost, self._transitions, self._starts, self._factors, self._reference = (
            each.detach().cpu().double().numpy()
            for each in (
                slope,
                cost,
                markov.transitions,
                markov.starts[session],
                markov.factors,
                likelihood.reference(session),
            )
        )
        self._away = expected.detach().cpu().double().numpy() - self._reference
        self._squares = np.square(self._away)
        self._counts = likelihood.expects_counts
        self._steady, self._information = observation.steady(self._away + self._reference)
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next bin is the first of a trial or of a recording."""
        self.n_bins, self.ahead = 0, self._starts

    def step(self, values: Row, shown: Mask, exposure: Row | None = None) -> Estimate:
        """Give the next bin, and infer it.

        Parameters
        ----------
        values : array (channel)
        shown : bool array (channel)
            Whether there is a measurement.
        exposure : array (channel), optional
            Share of the bin that was observed, by default all; without effect on signals.

        Returns
        -------
        Estimate
            Posterior mean and sd given the bins so far. The factors are the mean ones of the states.
        """
        shares = shown if exposure is None or not self._counts else np.where(shown, exposure, 0)
        found = self._slope @ np.where(shown, values - self._reference, 0) - self._cost @ shares
        probable = self.ahead * np.maximum(np.exp(found - found.max()), LEAST)
        probable = np.maximum(probable / probable.sum(), LEAST)
        self.n_bins, self.ahead = self.n_bins + 1, probable @ self._transitions
        mean, factors = probable @ self._away, probable @ self._factors
        variance = np.maximum(probable @ self._squares - np.square(mean), 0)
        of_factors = np.maximum(probable @ np.square(self._factors) - np.square(factors), 0)
        rows = factors, of_factors, mean + self._reference, np.sqrt(variance)
        return Estimate(*(row.astype(np.float32) for row in rows))

    def spread(self) -> tuple[Float[np.ndarray, "channel state"], Float[np.ndarray, "channel"]]:
        """Give how much what is expected of the channels of the next bin differs between the states that are probable.

        Returns
        -------
        weights : array (channel, state)
            Of each channel a function of its expectation, of which a sample is equally sure everywhere
            (`nwb_sbtt.models.stepping.Counts.steady`), from its mean, times the square root of the state's probability:
            products of two channels are covariances.
        information : array (channel)
            Fisher information of a sample on that function.
        """
        order = np.argsort(-self.ahead, kind="stable")
        total = np.cumsum(self.ahead[order])
        kept = order[: int(np.searchsorted(total, COVERED * total[-1])) + 1]
        share, steady = self.ahead[kept] / self.ahead[kept].sum(), self._steady[kept]
        return np.sqrt(share) * (steady - share @ steady).T, self._information
