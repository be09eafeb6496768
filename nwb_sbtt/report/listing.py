"""Tables of text for the terminal."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from nwb_sbtt.config.listing import Part, Setting


def table_of_candidates(file_name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out the series that `inspect` lists, one a row, with notes below.

    Parameters
    ----------
    file_name : str
    rows : sequence of mapping
        `Candidate.as_dict` of each series.

    Returns
    -------
    str
    """
    if not rows:
        return f"{file_name} has no series that can be fitted: no Units, ElectricalSeries, RoiResponseSeries or TimeSeries."
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
            "" if row["start"] is None else f"{row['start']:.6g}–{row['stop']:.6g}",
            "" if row["observed"] is None else f"{approximate}{row['observed']:.1%}",
            _gaps(row, approximate),
        )
        notes += [f"  {row['path']}: {note}" for note in row["notes"]]
    defaults = [row["path"] for row in rows if row["default"]]
    choice = f"read without --series: {defaults[0]}" if len(defaults) == 1 else "to fit, name one or more with --series"
    return "\n".join([f"{file_name}: series that can be fitted", _text(table), *notes, choice])


def table_of_scores(metrics: Mapping[str, Any]) -> str:
    """Lay out the scores of a model and of the baselines on entries that none of them was shown.

    Parameters
    ----------
    metrics : mapping
        From `Fitted.evaluate`.

    Returns
    -------
    str
    """
    table = Table(box=None)
    table.add_column("")
    columns = {f"hidden entries\n[{metrics['metric']}]": metrics["scores"]}
    if "held_out" in metrics:
        columns[f"held-out channels\n[{metrics['metric']}]"] = metrics["held_out"]
    if "rates_r2" in metrics.get("truth", {}):
        columns["true rates\n[R²]"] = metrics["truth"]["rates_r2"]
    for heading in columns:
        table.add_column(heading, justify="right")
    for key, name in metrics["names"].items():
        cells = [scores.get(key) for scores in columns.values()]
        table.add_row(name, *("" if cell is None else f"{cell:.4f}" for cell in cells))
    return _text(table)


def table_of_settings(settings: Sequence[Setting]) -> str:
    """Lay out settings, one a row, each section below its heading.

    Parameters
    ----------
    settings : sequence of Setting
        Those of a section follow each other.
    """
    width = min(max(shutil.get_terminal_size((160, 24)).columns, 100), 160)
    name = max(len(setting.name) for setting in settings)
    widths = {"--set": name, "values": 20, "default": 14, "": width - name - 42}

    def table_of(rows: Iterable[Sequence[str]], *, header: bool = False) -> str:
        table = Table(box=None, show_header=header)
        for heading, size in widths.items():
            table.add_column(heading, width=size, overflow="fold")
        for row in rows:
            table.add_row(*row)
        return _text(table)

    parts = [table_of([], header=True)]
    for (section, about), members in groupby(settings, lambda setting: (setting.section, setting.about)):
        parts += ["", *textwrap.wrap(f"{section}: {about}".removesuffix(": "), width)] if section else []
        parts.append(table_of((each.name, each.values, each.default, each.description) for each in members))
    return "\n".join(parts)


def table_of_parts(parts: Sequence[Part]) -> str:
    """Lay out models and likelihoods, one a row, with the package that each comes from."""
    table = Table(box=None)
    for heading in ("kind", "name", "package", ""):
        table.add_column(heading, overflow="fold")
    for part in parts:
        table.add_row(part.kind, part.name, part.package, part.description)
    return _text(table)


def _rate(row: Mapping[str, Any]) -> str:
    if row["rate"] is None:
        return ""
    return f"{row['rate']:.6g} Hz{'' if row['regular'] in (True, None) else ', irregular'}"


def _gaps(row: Mapping[str, Any], approximate: str) -> str:
    if not row["gaps"]:
        return "" if row["gaps"] is None else "none"
    return f"{approximate}{row['gaps']}, longest {row['longest_gap']:.4g} s"


def _text(table: Table) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=200, highlight=False, markup=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())
