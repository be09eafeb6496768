"""Valid periods of units: tables ValidUnitPeriods of ndx-spikesorting, which tell when the spikes of each unit can be trusted.

They are recognised by the name of their type, so that a file reads the same where that package is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from hdmf.common import VectorIndex

from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.intervals import Intervals, total_duration, union
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.indices import interval_bounds, ragged_column, region_rows
from nwb_sbtt.io.read.masks import check_intervals
from nwb_sbtt.io.read.neurodata import neurodata_types
from nwb_sbtt.io.read.paths import in_file_path

PERIODS_TYPE = "ValidUnitPeriods"
"""Neurodata type of these tables."""
IGNORE = "pass valid_unit_periods=False (--set read.valid_unit_periods=false) to ignore the table"


@dataclass(frozen=True)
class UnitPeriods:
    """When each unit of a table was valid.

    Parameters
    ----------
    path : str
        In-file path of the table of periods.
    intervals : tuple of arrays (interval, 2)
        Of each row of the table of units, in seconds on the session clock; empty for a unit that was never valid.
    """

    path: str
    intervals: tuple[Intervals, ...] = field(repr=False)

    def share(self, start: float, stop: float) -> float:
        """Share of the time from start to stop [s] that was valid, mean over units.

        Parameters
        ----------
        start, stop : float
            Seconds on the session clock.

        Returns
        -------
        float
            Between 0 and 1.
        """
        seconds = [total_duration(np.clip(each, start, stop)) for each in self.intervals]
        return float(np.mean(seconds)) / (stop - start)

    def note(self, span: tuple[float, float]) -> str:
        """What is said of the periods where they are used; `span` is that of the units, in seconds.

        Parameters
        ----------
        span : (float, float)
            First and last moment of the units, in seconds on the session clock.

        Returns
        -------
        str
            One line.
        """
        never = sum(len(each) == 0 for each in self.intervals)
        n_units = len(self.intervals)
        without = f"; {never} of {n_units} units have no period and were never valid" if never else ""
        return (
            f"units count as observed only in their periods in {self.path!r}, on average {self.share(*span):.1%} of "
            f"the time from {span[0]:g} to {span[1]:g} s{without} (--set read.valid_unit_periods=false ignores them)"
        )


def stored_periods(nwbfile: Any, units: Any) -> list[UnitPeriods]:
    """Read the tables of valid periods of a table of units.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    units : pynwb.misc.Units

    Returns
    -------
    list of UnitPeriods
        Sorted by path; a table without rows is as good as none.

    Raises
    ------
    DataError
        If a table names units that there are not, or a period has no start or no later stop.
    """
    tables = [
        item
        for item in nwbfile.objects.values()
        if PERIODS_TYPE in neurodata_types(type(item)) and len(item) and _units_column(item).table is units
    ]
    return sorted((_periods(nwbfile, table, n_units=len(units)) for table in tables), key=lambda periods: periods.path)


def valid_periods(nwbfile: Any, units: Any, config: ReadConfig) -> UnitPeriods | None:
    """Choose the valid periods that count.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    units : pynwb.misc.Units
    config : ReadConfig
        With `valid_unit_periods`.

    Returns
    -------
    UnitPeriods or None
        None where there are none, or the settings ignore them.

    Raises
    ------
    SelectionError
        If there are several tables and the settings name none of them, or name one that there is not.
    DataError
        As `stored_periods`.
    """
    chosen = config.valid_unit_periods
    if chosen is False:
        return None
    found = {periods.path: periods for periods in stored_periods(nwbfile, units)}
    if isinstance(chosen, str):
        path = chosen.strip("/")
        if path not in found:
            raise SelectionError(
                f"the file has no ValidUnitPeriods {chosen!r} of its units; it has {list(found) or 'none'}"
            )
        return found[path]
    if len(found) > 1:
        raise SelectionError(
            f"the file has several ValidUnitPeriods of the same units, {list(found)}; choose one, for example with "
            f"`--set read.valid_unit_periods={next(iter(found))}`, or pass false to ignore them"
        )
    return next(iter(found.values()), None)


def _periods(nwbfile: Any, table: Any, *, n_units: int) -> UnitPeriods:
    path = in_file_path(nwbfile, table)
    rows = region_rows(_units_column(table), path=path)
    bounds = interval_bounds(table, path=path, remedy=IGNORE)
    if isinstance(table["unit"], VectorIndex):
        # A period may hold for several units.
        ends = ragged_column(table, "unit", path=path, remedy=IGNORE).bounds
        bounds = np.repeat(bounds, np.diff(ends), axis=0)
    check_intervals(bounds, name=path, remedy=IGNORE)
    order = np.argsort(rows, kind="stable")
    edges = np.searchsorted(rows[order], np.arange(n_units + 1))
    parts = (bounds[order[first:stop]] for first, stop in pairwise(edges))
    return UnitPeriods(path, tuple(union(part) if len(part) else np.empty((0, 2)) for part in parts))


def _units_column(table: Any) -> Any:
    column = table["unit"]
    return column.target if isinstance(column, VectorIndex) else column
