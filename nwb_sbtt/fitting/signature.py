"""What a fit is of: likelihood, sessions, their channels and data. It tells whether a run folder is this very fit's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from pydantic import TypeAdapter, ValidationError

from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.train.checkpoint import FORMAT

SIGNATURE = "signature.json"
PLACE = ("source", "read_config", "offsets")
"""Fields of a session that say where its data come from; the data themselves are known by their digest."""


@dataclass(frozen=True)
class SessionSignature:
    """What a fit was given of one session.

    Parameters
    ----------
    channels : tuple of str
        Ids, each after the name of its table where the data name one.
    bin_width : float
        Seconds.
    kind : str
        What a channel is: "units", "electrodes", "rois" or "columns".
    trials, training_trials, bins : int
        Trials, those of them that train, and bins of a trial.
    data_sha256 : str
        Of values, masks and split.
    source, read_config, offsets : JSON or None
        File that the data were read from, how they were read, and sampling offsets [s] of the channels.
    channel_values : mapping of name to tuple of float
        What the likelihood was told of each channel, such as the size that its events exceed.
    """

    channels: tuple[str, ...]
    bin_width: float
    kind: str
    trials: int
    training_trials: int
    bins: int
    data_sha256: str
    source: dict[str, Any] | None = None
    read_config: dict[str, Any] | None = None
    offsets: list[Any] | None = None
    channel_values: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Signature:
    """What a fit is of.

    Parameters
    ----------
    likelihood : str
        Name of the likelihood, also where the settings leave it open.
    sessions : mapping of name to SessionSignature
        By the names that the user gave, in the order given.
    origins : mapping of name to name or None, optional
        Where the fit starts from another one: the session of that one whose channels each session has; None for channels
        made afresh.
    """

    likelihood: str
    sessions: dict[str, SessionSignature]
    origins: dict[str, str | None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Give plain values for JSON, with the format's version."""
        return {"format": FORMAT, **asdict(self)}

    def identity(self) -> dict[str, Any]:
        """Give what tells one fit from another: all but where the data lie."""
        content = self.as_dict()
        for session in content["sessions"].values():
            for name in PLACE:
                del session[name]
        return content

    @property
    def training_trials(self) -> list[int]:
        """Number of training trials of each session."""
        return [session.training_trials for session in self.sessions.values()]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, path: Path) -> Self:
        """Make a signature from what its file holds.

        Raises
        ------
        TrainingError
            If the run folder has the format of another version.
        FileError
            If something is missing in it or of another type.
        """
        if content.get("format") != FORMAT:
            raise TrainingError(
                f"the run folder {str(path.parent)!r} has format {content.get('format')}, this version reads {FORMAT}; "
                "use the version of nwb_sbtt that its environment.json names, or fit again in a new folder"
            )
        try:
            return TypeAdapter(cls).validate_python(
                {name: value for name, value in content.items() if name != "format"}
            )
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise FileError(
                f"{str(path)!r} of the run folder is damaged: {place}: {first['msg']}; fit again in a new folder"
            ) from None


def describe_session(ds: xr.Dataset, channel_values: Mapping[str, list[float]]) -> SessionSignature:
    """Describe a prepared Dataset.

    Parameters
    ----------
    ds : Dataset
        With its ``split``.
    channel_values : mapping of name to list of float
        What the likelihood is told of each channel.
    """
    return SessionSignature(
        channels=tuple(channel_names(ds)),
        bin_width=float(ds.attrs["bin_width"]),
        kind=ds.attrs["kind"],
        trials=ds.sizes["trial"],
        training_trials=int((ds["split"].values == "train").sum()),
        bins=ds.sizes["time"],
        data_sha256=digest_of(ds),
        channel_values={name: tuple(values) for name, values in channel_values.items()},
        **{name: json.loads(ds.attrs[name]) if name in ds.attrs else None for name in PLACE},
    )


def channel_names(ds: xr.Dataset) -> list[str]:
    """Give the ids of the channels, each after the name of its table where there is one."""
    ids = [str(channel) for channel in ds["channel_id"].values]
    if "table" not in ds.coords:
        return ids
    return [f"{table}:{channel}" for table, channel in zip(ds["table"].values, ids, strict=True)]


def digest_of(ds: xr.Dataset) -> str:
    """Give the SHA-256 of values, masks and split: what tells whether two Datasets are the same data."""
    digest = hashlib.sha256()
    for array in (ds["values"], ds["observed"], ds["split"]):
        values = array.values.astype(str) if array.dtype == object else array.values
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
