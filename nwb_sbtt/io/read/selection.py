"""Which series of a file can be fitted, and the choice among them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

import numpy as np
from pynwb import TimeSeries
from pynwb.ecephys import ElectricalSeries, SpikeEventSeries
from pynwb.image import ImageSeries, IndexSeries
from pynwb.misc import IntervalSeries, Units
from pynwb.ophys import RoiResponseSeries

from nwb_sbtt.data.schema import Kind
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.io.read.paths import in_file_path

NOT_SAMPLES = (ImageSeries, IndexSeries, IntervalSeries, SpikeEventSeries)
"""Subtypes of TimeSeries whose data are not one number a channel at each time."""
RESULTS = "ndx-sbtt"
"""Namespace of what this package writes."""


class Selectable(Protocol):
    """What `select` needs to know of a series."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def default(self) -> bool: ...  # noqa: D102


S = TypeVar("S", bound=Selectable)


@dataclass(frozen=True)
class Found:
    """A series in an open file. `default` says whether it is taken without being named, if it is the only such."""

    path: str
    kind: Kind
    default: bool
    item: Any = field(repr=False)

    @property
    def type(self) -> str:
        """Neurodata type."""
        return str(self.item.neurodata_type)


def find_series(nwbfile: Any) -> list[Found]:
    """Every series of numbers in the file, wherever it lies, sorted by path.

    Units with spike times, ElectricalSeries and RoiResponseSeries are candidates by default; any other TimeSeries, and
    results written by this package, can be chosen by name only.
    """
    found = []
    for item in nwbfile.objects.values():
        kind = _kind(item)
        if kind is not None:
            usual = kind != "series" and not _is_result(item)
            usable = kind != "units" or ("spike_times" in item.colnames and len(item) > 0)
            found.append(Found(in_file_path(nwbfile, item), kind, usual and usable, item))
    return sorted(found, key=lambda each: each.path)


def _is_result(item: Any) -> bool:
    """Whether this package wrote a series: one of its own types, or a core type beside the model that it came from."""
    if item.namespace == RESULTS:
        return True
    beside = getattr(item.parent, "data_interfaces", {})
    models = [name for name, each in beside.items() if each.namespace == RESULTS and name.endswith("_model")]
    return any(item.name.startswith(name.removesuffix("model")) for name in models)


def select(candidates: Sequence[S], patterns: Iterable[str] | None = None) -> list[S]:
    """Choose series by in-file path or glob; without any, the one candidate there is.

    Parameters
    ----------
    candidates : sequence of Found or Candidate
    patterns : iterable of str, optional
        Exact paths, or globs in which ``*`` stands for anything. A glob takes default candidates where it matches any,
        and other series where it does not.

    Returns
    -------
    list
        In the order of the patterns, each series once.

    Raises
    ------
    SelectionError
        If a pattern matches nothing, or, without patterns, if there is no candidate or there are several.
    """
    if patterns is None:
        return [_only(candidates)]
    chosen: list[S] = []
    for pattern in patterns:
        wanted = pattern.strip("/")
        matches = [each for each in candidates if each.path == wanted]
        if not matches:
            matches = [each for each in candidates if fnmatchcase(each.path, wanted)]
            matches = [each for each in matches if each.default] or matches
        if not matches:
            raise SelectionError(_unknown(pattern, [each.path for each in candidates]))
        chosen += [each for each in matches if all(each is not other for other in chosen)]
    if not chosen:
        raise SelectionError("`series` names nothing; leave it out, or give an in-file path")
    return chosen


def _only(candidates: Sequence[S]) -> S:
    usual = [each for each in candidates if each.default]
    if len(usual) == 1:
        return usual[0]
    if usual:
        listed = "\n".join(f"  --series {each.path}" for each in usual)
        raise SelectionError(
            f"the file has {len(usual)} series that could be meant; choose one (or several):\n{listed}"
        )
    others = "\n".join(f"  --series {each.path}" for each in candidates)
    raise SelectionError(
        "the file has no units with spike times, no ElectricalSeries and no RoiResponseSeries"
        + (
            f"; it has these other series, to be chosen by name:\n{others}"
            if others
            else ", and no other series of numbers"
        )
    )


def _unknown(pattern: str, paths: list[str]) -> str:
    if not paths:
        return f"no series matches {pattern!r}: the file has no series of numbers"
    wanted = pattern.strip("/")
    last = wanted.rsplit("/", 1)[-1]
    near = difflib.get_close_matches(wanted, paths, n=3, cutoff=0.5)
    near += [path for path in paths if path.rsplit("/", 1)[-1] == last and path not in near]
    if near:
        return f"no series matches {pattern!r}; did you mean {' or '.join(map(repr, near[:3]))}?"
    return f"no series matches {pattern!r}; the file has {', '.join(map(repr, paths[:20]))}"


def _kind(item: Any) -> Kind | None:
    if isinstance(item, Units):
        return "units"
    if not isinstance(item, TimeSeries) or isinstance(item, NOT_SAMPLES):
        return None
    # A stored array must not be read to learn its type.
    data = item.data if hasattr(item.data, "dtype") else np.asarray(item.data)
    if len(data.shape) not in (1, 2) or np.dtype(data.dtype).kind not in "biuf":
        return None
    if isinstance(item, ElectricalSeries):
        return "electrodes"
    return "rois" if isinstance(item, RoiResponseSeries) else "series"
