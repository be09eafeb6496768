"""Files of a set, fetched from DANDI by its name."""

from __future__ import annotations

from pathlib import Path

from nwb_sbtt.errors import ArchiveError
from nwb_sbtt.io.dandi.downloads import download
from nwb_sbtt.nlb.definitions import Phase, definition

FILES: dict[Phase, str] = {"val": "*desc-train*.nwb", "test": "*.nwb"}
"""Files of a dandiset that a phase needs: validation trials are in the file of the training trials."""


def fetch_files(name: str, folder: Path | str, *, phase: Phase = "val") -> list[Path]:
    """Fetch the files of a set that a phase needs, those that are not there yet.

    Parameters
    ----------
    name : str
        Of the set, such as "mc_maze_small"; its definition says dandiset and version.
    folder : path
        Files lie below it as ``000140/sub-Jenkins/…``.
    phase : "val" or "test"

    Raises
    ------
    ConfigError
        If there is no such set.
    ArchiveError, SelectionError, FileError
        As `nwb_sbtt.dandi.download`; an archive that cannot be used is an error that says how to go on without it.
    """
    dandiset = definition(name).dandiset
    try:
        return download(f"DANDI:{dandiset}", folder, glob=FILES[phase], existing="refresh")
    except ArchiveError as error:
        kept = sorted(str(path) for path in (Path(folder) / dandiset.split("/")[0]).glob(f"**/{FILES[phase]}"))
        given = " ".join(kept) if kept else "FILE…"
        raise ArchiveError(
            f"cannot fetch {name} (DANDI:{dandiset}): {error}. With its files at hand the archive is not needed: nwb-sbtt nlb "
            f"prepare {name} {given}"
        ) from None
