"""The recordings that a command is given: their files on this machine, the names of their sessions, their sampling offsets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nwb_sbtt.config import FitConfig, ReadConfig
from nwb_sbtt.errors import ConfigError, FileError
from nwb_sbtt.evaluate.baselines import BASELINES
from nwb_sbtt.fileerrors import follow_links
from nwb_sbtt.fitting.preparation import reading_of
from nwb_sbtt.fitting.signature import session_name
from nwb_sbtt.io.dandi.locations import local_file
from nwb_sbtt.io.read.arrays import load_array
from nwb_sbtt.io.read.results import without_results


def recordings_of(
    paths: Sequence[Path], read: ReadConfig, config: FitConfig
) -> tuple[list[Path], list[str], ReadConfig]:
    """Find the recordings of a fit on this machine, and resolve how they are read.

    Parameters
    ----------
    paths : sequence of Path
        NWB files or addresses on DANDI. Among several, files that hold results of others are left out.
    read : ReadConfig
    config : FitConfig

    Returns
    -------
    paths, left_out, read : list of Path, list of str, ReadConfig
        With a remark on each file that is left out.
    """
    BASELINES.values()  # One of another package that cannot be imported is noticed now, not after training.
    found, left_out = without_results([local_file(path) for path in paths], external_data=read.external_data)
    return list(found), list(left_out), reading_of(read, config)


def session_names(paths: Sequence[Path]) -> list[str]:
    """Name sessions by their files, with as many parent folders as make the names unique.

    Parameters
    ----------
    paths : sequence of Path

    Raises
    ------
    FileError
        If a file is given twice.
    """
    resolved = [follow_links(path) for path in paths]
    if repeated := [str(path) for i, path in enumerate(paths) if resolved[i] in resolved[:i]]:
        raise FileError(f"{repeated[0]!r} is given twice; name each file once")
    depth = 0
    while True:
        depth += 1
        names = [session_name("_".join(path.parts[-depth:])) for path in resolved]
        if len(set(names)) == len(names):
            return names


def load_offsets(given: Sequence[str]) -> float | np.ndarray | dict[str, float | np.ndarray] | None:
    """Read the sampling offsets of the only series, or by the series that each text names.

    Parameters
    ----------
    given : sequence of str
        As for `fit_files`.

    Returns
    -------
    float, array (ROI), or these by series [s]; or None
        None where none are given.

    Raises
    ------
    ConfigError, FileError
        If several are given of a series, or a file is no array.
    """
    loaded: dict[str, float | np.ndarray] = {}
    for text in given:
        series, _, value = ("", "", text) if Path(text).exists() else text.rpartition("=")
        if series in loaded:
            what = f"of {series!r} twice" if series else "twice without a series"
            raise ConfigError(
                f"--offsets is passed {what}; with several series, write SERIES=FILE or SERIES=SECONDS for each"
            )
        loaded[series] = _offsets_of(value)
    if "" in loaded and len(loaded) > 1:
        raise ConfigError(
            "--offsets FILE works with one series only; with several, write SERIES=FILE or SERIES=SECONDS for each"
        )
    return loaded.get("", loaded) if loaded else None


def _offsets_of(value: str) -> float | np.ndarray:
    try:
        return float(value)
    except ValueError:
        return load_array(value, "the sampling offsets")
