"""What `inspect` lists, as text for the terminal and as HTML for notebooks."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rich.table import Table

from nwb_sbtt.display import html_of, text_of

OBSERVED = (
    "observed: fraction of the time from–to, mean over channels; `fit` prints the fraction for the bins of its "
    "trials only"
)
"""What the column of `inspect` is a share of, and why that of a fit differs."""
ROLES = {
    "result": "results of a model",
    "copy": "copied from the recording and stored with its results",
    "truth": "truth of a simulation",
}
"""What series are that were not recorded."""
MOST_COUNTS = 8
"""Most values of a column of conditions that are printed with their counts."""


def listing_of_contents(file_name: str, contents: Mapping[str, Any]) -> str:
    """Lay out what `inspect` lists: series that can be fitted, tables of trials, masks, and what else there is.

    Parameters
    ----------
    file_name : str
    contents : mapping
        `Contents.as_dict` of the file.

    Returns
    -------
    str
    """
    return "\n".join(part if isinstance(part, str) else text_of(part) for part in _parts(file_name, contents))


def page_of_contents(file_name: str, contents: Mapping[str, Any]) -> str:
    """Lay out the same as HTML for a notebook.

    Parameters
    ----------
    file_name : str
    contents : mapping
        `Contents.as_dict` of the file.

    Returns
    -------
    str
    """
    texts = (
        f'<pre style="margin:0;white-space:pre-wrap">{escape(part)}</pre>' if isinstance(part, str) else html_of(part)
        for part in _parts(file_name, contents)
    )
    return "\n".join(texts)


def _parts(file_name: str, contents: Mapping[str, Any]) -> list[str | Table]:
    rows = contents["series"]
    recorded = [row for row in rows if row["role"] == "recording" and row["readable"]]
    unreadable = [row for row in rows if not row["readable"] and row["role"] == "recording"]
    parts = _series(file_name, recorded, others=bool(rows))
    parts += [_tables(contents["tables"])] if contents["tables"] else []
    parts += [_masks(contents["masks"])] if contents["masks"] else []
    parts += [_unrecorded(rows, contents["results"])] if any(row["role"] in ROLES for row in rows) else []
    if unreadable:
        lines = [f"  {row['path']} ({row['type']}): {'; '.join(row['notes'])}" for row in unreadable]
        parts.append("\n".join(["cannot be read:", *lines]))
    if recorded:
        parts.append(_default(contents["default"], unreadable))
    return parts


def _default(path: str | None, unreadable: Sequence[Mapping[str, Any]]) -> str:
    """What is read where no series is named."""
    if path is None:
        return "to fit, name one or more with --series"
    if any(row["path"] == path for row in unreadable):
        return f"default without --series: {path}, but it cannot be read; name another with --series"
    return f"read without --series: {path}"


def _series(file_name: str, rows: Sequence[Mapping[str, Any]], *, others: bool) -> list[str | Table]:
    if not rows and others:
        return [f"{file_name} has no recorded series that can be fitted."]
    if not rows:
        types = "no Units, ElectricalSeries, RoiResponseSeries or TimeSeries"
        return [f"{file_name} has no recorded series that can be fitted: {types}."]
    table = Table(box=None)
    for heading in ("--series", "type", "shape", "rate", "channels", "unit", "from–to [s]", "observed", "gaps"):
        right = heading in ("rate", "channels", "observed", "gaps")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading == "--series")
    notes = []
    for row in rows:
        approximate = "≈" if row["estimated"] else ""
        table.add_row(
            row["path"],
            row["type"],
            "×".join(str(n) for n in row["shape"]),
            _rate(row),
            str(row["channels"]),
            row["unit"],
            _span(row),
            "" if row["observed"] is None else f"{approximate}{row['observed']:.1%}",
            _gaps(row, approximate),
        )
        notes += [f"  {row['path']}: {note}" for note in row["notes"]]
    explained = [OBSERVED] if any(row["observed"] is not None for row in rows) else []
    return [f"{file_name}: series that can be fitted", table, *notes, *explained]


def _tables(tables: Sequence[Mapping[str, Any]]) -> str:
    """Tables of trials, each with its events, its conditions and what is missing."""
    lines = ["tables of trials, for --trials EVENT:START:STOP --trials-table TABLE (default: trials)"]
    for table in tables:
        span = f", {_span(table)} s" if table["start"] is not None else ""
        lines.append(f"  {table['path']} ({table['type']}): {table['rows']} rows{span}")
        if table["events"]:
            lines += _wrapped("events", (event["name"] + _missing(event["missing"]) for event in table["events"]))
        for column in table["conditions"]:
            counts = [f"{value} ({count})" for value, count in list(column["counts"].items())[:MOST_COUNTS]]
            more = len(column["counts"]) - len(counts)
            counts += [f"and {more} more"] if more else []
            lines += _wrapped(f"{column['name']}{_missing(column['missing'])}", counts)
        others = (name + _missing(share) for name, share in (table["others"] or {}).items())
        lines += _wrapped("other columns", others) if table["others"] else []
        lines += [f"    {note}" for note in table["notes"]]
    return "\n".join(lines)


def _masks(masks: Sequence[Mapping[str, Any]]) -> str:
    lines = ["masks, with the fraction of channels and samples that each marks as observed"]
    for mask in masks:
        share = "" if mask["observed"] is None else f": {'≈' * mask['estimated']}{mask['observed']:.1%}"
        about = f" of {', '.join(mask['series'])}" if mask["series"] else ""
        lines.append(f"  {mask['path']} ({mask['type']}){share}{about}")
        lines += [f"    {note}" for note in mask["notes"]]
    return "\n".join(lines)


def _unrecorded(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    """Series that were not recorded, by what they are."""
    sources = ", ".join(results["sources"])
    lines = [
        "not recorded; read only if named by their exact path" + (f" (results inferred from {sources})" * bool(sources))
    ]
    for role, text in ROLES.items():
        paths = [row["path"] for row in rows if row["role"] == role]
        lines += _wrapped(text, paths, indent=2) if paths else []
    return "\n".join(lines)


def _wrapped(heading: str, items: Iterable[str], *, indent: int = 4) -> list[str]:
    """Lines of a heading and what belongs to it, as wide as the terminal."""
    width = max(shutil.get_terminal_size((160, 24)).columns, 80)
    first, later = " " * indent, " " * (indent + 2)
    return textwrap.wrap(
        f"{heading}: {', '.join(items)}", width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )


def _missing(share: float) -> str:
    return f" [{share:.1%} missing]" if share else ""


def _span(row: Mapping[str, Any]) -> str:
    return "" if row["start"] is None else f"{row['start']:.6g}–{row['stop']:.6g}"


def _rate(row: Mapping[str, Any]) -> str:
    if row["rate"] is None:
        return ""
    return f"{row['rate']:.6g} Hz{'' if row['regular'] in (True, None) else ', irregular'}"


def _gaps(row: Mapping[str, Any], approximate: str) -> str:
    if not row["gaps"]:
        return "" if row["gaps"] is None else "none"
    return f"{approximate}{row['gaps']}, longest {row['longest_gap']:.4g} s"
