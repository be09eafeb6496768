"""The alignment file of a run folder: how factors of its sessions map to those of the reference, and the reference itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from nwb_sbtt.config import FitConfig
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import FileError, MismatchError
from nwb_sbtt.evaluate.alignment import (
    Alignment,
    Courses,
    align_courses,
    average_by,
    check_alignment,
    condition_labels,
    identity,
    matched,
)
from nwb_sbtt.fitting.device import device_of, torch_threads
from nwb_sbtt.fitting.preparation import naming_session
from nwb_sbtt.fitting.runfolder import ALIGNMENT, hold_run_folder, member_folders, read_config
from nwb_sbtt.fitting.stitching import FACTORS, Trained, read_in_courses
from nwb_sbtt.train import checkpoint
from nwb_sbtt.train.checkpoint import BEST

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted


@dataclass(frozen=True)
class Reference:
    """The session that others are aligned to.

    Parameters
    ----------
    session : str
    run : str
        Name of the run folder of its fit.
    condition : str
        Trial column of the conditions.
    courses : mapping of name to Courses
        Condition averages of ``factors`` and, by the name of their table in the model, of what the read-in makes of the data.
    """

    session: str
    run: str
    condition: str
    courses: Mapping[str, Courses]


@dataclass(frozen=True)
class FitAlignment:
    """How the factors of each session of a fit map to those of the reference.

    Parameters
    ----------
    reference : Reference
    sessions : dict of name to Alignment
        The map of the reference itself is the identity.
    """

    reference: Reference
    sessions: dict[str, Alignment]

    def record(self, session: str) -> dict[str, Any]:
        """Describe the alignment of a session for a result's provenance.

        Parameters
        ----------
        session : str

        Returns
        -------
        dict
            JSON-safe: reference and its run folder, column and number of conditions, components, and R² as fitted and aligned.
        """
        reference = self.reference
        names = {"reference": reference.session, "reference_run": reference.run, "condition": reference.condition}
        return {**names, **self.sessions[session].scores()}


def write_alignment(run_dir: Path, alignment: FitAlignment) -> None:
    """Write the alignment of a model to its run folder.

    Parameters
    ----------
    run_dir : Path
        Of one model: of an ensemble, that of a member.
    alignment : FitAlignment

    Raises
    ------
    FileError
        If it cannot be written.
    """
    reference = alignment.reference
    tensors: dict[str, Tensor] = {}
    for name, courses in reference.courses.items():
        tensors[f"courses/{name}"] = torch.from_numpy(courses.averages.astype(np.float32))
    for name, each in alignment.sessions.items():
        tensors[f"weights/{name}"], tensors[f"offset/{name}"] = map(torch.from_numpy, (each.weights, each.offset))
    record = {
        "checkpoint_sha256": checkpoint.read_digest(run_dir / BEST),
        "session": reference.session,
        "run": reference.run,
        "condition": reference.condition,
        "conditions": {name: courses.conditions for name, courses in reference.courses.items()},
        "time": {name: courses.time.tolist() for name, courses in reference.courses.items()},
        "sessions": {name: each.scores() for name, each in alignment.sessions.items()},
    }
    checkpoint.save_record(run_dir / ALIGNMENT, tensors, record)


def read_alignment(run_dir: Path) -> FitAlignment | None:
    """Read the alignment of a model.

    Parameters
    ----------
    run_dir : Path
        Of one model: of an ensemble, that of a member.

    Returns
    -------
    FitAlignment or None
        None where its sessions were not aligned.

    Raises
    ------
    FileError
        If the file is damaged, or belongs to other weights.
    """
    path = run_dir / ALIGNMENT
    if not path.exists():
        return None
    tensors, content = checkpoint.load_record(path)
    try:
        record = TypeAdapter(_Record).validate_python(content)
    except ValidationError as error:
        raise FileError(f"{str(path)!r} of the run folder is damaged: {error.errors()[0]['msg']}") from None
    if record.checkpoint_sha256 != checkpoint.read_digest(run_dir / BEST):
        raise FileError(
            f"{str(path)!r} was computed from different weights than those in the run folder, so files of two fits "
            "are mixed; restore the folder from a copy, or remove this file and run the fit again"
        )
    courses = {
        name: Courses(names, tensors[f"courses/{name}"].double().numpy(), np.array(record.time[name]))
        for name, names in record.conditions.items()
    }
    sessions = {
        name: Alignment(tensors[f"weights/{name}"].numpy(), tensors[f"offset/{name}"].numpy(), **scores)
        for name, scores in record.sessions.items()
    }
    return FitAlignment(Reference(record.session, record.run, record.condition, courses), sessions)


@dataclass(frozen=True)
class _Record:
    """What the file holds beside its tensors."""

    checkpoint_sha256: str
    session: str
    run: str
    condition: str
    conditions: dict[str, tuple[str, ...]]
    time: dict[str, list[float]]
    sessions: dict[str, dict[str, Any]]


def align_members(
    fitted: Fitted, prepared: Mapping[str, xr.Dataset], *, condition: str, to: Fitted | None = None
) -> None:
    """Align the factors that each model of a fit gives, and write the alignment to its folder.

    Parameters
    ----------
    fitted : Fitted
    prepared : mapping of session to Dataset
        As prepared for the fit, with the channels in its order.
    condition : str
        Trial coordinate that names each trial's condition.
    to : Fitted, optional
        An aligned fit whose reference is taken. Default: that of the initial fit, or else the first session.

    Raises
    ------
    DataError
        If a session has no such coordinate.
    MismatchError
        If a session shares too little with the reference, or the other fit is not aligned by this column.
    """
    config, members = fitted.config, fitted.members
    made: list[FitAlignment] = []
    for i, member in enumerate(members):
        initial = member.config.init
        folder = None if initial is None else initial.run_dir
        if to is not None:
            folder = (to.members[i] if len(to.members) == len(members) else to.best).run_dir
        reference = None if folder is None else reference_of(folder, condition)
        sessions: dict[str, Alignment] = {}
        for name, ds in prepared.items():
            with naming_session(name, of=len(prepared)):
                labels = condition_labels(ds, condition)
            batch, time = to_batch(ds, name), ds["time"].values.astype(np.float64)
            with torch_threads(config.threads):
                factors = member.posterior(batch.to(device_of(config)), config.posterior_samples)["factors"]
            own = Courses(*average_by(labels, factors.cpu().double().numpy()), time)
            if reference is None:
                courses = {FACTORS: own, **read_in_courses(member.model, Trained(batch, labels, time))}
                reference = Reference(name, fitted.run_dir.name, condition, courses)
                sessions[name] = identity(own)
            else:
                with naming_session(name, of=len(prepared)):
                    sessions[name] = align_courses(own, reference.courses[FACTORS])
        if reference is not None:
            made.append(FitAlignment(reference, sessions))
    with hold_run_folder(fitted.run_dir):
        for member, alignment in zip(members, made, strict=True):
            with hold_run_folder(member.run_dir):
                write_alignment(member.run_dir, alignment)


def check_conditions(prepared: Mapping[str, xr.Dataset], config: FitConfig) -> None:
    """Check before a fit that its sessions can be aligned after it.

    Parameters
    ----------
    prepared : mapping of session to Dataset
    config : FitConfig
        Nothing is checked unless ``sessions.condition`` is set.

    Raises
    ------
    DataError
        If a session has no such column.
    MismatchError
        If a session shares fewer than two conditions, or no bins, with the first or with the reference of the initial fit.
    """
    condition = config.sessions.condition
    if condition is None:
        return
    reference = None
    if config.init is not None:
        first = member_folders(config.init.run_dir, read_config(config.init.run_dir).seeds)[0]
        reference = reference_of(first, condition).courses[FACTORS]
    for name, ds in prepared.items():
        with naming_session(name, of=len(prepared)):
            labels = condition_labels(ds, condition)
            without = np.zeros((ds.sizes["trial"], ds.sizes["time"], 0))
            own = Courses(*average_by(labels, without), ds["time"].values.astype(np.float64))
            reference = reference or own
            matched(own, reference)


def reference_of(folder: Path, condition: str) -> Reference:
    """Return the reference that the sessions of another fit are aligned to.

    Parameters
    ----------
    folder : Path
        Run folder of one model: of an ensemble, that of a member.
    condition : str
        Trial column of the conditions.

    Returns
    -------
    Reference

    Raises
    ------
    MismatchError
        If its sessions are not aligned, or by another column.
    """
    alignment = read_alignment(folder)
    if alignment is None or alignment.reference.condition != condition:
        found = "are not aligned" if alignment is None else f"are aligned by {alignment.reference.condition!r}"
        raise MismatchError(
            f"the conditions come from the column {condition!r}, but the factors of the fit in {str(folder)!r} "
            f"{found}, so their averages in these conditions are unknown; align that fit first: nwb-sbtt align "
            f"{folder} --condition {condition}"
        )
    return alignment.reference


def check_alignment_of(fitted: Fitted, session: str) -> dict[str, str] | None:
    """Check whether the factors of a session mean what they do in others, where there are others.

    Parameters
    ----------
    fitted : Fitted
    session : str

    Returns
    -------
    dict or None
        As of `nwb_sbtt.evaluate.alignment.check_alignment`.
    """
    others = [repr(name) for name in fitted.signature.sessions if name != session]
    if fitted.config.init is not None and (fitted.signature.origins or {}).get(session) is None:
        others.append(f"the initial fit {fitted.config.init.run_dir.name!r}")
    if not others:
        return None
    record = None if fitted.alignment is None else fitted.alignment.record(session)
    few = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return check_alignment(record, session=session, others=few)
