"""Which samples of a recording a grid's bins need, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.binning import RESOLUTION
from nwb_sbtt.data.grid import Grid
from nwb_sbtt.errors import DataError
from nwb_sbtt.io.read.recording import Recording
from nwb_sbtt.signals.blocks import Bins, Reduction

BLOCK_BYTES = 24 * 2**20
"""Values of one block, unless the reach of the filter or the chunks ask for more. The memory of larger arrays is returned to
the system each time, and is slow to come again."""


def distinct_bins(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Find the distinct bins of a grid, whose windows may overlap.

    Parameters
    ----------
    grid : Grid

    Returns
    -------
    starts : array (distinct bin)
        Seconds, rising.
    distinct : int array (bin)
        Which of them each bin (trial after trial) is.
    """
    edges = (grid.starts[:, None] + np.arange(grid.n_bins) * grid.bin_width).ravel()
    ticks, distinct = np.unique(np.round(edges / RESOLUTION).astype(np.int64), return_inverse=True)
    return np.asarray(ticks * RESOLUTION, dtype=np.float64), distinct


def samples_needed(bins: Bins, reduction: Reduction) -> tuple[int, int]:
    """Find the first sample that some bins need, and the one after the last.

    Parameters
    ----------
    bins : Bins
    reduction : Reduction
    """
    first = min(int(bins.starts.min()), int(np.floor(bins.centres.min())))
    stop = max(int(bins.stops.max()), int(np.ceil(bins.centres.max())) + 1)
    return first - reduction.margin, stop + reduction.margin


def batches(bins: Bins, recording: Recording, reduction: Reduction, *, limit: float) -> Iterator[tuple[int, int]]:
    """Split rising bins into batches whose samples fit into memory, without long runs of samples that no bin needs.

    Parameters
    ----------
    bins : Bins
    recording : Recording
    reduction : Reduction
    limit : float
        Bytes.

    Yields
    ------
    start, stop
        First bin of a batch, and the one after its last.

    Raises
    ------
    DataError
        If the samples that one bin needs do not fit.
    """
    slabs = recording.slabs
    bytes_per_sample = recording.bytes_per_sample + reduction.bytes_per_sample
    around = 2 * recording.margin
    usual_rows = max(
        BLOCK_BYTES // (recording.dtype.itemsize * slabs.n_columns),
        16 * reduction.margin,
        4 * slabs.chunk_rows,
        4 * around,
    )
    n_rows = min(int(limit / (bytes_per_sample * slabs.n_columns)) - slabs.chunk_rows - around, usual_rows)
    start = 0
    while start < len(bins.centres):
        first, stop = samples_needed(bins.part(start, start + 1), reduction)
        if stop - first > n_rows:
            needed = bytes_per_sample * slabs.n_columns * (stop - first + around + slabs.chunk_rows)
            raise DataError(
                f"memory_limit of {limit:g} bytes is too small: one bin with the extent of its filter, or one chunk "
                f"of the file, needs {needed:g}; raise memory_limit, use shorter bins, or raise the lower edge of the "
                "band"
            )
        stops = np.maximum(bins.stops[start:], np.ceil(bins.centres[start:]) + 1) + reduction.margin
        n_fit = int(np.searchsorted(stops, first + n_rows, side="right"))
        jumps = np.flatnonzero(np.diff(bins.starts[start : start + n_fit]) > 2 * reduction.margin + slabs.chunk_rows)
        length = max(1, min(n_fit, int(jumps[0]) + 1 if len(jumps) else n_fit))
        yield start, start + length
        start += length
