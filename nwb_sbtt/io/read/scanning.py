"""When, within its frame, a laser scanner sampled each ROI.

A scanner takes a frame line by line. An ROI on line k is sampled k / (lines per second) after the frame has begun, which is
its sampling offset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pynwb.ophys import ImageSeries, PlaneSegmentation, RoiResponseSeries, TwoPhotonSeries

from nwb_sbtt.config import RoiConfig
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.io.read.indices import check_real, ragged_column
from nwb_sbtt.io.read.tables import plain_column

CENTROID_COLUMNS = ("ROICentroids", "RoiCentroid", "ROICentroid", "RoiCentroids", "centroid", "centroids")
"""Columns (ROI, x y …) of centroids in pixels, as they are called in published files."""
PIXEL_COLUMNS = ("pixel_mask", "voxel_mask")
"""Columns of lists of weighted pixels."""
SUITE2P_TEXTS = r"suite2p output$|ROIs for plane\d+$"
"""How suite2p's own export describes its tables of ROIs, and the rows of its series."""


@dataclass(frozen=True)
class SamplingOffsets:
    """Seconds (ROI) from the time of a frame to the moment each ROI was sampled, and notes on where they come from.

    Parameters
    ----------
    seconds : array (ROI)
    notes : tuple of str
        One-line remarks for the user.
    """

    seconds: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def check_offsets(offsets: ArrayLike, *, n_rois: int, period: float | None) -> SamplingOffsets:
    """Check an array of offsets that a user passes.

    Parameters
    ----------
    offsets : float or array (ROI)
        Seconds; one number for all ROIs, as those of a plane in a volume.
    n_rois : int
        Number of ROIs of the series.
    period : float or None
        Seconds from one frame to the next, if that is known.

    Raises
    ------
    DataError
        If there are not `n_rois`, one is not finite, or one lies outside the frame.
    """
    given = np.full(n_rois, offsets) if np.ndim(offsets) == 0 else offsets
    seconds = _checked(given, n_rois=n_rois, period=period, origin="offsets")
    return SamplingOffsets(seconds, ("sampling offsets passed",))


def column_offsets(
    table: PlaneSegmentation, rows: NDArray[np.intp], *, name: str, period: float | None
) -> SamplingOffsets:
    """Read the offsets from a column of the table of ROIs.

    Parameters
    ----------
    table : pynwb.ophys.PlaneSegmentation
    rows : int array (ROI)
        Row of each ROI.
    name : str
        Of a column in seconds.
    period : float or None
        Seconds from one frame to the next, if that is known.

    Raises
    ------
    SelectionError
        If there is no such column, or it does not hold one value per ROI.
    DataError
        As for `check_offsets`.
    """
    if name not in table.colnames:
        raise SelectionError(
            f"{table.name!r} has no column {name!r} of sampling offsets; its columns are {list(table.colnames)}; name "
            "one in read.rois.offset_column, pass read_nwb(offsets=…) (--offsets), or use read.rois.offset=none or centroid"
        )
    seconds = plain_column(table, name)[rows]
    checked = _checked(seconds, n_rois=len(rows), period=period, origin=f"column {name!r} of {table.name!r}")
    return SamplingOffsets(checked, (f"sampling offsets from column {name!r} of {table.name!r}",))


def centroid_offsets(
    nwbfile: Any, table: Any, rows: NDArray[np.intp], *, config: RoiConfig, period: float | None
) -> SamplingOffsets:
    """Compute the offsets: the line of each ROI's centroid divided by the scan-line rate.

    Nothing is guessed: the slow axis must be set, and the scan-line rate must be set or be that of a TwoPhotonSeries of the
    same imaging plane, or of the LineScan of a segmentation of ndx-microscopy.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    table : pynwb.ophys.PlaneSegmentation or a segmentation of ndx-microscopy
    rows : int array (ROI)
        Row of each ROI.
    config : RoiConfig
    period : float or None
        Seconds from one frame to the next, if that is known.

    Raises
    ------
    SelectionError
        If the slow axis or the scan-line rate is not known, or the table has neither masks nor centroids.
    DataError
        If a mask does not fit the images, or an ROI would be sampled after the end of its frame.
    """
    if config.slow_axis is None:
        raise SelectionError(
            "read.rois.offset=centroid needs read.rois.slow_axis=x or y, the direction in which the scanner steps from line "
            "to line; NWB files do not state it"
        )
    plane, space = getattr(table, "imaging_plane", None), imaging_space(table)
    images = [
        series
        for series in nwbfile.objects.values()
        if isinstance(series, TwoPhotonSeries) and plane is not None and series.imaging_plane is plane
    ]
    images += [series for series in getattr(table, "reference_images", None) or () if isinstance(series, ImageSeries)]
    rate = config.scan_line_rate or _scan_line_rate(images, table)
    dimension = _dimension(images) if space is None else _dimension_of_space(space)
    order: str | None = config.mask_order
    if any(name in table.colnames for name in PIXEL_COLUMNS) and is_suite2p_export(nwbfile, table):
        order, dimension = order or "suite2p", None if dimension is None else dimension[::-1]
    lines, notes = _centroid_lines(table, rows, slow_axis=config.slow_axis, dimension=dimension, order=order)
    origin = f"the {config.slow_axis} of the centroids in {table.name!r} divided by {rate:g} lines/s"
    seconds = _checked(lines / rate, n_rois=len(rows), period=period, origin=origin)
    return SamplingOffsets(seconds, (f"sampling offsets from {origin}", *notes))


def is_suite2p_export(nwbfile: Any, table: Any) -> bool:
    """Tell whether suite2p itself wrote a table of ROIs: with y before x, in masks and in the size of the images.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    table : pynwb.ophys.PlaneSegmentation
    """
    texts = [str(table.description)]
    texts += [
        str(series.rois.description)
        for series in nwbfile.objects.values()
        if isinstance(series, RoiResponseSeries) and series.rois is not None and series.rois.table is table
    ]
    return any(re.match(SUITE2P_TEXTS, text) for text in texts)


def _checked(offsets: ArrayLike, *, n_rois: int, period: float | None, origin: str) -> NDArray[np.float64]:
    try:
        seconds = np.asarray(offsets, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{origin}: sampling offsets must be numbers of seconds, one per ROI") from None
    if seconds.shape != (n_rois,):
        raise DataError(f"{origin}: shape {seconds.shape}; expected one offset in seconds for each of {n_rois} ROIs")
    if not np.isfinite(seconds).all():
        raise DataError(f"{origin}: {int((~np.isfinite(seconds)).sum())} of {n_rois} offsets are not finite")
    if (seconds < 0).any() or (period is not None and (seconds >= period).any()):
        frame = "the frame period" if period is None else f"the frame period of {period:g} s"
        raise DataError(
            f"{origin}: offsets run from {seconds.min():g} to {seconds.max():g} s; each must be at least 0 and less "
            f"than {frame}; check whether they are in milliseconds, and the scan-line rate"
        )
    return seconds


def imaging_space(table: Any) -> Any:
    """Return the imaging space of a segmentation of ndx-microscopy; None for a PlaneSegmentation.

    Parameters
    ----------
    table : hdmf.common.DynamicTable
    """
    return getattr(table, "planar_imaging_space", None) or getattr(table, "volumetric_imaging_space", None)


def _dimension_of_space(space: Any) -> tuple[int, ...] | None:
    """Pixels on x and y of an imaging space of ndx-microscopy; None where it does not state them."""
    stored = next((getattr(space, name, None) for name in ("dimensions_in_pixels", "dimensions_in_voxels")), None)
    return None if stored is None else tuple(int(size) for size in stored[:2])


def _scan_line_rate(images: list[Any], table: Any) -> float:
    rates = {float(series.scan_line_rate) for series in images if getattr(series, "scan_line_rate", None)}
    scan = getattr(imaging_space(table), "illumination_pattern", None)
    line_rate = getattr(scan, "line_rate_in_Hz", None)
    rates |= {float(line_rate)} if line_rate else set()
    rates = {rate for rate in rates if np.isfinite(rate) and rate > 0}
    if len(rates) == 1:
        return rates.pop()
    reason = (
        "no TwoPhotonSeries of its imaging plane has one" if not rates else f"the file has several: {sorted(rates)}"
    )
    raise SelectionError(
        f"read.rois.offset=centroid needs the scan-line rate of {table.name!r}, and {reason}; pass it in "
        "read.rois.scan_line_rate (lines per second: frame rate times lines per frame, flyback lines included)"
    )


def _dimension(images: list[Any]) -> tuple[int, ...] | None:
    """Pixels on x and y of the images on which the ROIs were drawn; None where the file does not state them."""
    for series in images:
        if series.dimension is not None and len(series.dimension) >= 2:
            return tuple(int(size) for size in series.dimension[:2])
        shape = getattr(series.data, "shape", ())
        if len(shape) >= 3 and min(shape[1:3]) > 0:
            return tuple(int(size) for size in shape[1:3])
    return None


def _centroid_lines(
    table: Any, rows: NDArray[np.intp], *, slow_axis: str, dimension: tuple[int, ...] | None, order: str | None
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Position (ROI) of the centroids on the slow axis, in lines, with notes on how masks were read."""
    axis = "xy".index(slow_axis)
    notes: tuple[str, ...] = ()
    pixels = next((name for name in PIXEL_COLUMNS if name in table.colnames), None)
    centroids = next((name for name in CENTROID_COLUMNS if name in table.colnames), None)
    if pixels is not None:
        masks = ragged_column(table, pixels, path=table.name)
        parts = [masks.values[masks.bounds[row] : masks.bounds[row + 1]] for row in rows]
        centres = np.array([_pixel_centroid(part) for part in parts]).reshape(-1, 2)
        if order is None and dimension is not None and (centres >= dimension).any(axis=0).any():
            order = "images" if (centres < dimension[::-1]).all() else None
        lines, notes = centres[:, axis if order in (None, "xy") else 1 - axis], _note_on_order(pixels, order)
    elif "image_mask" in table.colnames:
        y_first = imaging_space(table) is not None
        lines, notes = _image_centroids(
            table["image_mask"].data, rows, axis=axis, dimension=dimension, y_first=y_first, order=order
        )
    elif centroids is not None:
        positions = np.asarray(table[centroids].data[:])
        if positions.ndim != 2 or positions.shape[1] < 2 or len(positions) != len(table):
            raise DataError(
                f"column {centroids!r} of {table.name!r} has shape {positions.shape}; expected (ROI, x y …) for "
                f"{len(table)} ROIs"
            )
        check_real(positions, f"column {centroids!r} of {table.name!r}")
        lines = positions[rows, axis].astype(np.float64)
    else:
        raise SelectionError(
            f"read.rois.offset=centroid needs a pixel_mask, voxel_mask, image_mask or centroid column; {table.name!r} "
            f"has {list(table.colnames)}"
        )
    if dimension is not None and (lines >= dimension[axis]).any():
        raise DataError(
            f"a centroid of {table.name!r} lies at {slow_axis} = {np.max(lines):g}, which is outside the image (x, y "
            f"= {dimension}); check read.rois.slow_axis and read.rois.mask_order"
        )
    return lines, notes


def _note_on_order(column: str, order: str | None) -> tuple[str, ...]:
    reasons = {
        "images": "because only this order matches the size of the images",
        "suite2p": (
            "as the NWB export of suite2p writes them; if they are (x, y), as NWB defines them, set "
            "read.rois.mask_order=xy"
        ),
    }
    return (f"{column} read as (y, x), {reasons[order]}",) if order in reasons else ()


def _pixel_centroid(mask: Any) -> tuple[float, float]:
    """Weighted means of the first two coordinates of a list of pixels (x, y, [z,] weight)."""
    mask = np.asarray(mask)
    if mask.dtype.names:
        columns = [mask[name] for name in ("x", "y", mask.dtype.names[-1])]
    else:
        mask = np.array([tuple(pixel) for pixel in mask], dtype=float).reshape(len(mask), -1)
        columns = [mask[:, 0], mask[:, 1], mask[:, -1]]
    first, second, weights = (column.astype(float) for column in columns)
    return _weighted_mean(first, weights), _weighted_mean(second, weights)


def _weighted_mean(positions: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Weighted mean; NaN, which is refused later, where a mask is empty."""
    return float(np.average(positions, weights=weights)) if weights.sum() > 0 else float("nan")


def _image_centroids(
    masks: Any,
    rows: NDArray[np.intp],
    *,
    axis: int,
    dimension: tuple[int, ...] | None,
    y_first: bool,
    order: str | None,
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    stored = tuple(int(size) for size in np.shape(masks))
    if len(stored) < 3 or stored[0] <= int(rows.max(initial=0)):
        raise DataError(
            f"image_mask has shape {stored}; expected (ROI, x, y …) for {int(rows.max(initial=0)) + 1} ROIs"
        )
    shape = stored[1:3]
    note = "image_mask read as (roi, x, y), as NWB defines it"
    if y_first:
        axis, note = 1 - axis, "image_mask read as (roi, y, x), as ndx-microscopy defines it"
        dimension = None if dimension is None else dimension[::-1]
        if dimension is not None and shape != dimension:
            raise DataError(f"image_mask holds images of {shape} pixels, but the imaging space has y, x = {dimension}")
    elif order == "yx":
        axis, note = 1 - axis, "image_mask read as (roi, y, x), as set by read.rois.mask_order"
    elif dimension is not None and shape != dimension:
        if shape != dimension[::-1]:
            raise DataError(f"image_mask holds images of {shape} pixels, but the imaging series has x, y = {dimension}")
        axis, note = 1 - axis, f"image_mask is stored (roi, y, x): its {shape} is x, y = {dimension} reversed"
    lines = np.empty(len(rows))
    for roi, row in enumerate(rows):
        image = np.asarray(masks[int(row)], dtype=float)
        other_axes = tuple(other for other in range(image.ndim) if other != axis)
        lines[roi] = _weighted_mean(np.arange(image.shape[axis], dtype=float), image.sum(axis=other_axes))
    return lines, (note,)
