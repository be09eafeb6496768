"""Readers by neurodata type, and how another package adds one.

A reader prepares an object of an NWB file for reading: a function from the open file, the object and the settings to a
`nwb_sbtt.data.grid.Source`. It is registered under the name of a neurodata type and reads the objects of that type and of
all types derived from it; of several that fit, the one of the most derived type is used. A few lines add a type::

    from nwb_sbtt.io.read.neurodata import reader
    from nwb_sbtt.io.read.rois import RoiSource, roi_source


    @reader("VoltageImagingSeries", kind="rois")
    def voltage_source(nwbfile, series, config, *, offsets=None) -> RoiSource:
        return roi_source(nwbfile, series, config, offsets=offsets, rois=series.cells)

The decorator is enough in a script or a notebook. A package names its reader in ``pyproject.toml``, and nothing has to be
imported by hand::

    [project.entry-points."nwb_sbtt.readers"]
    VoltageImagingSeries = "my_package:voltage_source"

Objects of the type are then listed by `inspect`, chosen by ``series`` and read by `read_nwb` like those of the package. A
type that resembles none of the package's needs a source of its own: a class with the members of `nwb_sbtt.data.grid.Source`,
of which `nwb_sbtt.io.read.timeseries.TimeSeriesSource` is a short example. A reader raises `DataError` if an object cannot be
read; `inspect` lists the object with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from nwb_sbtt.data.grid import Kind, Source
from nwb_sbtt.data.intervals import Intervals
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.io.read.description import Candidate
from nwb_sbtt.io.read.layout import not_samples
from nwb_sbtt.registry import Registry

P = ParamSpec("P")
S_co = TypeVar("S_co", bound=Source, covariant=True)
Describe: TypeAlias = Callable[[Candidate, Any, Intervals], Candidate]

WITHOUT_READER = {
    "DecompositionSeries": "power or phase per band (time, channel, band); write the band that you want to fit as a TimeSeries",
    "EventWaveform": "a container of SpikeEventSeries: snippets of voltage around events, not a continuous signal",
    "ImageSeries": "images, not one number per channel; read a series extracted from them, such as a RoiResponseSeries",
    "IndexSeries": "numbers of images that were shown, not a signal; a column of a table of trials can hold them",
    "IntervalSeries": "starts and stops of intervals, not a signal; write them as a table of intervals for --trials",
    "SpikeEventSeries": "snippets of voltage around events, not a continuous signal; read the units, or the ElectricalSeries "
    "they were cut from",
}
"""Types of signals whose data are not one number per channel at each time, and what to read in their place.
Nothing reads them by default."""


class Reader(Generic[P, S_co]):
    """A function that prepares objects of a neurodata type for reading, and what is known of them before.

    A reader is called like the function that it wraps.

    Parameters
    ----------
    source : callable (nwbfile, nwb_object, config) -> Source
        Takes the open `pynwb.NWBFile`, the object and a `ReadConfig`. One of kind "rois" takes ``offsets`` by keyword too:
        seconds from the time of each frame to the moment each ROI was sampled, an array (ROI) or None.
    kind : "units", "electrodes", "rois" or "series"
        What a channel is.
    default : bool or callable (nwb_object) -> bool
        Whether an object is read without being named, if it is the only such object of the file.
    readable : callable (nwb_object) -> bool, optional
        Whether an object can be read at all; one that cannot is listed as such. Default: every object can.
    describe : callable (candidate, nwb_object, invalid_times) -> Candidate, optional
        Completes what `inspect` lists of an object, as `nwb_sbtt.io.read.description.describe_samples` does for samples.
        ``invalid_times`` is an array (interval, 2), seconds. Default: span, sampling rate and channels of the source.
    """

    def __init__(
        self,
        source: Callable[P, S_co],
        *,
        kind: Kind,
        default: bool | Callable[[Any], bool] = True,
        readable: Callable[[Any], bool] | None = None,
        describe: Describe | None = None,
    ) -> None:
        self._source = source
        self.kind: Kind = kind
        self.default = default
        self._readable = readable
        self.describe = describe
        update_wrapper(self, source)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> S_co:
        """Prepare an object for reading."""
        return self._source(*args, **kwargs)

    def is_readable(self, nwb_object: Any) -> bool:
        """Tell whether an object can be read at all.

        Parameters
        ----------
        nwb_object : pynwb object
            Of the reader's neurodata type.

        Returns
        -------
        bool
        """
        return self._readable is None or self._readable(nwb_object)

    def is_default(self, nwb_object: Any) -> bool:
        """Tell whether an object is read without being named, if it is the only such object of the file.

        Parameters
        ----------
        nwb_object : pynwb object
            Of the reader's neurodata type.

        Returns
        -------
        bool
        """
        return self.default if isinstance(self.default, bool) else self.default(nwb_object)


READERS: Registry[Reader[..., Source]] = Registry(
    "reader of the neurodata type",
    "nwb_sbtt.readers",
    {
        "Units": "nwb_sbtt.io.read.units:units_source",
        "ElectricalSeries": "nwb_sbtt.io.read.voltages:electrical_source",
        "RoiResponseSeries": "nwb_sbtt.io.read.rois:roi_source",
        "MicroscopyResponseSeries": "nwb_sbtt.io.read.rois:roi_source",
        "TimeSeries": "nwb_sbtt.io.read.timeseries:timeseries_source",
    },
)
"""Readers by name of the neurodata type."""


def reader(
    neurodata_type: str,
    *,
    kind: Kind,
    default: bool | Callable[[Any], bool] = True,
    readable: Callable[[Any], bool] | None = None,
    describe: Describe | None = None,
) -> Callable[[Callable[P, S_co]], Reader[P, S_co]]:
    """Register the decorated function as the reader of a neurodata type.

    Parameters
    ----------
    neurodata_type : str
        Name of the type, without its namespace, such as "VoltageImagingSeries".
    kind, default, readable, describe
        As for `Reader`.

    Raises
    ------
    ConfigError
        If the type has another reader.
    """

    def register(source: Callable[P, S_co]) -> Reader[P, S_co]:
        registered = Reader(source, kind=kind, default=default, readable=readable, describe=describe)
        READERS.register(neurodata_type, registered)
        return registered

    return register


def reader_of(neurodata_class: type) -> Reader[..., Source] | None:
    """Find the reader of a class of neurodata: that of its most derived type, None where it has none.

    Parameters
    ----------
    neurodata_class : type
        Class of an object of a file, such as `pynwb.ophys.RoiResponseSeries`.

    Raises
    ------
    ConfigError
        If the reader is one of a package that cannot be imported, or its entry point names something else.
    """
    for neurodata_type in neurodata_types(neurodata_class):
        if neurodata_type in READERS:
            return _registered(neurodata_type)
        if neurodata_type in WITHOUT_READER:
            return None
    return None


def neurodata_types(neurodata_class: type) -> Iterator[str]:
    """Return the names of a class's neurodata type and of those it derives from, the most derived first.

    Parameters
    ----------
    neurodata_class : type
        Class of an object of a file.
    """
    for base in neurodata_class.__mro__:
        yield base.__dict__.get("neurodata_type") or base.__name__


def why_unreadable(nwb_object: Any) -> str | None:
    """Say why nothing reads a series.

    Parameters
    ----------
    nwb_object : neurodata object

    Returns
    -------
    str or None
        None where a reader reads it, and for objects that are no series.

    Raises
    ------
    ConfigError
        As `reader_of`.
    """
    registered = reader_of(type(nwb_object))
    types = list(neurodata_types(type(nwb_object)))
    reason = next((WITHOUT_READER[name] for name in types if name in WITHOUT_READER), None)
    if "TimeSeries" not in types and reason is None:
        return None
    if registered is not None and registered.is_readable(nwb_object):
        return None
    if registered is None and reason is not None:
        return reason
    unlike_samples = not_samples(nwb_object)
    return f"its data {unlike_samples}" if unlike_samples else f"the reader of {types[0]} does not read it"


def default_types() -> list[str]:
    """Return the names of the neurodata types whose objects are read without being named."""
    return [name for name in READERS.names() if _registered(name).default is not False]


def holds_numbers(series: Any) -> bool:
    """Tell whether the data of a series are one number per channel at each time.

    Parameters
    ----------
    series : pynwb.TimeSeries
        Its data may be of any type and shape; they are not read.

    Returns
    -------
    bool
        True for numbers of shape (time,) or (time, channel).
    """
    return not_samples(series) is None


def _registered(neurodata_type: str) -> Reader[..., Source]:
    registered = READERS[neurodata_type]
    if not isinstance(registered, Reader):
        raise ConfigError(
            f"the entry point {neurodata_type!r} of {READERS.group!r} does not point to a reader; expected a function "
            "decorated with nwb_sbtt.io.read.neurodata.reader"
        )
    return registered
