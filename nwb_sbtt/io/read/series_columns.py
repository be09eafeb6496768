"""Columns of series that stand beside the data, such as behaviour and known inputs: their names, and the choice among them."""

from __future__ import annotations

from pynwb import TimeSeries
from pynwb.behavior import SpatialSeries

from nwb_sbtt.errors import SelectionError

MOST_LISTED = 8
"""Columns that an error lists."""


def column_names(series: TimeSeries, n: int) -> list[str]:
    """Name the columns of a series.

    Parameters
    ----------
    series : pynwb.TimeSeries
    n : int
        Number of its columns.

    Returns
    -------
    list of str
        x, y, z of a SpatialSeries of two or three columns, else numbers from 0.
    """
    return list("xyz"[:n]) if isinstance(series, SpatialSeries) and 1 < n <= 3 else [str(i) for i in range(n)]


def split_column(text: str) -> tuple[str, str]:
    """Split PATH:COLUMNS.

    Parameters
    ----------
    text : str

    Returns
    -------
    path, columns : str
        Columns are empty where none are named.

    Raises
    ------
    SelectionError
        If nothing follows the colon.
    """
    path, colon, columns = text.strip("/").partition(":")
    if colon and not columns.strip():
        raise SelectionError(
            f"{text!r} names no column after the colon; expected names or numbers from 0, such as ':0,1'"
        )
    return path, columns


def chosen_columns(text: str, names: list[str], *, path: str) -> list[int]:
    """Find the columns that are named.

    Parameters
    ----------
    text : str
        Names or numbers, separated by commas; all columns where it is empty.
    names : list of str
        From `column_names`.
    path : str
        In-file path of the series, for errors.

    Returns
    -------
    list of int
        In the order of `text`, each once.

    Raises
    ------
    SelectionError
        If there is no such column.
    """
    places = []
    for part in [each.strip() for each in text.split(",")] if text else names:
        by_number = part.isdecimal() and int(part) < len(names)
        if part not in names and not by_number:
            listed = ", ".join(names[:MOST_LISTED]) + (", …" if len(names) > MOST_LISTED else "")
            raise SelectionError(f"{path!r} has no column {part!r}; it has {len(names)}, counted from 0: {listed}")
        places.append(names.index(part) if part in names else int(part))
    return list(dict.fromkeys(places))
