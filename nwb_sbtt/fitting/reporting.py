"""A fit for people: its report, and what it says of itself in a line, a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from nwb_sbtt.config.likelihoods import likelihood_in_words
from nwb_sbtt.errors import SbttError
from nwb_sbtt.fitting.dynamics.forecasting import forecast_error
from nwb_sbtt.fitting.dynamics.held import HeldSystem
from nwb_sbtt.fitting.dynamics.plane import flow_of
from nwb_sbtt.fitting.dynamics.stability import exponents_of, points_of
from nwb_sbtt.fitting.forward import doubts, has_learned, why_without
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.fitting.scores import read_metrics, scores_by_part
from nwb_sbtt.fitting.signature import SessionSignature
from nwb_sbtt.fitting.stitching import FACTORS
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.nn.sessions import SessionTables
from nwb_sbtt.report.page import write_report
from nwb_sbtt.report.system import LearnedSystem

if TYPE_CHECKING:
    import pandas as pd

    from nwb_sbtt.fitting.fitted import Fitted

REPORT = "report.html"
MOST_SESSIONS = 3
"""Most sessions that are described one by one."""


def report_pages(run_dir: Path, sessions: Iterable[str]) -> dict[str, Path]:
    """Return where the reports of a fit are, or would be.

    Parameters
    ----------
    run_dir : Path
    sessions : iterable of str
        Names of all its sessions.

    Returns
    -------
    dict of session to Path
    """
    names = list(sessions)
    return {name: run_dir / (REPORT if len(names) == 1 else f"report_{name}.html") for name in names}


def report_columns(fitted: Fitted, color_by: str | None) -> list[str]:
    """Return the trial columns that a report needs besides those of the fit.

    Parameters
    ----------
    fitted : Fitted
    color_by : str or None

    Returns
    -------
    list of str
    """
    condition = None if fitted.alignment is None else fitted.alignment.reference.condition
    return [name for name in (condition, color_by) if name is not None]


def report_session(
    fitted: Fitted,
    ds: xr.Dataset,
    latents: xr.Dataset,
    *,
    session: str,
    metrics: Mapping[str, Any],
    color_by: str | None = None,
    interactive: bool = False,
) -> Path:
    """Write the report of a fitted session into its run folder.

    Parameters
    ----------
    fitted : Fitted
    ds, latents : Dataset
        Data of the session, and what was inferred from them.
    session : str
    metrics : mapping
        Of the session.
    color_by : str, optional
        Column of trials that gives colours, and whose values PSTHs average over.
    interactive : bool
        Add latents and traces that can be turned and zoomed.

    Returns
    -------
    Path
    """
    averaged = f" · {len(fitted.members)} models averaged" if len(fitted.members) > 1 else ""
    return write_report(
        report_pages(fitted.run_dir, fitted.signature.sessions)[session],
        data=prepare(ds, fitted.config),
        latents=latents,
        history=fitted.history,
        metrics=metrics,
        reference=None if fitted.alignment is None else fitted.alignment.reference.courses[FACTORS],
        system=_reported_system(fitted, ds, session=session),
        title=f"{fitted.config.model.name} · {session}{averaged}",
        color_by=color_by,
        interactive=interactive,
    )


def measured_system(fitted: Fitted, ds: xr.Dataset, *, session: str) -> LearnedSystem:
    """Measure the system that a finished fit has learned, for its report.

    Parameters
    ----------
    fitted : Fitted
    ds : Dataset
        Data of the session.
    session : str

    Returns
    -------
    LearnedSystem
    """
    data = prepare(ds, fitted.config)
    system = HeldSystem.of(fitted, data, session=session, inputs=None)
    scored = data.sizes["time"] > 1 and int((data["split"].values == "valid").sum()) > 1
    return LearnedSystem(
        system_in_words(fitted),
        points_of(system),
        exponents_of(system),
        flow_of(system) if system.states.shape[2] > 1 else None,
        forecast_error(fitted, data, session=session) if scored else None,
        data.sizes["time"] * system.bin_width,
    )


def report_data(
    fitted: Fitted, ds: xr.Dataset, *, session: str, color_by: str | None = None, interactive: bool = False
) -> Path:
    """Score a session, infer its trials, and write its report.

    Parameters
    ----------
    fitted : Fitted
    ds : Dataset
        Data of the session.
    session : str
    color_by : str, optional
    interactive : bool
        As for `report_session`.

    Returns
    -------
    Path
    """
    metrics = fitted.evaluate(ds, session=session)
    latents = fitted.infer(prepare(ds, fitted.config), session=session)
    return report_session(
        fitted, ds, latents, session=session, metrics=metrics, color_by=color_by, interactive=interactive
    )


def facts_of(fitted: Fitted) -> dict[str, str]:
    """Describe a fit in about ten facts: model, data, training, scores beside the baselines, checks, and what to do next.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    dict of str
    """
    config, signature = fitted.config, fitted.signature
    averaged = f", {len(fitted.members)} models averaged" if len(fitted.members) > 1 else ""
    lag = "" if config.lag is None else f", lag {config.lag} bins"
    facts = {"model": f"{config.model.name}{lag}, {likelihood_in_words(signature.likelihood)}{averaged}"}
    sessions = list(signature.sessions.items())
    if signature.inputs:
        facts["known inputs"] = ", ".join(signature.inputs)
    for name, session in sessions[:MOST_SESSIONS]:
        facts[f"data, {name}"] = _sizes(session)
    if len(sessions) > MOST_SESSIONS:
        facts["further sessions"] = str(len(sessions) - MOST_SESSIONS)
    facts["training"] = fitted.unfinished or fitted.finished
    if not fitted.unfinished:
        facts["learned system"] = system_in_words(fitted)
    if fitted.best.progress.best_epoch:
        facts["validation loss"] = f"{fitted.best.progress.best_score:.4f} nats per hidden entry"
    facts |= _score_facts(fitted)
    if fitted.alignment is not None:
        facts["factors"] = f"aligned by {fitted.alignment.reference.condition!r} (aligned_factors)"
    facts["run folder"] = str(fitted.run_dir)
    facts["next"] = (
        "fitted.infer(ds), fitted.scores, fitted.split, fitted.report(), sb.plot.rates(fitted), sb.write_nwb(…)"
    )
    return facts


def system_in_words(fitted: Fitted) -> str:
    """Say what system a fit has learned, or why it has learned none.

    Parameters
    ----------
    fitted : Fitted
        Finished.

    Returns
    -------
    str
    """
    systems = [member.dynamics for member in fitted.members if member.dynamics is not None]
    if not systems:
        return f"none: {why_without(fitted)}"
    try:
        doubted = [name for name in systems[0].sessions if doubts(fitted, name)]
    except SbttError:  # A description is no place to fail.
        doubted = []
    of_sessions = f" of {', '.join(doubted[:MOST_SESSIONS])}" if len(systems[0].sessions) > 1 else ""
    poor = f"; its forecasts{of_sessions} are no better than the average of the trials" if doubted else ""
    size = f"{systems[0].dimensions} dimensions"
    if fitted.config.lag is not None:
        return f"{size}, takes no part in what is inferred, as the model has a lag{poor}"
    words = f"{size}, has a share in what is inferred of {_averaged([each.shares for each in systems], systems)}"
    if of_markov := [each.markov for each in systems if each.markov is not None]:
        share = _averaged([each.shares for each in of_markov], systems)
        words += f"; a hidden Markov model of {of_markov[0].n_states} states beside it one of {share}"
    elif fitted.signature.inputs:
        words += "; no hidden Markov model beside it, as known inputs drive the data"
    n, of_all = len(systems), f" of {len(fitted.members)}" if len(systems) < len(fitted.members) else ""
    of = f"; average of {n}{of_all} models" if len(fitted.members) > 1 else ""
    return f"{words} (decided on hidden entries{of}){poor}"


def as_text(fitted: Fitted) -> str:
    """Describe a fit in about ten lines.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    str
    """
    facts = facts_of(fitted)
    width = max(map(len, facts))
    return "\n".join(["Fitted", *(f"  {name:<{width}}  {text}" for name, text in facts.items())])


def as_html(fitted: Fitted) -> str:
    """Describe a fit as a table for notebooks.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    str
    """
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in facts_of(fitted).items()
    )
    return f"<table><caption>Fitted</caption><tbody>{rows}</tbody></table>"


def table_of_trials(fitted: Fitted) -> pd.DataFrame:
    """Make the table of `Fitted.split`.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    pandas.DataFrame
    """
    import pandas as pd

    parts = []
    for name, session in fitted.signature.sessions.items():
        labels, ids = list(session.split), list(session.trial_ids)
        if not labels:
            ds = fitted.data(name)
            labels = ds["split"].values.astype(str).tolist()
            ids = ds["trial_id"].values.tolist() if "trial_id" in ds.coords else []
        parts.append(pd.DataFrame({"session": name, "trial": ids or range(len(labels)), "split": labels}))
    return pd.concat(parts, ignore_index=True)


def table_of_methods(fitted: Fitted) -> pd.DataFrame:
    """Make the table of `Fitted.scores`.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    pandas.DataFrame
    """
    import pandas as pd

    rows = []
    for name in fitted.signature.sessions:
        metrics = fitted.metrics(name)
        of_parts = scores_by_part(metrics)
        for method, words in metrics["names"].items():
            parts = {part: scores.get(method) for part, scores in of_parts.items()}
            labels = {"session": name, "method": method, "name": words, "metric": metrics["metric"]}
            rows.append({**labels, **parts})
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(table.columns[4:], float))


def _averaged(tables: Sequence[SessionTables], systems: Sequence[Dynamics]) -> str:
    """Shares in words, averaged over models; of one session without its name."""
    shares = {
        session: f"{100 * float(sum(each[session] for each in tables)) / len(systems):.0f} %"
        for session in systems[0].sessions
    }
    shown = ", ".join(f"{name} {share}" for name, share in list(shares.items())[:MOST_SESSIONS])
    return next(iter(shares.values())) if len(shares) == 1 else shown


def _reported_system(fitted: Fitted, ds: xr.Dataset, *, session: str) -> LearnedSystem | str:
    """Its system, or why there is none to show, in words; empty before the end of training."""
    if not fitted.finished:
        return ""
    return measured_system(fitted, ds, session=session) if has_learned(fitted) else system_in_words(fitted)


def _sizes(session: SessionSignature) -> str:
    other = session.trials - session.training_trials
    split = f"{session.training_trials} train, {other} other"
    if session.split:
        labels = dict.fromkeys(session.split)
        split = ", ".join(f"{session.split.count(label)} {label}" for label in labels)
    return (
        f"{len(session.channels)} {session.kind}, {session.trials} trials ({split}), {session.bins} bins of "
        f"{session.bin_width:g} s"
    )


def _score_facts(fitted: Fitted) -> dict[str, str]:
    """Scores and checks of each session, if they are known."""
    try:
        metrics = read_metrics(fitted.run_dir)
    except SbttError as error:  # A description is no place to fail.
        return {"scores": str(error)}
    if not metrics:
        return {"scores": "not scored yet: fitted.evaluate(ds), or fitted.report() to score it and write a report"}
    facts = {}
    for name, each in list(metrics.items())[:MOST_SESSIONS]:
        of = f", {name}" if len(fitted.signature.sessions) > 1 else ""
        facts[f"score{of}"] = each["headline"]
        found = [check for check in each["checks"] if check["level"] != "ok"]
        good = len(each["checks"]) - len(found)
        facts[f"checks{of}"] = f"{good} of {len(each['checks'])} good"
        facts |= {f"look at{of}, {check['name']}": check["text"] for check in found}
    return facts
