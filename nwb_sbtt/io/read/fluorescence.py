"""What a RoiResponseSeries holds: fluorescence, ΔF/F, or events that were deconvolved from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pynwb import NWBFile, ProcessingModule
from pynwb.ophys import DfOverF, RoiResponseSeries

from nwb_sbtt.calcium.deconvolution import Remarkable, remarks, why_unusable
from nwb_sbtt.calcium.indicators import indicator_of
from nwb_sbtt.data.grid import Binned, Source
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.indices import stored_dtype
from nwb_sbtt.io.read.slabs import Slabs, in_unit

Signal = Literal["fluorescence", "dF/F", "events"]
SIGNALS: dict[str, Signal] = {"fluorescence": "fluorescence", "dff": "dF/F", "events": "events"}
"""What ROIs can hold, by the values of the setting `rois.holds`."""
EVENT_NAMES = r"deconv|spike|spks|event|oasis|cascade|mlspike"
RELATIVE_NAMES = r"d(elta)?[\s_-]*f[\s_-]*(/|over|of|o|by|0|[\s_-])*[\s_-]*f|dff|Δf"
RELATIVE_UNITS = rf"{RELATIVE_NAMES}|percent|%|z[\s_-]?score"
NEUROPIL_NAMES = r"neuropil|npil|f[\s_-]?neu(?![a-z])|(?<![a-z])neu(?![a-z])"
CORRECTED_NAMES = r"corr|subtract|decontam|unmix|minus|without|free|(?<![a-z])no[\s_-]*(neuropil|npil)"
RAW_NAMES, LIGHT_NAMES = r"(?<![a-z])raw", r"neuropil|raw|fluorescence"
"""Patterns of names: of events, ΔF/F (and its units), neuropil, what was corrected for it, raw light, and light that may be
ΔF/F."""
VALUES_READ, FEWEST_FRAMES = 200_000, 300
"""Values that are read where the names do not tell, and frames that these have at least."""
SHORTER = 4
"""An ROI of few samples is too short where another one has so many times as many."""
SPARSE = 0.5
"""From this share of exact zeros on, values without negative ones are events, or ΔF/F clipped at 0."""
ROUNDING = 1e-4
"""Negative values down to this share of the largest ones are rounding errors of 0 where they are to be events."""
FEW_NEGATIVE = 0.01
"""Up to this share of negative values a series whose name says so holds events."""
LARGE = 0.75
"""Quantile of the positive values of an ROI from which on it is looked at what follows them."""
FASTEST = 0.5
"""Share of calcium that must be left in the next frame for decays to be told from events."""
DROP, DROPPED = 0.5, 0.25
"""Of calcium, less than the second share of large values is followed by less than the first share of what should be left."""
STEEPER = 0.2
"""Least asymmetry of calcium, which rises faster than it falls; it is 0 for events that were smoothed."""
OF_NEUROPIL = 0.3
"""Raw fluorescence reaches this share of the neuropil's typical value at least; ΔF/F is far smaller."""
OTHER_LIGHT = r"denois|base|(?<![a-z])f0(?![0-9])"
"""Names of what is computed from fluorescence and is no neuropil."""
BLANK_FRAMES, BLANK_SHARE, BLANK_PIECES = 2, 0.9, 16
"""A value that all ROIs hold in so many frames, and that they hardly hold elsewhere, stands for frames that were blanked. It is
looked for in so many pieces evenly spread over the recording."""


@dataclass(frozen=True)
class Classification:
    """What a series holds, and the reason for that conclusion in one line.

    Parameters
    ----------
    signal : str
        "fluorescence", "dF/F" or "events".
    reason : str
        What that was concluded from.
    rounding : float
        Of events, the size below which a negative value is an error of rounding; 0 for other signals.
    remark : str
        A line for the user on frames that look blanked; empty where none does.
    """

    signal: Signal
    reason: str
    rounding: float = 0.0
    remark: str = ""


def classify_signal(
    series: RoiResponseSeries,
    *,
    columns: ArrayLike,
    transposed: bool,
    missing_value: float | None = None,
    holds: str | None = None,
    kinetics: tuple[str, float | None] = ("", None),
    neuropil: tuple[Any, NDArray[np.intp], bool] | None = None,
) -> Classification:
    """Tell what a series holds: as the settings say, or from its name, its container and its unit, or else from its values.

    Parameters
    ----------
    series : pynwb.ophys.RoiResponseSeries
    columns : int array (ROI)
        ROIs whose values are read.
    transposed : bool
        Whether the data are stored (ROI, time).
    missing_value : float, optional
        Value that stands for a missing sample.
    holds : str, optional
        What the settings say, a key of `SIGNALS`.
    kinetics : (str, float or None)
        Indicator as the file names it, and the sampling period [s].
    neuropil : (series, columns, transposed), optional
        Series of the neuropil around the same ROIs.

    Raises
    ------
    DataError
        If the settings say that it holds events, and many values are negative.
    """
    sample = _from_the_middle(series, columns, transposed, missing_value)
    found = _classify(series, sample, missing_value, holds=holds, kinetics=kinetics, neuropil=neuropil)
    if found.signal == "events":
        return found
    blank = blank_value(_over_the_whole(series, columns, transposed, missing_value))
    if blank is None:
        return found
    stored = (blank - float(getattr(series, "offset", 0.0) or 0.0)) / float(series.conversion)
    return replace(
        found,
        remark=f"frames of {series.name!r} have the value {blank:g} in all ROIs at once; if the scanner was blanked "
        f"there, set read.missing_value={stored:.7g} to treat them as missing",
    )


def blank_value(sample: NDArray[np.float64]) -> float | None:
    """Return the value that stands for blanked frames, which all ROIs hold at once and hardly ever alone; None where none does.

    Parameters
    ----------
    sample : array (frame, ROI)
        NaN where a sample is missing. Of one ROI nothing can be told.
    """
    measured = sample[:, np.nanmax(sample, axis=0, initial=-np.inf) > np.nanmin(sample, axis=0, initial=np.inf)]
    if measured.shape[1] < 2:
        return None
    same = measured[(measured == measured[:, :1]).all(axis=1), 0]
    if not same.size:
        return None
    candidates, counts = np.unique(same, return_counts=True)
    value, count = float(candidates[counts.argmax()]), int(counts.max())
    if count < BLANK_FRAMES or count * measured.shape[1] < BLANK_SHARE * int((measured == value).sum()):
        return None
    return value


def _classify(
    series: Any,
    sample: NDArray[np.float64],
    missing_value: float | None,
    *,
    holds: str | None,
    kinetics: tuple[str, float | None],
    neuropil: tuple[Any, NDArray[np.intp], bool] | None,
) -> Classification:
    """What `classify_signal` returns, from values (frame, ROI) of the series."""
    values = sample[np.isfinite(sample)]
    rounding = ROUNDING * float(np.abs(values).max(initial=0.0))
    negative = float((values < -rounding).mean()) if values.size else 0.0
    if holds is not None:
        if SIGNALS[holds] == "events" and negative > FEW_NEGATIVE:
            raise DataError(
                f"read.rois.holds is events, but {negative:.0%} of the values of {series.name!r} are negative, which "
                "events cannot be; set it to fluorescence or dff"
            )
        return Classification(SIGNALS[holds], "set by read.rois.holds", rounding if holds == "events" else 0.0)
    named = _by_name(series, negative)
    if named is not None:
        return named if named.signal != "events" else Classification("events", named.reason, rounding)
    zero_share = float((np.abs(values) <= rounding).mean()) if values.size else 0.0
    if zero_share >= SPARSE and not negative:
        reason = f"{zero_share:.0%} of its values are exactly zero and none is negative"
        if decays_like_calcium(sample, *kinetics):
            return Classification("dF/F", f"{reason}, but they decay like calcium: clipped at zero")
        return Classification("events", reason, rounding)
    if neuropil is not None and not negative and _far_smaller(values, neuropil, missing_value):
        return Classification(
            "dF/F", f"its values are far smaller than the neuropil of the same ROIs, {neuropil[0].name!r}"
        )
    if (match := re.search(LIGHT_NAMES, str(series.name), re.IGNORECASE)) and not negative:
        return Classification("fluorescence", f"its name contains {match.group()!r}")
    if negative:
        return _signed(series, values, neuropil, missing_value)
    return Classification("fluorescence", "no value is negative and few are zero")


def decays_like_calcium(values: NDArray[np.floating[Any]], indicator: str, period: float | None) -> bool:
    """Tell whether values rise fast and decay as slowly as calcium does, which events do not.

    Parameters
    ----------
    values : array (frame, ROI)
        NaN where a sample is missing.
    indicator : str
        As the file names it; may be empty.
    period : float or None
        Seconds from one frame to the next. None, or a period as long as the decay, can tell nothing.
    """
    if period is None:
        return False
    decay = indicator_of(indicator).decay
    left = float(np.exp(-period / decay))
    if left < FASTEST:
        return False
    lag = max(1, round(decay / period / 4))
    n_large, n_dropped, cubes, scale = 0, 0, 0.0, 0.0
    for trace in values.T:
        positive = trace[trace > 0]
        if not positive.size:
            continue
        before, after = trace[:-1], trace[1:]
        large = (before >= np.quantile(positive, LARGE)) & np.isfinite(after)
        n_large += int(large.sum())
        n_dropped += int((after[large] < DROP * left * before[large]).sum())
        steps = (trace[lag:] - trace[:-lag]) / positive.max()
        steps = steps[np.isfinite(steps)]
        cubes, scale = cubes + float((steps**3).sum()), scale + float(np.abs(steps**3).sum())
    return n_dropped < DROPPED * n_large and cubes > STEEPER * scale


def holds_neuropil(series: Any) -> bool:
    """Tell whether a series holds the neuropil around ROIs: its own name says so or, where that says nothing, its container's.

    Parameters
    ----------
    series : pynwb.ophys.RoiResponseSeries
    """
    own, container = str(series.name), container_name(series)
    if re.search(NEUROPIL_NAMES, own, re.IGNORECASE):
        return not re.search(CORRECTED_NAMES, own, re.IGNORECASE)
    if re.search(f"{EVENT_NAMES}|{RELATIVE_NAMES}", own, re.IGNORECASE):
        return False
    if not re.search(NEUROPIL_NAMES, container, re.IGNORECASE) or re.search(CORRECTED_NAMES, container, re.IGNORECASE):
        return False
    # A container of both is named by what it holds beside the neuropil too.
    return not any(re.search(NEUROPIL_NAMES, name, re.IGNORECASE) for name in _held_beside(series))


def may_be_neuropil(series: Any) -> bool:
    """Tell whether a series may hold neuropil although no name says so: none says that it holds anything else.

    Parameters
    ----------
    series : pynwb.ophys.RoiResponseSeries
    """
    names = f"{EVENT_NAMES}|{RELATIVE_NAMES}|{CORRECTED_NAMES}|{OTHER_LIGHT}"
    said = re.search(names, f"{container_name(series)} {series.name}", re.IGNORECASE)
    return said is None and not isinstance(series.parent, DfOverF) and not holds_neuropil(series)


def says_corrected(series: Any) -> bool:
    """Tell whether the name of a series, or of its container, says that neuropil was subtracted already.

    Parameters
    ----------
    series : pynwb.ophys.RoiResponseSeries
    """
    return re.search(CORRECTED_NAMES, f"{container_name(series)} {series.name}", re.IGNORECASE) is not None


def container_name(series: Any) -> str:
    """Return the name of the container that holds a series among others; empty where it lies in a processing module itself.

    Parameters
    ----------
    series : pynwb.ophys.RoiResponseSeries
    """
    parent = series.parent
    return "" if parent is None or isinstance(parent, NWBFile | ProcessingModule) else str(parent.name)


def without_unusable(
    binned: Binned, channel_id: NDArray[np.generic], sources: Sequence[Source]
) -> tuple[Binned, list[str]]:
    """Leave out ROIs that cannot be used: without samples, constant, or far shorter than the others.

    Parameters
    ----------
    binned : Binned
    channel_id : array (channel)
    sources : sequence of Source
        Where the channels come from; only fluorescence and ΔF/F are looked at.

    Returns
    -------
    Binned
        The same, with those ROIs unobserved.
    notes : list of str
        Which they are, and why.
    """
    if not all(getattr(source, "signal", None) in ("fluorescence", "dF/F") for source in sources):
        return binned, []
    counts = binned.observed.sum(axis=(0, 1))
    found: dict[str, Remarkable] = {}
    unusable = np.zeros(len(counts), dtype=bool)
    for i, count in enumerate(counts):
        reason = why_unusable(binned.values[..., i][binned.observed[..., i]].astype(float))
        if count and reason and count * SHORTER >= counts.max() and not reason.startswith("constant"):
            reason = None
        found[str(channel_id[i])] = Remarkable(reason)
        unusable[i] = reason is not None
    if not unusable.any():
        return binned, []
    observed = binned.observed & ~unusable
    return replace(binned, values=np.where(observed, binned.values, 0), observed=observed), remarks(found)


def signal_attributes(sources: Sequence[Source]) -> dict[str, str]:
    """Collect the attributes of a Dataset that tell what its ROIs hold, the indicator, and the neuropil that was subtracted.

    Parameters
    ----------
    sources : sequence of Source

    Returns
    -------
    dict
        ``signal``, ``signal_reason``, ``indicator`` and ``neuropil``; without those in which the sources differ, or that they
        lack.
    """
    attributes: dict[str, str] = {}
    for name in ("signal", "signal_reason", "indicator"):
        texts = {str(getattr(source, name, "")) for source in sources}
        if name == "signal_reason" and "signal" in attributes:
            attributes[name] = "; ".join(f"{source.path!r}: {getattr(source, name)}" for source in sources)
        elif len(texts) == 1 and (text := texts.pop()):
            attributes[name] = text
    subtracted = [text for source in sources if (text := getattr(source, "subtracted", ""))]
    return attributes | ({"neuropil": "; ".join(subtracted)} if subtracted else {})


def _held_beside(series: Any) -> list[str]:
    """Names of the other series of the same container."""
    held = (getattr(series.parent, name, None) for name in ("roi_response_series", "microscopy_response_series"))
    return [str(name) for by_name in held if by_name for name in by_name if name != series.name]


def _by_name(series: Any, negative: float) -> Classification | None:
    """What the names of a series and its container, the container's type and the unit say; None where they say nothing."""
    own, container = str(series.name), container_name(series)
    for name, whose in ((own, "its name"), (container, "its container's name")):
        if match := re.search(EVENT_NAMES, name, re.IGNORECASE):
            said = f"{whose} contains {match.group()!r}"
            if not negative:
                return Classification("events", f"{said} and no value is negative")
            if negative <= FEW_NEGATIVE:
                return Classification("events", f"{said} and almost no value is negative")
            return Classification(
                "dF/F", f"{said}, but {negative:.0%} of its values are negative, which events cannot be"
            )
        if name is container and isinstance(series.parent, DfOverF):
            return Classification("dF/F", f"it is in the DfOverF container {container!r}")
        if match := re.search(RELATIVE_NAMES, name, re.IGNORECASE):
            return Classification("dF/F", f"{whose} contains {match.group()!r}")
        if match := re.search(RAW_NAMES, name, re.IGNORECASE):
            return Classification("fluorescence", f"{whose} contains {match.group()!r}")
    if holds_neuropil(series):
        match = re.search(NEUROPIL_NAMES, own, re.IGNORECASE)
        found = match or re.search(NEUROPIL_NAMES, container, re.IGNORECASE)
        said = "its name" if match else "its container's name"
        return Classification("fluorescence", f"{said} contains {found.group() if found else ''!r}")
    if re.search(RELATIVE_UNITS, str(series.unit), re.IGNORECASE):
        return Classification("dF/F", f"its unit is {str(series.unit)!r}")
    return None


def _signed(
    series: Any,
    values: NDArray[np.float64],
    neuropil: tuple[Any, NDArray[np.intp], bool] | None,
    missing_value: float | None,
) -> Classification:
    """What a series of negative values holds: ΔF/F, or fluorescence less a dark level."""
    if stored_dtype(series.data).kind in "iu" and float(series.conversion) == 1:
        return Classification("fluorescence", "its values are whole numbers after subtraction of a dark level")
    if neuropil is not None and not _far_smaller(values, neuropil, missing_value):
        return Classification(
            "fluorescence", f"the neuropil of the same ROIs, {neuropil[0].name!r}, has values of the same size"
        )
    return Classification("dF/F", "some values are negative, unlike raw fluorescence")


def _far_smaller(
    values: NDArray[np.float64], neuropil: tuple[Any, NDArray[np.intp], bool], missing_value: float | None
) -> bool:
    """Whether values are too small to contain the neuropil around them; so too where nothing of that was measured."""
    around = _from_the_middle(*neuropil, missing_value)
    around = around[np.isfinite(around)]
    if not (around.size and values.size):
        return True
    return bool(np.quantile(np.abs(values), 0.99) < OF_NEUROPIL * np.median(np.abs(around)))


def _from_the_middle(
    series: Any, columns: ArrayLike, transposed: bool, missing_value: float | None
) -> NDArray[np.float64]:
    """Values (frame, ROI) from the middle of the series, in its unit; NaN where one is missing."""
    slabs = Slabs(series.data, transposed=transposed)
    n_rows = min(slabs.n_rows, max(FEWEST_FRAMES, VALUES_READ // slabs.n_columns))
    first = (slabs.n_rows - n_rows) // 2
    return in_unit(slabs.read(first, first + n_rows)[:, np.asarray(columns)], series, missing_value=missing_value)


def _over_the_whole(
    series: Any, columns: ArrayLike, transposed: bool, missing_value: float | None
) -> NDArray[np.float64]:
    """As many values as from the middle, in pieces from the first frames to the last."""
    slabs = Slabs(series.data, transposed=transposed)
    size = max(FEWEST_FRAMES, VALUES_READ // slabs.n_columns) // BLANK_PIECES
    firsts = np.unique(np.linspace(0, max(slabs.n_rows - size, 0), BLANK_PIECES).astype(int))
    pieces = [slabs.read(first, first + size)[:, np.asarray(columns)].copy() for first in firsts]
    return in_unit(np.concatenate(pieces), series, missing_value=missing_value)
