"""`write_mask`: a copy of a recording that says which of its samples were measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hdmf.common import DynamicTableRegion
from ndx_sbtt import ObservationMaskSeries
from numpy.typing import ArrayLike, NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.misc import Units

from nwb_sbtt.atomic import atomic_write, reserve_space
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.data.datasets import finite_number
from nwb_sbtt.errors import ConfigError, DataError, FileError, SelectionError
from nwb_sbtt.fileerrors import follow_links, path_of
from nwb_sbtt.io.dandi.locations import local_file
from nwb_sbtt.io.read.clock import sample_clock
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.indices import region_rows
from nwb_sbtt.io.read.layout import sample_layout
from nwb_sbtt.io.read.outside import outside_of
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.read.selection import find_series, select
from nwb_sbtt.io.read.tables import table_region
from nwb_sbtt.io.read.units import recorded_span
from nwb_sbtt.io.write.appending import add_to_copy, problems_of, refuse_invalid
from nwb_sbtt.io.write.packing import FILE_BYTES, pack_hdf5
from nwb_sbtt.io.write.session import find_object, get_object
from nwb_sbtt.io.write.writer import check_target

DESCRIPTION = "1 where the channel was measured at that time, 0 where it was not."
HIDES_ALL = "expected 1 where it was measured; if 1 means missing in your array, pass 1 - array"


def write_mask(
    path: Path | str,
    observed: ArrayLike,
    *,
    out: Path | str,
    series: str | None = None,
    rate: float | None = None,
    starting_time: float | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Copy a recording and add an ObservationMaskSeries, the mask of the measured samples of a series.

    `read_nwb` and `nwb-sbtt fit` then treat the other samples as missing.

    Parameters
    ----------
    path : path
        Recording (HDF5), which stays as it is.
    observed : bool array (sample, channel), or of 0 and 1
        True or 1 where a sample of a channel was measured; channels in the order of the columns. For units: (bin, unit), with
        the clock of the mask.
    out : path
        Path of the copy. It may equal `path` only with `overwrite`.
    series : str, optional
        In-file path of the series, or "units". Default: the only series of the file.
    rate, starting_time : float, optional
        Clock of the mask, in Hz and seconds on the session clock. Default: the clock of the series. Needed for units, and for
        masks with a lower sampling rate than the series. A mask sample is valid for the period that begins at its time. What of
        the recording lies before or after the mask counts as observed.
    name : str, optional
        Default: the name of the series followed by "_mask".
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Path of the copy.

    Raises
    ------
    FileError
        If the file cannot be read or copied, or the copy exists.
    SelectionError
        If there is no such series, or the file has several and `series` is not given.
    DataError
        If the mask has values other than true and false, or a different shape than the series, lies wholly before or after
        the recording, or hides all of it.
    ConfigError
        If the clock is missing, only half of it is given, the rate is not above 0, or nothing in a file can have the name.

    Examples
    --------
    >>> write_mask("recording.nwb", observed, series="acquisition/lfp", out="masked.nwb")  # doctest: +SKIP
    """
    mask = _mask(observed)
    recording, target = local_file(path).absolute(), path_of(out, "the path of the copy").absolute()
    target = follow_links(target)
    check_target(target, source=recording, append=True, overwrite=overwrite)
    if target == recording.resolve() and not overwrite:
        raise FileError(f"{str(out)!r} is the recording itself; name a copy, or pass overwrite=True (--overwrite)")
    if (rate is None) != (starting_time is None):
        raise ConfigError("pass both `rate` and `starting_time` of the mask (--rate, --starting-time), or neither")
    if name is not None and (not name.strip() or set(name) & set("/:")):
        raise ConfigError(f"name is {name!r}; expected a name without '/' and ':' (--name), for example 'lfp_mask'")
    clock = None if rate is None or starting_time is None else _clock(rate, starting_time)
    with open_nwb(recording, external_data=True) as nwb:
        chosen = select(find_series(nwb), None if series is None else [series])
        if len(chosen) > 1:
            raise SelectionError(f"{series!r} names {len(chosen)} series; a mask needs exactly one")
        series_path = chosen[0].path
        _check_fits(nwb, chosen[0].nwb_object, series_path, mask, clock=clock)
        if clock is None and not mask.any():
            raise DataError(f"the mask hides every sample of {series_path!r}; {HIDES_ALL}")
        if clock is not None:
            _check_overlaps(chosen[0].nwb_object, series_path, mask=mask, clock=clock)
        mask_name = name or f"{series_path.rsplit('/', 1)[-1]}_mask"
        if find_object(nwb, f"acquisition/{mask_name}") is not None:
            raise FileError(f"the recording already has 'acquisition/{mask_name}'; pass another name (--name)")
        outside = outside_of(nwb)

    def add(nwb: NWBFile) -> None:
        nwb.add_acquisition(_mask_series(get_object(nwb, series_path), mask, name=mask_name, clock=clock))

    with atomic_write(target, suffix=target.suffix, parents=True) as temporary:
        shutil.copyfile(recording, temporary)
        reserve_space(temporary, mask.size + FILE_BYTES)
        with h5py.File(temporary, "r+") as file:
            add_to_copy(file, add, outside, name=recording.name, instead="export it with pynwb, and mask that file")
        refuse_invalid(problems_of(temporary, recording))
    return target


def _mask(observed: ArrayLike) -> NDArray[np.uint8]:
    mask = np.asarray(observed)
    if mask.ndim != 2 or mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise DataError(
            f"the mask has shape {mask.shape} and contains {_contents(mask)}; expected true or false (1 or 0) for each "
            "(sample, channel)"
        )
    return mask.astype(np.uint8)


def _contents(mask: NDArray[Any]) -> str:
    other = mask[~np.isin(mask, (0, 1))] if mask.dtype.kind in "biuf" else mask[:0]
    return f"{other[0]:g}" if other.ndim == 1 and len(other) else str(mask.dtype)


def _clock(rate: float, starting_time: float) -> tuple[float, float]:
    per_second, start = finite_number(rate), finite_number(starting_time)
    if per_second is None or not per_second > 0:
        raise ConfigError(f"rate is {rate!r}; expected a number of Hz above 0 (--rate)")
    if start is None:
        raise ConfigError(f"starting_time is {starting_time!r}; expected seconds (--starting-time)")
    return per_second, start


def _check_overlaps(item: Any, path: str, *, mask: NDArray[np.uint8], clock: tuple[float, float]) -> None:
    """Refuse a mask that has no moment in common with the recording, so that it would hide nothing; and one that hides all."""
    n_samples = len(mask)
    first, last = clock[1], clock[1] + n_samples / clock[0]
    if isinstance(item, Units):
        start, stop = recorded_span(item, path, ReadConfig())
    else:
        start, stop = sample_clock(item, n_samples=sample_layout(item).n_samples).span
    if min(last, stop) <= max(first, start):
        raise DataError(
            f"the mask runs from {first:g} to {last:g} s, but {path!r} from {start:g} to {stop:g} s; expected a mask that "
            "overlaps the recording; check `rate` (--rate) in Hz and `starting_time` (--starting-time) in seconds "
            "on the session clock"
        )
    if not mask.any() and first <= start and stop <= last:
        raise DataError(f"the mask hides all of {path!r}, from {start:g} to {stop:g} s; {HIDES_ALL}")


def _region(item: Any) -> tuple[Any, NDArray[np.intp]] | None:
    """Table of the channels of a series, and its row for each of them."""
    if isinstance(item, Units):
        return item, np.arange(len(item))
    region = table_region(item)
    return None if region is None else (region.table, region_rows(region, path=item.name))


def _check_fits(
    nwb: NWBFile, item: Any, path: str, mask: NDArray[np.uint8], *, clock: tuple[float, float] | None
) -> None:
    found = _region(item)
    if found is None:
        raise DataError(
            f"{path!r} has no table of channels for a mask to refer to; instead store NaN where nothing was measured"
        )
    n_channels = len(found[1])
    if isinstance(item, Units):
        if clock is None:
            raise ConfigError(
                "units have no samples: pass `rate` and `starting_time` of the mask (--rate, --starting-time)"
            )
        expected: tuple[int | str, int] = ("bin", n_channels)
    else:
        expected = ("sample" if clock else sample_layout(item).n_samples, n_channels)
    if mask.shape[1] != n_channels or (isinstance(expected[0], int) and mask.shape[0] != expected[0]):
        shape = f"({expected[0]}, {n_channels})"
        raise DataError(
            f"the mask has shape {mask.shape}, {path!r} needs {shape}: one row per sample and one column per channel "
            f"of {in_file_path(nwb, found[0])!r}; for a mask with other sample times pass `rate` and `starting_time`"
        )


def _mask_series(
    item: Any, mask: NDArray[np.uint8], *, name: str, clock: tuple[float, float] | None
) -> ObservationMaskSeries:
    found = _region(item)
    assert found is not None  # checked before the copy was made
    table, rows = found
    timing: dict[str, Any]
    if clock is not None:
        timing = {"rate": clock[0], "starting_time": clock[1]}
    elif item.rate is not None:
        timing = {"rate": item.rate, "starting_time": item.starting_time}
    else:
        timing = {"timestamps": item}
    return ObservationMaskSeries(
        name=name,
        description=DESCRIPTION,
        data=pack_hdf5(mask),
        unit="n/a",
        channels=DynamicTableRegion(name="channels", data=rows.tolist(), description="measured channels", table=table),
        **({"source_timeseries": item} if isinstance(item, TimeSeries) else {}),
        **timing,
    )
