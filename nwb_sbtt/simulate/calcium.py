"""Simulated imaging with known truth: Lorenz latents, rates, spikes, calcium, and the fluorescence that is seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter

from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import advance, velocity
from nwb_sbtt.simulate.population import (
    FIRST_ID,
    ID_STEP,
    Task,
    check_positive,
    check_split_by,
    split_labels,
    trial_starts,
)

Floats = NDArray[np.float64]

TURNS = 1.57
"""Turns of z in a unit of Lorenz time, where its spectrum has its peak."""
HILL, HILL_GAIN = 2, 0.01
BURN_IN = 4.5
"""Lorenz time units before the first bin."""


@dataclass(frozen=True)
class Imaging:
    """A simulated imaging task: how the latents move, what the cells fire, and what is seen of their calcium.

    Parameters
    ----------
    n_bins : int
        Of a trial.
    bin_width : float
        Seconds.
    step : float
        Lorenz time units of an integration step.
    substeps : int
        Integration steps in a bin; latents are their mean.
    euler : bool
        Integrate latents by Euler's method, and let calcium lose ``Δ / τ`` of itself in a bin, as the first code of ladder
        LFADS does; else by Runge–Kutta's, and ``1 − exp(−Δ / τ)``.
    base_rate : float
        Hz where the latents are 0.
    decay : float
        Time constant τ of calcium, seconds.
    noise : float
        Sd of the fluorescence's noise, in units of what a spike adds to calcium.
    hill : bool
        Fluorescence is ``c² / (1 + 0.01 c²)`` of calcium c, not c.
    frame : int
        Bins from one frame to the next. Cells are sampled in turn in its bins, one after the other, all others unobserved.
    lead : int
        Bins before each trial in which cells fire as in the trial. With any, trials follow each other without a pause and
        calcium is carried over; without, each trial begins without calcium.
    """

    n_bins: int = 100
    bin_width: float = 0.1
    step: float = 0.015
    substeps: int = 2
    euler: bool = True
    base_rate: float = 1.0
    decay: float = 0.4
    noise: float = 0.2
    hill: bool = False
    frame: int = 1
    lead: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "step", "substeps", "base_rate", "decay", "frame")
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise DataError(f"noise is {self.noise}; expected zero or a positive number")
        if not 0 <= self.lead < self.n_bins:
            raise DataError(f"lead is {self.lead} bins; expected less than the {self.n_bins} bins of a trial")


LADDER = Imaging()
"""Data of Prince & Richards 2019: Lorenz, 100 bins of 0.1 s, τ 0.4 s, noise 0.2."""
VALPACA = Imaging(90, 1 / 30, step=1 / 30, substeps=1, euler=False, base_rate=5.0, decay=0.3, noise=0.5)
"""Data of Prince, Bakhtiari, Gillon & Richards 2021: 3 s at 30 Hz; there too with noise 0.2, and with `hill`."""


def subframe(*, frequency: float = 7.0, noise: float = 0.3) -> Imaging:
    """Make the task of Zhu et al. 2022: 10 ms bins, cells sampled every 30 ms in turn, z turning `frequency` times a second.

    Trials have 60 bins, after a lead of 30.
    """
    check_positive_number("frequency", frequency)
    substeps = 20
    step = frequency / TURNS * 0.01 / substeps
    return Imaging(90, 0.01, step, substeps, euler=False, base_rate=5.0, noise=noise, frame=3, lead=30)


def check_positive_number(name: str, value: float) -> None:
    """Refuse what is no positive number.

    Raises
    ------
    DataError
        Naming the setting.
    """
    if not (np.isfinite(value) and value > 0):
        raise DataError(f"{name} is {value}; expected a positive number")


def calcium(
    *,
    n_channels: int = 30,
    conditions: int = 65,
    trials_per_condition: int = 20,
    seed: int = 0,
    split_by: Literal["trial", "condition"] = "trial",
    task: Imaging = LADDER,
) -> xr.Dataset:
    """Simulate trials of fluorescence of cells whose rates follow a Lorenz system.

    Trials of a condition share the course of the latents. ``rate = base · exp(z W)``, with the three latents centred and
    divided by the greatest size of any, and W of either sign between 1 and 2; Poisson spikes; each adds 1 to calcium, which
    decays; and normal noise is added.

    Parameters
    ----------
    n_channels, conditions, trials_per_condition, seed : int
        As in the published data where nothing is said.
    split_by : "trial" or "condition"
        Whether the validation trials, a fifth, repeat the courses of the training trials, or have conditions of their own. The
        published split is by trial, and a look-up table of the training trials' courses does well in it.
    task : Imaging, optional

    Returns
    -------
    Dataset
        Of relative fluorescence, kind "rois", observed where each cell was sampled; with ``true_rates`` [Hz], ``true_spikes``,
        ``true_calcium`` (trial, time, channel), ``true_latents`` (trial, time, latent), the trial coordinates ``condition`` and
        ``split``, with a lead ``go_time``, its end on the session clock [s], and the channel coordinate ``sampling_offset``
        [s].

    Raises
    ------
    DataError
        If a size is too small.

    Examples
    --------
    >>> dict(calcium(conditions=3, trials_per_condition=5).sizes)
    {'trial': 15, 'time': 100, 'channel': 30, 'latent': 3}
    """
    sizes = Task(n_channels, task.n_bins, task.bin_width, conditions, trials_per_condition)
    check_split_by(split_by)
    generator = np.random.default_rng(seed)
    latents = _courses(generator, conditions, task)
    weights = (generator.uniform(1, 2, (3, n_channels))) * generator.choice([-1, 1], (3, n_channels))
    rates = task.base_rate * np.exp(latents @ weights)
    condition = generator.permutation(np.repeat(np.arange(conditions), trials_per_condition))
    spikes = generator.poisson(rates[condition] * task.bin_width)
    level = _calcium(spikes.astype(float), task)
    light = level**HILL / (1 + HILL_GAIN * level**HILL) if task.hill else level
    values = light + generator.normal(0, task.noise, level.shape)
    phase = np.arange(n_channels) % task.frame
    observed = np.broadcast_to(np.arange(task.n_bins)[:, None] % task.frame == phase, values.shape)
    if task.lead:
        starts = np.round(0.5 + np.arange(len(condition)) * sizes.duration, 9)
    else:
        starts = trial_starts(generator, len(condition), sizes.duration)
    ds = make_dataset(
        values,
        observed,
        bin_width=task.bin_width,
        kind="rois",
        channel_id=FIRST_ID + ID_STEP * np.arange(n_channels),
        trial_start=starts,
        coords={
            "condition": ("trial", condition),
            "split": ("trial", split_labels(generator, condition, by=split_by)),
            "sampling_offset": ("channel", phase * task.bin_width),
            **({"go_time": ("trial", starts + task.lead * task.bin_width)} if task.lead else {}),
        },
        attrs={
            "unit": "a.u.",
            "bin_reference": "center",
            "session_id": f"calcium-{seed}",
            "system": "calcium",
            "signal": "dF/F",
            "signal_reason": "simulated",
            "frame": task.frame,
        },
    )
    return ds.assign(
        true_rates=(DIMS, rates[condition].astype(np.float32)),
        true_spikes=(DIMS, spikes.astype(np.float32)),
        true_calcium=(DIMS, level.astype(np.float32)),
        true_latents=(("trial", "time", "latent"), latents[condition].astype(np.float32)),
    )


def _calcium(spikes: Floats, task: Imaging) -> Floats:
    """Calcium (trial, time, channel) that decays from bin to bin, and from trial to trial where they follow each other."""
    share = task.bin_width / task.decay
    kept = 1 - share if task.euler else np.exp(-share)
    course = spikes.reshape(1, -1, spikes.shape[-1]) if task.lead else spikes
    return np.asarray(lfilter([1.0], [1.0, -kept], course, axis=1).reshape(spikes.shape))


def _courses(generator: np.random.Generator, conditions: int, task: Imaging) -> Floats:
    """Latents (condition, time, 3), centred and divided by the greatest size of any of them."""
    follow = _euler if task.euler else _runge_kutta
    state = generator.normal(size=(conditions, 3))
    for _ in range(round(BURN_IN / task.step)):
        state = follow(state, task.step)
    course = np.zeros((conditions, task.n_bins, 3))
    for i in range(task.n_bins * task.substeps):
        state = follow(state, task.step)
        course[:, i // task.substeps] += state / task.substeps
    course -= course.mean((0, 1))
    return np.asarray(course / np.abs(course).max())


def _euler(state: Floats, step: float) -> Floats:
    return np.asarray(state + step * velocity(state))


def _runge_kutta(state: Floats, step: float) -> Floats:
    return advance(state, step=step, n_steps=1)
