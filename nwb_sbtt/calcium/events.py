"""Datasets of fluorescence become Datasets of calcium events."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.calcium.deconvolution import Deconvolved, deconvolve, known_indicator
from nwb_sbtt.config import EventsConfig
from nwb_sbtt.data.schema import DIMS, check_dataset, make_dataset
from nwb_sbtt.errors import DataError, MismatchError

SAME = 0.999
"""Entries of two trials nearer than this share of a bin are one sample, that both trials hold."""
BELOW = 1 - 1e-3
"""Where, in units of the smallest event, the coordinate `smallest_event` lies."""

Floats = NDArray[np.float64]


def find_events(
    ds: xr.Dataset, config: EventsConfig | None = None, *, neuropil: xr.Dataset | None = None
) -> xr.Dataset:
    """Deconvolve fluorescence, or ΔF/F, into the sizes of calcium events, by OASIS.

    Of each ROI the observed entries of all trials are put in the order of their times; entries that trials share (the overlaps
    of a chopped session) are taken once. The neuropil's fluorescence is taken off, and a running baseline as suite2p has it.
    The noise is read off the spectrum, and the decay fitted to the autocovariance with what is known of the indicator as
    prior. Each run of evenly spaced samples is deconvolved by itself: nothing is filled in where something is missing.

    Parameters
    ----------
    ds : Dataset
        Of fluorescence or ΔF/F, with ``attrs["indicator"]`` where the indicator is known; best of a whole session, as baseline
        and decay cannot be found in a few short trials.
    config : EventsConfig, optional
        The same settings for all ROIs.
    neuropil : Dataset, optional
        Fluorescence around each ROI, of the same trials, bins and channels.

    Returns
    -------
    Dataset
        Like `ds`, with the sizes of events as ``values``, in its unit, and not observed where they cannot be known: at the
        first sample of each run, which calcium from before reaches. ``denoised`` (trial, time, channel) holds the
        fluorescence that the events make, baseline included, at all entries of `ds`. Coordinates of the channels are
        ``decay``, ``rise`` and ``noise`` [s, s, unit], ``decay_log_sd`` and, with a threshold, ``smallest_event``;
        ``attrs["signal"]`` is "events".

    Raises
    ------
    DataError
        If the values are events or counts already, a neuropil is given for ΔF/F, or the runs are too short.
    MismatchError
        If the neuropil has other trials, bins or channels.
    ConfigError
        If oasis-deconv is not installed, or the indicator is not known.

    Examples
    --------
    >>> from nwb_sbtt import Window, read_nwb
    >>> from nwb_sbtt.config import EventsConfig
    >>> ds = read_nwb("imaging.nwb", series="*/dff", trials=Window(start=0, stop=600))  # doctest: +SKIP
    >>> sizes = find_events(ds, EventsConfig(indicator="GCaMP6f", threshold=2))  # doctest: +SKIP
    """
    config = config or EventsConfig()
    check_dataset(ds)
    _check_signal(ds, neuropil)
    indicator = known_indicator(config, str(ds.attrs.get("indicator", "")))
    around = None if neuropil is None else _aligned(neuropil, ds)
    observed = ds["observed"].values if around is None else ds["observed"].values & around["observed"].values
    moments = ds["trial_start"].values[:, None] + (ds["time"].values - ds["time"].values[0])
    sizes, denoised = np.zeros(observed.shape), np.zeros(observed.shape)
    known = np.zeros_like(observed)
    found: list[Deconvolved | None] = []
    for i, name in enumerate(ds["channel_id"].values.tolist()):
        seen = observed[:, :, i]
        if not seen.any():
            found.append(None)
            continue
        order, first, sample = _samples(moments, seen, width=float(ds.attrs["bin_width"]))
        take = order[first]
        besides = None if around is None else around["values"].values[:, :, i][seen][take].astype(float)
        try:
            one = deconvolve(
                ds["values"].values[:, :, i][seen][take].astype(float),
                moments[seen][take],
                config=config,
                indicator=indicator,
                neuropil=besides,
            )
        except DataError as error:
            raise DataError(f"channel {name!r}: {error}") from None
        found.append(one)
        for box, of_sample in ((sizes, one.sizes), (denoised, one.baseline + one.calcium), (known, one.known)):
            part = np.empty(len(order), dtype=box.dtype)
            part[order] = of_sample[sample]
            box[:, :, i][seen] = part
    result = make_dataset(
        sizes,
        known,
        bin_width=float(ds.attrs["bin_width"]),
        kind=ds.attrs["kind"],
        coords={str(name): (each.dims, each.values) for name, each in ds.coords.items()} | _kinetics(found, config),
        attrs=ds.attrs | _record(ds, config, known_by=indicator.name, lost=int((observed & ~known).sum())),
    )
    others = {name: each for name, each in ds.data_vars.items() if name not in ("values", "observed", "exposure")}
    return result.assign(others | {"denoised": (DIMS, denoised.astype(np.float32))})


def _check_signal(ds: xr.Dataset, neuropil: xr.Dataset | None) -> None:
    signal = ds.attrs.get("signal")
    if signal == "events" or ds.attrs.get("unit") == "counts":
        raise DataError(f"the values are {signal or 'counts'} already; events are found in fluorescence or ΔF/F")
    if neuropil is not None and signal == "dF/F":
        raise DataError(
            "neuropil cannot be taken off ΔF/F, which is in units of a baseline; give fluorescence, or leave neuropil out"
        )


def _aligned(neuropil: xr.Dataset, ds: xr.Dataset) -> xr.Dataset:
    if neuropil["values"].shape != ds["values"].shape or not all(
        np.array_equal(neuropil[name].values, ds[name].values) for name in ("trial_start", "time", "channel_id")
    ):
        raise MismatchError(
            f"the neuropil has (trial, time, channel) {neuropil['values'].shape}, the fluorescence {ds['values'].shape}; "
            "both must be of the same trials, bins and channels"
        )
    return neuropil


def _samples(
    moments: Floats, seen: NDArray[np.bool_], *, width: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Put the entries of one channel in order, as samples.

    Returns
    -------
    order : int array (entry)
        Of the entries in time.
    first : int array (sample)
        Place in that order of the first entry of each sample.
    sample : int array (entry)
        Sample of each entry in that order.
    """
    times, trial = moments[seen], np.nonzero(seen)[0]
    order = np.lexsort((trial, times))
    same = (np.diff(times[order]) < SAME * width) & (np.diff(trial[order]) != 0)
    new = np.concatenate([[True], ~same])
    return order, np.flatnonzero(new), np.cumsum(new) - 1


def _kinetics(found: list[Deconvolved | None], config: EventsConfig) -> dict[str, tuple[str, Floats]]:
    """What was found of each channel; 0 where nothing was observed of it."""

    def of(name: str) -> Floats:
        return np.array([0.0 if each is None else getattr(each.kinetics, name) for each in found])

    coords = {
        "decay": of("decay"),
        "rise": of("rise"),
        "noise": of("noise_sd"),
        "decay_log_sd": of("decay_log_sd"),
    }
    if config.threshold:
        coords["smallest_event"] = BELOW * np.array([0.0 if each is None else each.smallest for each in found])
    return {name: ("channel", values) for name, values in coords.items()}


def _record(ds: xr.Dataset, config: EventsConfig, *, known_by: str, lost: int) -> dict[str, str]:
    notes = json.loads(ds.attrs.get("notes", "[]"))
    notes.append(
        f"events by OASIS, decay per channel from the prior of {known_by!r}; {lost} entries at starts of runs are unobserved"
    )
    return {
        "signal": "events",
        "signal_reason": "deconvolved",
        "events": json.dumps(config.model_dump(mode="json")),
        "notes": json.dumps(notes),
    }
