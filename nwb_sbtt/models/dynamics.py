"""A system with few dimensions that can be run forward: how its state goes on, and what it makes channels expect."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import DynamicsConfig
from nwb_sbtt.models.base import noise
from nwb_sbtt.nn.inputs import KnownInputs
from nwb_sbtt.nn.likelihoods import Likelihood
from nwb_sbtt.nn.sessions import SessionTables

STEP = 0.3
"""Scale of the change of state in a bin; keeps an untrained system near where it starts."""
BOUND = 6.0
"""Largest magnitude of a state's dimensions, in units of their sd over the training trials; no run leaves it."""


class Dynamics(nn.Module):
    """A discrete-time system ``z' = z + STEP · f(z, u)``, within ±`BOUND`, whose state is read out linearly by each channel.

    f is a network with two hidden layers, u known inputs of the bin that is left. Read-outs, scales and noise are those of a
    likelihood, whose factors are the state.

    Parameters
    ----------
    config : DynamicsConfig
    likelihood : Likelihood
        Of the model that the system is learned from; copied, with read-outs of their own.
    trials : mapping of session to int
        Number of training trials, whose starts are kept.
    known : KnownInputs, optional
    """

    def __init__(
        self,
        config: DynamicsConfig,
        likelihood: Likelihood,
        trials: Mapping[str, int],
        known: KnownInputs | None = None,
    ):
        super().__init__()
        self.config = config
        self.known = copy.deepcopy(known)
        n_inputs = 0 if known is None else known.n_features
        last = nn.Linear(config.width, config.dimensions)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
        self.field = nn.Sequential(
            nn.Linear(config.dimensions + n_inputs, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            last,
        )
        self.likelihood = copy.deepcopy(likelihood).requires_grad_(False)
        self.starts, self.start_sds = SessionTables(), SessionTables()
        for session, n in trials.items():
            weights, _ = self.likelihood.read_outs(session)[0]
            self.likelihood.weights[session] = nn.Parameter(weights.new_zeros(len(weights), config.dimensions))
            self.starts[session] = weights.new_zeros(n, config.dimensions)
            self.start_sds[session] = weights.new_zeros(n, config.dimensions)

    @property
    def sessions(self) -> list[str]:
        """Names of the sessions that it was learned from."""
        return [session for session, _ in self.starts.places.values()]

    def features(self, batch: Batch) -> Float[Tensor, "trial time feature"] | None:
        """Return the known inputs as the system reads them.

        Parameters
        ----------
        batch : Batch

        Returns
        -------
        Float[Tensor, "trial time feature"] or None
            None where there are no known inputs.
        """
        return None if self.known is None else self.known(batch)

    def step(
        self, state: Float[Tensor, "*rest dimension"], features: Float[Tensor, "*rest feature"] | None = None
    ) -> Float[Tensor, "*rest dimension"]:
        """Go on by one bin.

        Parameters
        ----------
        state : Float[Tensor, "*rest dimension"]
        features : Float[Tensor, "*rest feature"], optional
            Of the bin that is left (`features`).

        Returns
        -------
        Float[Tensor, "*rest dimension"]
        """
        change: Tensor = self.field(state if features is None else torch.cat([state, features], -1))
        return torch.add(state, change, alpha=STEP).clamp(-BOUND, BOUND)

    def run(
        self,
        start: Float[Tensor, "*rest dimension"],
        n_bins: int,
        features: Float[Tensor, "*rest time feature"] | None = None,
    ) -> Float[Tensor, "*rest time dimension"]:
        """Run forward.

        Parameters
        ----------
        start : Float[Tensor, "*rest dimension"]
            State in the first bin.
        n_bins : int
        features : Float[Tensor, "*rest time feature"], optional

        Returns
        -------
        Float[Tensor, "*rest time dimension"]
        """
        states = [start]
        for t in range(n_bins - 1):
            states.append(self.step(states[-1], None if features is None else features[..., t, :]))
        return torch.stack(states, -2)

    def draw_starts(self, session: str, rows: Tensor, generator: torch.Generator) -> Float[Tensor, "row dimension"]:
        """Draw states in which trials may begin, from what is known of the starts of training trials.

        Parameters
        ----------
        session : str
        rows : Int[Tensor, "row"]
            Training trials.
        generator : torch.Generator

        Returns
        -------
        Float[Tensor, "row dimension"]
        """
        mean, sd = self.starts[session][rows], self.start_sds[session][rows]
        return mean + sd * noise(tuple(mean.shape), generator, mean)

    def states_of(
        self,
        likelihood: Likelihood,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> tuple[Float[Tensor, "trial time dimension"], Float[Tensor, "trial time dimension"]]:
        """Bring a model's factors to states: by least squares over what all channels read out.

        Parameters
        ----------
        likelihood : Likelihood
            Of the model.
        factors, variance : Float[Tensor, "trial time factor"]
            Posterior mean and, of a model that has one, variance.
        session : str

        Returns
        -------
        mean, variance : Float[Tensor, "trial time dimension"]
            The variance is 0 where that of the factors is None.
        """
        (from_factors, bias), (from_states, own_bias) = (
            each.read_outs(session)[0] for each in (likelihood, self.likelihood)
        )
        to_states = torch.linalg.pinv(from_states)
        table = to_states @ from_factors
        mean = factors @ table.T + to_states @ (bias - own_bias)
        spread = torch.zeros_like(mean) if variance is None else variance @ (table**2).T
        return mean, spread
