"""Datasets of fluorescence become Datasets of calcium events."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.calcium.deconvolution import (
    Deconvolved,
    Remarkable,
    deconvolve,
    known_indicator,
    remarks,
    why_unusable,
)
from nwb_sbtt.calcium.neuropil import check_alike
from nwb_sbtt.config import EventsConfig, config_of
from nwb_sbtt.data.schema import DIMS, check_dataset, make_dataset
from nwb_sbtt.errors import DataError

SAME = 0.999
"""Entries of two trials nearer than this share of a bin are one sample, which both trials hold."""
BELOW = 1 - 1e-3
"""The coordinate `smallest_event` in units of the smallest event: every event exceeds it."""

Floats = NDArray[np.float64]


def find_events(
    ds: xr.Dataset,
    config: EventsConfig | Mapping[str, object] | None = None,
    *,
    neuropil: xr.Dataset | None = None,
    neuropil_coefficient: float = 0.7,
) -> xr.Dataset:
    """Deconvolve fluorescence, or ΔF/F, into the sizes of calcium events, with as few of them as the noise allows.

    The observed entries of each ROI are ordered by time over all trials; entries that trials share (the overlaps of a
    chopped session) count once. Neuropil and a running baseline (suite2p's) are subtracted. Noise and decay are measured on all
    samples, with the indicator as prior of the decay. Missing samples have no weight, and calcium ages by their number
    (`nwb_sbtt.calcium.nonnegative`).

    Parameters
    ----------
    ds : Dataset
        Of fluorescence or ΔF/F, with ``attrs["indicator"]`` where the indicator is known; best of a whole session, as baseline
        and decay cannot be found in a few short trials.
    config : EventsConfig, or mapping of its settings, optional
        The same settings for all ROIs.
    neuropil : Dataset, optional
        Fluorescence around each ROI, of the same trials, bins and channels. `read_nwb` subtracts it by itself where the file
        has it.
    neuropil_coefficient : float
        Multiple of the neuropil that is subtracted, as suite2p's neucoeff (Chen et al. 2013).

    Returns
    -------
    Dataset
        Like `ds`, with the sizes of events as ``values``, in its unit, and not observed where they cannot be known: at the
        first sample, after gaps longer than the decay time, at samples whose neighbours are both missing, at artefacts, and in
        channels that are constant or have too few samples; notes name the last two. ``denoised`` (trial, time, channel) holds
        the fluorescence that the events make, baseline included, and NaN where there is no sample. Coordinates of the channels
        are ``decay``, ``rise`` and ``noise`` [s, s, unit], ``decay_log_sd`` and, with a threshold, ``smallest_event``;
        ``attrs["signal"]`` is "events".

    Raises
    ------
    DataError
        If the values are events or counts already, a neuropil is given for ΔF/F or was subtracted before, or no channel can
        be used.
    MismatchError
        If the neuropil has other trials, bins or channels.
    ConfigError
        If oasis-deconv is needed and not installed, or the indicator is not known.

    Examples
    --------
    >>> from nwb_sbtt import Window, read_nwb
    >>> from nwb_sbtt.config import EventsConfig
    >>> ds = read_nwb("imaging.nwb", series="*/dff", trials=Window(start=0, stop=600))  # doctest: +SKIP
    >>> sizes = find_events(ds, EventsConfig(indicator="GCaMP6f", threshold=2))  # doctest: +SKIP
    """
    check_dataset(ds)
    config = config_of(EventsConfig, config)
    _check_signal(ds, neuropil)
    indicator = known_indicator(config, str(ds.attrs.get("indicator", "")))
    if neuropil is not None:
        check_alike(neuropil, ds)
    observed = ds["observed"].values if neuropil is None else ds["observed"].values & neuropil["observed"].values
    moments = ds["trial_start"].values[:, None] + (ds["time"].values - ds["time"].values[0])
    sizes, denoised = np.zeros(observed.shape), np.full(observed.shape, np.nan)
    known = np.zeros_like(observed)
    deconvolved: list[Deconvolved | None] = []
    found: dict[str, Remarkable] = {}
    for i, name in enumerate(ds["channel_id"].values.tolist()):
        seen = observed[:, :, i]
        if not seen.any():
            found[str(name)] = Remarkable(why_unusable(np.zeros(0)))
            deconvolved.append(None)
            continue
        order, first, sample = _samples(moments, seen, width=float(ds.attrs["bin_width"]))
        take = order[first]
        fluorescence = ds["values"].values[:, :, i][seen][take].astype(float)
        share = None
        if neuropil is not None:
            share = neuropil_coefficient * neuropil["values"].values[:, :, i][seen][take].astype(float)
        times = moments[seen][take]
        if reason := why_unusable(fluorescence):
            found[str(name)] = Remarkable(reason)
            deconvolved.append(None)
            continue
        events = deconvolve(fluorescence, times, config=config, indicator=indicator, neuropil=share)
        found[str(name)] = Remarkable(None, times[events.artefact], int(events.clipped.sum()))
        deconvolved.append(events)
        light = events.baseline + events.calcium
        for target, values in ((sizes, events.sizes), (denoised, light), (known, events.observed)):
            entries = np.empty(len(order), dtype=target.dtype)
            entries[order] = values[sample]
            target[:, :, i][seen] = entries
    notes = remarks(found)
    if all(roi.unusable for roi in found.values()):
        raise DataError(f"no events can be found: {notes[0]}")
    result = make_dataset(
        sizes,
        known,
        bin_width=float(ds.attrs["bin_width"]),
        kind=ds.attrs["kind"],
        coords={str(name): (coord.dims, coord.values) for name, coord in ds.coords.items()}
        | _kinetics(deconvolved, config),
        attrs=ds.attrs | _record(ds, config, known_by=indicator.name, lost=int((observed & ~known).sum()), notes=notes),
    )
    others = {name: array for name, array in ds.data_vars.items() if name not in ("values", "observed", "exposure")}
    return result.assign(others | {"denoised": (DIMS, denoised.astype(np.float32))})


def _check_signal(ds: xr.Dataset, neuropil: xr.Dataset | None) -> None:
    signal = ds.attrs.get("signal")
    if signal == "events" or ds.attrs.get("unit") == "counts":
        raise DataError(f"the values are already {signal or 'counts'}; expected fluorescence or ΔF/F to find events in")
    if neuropil is not None and signal == "dF/F":
        raise DataError(
            "neuropil cannot be subtracted from ΔF/F, which has no unit of fluorescence; pass raw fluorescence, or "
            "omit the neuropil"
        )
    if neuropil is not None and "neuropil" in ds.attrs:
        raise DataError(
            f"{ds.attrs['neuropil']} was already subtracted when the data were read; omit the neuropil, or read the "
            "data with RoiConfig(neuropil_coefficient=0)"
        )


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


def _kinetics(deconvolved: list[Deconvolved | None], config: EventsConfig) -> dict[str, tuple[str, Floats]]:
    """Coordinates of the channels; 0 where nothing was observed."""

    def column(name: str) -> Floats:
        return np.array([0.0 if events is None else getattr(events.kinetics, name) for events in deconvolved])

    coords = {
        "decay": column("decay"),
        "rise": np.array([0.0 if events is None else events.rise for events in deconvolved]),
        "noise": column("noise_sd"),
        "decay_log_sd": column("decay_log_sd"),
    }
    if config.threshold:
        coords["smallest_event"] = BELOW * np.array(
            [0.0 if events is None else events.smallest_event for events in deconvolved]
        )
    return {name: ("channel", values) for name, values in coords.items()}


def _record(ds: xr.Dataset, config: EventsConfig, *, known_by: str, lost: int, notes: list[str]) -> dict[str, str]:
    all_notes = json.loads(ds.attrs.get("notes", "[]"))
    all_notes += [
        f"events found by non-negative deconvolution; decay time fitted per channel with the prior of {known_by!r}; "
        f"{lost} entries without a usable event estimate are treated as missing",
        *notes,
    ]
    return {
        "signal": "events",
        "signal_reason": "deconvolved",
        "events": json.dumps(config.model_dump(mode="json")),
        "notes": json.dumps(all_notes),
    }
