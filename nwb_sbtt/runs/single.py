"""One fit of many, from a recording to a run folder and a result; what a worker does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nwb_sbtt import stopping
from nwb_sbtt.atomic import make_folder
from nwb_sbtt.config import FitConfig, ReadConfig, WriteConfig
from nwb_sbtt.errors import SbttError
from nwb_sbtt.fileerrors import refusal
from nwb_sbtt.runs.sources import Recording

if TYPE_CHECKING:
    from nwb_sbtt.pipeline import Output
    from nwb_sbtt.searching.tasks import Tell
    from nwb_sbtt.train.trackers import EpochRecord

State = Literal["fitted", "done before", "left out", "failed", "interrupted"]
EVERY = 1.0
"""Seconds between two messages of one training."""


@dataclass(frozen=True)
class Plan:
    """What all fits have in common.

    Parameters
    ----------
    out : Path
        Folder of all; absolute.
    read : ReadConfig
    config : FitConfig
    offsets : tuple of str
        As for `nwb_sbtt.pipeline.fit_files`.
    overwrite, append : bool
        As in `nwb_sbtt.pipeline.Output`.
    name : str
        Prefix of the names of everything written.
    write : WriteConfig
        As in `nwb_sbtt.pipeline.Output`.
    """

    out: Path
    read: ReadConfig
    config: FitConfig
    offsets: tuple[str, ...] = ()
    overwrite: bool = False
    append: bool = False
    name: str = "sbtt"
    write: WriteConfig = field(default_factory=WriteConfig)

    def run_dir(self, job: Job) -> Path:
        """Return the run folder of a fit.

        Parameters
        ----------
        job : Job
        """
        return self.out / "runs" / job.name

    def output(self, job: Job) -> Output:
        """Return how the result of a fit is written, or those of a joint fit.

        Parameters
        ----------
        job : Job

        Returns
        -------
        Output
        """
        from nwb_sbtt.pipeline import Output

        path = self.out / "results" / job.name
        if not job.joint:
            path = path.with_name(f"{path.name}_latents.nwb")
        elif len(job.sources) == 1:
            path /= f"{job.sources[0].name.rpartition('/')[2]}_latents.nwb"
        return Output(path, self.overwrite, self.append, self.name, self.write)


@dataclass(frozen=True)
class Job:
    """One fit.

    Parameters
    ----------
    name : str
        Of its run folder and result.
    sources : tuple of Recording
        One or, of a joint fit, all its recordings.
    joint : bool
        Whether its recordings were grouped; its results then lie in a folder, even where there is one.
    others : tuple of str
        File names of the other recordings that are fitted.
    """

    name: str
    sources: tuple[Recording, ...]
    joint: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a fit ended.

    Parameters
    ----------
    name : str
        Of the job.
    state : "fitted", "done before", "left out", "failed" or "interrupted"
    cause : str
        Its score in words, or why it was left out or failed.
    seconds : float
        Time that it took.
    """

    name: str
    state: State
    cause: str = ""
    seconds: float = 0.0


def fetch_source(tell: Tell, job: Job, plan: Plan) -> Outcome | None:
    """Fetch a recording from an archive, unless all that follows from it is done.

    Parameters
    ----------
    tell : callable
    job : Job
        Of one recording.
    plan : Plan

    Returns
    -------
    Outcome or None
        None once the recording is in the cache.
    """
    try:
        (source,) = job.sources
        if source.sha256 is not None and is_done(job, plan, source.sha256):
            return Outcome(job.name, "done before")
        tell("fetching", source.file_name)
        source.fetch()
    except (SbttError, OSError) as error:
        return Outcome(job.name, "failed", refusal(error))
    return None


def fit_job(tell: Tell, job: Job, plan: Plan) -> Outcome:
    """Do all of one fit: read, fit (or resume), score, report and write the result.

    Parameters
    ----------
    tell : callable
        Receives lines of text ("text") and epochs ("epoch": done, all, validation loss); its answer ends the training.
    job : Job
    plan : Plan

    Returns
    -------
    Outcome
        Errors of the recording, the settings or the system are in it.
    """
    started = time.monotonic()
    stopping.withdraw()
    try:
        outcome = _fit(tell, job, plan)
    except stopping.Stopped:
        outcome = Outcome(job.name, "interrupted", "its state is saved")
    except (SbttError, OSError, MemoryError) as error:
        outcome = Outcome(job.name, "failed", refusal(error))
    finally:
        stopping.withdraw()
    return Outcome(outcome.name, outcome.state, outcome.cause, time.monotonic() - started)


def read_group(tell: Tell, job: Job, plan: Plan, by: str) -> Outcome | str:
    """Read the value of a recording's metadata by which it is grouped; a recording in an archive is fetched.

    Parameters
    ----------
    tell : callable
    job : Job
        Of one recording.
    plan : Plan
    by : str
        As for `nwb_sbtt.io.read.metadata.metadata_value`.

    Returns
    -------
    str or Outcome
        The value; how it ended, where the recording is left out or cannot be read.
    """
    from nwb_sbtt.io.read.files import open_nwb
    from nwb_sbtt.io.read.metadata import metadata_value
    from nwb_sbtt.io.read.results import why_left_out

    try:
        path = job.sources[0].fetch()
        with open_nwb(path, external_data=plan.read.external_data) as nwbfile:
            if why := why_left_out(nwbfile, names=job.others):
                return Outcome(job.name, "left out", why)
            return metadata_value(nwbfile, by)
    except (SbttError, OSError, MemoryError) as error:
        return Outcome(job.name, "failed", refusal(error))


def is_done(job: Job, plan: Plan, sha256: str) -> bool:
    """Tell whether a recording of this digest was read, fitted and written with these settings, without reading it.

    Parameters
    ----------
    job : Job
        Of one recording.
    plan : Plan
    sha256 : str
        Of its file.

    Returns
    -------
    bool
        False also where only the fit itself can tell: it compares the data, and does nothing where they are the same.
    """
    from nwb_sbtt.fitting.preparation import reading_of
    from nwb_sbtt.fitting.reporting import REPORT
    from nwb_sbtt.fitting.runfolder import read_signature, settings_differences
    from nwb_sbtt.fitting.scores import METRICS
    from nwb_sbtt.fitting.signature import SIGNATURE
    from nwb_sbtt.pipeline import is_written
    from nwb_sbtt.recordings import load_offsets

    run_dir = plan.run_dir(job)
    if plan.config.init is not None or not all((run_dir / name).exists() for name in (SIGNATURE, METRICS, REPORT)):
        return False
    try:
        sessions = list(read_signature(run_dir).sessions.values())
        if len(sessions) != 1 or settings_differences(plan.config, run_dir):
            return False
    except SbttError:
        return False
    read = reading_of(plan.read, plan.config).model_dump(mode="json")
    recorded = (sessions[0].source or {}).get("sha256")
    is_read_so = sessions[0].read_config == read and load_offsets(plan.offsets) is None and sessions[0].offsets is None
    output = plan.output(job)
    return recorded == sha256 and is_read_so and is_written(output.path, run_dir, output)


def _fit(tell: Tell, job: Job, plan: Plan) -> Outcome:
    from nwb_sbtt.io.read.files import open_nwb, sha256
    from nwb_sbtt.io.read.results import why_left_out
    from nwb_sbtt.pipeline import fit_files

    def say(text: str) -> None:
        if tell("text", text):
            stopping.request()

    paths = [source.fetch() for source in job.sources]
    if not job.joint:
        if is_done(job, plan, sha256(paths[0])):
            return Outcome(job.name, "done before")
        with open_nwb(paths[0], external_data=plan.read.external_data) as nwbfile:
            if why := why_left_out(nwbfile, names=job.others):
                return Outcome(job.name, "left out", why)
    output = plan.output(job)
    make_folder(output.path.parent)
    metrics = fit_files(
        paths,
        plan.read,
        plan.config,
        run_dir=plan.run_dir(job),
        output=output,
        offsets=plan.offsets,
        log=say,
        tracker=_Told(tell),
    )
    return Outcome(job.name, "fitted", _scores(list(metrics.items())))


def _scores(metrics: Sequence[tuple[str, dict[str, str]]]) -> str:
    """The headline of each session."""
    named = len(metrics) > 1
    return "; ".join(f"{name}: {scores['headline']}" if named else scores["headline"] for name, scores in metrics)


class _Told:
    """A tracker that tells of epochs, and requests the end of training if the answer asks for it."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._epochs, self._last = tell, 0, 0.0
        self._told: tuple[int, int, float | None] = (0, 0, None)

    def start(self, epochs: int, done: int) -> None:
        """Tell how many epochs there are, and how many are done."""
        self._epochs, self._last = epochs, 0.0
        self._send((done, epochs, None))

    def epoch(self, record: EpochRecord) -> None:
        """Tell of an epoch, at most once in `EVERY` seconds."""
        if time.monotonic() - self._last >= EVERY or record.epoch == self._epochs:
            self._send((record.epoch, self._epochs, record.valid_loss))

    def learning(self, step: int, steps: int) -> None:
        """Tell of the last epoch again, at most once in `EVERY` seconds: the answer may ask for the end."""
        if time.monotonic() - self._last >= EVERY:
            self._send(self._told)

    def stop(self) -> None:
        """Do nothing."""

    def _send(self, content: tuple[int, int, float | None]) -> None:
        self._last, self._told = time.monotonic(), content
        if self._tell("epoch", content):
            stopping.request()
