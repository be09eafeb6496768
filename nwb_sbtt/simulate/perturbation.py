"""Poisson counts that no model explains without inputs: an oscillation, kicked in each trial at an unknown time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.population import (
    Readout,
    Sizes,
    check_positive,
    check_split_by,
    counts_dataset,
    split_labels,
    trial_starts,
)

SUBSTEPS = 20
"""Integration steps in a bin."""
EARLIEST, LATEST = 0.2, 0.8
"""Shares of the trial between which the middle of the kick lies."""
WEAKEST, STRONGEST = 0.5, 1.5
"""Multiples of the mean strength between which a kick lies."""


@dataclass(frozen=True)
class KickedOscillation:
    """An oscillation in a plane that returns to the unit circle, and the kick that throws it off.

    Parameters
    ----------
    frequency : float
        Hz.
    relaxation : float
        Seconds in which a small deviation from the circle shrinks to 1/e.
    strength : float
        By how much a kick moves the state, on average, in radii of the circle; 0 leaves the state alone.
    pulse : float
        Seconds that a kick lasts; it rises and falls as half a sine.
    depth : float
        Standard deviation of the logarithm of the rates, on average over channels.
    split_by : "trial" or "condition"
        Whether validation trials begin at the phases of training trials, or whole conditions are held out.

    Raises
    ------
    DataError
        If a setting is out of range.
    """

    frequency: float = 1.5
    relaxation: float = 0.25
    strength: float = 1.0
    pulse: float = 0.06
    depth: float = 1.35
    split_by: Literal["trial", "condition"] = "trial"

    def __post_init__(self) -> None:
        check_positive(self, "frequency", "relaxation", "pulse", "depth")
        if not (np.isfinite(self.strength) and self.strength >= 0):
            raise DataError(f"strength is {self.strength}; expected zero or a positive number")
        check_split_by(self.split_by)


def perturbation(
    *,
    n_channels: int = 29,
    n_bins: int = 50,
    bin_width: float = 0.02,
    conditions: int = 65,
    trials_per_condition: int = 24,
    seed: int = 0,
    dynamics: KickedOscillation | None = None,
) -> xr.Dataset:
    """Simulate trials of Poisson counts driven by an oscillation that is kicked once, at an unknown time.

    The state z in the plane follows ``dz/dt = iωz + (1 − |z|²) z / 2τ + u(t)``: a circle that it returns to (the normal form
    of a Hopf bifurcation). A condition is the phase at which a trial begins. Time, direction and strength of the kick u(t)
    are drawn for each trial, so that no two trials have the same trajectory, and what follows the kick cannot be predicted
    from what preceded it. The log-rates are a random linear read-out of the state.

    Parameters
    ----------
    n_channels, n_bins, conditions, trials_per_condition : int
    bin_width : float
        Seconds.
    seed : int
    dynamics : KickedOscillation, optional

    Returns
    -------
    Dataset
        As described in `nwb_sbtt.data.schema`, with ``true_rates`` (trial, time, channel) in Hz, ``true_latents`` (trial, time,
        latent), the state; ``true_inputs`` (trial, time, true_input), the mean kick in each bin in radii per second; and the
        trial coordinates ``condition``, ``split`` (a fifth is "valid") and ``kick_time``,
        the middle of the kick in seconds on the session clock.

    Raises
    ------
    DataError
        If a size is too small.

    Examples
    --------
    >>> dict(perturbation(conditions=3, trials_per_condition=5).sizes)
    {'trial': 15, 'time': 50, 'channel': 29, 'latent': 2, 'true_input': 2}
    """
    dynamics = dynamics or KickedOscillation()
    sizes = Sizes(n_channels, n_bins, bin_width, conditions, trials_per_condition)
    generator = np.random.default_rng(seed)
    condition = generator.permutation(np.repeat(np.arange(conditions), trials_per_condition))
    n_trials = len(condition)
    phase = generator.uniform(0, 2 * np.pi, conditions)[condition]
    middle = generator.uniform(EARLIEST, LATEST, n_trials) * sizes.duration
    strength = dynamics.strength * generator.uniform(WEAKEST, STRONGEST, n_trials)
    kick = strength * np.exp(1j * generator.uniform(0, 2 * np.pi, n_trials))
    state, inputs = _trajectories(np.exp(1j * phase), kick, middle=middle, sizes=sizes, dynamics=dynamics)
    rates = Readout(dynamics.depth).rates(generator, state, n_channels)
    counts = generator.poisson(rates * bin_width)
    starts = trial_starts(generator, n_trials, sizes.duration)
    ds = counts_dataset(
        counts,
        bin_width=bin_width,
        starts=starts,
        rates=rates,
        latents=state,
        coords={
            "condition": ("trial", condition),
            "split": ("trial", split_labels(generator, condition, by=dynamics.split_by)),
            "kick_time": ("trial", starts + middle),
        },
        attrs={"session_id": f"perturbation-{seed}", "system": "perturbation"},
    )
    return ds.assign(true_inputs=(("trial", "time", "true_input"), inputs.astype(np.float32)))


def _trajectories(
    state: NDArray[np.complex128],
    kick: NDArray[np.complex128],
    *,
    middle: NDArray[np.float64],
    sizes: Sizes,
    dynamics: KickedOscillation,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """State at the bins' centres and mean kick in the bins, both (trial, time, 2)."""
    step = sizes.bin_width / SUBSTEPS
    trajectory = np.empty((len(state), sizes.n_bins), dtype=np.complex128)
    for i in range(sizes.n_bins * SUBSTEPS):
        if i % SUBSTEPS == SUBSTEPS // 2:
            trajectory[:, i // SUBSTEPS] = state
        share = _kick_share(i * step - middle, (i + 1) * step - middle, dynamics.pulse)
        # Strang splitting: half of the kick before the exact free motion over a step, half after it.
        state = _free_motion(state + kick * share / 2, step, dynamics) + kick * share / 2
    edges = np.arange(sizes.n_bins + 1) * sizes.bin_width - middle[:, None]
    inputs = kick[:, None] * _kick_share(edges[:, :-1], edges[:, 1:], dynamics.pulse) / sizes.bin_width
    return _real_plane(trajectory), _real_plane(inputs)


def _kick_share(start: NDArray[np.float64], stop: NDArray[np.float64], pulse: float) -> NDArray[np.float64]:
    """Share of a kick that falls between two moments, in seconds from its middle: the integral of its half sine."""
    integrals = [np.sin(np.clip(moment / pulse, -0.5, 0.5) * np.pi) / 2 for moment in (start, stop)]
    return np.asarray(integrals[1] - integrals[0])


def _free_motion(state: NDArray[np.complex128], step: float, dynamics: KickedOscillation) -> NDArray[np.complex128]:
    """The state after a step without a kick.

    With p = |z|², dp/dt = (1 − p) p / τ is the logistic equation; its solution after t is p / (p + (1 − p) exp(−t / τ)).
    """
    power = np.abs(state) ** 2
    decay = np.exp(-step / dynamics.relaxation)
    rotated = state * np.exp(2j * np.pi * dynamics.frequency * step)
    return np.asarray(rotated / np.sqrt(power + (1 - power) * decay))


def _real_plane(trajectory: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.stack([trajectory.real, trajectory.imag], axis=-1)
