"""The signature of a fit: likelihood, sessions, channels and data, by which a run folder is recognised."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from pydantic import TypeAdapter, ValidationError

from nwb_sbtt.data.bandwidth import was_chosen
from nwb_sbtt.data.inputs import input_names
from nwb_sbtt.data.origins import is_recorded, is_same_recording
from nwb_sbtt.data.schema import NEVER_SHOWN
from nwb_sbtt.errors import FileError, MismatchError, TrainingError
from nwb_sbtt.train.checkpoint import FORMAT

SIGNATURE = "signature.json"
DIGEST_VERSION = 2
"""Raised when `digest_of` covers more, so that no digest of an earlier version is taken for one of this."""
BIN_WIDTH_TOLERANCE = 1e-9
"""Relative difference up to which bin widths are equal, so that 1/30 s may be computed in several ways."""
IDENTITY = ("name", "object_id", "identifier", "sha256", "dandiset", "version", "asset_id", "asset_path", "archive")
"""Of the source of a session, what identifies the recording wherever it lies."""
PLACE = ("source", "read_config", "offsets")
"""Fields that describe where data come from. They do not identify a fit; the digest of the data does."""

DERIVED = ("mask_length", "trial_ids", "split")
"""Fields that follow from data and settings, and are stored so that they need not be measured again."""


@dataclass(frozen=True)
class SessionSignature:
    """One session of a fit.

    Parameters
    ----------
    channels : tuple of str
        Ids, each prefixed with the name of its table where the data name one.
    bin_width : float
        Seconds.
    kind : str
        What a channel is: "units", "electrodes", "rois" or "columns".
    trials, training_trials, bins : int
        Numbers of trials, of training trials, and of bins in a trial.
    data_sha256 : str
        Digest of the data; see `digest_of`.
    source, read_config, offsets : JSON or None
        File of the data, settings of the reader, and sampling offsets of the channels [s].
    channel_values : mapping of name to tuple of float
        Parameters of the likelihood per channel, such as the smallest event size.
    mask_length : int or None
        Bins of a channel that are hidden together; it follows from data and settings. None in run folders of version 0.1.0.
    trial_ids, split : tuple
        Ids of the trials, and what each was used for ("train", "valid", "test", …); they follow from data and settings too.
        Empty in run folders of version 0.1.0; ids are empty where trials have none.
    inputs : tuple of str
        Names of the known inputs.
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
    offsets: dict[str, Any] | list[Any] | float | None = None
    channel_values: dict[str, tuple[float, ...]] = field(default_factory=dict)
    mask_length: int | None = None
    trial_ids: tuple[int | str, ...] = ()
    split: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """Likelihood, sessions, channels and data of a fit.

    Parameters
    ----------
    likelihood : str
        Resolved name of the likelihood.
    sessions : mapping of name to SessionSignature
        By the user's names, sorted by name: a joint fit does not depend on the order in which its sessions are given.
    origins : mapping of name to name or None, optional
        For a fit that starts from another: the session of the initial fit whose channels each session has; None for new
        channels.
    carried : mapping of name to int
        Number of channels that a session has from the initial fit, where it has new ones too.
    """

    likelihood: str
    sessions: dict[str, SessionSignature]
    origins: dict[str, str | None] | None = None
    carried: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the version of the format."""
        return {"format": FORMAT, **asdict(self)}

    def identity(self) -> dict[str, Any]:
        """Return the fields that identify a fit: all but where its data are stored, and what follows from the others."""
        content = self.as_dict()
        for session in content["sessions"].values():
            for name in (*PLACE, *DERIVED):
                del session[name]
        return content

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the known inputs, which all sessions share."""
        return next(iter(self.sessions.values())).inputs

    @property
    def training_trials(self) -> list[int]:
        """Number of training trials of each session."""
        return [session.training_trials for session in self.sessions.values()]

    def recordings(self) -> dict[str, Any]:
        """Describe all sessions for a result's provenance: sizes, and the recording that each was read from.

        Returns
        -------
        dict
            JSON-safe, by session.
        """
        return {
            name: {
                "trials": session.trials,
                "training_trials": session.training_trials,
                "channels": len(session.channels),
                "source": {key: value for key, value in (session.source or {}).items() if key in IDENTITY},
            }
            for name, session in self.sessions.items()
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, path: Path) -> Self:
        """Make a signature from the content of its file.

        Parameters
        ----------
        content : mapping
            As returned by `as_dict`.
        path : Path
            The file, for error messages.

        Returns
        -------
        Signature

        Raises
        ------
        TrainingError
            If the run folder has the format of another version.
        FileError
            If a field is missing or of another type.
        """
        check_format(content, path=path)
        try:
            return TypeAdapter(cls).validate_python(
                {name: value for name, value in content.items() if name != "format"}
            )
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise FileError(
                f"{str(path)!r} of the run folder is damaged: {name}: {first['msg']}; fit again in a new folder"
            ) from None


def session_differences(name: str, new: SessionSignature, old: SessionSignature) -> list[str]:
    """Describe how a session differs from the one of the same name in another fit.

    Parameters
    ----------
    name : str
        Of both sessions.
    new, old : SessionSignature

    Returns
    -------
    list of str
        One text per difference. Where nothing but the digests of the data differ, one text says so.
    """
    texts = []
    if new.channels != old.channels:
        missing, extra = sorted(set(old.channels) - set(new.channels)), sorted(set(new.channels) - set(old.channels))
        parts = [f"without {_few(missing)}"] * bool(missing) + [f"with {_few(extra)}"] * bool(extra)
        texts.append(f"session {name!r} has {len(new.channels)} channels instead of {len(old.channels)}")
        texts[-1] += f" ({', '.join(parts) or 'in another order'})"
    if not equal_bin_widths(new.bin_width, old.bin_width):
        texts.append(f"session {name!r} has bins of {new.bin_width:g} s instead of {old.bin_width:g} s")
    if new.kind != old.kind:
        texts.append(f"the channels of session {name!r} are {new.kind} instead of {old.kind}")
    for field_name, noun in (("trials", "trials"), ("training_trials", "training trials"), ("bins", "bins in a trial")):
        if (n := getattr(new, field_name)) != (m := getattr(old, field_name)):
            texts.append(f"session {name!r} has {n} {noun} instead of {m}")
    if new.inputs != old.inputs:
        texts.append(f"session {name!r} has the known inputs {_named(new.inputs)} instead of {_named(old.inputs)}")
    for value in sorted(set(new.channel_values) | set(old.channel_values)):
        if new.channel_values.get(value) != old.channel_values.get(value):
            texts.append(f"session {name!r} has different values of {value}")
    if not texts and new.data_sha256 != old.data_sha256:
        texts.append(
            f"session {name!r} has different data (values, mask, split, inputs, held-out channels or forecast bins), although "
            "trials, bins and channels are equally many"
        )
    return texts


def _named(inputs: Sequence[str]) -> str:
    return ", ".join(map(repr, inputs)) or "none"


def _few(names: Sequence[str]) -> str:
    """The first names of a list, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def check_format(content: Mapping[str, Any], *, path: Path) -> None:
    """Raise if a run folder has the format of another version.

    Parameters
    ----------
    content : mapping
        Of the signature's file.
    path : Path
        That file.

    Raises
    ------
    TrainingError
    """
    if content.get("format") != FORMAT:
        raise TrainingError(
            f"the run folder {str(path.parent)!r} has format {content.get('format')}, but this version reads format "
            f"{FORMAT}; fit again in a new folder"
        )


def equal_bin_widths(one: float, other: float) -> bool:
    """Compare two bin widths, but for rounding.

    Parameters
    ----------
    one, other : float
        Seconds.

    Returns
    -------
    bool
    """
    return math.isclose(one, other, rel_tol=BIN_WIDTH_TOLERANCE)


def session_name(file_name: str | None) -> str:
    """Name a session by its file.

    Parameters
    ----------
    file_name : str or None
        None for data that did not come from a file.

    Returns
    -------
    str
        The file's name without its ending, or "session".
    """
    return (file_name or "session").removesuffix(".zarr").removesuffix(".nwb")


def describe_session(
    ds: xr.Dataset, channel_values: Mapping[str, list[float]], *, mask_length: int
) -> SessionSignature:
    """Make the signature of one session.

    Parameters
    ----------
    ds : Dataset
        Prepared, with its ``split``.
    channel_values : mapping of name to list of float
        Parameters of the likelihood per channel.
    mask_length : int
        Bins of a channel that are hidden together.

    Returns
    -------
    SessionSignature
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
        mask_length=mask_length,
        trial_ids=tuple(_plain_ids(ds)),
        split=tuple(ds["split"].values.astype(str).tolist()),
        inputs=input_names(ds),
        **{name: json.loads(ds.attrs[name]) if name in ds.attrs else None for name in PLACE},
    )


def _plain_ids(ds: xr.Dataset) -> list[int | str]:
    """Ids of trials as JSON can hold them."""
    if "trial_id" not in ds.coords:
        return []
    ids = ds["trial_id"].values
    return list(ids.tolist() if ids.dtype.kind in "iu" else ids.astype(str).tolist())


def channel_names(ds: xr.Dataset) -> list[str]:
    """Return the names of a Dataset's channels.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    list of str
        Ids, each prefixed with the name of its table where there is one, such as "units:3", and followed by that of its band
        where there are several, such as "electrodes:3 theta". Channels of one table and id are told apart by their row in the
        table, such as "units:3 (row 7)".
    """
    names = [str(channel) for channel in ds["channel_id"].values]
    if "table" in ds.coords:
        names = [f"{table}:{channel}" for table, channel in zip(ds["table"].values, names, strict=True)]
    if "frequency_band" in ds.coords:
        names = [f"{name} {band}" for name, band in zip(names, ds["frequency_band"].values, strict=True)]
    if "channel_row" not in ds.coords or len(set(names)) == len(names):
        return names
    rows = ds["channel_row"].values.tolist()
    counts = Counter(names)
    return [f"{name} (row {row})" if counts[name] > 1 else name for name, row in zip(names, rows, strict=True)]


def in_fitted_order(ds: xr.Dataset, session: SessionSignature, *, name: str, same_channels: bool = False) -> xr.Dataset:
    """Put the channels of data into the order of a fitted session, if they are its channels.

    Parameters
    ----------
    ds : Dataset
    session : SessionSignature
    name : str
        Of the session.
    same_channels : bool
        Whether channels of the same ids are the same although the data come from another recording.

    Returns
    -------
    Dataset

    Raises
    ------
    MismatchError
        If channels, bin width or recording differ from those of the fit.
    """
    source = json.loads(ds.attrs.get("source", "{}"))
    if not equal_bin_widths(ds.attrs["bin_width"], session.bin_width):
        raise MismatchError(
            f"the data have bins of {ds.attrs['bin_width']:g} s, but the model was fitted to bins of "
            f"{session.bin_width:g} s; read the data with the same bin width (bin_width={session.bin_width:g})"
        )
    fitted, names = session.channels, channel_names(ds)
    if set(fitted) != set(names):
        raise MismatchError(
            f"the data have {len(names)} channels, but the model was fitted to {len(fitted)}; "
            f"{channel_difference(fitted, names)}"
        )
    fitted_source = session.source or {}
    known = is_recorded(source) or is_recorded(fitted_source)
    if not same_channels and known and not is_same_recording(source, fitted_source):
        raise MismatchError(
            f"the data come from {_origin(source)}, but session {name!r} of the fit came from "
            f"{_origin(fitted_source)}, so channels with the same ids may be different channels. If they are the "
            "same, pass --same-channels (in Python same_channels=True); if not, fit these data with --init"
        )
    ds = _with_fitted_inputs(ds, session)
    if list(names) == list(fitted):
        return ds
    return ds.isel(channel=places_of(fitted, names))


def places_of(channels: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find channels among others by their names.

    Parameters
    ----------
    channels : sequence of str
    names : sequence of str
        All of them, in another order.

    Returns
    -------
    list of int
        Where in `names` each of the channels stands.
    """
    places = {name: i for i, name in enumerate(names)}
    return [places[channel] for channel in channels]


def _with_fitted_inputs(ds: xr.Dataset, session: SessionSignature) -> xr.Dataset:
    """Put the known inputs into the order of those that the model was fitted with."""
    given = input_names(ds)
    if set(given) != set(session.inputs):
        raise MismatchError(
            f"the data have the known inputs {_named(given)}, but the model was fitted with {_named(session.inputs)}; read "
            "the data with the same inputs (--input; in Python sb.with_inputs)"
        )
    return ds if given == session.inputs or not given else ds.isel(input=[given.index(name) for name in session.inputs])


def _origin(source: Mapping[str, Any]) -> str:
    """Name the recording that data come from."""
    if not is_recorded(source):
        return "no recorded file"
    known_by = f"object id {source['object_id']}" if source.get("object_id") else f"SHA-256 {source['sha256']}"
    return f"{source.get('name') or source.get('path') or 'a file'!r} ({known_by})"


def channel_difference(fitted: Sequence[str], channels: Sequence[str]) -> str:
    """Describe how the channels of data differ from those of a fit.

    Parameters
    ----------
    fitted, channels : sequence of str
        Names of the channels of the fit and of the data.

    Returns
    -------
    str
        Which are missing in the data, and which the model does not have.
    """
    missing, extra = sorted(set(fitted) - set(channels)), sorted(set(channels) - set(fitted))
    return f"missing in the data: {_listed(missing)}; not in the model: {_listed(extra)}"


def digest_of(ds: xr.Dataset) -> str:
    """Compute the SHA-256 of everything that a fit's tensors are made of, with names, types and shapes.

    These are values, masks, exposure, known inputs, split, held-out channels and forecast bins, with the ids of trials and
    channels in their order, and whether channels were chosen by earlier values, which decides what a system is worth.

    Parameters
    ----------
    ds : Dataset
        With its ``split``.

    Returns
    -------
    str
        Hexadecimal digest.

    Raises
    ------
    DataError
        If ``attrs["bandwidth"]`` is no record of a known scheme (`nwb_sbtt.data.bandwidth.was_chosen`).
    """
    observed = ds["observed"].values
    arrays = {"values": ds["values"].values, "observed": observed}
    if "exposure" in ds:
        arrays["exposure"] = np.where(observed, ds["exposure"].values, np.float32(1))
    arrays |= {name: ds[name].values.astype(bool) for name in NEVER_SHOWN if name in ds.coords}
    arrays |= {name: ds[name].values for name in ("inputs", "inputs_observed") if name in ds}
    labels = {
        name: ds[name].values.astype(str).tolist() for name in ("split", "trial_id", "input") if name in ds.coords
    }
    chosen = {"chosen": True} if was_chosen(ds) else {}
    header = {
        "version": DIGEST_VERSION,
        "arrays": {name: [array.dtype.str, array.shape] for name, array in arrays.items()},
        "labels": {**labels, **chosen, "channel": channel_names(ds)},
    }
    digest = hashlib.sha256(json.dumps(header).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"
