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
from nwb_sbtt.models.windows import counted, exposures, windows
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
    n_factors : int
        Factors of the model that it was learned from.

    Attributes
    ----------
    transitions : Float[Tensor, "state state"]
        Probability of each state (column) in the bin after each state (row); all sessions share them.
    starts : SessionTables
        Float[Tensor, "state"], probabilities in the first bin of a trial.
    expected : SessionTables
        Float[Tensor, "state channel"], over a whole bin, in the data's unit.
    factors : Float[Tensor, "state factor"]
        Mean of the factors that the model inferred in each state; all sessions share them.
    shares : SessionTables
        Float[Tensor, ""], of the model in what is inferred.
    """

    def __init__(self, n_states: int, channels: Mapping[str, int], n_factors: int):
        super().__init__()
        self.transitions: Tensor
        self.factors: Tensor
        self.register_buffer("transitions", torch.full((n_states, n_states), 1 / n_states))
        self.register_buffer("factors", torch.zeros(n_states, n_factors))
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
        found = [
            self._moments(likelihood, batch.session, self.expectations(likelihood, part, part.shown, count=False)[0])
            for part in self.pieces(batch)
        ]
        expected, variance = (torch.cat(each) for each in zip(*found, strict=True))
        return expected, variance

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
        state = torch.cat(
            [self._forward(self._evidence(likelihood, part, part.shown), part)[:, -1] for part in self.pieces(batch)]
        )
        states = list[Tensor]()
        for _ in range(bins):
            state = state @ self.transitions
            states.append(state)
        return self._moments(likelihood, batch.session, torch.stack(states, 1))

    def draw(
        self, likelihood: Likelihood, batch: Batch, generator: torch.Generator
    ) -> tuple[
        Float[Tensor, "trial time channel"], Float[Tensor, "trial time channel"], Float[Tensor, "trial time factor"]
    ]:
        """Simulate as many trials as a batch has, sampled as its trials were.

        Parameters
        ----------
        likelihood : Likelihood
        batch : Batch
            Its masks and exposure are used.
        generator : torch.Generator

        Returns
        -------
        values : Float[Tensor, "trial time channel"]
            In the data's unit, 0 where nothing is observed.
        expected : Float[Tensor, "trial time channel"]
            Over a whole bin.
        factors : Float[Tensor, "trial time factor"]
            Of the states that were drawn.
        """
        n_trials, n_bins, _ = batch.shape
        state = torch.multinomial(self.starts[batch.session], n_trials, replacement=True, generator=generator)
        states = [state]
        for _ in range(n_bins - 1):
            state = torch.multinomial(self.transitions[state], 1, generator=generator)[:, 0]
            states.append(state)
        of_bins = torch.stack(states, 1)
        expected, dense = self.expected[batch.session][of_bins], windows(batch, [0], n_bins)
        values, _ = likelihood.draw(expected * exposures(likelihood, dense, dense.observed), dense, generator)
        return torch.where(dense.observed, values, torch.zeros_like(values)), expected, self.factors[of_bins]

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

    def expectations(
        self,
        likelihood: Likelihood,
        batch: Batch,
        entries: Bool[Tensor, "trial time channel"],
        *,
        count: bool = True,
    ) -> tuple[Float[Tensor, "trial time state"], Float[Tensor, "state state"]]:
        """Compute how probable states are, given entries, and how often one follows another.

        Parameters
        ----------
        likelihood : Likelihood
        batch : Batch
            Dense.
        entries : Bool[Tensor, "trial time channel"]
            Which entries count.
        count : bool
            Whether transitions are counted, which takes a quarter of the time; else all numbers are 0.

        Returns
        -------
        posterior : Float[Tensor, "trial time state"]
        transitions : Float[Tensor, "state state"]
            Expected number of transitions from each state (row) to each (column), over all trials.
        """
        evidence = self._evidence(likelihood, batch, entries)
        result = self._forward(evidence, batch)
        n_trials, n_bins, n_states = evidence.shape
        counts = evidence.new_zeros(n_states, n_states)
        backward = evidence.new_ones(n_trials, n_states)
        for t in range(n_bins - 1, 0, -1):
            before = result[:, t - 1]
            ahead = evidence[:, t] * backward
            ahead = ahead / ((before @ self.transitions) * ahead).sum(1, keepdim=True)
            if count:
                counts.addmm_(before.T, ahead)
            backward = ahead @ self.transitions.T
            # `before` has been used: in its place stands the posterior.
            result[:, t - 1] = before * backward
        return result, counts * self.transitions

    def _forward(self, evidence: Tensor, batch: Batch) -> Float[Tensor, "trial time state"]:
        """How probable states are, given the entries of their own bin and of those before."""
        result = torch.empty_like(evidence)
        forward = self.starts[batch.session] * evidence[:, 0]
        for t in range(evidence.shape[1]):
            if t:
                forward = (forward @ self.transitions) * evidence[:, t]
            forward = (forward / forward.sum(1, keepdim=True)).clamp_(min=LEAST)
            result[:, t] = forward
        return result

    def _evidence(self, likelihood: Likelihood, batch: Batch, entries: Tensor) -> Tensor:
        """Likelihood of each bin's entries in each state, as a share of that in the likeliest one."""
        slope, cost = likelihood.natural(self.expected[batch.session], batch.session)
        values, shares = counted(likelihood, batch, entries)
        found = values @ slope.T
        found -= shares @ cost.T
        return found.sub_(found.amax(2, keepdim=True)).exp_().clamp_(min=LEAST)

    def _moments(self, likelihood: Likelihood, session: str, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of what is expected of channels, given how probable states are."""
        reference = likelihood.reference(session)
        away = self.expected[session] - reference
        mean = states @ away
        return mean + reference, (states @ away**2 - mean**2).clamp(min=0)
