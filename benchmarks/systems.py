"""Systems whose truth is known: states, rates, known inputs, and the map from the states of one bin to those of the next.

* lorenz: the Lorenz system of `nwb_sbtt.simulate`, every trial from another start.
* flip-flop: three bits held by a GRU (`flipflop.py`).
* phase memory: a GRU that holds the phase of an oscillation. It is given a sine of any period and phase; a cue tells whether to
  follow it in phase or in antiphase (Pals et al. 2024; here as in the benchmark of Versteeg et al. 2025).
* delayed match: a chaotic rate network that says whether two cues, a delay apart, were different (the delayed task of the same
  benchmark). Its random recurrence stays as it is; inputs and three further modes of recurrence are trained, for so few steps
  that it is still chaotic.
* chaotic: a random rate network (Sompolinsky et al. 1988; Sussillo et al. 2016), x' = x + α (−x + g W tanh x), at g = 2.5.

All are read by 50 Poisson neurons, exponentials of random projections of the states. Further neurons, `apart`, are for tests of
latents that were inferred without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import flipflop
import numpy as np
import torch
from fits import lorenz_scale
from flipflop import NEURONS, expected_counts, train
from numpy.typing import NDArray
from torch import Tensor, nn

import nwb_sbtt as sb
from nwb_sbtt.simulate.lorenz import LorenzDynamics

APART = 10
"""Neurons that no fit is given."""
BINS = 100
PHASE_UNITS, PHASE_STEPS, PERIODS = 32, 500, (12.5, 25.0)
"""Of the phase memory: units, steps of training, and shortest and longest period of the oscillation [bins]."""
IN_PHASE, IN_ANTIPHASE = 0.2 * np.pi, 1.2 * np.pi
"""By how much the output is behind the given sine after either cue [rad]."""
MATCH_UNITS, MATCH_STEPS, MATCH_GAIN, MODES = 64, 400, 2.5, 3
"""Of the delayed match: units, steps of training, gain of the random recurrence, and modes that are trained beside it."""
CUE, WAIT = 15, 10
"""Bins of each cue of the delayed match, and bins from the second one to the response."""
UNITS, CHAOS_GAIN, SHARE = 50, 2.5, 0.4
"""Of the random network: units and gain; and share of the way to its target that a state goes in a bin."""
MATCH_SHARE = 0.3
"""The same of the delayed match."""
SUBSTEPS = 5
"""Runge-Kutta steps in a bin of the Lorenz system as a map; the simulation takes more, to the same digits."""
LEAST_EXPONENT, BURN_IN = 0.01, 500
"""Growth of differences per bin above which a random network counts as chaotic, and bins before it is measured."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class System:
    """Trials of a system and its truth.

    Parameters
    ----------
    states : array (trial, time, dimension)
    rates : array (trial, time, neuron)
        Hz.
    counts, apart : int array (trial, time, neuron)
        Of the neurons that a fit is given, and of others.
    step : callable
        From the states (…, dimension) of a bin and the inputs (…, input) of the next one to the states of that; differentiates
        by torch, in double precision.
    inputs : dict of name to array (trial, time)
        Known inputs.
    bin_width : float
        Seconds.
    error : float
        Mean squared error of the task that the network was trained on, where it was.
    """

    states: Floats
    rates: Floats
    counts: NDArray[np.int64]
    apart: NDArray[np.int64]
    step: Callable[[Tensor, Tensor], Tensor]
    inputs: dict[str, Floats] = field(default_factory=dict)
    bin_width: float = flipflop.BIN_WIDTH
    error: float = 0.0

    def free(self, state: Tensor) -> Tensor:
        """Go on by one bin without inputs."""
        return self.step(state, state.new_zeros(*state.shape[:-1], len(self.inputs)))


def lorenz(seed: int, *, trials: int, steps: float = 1.0) -> System:
    """Simulate the Lorenz system. There is nothing to train, so `steps` changes nothing."""
    simulated = sb.simulate.lorenz(n_channels=NEURONS + APART, conditions=trials, trials_per_condition=1, seed=seed)
    mean, sd = map(torch.from_numpy, lorenz_scale(seed, trials))
    step = LorenzDynamics.speed / SUBSTEPS

    def advance(state: Tensor, _inputs: Tensor) -> Tensor:
        state = mean + sd * state
        for _ in range(SUBSTEPS):
            a = lorenz_velocity(state)
            b = lorenz_velocity(state + step / 2 * a)
            c = lorenz_velocity(state + step / 2 * b)
            d = lorenz_velocity(state + step * c)
            state = state + step / 6 * (a + 2 * b + 2 * c + d)
        return (state - mean) / sd

    counts, rates = simulated["values"].values.astype(np.int64), simulated["true_rates"].values.astype(float)
    return System(
        simulated["true_latents"].values.astype(float),
        rates[..., :NEURONS],
        counts[..., :NEURONS],
        counts[..., NEURONS:],
        advance,
        bin_width=float(simulated.attrs["bin_width"]),
    )


def lorenz_velocity(state: Tensor) -> Tensor:
    """The Lorenz equations, as in `nwb_sbtt.simulate.lorenz`, for torch."""
    x, y, z = state.unbind(-1)
    return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)


def flip_flop(seed: int, *, trials: int, steps: float = 1.0) -> System:
    """Train a network that holds three bits; `steps` is the share of the usual training."""
    task = flipflop.simulate(seed, trials=trials, steps=round(900 * steps))
    random = np.random.default_rng([seed, 1])
    apart = random.poisson(expected_counts(random, task.states, APART))
    inputs = flipflop.named_inputs(task)
    return System(task.states, task.rates, task.counts, apart, gru_step(task.network), inputs=inputs, error=task.error)


def phase_memory(seed: int, *, trials: int, steps: float = 1.0) -> System:
    """Train a network that holds the phase of an oscillation; `steps` is the share of the usual training."""
    random = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, read_out = nn.GRU(3, PHASE_UNITS, batch_first=True), nn.Linear(PHASE_UNITS, 1)
        train(network, read_out, lambda: _phases(random, flipflop.AT_ONCE), steps=round(PHASE_STEPS * steps))
        given, target, _ = _phases(random, trials)
        with torch.no_grad():
            states, _ = network(given)
            error = float(((read_out(states) - target) ** 2).mean())
    inputs = dict(
        zip(("reference", "in phase", "in antiphase"), given.double().numpy().transpose(2, 0, 1), strict=True)
    )
    return _read(random, states, gru_step(network), inputs=inputs, error=error)


def delayed_match(seed: int, *, trials: int, steps: float = 1.0) -> System:
    """Train a chaotic network that compares two cues; `steps` is the share of the usual training."""
    random = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = chaotic_network(2, MATCH_UNITS, gain=MATCH_GAIN, share=MATCH_SHARE, modes=MODES).float()
        read_out = nn.Sequential(nn.Tanh(), nn.Linear(MATCH_UNITS, 1))
        train(network, read_out, lambda: _matches(random, flipflop.AT_ONCE), steps=round(MATCH_STEPS * steps))
        given, target, weight = _matches(random, trials)
        with torch.no_grad():
            states, _ = network(given)
            error = float((weight * (read_out(states) - target) ** 2).mean())
    inputs = dict(zip(("cue A", "cue B"), given.double().numpy().transpose(2, 0, 1), strict=True))
    return _read(random, states, network.double().requires_grad_(False).step, inputs=inputs, error=error)


def chaotic(seed: int, *, trials: int, steps: float = 1.0) -> System:
    """Run a random network. There is nothing to train, so `steps` changes nothing."""
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = chaotic_network(0, UNITS, gain=CHAOS_GAIN, share=SHARE, modes=0)
        course = [_settled(network, trials)]
        for _ in range(BINS - 1):
            course.append(network.step(course[-1], course[-1].new_zeros(trials, 0)))
    return _read(random, torch.stack(course, 1), network.requires_grad_(False).step)


SYSTEMS = {
    "lorenz": lorenz,
    "flip-flop": flip_flop,
    "phase memory": phase_memory,
    "delayed match": delayed_match,
    "chaotic": chaotic,
}


class RateNetwork(nn.Module):
    """Units x' = x + share · (−x + W tanh x + B u); W is random, plus some modes that are trained, as B is.

    Parameters
    ----------
    inputs, units : int
    gain : float
        Of the random recurrence: sd of a weight times the root of the number of units.
    share : float
        Of the way to its target that a state goes in a bin.
    modes : int
        Rank of what is trained of the recurrence.
    """

    random: Tensor

    def __init__(self, inputs: int, units: int, *, gain: float, share: float, modes: int):
        super().__init__()
        self.share = share
        self.register_buffer("random", gain * torch.randn(units, units) / units**0.5)
        self.outward, self.inward = (nn.Parameter(torch.randn(units, modes) / units**0.5) for _ in range(2))
        self.weights = nn.Parameter(2 * torch.rand(units, inputs) - 1)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run from random starts near 0; give the states (trial, time, unit) and the last ones."""
        states = [0.2 * torch.rand(len(inputs), len(self.random)) - 0.1]
        for now in inputs.unbind(1):
            states.append(self.step(states[-1], now))
        return torch.stack(states[1:], 1), states[-1]

    def step(self, state: Tensor, inputs: Tensor) -> Tensor:
        """Go on by one bin."""
        recurrence = self.random + self.outward @ self.inward.T
        return state + self.share * (torch.tanh(state) @ recurrence.T + inputs @ self.weights.T - state)


def chaotic_network(inputs: int, units: int, *, gain: float, share: float, modes: int) -> RateNetwork:
    """Draw a network, in double precision, again and again until small differences grow: not every one is chaotic."""
    while True:
        network = RateNetwork(inputs, units, gain=gain, share=share, modes=modes).double()
        if _growth(network) >= LEAST_EXPONENT:
            return network


def gru_step(network: nn.GRU) -> Callable[[Tensor, Tensor], Tensor]:
    """The map of a GRU of one layer, in double precision."""
    of_inputs, of_states, bias, state_bias = (each.detach().double() for each in network.parameters())

    def step(state: Tensor, inputs: Tensor) -> Tensor:
        reset, keep, new = (inputs @ of_inputs.T + bias).chunk(3, -1)
        reset_, keep_, new_ = (state @ of_states.T + state_bias).chunk(3, -1)
        keep = torch.sigmoid(keep + keep_)
        return keep * state + (1 - keep) * torch.tanh(new + torch.sigmoid(reset + reset_) * new_)

    return step


def _read(
    random: np.random.Generator,
    states: Tensor,
    step: Callable[[Tensor, Tensor], Tensor],
    *,
    inputs: dict[str, Floats] | None = None,
    error: float = 0.0,
) -> System:
    """Let neurons read the states."""
    course = states.double().numpy()
    expected, apart = (expected_counts(random, course, n) for n in (NEURONS, APART))
    counts = random.poisson(expected)
    rates = expected / flipflop.BIN_WIDTH
    return System(course, rates, counts, random.poisson(apart), step, inputs=inputs or {}, error=error)


def _settled(network: RateNetwork, n: int) -> Tensor:
    """States on the attractor of a network without inputs."""
    states = torch.randn(n, len(network.random), dtype=torch.float64)
    for _ in range(BURN_IN):
        states = network.step(states, states.new_zeros(n, network.weights.shape[1]))
    return states


@torch.no_grad()
def _growth(network: RateNetwork, *, runs: int = 16, small: float = 1e-7) -> float:
    """Growth of a small difference per bin, of a network without inputs."""
    states, total = _settled(network, runs), 0.0
    apart, nothing = torch.randn_like(states), states.new_zeros(runs, network.weights.shape[1])
    for _ in range(BURN_IN):
        near = states + small * apart / apart.norm(dim=1, keepdim=True)
        states, near = network.step(states, nothing), network.step(near, nothing)
        apart = near - states
        total += float((apart.norm(dim=1) / small).log().mean())
    return total / BURN_IN


def _phases(random: np.random.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sine and two cues (trial, time, input), and the sine behind it."""
    bins = np.arange(BINS)
    period, phase = random.uniform(*PERIODS, (n, 1)), random.uniform(0, 2 * np.pi, (n, 1))
    start, length, anti = (random.integers(low, high, (n, 1)) for low, high in ((15, 30), (15, 20), (0, 2)))
    angle = 2 * np.pi * bins / period + phase
    cued = (bins >= start) & (bins < start + length)
    inputs = np.stack([np.sin(angle), cued & (anti == 0), cued & (anti == 1)], -1)
    behind = np.where(bins < start, 0, np.where(anti, IN_ANTIPHASE, IN_PHASE))
    return _tensor(inputs), _tensor(np.sin(angle - behind)[..., None]), torch.ones(())


def _matches(random: np.random.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two cues (trial, time, cue), 1 or −1 at the end where they differ or not, and the bins that count."""
    bins = np.arange(BINS)
    first, second = random.integers(0, 2, (2, n))
    start, delay = random.integers(5, 11, n), random.integers(15, 26, n)
    again = start + CUE + delay
    inputs = np.zeros((n, BINS, 2))
    for cue, begin in ((first, start), (second, again)):
        trial, at = np.nonzero((bins >= begin[:, None]) & (bins < begin[:, None] + CUE))
        inputs[trial, at, cue[trial]] = 1
    answers = bins >= (again + CUE + WAIT)[:, None]
    target = np.where(answers, np.where(first != second, 1, -1)[:, None], 0)
    weight = answers + 0.2 * (bins < again[:, None])
    return _tensor(inputs), _tensor(target[..., None]), _tensor(weight[..., None])


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.tensor(array, dtype=torch.float32)
