"""Errors for users. Each message holds what was passed, what was expected and what to try."""

from nwb_sbtt.printable import printable


class SbttError(Exception):
    """Base of all errors that the input causes, never a bug; the command line prints one as a line and exits with 2."""

    def __str__(self) -> str:
        """Return the message in one line; what it repeats of a file, or of a library, holds no control character."""
        return printable(" ".join(line.strip() for line in super().__str__().split("\n")))


class ConfigError(SbttError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another one."""


class FileError(SbttError):
    """A file cannot be read or written."""


class ArchiveError(FileError):
    """A DANDI archive cannot be reached, refuses a request, or sends bytes that do not have its digest."""


class SelectionError(SbttError):
    """The file does not have the series, table, column or channels selected, or several match."""


class DataError(SbttError):
    """The data can be read but not used: nothing observed, negative counts, too few trials."""


class TrainingError(SbttError):
    """Training cannot continue: a loss or gradient is not finite, or the run folder belongs to another fit."""


class MismatchError(SbttError):
    """A fitted model was applied to data of other channels, bins or kind."""


class ClusterError(SbttError):
    """Ray is not installed, cannot be started or joined, or has no room for what a fit asks for."""
