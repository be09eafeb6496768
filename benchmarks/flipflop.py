"""A recurrent network that holds three bits: dynamics that follow known inputs, with known rates.

A GRU learns to hold the sign of the last pulse on each of three inputs (Sussillo and Barak 2013). Its states, projected at
random and put through an exponential, are the rates of Poisson neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from fits import observe
from numpy.typing import NDArray
from torch import Tensor, nn

import nwb_sbtt as sb

BINS, BIN_WIDTH, NEURONS, BITS, UNITS = 100, 0.01, 50, 3, 64
PULSES, AT_ONCE, LEARNING_RATE = 0.04, 128, 3e-3
"""Share of bins with a pulse on an input; trials in a step of training the network, and its learning rate."""
MEAN_COUNT, GAIN, MOST = 0.1, 0.9, 2.0
"""Median of counts in a bin, sd of the logarithm of rates over time and trials, and highest expected count."""


@dataclass(frozen=True)
class FlipFlop:
    """Trials of the network: counts and rates [Hz] (trial, time, neuron), inputs (trial, time, bit), and its error.

    `network` is the trained one, and `states` (trial, time, unit) are its own.
    """

    counts: NDArray[np.int64]
    rates: NDArray[np.float64]
    inputs: NDArray[np.float64]
    error: float
    states: NDArray[np.float64]
    network: nn.GRU


def simulate(seed: int, *, trials: int = 1000, steps: int = 900) -> FlipFlop:
    """Train the network, and record neurons that read its states.

    Parameters
    ----------
    seed : int
        Of pulses, network, read-out and counts.
    trials : int
    steps : int
        Of training the network.
    """
    random = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, read_out = nn.GRU(BITS, UNITS, batch_first=True), nn.Linear(UNITS, BITS)
        train(network, read_out, lambda: (*_trials(random, AT_ONCE), torch.ones(())), steps=steps)
        pulses, held = _trials(random, trials)
        with torch.no_grad():
            states, _ = network(pulses)
            error = float(((read_out(states) - held) ** 2).mean())
    expected = expected_counts(random, states.numpy(), NEURONS)
    counts = random.poisson(expected)
    inputs = pulses.numpy().astype(float)
    return FlipFlop(counts, expected / BIN_WIDTH, inputs, error, states.numpy().astype(float), network)


def train(
    network: nn.Module, read_out: nn.Module, draw: Callable[[], tuple[Tensor, Tensor, Tensor]], *, steps: int
) -> None:
    """Train a network on a task.

    Parameters
    ----------
    network : Module
        From inputs (trial, time, input) to states (trial, time, unit) and something else.
    read_out : Module
        From states to outputs.
    draw : callable
        Gives the inputs of some trials, the outputs to reach, and the weight of each.
    steps : int
    """
    optimizer = torch.optim.Adam([*network.parameters(), *read_out.parameters()], LEARNING_RATE)
    for _ in range(steps):
        inputs, target, weight = draw()
        states, _ = network(inputs + 0.02 * torch.randn_like(inputs))
        loss = (weight * (read_out(states) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def expected_counts(random: np.random.Generator, states: NDArray[np.floating], n: int) -> NDArray[np.float64]:
    """Counts that are expected of so many neurons: exponentials of random projections of the states, with a ceiling."""
    activity = states @ random.normal(size=(states.shape[-1], n))
    activity = (activity - activity.mean((0, 1))) / activity.std((0, 1))
    return np.asarray(np.minimum(MEAN_COUNT * np.exp(GAIN * activity), MOST))


def named_inputs(task: FlipFlop) -> dict[str, NDArray[np.float64]]:
    """Pulses on each input (trial, time), by its name."""
    return {f"bit {i + 1}": task.inputs[:, :, i] for i in range(BITS)}


def dataset(
    counts: NDArray[np.integer],
    inputs: Mapping[str, NDArray[np.float64]],
    *,
    observed: int,
    seed: int,
    bin_width: float = BIN_WIDTH,
) -> xr.Dataset:
    """Make data in which so many neurons are observed in each bin, with known inputs by name, if there are any."""
    ds = observe(sb.from_numpy(counts.astype(float), bin_width=bin_width), observed, seed=seed)
    if inputs:
        ds = sb.with_inputs(ds, inputs)
    return sb.split(ds, valid=0.2, test=0.0, seed=seed)


def _trials(random: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
    """Pulses (trial, time, bit) and the sign of the last one on each input, 0 before the first."""
    pulses = (random.random((n, BINS, BITS)) < PULSES) * random.choice([-1.0, 1.0], (n, BINS, BITS))
    held, now = np.zeros_like(pulses), np.zeros((n, BITS))
    for t in range(BINS):
        now = np.where(pulses[:, t] != 0, pulses[:, t], now)
        held[:, t] = now
    return torch.tensor(pulses, dtype=torch.float32), torch.tensor(held, dtype=torch.float32)
