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
from nwb_sbtt.report.comparison import (
    PARTS,
    best_baseline,
    shown_seconds,
    shown_session,
    shown_setting,
    summary_of_runs,
)

OBSERVED = "observed: share of the time from–to, mean over channels; `fit` gives that of the bins of its trials alone"
"""What the column of `inspect` is a share of, and why that of a fit differs."""
ROLES = {
    "result": "results of a model",
    "copy": "copied from the recording, beside its results",
    "truth": "truth of a simulation",
}
"""What series are that were not recorded."""
MOST_COUNTS = 8
"""Most values of a column of conditions that are printed with their counts."""
MOST_SETTINGS = 5
"""Most settings that differ between runs that are printed as columns."""


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
    rows = contents["series"]
    recorded = [row for row in rows if row["role"] == "recording" and row["readable"]]
    unreadable = [row for row in rows if not row["readable"] and row["role"] == "recording"]
    parts = [_series(file_name, recorded, others=bool(rows))]
    parts += [_tables(contents["tables"])] if contents["tables"] else []
    parts += [_masks(contents["masks"])] if contents["masks"] else []
    parts += [_unrecorded(rows, contents["results"])] if any(row["role"] in ROLES for row in rows) else []
    if unreadable:
        lines = [f"  {row['path']} ({row['type']}): {'; '.join(row['notes'])}" for row in unreadable]
        parts.append("\n".join(["cannot be read:", *lines]))
    if recorded:
        parts.append(_default(contents["default"], unreadable))
    return "\n".join(parts)


def _default(path: str | None, unreadable: Sequence[Mapping[str, Any]]) -> str:
    """What is read where no series is named."""
    if path is None:
        return "to fit, name one or more with --series"
    if any(row["path"] == path for row in unreadable):
        return f"without --series {path} is meant, which cannot be read; to fit, name another with --series"
    return f"read without --series: {path}"


def _series(file_name: str, rows: Sequence[Mapping[str, Any]], *, others: bool) -> str:
    if not rows and others:
        return f"{file_name} has no recorded series that can be fitted."
    if not rows:
        types = "no Units, ElectricalSeries, RoiResponseSeries or TimeSeries"
        return f"{file_name} has no recorded series that can be fitted: {types}."
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
    return "\n".join([f"{file_name}: series that can be fitted", _text(table), *notes, *explained])


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
    lines = ["masks, and the share that they leave observed of what they are about"]
    for mask in masks:
        share = "" if mask["observed"] is None else f": {'≈' * mask['estimated']}{mask['observed']:.1%}"
        about = f" of {', '.join(mask['series'])}" if mask["series"] else ""
        lines.append(f"  {mask['path']} ({mask['type']}){share}{about}")
        lines += [f"    {note}" for note in mask["notes"]]
    return "\n".join(lines)


def _unrecorded(rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> str:
    """Series that were not recorded, by what they are."""
    sources = ", ".join(results["sources"])
    lines = ["not recorded; read by their exact paths alone" + (f" (results inferred from {sources})" * bool(sources))]
    for role, text in ROLES.items():
        paths = [row["path"] for row in rows if row["role"] == role]
        lines += _wrapped(text, paths, indent=2) if paths else []
    return "\n".join(lines)


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
    if "cosmoothing" in metrics:
        columns[f"hidden channels\n[{metrics['metric']}]"] = metrics["cosmoothing"]
    if "held_out" in metrics:
        columns[f"held-out channels\n[{metrics['metric']}]"] = metrics["held_out"]
    if "forecast" in metrics:
        columns[f"forecast bins\n[{metrics['metric']}]"] = metrics["forecast"]
    if "rates_r2" in metrics.get("truth", {}):
        columns["true rates\n[R²]"] = metrics["truth"]["rates_r2"]
    for heading in columns:
        table.add_column(heading, justify="right")
    for key, name in metrics["names"].items():
        cells = [scores.get(key, "") for scores in columns.values()]
        table.add_row(name, *("–" if cell is None else cell if cell == "" else f"{cell:.4f}" for cell in cells))
    reasons = dict.fromkeys(metrics.get("undefined", {}).values())
    return "\n".join([_text(table), *(f"not defined: {reason}" for reason in reasons)])


def table_of_runs(content: Mapping[str, Any]) -> str:
    """Lay out many fits, one session a row: state, data, training, scores, checks that found something, differing settings.

    Parameters
    ----------
    content : mapping
        `nwb_sbtt.runs.comparison.Comparison.as_dict`.

    Returns
    -------
    str
    """
    rows = content["rows"]
    parts = [part for part in PARTS if any(part in row["scores"] for row in rows)]
    settings = content["settings"][:MOST_SETTINGS]
    table = Table(box=None)
    table.add_column("run", overflow="fold")
    table.add_column("")
    sizes = "trials × bins\n× channels"
    for heading in (sizes, "epochs", "time", *(PARTS[part].replace(" ", "\n", 1) for part in parts)):
        table.add_column(heading, justify="right", no_wrap=True)
        if heading == "hidden\nentries":
            table.add_column("best baseline", overflow="fold")
    for heading in ("checks", *settings):
        table.add_column(heading, overflow="fold")
    for row in rows:
        data, fit = row["data"], row["fit"]
        scores = [row["scores"].get(part, {}).get("model") for part in parts]
        cells = ["" if not row["scores"] else "–" if score is None else f"{score:.4f}" for score in scores]
        best = best_baseline(row)
        cells[1:1] = [f"{best[1]:.4f} {best[0]}" if best else ""] if "hidden" in parts else []
        found = [f"{check['level']}: {name}" for name, check in row["checks"].items() if check["level"] != "ok"]
        table.add_row(
            row["run"] + shown_session(row),
            row["state"],
            f"{data['trials']} × {data['bins']} × {data['channels']}" if data else "",
            str(fit["epochs"]) if "epochs" in fit else "",
            shown_seconds(fit["seconds"]) if "seconds" in fit else "",
            *cells,
            ", ".join(found),
            *(shown_setting(row["settings"].get(name)) if row["settings"] else "" for name in settings),
        )
    lines = [summary_of_runs(rows), *([_text(table)] if rows else [])]
    if more := content["settings"][MOST_SETTINGS:]:
        lines.append(f"these settings differ too (--csv and --html have their values): {', '.join(more)}")
    lines += [f"{row['state']}: {row['run']}: {row['cause']}" for row in rows if row["state"] != "finished"]
    return "\n".join(lines)


def table_of_alignment(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out how alike the factors of sessions are, as fitted and aligned.

    Parameters
    ----------
    records : mapping of session to mapping
        As `nwb_sbtt.fitting.alignment.FitAlignment.record` returns them.

    Returns
    -------
    str
    """
    table = Table(box=None)
    for heading in ("session", "reference"):
        table.add_column(heading)
    for heading in ("conditions", "components", "as fitted\n[R²]", "aligned\n[R²]"):
        table.add_column(heading, justify="right")
    for name, record in records.items():
        scores = (record["as_fitted"], record["aligned"])
        table.add_row(
            name,
            f"{record['reference']} of {record['reference_run']}",
            *(str(record[key]) for key in ("conditions", "components")),
            *("–" if score is None else f"{score:.3f}" for score in scores),
        )
    return f"{_text(table)}\nR² of condition averages of the factors; aligned: of conditions left out in turn"


def table_of_settings(settings: Sequence[Setting]) -> str:
    """Lay out settings, one a row, each section below its heading.

    Parameters
    ----------
    settings : sequence of Setting
        Those of a section follow each other.

    Returns
    -------
    str
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
    """Lay out models, likelihoods, baselines and readers, one a row, with the package that each comes from.

    Parameters
    ----------
    parts : sequence of Part

    Returns
    -------
    str
    """
    table = Table(box=None)
    for heading in ("kind", "name", "package", ""):
        table.add_column(heading, overflow="fold")
    for part in parts:
        table.add_row(part.kind, part.name, part.package, part.description)
    return _text(table)


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


def _text(table: Table) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=200, highlight=False, markup=False, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines())
