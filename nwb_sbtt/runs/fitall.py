"""Fit many recordings, each on its own or grouped, on one machine or a cluster; the same call goes on where one ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nwb_sbtt import stopping
from nwb_sbtt.atomic import make_folder
from nwb_sbtt.config import FitConfig, ReadConfig, config_of
from nwb_sbtt.fileerrors import path_of, several
from nwb_sbtt.fitting.signature import SIGNATURE
from nwb_sbtt.locking import hold
from nwb_sbtt.runs.comparison import Comparison, Row, comparison, find_runs, rows_of
from nwb_sbtt.runs.single import Job, Outcome, Plan, fetch_source, fit_job, read_group
from nwb_sbtt.runs.sources import Recording, find_sources, grouped
from nwb_sbtt.runs.view import View
from nwb_sbtt.searching.cluster import Resources, check_installed, check_room, connected, n_at_once

if TYPE_CHECKING:
    import pandas as pd

    from nwb_sbtt.searching.tasks import Ended, Tasks

SUMMARY = "summary"
"""Name of the tables of all fits, without their endings."""
AHEAD = 2
"""Recordings that are fetched beyond those that are fitted."""


@dataclass(frozen=True)
class Spread:
    """How many fits are spread over a machine or a cluster.

    Parameters
    ----------
    glob : str or None
        Only files of folders and dandisets whose path in these matches; ``*`` crosses folders.
    joint : str or None
        Recordings of one "subject", or of one value of another field of the metadata ("lab", "subject.genotype"), are
        fitted together.
    jobs : int or None
        Fits at once on this machine; by default as many as there is room for.
    address : str or None
        Of a Ray cluster, as for `nwb_sbtt.searching.cluster.connected`; by default Ray is started on this machine.
    resources : Resources
        What each fit gets.
    """

    glob: str | None = None
    joint: str | None = None
    jobs: int | None = None
    address: str | None = None
    resources: Resources = field(default_factory=Resources)


def fit_all(
    places: Path | str | Sequence[Path | str],
    config: FitConfig | Mapping[str, object] | None = None,
    *,
    out: Path | str,
    read: ReadConfig | Mapping[str, object] | None = None,
    spread: Spread | None = None,
) -> pd.DataFrame:
    """Fit many recordings separately; repeating an interrupted call resumes it.

    Each recording has a run folder ``runs/NAME`` and a result ``results/NAME_latents.nwb`` in `out`; NAME is the path of the
    recording. ``summary.csv`` and ``summary.html`` in `out` compare all fits.

    Parameters
    ----------
    places : path, or sequence of path
        NWB files, folders, or addresses on DANDI. Files with results of earlier fits are skipped.
    config : FitConfig, or mapping of its settings, optional
    out : path
        Folder for all output.
    read : ReadConfig, or mapping of its settings, optional
    spread : Spread, optional
        Which files of folders and dandisets are used, how they are grouped, and the CPUs or the cluster that run the fits.

    Returns
    -------
    pandas.DataFrame
        As `compare` returns it; recordings that could not be fitted are rows with state "failed" and a cause.

    Raises
    ------
    SbttError
        If no fit can be started; errors of single recordings are in the table.

    Examples
    --------
    >>> table = fit_all(["recordings"], FitConfig(seeds=3), out="fits")  # doctest: +SKIP
    """
    folder = path_of(out, "the folder of the results").absolute()
    plan = Plan(folder, config_of(ReadConfig, read, name="read"), config_of(FitConfig, config))
    return fit_places(several(places), plan, spread or Spread()).table.frame()


@dataclass(frozen=True)
class Fits:
    """What became of many fits.

    Parameters
    ----------
    outcomes : tuple of Outcome
        Of this call, in the order in which they ended.
    table : Comparison
        Of all fits in the folder.
    interrupted : bool
        Whether the call was ended before all were done.
    """

    outcomes: tuple[Outcome, ...]
    table: Comparison
    interrupted: bool = False

    @property
    def failed(self) -> list[Outcome]:
        """Those that failed."""
        return [outcome for outcome in self.outcomes if outcome.state == "failed"]


def fit_places(
    places: Sequence[Path | str],
    plan: Plan,
    spread: Spread,
    *,
    view: View | None = None,
    log: Callable[[str], None] = print,
) -> Fits:
    """Fit what files, folders and addresses name, and write the tables of all.

    Parameters
    ----------
    places : sequence of path
    plan : Plan
    spread : Spread
    view : View, optional
    log : callable
        Takes lines about the whole.

    Returns
    -------
    Fits

    Raises
    ------
    SbttError
        If nothing can be begun: no recording is found, Ray cannot be started, another process fits into this folder.
    """
    check_installed()
    spread.resources.check_device(plan.config.device, option="--gpus-per-fit")
    sources = find_sources(places, glob=spread.glob, but=plan.out)
    make_folder(plan.out)
    view = view or View(log)
    with hold(plan.out / "lock", what=f"the folder {str(plan.out)!r}"):
        cpus = None if spread.jobs is None else max(1, round(spread.jobs * spread.resources.cpus))
        with connected(spread.address, cpus=cpus):
            from nwb_sbtt.searching.tasks import Tasks

            check_room(spread.resources, options="--cpus-per-fit, --gpus-per-fit, --memory-per-fit")
            room = n_at_once(spread.resources)
            log(f"{len(sources)} recording{'s' * (len(sources) != 1)}; {room} fit{'s' * (room != 1)} at once")
            tasks = Tasks(spread.resources)
            driver = _Driver(plan, spread, tasks, view)
            try:
                driver.run(sources)
            finally:
                view.stop()
                tasks.close()
        table = summary_of(plan, driver.outcomes)
        table.write_csv(plan.out / f"{SUMMARY}.csv")
        table.write_html(plan.out / f"{SUMMARY}.html", title=f"Fits in {plan.out.name}")
    return Fits(tuple(driver.outcomes), table, driver.is_interrupted)


def summary_of(plan: Plan, outcomes: Sequence[Outcome]) -> Comparison:
    """Compare all fits of a folder, those that failed now among them.

    Parameters
    ----------
    plan : Plan
    outcomes : sequence of Outcome

    Returns
    -------
    Comparison
    """
    failed = {outcome.name: outcome.cause for outcome in outcomes if outcome.state == "failed"}
    runs = plan.out / "runs"
    rows: dict[str, list[Row]] = {name: [Row(name, "failed", cause)] for name, cause in failed.items()}
    for folder in find_runs(runs) if runs.is_dir() else []:
        if (folder / SIGNATURE).exists():
            name = folder.relative_to(runs).as_posix()
            found = rows_of(folder, name=name)
            if name in failed:
                found = [Row(**{**vars(row), "state": "failed", "cause": failed[name]}) for row in found]
            rows[name] = found
    return comparison([row for name in sorted(rows) for row in rows[name]])


class _Driver:
    """Hands recordings to workers: those in archives are fetched while others are fitted."""

    def __init__(self, plan: Plan, spread: Spread, tasks: Tasks, view: View) -> None:
        self.plan, self.spread, self.tasks, self.view = plan, spread, tasks, view
        self.outcomes: list[Outcome] = []
        self.is_interrupted = False
        self._jobs: dict[str, Job] = {}
        self._ready: list[Job] = []

    def run(self, sources: Sequence[Recording]) -> None:
        """Fit all, until they are done or the call is interrupted."""
        try:
            self._fit(self._jobs_of(sources))
        except (KeyboardInterrupt, stopping.Stopped):
            self.is_interrupted = True
            self._end()

    def _jobs_of(self, sources: Sequence[Recording]) -> list[Job]:
        names = [source.file_name for source in sources]
        singles = [
            Job(source.name, (source,), others=tuple(names[:i] + names[i + 1 :])) for i, source in enumerate(sources)
        ]
        self.view.start(len(singles))
        if self.spread.joint is None:
            return singles
        for job in singles:
            self.tasks.submit(job.name, read_group, job, self.plan, self.spread.joint)
        values: dict[str, str] = {}
        while len(self.tasks):
            for ended in self._ended():
                if isinstance(ended.value, str):
                    values[ended.task] = ended.value
                else:
                    self._note(ended.value or Outcome(ended.task, "failed", ended.error))
        groups = grouped([(job.sources[0], values[job.name]) for job in singles if job.name in values])
        self.view.start(len(self.outcomes) + len(groups))
        return [Job(name, tuple(members), joint=True) for name, members in groups.items()]

    def _fit(self, jobs: Sequence[Job]) -> None:
        waiting = list(jobs)
        fetching: set[str] = set()
        fitting: set[str] = set()
        while waiting or self._ready or fetching or fitting:
            room = n_at_once(self.spread.resources)
            # One more than there is room for, so that no worker waits for this loop.
            while self._ready and len(fitting) <= room:
                job = self._ready.pop(0)
                self.view.began(job.name, at_once=room)
                self.tasks.submit(job.name, fit_job, job, self.plan)
                fitting.add(job.name)
            while waiting and len(fetching) + len(self._ready) < AHEAD:
                job = waiting.pop(0)
                self._jobs[job.name] = job
                if job.joint or isinstance(job.sources[0].place, Path):
                    self._ready.append(job)
                else:
                    self.tasks.submit(job.name, fetch_source, job, self.plan, light=True)
                    fetching.add(job.name)
            for ended in self._ended() if len(fitting) > room or not self._ready else []:
                if ended.task in fetching and not ended.error and ended.value is None:
                    self._ready.append(self._jobs[ended.task])
                else:
                    self._note(ended.value or Outcome(ended.task, "failed", ended.error))
                fetching.discard(ended.task)
                fitting.discard(ended.task)

    def _ended(self) -> list[Ended]:
        """Wait a moment for tasks to end, and show what was told until then; end here if that was requested."""
        ended = self.tasks.wait(0.5)
        for message in self.tasks.messages():
            self.view.told(message.task, message.kind, message.content)
        self.view.tick()
        stopping.check()
        return ended

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.view.ended(outcome)

    def _end(self) -> None:
        """Let what runs save its state, or interrupt it at once after Ctrl-C."""
        deadline = time.monotonic() + stopping.PATIENCE
        if stopping.is_requested():
            self.tasks.stop()
        else:
            self.tasks.cancel()
        while len(self.tasks) and time.monotonic() < deadline:
            for ended in self.tasks.wait(0.5):
                if ended.value is not None and isinstance(ended.value, Outcome):
                    self._note(ended.value)
                elif not ended.cancelled and ended.error:
                    self._note(Outcome(ended.task, "interrupted", ended.error))
        self.tasks.cancel()
