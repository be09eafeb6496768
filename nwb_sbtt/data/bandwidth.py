"""A limit on how many channels are sampled in a bin, imposed on data that were recorded in full."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.schema import DIMS, check_dataset
from nwb_sbtt.errors import DataError


def limit_bandwidth(ds: xr.Dataset, config: BandwidthConfig) -> xr.Dataset:
    """Keep at most `config.k` channels in each bin and mark everything else as unobserved.

    What is kept is chosen among the channels observed in the bin, so that exactly ``min(k, observed)`` remain (for
    "decimate": all that are observed, in every (N/k)-th bin). Values outside are 0, values inside are unchanged.

    What is drawn follows from the seed and from where a bin lies, not from which trials are read with it: a bin is known
    by ``trial_start`` and its place in the trial, so the same trial gets the same mask in any subset of the trials, and
    the overlap of two chops the same mask in both.

    Parameters
    ----------
    ds : xarray.Dataset
        As in ``nwb_sbtt.data.schema``.
    config : BandwidthConfig

    Returns
    -------
    xarray.Dataset
        With ``attrs["bandwidth"]``, a JSON text of the config and of the mean number of channels kept per bin.

    Raises
    ------
    DataError
        If there are no more than `k` channels, or a bandwidth limit was imposed before.
    """
    n_channels = ds.sizes["channel"]
    if config.k >= n_channels:
        raise DataError(
            f"bandwidth.k is {config.k}, but there are only {n_channels} channels; nothing would be left out"
        )
    if "bandwidth" in ds.attrs:
        raise DataError(
            f"a bandwidth limit was imposed before: {ds.attrs['bandwidth']}; start from the data without it"
        )
    observed = ds["observed"].values
    bins = bin_numbers(ds)
    if config.scheme == "decimate":
        kept = observed & _every(bins, n_channels, config.k)[..., None]
    else:
        kept = np.empty_like(observed)
        for trial in range(len(observed)):
            kept[trial] = _lowest(_order(bins[trial], n_channels, config), observed[trial], config.k)
    limited = ds.copy()
    limited["observed"] = (DIMS, kept)
    limited["values"] = (DIMS, np.where(kept, ds["values"].values, np.float32(0)))
    if "exposure" in ds:
        limited["exposure"] = (DIMS, np.where(kept, ds["exposure"].values, np.float32(1)))
    record = {**config.model_dump(mode="json"), "channels_per_bin": round(float(kept.sum() / kept[..., 0].size), 6)}
    limited.attrs = {**ds.attrs, "bandwidth": json.dumps(record)}
    return check_dataset(limited)


def bin_numbers(ds: xr.Dataset) -> NDArray[np.int64]:
    """Number of each bin on the session clock, array (trial, time): bins at the same moment have the same number.

    Trials that do not say when they began (several at the same moment) are taken to follow one another.
    """
    first = np.rint(ds["trial_start"].values / ds.attrs["bin_width"]).astype(np.int64)
    if len(np.unique(first)) < len(first):
        first = np.arange(len(first), dtype=np.int64) * ds.sizes["time"]
    return np.asarray(first[:, None] + np.arange(ds.sizes["time"]))


def _order(bins: NDArray[np.int64], n_channels: int, config: BandwidthConfig) -> NDArray[np.float64]:
    """In which order the channels are asked in each bin, lowest first; array (time, channel)."""
    channels = np.arange(n_channels)
    if config.scheme == "round_robin":
        # The block that bin b samples begins at channel b * k, and goes round.
        return np.asarray((channels - bins[:, None] * config.k) % n_channels, dtype=np.float64)
    if config.scheme == "fixed":
        lottery = np.random.default_rng(config.seed % 2**64).permutation(n_channels).astype(np.float64)
        return np.broadcast_to(lottery, (len(bins), n_channels))
    return _lottery(bins[:, None], channels[None, :], config.seed)


def _lottery(bins: NDArray[np.int64], channels: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) that depends on seed, bin and channel alone: SplitMix64 (Steele, Lea and Flood 2014), twice."""
    state = _mixed(np.uint64(seed % 2**64) + bins.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    state = _mixed(state + channels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def _lowest(order: NDArray[np.float64], observed: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """The `k` observed channels of each bin that come first."""
    ranked = np.where(observed, order, np.inf)
    chosen = np.argpartition(ranked, k - 1, axis=1)[:, :k]
    kept = np.zeros_like(observed)
    np.put_along_axis(kept, chosen, True, axis=1)
    return np.asarray(kept & observed)


def _every(bins: NDArray[np.int64], n_channels: int, k: int) -> NDArray[np.bool_]:
    """Bins in which the running number of samples, k/N of a full bin each, passes a whole number."""
    return np.asarray((bins + 1) * k // n_channels > bins * k // n_channels)
