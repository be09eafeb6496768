"""What a RoiResponseSeries holds: fluorescence, ΔF/F, or events that were deconvolved from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pynwb.ophys import DfOverF, RoiResponseSeries

from nwb_sbtt.data.grid import Source
from nwb_sbtt.io.read.slabs import Slabs, in_unit

Signal = Literal["fluorescence", "dF/F", "events"]
EVENTS = r"deconv|spike|spks|event|oasis|cascade|mlspike"
RELATIVE = r"d(elta)?[\s_-]*f[\s_-]*(/|over|of|by|0|[\s_-])*[\s_-]*f|dff|Δf"
RAW = r"neuropil|raw|fluorescence"
ENTRIES = 200_000
"""Values that are looked at where the names do not say."""
SPARSE = 0.5
"""Share of values that are exactly zero from which they are events."""


@dataclass(frozen=True)
class Held:
    """What a series holds, and in one line why it is taken for that."""

    signal: Signal
    reason: str


def held_by(series: RoiResponseSeries, *, columns: ArrayLike, transposed: bool, sentinel: float | None = None) -> Held:
    """Tell what a series holds by its name, its container, its unit, and last by its values.

    Parameters
    ----------
    series : pynwb.ophys.RoiResponseSeries
    columns : array of int
        ROIs that are looked at.
    transposed : bool
        Whether the data are stored (ROI, time).
    sentinel : float, optional
        Value that stands for a missing sample.
    """
    values = _some_values(series, columns, transposed, sentinel)
    negative = bool((values < 0).any())
    name = str(series.name)
    if found := re.search(EVENTS, name, re.IGNORECASE):
        if not negative:
            return Held("events", f"its name says {found.group()!r} and no value is negative")
        return Held("dF/F", f"its name says {found.group()!r}, but events cannot be negative as some values are")
    if found := re.search(RELATIVE, name, re.IGNORECASE):
        return Held("dF/F", f"its name says {found.group()!r}")
    if isinstance(series.parent, DfOverF):
        return Held("dF/F", f"it lies in the DfOverF container {series.parent.name!r}")
    if found := re.search(RELATIVE, str(series.unit), re.IGNORECASE):
        return Held("dF/F", f"its unit is {str(series.unit)!r}")
    zeros = float((values == 0).mean()) if values.size else 0.0
    if zeros >= SPARSE and not negative:
        return Held("events", f"{zeros:.0%} of its values are exactly zero and none is negative")
    if (found := re.search(RAW, name, re.IGNORECASE)) and not negative:
        return Held("fluorescence", f"its name says {found.group()!r}")
    if negative:
        return Held("dF/F", "some values are negative, which light cannot be")
    return Held("fluorescence", "no value is negative and few are zero")


def signal_attributes(sources: Sequence[Source]) -> dict[str, str]:
    """Attributes of a Dataset that say what its ROIs hold and of which indicator; none where its series differ in it."""
    found: dict[str, str] = {}
    for name in ("signal", "signal_reason", "indicator"):
        given = {str(getattr(each, name, "")) for each in sources}
        if name == "signal_reason" and "signal" in found:
            found[name] = "; ".join(f"{each.path!r}: {getattr(each, name)}" for each in sources)
        elif len(given) == 1 and (only := given.pop()):
            found[name] = only
    return found


def _some_values(series: RoiResponseSeries, columns: ArrayLike, transposed: bool, sentinel: float | None) -> np.ndarray:
    """Finite values from the middle of the series, in its unit."""
    slabs = Slabs(series.data, transposed=transposed)
    n = min(slabs.n_rows, max(1, ENTRIES // slabs.n_columns))
    first = (slabs.n_rows - n) // 2
    values = in_unit(slabs.read(first, first + n)[:, np.asarray(columns)], series, sentinel=sentinel)
    return np.asarray(values[np.isfinite(values)])
