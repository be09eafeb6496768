"""Simulated imaging: Lorenz latents, rates, spikes, calcium, and the fluorescence measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter

from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import advance_lorenz, lorenz_velocity
from nwb_sbtt.simulate.population import (
    FIRST_ID,
    ID_STEP,
    Sizes,
    check_positive,
    check_positive_number,
    check_split_by,
    split_labels,
    trial_starts,
)

Floats = NDArray[np.float64]

CYCLES = 1.57
"""Cycles of z in a unit of Lorenz time, where its spectrum has its peak."""
HILL, HILL_GAIN = 2, 0.01
"""Exponent and gain of a fluorescence that saturates."""
BURN_IN = 4.5
"""Lorenz time units before the first bin."""


@dataclass(frozen=True)
class Imaging:
    """A simulated imaging task: how the latents move, how the cells fire, and how their calcium is measured.

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
        Integrate latents by Euler's method, and let calcium lose the share ``Δ / τ`` in a bin, as the first code of ladder
        LFADS does; else by Runge–Kutta's, and ``1 − exp(−Δ / τ)``.
    base_rate : float
        Hz where the latents are 0.
    decay_time : float
        Time constant τ of calcium, seconds.
    noise_sd : float
        Sd of the fluorescence's noise, in units of what a spike adds to calcium.
    hill : bool
        Fluorescence is ``c² / (1 + 0.01 c²)`` of calcium c, not c.
    bins_per_frame : int
        Bins from one frame to the next. Cells are sampled in turn in its bins, one after the other; all others are missing.
    lead_bins : int
        Bins before each trial in which cells fire as in the trial. With any, trials follow each other without a pause and
        calcium is carried over; without, each trial begins without calcium.

    Raises
    ------
    DataError
        If a setting is out of range.
    """

    n_bins: int = 100
    bin_width: float = 0.1
    step: float = 0.015
    substeps: int = 2
    euler: bool = True
    base_rate: float = 1.0
    decay_time: float = 0.4
    noise_sd: float = 0.2
    hill: bool = False
    bins_per_frame: int = 1
    lead_bins: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "step", "substeps", "base_rate", "decay_time", "bins_per_frame")
        if not (np.isfinite(self.noise_sd) and self.noise_sd >= 0):
            raise DataError(f"noise_sd is {self.noise_sd}; expected zero or a positive number")
        if not 0 <= self.lead_bins < self.n_bins:
            raise DataError(f"lead_bins is {self.lead_bins}; expected fewer than the {self.n_bins} bins of a trial")


LADDER = Imaging()
"""Data of Prince & Richards 2019: Lorenz, 100 bins of 0.1 s, τ 0.4 s, noise 0.2."""
VALPACA = Imaging(90, 1 / 30, step=1 / 30, substeps=1, euler=False, base_rate=5.0, decay_time=0.3, noise_sd=0.5)
"""Data of Prince, Bakhtiari, Gillon & Richards 2021: 3 s at 30 Hz; also with noise 0.2, and with `hill`."""


def subframe(*, frequency: float = 7.0, noise_sd: float = 0.3) -> Imaging:
    """Make the task of Zhu et al. 2022 (RADICaL): 10 ms bins, cells sampled in turn, every 30 ms.

    Trials have 60 bins, after a lead of 30.

    Parameters
    ----------
    frequency : float
        Cycles of the latent z in a second.
    noise_sd : float
        As of `Imaging`.

    Raises
    ------
    DataError
        If a setting is out of range.
    """
    check_positive_number("frequency", frequency)
    substeps = 20
    step = frequency / CYCLES * 0.01 / substeps
    return Imaging(
        90, 0.01, step, substeps, euler=False, base_rate=5.0, noise_sd=noise_sd, bins_per_frame=3, lead_bins=30
    )


def calcium(
    *,
    n_channels: int = 30,
    conditions: int = 65,
    trials_per_condition: int = 20,
    seed: int = 0,
    split_by: Literal["trial", "condition"] = "trial",
    imaging: Imaging = LADDER,
) -> xr.Dataset:
    """Simulate trials of fluorescence of cells whose rates follow a Lorenz system.

    Trials of a condition share the trajectory of the latents. ``rate = base · exp(z W)``, with the three latents centred and
    divided by the greatest absolute value, and W of either sign between 1 and 2; Poisson spikes; each adds 1 to calcium, which
    decays; and normal noise is added.

    Parameters
    ----------
    n_channels, conditions, trials_per_condition, seed : int
        Defaults as in the published data.
    split_by : "trial" or "condition"
        Whether the validation trials, a fifth, repeat the trajectories of the training trials, or whole conditions are held
        out. The published split is by trial, and a look-up table of the training trials' trajectories does well in it.
    imaging : Imaging, optional
        Default: the data of Prince & Richards 2019.

    Returns
    -------
    Dataset
        Of relative fluorescence, kind "rois", observed where each cell was sampled; with ``true_rates`` [Hz], ``true_spikes``,
        ``true_calcium`` (trial, time, channel), ``true_latents`` (trial, time, latent), the trial coordinates ``condition`` and
        ``split``, with a lead ``go_time``, its end on the session clock [s], and the channel coordinate ``sampling_offset``
        [s], from the frame to the channel's sample.

    Raises
    ------
    DataError
        If a size is too small, `split_by` is neither, or steps are so long that the latents diverge.

    Examples
    --------
    >>> dict(calcium(conditions=3, trials_per_condition=5).sizes)
    {'trial': 15, 'time': 100, 'channel': 30, 'latent': 3}
    """
    sizes = Sizes(n_channels, imaging.n_bins, imaging.bin_width, conditions, trials_per_condition)
    check_split_by(split_by)
    generator = np.random.default_rng(seed)
    latents = _trajectories(generator, conditions, imaging)
    weights = generator.uniform(1, 2, (3, n_channels)) * generator.choice([-1, 1], (3, n_channels))
    rates = imaging.base_rate * np.exp(latents @ weights)
    condition = generator.permutation(np.repeat(np.arange(conditions), trials_per_condition))
    spikes = generator.poisson(rates[condition] * imaging.bin_width)
    level = _calcium(spikes.astype(float), imaging)
    fluorescence = level**HILL / (1 + HILL_GAIN * level**HILL) if imaging.hill else level
    values = fluorescence + generator.normal(0, imaging.noise_sd, level.shape)
    phase = np.arange(n_channels) % imaging.bins_per_frame
    observed = np.broadcast_to(np.arange(imaging.n_bins)[:, None] % imaging.bins_per_frame == phase, values.shape)
    if imaging.lead_bins:
        starts = np.round(0.5 + np.arange(len(condition)) * sizes.duration, 9)
    else:
        starts = trial_starts(generator, len(condition), sizes.duration)
    ds = make_dataset(
        values,
        observed,
        bin_width=imaging.bin_width,
        kind="rois",
        channel_id=FIRST_ID + ID_STEP * np.arange(n_channels),
        trial_start=starts,
        coords={
            "condition": ("trial", condition),
            "split": ("trial", split_labels(generator, condition, by=split_by)),
            "sampling_offset": ("channel", phase * imaging.bin_width),
            **({"go_time": ("trial", starts + imaging.lead_bins * imaging.bin_width)} if imaging.lead_bins else {}),
        },
        attrs={
            "unit": "a.u.",
            "bin_reference": "center",
            "session_id": f"calcium-{seed}",
            "system": "calcium",
            "signal": "dF/F",
            "signal_reason": "simulated",
            "frame": imaging.bins_per_frame,
        },
    )
    return ds.assign(
        true_rates=(DIMS, rates[condition].astype(np.float32)),
        true_spikes=(DIMS, spikes.astype(np.float32)),
        true_calcium=(DIMS, level.astype(np.float32)),
        true_latents=(("trial", "time", "latent"), latents[condition].astype(np.float32)),
    )


def _calcium(spikes: Floats, imaging: Imaging) -> Floats:
    """Calcium (trial, time, channel) that decays from bin to bin, and from trial to trial where they follow each other."""
    share = imaging.bin_width / imaging.decay_time
    decay_per_bin = 1 - share if imaging.euler else np.exp(-share)
    train = spikes.reshape(1, -1, spikes.shape[-1]) if imaging.lead_bins else spikes
    return np.asarray(lfilter([1.0], [1.0, -decay_per_bin], train, axis=1).reshape(spikes.shape))


def _trajectories(generator: np.random.Generator, conditions: int, imaging: Imaging) -> Floats:
    """Latents (condition, time, 3), centred and divided by the greatest absolute value."""
    advance_step = _euler if imaging.euler else _runge_kutta
    state = generator.normal(size=(conditions, 3))
    latents = np.zeros((conditions, imaging.n_bins, 3))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(round(BURN_IN / imaging.step)):
            state = advance_step(state, imaging.step)
        for i in range(imaging.n_bins * imaging.substeps):
            state = advance_step(state, imaging.step)
            latents[:, i // imaging.substeps] += state / imaging.substeps
    if not np.isfinite(latents).all():
        raise DataError(
            f"the latents diverge with integration steps of {imaging.step:g} Lorenz time units; use shorter steps, or "
            "a lower speed"
        )
    latents -= latents.mean((0, 1))
    return np.asarray(latents / np.abs(latents).max())


def _euler(state: Floats, step: float) -> Floats:
    return np.asarray(state + step * lorenz_velocity(state))


def _runge_kutta(state: Floats, step: float) -> Floats:
    return advance_lorenz(state, step=step, n_steps=1)
