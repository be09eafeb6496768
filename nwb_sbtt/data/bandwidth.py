"""A limit on how many channels are sampled in a bin, imposed on data that were recorded in full."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.config import BandwidthConfig
from nwb_sbtt.data.datasets import dataset_of
from nwb_sbtt.data.schema import DIMS, check_dataset, is_chopped
from nwb_sbtt.errors import DataError

CHOSEN = "scheduled"
"""Name of the scheme in which channels are chosen by earlier values."""
TRIAL_DRAW = 2**32
SCAN_DRAW = TRIAL_DRAW + 1
"""In place of the number of a channel, which is smaller, where whole trials are drawn, and where the scan of a trial that takes
fewer channels is drawn."""


def limit_bandwidth(ds: xr.Dataset, config: BandwidthConfig, *, trials: ArrayLike | None = None) -> xr.Dataset:
    """Keep at most `config.k` observed channels per bin and mark everything else as missing.

    Under "speckled", "round_robin" and "fixed" channels are chosen among those observed in the bin, so that exactly
    ``min(k, observed)`` remain. "decimate" scans all N channels at once, in bins that lie as evenly as N/k allows, and
    takes just as many samples of each trial, ``k · bins``: where that is no whole number of scans, one of them takes
    fewer channels. (Of the chops of a session every scan is whole, and the numbers of samples are equal to within a scan a
    chop.) Missing values become 0, observed values are unchanged.

    Draws follow from the seed and from where a bin lies on the session clock, not from which trials are read with it: the same
    trial gets the same mask in any subset of the trials, and the overlap of two chops the same mask in both.

    Parameters
    ----------
    ds : xarray.Dataset
        As described in `nwb_sbtt.data.schema`.
    config : BandwidthConfig
        Its ``full_fraction`` leaves about that share of the trials as they are, drawn one by one; of those whose ``split`` is
        "train", where trials have one.
    trials : bool array (trial), optional
        Which trials to limit, in place of ``full_fraction``; the others stay as they are.

    Returns
    -------
    xarray.Dataset
        With ``attrs["bandwidth"]``, a JSON text of the config, of the number of trials limited, and of the mean number of
        channels observed in a bin of these.

    Raises
    ------
    DataError
        If there are no more than `k` channels, a bandwidth limit was imposed before, `trials` does not fit, no trial
        is left to limit, or chops that share samples should be drawn one by one.

    Examples
    --------
    >>> from nwb_sbtt.simulate.lorenz import lorenz
    >>> ds = limit_bandwidth(lorenz(conditions=2, trials_per_condition=2), BandwidthConfig(k=5))
    >>> int(ds["observed"].sum("channel").max())
    5
    """
    n_channels = dataset_of(ds).sizes["channel"]
    if config.k >= n_channels:
        raise DataError(f"read.bandwidth.k is {config.k}, but there are only {n_channels} channels; choose a smaller k")
    check_unlimited(ds)
    bins = bin_numbers(ds)
    limited = _trials_to_limit(ds, config, bins, trials)
    observed = ds["observed"].values.copy()
    for trial in np.flatnonzero(limited):
        if config.scheme == "decimate":
            observed[trial] &= _scan_mask(bins[trial], n_channels, config, whole_scans=is_chopped(ds))
        else:
            order = _channel_order(bins[trial], n_channels, config)
            observed[trial] = _first_observed(order, observed[trial], config.k)
    return impose(ds, observed, limited, record=config.model_dump(mode="json"))


def impose(
    ds: xr.Dataset, observed: NDArray[np.bool_], limited: NDArray[np.bool_], *, record: Mapping[str, Any]
) -> xr.Dataset:
    """Mark all but some entries as missing, and record how they were chosen.

    Parameters
    ----------
    ds : Dataset
    observed : bool array (trial, time, channel)
        Entries that remain, all of them observed in `ds`.
    limited : bool array (trial)
        Trials in which a limit was imposed.
    record : mapping
        JSON-safe: how entries were chosen.

    Returns
    -------
    Dataset
        With ``attrs["bandwidth"]``; see `limit_bandwidth`.
    """
    result = ds.copy()
    result["observed"] = (DIMS, observed)
    result["values"] = (DIMS, np.where(observed, ds["values"].values, np.float32(0)))
    if "exposure" in ds:
        result["exposure"] = (DIMS, np.where(observed, ds["exposure"].values, np.float32(1)))
    per_bin = observed[limited].sum() / observed[limited][..., 0].size
    counts = {"limited_trials": int(limited.sum()), "channels_per_bin": round(float(per_bin), 6)}
    result.attrs = {**ds.attrs, "bandwidth": json.dumps({**record, **counts})}
    return check_dataset(result)


def check_unlimited(ds: xr.Dataset) -> None:
    """Refuse data on which a bandwidth limit was imposed before.

    Parameters
    ----------
    ds : Dataset

    Raises
    ------
    DataError
        With the record of that limit.
    """
    if "bandwidth" in ds.attrs:
        raise DataError(
            f"these data already have a bandwidth limit: {ds.attrs['bandwidth']}; apply the limit to the data without "
            "it"
        )


def was_chosen(ds: xr.Dataset) -> bool:
    """Tell whether channels were chosen by earlier values (`nwb_sbtt.schedule`), so that masks tell of these.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    bool

    Raises
    ------
    DataError
        If ``attrs["bandwidth"]`` is no record of a known scheme; it may have been set by hand.
    """
    given = ds.attrs.get("bandwidth")
    if given is None:
        return False
    try:
        record = json.loads(given)
    except (TypeError, ValueError):
        record = None
    scheme = record.get("scheme") if isinstance(record, dict) else None
    known = (*get_args(BandwidthConfig.model_fields["scheme"].annotation), CHOSEN)
    if scheme not in known:
        raise DataError(
            f"attrs['bandwidth'] is {given!r}; expected a JSON text with the scheme of sampling, such as "
            f"""'{{"scheme": "{CHOSEN}"}}'; schemes: {", ".join(known)}"""
        )
    return bool(scheme == CHOSEN)


def bin_numbers(ds: xr.Dataset) -> NDArray[np.int64]:
    """Number the bins on the session clock: bins at the same moment have the same number.

    Trials without a clock (several begin at the same moment) are taken to follow one another.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    int array (trial, time)
    """
    first = np.rint(ds["trial_start"].values / ds.attrs["bin_width"]).astype(np.int64)
    if len(np.unique(first)) < len(first):
        first = np.arange(len(first), dtype=np.int64) * ds.sizes["time"]
    return np.asarray(first[:, None] + np.arange(ds.sizes["time"]))


def _trials_to_limit(
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
        if config.full_fraction and is_chopped(ds):
            raise DataError(
                "chops of a session share samples, so single chops cannot be fully sampled; set "
                "read.bandwidth.full_fraction to 0, or cut trials around events (Trials, --trials)"
            )
        draws = uniform_draws(bins[:, 0], np.array(TRIAL_DRAW), config.seed)
        limited = draws >= config.full_fraction
        if "split" in ds.coords:
            limited |= ds["split"].values.astype(str) != "train"
    if not limited.any():
        raise DataError(
            f"all {len(bins)} trials are marked as fully sampled, so the limit would have no effect; mark fewer trials"
        )
    return np.asarray(limited)


def _channel_order(bins: NDArray[np.int64], n_channels: int, config: BandwidthConfig) -> NDArray[np.float64]:
    """Rank of each channel in each bin, lowest first; array (time, channel)."""
    channels = np.arange(n_channels)
    if config.scheme == "round_robin":
        # Bin b samples a block of channels from b * k on, modulo the number of channels.
        return np.asarray((channels - bins[:, None] * config.k) % n_channels, dtype=np.float64)
    if config.scheme == "fixed":
        ranks = np.random.default_rng(config.seed % 2**64).permutation(n_channels).astype(np.float64)
        return np.broadcast_to(ranks, (len(bins), n_channels))
    return uniform_draws(bins[:, None], channels[None, :], config.seed)


def uniform_draws(bins: NDArray[np.int64], channels: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Draw a number in [0, 1) that depends on seed, bin and channel alone.

    Parameters
    ----------
    bins, channels : int array
        Numbers of bins and of channels, of shapes that broadcast.
    seed : int

    Returns
    -------
    array

    Notes
    -----
    Two steps of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, doi:10.1145/2660193.2660195), whose state is a multiple of
    the odd integer nearest to 2^64 divided by the golden ratio; the upper 53 bits make a float.
    """
    state = _mix_bits(np.uint64(seed % 2**64) + bins.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    state = _mix_bits(state + channels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return np.asarray((state >> np.uint64(11)) * 2.0**-53)


def _mix_bits(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def _first_observed(order: NDArray[np.float64], observed: NDArray[np.bool_], k: int) -> NDArray[np.bool_]:
    """The `k` observed channels of each bin that come first in the order; all (time, channel)."""
    ranked = np.where(observed, order, np.inf)
    chosen = np.argpartition(ranked, k - 1, axis=1)[:, :k]
    mask = np.zeros_like(observed)
    np.put_along_axis(mask, chosen, True, axis=1)
    return np.asarray(mask & observed)


def _scan_mask(
    bins: NDArray[np.int64], n_channels: int, config: BandwidthConfig, *, whole_scans: bool
) -> NDArray[np.bool_]:
    """Entries of a trial that scans of all N channels sample; array (time, channel).

    There is a scan in each bin in which the running number of samples, k a bin, passes a multiple of N.
    """
    scanned = (bins + 1) * config.k // n_channels > bins * config.k // n_channels
    mask = np.repeat(scanned[:, None], n_channels, axis=1)
    surplus = int(mask.sum()) - config.k * len(bins)
    if whole_scans or surplus == 0:
        return np.asarray(mask)
    # A scan too many loses channels, or one more bin gets some; which one it is follows from where the trial lies.
    candidates = np.flatnonzero(scanned == (surplus > 0))
    draw = float(uniform_draws(bins[:1], np.array([SCAN_DRAW]), config.seed)[0])
    chosen = candidates[int(draw * len(candidates))]
    order = np.argsort(uniform_draws(bins[chosen : chosen + 1], np.arange(n_channels), config.seed))
    mask[chosen, order[: abs(surplus)]] = surplus < 0
    return np.asarray(mask)
