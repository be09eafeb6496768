"""Download the files of a set from DANDI by its name."""

from __future__ import annotations

from pathlib import Path

from nwb_sbtt.errors import ArchiveError
from nwb_sbtt.io.dandi.downloads import download
from nwb_sbtt.nlb.definitions import Phase, get_definition

FILES: dict[Phase, str] = {"val": "*desc-train*.nwb", "test": "*.nwb"}
"""Files of a dandiset that a phase needs: validation trials are in the file of the training trials."""


def fetch_files(name: str, folder: Path | str, *, phase: Phase = "val") -> list[Path]:
    """Download those files of a set that a phase needs and that the folder lacks.

    Parameters
    ----------
    name : str
        Of the set, such as "mc_maze_small"; its definition names dandiset and version.
    folder : path
        Files lie below it as ``000140/sub-Jenkins/…``.
    phase : "val" or "test"

    Returns
    -------
    list of Path

    Raises
    ------
    ConfigError
        If there is no such set.
    ArchiveError, SelectionError, FileError
        As `nwb_sbtt.dandi.download`; where the archive cannot be used the message says how to continue without it.
    """
    dandiset = get_definition(name).dandiset
    try:
        return download(f"DANDI:{dandiset}", folder, glob=FILES[phase], existing="refresh")
    except ArchiveError as error:
        existing = sorted(str(path) for path in (Path(folder) / dandiset.split("/")[0]).glob(f"**/{FILES[phase]}"))
        words = " ".join(existing) if existing else "FILE…"
        raise ArchiveError(
            f"cannot download {name} (DANDI:{dandiset}): {error}. If you have the files, the archive is not needed: "
            f"nwb-sbtt nlb prepare {name} {words}"
        ) from None
