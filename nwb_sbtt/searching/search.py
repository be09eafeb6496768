"""Search over the settings of a fit: many trials on Ray, in one folder, that can be taken up again."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_sbtt import stopping
from nwb_sbtt.atomic import make_folder, write_text
from nwb_sbtt.config import FitConfig, SearchConfig, config_of
from nwb_sbtt.errors import ClusterError, ConfigError, SbttError, TrainingError
from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.fitting.assembly import assemble
from nwb_sbtt.fitting.fit import fit as fit_once
from nwb_sbtt.fitting.fit import named_sessions
from nwb_sbtt.fitting.fitted import Fitted
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import prepare, signature_of
from nwb_sbtt.fitting.reporting import report_data, report_pages, report_session
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.locking import hold
from nwb_sbtt.report.search import page_of_search
from nwb_sbtt.searching.cluster import Resources, check_installed, check_room, connected, environment, n_at_once
from nwb_sbtt.searching.progress import Display, default_display
from nwb_sbtt.searching.record import RECORD, TRIALS, Record, Step, resumed
from nwb_sbtt.searching.space import Dimension, make_space, value_in
from nwb_sbtt.searching.storage import Storage, storage_of
from nwb_sbtt.train import schedules
from nwb_sbtt.train.checkpoint import LAST, Progress, read_progress
from nwb_sbtt.train.loop import read_log

if TYPE_CHECKING:
    from ray.tune import ResultGrid

    from nwb_sbtt.searching.home import Home

REPORTED = 5
"""Best trials that have reports of their own."""
BEST, ENSEMBLE, DEFAULTS, PAGE = "best", "ensemble", "defaults", "search.html"
_LOCK = "lock"
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}
"""Ray keeps no log of its own and leaves Ctrl-C to us; what it would store of the search stands in our record."""


@dataclass(frozen=True)
class Searched:
    """What a search has found.

    Parameters
    ----------
    run_dir : Path
        Folder of the search.
    record : Record
        All trials, and the result.
    best : Fitted
        The winner, from the folder ``best``.
    ensemble : Fitted or None
        The average of the best, where it was asked for.
    """

    run_dir: Path
    record: Record
    best: Fitted
    ensemble: Fitted | None = None


def search(
    data: xr.Dataset | Mapping[str, xr.Dataset],
    config: SearchConfig | Mapping[str, object] | None = None,
    *,
    run_dir: Path | str,
    fit: FitConfig | Mapping[str, object] | None = None,
    display: Display | None = None,
    log: Callable[[str], None] = print,
) -> Searched:
    """Search for good settings of a fit; an interrupted search is resumed, a finished one is loaded.

    Each trial of the search is a fit with its own run folder. They are compared by the loss on hidden entries of the validation
    trials, which are not used for training. The best of many fits is also lucky on these entries (selection bias). Therefore
    some trials of the recording are kept as test trials, and the winner is scored on them once.

    Parameters
    ----------
    data : Dataset, or Datasets by session name
        As for `nwb_sbtt.fit`.
    config : SearchConfig, or mapping of its settings, optional
    run_dir : path
        Folder of the search: ``search.yaml`` (all trials), ``search.html``, the run folders ``trials/0000``, …, ``best`` (a
        link to the winner's) and ``ensemble``.
    fit : FitConfig, or mapping of its settings, optional
        Settings of every trial that are not searched; the first trial uses exactly these settings.
    display : Display, optional
        Shows the progress of the search; by default a live table on a terminal, plain lines elsewhere.
    log : callable
        Called with each line of text about the result.

    Returns
    -------
    Searched

    Raises
    ------
    ClusterError
        If Ray is not installed or cannot be reached, or if no machine has the resources that a trial needs.
    ConfigError
        If the search space is not valid.
    DataError
        If the data cannot be fitted with these settings.
    TrainingError
        If the folder has another search, or every trial failed.
    FileError
        If another process uses the folder, or it cannot be written.

    Examples
    --------
    >>> found = search(ds, SearchConfig(trials=30, ensemble=5), run_dir="searches/first")  # doctest: +SKIP
    >>> latents = found.ensemble.infer(ds)  # doctest: +SKIP
    """
    check_installed()
    config, run_dir = config_of(SearchConfig, config), path_of(run_dir, "the folder of the search")
    sessions = named_sessions(data)
    new, start = _new_record(sessions, config, config_of(FitConfig, fit, name="fit"))
    _check_folder(run_dir)
    make_folder(run_dir)
    with hold(run_dir / _LOCK, what=f"the folder of the search {str(run_dir)!r}"):
        record = _in_step(resumed(new, run_dir), run_dir)
        make_folder(run_dir / TRIALS)
        record.save(run_dir)
        try:
            if any(row.state == "running" for row in record.rows.values()) or len(record.rows) < config.trials:
                record = _run(record, start, sessions, run_dir, display)
        except (KeyboardInterrupt, stopping.Stopped):
            with suppress(SbttError):
                record = _in_step(resumed(new, run_dir), run_dir)
                _link_best(record, run_dir)
                _write_page(record, run_dir)
            raise
        return _finish(record, sessions, run_dir, log)


def _new_record(
    sessions: Mapping[str, xr.Dataset], config: SearchConfig, fit: FitConfig
) -> tuple[Record, dict[str, Any]]:
    """The record of a search before its first trial, and the settings of trial 0."""
    if fit.seeds != 1:
        raise ConfigError(
            f"seeds is {fit.seeds}, but each trial of a search is one model; to average the best trials set ensemble "
            "(--ensemble)"
        )
    if fit.system is not None:
        raise ConfigError(
            "a search compares fits without a learned system; leave dynamics out, and set it in a fit with the best settings"
        )
    fit = fit.model_copy(update={"dynamics": None})
    if config.strategy == "pbt" and config.at_once is not None:
        raise ConfigError(
            "at_once cannot be used with a population (pbt), whose members share the available CPUs and GPUs; to run "
            "fewer at the same time, set more CPUs for each (--cpus-per-trial)"
        )
    _resources(config).check_device(fit.device, option="--gpus-per-trial")
    if not fit.test_fraction:
        fit = fit.model_copy(update={"test_fraction": config.test_fraction})
    if fit.init is not None:
        # Fits of the search run in folders of their own.
        fit = fit.model_copy(update={"init": fit.init.model_copy(update={"run_dir": fit.init.run_dir.resolve()})})
    space = make_space(config.space, fit, strategy=config.strategy)
    prepared = {name: prepare(ds, fit) for name, ds in sessions.items()}
    signature = signature_of(prepared, fit)
    trials = signature.training_trials
    plan = schedules.plan(fit, trials)
    patience = plan.epochs if config.strategy == "pbt" else plan.patience
    changes: dict[str, Any] = {
        "train": fit.train.model_copy(update={"epochs": plan.epochs, "patience": patience}),
        "threads": max(fit.threads, int(config.cpus_per_trial)),
    }
    if not config.gpus_per_trial and fit.device == "auto":
        changes["device"] = "cpu"
    filled = fit.model_copy(
        update={
            "model": schedules.fill(fit.model, trials),
            "train": fit.train.model_copy(
                update={
                    name: getattr(plan, name) for name in ("learning_rate", "weight_decay", "batch_size", "patience")
                }
            ),
            "masks": fit.masks.model_copy(update={"coordinated_dropout": plan.coordinated_dropout}),
        }
    )
    start = {each.name: _start(value_in(filled, each.name), each, config) for each in space}
    digests = {name: session.data_sha256 for name, session in signature.sessions.items()}
    return Record(config, fit.model_copy(update=changes), space, digests), start


def _start(value: Any, dimension: Dimension, config: SearchConfig) -> Any:
    """The default of a setting; in a population, which changes it by a factor, of a lowest and highest value the mean."""
    return float(np.mean(value)) if config.strategy == "pbt" and isinstance(value, list) else value


def _check_folder(run_dir: Path) -> None:
    if not run_dir.exists():
        return
    if not run_dir.is_dir() or (
        not (run_dir / RECORD).exists() and any(path.name != _LOCK for path in run_dir.iterdir())
    ):
        raise TrainingError(
            f"{str(run_dir)!r} exists and is not the folder of a search; use a new folder for the search"
        )


def _in_step(record: Record, run_dir: Path) -> Record:
    """Bring the rows of trials that were running into step with their run folders: a kill leaves either a piece behind."""
    for row in [row for row in record.rows.values() if row.state == "running"]:
        folder = run_dir / row.folder
        progress = read_progress(folder / LAST) if (folder / LAST).exists() else Progress()
        losses = [each.valid_loss for each in read_log(folder, progress)] if progress.epoch else []
        steps = [step for step in row.steps if step.epoch <= progress.epoch]
        for epoch in dict.fromkeys([*range(record.piece, progress.epoch, record.piece), progress.epoch]):
            if epoch > (steps[-1].epoch if steps else 0):
                score = losses[epoch - 1] if record.search.strategy == "pbt" else min(losses[:epoch])
                steps.append(Step(epoch, score, record.seconds))
        row = replace(row, steps=tuple(steps))
        if progress.finished:
            row = replace(row, state="finished", cause=progress.finished)
        record = record.with_row(row)
    return record


def _run(
    record: Record,
    start: Mapping[str, Any],
    sessions: Mapping[str, xr.Dataset],
    run_dir: Path,
    display: Display | None,
) -> Record:
    """Run all trials that are left."""
    search = record.search
    resources = _resources(record.search)
    # Ray takes up no more trials than that before others have ended, which those of a population do together.
    settings = {**_QUIET, "TUNE_MAX_PENDING_TRIALS_PG": str(search.trials)} if search.strategy == "pbt" else _QUIET
    with connected(search.address), environment(settings), storage_of(record, run_dir) as storage:
        import ray

        from nwb_sbtt.searching.home import Home
        from nwb_sbtt.searching.tasks import start_board

        check_room(resources, options="--cpus-per-trial, --gpus-per-trial, --memory-per-trial")
        if search.address is not None and search.storage is None:
            _check_shared(run_dir)
        board = start_board()
        home = Home(record, run_dir, display or default_display(), board)
        logger = logging.getLogger("ray")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            results = _tune(record, start, sessions, home, board, run_dir=run_dir, storage=storage)
            home.end(_causes(results))
        finally:
            logger.setLevel(level)
            home.close()
            ray.kill(board)
    return home.record


def _tune(
    record: Record,
    start: Mapping[str, Any],
    sessions: Mapping[str, xr.Dataset],
    home: Home,
    board: Any,
    *,
    run_dir: Path,
    storage: Storage,
) -> ResultGrid:
    """Have Ray run the trials that are left."""
    from ray import tune

    from nwb_sbtt.searching import strategies
    from nwb_sbtt.searching.trial import FitTrial, Task, read_files

    search, resources = record.search, _resources(record.search)
    task = Task(record.fit, record.piece, latest=search.strategy == "pbt")
    left = [row for row in record.rows.values() if row.state == "running"]
    states = {
        row.number: read_files(run_dir / row.folder) for row in left if (run_dir / row.folder / SIGNATURE).exists()
    }
    new = strategies.new_rows(record, start)
    # The truth of a simulation is for the scores at the end.
    untold = {
        name: ds.drop_vars([each for each in ds.variables if str(each).startswith("true_")])
        for name, ds in sessions.items()
    }
    trainable = tune.with_resources(
        tune.with_parameters(FitTrial, data=untold, task=task, states=states, board=board),
        tune.PlacementGroupFactory([resources.bundle()]),
    )
    if search.strategy == "optuna":
        known = left + [row for row in new if row.number == 0]
        searcher = strategies.NumberedSearch(record, known)
        what: dict[str, Any] = {"search_alg": searcher, "num_samples": len(left) + len(new)}
        space = None
    else:
        what, space = {}, strategies.param_space(left + new)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=strategies.SCORE,
            mode=strategies.MODE,
            scheduler=strategies.scheduler_of(record),
            # All members of a population are there from the start; those that there is no room for wait for their turns.
            max_concurrent_trials=None if search.strategy == "pbt" else search.at_once or n_at_once(resources),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
            **what,
        ),
        run_config=tune.RunConfig(
            name=storage.name,
            storage_path=storage.place,
            callbacks=[home],
            failure_config=tune.FailureConfig(max_failures=search.retries),
            checkpoint_config=tune.CheckpointConfig(
                # States come home. A population may still take over the one before.
                num_to_keep=3 if search.strategy == "pbt" else 1,
                checkpoint_frequency=1,
                checkpoint_at_end=True,
            ),
            verbose=0,
        ),
    ).fit()


def _resources(search: SearchConfig) -> Resources:
    """What each trial gets."""
    return Resources(search.cpus_per_trial, search.gpus_per_trial, search.memory_per_trial)


def _causes(results: ResultGrid) -> dict[int, str]:
    """Why trials broke down, by number."""
    causes = {}
    for i in range(len(results)):
        result = results[i]
        if result.error is not None and result.config is not None:
            lines = [line for line in str(result.error).strip().splitlines() if line.strip()]
            causes[int(result.config["trial"]["number"])] = lines[-1].strip() if lines else type(result.error).__name__
    return causes


def _check_shared(run_dir: Path) -> None:
    """Raise if a node of the cluster does not see the folder of the search."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    path = str((run_dir / RECORD).resolve())
    sees = ray.remote(num_cpus=0)(os.path.exists)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(path)
        for node in nodes
    ]
    blind = [node["NodeManagerHostname"] for node, seen in zip(nodes, ray.get(asked), strict=True) if not seen]
    if blind:
        raise ClusterError(
            f"{', '.join(map(repr, blind[:3]))} of the cluster cannot access the folder of the search, "
            f"{str(run_dir)!r}; put it on a disk that all nodes share, or set --storage to a path that they can "
            "access, such as s3://bucket/path"
        )


def _finish(record: Record, sessions: Mapping[str, xr.Dataset], run_dir: Path, log: Callable[[str], None]) -> Searched:
    """Choose the winner, score it once on the test trials, average the best, and write the page."""
    ranked = record.ranked
    if not ranked:
        causes = "; ".join(dict.fromkeys(row.cause for row in record.rows.values() if row.cause))
        raise TrainingError(f"no trial of the search in {str(run_dir)!r} has a score: {causes}")
    winner = ranked[0]
    n = min(record.search.ensemble, len(ranked))
    if n < record.search.ensemble:
        log(f"{len(ranked)} trials have a score, so {n} instead of {record.search.ensemble} are averaged")
    members = [row.number for row in ranked[:n]] if n > 1 else []
    chosen = {"trial": winner.number, "score": winner.score, "ensemble": members}
    _link_best(record, run_dir)
    best = load(run_dir / winner.folder)
    ensemble = None
    if record.result.get("chosen") != chosen:
        if members:
            log(f"averaging the best {n} trials …")
            ensemble = assemble(run_dir / ENSEMBLE, [run_dir / row.folder for row in ranked[:n]], sessions)
        record = replace(record, result={"chosen": chosen, **_scores(record, best, ensemble, sessions, run_dir, log)})
        record.save(run_dir)
    elif members:
        ensemble = load(run_dir / ENSEMBLE)
    for row in ranked[:REPORTED]:
        _report(run_dir / row.folder, sessions)
    _write_page(record, run_dir)
    return Searched(run_dir, record, best, ensemble)


def _link_best(record: Record, run_dir: Path) -> None:
    """Make the folder ``best`` the winner's: a link, or a copy where there are no links."""
    if not record.ranked:
        return
    source, link = record.ranked[0].folder, run_dir / BEST
    temporary = run_dir / f".{BEST}-{os.getpid()}"
    try:
        temporary.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.rmtree(link, ignore_errors=True)
        shutil.copytree(run_dir / source, link)
        return
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    temporary.replace(link)


def _scores(
    record: Record,
    best: Fitted,
    ensemble: Fitted | None,
    sessions: Mapping[str, xr.Dataset],
    run_dir: Path,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Score the winner, the defaults and the ensemble on validation and test trials; the winner beside the baselines."""
    log("scoring the winner and the baselines …")
    compared = {"best": best}
    first, winner = record.rows[0], record.ranked[0]
    if first.origins:  # The first member of a population has taken over other settings.
        log("fitting the defaults, to compare them …")
        compared["defaults"] = fit_once(sessions, record.fit, run_dir=run_dir / DEFAULTS)
    elif winner.number != 0 and first.steps and first.state != "failed":
        compared["defaults"] = load(run_dir / first.folder)
    if ensemble is not None:
        compared["ensemble"] = ensemble
    result: dict[str, Any] = {}
    for session, ds in sessions.items():
        found: dict[str, Any] = {"scores": {}, "baselines": {}}
        for name, fitted in compared.items():
            valid = fitted.evaluate(ds, session=session)
            test = fitted.evaluate(ds, session=session, on="test", baselines=name == "best")
            found["scores"][name] = {"valid": valid["scores"]["model"], "test": test["scores"]["model"]}
            if name == "best":
                found |= {"metric": valid["metric"], "test_trials": test["scored"]["trials"]}
                found["valid_trials"] = valid["scored"]["trials"]
                found["baselines"] = {
                    baseline: {
                        "name": valid["names"][baseline],
                        "valid": valid["scores"][baseline],
                        "test": test["scores"][baseline],
                    }
                    for baseline in valid["baselines"]
                }
            report_session(
                fitted, ds, fitted.infer(prepare(ds, fitted.config), session=session), session=session, metrics=valid
            )
        if "defaults" not in compared and winner.number == 0:
            found["scores"]["defaults"] = found["scores"]["best"]
        result[session] = found
    return {"sessions": result}


def _report(folder: Path, sessions: Mapping[str, xr.Dataset]) -> None:
    """Write the scores and reports of a trial that has none."""
    fitted = load(folder)
    if all(page.exists() for page in report_pages(folder, sessions).values()):
        return
    for session, ds in sessions.items():
        report_data(fitted, ds, session=session)


def _write_page(record: Record, run_dir: Path) -> None:
    from nwb_sbtt.searching.strategies import importance

    rows = []
    for row in sorted(record.rows.values(), key=lambda row: row.number):
        pages = report_pages(Path(row.folder), record.data)
        reports = {session: str(page) for session, page in pages.items() if (run_dir / page).exists()}
        rows.append(
            {
                **{name: getattr(row, name) for name in ("number", "state", "cause", "epoch")},
                "settings": dict(row.settings),
                "score": row.score if math.isfinite(row.score) else None,
                "steps": [asdict(step) for step in row.steps],
                "origins": [asdict(origin) for origin in row.origins],
                "reports": reports,
            }
        )
    content = {
        "search": record.search.model_dump(mode="json"),
        "model": record.fit.model.name,
        "epochs": record.fit.train.epochs,
        "seconds": record.seconds,
        "space": [
            {"name": each.name, "text": str(each), "log": each.log, "values": list(each.values) or None}
            for each in record.space
        ],
        "importance": importance(record),
        "result": dict(record.result),
        "rows": rows,
    }
    write_text(run_dir / PAGE, page_of_search(content, title=f"Search · {record.fit.model.name} · {run_dir.name}"))
