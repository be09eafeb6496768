"""What a file says about when its data count: invalid times, and the control values of a series."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.observed import Intervals, union
from nwb_sbtt.errors import DataError


def invalid_intervals(nwbfile: Any, config: ReadConfig) -> Intervals:
    """Sorted intervals (k, 2) of the session clock in which nothing counts; empty where the config says to ignore them.

    Every row counts for every series, also a row that names series it concerns.

    Raises
    ------
    DataError
        If a row has no start or stop, or ends before it starts.
    """
    table = nwbfile.invalid_times
    if table is None or not config.invalid_times or len(table) == 0:
        return np.empty((0, 2))
    rows = np.column_stack([np.asarray(table[name].data[:], dtype=np.float64) for name in ("start_time", "stop_time")])
    check_intervals(rows, place="invalid_times", remedy="pass invalid_times=False to ignore the table")
    return union(rows)


def check_intervals(rows: NDArray[np.float64], *, place: str, remedy: str) -> None:
    """Refuse intervals without a bound and intervals that end before they start.

    Raises
    ------
    DataError
    """
    wrong = np.flatnonzero(~(rows[:, 1] >= rows[:, 0]))
    if len(wrong):
        raise DataError(
            f"row {int(wrong[0])} of {place} runs from {rows[wrong[0], 0]:g} to {rows[wrong[0], 1]:g} s; expected a start "
            f"and a later stop ({len(wrong)} such rows); {remedy}"
        )


def control_allows(series: Any, config: ReadConfig, *, first: int, stop: int) -> NDArray[np.bool_]:
    """Which samples the series' `control` lets count; all where the config or the series says nothing.

    Raises
    ------
    DataError
        If `control` does not have one value a sample.
    """
    if config.control is None or series.control is None:
        return np.ones(stop - first, dtype=bool)
    values = np.asarray(series.control[first:stop])
    if values.shape != (stop - first,):
        raise DataError(
            f"`control` of {series.name!r} has shape {np.shape(series.control)}; expected one value a sample; "
            "leave `control` unset to ignore it"
        )
    return np.isin(values, config.control)
