"""One HTML page about a search over settings, which needs no other file and no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from nwb_sbtt.plot import searches
from nwb_sbtt.report.comparison import STYLE, shown_seconds, shown_setting
from nwb_sbtt.report.sheet import document, heading_of, section_of_figure

STRATEGIES = {
    "random": "settings drawn independently",
    "optuna": "settings drawn near those of good earlier trials; weak trials are stopped early",
    "pbt": "population-based training",
}
NAMES = {"best": "the winner", "defaults": "the defaults", "ensemble": "the best, averaged"}


def page_of_search(content: Mapping[str, Any], *, title: str) -> str:
    """Lay out a search as one HTML page.

    Parameters
    ----------
    content : mapping
        ``search`` (its settings), ``model``, ``epochs``, ``seconds``, ``space``, ``importance``, ``result`` and ``rows``, one a
        trial, as `nwb_sbtt.searching.search` makes them.
    title : str

    Returns
    -------
    str
    """
    rows, space = content["rows"], content["space"]
    scored = [row for row in rows if row["score"] is not None]
    parts = [f"<h1>{escape(title)}</h1>", _facts(content)]
    parts += [_comparison(session, found, content) for session, found in content["result"].get("sessions", {}).items()]
    if scored:
        parts.append(
            section_of_figure(
                lambda: searches.scores_in_time(rows),
                heading="Scores over time",
                caption="Each line is a trial, each dot the end of a part of its training. The thick line is the "
                "best score so far. If it is flat for a long time, more trials would help little.",
                alt="Loss on hidden entries of every trial over the time of the search.",
            )
        )
    if len(scored) > 1:
        parts.append(
            section_of_figure(
                lambda: searches.parallel_coordinates(rows, space),
                heading="Settings and scores",
                caption="Each line is a trial, from its settings to its score; lines that stand out have better scores, "
                "the red one the best. A setting matters if these lines meet on its axis; it does not if they spread. If "
                "the best values are at an end of an axis, search a wider range.",
                alt="Parallel coordinates of the settings and the score of every trial.",
            )
        )
    if content["importance"]:
        parts.append(
            section_of_figure(
                lambda: searches.importance_bars(content["importance"]),
                heading="Importance of the settings",
                caption="Fraction of the variance of the scores that each setting explains, within the ranges "
                "searched (functional analysis of variance, computed by Optuna). With few trials the estimates are "
                "rough.",
                alt="Bars of the importance of each setting.",
            )
        )
    if content["search"]["strategy"] == "pbt" and scored:
        parts.append(
            section_of_figure(
                lambda: searches.lineage(rows),
                heading="Lineage of the population",
                caption="Each row is a member, each dot a generation; dots that stand out are better. A red arrow "
                "points from the member whose weights and settings were copied to the member that received them.",
                alt="Members of the population over epochs, with arrows where weights were copied.",
            )
        )
    parts.append(_trials(rows, space, content["epochs"]))
    return document(title, "\n".join(parts), style=STYLE)


def _facts(content: Mapping[str, Any]) -> str:
    search = content["search"]
    states = Counter(row["state"] for row in content["rows"])
    counted = ", ".join(f"{states[state]} {state}" for state in states)
    facts = {
        "strategy": f"{search['strategy']}: {STRATEGIES[search['strategy']]}",
        "trials": f"{len(content['rows'])} of {search['trials']}: {counted}" if content["rows"] else "none yet",
        "model": f"{content['model']}, {content['epochs']} epochs in {search['pieces']} parts",
        "searched": "; ".join(each["text"] for each in content["space"]),
        "seed": str(search["seed"]),
        "time": shown_seconds(content["seconds"]),
    }
    rows = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
    return f'<table class="facts">\n{rows}\n</table>'


def _comparison(session: str, found: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The winner beside the defaults, the ensemble and the baselines, on validation and on test trials."""
    named = [(NAMES[name], found["scores"][name]) for name in NAMES if name in found["scores"]]
    named += [(each["name"], each) for each in found["baselines"].values()]
    head = "<tr><th></th><th class='right'>validation trials</th><th class='right'>test trials</th></tr>"
    body = "\n".join(
        f"<tr><th scope='row'>{escape(name)}</th><td class='right'>{_score(scores['valid'])}</td>"
        f"<td class='right'>{_score(scores['test'])}</td></tr>"
        for name, scores in named
    )
    several = len(content["result"]["sessions"]) > 1
    heading = f"The result{' · ' + session if several else ''}"
    return (
        f"{heading_of(heading)}\n<p>{escape(found['metric'].capitalize())} on entries that were hidden; higher is "
        f"better. The trials of the search were compared on the {found['valid_trials']} validation trials of the "
        f"recording. Its {found['test_trials']} test trials were not used in the search and were scored once at the "
        'end.</p>\n<div class="wide"><table '
        f'class="runs">\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n<p>{escape(in_words(found))}</p>'
    )


def in_words(found: Mapping[str, Any]) -> str:
    """Say by how much the winner beats the defaults, and how much of that was luck.

    Parameters
    ----------
    found : mapping
        Of a session: ``metric`` and ``scores``.

    Returns
    -------
    str
    """
    scores = found["scores"]
    if "defaults" not in scores or None in (*scores["best"].values(), *scores["defaults"].values()):
        return "There are no defaults to compare the winner with."
    valid, test = (scores["best"][part] - scores["defaults"][part] for part in ("valid", "test"))
    text = (
        f"The winner is ahead of the defaults by {valid:+.4f} {found['metric']} on the validation trials, by which it "
        f"was chosen, and by {test:+.4f} on the test trials"
    )
    if found["scores"]["best"] == found["scores"]["defaults"]:
        return "The winner is the trial with the defaults: the search found nothing better."
    if valid <= 0:
        return f"{text}: in this measure the search found nothing better."
    lost = valid - test
    if lost > 0:
        text += (
            f": {min(lost / valid, 1):.0%} of the gain is selection bias (choosing among many fits on the same trials)"
        )
    return f"{text}{'; on the test trials the defaults are not worse' if test <= 0 else ''}."


def _trials(rows: Sequence[Mapping[str, Any]], space: Sequence[Mapping[str, Any]], epochs: int) -> str:
    names = [each["name"] for each in space]
    head = "".join(f"<th>{escape(name)}</th>" for name in ["trial", *names, "epochs", "loss", "", "why it ended"])
    body = []
    for row in sorted(rows, key=lambda row: (row["score"] is None, row["score"] or 0.0)):
        name = str(row["number"]) + (" (defaults)" if row["number"] == 0 and not row["origins"] else "")
        links = [
            f'<a href="{escape(quote(page))}">{name if len(row["reports"]) == 1 else escape(session)}</a>'
            for session, page in row["reports"].items()
        ]
        name = ", ".join(links) if len(links) == 1 else " ".join([name, *links])
        cells = "".join(f"<td class='right'>{escape(_value(row['settings'].get(each)))}</td>" for each in names)
        score = "–" if row["score"] is None else f"{row['score']:.4f}"
        state = f'<span class="state {"" if row["state"] == "stopped" else row["state"]}">{escape(row["state"])}</span>'
        body.append(
            f"<tr><th scope='row'>{name}</th>{cells}<td class='right'>{row['epoch']}/{epochs}</td>"
            f"<td class='right'>{score}</td>"
            f"<td>{state}</td><td class='words'>{escape(row['cause'])}</td></tr>"
        )
    return (
        f"{heading_of('Trials')}\n<p>Best trial first. Loss is the negative log-likelihood of hidden entries of the "
        "validation trials, in nats per entry; lower is better. The number of a trial links to its report. Only the "
        "best trials have one; <code>nwb-sbtt report FOLDER/trials/0007</code> writes the report of another trial, "
        'and running the search command again adds the link here.</p>\n<div class="wide"><table '
        f'class="runs">\n<thead><tr>{head}</tr></thead>\n<tbody>\n' + "\n".join(body) + "\n</tbody>\n"
        "</table></div>"
    )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return f"{value:.3g}" if isinstance(value, float) else shown_setting(value)


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"
