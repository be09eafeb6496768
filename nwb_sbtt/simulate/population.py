"""What all simulated tasks share: their sizes, trials on a clock, neurons that read out latents, and which trials validate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.schema import DIMS, make_dataset
from nwb_sbtt.errors import DataError

BASE_RATE = 5.0
"""Hz."""
GAIN_SPREAD, DEPTH_SPREAD = 0.1, 0.25
"""Sd of the log of the neurons' base rates; by how much of the mean their depths differ, at most."""
VALID_SHARE = 0.2
"""Share of the trials that validate."""
FIRST_ID, ID_STEP = 7, 3
"""Ids of the channels are no row numbers, as in most recordings."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a simulated task.

    Parameters
    ----------
    n_channels, n_bins, conditions, trials_per_condition : int
    bin_width : float
        Seconds.

    Raises
    ------
    DataError
        If a size is too small.
    """

    n_channels: int
    n_bins: int
    bin_width: float
    conditions: int
    trials_per_condition: int

    def __post_init__(self) -> None:
        smallest = {"n_channels": 1, "n_bins": 2, "conditions": 1, "trials_per_condition": 1}
        for name, least in smallest.items():
            if (value := getattr(self, name)) < least:
                raise DataError(f"{name} is {value}; expected at least {least}")
        if not (isfinite(self.bin_width) and self.bin_width > 0):
            raise DataError(f"bin_width is {self.bin_width}; expected a positive number of seconds")

    @property
    def duration(self) -> float:
        """Seconds of a trial."""
        return self.n_bins * self.bin_width


@dataclass(frozen=True)
class Readout:
    """Log-rates as a random linear read-out of latents.

    Parameters
    ----------
    depth : float
        Standard deviation of the log-rates over time, on average over channels.
    mean_rate : float, optional
        Hz, over all channels and bins. Default: whatever follows from a base rate of 5 Hz.
    """

    depth: float
    mean_rate: float | None = None

    def rates(
        self, generator: np.random.Generator, latents: NDArray[np.float64], n_channels: int
    ) -> NDArray[np.float64]:
        """Draw a read-out and compute rates.

        Parameters
        ----------
        generator : Generator
        latents : array (condition, time, latent)
        n_channels : int

        Returns
        -------
        array (condition, time, channel)
            Hz.
        """
        readout = latents @ generator.normal(size=(latents.shape[-1], n_channels))
        spread = generator.uniform(1 - DEPTH_SPREAD, 1 + DEPTH_SPREAD, n_channels)
        readout *= self.depth * spread / readout.std((0, 1))
        rates = BASE_RATE * np.exp(generator.normal(0, GAIN_SPREAD, n_channels) + readout)
        if self.mean_rate is not None:
            rates *= self.mean_rate / rates.mean()
        return np.asarray(rates)


def check_positive(settings: object, *names: str) -> None:
    """Refuse settings that are neither None nor a positive number.

    Parameters
    ----------
    settings : object
    *names : str
        Attributes to check.

    Raises
    ------
    DataError
        With the name and value of the first that is not.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            check_positive_number(name, value)


def check_positive_number(name: str, value: float) -> None:
    """Refuse a value that is not a positive number.

    Parameters
    ----------
    name : str
        Of the setting, for the message.
    value : float

    Raises
    ------
    DataError
        With the name and the value.
    """
    if not (isfinite(value) and value > 0):
        raise DataError(f"{name} is {value}; expected a positive number")


def check_split_by(split_by: str) -> None:
    """Refuse anything but "trial" and "condition".

    Parameters
    ----------
    split_by : str

    Raises
    ------
    DataError
        With the value.
    """
    if split_by not in ("trial", "condition"):
        raise DataError(f"split_by is {split_by!r}; expected 'trial' or 'condition'")


def trial_starts(generator: np.random.Generator, n_trials: int, duration: float) -> NDArray[np.float64]:
    """Draw starts of trials in whole milliseconds: the first at 0.5 s, pauses of 0.3 to 0.7 s.

    Parameters
    ----------
    generator : Generator
    n_trials : int
    duration : float
        Seconds of a trial.

    Returns
    -------
    array (trial)
        Seconds on the session clock.
    """
    pauses = generator.integers(300, 701, n_trials - 1) / 1000
    return np.round(0.5 + np.concatenate([[0.0], np.cumsum(pauses + np.ceil(duration * 1000) / 1000)]), 3)


def split_labels(
    generator: np.random.Generator, condition: NDArray[np.int64], *, by: Literal["trial", "condition"]
) -> NDArray[np.str_]:
    """Mark a fifth of the trials as "valid", the others as "train".

    Parameters
    ----------
    generator : Generator
    condition : int array (trial)
    by : "trial" or "condition"
        Draw from each condition's trials, as many of each give or take one; or draw whole conditions.

    Returns
    -------
    str array (trial)
    """
    conditions = int(condition.max()) + 1
    order = generator.permutation(conditions)
    if by == "condition":
        return np.where(np.isin(condition, order[: round(VALID_SHARE * conditions)]), "valid", "train")
    per_condition, extra = divmod(round(VALID_SHARE * len(condition)), conditions)
    labels = np.full(len(condition), "train")
    for rank, label in enumerate(order):
        members = generator.permutation(np.flatnonzero(condition == label))
        labels[members[: per_condition + (rank < extra)]] = "valid"
    return labels


def counts_dataset(
    counts: NDArray[np.int64],
    *,
    bin_width: float,
    starts: NDArray[np.float64],
    rates: NDArray[np.float64],
    latents: NDArray[np.float64],
    coords: Mapping[str, tuple[str, ArrayLike]],
    attrs: Mapping[str, str | float | int],
) -> xr.Dataset:
    """Put counts into a Dataset of units observed throughout, with the true rates and latents beside them.

    Parameters
    ----------
    counts : int array (trial, time, channel)
    bin_width : float
        Seconds.
    starts : array (trial)
        Left edge of each trial's first bin, in seconds on the session clock.
    rates : array (trial, time, channel)
        Hz.
    latents : array (trial, time, latent)
    coords, attrs : mapping
        As for `nwb_sbtt.data.schema.make_dataset`.
    """
    ds = make_dataset(
        counts,
        np.ones(counts.shape, bool),
        bin_width=bin_width,
        kind="units",
        channel_id=FIRST_ID + ID_STEP * np.arange(counts.shape[2]),
        trial_start=starts,
        coords=coords,
        attrs={"unit": "counts", "bin_reference": "center", **attrs},
    )
    return ds.assign(
        true_rates=(DIMS, rates.astype(np.float32)),
        true_latents=(("trial", "time", "latent"), latents.astype(np.float32)),
    )
