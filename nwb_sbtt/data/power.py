"""Power that a recording device would save by sampling less, from the mask of the samples."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from nwb_sbtt.data.datasets import dataset_of
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.errors import DataError


def power_saved(ds: xr.Dataset, *, per_sample: float = 1.0, front_end: float = 0.0, settling: float = 0.0) -> float:
    """Estimate the share of a device's power saved, against sampling all its channels in all bins.

    The power of a device that samples everything, taken as 1, has three parts: ``per_sample``, which is spent on
    each sample (conversion, processing, transmission); ``front_end``, the amplifiers, each of which draws a constant power
    while it is switched on; and the rest, which is always drawn (clock, control, leakage). Then

        saved = per_sample · (1 − s) + front_end · (1 − a)

    where `s` is the share of the entries (trial, time, channel) that were sampled and `a` the share of the time for which
    amplifiers are on: in each sampled bin, and for ``settling`` seconds before each run of sampled bins, where the
    amplifier was not on already. This is where schemes of equal budget differ: a fixed subset switches its amplifiers once,
    a speckled one over and over.

    Assumptions:

    * power per sample does not depend on how fast samples are taken. A converter's power at a given precision
      grows with its sampling rate, and that of an amplifier with the noise it must stay below and not with how often it
      is read (Even-Chen, Muratore, … Shenoy 2020, Nature Biomedical Engineering 4:984, doi:10.1038/s41551-020-0595-9, fig.
      4 and eq. 1); a radio's is taken to grow with the bits sent;
    * switching costs nothing but the time to settle, and addressing channels costs nothing;
    * every entry counts as sampled by this device: the mask should come from `nwb_sbtt.data.limit_bandwidth` or the device.

    The default is the upper bound, on which the case for sampling less usually rests (Zhu, Sedler et al. 2021 argue for
    lower bandwidth with the power of implants, without a device's figures): all power is spent on samples, so that k of N
    channels per bin save 1 − k/N. The shares depend on the device, and are not guessed here.

    Parameters
    ----------
    ds : Dataset
    per_sample, front_end : float
        Shares of the power at full sampling; together at most 1.
    settling : float
        Seconds that an amplifier needs before its first sample.

    Returns
    -------
    float
        Share of the power, between 0 and 1.

    Raises
    ------
    DataError
        If a share or a time is out of range.

    Examples
    --------
    >>> from nwb_sbtt.config import BandwidthConfig
    >>> from nwb_sbtt.data.bandwidth import limit_bandwidth
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = limit_bandwidth(lorenz(n_channels=20, conditions=2, trials_per_condition=2), BandwidthConfig(k=5))
    >>> power_saved(ds), power_saved(ds, per_sample=0.5)
    (0.75, 0.375)
    """
    dataset_of(ds)
    shares = {"per_sample": per_sample, "front_end": front_end}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise DataError(f"{name} is {share}; expected a fraction between 0 and 1")
    if per_sample + front_end > 1 + 1e-9:
        raise DataError(
            f"per_sample is {per_sample} and front_end is {front_end}; expected fractions whose sum is at most 1"
        )
    if not (math.isfinite(settling) and settling >= 0):
        raise DataError(f"settling is {settling}; expected zero or a positive number of seconds")
    sampled = check_dataset(ds)["observed"].values
    on = _amplifiers_on(sampled, settling / float(ds.attrs["bin_width"]))
    return float(per_sample * (1 - sampled.mean()) + front_end * (1 - on))


def _amplifiers_on(sampled: np.ndarray, settling: float) -> float:
    """Share of the time for which amplifiers are on; `settling` in bins.

    An amplifier without time to settle between two samples stays on. Settling before a trial is not counted.
    """
    n_bins = sampled.shape[1]
    bins = np.arange(n_bins)[:, None]
    # Bins between each entry and the last sampled one before it, for which its amplifier was off.
    last = np.maximum.accumulate(np.where(sampled, bins, -1), axis=1)
    before = np.concatenate([np.full_like(last[:, :1], -1), last[:, :-1]], axis=1)
    gap = np.broadcast_to(bins, sampled.shape) - before - 1
    warming = np.where(sampled, np.minimum(gap, settling), 0).sum()
    return float((sampled.sum() + warming) / sampled.size)
