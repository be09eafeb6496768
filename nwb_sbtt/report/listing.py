"""Tables of text for the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from nwb_sbtt.config.listing import Part, Setting
from nwb_sbtt.display import text_of
from nwb_sbtt.report.comparison import (
    PARTS,
    best_baseline,
    shown_seconds,
    shown_session,
    shown_setting,
    summary_of_runs,
)

MOST_SETTINGS = 5
"""Most settings that differ between runs that are printed as columns."""


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
    return "\n".join([text_of(table), *(f"not defined: {reason}" for reason in reasons)])


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
    lines = [summary_of_runs(rows), *([text_of(table)] if rows else [])]
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
    return f"{text_of(table)}\nR² of condition averages of the factors; aligned: of conditions left out in turn"


def table_of_decoding(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Lay out how well behaviours are decoded, from latents and from smoothed data.

    Parameters
    ----------
    summaries : sequence of mapping
        From `nwb_sbtt.evaluate.decoding.summary_of`.

    Returns
    -------
    str
    """
    parts = []
    for found in summaries:
        lag = f", {found['lag']:g} s after the latents" if found["lag"] else ""
        parts.append(f"{found['behaviour']}{lag}; scored on {found['trials']} trials ({found['scored_on']})")
        table = Table(box=None)
        first = next(iter(found["scores"].values()))
        columns = list(first.get("columns", {}))
        classes = "accuracy" in first
        for heading in ["", "accuracy" if classes else "R²", *(columns if len(columns) > 1 else [])]:
            table.add_column(heading, justify="right" if heading else "left")
        for name, scores in found["scores"].items():
            cells = [scores["accuracy" if classes else "r2"]]
            cells += list(scores["columns"].values()) if len(columns) > 1 else []
            table.add_row(f"from {name}", *("–" if cell is None else f"{cell:.4f}" for cell in cells))
        if classes:
            table.add_row("by chance", f"{found['chance']:.4f}")
        parts.append(text_of(table))
        parts += [f"note: {note}" for note in found["notes"]]
    return "\n".join(parts)


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
        return text_of(table)

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
    return text_of(table)
