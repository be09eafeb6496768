"""A system with few dimensions that can be run forward: how its state goes on, and what it makes channels expect."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import DynamicsConfig
from nwb_sbtt.models.base import noise
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.nn.inputs import KnownInputs
from nwb_sbtt.nn.likelihoods import Likelihood
from nwb_sbtt.nn.sessions import SessionTables

DIMENSIONS, OF_DRIVEN = 4, 12
"""Of the state, where the settings do not say, without and with known inputs: in many dimensions few courses are near a trial,
unless inputs decide where they go."""
STEP = 0.3
"""Scale of the change of state in a bin; keeps an untrained system near where it starts."""
BOUND = 6.0
"""Largest magnitude of a state's dimensions, in units of their sd over the training trials; no run leaves it."""
JITTERS = (0.0, 0.1, 0.3)
"""Sds by which known starts are displaced where other starts are looked for, one kind of candidates each."""
OF_VISITED = 0.1
"""The same of the last kind of candidates: states that training trials visit in any bin."""
N_KINDS, LEAST_OF_KIND = len(JITTERS) + 1, 0.005
"""Number of kinds, and the least share of one that is drawn."""
STATES_AT_ONCE = 4_000_000
"""Of courses that trials have of their own."""
OF_DISPLACED = 4
"""Candidates of a kind that is displaced, as a multiple of those of known starts: few of them are near the state of a trial.
Not where known inputs give each trial courses of its own, which take long."""


class Dynamics(nn.Module):
    """A discrete-time system ``z' = z + STEP · f(z, u, u')``, within ±`BOUND`; each channel reads its state out linearly.

    f is a network with two hidden layers, u and u' are known inputs of the bin that is left and of that which is entered, as an
    input may change the activity of its own bin. Read-outs, scales and noise are those of a likelihood, whose factors are the
    state.

    Parameters
    ----------
    config : DynamicsConfig
    likelihood : Likelihood
        Of the model that the system is learned from; copied, with read-outs of their own.
    states : mapping of session to (int, int, int)
        Numbers of states that are kept: starts of trials, starts of later windows of trials, and visited states.
    known : KnownInputs, optional

    Attributes
    ----------
    dimensions : int
        Of the state.
    markov : HiddenMarkov or None
        Learned beside the system, for activity that turns at random.
    """

    def __init__(
        self,
        config: DynamicsConfig,
        likelihood: Likelihood,
        states: Mapping[str, tuple[int, int, int]],
        known: KnownInputs | None = None,
    ):
        super().__init__()
        self.config = config
        self.dimensions = config.dimensions or (DIMENSIONS if known is None else OF_DRIVEN)
        self.known = copy.deepcopy(known)
        n_inputs = 0 if known is None else 2 * known.n_features
        last = nn.Linear(config.width, self.dimensions)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
        self.field = nn.Sequential(
            nn.Linear(self.dimensions + n_inputs, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            last,
        )
        self.likelihood = copy.deepcopy(likelihood).requires_grad_(False)
        self.window: Tensor
        """Bins of the windows that it was learned from, and that its courses are weighed in."""
        self.register_buffer("window", torch.ones((), dtype=torch.int64))
        self.starts, self.later, self.visited = SessionTables(), SessionTables(), SessionTables()
        self.kinds, self.shares = SessionTables(), SessionTables()
        self.markov: HiddenMarkov | None = None
        for session, sizes in states.items():
            weights, _ = self.likelihood.read_outs(session)[0]
            self.likelihood.weights[session] = nn.Parameter(weights.new_zeros(len(weights), self.dimensions))
            for table, n in zip((self.starts, self.later, self.visited), sizes, strict=True):
                table[session] = weights.new_zeros(n, self.dimensions)
            self.kinds[session] = weights.new_full((N_KINDS,), 1 / N_KINDS)
            self.shares[session] = weights.new_zeros(())

    @property
    def sessions(self) -> list[str]:
        """Names of the sessions that it was learned from."""
        return [session for session, _ in self.starts.places.values()]

    def features(self, batch: Batch) -> Float[Tensor, "trial time feature"] | None:
        """Return the known inputs as the system reads them: in each bin its own and those of the next bin.

        Parameters
        ----------
        batch : Batch

        Returns
        -------
        Float[Tensor, "trial time feature"] or None
            None where there are no known inputs. The last bin has its own twice.
        """
        if self.known is None:
            return None
        features: Tensor = self.known(batch)
        return torch.cat([features, torch.cat([features[:, 1:], features[:, -1:]], 1)], -1)

    def step(
        self, state: Float[Tensor, "*rest dimension"], features: Float[Tensor, "*rest feature"] | None = None
    ) -> Float[Tensor, "*rest dimension"]:
        """Go on by one bin.

        Parameters
        ----------
        state : Float[Tensor, "*rest dimension"]
        features : Float[Tensor, "*rest feature"], optional
            Of the bin that is left (`features`), with those of the next one.

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

    def draw_starts(self, session: str, n: int, generator: torch.Generator) -> Float[Tensor, "row dimension"]:
        """Draw states in which trials may begin: starts of training trials, as far as these are known.

        Parameters
        ----------
        session : str
        n : int
        generator : torch.Generator

        Returns
        -------
        Float[Tensor, "row dimension"]
        """
        return _drawn(self.starts[session], n, generator)

    def candidates(
        self,
        session: str,
        n: int,
        generator: torch.Generator,
        *,
        first: bool,
        after: int = 0,
        features: Float[Tensor, "trial time feature"] | None = None,
        every: bool = False,
    ) -> tuple[Float[Tensor, "*trial candidate dimension"], Float[Tensor, "_"]]:
        """Draw states in which windows of other data may begin.

        They are drawn from a mixture of kinds: starts of windows of the training trials as they are, displaced by little, and
        by more (`JITTERS`), and states that training trials visit in any bin. `kinds` are the shares of these in the mixture.

        Parameters
        ----------
        session : str
        n : int
            Candidates of known starts. Of the other kinds there are more (`OF_DISPLACED`), unless every kind is drawn or the
            system has known inputs.
        generator : torch.Generator
        first : bool
            Whether the starts are those of trials; else of later windows of them.
        after : int
            Bins for which the system runs on from these before the window begins.
        features : Float[Tensor, "trial time feature"], optional
            Of these bins and the next, where known inputs drive the system (`features`); then each trial has candidates of its
            own.
        every : bool
            Whether kinds with hardly a share are drawn too.

        Returns
        -------
        states : Float[Tensor, "*trial candidate dimension"]
            The kinds one after the other.
        log_prior : float tensor (candidate)
            Logarithm of the share of each.
        """
        bank = self.starts[session] if first else self.later[session]
        visited = self.visited[session]
        if not len(bank):
            bank, after = visited, 0
        kinds, shares = [*((bank, sd) for sd in JITTERS), (visited, OF_VISITED)], self.kinds[session].tolist()
        states, log_prior = list[Tensor](), list[Tensor]()
        for (kind, sd), share in zip(kinds, shares, strict=True):
            if share < LEAST_OF_KIND and not every:
                continue
            of_kind = OF_DISPLACED * n if sd and not every and self.known is None else n
            log_prior.append(visited.new_full((of_kind,), math.log(max(share, 1e-12) / of_kind)))
            drawn = _drawn(kind, of_kind, generator)
            # The same for all trials, so that no estimate depends on which others are inferred along.
            displaced = sd * noise(tuple(drawn.shape), generator, drawn) if sd else 0
            if after and kind is bank:
                drawn = self._run_on(drawn, after, features)
            elif after and features is not None:
                drawn = drawn.expand(len(features), *drawn.shape)
            states.append(drawn + displaced)
        return torch.cat(states, -2), torch.cat(log_prior)

    def _run_on(self, states: Tensor, bins: int, features: Tensor | None) -> Tensor:
        """States after some bins, of each trial where there are features, for as many trials at once as fit into memory."""
        if features is None:
            return self.run(states, bins + 1)[:, -1]
        pieces = torch.split(features, max(1, STATES_AT_ONCE // (len(states) * (bins + 1))))
        own = (
            (states.expand(len(each), *states.shape), each[:, None].expand(-1, len(states), -1, -1)) for each in pieces
        )
        return torch.cat([self.run(begun, bins + 1, of_bins)[..., -1, :] for begun, of_bins in own])

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


def _drawn(states: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw rows; each comes as often as the others, to one."""
    if n <= len(states):
        return states[torch.randperm(len(states), generator=generator, device=states.device)[:n]]
    return states[torch.randint(len(states), (n,), generator=generator, device=states.device)]
