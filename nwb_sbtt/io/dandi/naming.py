"""Names of result files as DANDI wants them, and what a result says of the recordings behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nwb_sbtt.errors import FileError, SelectionError
from nwb_sbtt.io.read.files import open_nwb

RECORD = "LatentVariableModel"
MODALITIES = ("behavior", "ecephys", "icephys", "ophys")
"""Processing modules whose names end a file's name."""
_NOT_IN_NAMES = r"[_*\\/<>:|\"'?%@;.,\s]"


@dataclass(frozen=True)
class Result:
    """What of a result file its place on DANDI follows from.

    Parameters
    ----------
    subject, session : str
        Ids; the session's start where it has none.
    names : tuple of str
        Of the sets of results in the file.
    modalities : tuple of str
    sources : tuple of mapping
        Of each series that was read: `dandiset`, `version`, `asset_id`, `asset_path`, `archive`, as far as known.
    """

    subject: str
    session: str
    names: tuple[str, ...]
    modalities: tuple[str, ...]
    sources: tuple[Mapping[str, str], ...]

    @property
    def path(self) -> str:
        """Within a dandiset: ``sub-X/sub-X_ses-Y_desc-sbtt_ecephys.nwb``."""
        folder = f"sub-{_plain(self.subject)}"
        parts = [folder, f"ses-{_plain(self.session)}", f"desc-{'+'.join(map(_plain, self.names))}"]
        if self.modalities:
            parts.append("+".join(self.modalities))
        return f"{folder}/{'_'.join(parts)}.nwb"


def read_result_facts(path: Path) -> Result:
    """Read from a result file what names it.

    Raises
    ------
    FileError
        If it cannot be read, or has no subject.
    SelectionError
        If it holds no results.
    """
    with open_nwb(path) as nwb:
        modules = {name: list(module.data_interfaces.values()) for name, module in nwb.processing.items()}
        records = [item for items in modules.values() for item in items if type(item).__name__ == RECORD]
        if not records:
            raise SelectionError(
                f"{path.name!r} holds no results: expected what `nwb-sbtt fit --out` or `infer` writes"
            )
        if nwb.subject is None or not nwb.subject.subject_id:
            raise FileError(
                f"{path.name!r} has no subject_id, after which DANDI names files; set nwbfile.subject in the recording, "
                "then write the results again"
            )
        within = {str(record.parent.name) for record in records}
        return Result(
            subject=str(nwb.subject.subject_id),
            session=str(nwb.session_id or nwb.session_start_time.strftime("%Y%m%dT%H%M%S")),
            names=tuple(sorted(record.name.removesuffix("_model") for record in records)),
            modalities=tuple(name for name in MODALITIES if name in within),
            sources=tuple(row for record in records for row in _rows(record.sources)),
        )


def _rows(table: Any) -> list[dict[str, str]]:
    if table is None:
        return []
    columns = {column.name: np.asarray(column.data[:]).tolist() for column in table.columns}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [
        {key: value.decode() if isinstance(value, bytes) else str(value) for key, value in row.items()} for row in rows
    ]


def _plain(text: str) -> str:
    """Without what separates the parts of a name, or cannot be in one; as dandi does it."""
    return re.sub(_NOT_IN_NAMES, "-", text.strip())
