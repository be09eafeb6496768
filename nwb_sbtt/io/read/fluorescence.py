"""What a RoiResponseSeries holds: fluorescence, ΔF/F, or events that were deconvolved from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pynwb.ophys import DfOverF, RoiResponseSeries

from nwb_sbtt.calcium.deconvolution import Remarkable, remarks, why_unusable
from nwb_sbtt.data.grid import Binned, Source
from nwb_sbtt.io.read.slabs import Slabs, in_unit

Signal = Literal["fluorescence", "dF/F", "events"]
EVENT_NAMES = r"deconv|spike|spks|event|oasis|cascade|mlspike"
RELATIVE_NAMES = r"d(elta)?[\s_-]*f[\s_-]*(/|over|of|by|0|[\s_-])*[\s_-]*f|dff|Δf"
RAW_NAMES = r"neuropil|raw|fluorescence"
"""Patterns of the names of series that hold events, ΔF/F and raw fluorescence."""
VALUES_READ = 200_000
"""Values that are read where the names do not tell."""
SHORTER = 4
"""An ROI of few samples is too short where another one has so many times as many."""
SPARSE = 0.5
"""From this share of exact zeros on, values without negative ones are events."""


@dataclass(frozen=True)
class Classification:
    """What a series holds, and the reason for that conclusion in one line.

    Parameters
    ----------
    signal : str
        "fluorescence", "dF/F" or "events".
    reason : str
        What that was concluded from.
    """

    signal: Signal
    reason: str


def classify_signal(
    series: RoiResponseSeries, *, columns: ArrayLike, transposed: bool, missing_value: float | None = None
) -> Classification:
    """Tell what a series holds from its name, its container and its unit, or else from its values.

    Parameters
    ----------
    series : pynwb.ophys.RoiResponseSeries
    columns : int array (ROI)
        ROIs whose values are read.
    transposed : bool
        Whether the data are stored (ROI, time).
    missing_value : float, optional
        Value that stands for a missing sample.
    """
    values = _values_from_the_middle(series, columns, transposed, missing_value)
    any_negative = bool((values < 0).any())
    name = str(series.name)
    if match := re.search(EVENT_NAMES, name, re.IGNORECASE):
        if not any_negative:
            return Classification("events", f"its name says {match.group()!r} and no value is negative")
        return Classification("dF/F", f"its name says {match.group()!r}, but events cannot be negative as values are")
    if match := re.search(RELATIVE_NAMES, name, re.IGNORECASE):
        return Classification("dF/F", f"its name says {match.group()!r}")
    if isinstance(series.parent, DfOverF):
        return Classification("dF/F", f"it lies in the DfOverF container {series.parent.name!r}")
    if match := re.search(RELATIVE_NAMES, str(series.unit), re.IGNORECASE):
        return Classification("dF/F", f"its unit is {str(series.unit)!r}")
    zero_share = float((values == 0).mean()) if values.size else 0.0
    if zero_share >= SPARSE and not any_negative:
        return Classification("events", f"{zero_share:.0%} of its values are exactly zero and none is negative")
    if (match := re.search(RAW_NAMES, name, re.IGNORECASE)) and not any_negative:
        return Classification("fluorescence", f"its name says {match.group()!r}")
    if any_negative:
        return Classification("dF/F", "some values are negative, unlike raw fluorescence")
    return Classification("fluorescence", "no value is negative and few are zero")


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
    """Collect the attributes of a Dataset that tell what its ROIs hold, and the indicator.

    Parameters
    ----------
    sources : sequence of Source

    Returns
    -------
    dict
        ``signal``, ``signal_reason`` and ``indicator``; without those in which the sources differ, or that they lack.
    """
    attributes: dict[str, str] = {}
    for name in ("signal", "signal_reason", "indicator"):
        texts = {str(getattr(source, name, "")) for source in sources}
        if name == "signal_reason" and "signal" in attributes:
            attributes[name] = "; ".join(f"{source.path!r}: {getattr(source, name)}" for source in sources)
        elif len(texts) == 1 and (text := texts.pop()):
            attributes[name] = text
    return attributes


def _values_from_the_middle(
    series: RoiResponseSeries, columns: ArrayLike, transposed: bool, missing_value: float | None
) -> NDArray[Any]:
    """Finite values from the middle of the series, in its unit."""
    slabs = Slabs(series.data, transposed=transposed)
    n_rows = min(slabs.n_rows, max(1, VALUES_READ // slabs.n_columns))
    first = (slabs.n_rows - n_rows) // 2
    values = in_unit(slabs.read(first, first + n_rows)[:, np.asarray(columns)], series, missing_value=missing_value)
    return np.asarray(values[np.isfinite(values)])
