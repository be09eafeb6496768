"""Arrays in files of numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.errors import FileError
from nwb_sbtt.fileerrors import check_is_file


def load_array(path: Path | str, what: str) -> NDArray[Any]:
    """Load the array of a ``.npy`` file.

    Parameters
    ----------
    path : path
    what : str
        The array holds; for the error.

    Raises
    ------
    FileError
        If the file cannot be read, or holds objects or several arrays.
    """
    try:
        check_is_file(Path(path))
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise FileError(f"cannot read {what} {str(path)!r}: {error.strerror or error}") from None
    except (ValueError, EOFError, SyntaxError, BadZipFile):
        raise FileError(
            f"cannot read {what} {str(path)!r}: it is not a .npy file of numbers or flags; write one with "
            "numpy.save(path, array)"
        ) from None
    if not isinstance(array, np.ndarray):
        raise FileError(f"{str(path)!r} holds several arrays; expected {what} as one .npy array")
    return array
