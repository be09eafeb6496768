"""A limit on how many channels are sampled in a bin, imposed on data that were recorded in full."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.schema import DIMS, check_dataset
from nwb_sbtt.errors import DataError

SPARED = 2**32
"""Where the lottery over whole trials is drawn, far from the number of any channel,"""
ROUNDED = SPARED + 1
"""and that over the scan of a trial that is not whole."""


def limit_bandwidth(ds: xr.Dataset, config: BandwidthConfig, *, trials: ArrayLike | None = None) -> xr.Dataset:
    """Keep at most `config.k` channels per bin and mark everything else as unobserved.

    Under "speckled", "round_robin" and "fixed" what is kept is chosen among the channels observed in the bin, so that exactly
    ``min(k, observed)`` remain. "decimate" scans all N channels at once, in bins that lie as evenly as N/k allows, and
    takes just as many samples of each trial, ``k · bins``: where that is no whole number of scans, one of them takes
    fewer channels. (Of the pieces of a chopped session every scan is whole, and the samples are equally many to within a
    scan a piece.) Values outside are 0, values inside are unchanged.

    What is drawn follows from the seed and from where a bin lies, not from which trials are read with it: a bin is known
    by ``trial_start`` and its place in the trial, so the same trial gets the same mask in any subset of the trials, and
    the overlap of two chops the same mask in both.

    Parameters
    ----------
    ds : xarray.Dataset
        As in ``nwb_sbtt.data.schema``.
    config : BandwidthConfig
        Its ``full_fraction`` spares about that share of the trials, drawn one by one; of those whose ``split`` is "train",
        where trials have one.
    trials : bool array (trial), optional
        Which trials to limit, in place of ``full_fraction``; the others stay as they are.

    Returns
    -------
    xarray.Dataset
        With ``attrs["bandwidth"]``, a JSON text of the config, of the number of trials limited, and of the mean number of
        channels kept in a bin of these.

    Raises
    ------
    DataError
        If there are no more than `k` channels, a bandwidth limit was imposed before, `trials` does not fit, no trial
        is left to limit, or pieces that share samples should be spared one by one.

    Examples
    --------
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = limit_bandwidth(lorenz(conditions=2, trials_per_condition=2), BandwidthConfig(k=5))
    >>> int(ds["observed"].sum("channel").max())
    5
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
    bins = bin_numbers(ds)
    limited = _limited(ds, config, bins, trials)
    kept = ds["observed"].values.copy()
    for trial in np.flatnonzero(limited):
        if config.scheme == "decimate":
            kept[trial] &= _scans(bins[trial], n_channels, config, whole=_chopped(ds))
        else:
            kept[trial] = _lowest(_order(bins[trial], n_channels, config), kept[trial], config.k)
    result = ds.copy()
    result["observed"] = (DIMS, kept)
    result["values"] = (DIMS, np.where(kept, ds["values"].values, np.float32(0)))
    if "exposure" in ds:
        result["exposure"] = (DIMS, np.where(kept, ds["exposure"].values, np.float32(1)))
    per_bin = kept[limited].sum() / kept[limited][..., 0].size
    record = {
        **config.model_dump(mode="json"),
        "limited_trials": int(limited.sum()),
        "channels_per_bin": round(float(per_bin), 6),
    }
    result.attrs = {**ds.attrs, "bandwidth": json.dumps(record)}
    return check_dataset(result)


def bin_numbers(ds: xr.Dataset) -> NDArray[np.int64]:
    """Number of each bin on the session clock, array (trial, time): bins at the same moment have the same number.

    Trials that do not say when they began (several at the same moment) are taken to follow one another.
    """
    first = np.rint(ds["trial_start"].values / ds.attrs["bin_width"]).astype(np.int64)
    if len(np.unique(first)) < len(first):
        first = np.arange(len(first), dtype=np.int64) * ds.sizes["time"]
    return np.asarray(first[:, None] + np.arange(ds.sizes["time"]))


def _limited(
    ds: xr.Dataset, config: BandwidthConfig, bins: NDArray[np.int64], trials: ArrayLike | None
) -> NDArray[np.bool_]:
    """Which trials to limit."""
    if trials is not None:
        limited = np.asarray(trials)
        if limited.dtype != bool or limited.shape != (len(bins),):
            raise DataError(
                f"trials has shape {limited.shape} and type {limited.dtype}; expected one bool for each of {len(bins)} trials"
            )
    else:
        if config.full_fraction and _chopped(ds):
            raise DataError(
                "pieces of a chopped session share samples, so some cannot be sampled in full beside others that are not; "
                "leave bandwidth.full_fraction at 0, or cut around events (Trials)"
            )
        drawn = _lottery(bins[:, 0], np.array(SPARED), config.seed)
        limited = drawn >= config.full_fraction
        if "split" in ds.coords:
            limited |= ds["split"].values.astype(str) != "train"
    if not limited.any():
        raise DataError(f"all {len(bins)} trials would be left as they are; nothing would be limited")
    return np.asarray(limited)


def _chopped(ds: xr.Dataset) -> bool:
    """Whether trials are pieces of a session that may share samples."""
    return (json.loads(str(ds.attrs.get("cut", "null"))) or {}).get("by") == "chop"


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


def _scans(bins: NDArray[np.int64], n_channels: int, config: BandwidthConfig, *, whole: bool) -> NDArray[np.bool_]:
    """What scans of all channels take of a trial; array (time, channel).

    There is one in each bin in which the running number of samples, k a bin, passes a multiple of N.
    """
    scanned = (bins + 1) * config.k // n_channels > bins * config.k // n_channels
    kept = np.repeat(scanned[:, None], n_channels, axis=1)
    surplus = int(kept.sum()) - config.k * len(bins)
    if whole or surplus == 0:
        return np.asarray(kept)
    # A scan too many loses channels, or one more bin gets some; which one it is follows from where the trial lies.
    candidates = np.flatnonzero(scanned == (surplus > 0))
    drawn = float(_lottery(bins[:1], np.array([ROUNDED]), config.seed)[0])
    chosen = candidates[int(drawn * len(candidates))]
    order = np.argsort(_lottery(bins[chosen : chosen + 1], np.arange(n_channels), config.seed))
    kept[chosen, order[: abs(surplus)]] = surplus < 0
    return np.asarray(kept)
