"""Copy the session's metadata and channel tables from a recording into a new file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, EnumData, VectorData, VectorIndex
from hdmf.utils import get_docval
from numpy.typing import NDArray
from pynwb import NWBFile, get_type_map
from pynwb.base import TimeSeriesReferenceVectorData
from pynwb.device import Device, DeviceModel
from pynwb.ecephys import ElectrodeGroup, ElectrodesTable
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units
from pynwb.ophys import ImageSegmentation, ImagingPlane, OpticalChannel, PlaneSegmentation

from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.fileerrors import FileErrors
from nwb_sbtt.io.read.indices import ragged_column, region_rows
from nwb_sbtt.io.read.outside import is_outside
from nwb_sbtt.io.read.paths import in_file_path
from nwb_sbtt.io.write.packing import Backend

_SESSION = (
    *("session_description", "session_start_time", "timestamps_reference_time", "session_id", "experimenter"),
    *("experiment_description", "institution", "lab", "keywords", "notes", "pharmacology", "protocol"),
    *("related_publications", "slices", "data_collection", "surgery", "virus", "stimulus_notes"),
)
_CORE = (Device, DeviceModel, ElectrodeGroup, ImagingPlane, OpticalChannel, Subject)
_RAGGED = ("spike_times", "obs_intervals", "electrodes", "tags")
"""Columns with several values a row that are copied; of tables of intervals all are."""
_FLOATS = ("float", "float32", "double", "float64", "numeric")
_WIDEST = 4
"""Widest two-dimensional column that is copied: centroids are, masks and waveforms stay in the source."""


def get_object(nwbfile: NWBFile, path: str) -> Any:
    """Return the object at an in-file path.

    Parameters
    ----------
    nwbfile : NWBFile
    path : str

    Raises
    ------
    SelectionError
        If there is none.
    """
    item = find_object(nwbfile, path)
    if item is None:
        raise SelectionError(f"the file has no {path!r}; pass the file that the results were inferred from")
    return item


def find_object(nwbfile: NWBFile, path: str) -> Any:
    """Return the object at an in-file path, or None.

    Parameters
    ----------
    nwbfile : NWBFile
    path : str
    """
    last = path.rsplit("/", 1)[-1]
    named = (item for item in nwbfile.objects.values() if item.name == last and item is not nwbfile)
    return next((item for item in named if in_file_path(nwbfile, item) == path), None)


def derived_file(source: NWBFile, notes: list[str]) -> NWBFile:
    """Make a file of the same session and subject, with a new identifier and no data.

    Parameters
    ----------
    source : NWBFile
    notes : list of str
        Gets a remark on each field that cannot be carried.

    Returns
    -------
    NWBFile
    """
    fields = {key: _plain(source.fields[key]) for key in _SESSION if source.fields.get(key) is not None}
    derived = _make(NWBFile, {"identifier": str(uuid4()), **fields}, {}, "the session", notes)
    if source.subject is not None:
        try:
            derived.subject = _copy(source.subject, notes)
        except DataError as error:
            notes.append(f"the result is without the subject of the recording: {error}")
    return derived


class TableCopier:
    """Copies tables from one file to another, each once and with everything that it links to.

    All rows are copied, so that a row number means the same in both files. Columns that cannot be carried are left out.

    Parameters
    ----------
    source, derived : NWBFile
    notes : list of str
        Gets a remark on each column, and each field of what a table links to, that is left out.
    backend : Backend
        Stores the columns.
    spikes : bool
        Whether spike times are copied.
    most_values : int, optional
        Most values of a ragged column that are copied once all have been read; for a rehearsal.
    """

    def __init__(
        self,
        source: NWBFile,
        derived: NWBFile,
        notes: list[str],
        *,
        backend: Backend,
        spikes: bool = True,
        most_values: int | None = None,
    ) -> None:
        self._source = source
        self._derived = derived
        self._notes = notes
        self._pack = backend.pack_column
        self._spikes = spikes
        self._most_values = most_values
        self._copies: dict[int, Any] = {}

    def table(self, item: DynamicTable) -> DynamicTable:
        """Copy a table of the source into the derived file, at the same path.

        Parameters
        ----------
        item : DynamicTable
            Of the source.

        Returns
        -------
        DynamicTable
            Of the derived file.

        Raises
        ------
        DataError
            If the copy would lack a column that its type requires, or something that it links to.
        """
        return self._once(item, self._new_table)

    def _new_table(self, item: DynamicTable) -> DynamicTable:
        if self._is_electrodes(item):
            copy = self._copy_as(ElectrodesTable, item)
            self._derived.electrodes = copy
        elif isinstance(item, Units):
            copy = self._copy_as(Units, item, **({} if item.resolution is None else {"resolution": item.resolution}))
            if item is self._source.units:
                self._derived.units = copy
            else:
                self._add_at_path(item, copy)
        elif isinstance(item, PlaneSegmentation):
            plane = self._once(item.imaging_plane, self._new_plane)
            copy = self._copy_as(PlaneSegmentation, item, self._masks(item), imaging_plane=plane)
            self._add_at_path(item, copy)
        elif isinstance(item, TimeIntervals):
            copy = self._copy_as(TimeIntervals, item)
            if item is self._source.trials:
                self._derived.trials = copy
            else:
                self._derived.add_time_intervals(copy)
        else:
            copy = self._copy_as(DynamicTable, item)
            self._add_at_path(item, copy)
        return copy

    def _is_electrodes(self, item: Any) -> bool:
        return item is not None and item is self._source.electrodes

    def _copy_as(
        self, table_type: type[DynamicTable], item: DynamicTable, extra: Iterable[VectorData] = (), **more: Any
    ) -> DynamicTable:
        columns = [*self._columns(item, table_type), *extra]
        names = [column.name for column in columns if not isinstance(column, VectorIndex)]
        required = {column["name"] for column in table_type.__columns__ if column.get("required")}
        if lacking := sorted(required - set(names)):
            raise DataError(f"the table {item.name!r} has no {lacking[0]!r} that can be read")
        parameters = {parameter["name"] for parameter in get_docval(table_type.__init__)}
        texts = {key: getattr(item, key) for key in ("name", "description") if key in parameters}
        return table_type(id=self._pack(np.asarray(item.id[:])), columns=columns, colnames=names, **texts, **more)

    def _columns(self, item: DynamicTable, table_type: type[DynamicTable]) -> list[VectorData]:
        """Copy the columns that are plain and narrow, and a few of the ragged ones."""
        columns: list[VectorData] = []
        indexes = {column.target.name: column for column in item.columns if isinstance(column, VectorIndex)}
        for column in item.columns:
            index = indexes.get(column.name)
            ragged = column.name in _RAGGED or table_type is TimeIntervals
            if isinstance(column, VectorIndex) or (index is not None and not ragged):
                continue
            try:
                columns += self._column(item, column, table_type, ragged=index is not None)
            except DataError as error:
                self._notes.append(
                    f"the result is without the column {column.name!r} of {in_file_path(self._source, item)!r}: {error}"
                )
        return columns

    def _column(
        self, item: DynamicTable, column: VectorData, table_type: type[DynamicTable], *, ragged: bool
    ) -> list[VectorData]:
        """Copy one column with its index, if it is plain or links to electrodes or their groups; else nothing."""
        if is_outside(column.data, self._source) or is_outside(column, self._source):
            return []
        if isinstance(column, EnumData | TimeSeriesReferenceVectorData):
            return []
        if column.name == "spike_times" and isinstance(item, Units) and not self._spikes:
            return []
        values = self._values(item, column, table_type)
        if values is None:
            return []
        path = in_file_path(self._source, item)
        ends = ragged_column(item, column.name, path=path).bounds[1:] if ragged else None
        if ends is None and column.name in {each["name"] for each in table_type.__columns__ if each.get("index")}:
            # MatNWB leaves the index out where every row has one value; NWB requires it of these columns.
            ends = np.arange(1, len(values) + 1)
        n_rows = len(values) if ends is None else len(ends)
        if n_rows != len(item.id):
            raise DataError(f"it has {n_rows} rows, but the table has {len(item.id)}")
        if ends is not None and self._most_values is not None:
            values, ends = values[: self._most_values], np.minimum(ends, self._most_values)
        texts = {"name": column.name, "description": column.description}
        copy = (
            DynamicTableRegion(data=self._pack(values), table=self.table(column.table), **texts)
            if isinstance(column, DynamicTableRegion)
            else VectorData(data=self._pack(values), **texts)
        )
        if ends is None:
            return [copy]
        return [copy, VectorIndex(name=f"{column.name}_index", data=self._pack(ends), target=copy)]

    def _values(self, item: DynamicTable, column: VectorData, table_type: type[DynamicTable]) -> Any:
        """Values of a column that can be copied; None for those that stay in the source."""
        if isinstance(column, DynamicTableRegion):
            if column.table is None:
                raise DataError("the table that it refers to is not in the file")
            path = in_file_path(self._source, item)
            return region_rows(column, path=path) if self._is_electrodes(column.table) else None
        if self._is_electrodes(item) and column.name == "group":
            return [self._once(group, self._new_group) for group in self._groups(item, column)]
        values = _stored(column)
        if len(values) and all(isinstance(value, ElectrodeGroup) for value in values):
            return [self._once(group, self._new_group) for group in values]
        return _as_specified(table_type, column.name, _plain_column(values))

    def _groups(self, item: DynamicTable, column: VectorData) -> list[ElectrodeGroup]:
        """Groups of the electrodes; by their names where the references to them cannot be read."""
        try:
            groups = list(_stored(column))
        except DataError:
            groups = []
        if groups and all(isinstance(group, ElectrodeGroup) for group in groups):
            return groups
        known = self._source.electrode_groups
        names = _plain_column(_stored(item["group_name"])) if "group_name" in item.colnames else None
        if not isinstance(names, list) or not set(names) <= set(known):
            raise DataError("its references to electrode groups cannot be read")
        return [known[name] for name in names]

    def _masks(self, item: PlaneSegmentation) -> list[VectorData]:
        """Masks of the ROIs, as lists of pixels or voxels: an image for each ROI would make the file as large as a movie."""
        for name in ("pixel_mask", "voxel_mask"):
            if name in item.colnames and isinstance(item[name], VectorIndex):
                column = item[name].target
                ends = ragged_column(item, name, path=in_file_path(self._source, item)).bounds[1:]
                pixels, text = _stored(column), column.description
                break
        else:
            if "image_mask" not in item.colnames:
                raise DataError(f"the table {item.name!r} has neither pixel_mask, voxel_mask nor image_mask")
            name, text = "pixel_mask", "pixels of each ROI and their weights, made from its image mask"
            images = item["image_mask"]
            each = [_pixels(np.asarray(images.data[row])) for row in range(len(item))]
            pixels, ends = np.concatenate(each), np.cumsum([len(roi) for roi in each])
        if self._most_values is not None:
            pixels, ends = pixels[: self._most_values], np.minimum(ends, self._most_values)
        values = VectorData(name=name, description=text, data=self._pack(pixels))
        return [values, VectorIndex(name=f"{name}_index", data=ends, target=values)]

    def _add_at_path(self, item: DynamicTable, copy: DynamicTable) -> None:
        """Add the copy to the processing module of the same name, inside a segmentation if the table was in one."""
        path = in_file_path(self._source, item).split("/")
        module_of = self._source.processing.get(path[1]) if path[0] == "processing" else None
        name, text = (path[1], module_of.description) if module_of is not None else ("misc", "Tables of the recording.")
        module = self._derived.processing.get(name) or self._derived.create_processing_module(name, text or name)
        if isinstance(item.parent, ImageSegmentation) and isinstance(copy, PlaneSegmentation):
            if item.parent.name not in module.data_interfaces:
                module.add(ImageSegmentation(name=item.parent.name))
            module[item.parent.name].add_plane_segmentation(copy)
        else:
            module.add(copy)

    def _new_group(self, group: ElectrodeGroup) -> ElectrodeGroup:
        copy = _copy(group, self._notes, device=self._once(group.device, self._new_device))
        self._derived.add_electrode_group(copy)
        return copy

    def _new_plane(self, plane: ImagingPlane) -> ImagingPlane:
        channels = [_copy(channel, self._notes) for channel in plane.optical_channel]
        device = self._once(plane.device, self._new_device)
        copy = _copy(plane, self._notes, device=device, optical_channel=channels)
        self._derived.add_imaging_plane(copy)
        return copy

    def _new_device(self, device: Device) -> Device:
        if device.name in self._derived.devices:  # of another file of the session
            return self._derived.devices[device.name]
        model = getattr(device, "model", None)
        links = {"model": self._once(model, self._new_model)} if isinstance(model, DeviceModel) else {}
        copy = _copy(device, self._notes, **links)
        self._derived.add_device(copy)
        return copy

    def _new_model(self, model: DeviceModel) -> DeviceModel:
        if model.name in self._derived.device_models:
            return self._derived.device_models[model.name]
        copy = _copy(model, self._notes)
        self._derived.add_device_model(copy)
        return copy

    def _once(self, item: Any, make: Callable[[Any], Any]) -> Any:
        if item is None:
            raise DataError("a link in the recording has no target")
        if is_outside(item, self._source):
            raise DataError(
                f"{item.name!r} is in another file, and objects of other files are not copied into a result"
            )
        if id(item) not in self._copies:
            self._copies[id(item)] = make(item)
        return self._copies[id(item)]


def _stored(column: VectorData) -> Any:
    """Read all of a column."""
    with FileErrors(column.name, what="the column", hint="it stays in the recording", raising=DataError):
        return column.data[:]


def _as_specified(table_type: type[DynamicTable], name: str, values: Any) -> Any:
    """Give a column the precision that the schema asks for; None stays None."""
    # Not a copy, which would take longer than copying a small column.
    catalog = get_type_map(copy=False).namespace_catalog
    spec = catalog.get_spec("core", table_type.__name__).get_dataset(name)
    if spec is None or values is None or not isinstance(spec.dtype, str):
        return values
    kind = "text" if isinstance(values, list) else values.dtype.kind
    if (spec.dtype == "text") != (kind == "text") or (spec.dtype in _FLOATS and kind not in "iuf"):
        held = "text" if kind == "text" else values.dtype
        raise DataError(f"it has {held} values, but NWB requires {spec.dtype}")
    wanted = {"float": "float32", "double": "float64"}.get(spec.dtype, spec.dtype)
    return values.astype(np.result_type(values, np.dtype(wanted))) if wanted in ("float32", "float64") else values


def _pixels(image: NDArray[Any]) -> NDArray[Any]:
    """Non-zero pixels of a mask: its first axis is x, its second y, as in the NWB schema."""
    pixels = np.zeros(np.count_nonzero(image), dtype=[("x", "u4"), ("y", "u4"), ("weight", "f4")])
    pixels["x"], pixels["y"] = np.nonzero(image)
    pixels["weight"] = image[np.nonzero(image)]
    return pixels


def _copy(item: Any, notes: list[str], **links: Any) -> Any:
    """Make an object of the same core type with the same plain fields; what an extension added stays in the source."""
    core_type: Any = next((base for base in type(item).__mro__ if base in _CORE), None)
    if core_type is None:
        raise DataError(f"{item.name!r} is a {type(item).__name__}, which is not copied")
    plain = {key: _plain(value) for key, value in item.fields.items()}
    return _make(core_type, {"name": item.name, **plain}, links, repr(item.name), notes)


def _make(core_type: Any, fields: Mapping[str, Any], links: Mapping[str, Any], what: str, notes: list[str]) -> Any:
    """Make an object of a core type, without the optional fields that its class refuses, and with a note on these."""
    arguments = {each["name"]: each for each in get_docval(core_type.__init__)}
    given = {key: fields[key] for key in arguments if key not in links and fields.get(key) is not None}
    while True:
        try:
            with warnings.catch_warnings():
                # Fields that a newer schema replaced are copied as they are.
                warnings.simplefilter("ignore", DeprecationWarning)
                return core_type(**given, **links)
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            optional = [key for key in given if "default" in arguments[key]]
            # The library names what it refuses.
            refused = [key for key in optional if repr(key) in reason] or optional
            if not refused:
                raise DataError(f"{what} cannot be copied: {reason}") from error
            notes.append(f"the result is without {', '.join(map(repr, refused))} of {what}: {reason}")
            given = {key: value for key, value in given.items() if key not in refused}


def _plain(value: Any) -> Any:
    """Text, numbers, dates and arrays of these as they are; None for anything that links elsewhere."""
    if value is None or isinstance(value, str | int | float | datetime | np.number | np.bool_):
        return value
    if not hasattr(value, "shape") and not isinstance(value, list | tuple):
        return None
    array = np.asarray(value[...] if hasattr(value, "shape") else value)
    if array.size == 0:
        return None
    if array.dtype.names is not None:
        return tuple(array.reshape(-1)[0].tolist()) if array.size == 1 else None
    if array.dtype.kind in "biuf":
        return array
    texts = [text.decode() if isinstance(text, bytes) else text for text in array.reshape(-1)]
    return tuple(map(str, texts)) if all(isinstance(text, str) for text in texts) else None


def _plain_column(values: Any) -> Any:
    array = np.asarray(values)
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] > _WIDEST):
        return None
    if array.dtype.kind in "biuf":
        return array
    texts = [value.decode() if isinstance(value, bytes) else value for value in array.reshape(-1)]
    return texts if array.ndim == 1 and all(isinstance(text, str) for text in texts) else None
