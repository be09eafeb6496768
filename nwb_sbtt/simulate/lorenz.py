"""Poisson counts whose rates follow the Lorenz system (Lorenz 1963, Journal of the Atmospheric Sciences 20:130)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.simulate.population import (
    Readout,
    Sizes,
    check_positive,
    check_split_by,
    counts_dataset,
    split_labels,
    trial_starts,
)

SUBSTEPS = 40
"""Integration steps in a bin."""
BURN_IN = 20.0
"""Lorenz time units after which a start lies on the attractor."""
GO = 0.2
"""Seconds from a trial's start to its go cue, in whole bins; the middle of trials that are shorter than twice that."""


@dataclass(frozen=True)
class LorenzDynamics:
    """How fast the latents move, and how rates follow from them.

    Parameters
    ----------
    speed : float
        Lorenz time units per bin.
    mean_rate : float, optional
        Hz, over all channels and bins. Default: a base rate of 5 Hz, with a mean of about 11 Hz.
    depth : float
        Standard deviation of the logarithm of the rates, on average over channels.
    split_by : "trial" or "condition"
        Whether validation trials repeat the trajectories of the training trials, or whole conditions are held out. The
        second is the honest test: where trajectories repeat, a look-up table of them does well.

    Raises
    ------
    DataError
        If a setting is out of range.
    """

    speed: float = 0.05
    mean_rate: float | None = None
    depth: float = 1.35
    split_by: Literal["trial", "condition"] = "trial"

    def __post_init__(self) -> None:
        check_positive(self, "speed", "mean_rate", "depth")
        check_split_by(self.split_by)


def lorenz(
    *,
    n_channels: int = 29,
    n_bins: int = 50,
    bin_width: float = 0.02,
    conditions: int = 65,
    trials_per_condition: int = 24,
    seed: int = 0,
    dynamics: LorenzDynamics | None = None,
) -> xr.Dataset:
    """Simulate trials of Poisson counts driven by a Lorenz system.

    Each condition starts at another point of the attractor; its trials share the trajectory of the latents and differ by
    Poisson noise. The log-rates are a random linear read-out of the three latents. Trials come in random order, with
    pauses between them.

    Parameters
    ----------
    n_channels, n_bins, conditions, trials_per_condition : int
    bin_width : float
        Seconds.
    seed : int
    dynamics : LorenzDynamics, optional

    Returns
    -------
    Dataset
        As described in `nwb_sbtt.data.schema`, with ``true_rates`` (trial, time, channel) in Hz, ``true_latents`` (trial, time,
        latent) with unit variance, and the trial coordinates ``condition``, ``split`` (a fifth is "valid") and
        ``go_time`` (seconds on the session clock).

    Raises
    ------
    DataError
        If a size is too small.

    Examples
    --------
    >>> dict(lorenz(conditions=3, trials_per_condition=5).sizes)
    {'trial': 15, 'time': 50, 'channel': 29, 'latent': 3}
    """
    dynamics = dynamics or LorenzDynamics()
    sizes = Sizes(n_channels, n_bins, bin_width, conditions, trials_per_condition)
    generator = np.random.default_rng(seed)
    courses = lorenz_courses(generator, conditions, n_bins=n_bins, speed=dynamics.speed)
    latents = (courses - courses.mean((0, 1))) / courses.std((0, 1))
    rates = Readout(dynamics.depth, dynamics.mean_rate).rates(generator, latents, n_channels)
    condition = generator.permutation(np.repeat(np.arange(conditions), trials_per_condition))
    counts = generator.poisson(rates[condition] * bin_width)
    starts = trial_starts(generator, len(condition), sizes.duration)
    cue = min(round(GO / bin_width), n_bins // 2) * bin_width
    return counts_dataset(
        counts,
        bin_width=bin_width,
        starts=starts,
        rates=rates[condition],
        latents=latents[condition],
        coords={
            "condition": ("trial", condition),
            "split": ("trial", split_labels(generator, condition, by=dynamics.split_by)),
            "go_time": ("trial", starts + cue),
        },
        attrs={"session_id": f"lorenz-{seed}", "system": "lorenz"},
    )


def lorenz_courses(
    generator: np.random.Generator, n: int, *, n_bins: int = 50, speed: float = LorenzDynamics.speed
) -> NDArray[np.float64]:
    """Follow the Lorenz system from random starts on its attractor.

    Parameters
    ----------
    generator : numpy Generator
    n : int
        Number of courses.
    n_bins : int
    speed : float
        Lorenz time units per bin.

    Returns
    -------
    array (course, time, 3)
        x, y and z at the bins' centres. `lorenz` draws those of its conditions first of all, and gives them zero mean and unit
        variance over all conditions and bins.
    """
    state = generator.normal(size=(n, 3)) * [8.0, 9.0, 8.0] + [0.0, 0.0, 24.0]
    state = advance_lorenz(state, step=0.01, n_steps=round(BURN_IN / 0.01))
    step = speed / SUBSTEPS
    state = advance_lorenz(state, step=step, n_steps=SUBSTEPS // 2)
    courses = np.empty((n, n_bins, 3))
    for i in range(n_bins):
        courses[:, i] = state
        state = advance_lorenz(state, step=step, n_steps=SUBSTEPS)
    return courses


def advance_lorenz(state: NDArray[np.float64], *, step: float, n_steps: int) -> NDArray[np.float64]:
    """Follow the Lorenz equations for some steps by the Runge–Kutta method of fourth order.

    Parameters
    ----------
    state : array (condition, 3)
    step : float
        Lorenz time units.
    n_steps : int

    Returns
    -------
    array (condition, 3)
    """
    for _ in range(n_steps):
        a = lorenz_velocity(state)
        b = lorenz_velocity(state + step / 2 * a)
        c = lorenz_velocity(state + step / 2 * b)
        d = lorenz_velocity(state + step * c)
        state = state + step / 6 * (a + 2 * b + 2 * c + d)
    return state


def lorenz_velocity(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the Lorenz equations at σ = 10, ρ = 28, β = 8/3: dx = σ(y − x), dy = x(ρ − z) − y, dz = xy − βz.

    Parameters
    ----------
    state : array (condition, 3)
        x, y and z.

    Returns
    -------
    array (condition, 3)
        Rate of change per Lorenz time unit.
    """
    x, y, z = state.T
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)
