"""Data with known truth in which a model needs inputs: an oscillation that each trial kicks at a moment of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.population import (
    Readout,
    Task,
    check_positive,
    check_split_by,
    recorded,
    split_labels,
    trial_starts,
)

SUBSTEPS = 20
EARLIEST, LATEST = 0.2, 0.8
"""Between which shares of the trial the middle of the kick lies."""
WEAKEST, STRONGEST = 0.5, 1.5
"""Between which multiples of the mean strength a kick lies."""


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
        Whether the validation trials begin at phases that training trials begin at, or at phases of their own.
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

    The state `z` in the plane follows dz/dt = iωz + (1 − |z|²) z / 2τ + u(t): a circle that it returns to (the normal form
    of a Hopf bifurcation). A condition is the phase at which a trial begins. Time, direction and strength of the kick u(t)
    are drawn for each trial, so that no two trials follow the same course, and what comes after the kick cannot be
    told from what came before. The log-rates are a random linear read-out of the state.

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
        As `nwb_sbtt.data.schema` says, with ``true_rates`` (trial, time, channel) in Hz, ``true_latents`` (trial, time,
        latent), the state; ``true_inputs`` (trial, time, input), the mean kick in each bin in radii per second; and the trial
        coordinates ``condition``, ``split`` (a fifth is "valid") and ``kick_time``,
        the middle of the kick in seconds on the session clock.

    Raises
    ------
    DataError
        If a size is too small.

    Examples
    --------
    >>> dict(perturbation(conditions=3, trials_per_condition=5).sizes)
    {'trial': 15, 'time': 50, 'channel': 29, 'latent': 2, 'input': 2}
    """
    dynamics = dynamics or KickedOscillation()
    task = Task(n_channels, n_bins, bin_width, conditions, trials_per_condition)
    generator = np.random.default_rng(seed)
    condition = generator.permutation(np.repeat(np.arange(conditions), trials_per_condition))
    n_trials = len(condition)
    phase = generator.uniform(0, 2 * np.pi, conditions)[condition]
    middle = generator.uniform(EARLIEST, LATEST, n_trials) * task.duration
    size = dynamics.strength * generator.uniform(WEAKEST, STRONGEST, n_trials)
    kick = size * np.exp(1j * generator.uniform(0, 2 * np.pi, n_trials))
    state, pushed = _courses(np.exp(1j * phase), kick, middle=middle, task=task, dynamics=dynamics)
    rates = Readout(dynamics.depth).rates(generator, state, n_channels)
    counts = generator.poisson(rates * bin_width)
    starts = trial_starts(generator, n_trials, task.duration)
    ds = recorded(
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
    return ds.assign(true_inputs=(("trial", "time", "input"), pushed.astype(np.float32)))


def _courses(
    state: NDArray[np.complex128],
    kick: NDArray[np.complex128],
    *,
    middle: NDArray[np.float64],
    task: Task,
    dynamics: KickedOscillation,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """State at the bins' centres and mean kick in the bins, both (trial, time, 2)."""
    step = task.bin_width / SUBSTEPS
    course = np.empty((len(state), task.n_bins), dtype=np.complex128)
    for i in range(task.n_bins * SUBSTEPS):
        if i % SUBSTEPS == SUBSTEPS // 2:
            course[:, i // SUBSTEPS] = state
        pushed = _share(i * step - middle, (i + 1) * step - middle, dynamics.pulse)
        # Half of the push before the free course over a step, half after it.
        state = _free(state + kick * pushed / 2, step, dynamics) + kick * pushed / 2
    edges = np.arange(task.n_bins + 1) * task.bin_width - middle[:, None]
    inputs = kick[:, None] * _share(edges[:, :-1], edges[:, 1:], dynamics.pulse) / task.bin_width
    return _plane(course), _plane(inputs)


def _share(start: NDArray[np.float64], stop: NDArray[np.float64], pulse: float) -> NDArray[np.float64]:
    """Share of a kick that falls between two moments, in seconds from its middle."""
    reached = [np.sin(np.clip(moment / pulse, -0.5, 0.5) * np.pi) / 2 for moment in (start, stop)]
    return np.asarray(reached[1] - reached[0])


def _free(state: NDArray[np.complex128], step: float, dynamics: KickedOscillation) -> NDArray[np.complex128]:
    """Where the oscillation is after a step: its exact solution in polar coordinates."""
    power = np.abs(state) ** 2
    decay = np.exp(-step / dynamics.relaxation)
    turned = state * np.exp(2j * np.pi * dynamics.frequency * step)
    return np.asarray(turned / np.sqrt(power + (1 - power) * decay))


def _plane(course: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.stack([course.real, course.imag], axis=-1)
