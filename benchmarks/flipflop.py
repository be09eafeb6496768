"""A recurrent network that holds three bits: dynamics that follow known inputs, with known rates.

A GRU learns to hold the sign of the last pulse on each of three inputs (Sussillo and Barak 2013). Its states, projected at
random and put through an exponential, are the rates of Poisson neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

import nwb_sbtt as sb

BINS, BIN_WIDTH, NEURONS, BITS, UNITS = 100, 0.01, 50, 3, 64
PULSES, AT_ONCE, LEARNING_RATE = 0.04, 128, 3e-3
"""Share of bins with a pulse on an input; trials in a step of training the network, and its learning rate."""
MEAN_COUNT, GAIN, MOST = 0.1, 0.9, 2.0
"""Median of counts in a bin, sd of the logarithm of rates over time and trials, and highest expected count."""


@dataclass(frozen=True)
class FlipFlop:
    """Trials of the network: counts and rates [Hz] (trial, time, neuron), inputs (trial, time, bit), and its error."""

    counts: NDArray[np.int64]
    rates: NDArray[np.float64]
    inputs: NDArray[np.float64]
    error: float


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
        optimizer = torch.optim.Adam([*network.parameters(), *read_out.parameters()], LEARNING_RATE)
        for _ in range(steps):
            pulses, held = _trials(random, AT_ONCE)
            states, _ = network(pulses + 0.02 * torch.randn_like(pulses))
            loss = ((read_out(states) - held) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        pulses, held = _trials(random, trials)
        with torch.no_grad():
            states, _ = network(pulses)
            error = float(((read_out(states) - held) ** 2).mean())
    activity = states.numpy() @ random.normal(size=(UNITS, NEURONS))
    activity = (activity - activity.mean((0, 1))) / activity.std((0, 1))
    expected = np.minimum(MEAN_COUNT * np.exp(GAIN * activity), MOST)
    return FlipFlop(random.poisson(expected), expected / BIN_WIDTH, pulses.numpy().astype(float), error)


def dataset(task: FlipFlop, *, observed: int, with_inputs: bool, seed: int) -> xr.Dataset:
    """Make data of the task in which so many neurons are observed in each bin."""
    ds = sb.from_numpy(task.counts.astype(float), bin_width=BIN_WIDTH)
    if observed < NEURONS:
        ds = sb.data.limit_bandwidth(ds, sb.config.BandwidthConfig(k=observed, seed=seed))
    if with_inputs:
        ds = sb.with_inputs(ds, {f"bit {i + 1}": task.inputs[:, :, i] for i in range(BITS)})
    return sb.split(ds, valid=0.2, test=0.0, seed=seed)


def _trials(random: np.random.Generator, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pulses (trial, time, bit) and the sign of the last one on each input, 0 before the first."""
    pulses = (random.random((n, BINS, BITS)) < PULSES) * random.choice([-1.0, 1.0], (n, BINS, BITS))
    held, now = np.zeros_like(pulses), np.zeros((n, BITS))
    for t in range(BINS):
        now = np.where(pulses[:, t] != 0, pulses[:, t], now)
        held[:, t] = now
    return torch.tensor(pulses, dtype=torch.float32), torch.tensor(held, dtype=torch.float32)
