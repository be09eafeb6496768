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
from pynwb import NWBFile
from pynwb.device import Device, DeviceModel
from pynwb.ecephys import ElectrodeGroup, ElectrodesTable
from pynwb.file import Subject
from pynwb.misc import Units
from pynwb.ophys import ImageSegmentation, ImagingPlane, OpticalChannel, PlaneSegmentation

from nwb_sbtt.errors import FileError, SelectionError
from nwb_sbtt.io.read.outside import is_outside
from nwb_sbtt.io.read.paths import in_file_path

_SESSION = (
    *("session_description", "session_start_time", "timestamps_reference_time", "session_id", "experimenter"),
    *("experiment_description", "institution", "lab", "keywords", "notes", "pharmacology", "protocol"),
    *("related_publications", "slices", "data_collection", "surgery", "virus", "stimulus_notes"),
)
_CORE = (Device, DeviceModel, ElectrodeGroup, ImagingPlane, OpticalChannel, Subject)
_RAGGED = ("spike_times", "obs_intervals", "electrodes")
"""Columns with several values a row that are copied: without its spikes a table of units is not valid."""
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
        raise SelectionError(f"the file has no {path!r}: is this the file that the results were inferred from?")
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


def derived_file(source: NWBFile) -> NWBFile:
    """Make a file of the same session and subject, with a new identifier and no data.

    Parameters
    ----------
    source : NWBFile

    Returns
    -------
    NWBFile
    """
    fields = {key: _plain(source.fields[key]) for key in _SESSION if source.fields.get(key) is not None}
    derived = NWBFile(identifier=str(uuid4()), **fields)
    if source.subject is not None:
        derived.subject = _copy(source.subject)
    return derived


class TableCopier:
    """Copies tables from one file to another, each once and with everything that it links to.

    All rows are copied, so that a row number means the same in both files.

    Parameters
    ----------
    source, derived : NWBFile
    """

    def __init__(self, source: NWBFile, derived: NWBFile) -> None:
        self._source = source
        self._derived = derived
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
        """
        return self._once(item, self._new_table)

    def _new_table(self, item: DynamicTable) -> DynamicTable:
        if item is self._source.electrodes:
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
            copy = self._copy_as(PlaneSegmentation, item, _masks(item), imaging_plane=plane)
            self._add_at_path(item, copy)
        else:
            copy = self._copy_as(DynamicTable, item)
            self._add_at_path(item, copy)
        return copy

    def _copy_as(
        self, table_type: type[DynamicTable], item: DynamicTable, extra: Iterable[VectorData] = (), **more: Any
    ) -> DynamicTable:
        columns = [*self._columns(item), *extra]
        names = [column.name for column in columns if not isinstance(column, VectorIndex)]
        parameters = {parameter["name"] for parameter in get_docval(table_type.__init__)}
        texts = {key: getattr(item, key) for key in ("name", "description") if key in parameters}
        return table_type(id=np.asarray(item.id[:]), columns=columns, colnames=names, **texts, **more)

    def _columns(self, item: DynamicTable) -> list[VectorData]:
        """Copy the columns that are plain and narrow, and a few of the ragged ones."""
        columns: list[VectorData] = []
        indexes = {column.target.name: column for column in item.columns if isinstance(column, VectorIndex)}
        for column in item.columns:
            index = indexes.get(column.name)
            if isinstance(column, VectorIndex) or (index is not None and column.name not in _RAGGED):
                continue
            copy = self._column(column)
            if copy is not None:
                columns.append(copy)
                if index is not None:
                    columns.append(VectorIndex(name=index.name, data=np.asarray(index.data[:]), target=copy))
        return columns

    def _column(self, column: VectorData) -> VectorData | None:
        """Copy one column, if it is plain or links to electrodes or their groups."""
        texts = {"name": column.name, "description": column.description}
        if is_outside(column.data, self._source) or is_outside(column, self._source):
            return None
        if isinstance(column, DynamicTableRegion):
            if column.table is not self._source.electrodes:
                return None
            return DynamicTableRegion(data=np.asarray(column.data[:]), table=self.table(column.table), **texts)
        if isinstance(column, EnumData):
            return None
        values = column.data[:]
        if len(values) and all(isinstance(value, ElectrodeGroup) for value in values):
            return VectorData(data=[self._once(value, self._new_group) for value in values], **texts)
        if (plain := _plain_column(values)) is None:
            return None
        return VectorData(data=plain, **texts)

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
        copy = _copy(group, device=self._once(group.device, self._new_device))
        self._derived.add_electrode_group(copy)
        return copy

    def _new_plane(self, plane: ImagingPlane) -> ImagingPlane:
        channels = [_copy(channel) for channel in plane.optical_channel]
        copy = _copy(plane, device=self._once(plane.device, self._new_device), optical_channel=channels)
        self._derived.add_imaging_plane(copy)
        return copy

    def _new_device(self, device: Device) -> Device:
        model = getattr(device, "model", None)
        links = {"model": self._once(model, self._new_model)} if isinstance(model, DeviceModel) else {}
        copy = _copy(device, **links)
        self._derived.add_device(copy)
        return copy

    def _new_model(self, model: DeviceModel) -> DeviceModel:
        copy = _copy(model)
        self._derived.add_device_model(copy)
        return copy

    def _once(self, item: Any, make: Callable[[Any], Any]) -> Any:
        if is_outside(item, self._source):
            raise FileError(
                f"{item.name!r} lies in another file, {str(item.container_source)!r}, and nothing of another file is copied "
                "into a result: copy it into the recording first"
            )
        if id(item) not in self._copies:
            self._copies[id(item)] = make(item)
        return self._copies[id(item)]


def _masks(item: PlaneSegmentation) -> list[VectorData]:
    """Masks of the ROIs, as lists of pixels or voxels: an image for each ROI would make the file as large as a movie."""
    for name in ("pixel_mask", "voxel_mask"):
        if name in item.colnames:
            stored = item[name].target
            values = VectorData(name=name, description=stored.description, data=stored.data[:])
            return [values, VectorIndex(name=f"{name}_index", data=np.asarray(item[name].data[:]), target=values)]
    images = item["image_mask"]
    pixels = [_pixels(np.asarray(images.data[row])) for row in range(len(item))]
    text = "pixels of each ROI and their weights, made from its image mask"
    values = VectorData(name="pixel_mask", description=text, data=np.concatenate(pixels))
    ends = np.cumsum([len(roi) for roi in pixels])
    return [values, VectorIndex(name="pixel_mask_index", data=ends, target=values)]


def _pixels(image: NDArray[Any]) -> NDArray[Any]:
    """Non-zero pixels of a mask: its first axis is x, its second y, as in the NWB schema."""
    pixels = np.zeros(np.count_nonzero(image), dtype=[("x", "u4"), ("y", "u4"), ("weight", "f4")])
    pixels["x"], pixels["y"] = np.nonzero(image)
    pixels["weight"] = image[np.nonzero(image)]
    return pixels


def _copy(item: Any, **links: Any) -> Any:
    """Make an object of the same core type with the same plain fields; what an extension added stays in the source."""
    core_type: Any = next(base for base in type(item).__mro__ if base in _CORE)
    parameters = {parameter["name"] for parameter in get_docval(core_type.__init__)} - set(links)
    plain = {key: _plain(value) for key, value in item.fields.items() if key in parameters}
    fields: Mapping[str, Any] = {"name": item.name, **{key: value for key, value in plain.items() if value is not None}}
    with warnings.catch_warnings():
        # Fields that a newer schema replaced are copied as they are.
        warnings.simplefilter("ignore", DeprecationWarning)
        return core_type(**{key: value for key, value in fields.items() if key in parameters}, **links)


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
