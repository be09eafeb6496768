"""Which series a file holds, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

from nwb_sbtt.data.grid import Kind, Source
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.neurodata import Reader, default_types, reader_of, why_unreadable
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.results import Role, provenance_of, role_of
from nwb_sbtt.suggestions import nearest

SIMILAR = 0.5
"""Least similarity, from 0 to 1, of a path that is proposed in place of an unknown one."""
MOST_PROPOSED, MOST_LISTED = 3, 20
"""Most paths that an error proposes, and that it lists where none is similar or one has to be chosen."""


class Selectable(Protocol):
    """What `select` needs of a series: its in-file path, whether it is read without being named, and what it is."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def default(self) -> bool: ...  # noqa: D102
    @property
    def role(self) -> Role: ...  # noqa: D102


SeriesT = TypeVar("SeriesT", bound=Selectable)


@dataclass(frozen=True)
class StoredSeries:
    """A series in an open file.

    Parameters
    ----------
    path : str
        In-file path.
    default : bool
        Whether it is read without being named, if it is the only such series.
    role : "recording", "mask", "result", "copy" or "truth"
    reader : Reader
        That of its neurodata type.
    nwb_object : pynwb.TimeSeries, pynwb.misc.Units or another neurodata object
    """

    path: str
    default: bool
    role: Role
    reader: Reader[..., Source] = field(repr=False)
    nwb_object: Any = field(repr=False)

    @property
    def kind(self) -> Kind:
        """What a channel is."""
        return self.reader.kind

    @property
    def type(self) -> str:
        """Neurodata type."""
        return str(self.nwb_object.neurodata_type)


def find_series(nwbfile: Any) -> list[StoredSeries]:
    """Find every series of a file that a reader can read, wherever it lies.

    Results written by this package, and what was copied beside them, are never read without being named.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile

    Returns
    -------
    list of StoredSeries
        Sorted by path.

    Raises
    ------
    ConfigError
        If a type's reader is one of a package that cannot be imported.
    """
    nwb_objects = list(nwbfile.objects.values())
    readers = {neurodata_class: reader_of(neurodata_class) for neurodata_class in set(map(type, nwb_objects))}
    provenance = provenance_of(nwbfile)
    stored = []
    for nwb_object in nwb_objects:
        reader = readers[type(nwb_object)]
        if reader is not None and reader.is_readable(nwb_object):
            role = role_of(nwbfile, nwb_object, provenance)
            default = role == "recording" and reader.is_default(nwb_object)
            stored.append(StoredSeries(in_file_path(nwbfile, nwb_object), default, role, reader, nwb_object))
    return sorted(stored, key=lambda series: series.path)


def unreadable_series(nwbfile: Any) -> dict[str, tuple[Any, str]]:
    """Find the series of a file that nothing reads.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile

    Returns
    -------
    dict of in-file path to (neurodata object, str)
        With the reason.

    Raises
    ------
    ConfigError
        As `find_series`.
    """
    reasons = [(nwb_object, why_unreadable(nwb_object)) for nwb_object in nwbfile.objects.values()]
    return {in_file_path(nwbfile, item): (item, reason) for item, reason in reasons if reason is not None}


def select(
    candidates: Sequence[SeriesT], patterns: Iterable[str] | None = None, *, unreadable: Mapping[str, str] | None = None
) -> list[SeriesT]:
    """Choose series by in-file path or glob; without patterns, the only default series there is.

    Parameters
    ----------
    candidates : sequence of StoredSeries or Candidate
    patterns : iterable of str, optional
        Exact paths, or globs in which ``*`` stands for any text. A glob selects the default series that it matches, and
        other recorded series only if it matches no default one; results are read by their exact paths alone.
    unreadable : mapping of in-file path to str, optional
        Reasons why other series are not among the candidates, for errors.

    Returns
    -------
    list
        In the order of the patterns, each series once.

    Raises
    ------
    SelectionError
        If a pattern matches nothing, or, without patterns, if there is no default series or there are several.
    """
    if patterns is None:
        return [_only_default(candidates, unreadable or {})]
    selected: list[SeriesT] = []
    for pattern in patterns:
        glob = pattern.strip("/")
        matches = [series for series in candidates if series.path == glob]
        if not matches:
            matching = [series for series in candidates if fnmatchcase(series.path, glob)]
            recorded = [series for series in matching if series.role == "recording"]
            matches = [series for series in recorded if series.default] or recorded
            if matching and not recorded:
                raise SelectionError(f"{pattern!r} matches no recorded series, but {_others(matching)}")
        if not matches and unreadable is not None and glob in unreadable:
            raise SelectionError(f"{glob!r} cannot be read: {unreadable[glob]}")
        if not matches:
            raise SelectionError(_no_match(pattern, [series.path for series in candidates]))
        selected += [series for series in matches if all(series is not other for other in selected)]
    if not selected:
        raise SelectionError("`series` is empty; omit it, or pass an in-file path")
    return selected


def default_series(candidates: Sequence[SeriesT]) -> SeriesT | None:
    """Return the series that is read where none is named: the only default one.

    Whether it can be read does not matter: a damaged series, or a filter that is not installed, changes no choice.

    Parameters
    ----------
    candidates : sequence of StoredSeries or Candidate

    Returns
    -------
    StoredSeries or Candidate, or None
        None where there is no default series, or several.
    """
    defaults = [series for series in candidates if series.default]
    return defaults[0] if len(defaults) == 1 else None


def _only_default(candidates: Sequence[SeriesT], unreadable: Mapping[str, str]) -> SeriesT:
    if (only := default_series(candidates)) is not None:
        return only
    if defaults := [series for series in candidates if series.default]:
        raise SelectionError(
            f"the file has {len(defaults)} series that can be fitted; choose one or several: {_options(defaults)}"
        )
    *types, last_type = default_types()
    message = f"the file has no usable {', '.join(types)} or {last_type}"
    if candidates and not any(series.role == "recording" for series in candidates):
        raise SelectionError(f"the file has no recording, but {_others(candidates)}")
    if candidates:
        raise SelectionError(f"{message}; other series can be chosen by name: {_options(candidates)}")
    reasons = [f"{path!r} cannot be read: {reason}" for path, reason in unreadable.items()][:MOST_PROPOSED]
    raise SelectionError("; ".join([message, *reasons]) if reasons else f"{message}, and no other series of numbers")


def _others(candidates: Sequence[Selectable]) -> str:
    """What series are that were not recorded, and how each is chosen."""
    words = {
        "mask": "a mask",
        "result": "results of a model",
        "copy": "copies stored with results",
        "truth": "ground truth of a simulation",
    }
    roles = [word for role, word in words.items() if any(series.role == role for series in candidates)]
    return f"{' and '.join(roles)}; fit the recording, or choose one by its exact path: {_options(candidates)}"


def _options(candidates: Sequence[Selectable]) -> str:
    """Options of the command line that choose each of the series."""
    more = f" and {len(candidates) - MOST_LISTED} more" if len(candidates) > MOST_LISTED else ""
    return ", ".join(f"--series {series.path}" for series in candidates[:MOST_LISTED]) + more


def _no_match(pattern: str, paths: list[str]) -> str:
    if not paths:
        return f"no series matches {pattern!r}: the file has no series of numbers"
    path = pattern.strip("/")
    name = path.rsplit("/", 1)[-1]
    similar = nearest(path, paths, n=MOST_PROPOSED, cutoff=SIMILAR)
    similar += [other for other in paths if other.rsplit("/", 1)[-1] == name and other not in similar]
    if similar:
        return f"no series matches {pattern!r}; did you mean {' or '.join(map(repr, similar[:MOST_PROPOSED]))}?"
    return f"no series matches {pattern!r}; the file has {', '.join(map(repr, paths[:MOST_LISTED]))}"
