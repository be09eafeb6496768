"""What in a file is no recording: results that this package wrote, tables copied beside them, and the truth of simulations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pynwb import NWBFile, ProcessingModule

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.read.files import open_nwb

NAMESPACE = "ndx-sbtt"
"""Namespace of the types of results."""
MODEL_TYPE = "LatentVariableModel"
"""Neurodata type of the record of a model, which lies beside its results."""
GROUND_TRUTH = "ground_truth"
"""Processing module with the truth of a simulation."""
SIMULATION = "simulation"
"""Keyword of files of simulations."""
MASK_TYPE = "ObservationMaskSeries"
"""Neurodata type of stored masks: beside the record of a model they tell what it was shown, elsewhere what was recorded."""
Role = Literal["recording", "mask", "result", "copy", "truth"]
"""What a series is: recorded, a mask of what was, a result of a model, a copy in a file of results, or a simulation's truth."""


@dataclass(frozen=True)
class Provenance:
    """What results a file holds, and which recordings they were inferred from.

    Parameters
    ----------
    names : tuple of str
        Of the results.
    sources : tuple of str
        File names of the recordings.
    derived : bool
        Whether the file was made for the results: all else in it is copied from the recording. A recording to which results
        were appended is not.
    """

    names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    derived: bool = False


def provenance_of(nwbfile: Any) -> Provenance:
    """Find the results in a file, and where they come from.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    """
    records = [item for item in nwbfile.objects.values() if _is_record(item)]
    names = tuple(sorted(record.name.removesuffix("_model") for record in records))
    tables = [record.sources for record in records if getattr(record, "sources", None) is not None]
    identifiers = {text for table in tables for text in _texts(table, "nwb_identifier")}
    sources = tuple(sorted({text for table in tables for text in _texts(table, "file_name")}))
    return Provenance(names, sources, derived=bool(identifiers) and nwbfile.identifier not in identifiers)


def role_of(nwbfile: Any, nwb_object: Any, provenance: Provenance) -> Role:
    """Tell what an object of a file is.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    nwb_object : pynwb.TimeSeries, pynwb.misc.Units or another neurodata object
    provenance : Provenance
        Of the file.
    """
    decoded = tuple(map(decoded_prefix, provenance.names))
    if is_result(nwb_object) or (decoded and str(nwb_object.name).startswith(decoded)):
        return "result"
    if nwb_object.neurodata_type == MASK_TYPE:
        return "mask"
    module = nwb_object.get_ancestor("ProcessingModule")
    if isinstance(module, ProcessingModule) and module.name == GROUND_TRUTH and SIMULATION in _keywords(nwbfile):
        return "truth"
    return "copy" if provenance.derived else "recording"


def decoded_prefix(name: str) -> str:
    """Return what the names of decoded behaviour begin with.

    Parameters
    ----------
    name : str
        Of the results.
    """
    return f"{name}_decoded_"


def _keywords(nwbfile: Any) -> list[object]:
    keywords = nwbfile.keywords
    # An array of any shape, as some programs write it.
    return [] if keywords is None else np.ravel(np.asarray(keywords[:], dtype=object)).tolist()


def is_result(nwb_object: Any) -> bool:
    """Tell whether this package wrote an object as a result: of one of its types, or a core type beside the model's record.

    Parameters
    ----------
    nwb_object : neurodata object
    """
    siblings = getattr(nwb_object.parent, "data_interfaces", {})
    records = [name for name, sibling in siblings.items() if _is_record(sibling)]
    if nwb_object.neurodata_type == MASK_TYPE:
        return bool(records)
    prefixes = [name.removesuffix("model") for name in records if name.endswith("_model")]
    return nwb_object.namespace == NAMESPACE or any(map(nwb_object.name.startswith, prefixes))


def without_results(paths: Sequence[Path], *, external_data: bool = False) -> tuple[list[Path], list[str]]:
    """Leave out files that hold results of others, or are copies of others with results, as ``fit *.nwb`` finds them.

    Parameters
    ----------
    paths : sequence of Path
        Files that are to be fitted together. A single one is left as it is.
    external_data : bool
        As for `open_nwb`.

    Returns
    -------
    paths : list of Path
    remarks : list of str
        One line for each file that is left out.

    Raises
    ------
    FileError
        If a file cannot be read, or all hold results.
    """
    if len(paths) < 2:
        return list(paths), []
    found: list[tuple[Path, str, Provenance]] = []
    for path in paths:
        with open_nwb(path, external_data=external_data) as nwbfile:
            found.append((path, str(nwbfile.identifier), provenance_of(nwbfile)))
    recorded = {identifier for _, identifier, provenance in found if not provenance.names}
    kept, remarks = [], []
    for path, identifier, provenance in found:
        names = ", ".join(map(repr, provenance.names))
        if provenance.derived:
            inferred = f", inferred from {', '.join(map(repr, provenance.sources))}" if provenance.sources else ""
            remarks.append(f"{path.name}: contains results ({names}){inferred}, but no recording, so it is left out")
        elif provenance.names and identifier in recorded:
            remarks.append(
                f"{path.name}: a copy of another of these files with added results ({names}), so it is left out"
            )
        else:
            kept.append(path)
    if not kept:
        raise FileError(
            f"none of the {len(paths)} files is a recording, because all contain results; pass the recordings"
        )
    return kept, remarks


def why_left_out(nwbfile: NWBFile, *, names: Collection[str]) -> str:
    """Say why a file is no recording to fit, as one that earlier fits wrote is not.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    names : collection of str
        File names of the other files that are fitted.

    Returns
    -------
    str
        Empty where it is one.
    """
    provenance = provenance_of(nwbfile)
    listed = ", ".join(map(repr, provenance.names))
    if provenance.derived:
        return f"it contains results ({listed}), but no recording"
    if provenance.names and (others := [name for name in provenance.sources if name in names]):
        return f"it is a copy of {others[0]!r} with results ({listed})"
    return ""


def _is_record(nwb_object: Any) -> bool:
    return getattr(nwb_object, "neurodata_type", None) == MODEL_TYPE


def _texts(table: Any, name: str) -> list[str]:
    if name not in table.colnames:
        return []
    stored = np.asarray(table[name].data[:]).tolist()
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in stored]
    return [text for text in texts if text]
