"""Text from files as it may reach a terminal: control characters become visible escapes.

A name, an id or a note comes from a file, and a terminal obeys what stands in it: it moves the cursor, renames the window,
hides or repeats lines. What the command line prints goes through `Printable`, and errors through `printable`. Imports nothing
of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 but for tab and new line; what turns the direction of writing or ends a line; halves of surrogate pairs."""


def printable(text: str) -> str:
    r"""Replace control characters by escapes.

    Parameters
    ----------
    text : str

    Returns
    -------
    str

    Examples
    --------
    >>> printable("unit \x1b[31m7")
    'unit \\x1b[31m7'
    """
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


class Printable:
    """A stream of text to which no control character is written.

    Parameters
    ----------
    stream : text stream
        All but writing is its own.
    """

    def __init__(self, stream: Any) -> None:
        self.unfiltered = unfiltered(stream)

    def write(self, text: str) -> int:
        """Write text, with control characters as escapes; returns its length.

        Parameters
        ----------
        text : str

        Returns
        -------
        int
        """
        self.unfiltered.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts.

        Parameters
        ----------
        lines : iterable of str
        """
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


def unfiltered(stream: Any) -> Any:
    """Return the stream behind a `Printable`, for what draws on the terminal itself; any other stream as it is.

    Parameters
    ----------
    stream : text stream
    """
    return stream.unfiltered if isinstance(stream, Printable) else stream
