"""A search from files: what the command does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from nwb_sbtt.config import FitConfig, ReadConfig, SearchConfig
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import attach_truth
from nwb_sbtt.pipeline import describe
from nwb_sbtt.recordings import load_offsets, recordings_of, session_names
from nwb_sbtt.report.search import NAMES, in_words
from nwb_sbtt.searching.cluster import check_installed
from nwb_sbtt.searching.search import BEST, ENSEMBLE, PAGE, search


def search_files(
    paths: Sequence[Path],
    read: ReadConfig,
    config: SearchConfig,
    fit: FitConfig,
    *,
    run_dir: Path,
    offsets: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Search for good settings of a fit to files; goes on where it was interrupted.

    Parameters
    ----------
    paths : sequence of Path
        NWB files or addresses on DANDI; several are fitted together.
    read : ReadConfig
    config : SearchConfig
    fit : FitConfig
        What every trial starts from.
    run_dir : Path
        Folder of the search.
    offsets : sequence of str
        As for `nwb_sbtt.pipeline.fit_files`.
    log : callable
        Takes each line of progress.

    Returns
    -------
    dict
        JSON-safe: ``best`` and ``ensemble`` (folders), ``page``, ``sessions`` (scores on validation and test trials) and
        ``trials``.

    Raises
    ------
    SbttError
        If anything is refused; the message names what to try.
    """
    check_installed()
    paths, left_out, read = recordings_of(paths, read, fit)
    for remark in left_out:
        log(remark)
    data: dict[str, xr.Dataset] = {}
    for name, path in zip(session_names(paths), paths, strict=True):
        ds = read_nwb(path, read, offsets=load_offsets(offsets))
        log(describe(path, ds))
        data[name] = attach_truth(path, ds)
    found = search(data, config, run_dir=run_dir, fit=fit, log=log)
    record = found.record
    for session, scores in record.result["sessions"].items():
        for name, score in scores["scores"].items():
            shown = ", ".join(
                f"{part} trials {'not defined' if value is None else f'{value:.4f}'}" for part, value in score.items()
            )
            log(f"{session}: {scores['metric']} of {NAMES[name]}: {shown}")
        log(in_words(scores))
    log(f"the winner, trial {record.result['chosen']['trial']}: {run_dir / BEST}")
    if found.ensemble is not None:
        log(f"the best {len(found.ensemble.members)}, averaged: {run_dir / ENSEMBLE}")
    log(f"page: {run_dir / PAGE}")
    return {
        "best": str(run_dir / BEST),
        "ensemble": None if found.ensemble is None else str(run_dir / ENSEMBLE),
        "page": str(run_dir / PAGE),
        **record.result,
        "trials": record.as_dict()["trials"],
    }
