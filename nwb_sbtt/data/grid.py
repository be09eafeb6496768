"""Where bins lie on the session clock, and what a source of samples must be able to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.schema import Kind


@dataclass(frozen=True)
class Grid:
    """Windows of equal length, cut into equal bins.

    Parameters
    ----------
    starts : array (trial)
        Left edge of each window's first bin, in seconds on the session clock; any order, windows may overlap.
    bin_width : float
        Seconds.
    n_bins : int
        Bins per window.
    """

    starts: NDArray[np.float64]
    bin_width: float
    n_bins: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of trials and of bins per trial."""
        return len(self.starts), self.n_bins

    @property
    def stops(self) -> NDArray[np.float64]:
        """Right edge of each window's last bin."""
        return self.starts + self.n_bins * self.bin_width


@dataclass(frozen=True)
class Binned:
    """What one source gives on a grid: arrays (trial, time, channel); `exposure` None where every bin is whole.

    `notes` are one-line remarks on what was found while reading.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    exposure: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """One series of a file, ready to be put on any grid.

    ``table`` is the in-file path of the table that ``channel_id`` counts in ("units", "electrodes", the path of a
    PlaneSegmentation), or of the series itself where there is no table; ``channel_row`` is each channel's row there.
    ``span`` is the first and last moment that the series covers, in seconds on the session clock. ``sampling_period``
    is None for event times. ``notes`` are one-line remarks that a person should see.
    """

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> Kind: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def table(self) -> str: ...  # noqa: D102
    @property
    def channel_id(self) -> NDArray[np.generic]: ...  # noqa: D102
    @property
    def channel_row(self) -> NDArray[np.intp]: ...  # noqa: D102
    @property
    def channel_columns(self) -> Mapping[str, NDArray[np.generic]]: ...  # noqa: D102
    @property
    def span(self) -> tuple[float, float]: ...  # noqa: D102
    @property
    def sampling_period(self) -> float | None: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def only(self, keep: NDArray[np.bool_]) -> Source:
        """The same source with some of its channels; what the others would cost to read and bin is saved."""
        ...

    def bin(self, grid: Grid) -> Binned:
        """Put the samples into the bins of the grid."""
        ...
