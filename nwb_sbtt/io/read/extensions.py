"""Types that pynwb does not know by itself: those of extensions whose definitions a file does not carry, and a broken one.

Files of pynwb before 1.0, and files written with ``cache_spec=False``, hold types of extensions without their definitions. An
extension 'ndx-name' has, by the rules of the NDX catalog, a package of that name with the module ``ndx_name``.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import h5py
from hdmf.build import BuildManager
from pynwb import NWBHDF5IO, get_type_map, register_class
from pynwb.core import MultiContainerInterface
from pynwb.ecephys import SpikeEventSeries

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.dandi.transfer import RemoteFile

NOT_A_NAMESPACE = re.compile(r"'([^']+)' not a namespace")
"""How hdmf says that it has no definitions of a namespace."""
EXTENSION = re.compile(r"ndx[-_][A-Za-z0-9_-]+")
"""Names that are imported. A file must not be able to name just any installed module."""


def loaded_types() -> BuildManager:
    """Make a manager of the types that are loaded.

    It takes them as they are; pynwb by itself copies all of them for each file, which takes longer than a small file.

    Returns
    -------
    hdmf.build.BuildManager
    """
    return BuildManager(get_type_map(copy=False))


def manager_of(file: h5py.File) -> BuildManager | None:
    """Make the manager with which a file is opened.

    Parameters
    ----------
    file : h5py.File

    Returns
    -------
    hdmf.build.BuildManager or None
        None if the file defines types that are not loaded: pynwb loads these for this file alone.
    """
    loaded = get_type_map(copy=False).namespace_catalog.namespaces
    return loaded_types() if set(NWBHDF5IO.get_namespaces(file=file)) <= set(loaded) else None


def missing_namespace(error: BaseException) -> str | None:
    """Return the namespace whose definitions an error of hdmf misses; None for any other error.

    Parameters
    ----------
    error : BaseException
        Raised by hdmf.

    Returns
    -------
    str or None
    """
    found = NOT_A_NAMESPACE.search(str(error))
    return found[1] if found else None


def import_extension(namespace: str, path: Path | RemoteFile) -> None:
    """Import the package of an extension, which registers its types.

    Parameters
    ----------
    namespace : str
        Such as "ndx-events".
    path : Path or RemoteFile
        The file that needs it, for errors.

    Raises
    ------
    FileError
        If its package is not installed, cannot be imported, or is not known by name.
    """
    needs = f"{str(path)!r} needs the NWB extension {namespace!r}, whose definitions are not stored in the file"
    if not EXTENSION.fullmatch(namespace):
        raise FileError(
            f"{needs}; no package has this name. Import the package that defines the extension, and read the file in "
            "Python"
        )
    module = namespace.replace("-", "_")
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise FileError(f"{needs}; its package cannot be imported: {error}") from error
        raise FileError(f"{needs}: pip install {namespace}") from None
    except Exception as error:  # Another package's own code runs here, and may fail in any way.
        raise FileError(f"{needs}; its package cannot be imported: {type(error).__name__}: {error}") from error


def is_event_waveform(error: BaseException) -> bool:
    """Tell whether an error of pynwb comes from its class EventWaveform, whose constructor does not complete the object.

    Parameters
    ----------
    error : BaseException
        Raised by pynwb.

    Returns
    -------
    bool
    """
    return "'EventWaveform' object has no attribute" in str(error)


def mend_event_waveforms() -> None:
    """Put a class in the place of pynwb's EventWaveform, which cannot be read from a file since pynwb 3.0."""

    @register_class("EventWaveform", "core")
    class EventWaveform(MultiContainerInterface):  # type: ignore[misc]
        """A container of SpikeEventSeries."""

        __clsconf__: ClassVar[dict[str, object]] = {
            "attr": "spike_event_series",
            "type": SpikeEventSeries,
            "add": "add_spike_event_series",
            "get": "get_spike_event_series",
        }
