"""One table of many run folders: state, data, training, scores beside baselines, checks, and the settings that differ."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nwb_sbtt.atomic import write_text
from nwb_sbtt.config.base import load_settings
from nwb_sbtt.errors import FileError, SbttError
from nwb_sbtt.fileerrors import FileErrors, check_is_file, several
from nwb_sbtt.fitting.reporting import report_pages
from nwb_sbtt.fitting.runfolder import CONFIG, FAILED, member_folders, read_config, read_signature
from nwb_sbtt.fitting.scores import PARTS, read_metrics, scores_by_part
from nwb_sbtt.fitting.signature import SIGNATURE, Signature
from nwb_sbtt.report.comparison import best_baseline, page_of_runs
from nwb_sbtt.train.checkpoint import LAST, Progress, read_progress

if TYPE_CHECKING:
    import pandas as pd

PART = "set"
"""Value of a part of the settings that other fits do without, such as ``dynamics``."""
State = Literal["finished", "unfinished", "failed", "damaged", "no run folder"]


@dataclass(frozen=True)
class Row:
    """One session of a run folder; a joint fit has several.

    Parameters
    ----------
    run : str
        The run folder, as it was named.
    state : "finished", "unfinished", "failed", "damaged" or "no run folder"
    cause : str
        Why training ended, how far it came, or what is wrong.
    session : str
        Name of the session; empty where the folder could not be read.
    fit : mapping
        ``model``, ``likelihood``, ``seeds``; ``epochs``, ``best_epoch`` and ``valid_loss`` [nats per scored entry] of the
        best member, and ``seconds`` of all.
    data : mapping
        ``source`` (file name), ``kind``, ``trials``, ``bins``, ``bin_width`` [s] and ``channels``.
    scores : mapping of part to mapping of method to score
        ``hidden`` (entries), ``cosmoothing``, ``held_out``, ``forecast`` and ``rates_r2``; None where a score is not defined.
    metric : str
        "bits per spike" or "explained variance"; of true rates it is R².
    names : mapping of method to str
        In words.
    checks : mapping of name to {"level", "text"}
    settings : mapping of dotted name to value
        All of the fit, and under ``read.`` those of the reader.
    report : Path or None
        The fit's own page.
    """

    run: str
    state: State
    cause: str
    session: str = ""
    fit: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    metric: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    report: Path | None = None

    def as_dict(self, differing: Sequence[str], *, beside: Path | None = None) -> dict[str, Any]:
        """Return plain values for JSON.

        Parameters
        ----------
        differing : sequence of str
            Names of the settings that are given.
        beside : Path, optional
            Folder that the address of the report is relative to; without it there is none.
        """
        link = None
        if beside is not None and self.report is not None:
            link = os.path.relpath(self.report.resolve(), beside.resolve())
        return {
            **{name: getattr(self, name) for name in ("run", "session", "state", "cause", "metric")},
            **{name: dict(getattr(self, name)) for name in ("data", "fit", "names")},
            "scores": {part: dict(scores) for part, scores in self.scores.items()},
            "checks": {name: dict(check) for name, check in self.checks.items()},
            "settings": {name: self.settings.get(name) for name in differing} if self.settings else {},
            **({"report": link} if link else {}),
        }


@dataclass(frozen=True)
class Comparison:
    """A table of run folders.

    Parameters
    ----------
    rows : tuple of Row
    differing : tuple of str
        Dotted names of the settings that have several values among the runs that have them.
    """

    rows: tuple[Row, ...]
    differing: tuple[str, ...]

    def as_dict(self, *, beside: Path | None = None) -> dict[str, Any]:
        """Return plain values for JSON: ``settings``, the names of those that differ, and ``rows``.

        Parameters
        ----------
        beside : Path, optional
            As for `Row.as_dict`.
        """
        rows = [row.as_dict(self.differing, beside=beside) for row in self.rows]
        return {"settings": list(self.differing), "rows": rows}

    def frame(self) -> pd.DataFrame:
        """Return the table, one row a session, as `compare` describes it."""
        import pandas as pd

        rows = []
        for row in self.rows:
            cells: dict[str, Any] = {name: getattr(row, name) for name in ("run", "session", "state", "cause")}
            cells |= {**row.data, **row.fit, "metric": row.metric or None}
            best = best_baseline(row.as_dict(()))
            cells["best_baseline"] = best[0] if best else None
            for part, scores in row.scores.items():
                cells |= {f"{part}.{method}": score for method, score in scores.items()}
            cells |= {f"check.{name}": check["level"] for name, check in row.checks.items()}
            cells |= {f"set.{name}": _cell(row.settings.get(name)) for name in self.differing}
            rows.append(cells)
        order = ("run", "session", "state", "cause", *_DATA, *_FIT, "metric", "best_baseline")
        found = [name for cells in rows for name in cells]
        groups = ("hidden.", *(f"{part}." for part in PARTS), "rates_r2.", "check.", "set.")
        names = [*order, *(name for group in groups for name in dict.fromkeys(found) if name.startswith(group))]
        table = pd.DataFrame(rows, columns=list(dict.fromkeys(names)), dtype=object)
        # Whole numbers stay whole where a run has none; values of settings stay what they are.
        texts = [name for name in table if name in _TEXTS or name.startswith(("check.", "set."))]
        return table.astype(
            {name: "Int64" if name in _WHOLE else "float64" for name in table if name not in texts},
        )

    def write_csv(self, path: Path) -> None:
        """Write the table as a CSV file.

        Parameters
        ----------
        path : Path
            Replaced if it exists.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        write_text(path, self.frame().to_csv(index=False), parents=True)

    def write_html(self, path: Path, *, title: str = "Comparison of fits") -> None:
        """Write the table as one HTML page, with links to the fits' own reports.

        Parameters
        ----------
        path : Path
            Replaced if it exists.
        title : str

        Raises
        ------
        FileError
            If it cannot be written.
        """
        write_text(path, page_of_runs(self.as_dict(beside=path.parent), title=title), parents=True)


_DATA = ("source", "kind", "trials", "bins", "bin_width", "channels")
_FIT = ("model", "likelihood", "seeds", "epochs", "best_epoch", "valid_loss", "seconds")
_WHOLE = ("trials", "bins", "channels", "seeds", "epochs", "best_epoch")
_TEXTS = ("run", "session", "state", "cause", "source", "kind", "model", "likelihood", "metric", "best_baseline")


def compare(runs: Path | str | Sequence[Path | str]) -> pd.DataFrame:
    """Compare run folders: scores beside baselines, checks, data, training, and the settings that differ.

    Parameters
    ----------
    runs : path, or sequence of path
        Run folders of any fits, finished or not; or folders that contain run folders at any depth.

    Returns
    -------
    pandas.DataFrame
        One row per session: ``run``, ``session``, ``state`` ("finished", "unfinished", "failed", "damaged" or "no run folder"),
        ``cause``, data (``bin_width`` [s]), training (``valid_loss`` [nats per scored entry], ``seconds``), ``metric``,
        scores as ``hidden.model``, ``hidden.mean_rate``, …, ``cosmoothing.…``, ``held_out.…``, ``forecast.…`` and
        ``rates_r2.…`` (in simulations), levels of checks as ``check.NAME``, and settings that differ as ``set.NAME``.

    Raises
    ------
    FileError
        If there is none, or none of them is a run folder or contains one.

    Examples
    --------
    >>> compare(["runs/first", "runs/second"])[["run", "hidden.model", "set.seed"]]  # doctest: +SKIP
    """
    return compare_runs(several(runs)).frame()


def compare_runs(runs: Sequence[Path | str]) -> Comparison:
    """Compare run folders, as `compare` does.

    Parameters
    ----------
    runs : sequence of path

    Returns
    -------
    Comparison

    Raises
    ------
    FileError
        If none of them is a run folder or contains one.
    """
    rows = [row for path in runs for folder in find_runs(Path(path)) for row in rows_of(folder)]
    if all(row.state == "no run folder" for row in rows):
        named = ", ".join(repr(str(path)) for path in runs)
        raise FileError(f"{named}: not a run folder of a fit; expected folders written by `nwb-sbtt fit --run-dir`")
    return comparison(rows)


def comparison(rows: Sequence[Row]) -> Comparison:
    """Make a table of rows, and find the settings that differ among them.

    Parameters
    ----------
    rows : sequence of Row

    Returns
    -------
    Comparison
    """
    rows = _with_parts(rows)
    values: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.settings.items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return Comparison(tuple(rows), tuple(name for name, each in values.items() if len(each) > 1))


def _with_parts(rows: Sequence[Row]) -> list[Row]:
    """Rows in which a part of the settings that is null, or a word, in others is a setting too, so that it differs."""
    alone = {name for row in rows for name in row.settings}

    def parts(settings: Mapping[str, Any]) -> dict[str, str]:
        above = {".".join(words[:i]) for name in settings for words in [name.split(".")] for i in range(1, len(words))}
        return dict.fromkeys(sorted(above & alone), PART)

    return [replace(row, settings={**row.settings, **parts(row.settings)}) for row in rows]


def find_runs(path: Path) -> list[Path]:
    """Find the run folders that a path names.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Path
        The folder itself, if it is a run folder or holds none; otherwise those in it, at any depth, but for members of
        ensembles.
    """
    if (path / SIGNATURE).exists() or not path.is_dir():
        return [path]
    found = []
    for place, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if SIGNATURE in files:
            found.append(Path(place))
            folders.clear()
    return found or [path]


def rows_of(run_dir: Path, *, name: str | None = None) -> list[Row]:
    """Describe a run folder, one row a session; what is wrong with it becomes the state and cause of a single row.

    Parameters
    ----------
    run_dir : Path
    name : str, optional
        Stands in the table for its path.

    Returns
    -------
    list of Row
        At least one.
    """
    run = str(run_dir) if name is None else name
    if not run_dir.exists():
        return [Row(run, "no run folder", "there is no such folder")]
    if not (run_dir / SIGNATURE).exists():
        return [Row(run, "no run folder", f"it holds no {SIGNATURE}")]
    try:
        signature, seeds = read_signature(run_dir), read_config(run_dir).seeds
        settings = dict(_flat(load_settings(run_dir / CONFIG)))
        progress = _progress(run_dir, seeds)
        state, cause = _state(run_dir, progress, seeds)
        metrics = _metrics(run_dir, signature) if state == "finished" else {}
    except SbttError as error:
        return [Row(run, "damaged", str(error))]
    if state == "finished" and not metrics:
        cause += "; not scored yet"
    fit = {"model": settings.get("model.name"), "likelihood": signature.likelihood, "seeds": seeds}
    if progress:
        best = min(progress, key=lambda each: each.best_score)
        fit |= {"epochs": best.epoch, "best_epoch": best.best_epoch, "seconds": sum(each.seconds for each in progress)}
        fit |= {"valid_loss": best.best_score} if best.best_epoch else {}
    rows, pages = [], report_pages(run_dir, signature.sessions)
    for session, sizes in signature.sessions.items():
        page = pages[session]
        data = {"source": (sizes.source or {}).get("name"), "channels": len(sizes.channels)}
        data |= {each: getattr(sizes, each) for each in ("kind", "trials", "bins", "bin_width")}
        found = _scores(metrics[session]) if metrics else {}
        report = page if page.exists() else None
        rows.append(Row(run, state, cause, session, fit, data, settings=settings, report=report, **found))
    return rows


def _state(run_dir: Path, progress: Sequence[Progress], seeds: int) -> tuple[State, str]:
    if failure := _failure(run_dir):
        return "failed", failure
    if len(progress) == seeds and all(each.finished for each in progress):
        return "finished", "; ".join(dict.fromkeys(each.finished for each in progress))
    which = f"member {len(progress) or 1} of {seeds}, " if seeds > 1 else ""
    return (
        "unfinished",
        f"{which}saved after epoch {progress[-1].epoch if progress else 0}; the same command resumes it",
    )


def _progress(run_dir: Path, seeds: int) -> list[Progress]:
    """Of each member that saved a state."""
    return [read_progress(each / LAST) for each in member_folders(run_dir, seeds) if (each / LAST).exists()]


def _failure(run_dir: Path) -> str:
    path = run_dir / FAILED
    if not path.exists():
        return ""
    with FileErrors(path, what="the record of an error"):
        check_is_file(path)
        return " ".join(path.read_text(encoding="utf-8").split()) or "the cause was not recorded"


def _metrics(run_dir: Path, signature: Signature) -> dict[str, Any]:
    """Of each session; empty where the fit was not scored."""
    metrics = read_metrics(run_dir)
    return metrics if set(metrics) == set(signature.sessions) else {}


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    checks = {check["name"]: {"level": check["level"], "text": check["text"]} for check in metrics["checks"]}
    return {"scores": scores_by_part(metrics), "metric": metrics["metric"], "names": metrics["names"], "checks": checks}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: Any) -> Any:
    """A setting in a table: lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value
