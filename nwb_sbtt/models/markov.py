"""A hidden Markov model: activity is in one of many states, and moves among them at random.

A learned system is deterministic, so what drives activity and is not in the data ends each of its courses. Here any state may
follow any other, with a probability of its own, and what is inferred of a trial is the exact posterior (forward-backward
algorithm; Rabiner 1989, doi:10.1109/5.18626).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nwb_sbtt.batch import BINS_OF_MOST, Batch
from nwb_sbtt.models.windows import exposures, windows
from nwb_sbtt.nn.likelihoods import Likelihood
from nwb_sbtt.nn.sessions import SessionTables

NUMBERS_AT_ONCE = 6_000_000
"""Probabilities (trial, bin, state) of a piece, or its values, where there are more channels than states."""
LEAST = 1e-15
"""Least probability of a state, and likelihood beside the likeliest one. Products of smaller ones are denormal, and slow."""


class HiddenMarkov(nn.Module):
    """States in each of which channels have an expectation of their own, and the probabilities of going from one to the next.

    Parameters
    ----------
    n_states : int
    channels : mapping of session to int
        Numbers of channels.

    Attributes
    ----------
    transitions : Float[Tensor, "state state"]
        Probability of each state (column) in the bin after each state (row); all sessions share them.
    starts : SessionTables
        Float[Tensor, "state"], probabilities in the first bin of a trial.
    expected : SessionTables
        Float[Tensor, "state channel"], over a whole bin, in the data's unit.
    shares : SessionTables
        Float[Tensor, ""], of the model in what is inferred.
    """

    def __init__(self, n_states: int, channels: Mapping[str, int]):
        super().__init__()
        self.transitions: Tensor
        self.register_buffer("transitions", torch.full((n_states, n_states), 1 / n_states))
        self.starts, self.expected, self.shares = SessionTables(), SessionTables(), SessionTables()
        for session, n_channels in channels.items():
            self.starts[session] = torch.full((n_states,), 1 / n_states)
            self.expected[session] = torch.zeros(n_states, n_channels)
            self.shares[session] = torch.zeros(())

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.transitions)

    def infer(self, likelihood: Likelihood, batch: Batch) -> tuple[Tensor, Tensor]:
        """Infer trials from their shown entries.

        Parameters
        ----------
        likelihood : Likelihood
        batch : Batch

        Returns
        -------
        expected, variance : Float[Tensor, "trial time channel"]
            Posterior mean and variance of what is expected of each entry, over a whole bin, in the data's unit.
        """
        reference = likelihood.reference(batch.session)
        away = self.expected[batch.session] - reference
        means, variances = list[Tensor](), list[Tensor]()
        for part in self.pieces(batch):
            posterior, _ = self.posterior(likelihood, part, part.shown)
            mean = posterior @ away
            means.append(mean + reference)
            variances.append((posterior @ away**2 - mean**2).clamp(min=0))
        return torch.cat(means), torch.cat(variances)

    def forecast(self, likelihood: Likelihood, batch: Batch, bins: int) -> tuple[Tensor, Tensor]:
        """Forecast the bins after those of trials, from their shown entries.

        Parameters
        ----------
        likelihood : Likelihood
        batch : Batch
        bins : int

        Returns
        -------
        expected, variance : Float[Tensor, "trial time channel"]
            As of `infer`.
        """
        reference = likelihood.reference(batch.session)
        away = self.expected[batch.session] - reference
        state = torch.cat([self.posterior(likelihood, part, part.shown)[0][:, -1] for part in self.pieces(batch)])
        means, variances = list[Tensor](), list[Tensor]()
        for _ in range(bins):
            state = state @ self.transitions
            mean = state @ away
            means.append(mean + reference)
            variances.append((state @ away**2 - mean**2).clamp(min=0))
        return torch.stack(means, 1), torch.stack(variances, 1)

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """Cut a batch into pieces whose probabilities and values fit into memory.

        Parameters
        ----------
        batch : Batch

        Yields
        ------
        Batch
            Dense.
        """
        _, n_bins, n_channels = batch.shape
        # `Batch.pieces` divides by the bins above `BINS_OF_MOST` itself.
        at_once = max(1, NUMBERS_AT_ONCE // (min(n_bins, BINS_OF_MOST) * max(self.n_states, n_channels)))
        for rows in batch.pieces(at_once):
            yield windows(batch.select(rows), [0], n_bins)

    def posterior(
        self, likelihood: Likelihood, batch: Batch, entries: Bool[Tensor, "trial time channel"]
    ) -> tuple[Float[Tensor, "trial time state"], Float[Tensor, "state state"]]:
        """Compute how probable states are, given entries.

        Parameters
        ----------
        likelihood : Likelihood
        batch : Batch
            Dense.
        entries : Bool[Tensor, "trial time channel"]
            Which entries count.

        Returns
        -------
        posterior : Float[Tensor, "trial time state"]
        transitions : Float[Tensor, "state state"]
            Expected number of transitions from each state (row) to each (column), over all trials.
        """
        evidence = self._evidence(likelihood, batch, entries)
        n_trials, n_bins, n_states = evidence.shape
        result = torch.empty_like(evidence)
        forward = self.starts[batch.session] * evidence[:, 0]
        for t in range(n_bins):
            if t:
                forward = (forward @ self.transitions) * evidence[:, t]
            forward = (forward / forward.sum(1, keepdim=True)).clamp_(min=LEAST)
            result[:, t] = forward
        counts = evidence.new_zeros(n_states, n_states)
        backward = evidence.new_ones(n_trials, n_states)
        for t in range(n_bins - 1, 0, -1):
            before = result[:, t - 1]
            ahead = evidence[:, t] * backward
            ahead = ahead / ((before @ self.transitions) * ahead).sum(1, keepdim=True)
            counts.addmm_(before.T, ahead)
            backward = ahead @ self.transitions.T
            # `before` has been used: in its place stands the posterior.
            result[:, t - 1] = before * backward
        return result, counts * self.transitions

    def _evidence(self, likelihood: Likelihood, batch: Batch, entries: Tensor) -> Tensor:
        """Likelihood of each bin's entries in each state, as a share of that in the likeliest one."""
        session = batch.session
        slope, cost = likelihood.natural(self.expected[session], session)
        values = batch.values - likelihood.reference(session)
        values = torch.where(entries, values, torch.zeros_like(values))
        shares = exposures(likelihood, batch, entries)
        found = values @ slope.T
        found -= shares @ cost.T
        return found.sub_(found.amax(2, keepdim=True)).exp_().clamp_(min=LEAST)
