"""One HTML page that compares many fits, which needs no other file and no network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import numpy as np

from nwb_sbtt.report.sheet import document, heading_of

LEVELS = {"bad": "problem", "warn": "look at this"}
"""Levels of the checks that are named; the others are in order."""
STATES = ("finished", "unfinished", "failed", "damaged", "no run folder")
"""What a run may be, in the order in which they are counted."""
PARTS = {
    "hidden": "hidden entries",
    "cosmoothing": "hidden channels",
    "held_out": "held-out channels",
    "forecast": "forecast bins",
    "rates_r2": "true rates (R²)",
}
"""Parts of the scores, in words."""
STYLE = """\
main { max-width: none; }
.runs { font-size: .85rem; margin: .6rem 0 1rem; }
.runs th, .runs td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--faint); vertical-align: top;
  white-space: nowrap; }
.runs thead th { color: var(--soft); vertical-align: bottom; white-space: normal; border-bottom-color: var(--soft); }
.runs tbody th { font-weight: 400; }
.runs td.right, .runs th.right { text-align: right; font-variant-numeric: tabular-nums; }
.runs .number { width: 3.4rem; }
.runs .bar { width: 6rem; }
.runs .bar span { background: var(--own); }
.runs .words { white-space: normal; min-width: 16rem; }
.state, .check { display: inline-block; padding: 0 .45rem; border-radius: .2rem; background: var(--pill); }
.check { margin: 0 .25rem .15rem 0; }
.failed, .damaged, .none, .bad { background: var(--pill-bad); }
.unfinished, .warn { background: var(--pill-warn); }
.muted { color: var(--soft); }
"""


def page_of_runs(content: Mapping[str, Any], *, title: str) -> str:
    """Lay out many fits as one HTML page.

    Parameters
    ----------
    content : mapping
        `nwb_sbtt.runs.comparison.Comparison.as_dict`.
    title : str

    Returns
    -------
    str
    """
    rows = content["rows"]
    scored = [row for row in rows if row["scores"]]
    troubled = [row for row in rows if row["state"] != "finished" or row["cause"].endswith("not scored yet")]
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(summary_of_runs(rows))}</p>"]
    if troubled:
        parts.append(_troubled(troubled))
    if scored:
        metrics = list(dict.fromkeys(row["metric"] for row in scored))
        parts.append(
            f"{heading_of('Scores')}\n<p>{escape(' or '.join(metrics).capitalize())} on entries that neither the "
            "model nor a baseline was shown; higher is better. The name of a run links to its report. Only checks "
            "that found something are listed; point at one to see its text, which is also in the report.</p>\n"
            + _scores(scored)
        )
    if any(row["data"] for row in rows):
        parts.append(heading_of("Data and training") + "\n" + _training(rows, content["settings"]))
    return document(title, "\n".join(parts), style=STYLE)


def summary_of_runs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line how many runs there are, and in which states.

    Parameters
    ----------
    rows : sequence of mapping
        Of `page_of_runs`.

    Returns
    -------
    str
    """
    states = Counter({row["run"]: row["state"] for row in rows}.values())
    if not (n := states.total()):
        return "no run"
    counted = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    checked = [row for row in rows if row["checks"]]
    found = sum(any(check["level"] != "ok" for check in row["checks"].values()) for row in checked)
    said = f"; checks found something in {found} of {len(checked)}" if checked else ""
    return f"{n} run{'s' * (n != 1)}: {counted}{said}"


def best_baseline(row: Mapping[str, Any]) -> tuple[str, float] | None:
    """Name the best baseline of a row on hidden entries, with its score.

    Parameters
    ----------
    row : mapping

    Returns
    -------
    tuple of str and float, or None
        None where no baseline has a score.
    """
    hidden = row["scores"].get("hidden", {})
    known = {name: score for name, score in hidden.items() if name != "model" and score is not None}
    if not known:
        return None
    best = max(known, key=known.__getitem__)
    return row["names"].get(best, best), known[best]


def shown_session(row: Mapping[str, Any]) -> str:
    """Name the session of a row, unless its run says it already.

    Parameters
    ----------
    row : mapping

    Returns
    -------
    str
    """
    return "" if row["run"].rstrip("/").endswith(row["session"]) else f" · {row['session']}"


def shown_setting(value: Any) -> str:
    """Write a setting as the command line takes it.

    Parameters
    ----------
    value : JSON value
        None for the default that the data decide, and for what the run does not have.

    Returns
    -------
    str
    """
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def shown_seconds(seconds: float) -> str:
    """Write a duration in seconds, minutes or hours.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def _troubled(rows: Sequence[Mapping[str, Any]]) -> str:
    body = [f"{_run(row)}<td>{_state(row)}</td><td class='words'>{escape(row['cause'])}</td>" for row in rows]
    return heading_of("Not finished") + "\n" + _table(["run", "", "why"], body)


def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = [part for part in PARTS if any(part in row["scores"] for row in rows)]
    largest = {
        part: max([score for row in rows if (score := _of_model(row, part)) is not None], default=0.0) for part in parts
    }
    largest["rates_r2"] = 1.0
    largest["hidden"] = max([largest["hidden"], *(best[1] for row in rows if (best := best_baseline(row)))])
    body = []
    for row in rows:
        best = best_baseline(row)
        cells = [f"<td>{_bar(_of_model(row, part), largest[part])}</td>" for part in parts]
        named = f'{best[1]:.3f} <span class="muted">{escape(best[0])}</span>' if best else "–"
        cells.insert(1, f"<td>{named}</td>")
        body.append(_run(row) + "".join(cells) + f"<td class='words'>{_checks(row)}</td>")
    headings = [PARTS[part] for part in parts]
    headings.insert(1, "best baseline")
    return _table(["run", *headings, "checks"], body)


def _training(rows: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> str:
    body = []
    for row in rows:
        data, fit = row["data"], row["fit"]
        if not data:
            continue
        cells = [data["source"] or "–", fit["model"], fit["likelihood"]]
        numbers = [data["trials"], data["bins"], f"{data['bin_width']:g} s", f"{data['channels']} {data['kind']}"]
        numbers += [fit.get("epochs", 0), fit.get("best_epoch", 0)]
        numbers += [f"{fit['valid_loss']:.4f}" if "valid_loss" in fit else "–", shown_seconds(fit.get("seconds", 0.0))]
        changed = [shown_setting(row["settings"].get(name)) for name in settings]
        body.append(
            f"{_run(row)}<td>{_state(row)}</td>"
            + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells)
            + "".join(f'<td class="right">{escape(str(cell))}</td>' for cell in numbers)
            + "".join(f"<td>{escape(cell)}</td>" for cell in changed)
        )
    right = ["trials", "bins", "bin width", "channels", "epochs", "best epoch", "validation loss", "time"]
    return _table(["run", "", "source", "model", "likelihood", *right, *settings], body, right=right)


def _table(headings: Sequence[str], rows: Sequence[str], *, right: Sequence[str] = ()) -> str:
    head = "".join(
        f'<th scope="col"{" class=" + chr(34) + "right" + chr(34) if name in right else ""}>{escape(name)}</th>'
        for name in headings
    )
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    table = f'<table class="runs">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    return f'<div class="wide">\n{table}\n</div>'


def _run(row: Mapping[str, Any]) -> str:
    name = escape(row["run"])
    if "report" in row:
        name = f'<a href="{escape(quote(row["report"]))}">{name}</a>'
    return f'<th scope="row">{name}<span class="muted">{escape(shown_session(row))}</span></th>'


def _state(row: Mapping[str, Any]) -> str:
    style = "none" if row["state"] == "no run folder" else row["state"]
    return f'<span class="state {style}">{escape(row["state"])}</span>'


def _checks(row: Mapping[str, Any]) -> str:
    found = [(name, check) for name, check in row["checks"].items() if check["level"] in LEVELS]
    if not found:
        return '<span class="muted">nothing found</span>'
    return " ".join(
        f'<span class="check {check["level"]}" title="{escape(check["text"])}">{escape(name)}: {LEVELS[check["level"]]}</span>'
        for name, check in found
    )


def _of_model(row: Mapping[str, Any], part: str) -> float | None:
    score: float | None = row["scores"].get(part, {}).get("model")
    return score


def _bar(score: float | None, largest: float) -> str:
    if score is None:
        return "–"
    share = float(np.clip(score / largest, 0, 1)) if largest > 0 else 0.0
    return f'<span class="number">{score:.3f}</span><span class="bar"><span style="width:{100 * share:.1f}%"></span></span>'
