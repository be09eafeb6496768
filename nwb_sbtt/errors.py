"""The errors a user can meet. Each says what came, what was expected and what to try."""


class SbttError(Exception):
    """Base of every error that is the input's fault, never the program's; the command line prints it and exits with 2."""


class ConfigError(SbttError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class FileError(SbttError):
    """A file cannot be read or written as asked."""


class ArchiveError(FileError):
    """A DANDI archive cannot be reached, refuses, or sends something else than it said."""


class SelectionError(SbttError):
    """The series, table, column or channels asked for are not in the file, or several would fit."""


class DataError(SbttError):
    """The data were read but cannot be used: nothing observed, negative counts, too few trials."""


class TrainingError(SbttError):
    """Training cannot go on: a loss or gradient is not finite, or the run folder belongs to another job."""


class MismatchError(SbttError):
    """A fitted model was applied to data with other channels, bins or kind."""
