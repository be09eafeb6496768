"""Where bins lie on the session clock, and the interface of a source of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Kind = Literal["units", "electrodes", "rois", "series"]
PHASE_DECIMALS = 6
"""Moments that differ by less than this part of a bin (decimals) are one."""
LEAST_GAP, NEAR, WIDEST = 0.05, 0.25, 0.9
"""Part of a bin without samples that an edge is worth placing in; part of the widest one within which an edge is too near to
samples; part of the widest one from which on a gap counts as wide."""


@dataclass(frozen=True)
class Grid:
    """Windows of equal length, divided into equal bins.

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
        """Right edge of each window's last bin, in seconds on the session clock."""
        return self.starts + self.n_bins * self.bin_width


def edge_between(moments: NDArray[np.float64], width: float, *, usual: float) -> float:
    """Place the edges of bins between samples, so that jitter moves none into the next bin.

    Parameters
    ----------
    moments : array
        Seconds; each stands for the samples that follow it at multiples of the width of a bin.
    width : float
        Of a bin [s].
    usual : float
        An edge before all samples [s], kept where it is far enough from them or where they come at all moments.

    Returns
    -------
    float
        Left edge of the first bin [s].
    """
    first = float(moments.min())
    phases = np.unique(np.round((moments - first) / width, PHASE_DECIMALS) % 1.0)
    gaps = np.diff(phases, append=1.0)
    distance = np.abs((usual - first) / width - phases)
    nearest = float(np.abs(distance - np.round(distance)).min())
    if gaps.max() < LEAST_GAP or nearest >= NEAR * gaps.max():
        return usual
    # The last of the widest: bins begin as near before the first sample as they can.
    widest = int(np.flatnonzero(gaps >= WIDEST * gaps.max())[-1])
    return first - width * (1.0 - float(phases[widest] + gaps[widest] / 2))


@dataclass(frozen=True)
class Binned:
    """One source put on a grid.

    Parameters
    ----------
    values : array (trial, time, channel)
        0 where nothing was observed.
    observed : bool array (trial, time, channel)
    exposure : array (trial, time, channel), optional
        Share of each bin observed; None where every observed bin is whole.
    notes : tuple of str
        One-line remarks on what was read.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    exposure: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """One series of a file, ready to be put on any grid.

    Attributes
    ----------
    path : str
        In-file path of the series.
    kind : "units", "electrodes", "rois" or "series"
        What a channel is.
    unit : str
        Of the values.
    table : str
        In-file path of the table that `channel_id` belongs to ("units", "electrodes", the path of a PlaneSegmentation), or
        of the series itself where there is no table.
    channel_id : array (channel)
    channel_row : int array (channel)
        Row of each channel in the table.
    channel_columns : mapping of name to array (channel)
        Other columns of the table.
    span : (float, float)
        First and last moment that the series covers, in seconds on the session clock.
    sampling_period : float or None
        Seconds; None for event times.
    notes : tuple of str
        One-line remarks for the user.
    band : str, optional
        Name of the frequency band, where a series is read in several; see `band_of`.
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
        """Return the same source with some of its channels; reading and binning the others is saved.

        Parameters
        ----------
        keep : bool array (channel)
        """
        ...

    def bin(self, grid: Grid) -> Binned:
        """Put the samples into the bins of the grid.

        Parameters
        ----------
        grid : Grid

        Raises
        ------
        DataError
            If the series cannot be put on this grid.
        """
        ...


def band_of(source: Source) -> str:
    """Return the name of the frequency band that a source is read in; empty where there is one or none.

    Parameters
    ----------
    source : Source
    """
    return str(getattr(source, "band", ""))
