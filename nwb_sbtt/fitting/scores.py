"""The scores of a fit in its run folder, ``metrics.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nwb_sbtt.atomic import write_text
from nwb_sbtt.errors import FileError
from nwb_sbtt.fileerrors import FileErrors, check_is_file

METRICS = "metrics.json"
PARTS = ("cosmoothing", "held_out", "forecast")
"""Parts of the scores, beside those of hidden entries, as `Fitted.evaluate` names them."""


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """Read the scores of a run folder.

    Parameters
    ----------
    run_dir : Path

    Returns
    -------
    dict
        What `Fitted.evaluate` returned, by session; empty where nothing was scored yet.

    Raises
    ------
    FileError
        If the file is damaged.
    """
    path = run_dir / METRICS
    if not path.exists():
        return {}
    hint = f"`nwb-sbtt evaluate {run_dir}` writes it again"
    with FileErrors(path, what="the scores", hint=hint):
        check_is_file(path)
        metrics = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(metrics, dict) or not all(_is_scored(each) for each in metrics.values()):
        raise FileError(f"{str(path)!r} does not contain the scores of a fit; {hint}")
    return metrics


def keep_metrics(run_dir: Path, session: str, metrics: Mapping[str, Any], *, sessions: Mapping[str, Any]) -> None:
    """Put the scores of a session into the run folder, beside those of others; nothing in a folder that is read-only.

    Parameters
    ----------
    run_dir : Path
    session : str
    metrics : mapping
        From `Fitted.evaluate`.
    sessions : mapping
        Of the fit, by name, in the order in which they are written.

    Raises
    ------
    FileError
        If the folder cannot be written.
    """
    if not os.access(run_dir, os.W_OK):
        return
    try:
        stored = read_metrics(run_dir)
    except FileError:  # Damaged: it is replaced.
        stored = {}
    if "truth" in stored.get(session, {}) and "truth" not in metrics:
        return  # The same scores, and those of the truth too, which these data do not hold.
    known = {**stored, session: dict(metrics)}
    ordered = {name: known[name] for name in sessions if name in known}
    write_text(run_dir / METRICS, json.dumps(ordered, indent=2, allow_nan=False) + "\n")


def forget_metrics(run_dir: Path) -> None:
    """Remove the scores of weights that training is about to replace.

    Parameters
    ----------
    run_dir : Path
    """
    (run_dir / METRICS).unlink(missing_ok=True)


def scores_by_part(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return the scores of each method on each part of the entries.

    Parameters
    ----------
    metrics : mapping
        From `Fitted.evaluate`.

    Returns
    -------
    dict of part to dict of method to score
        ``hidden``, ``cosmoothing``, ``held_out``, ``forecast`` and ``rates_r2`` as far as there are some.
    """
    scores = {"hidden": metrics["scores"], **{part: metrics[part] for part in PARTS if part in metrics}}
    if "rates_r2" in metrics.get("truth", {}):
        scores["rates_r2"] = metrics["truth"]["rates_r2"]
    return scores


def _is_scored(metrics: Any) -> bool:
    """Whether these are scores as `Fitted.evaluate` returns them."""
    parts = (("metric", str), ("scores", dict), ("names", dict), ("checks", list))
    return isinstance(metrics, dict) and all(isinstance(metrics.get(name), kind) for name, kind in parts)
