"""Where results come from: the model, its settings and the recordings, as a record in the file and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable, VectorData
from pydantic import TypeAdapter, ValidationError

from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.io.write.packing import Pack

if TYPE_CHECKING:
    from ndx_sbtt import LatentVariableModel

_REQUIRED = ("model_type", "software_name", "software_version")
_TEXT = {"run": "run_name", **{key: key for key in ("likelihood", "checkpoint_sha256", "source_commit")}}
_JSON = ("environment", "metrics")
_SOURCE_COLUMNS = {
    "file_name": "name of the file",
    "nwb_object_id": "object id of the file's root",
    "nwb_identifier": "identifier of the file",
    "sha256": "SHA-256 digest of the file",
    "series": "path, within the file, of the series that was read",
    "series_object_id": "object id of that series",
    "dandiset": "DANDI: id of the dandiset",
    "version": "DANDI: version of the dandiset",
    "asset_id": "DANDI: id of the asset",
    "asset_path": "DANDI: path of the asset within the dandiset",
    "archive": "DANDI: address of the archive's API",
}


def model_record(
    latents: xr.Dataset, *, name: str, columns: Mapping[str, Mapping[str, str]], pack: Pack
) -> LatentVariableModel:
    """Make the NWB object that describes the model of a Dataset.

    Parameters
    ----------
    latents : Dataset
        ``attrs["model"]`` is a JSON text with at least `model_type`, `software_name` and `software_version`.
    name : str
        Of the object.
    columns : mapping of dim to mapping of coordinate to column
        Names under which the tables beside it store the trial and channel coordinates.
    pack : callable
        Wraps an array for the backend.

    Returns
    -------
    LatentVariableModel

    Raises
    ------
    DataError
        If ``attrs["model"]`` is missing, or lacks one of the three.
    """
    # Imported here because reading uses this module too, and must work where the extension's package is missing.
    from ndx_sbtt import LatentVariableModel

    model = model_of(latents)
    attrs = {key: value for key, value in latents.attrs.items() if key != "model"}
    attrs["source"] = json.dumps(_without_paths(source_of(latents)))
    if "source" not in latents.attrs:
        del attrs["source"]
    fields = {key: str(model.pop(key)) for key in _REQUIRED}
    fields |= {field: str(model.pop(key)) for key, field in _TEXT.items() if model.get(key) is not None}
    fields |= {key: json.dumps(model.pop(key)) for key in _JSON if model.get(key) is not None}
    seed = model.get("seed")
    if isinstance(seed, int) and -(2**63) <= seed < 2**63:
        fields["random_seed"] = model.pop("seed")
    training = model.pop("training", None)
    record = LatentVariableModel(
        name=name,
        config=json.dumps(model.pop("config", {})),
        bin_width=float(latents.attrs["bin_width"]),
        bin_reference="center",
        input_description=json.dumps({"attrs": attrs, "columns": columns, "coords": _other_coords(latents)}),
        bin_times=pack(latents["time"].values.astype(np.float64)),
        **fields,
        **({"details": json.dumps(model)} if model else {}),
    )
    if training:
        record.training_metrics = _training_table(training)
    return record


def model_of(latents: xr.Dataset) -> dict[str, Any]:
    """Parse ``attrs["model"]``.

    Parameters
    ----------
    latents : Dataset

    Returns
    -------
    dict

    Raises
    ------
    DataError
        If it is missing, or lacks `model_type`, `software_name` or `software_version`.
    """
    text = latents.attrs.get("model")
    if text is None:
        raise DataError(
            "attrs['model'] is missing, but results must have a record of their model; set it to JSON text with at "
            f"least {', '.join(_REQUIRED)}"
        )
    model = json.loads(text)
    if missing := [key for key in _REQUIRED if model.get(key) is None]:
        raise DataError(f"attrs['model'] lacks {', '.join(missing)}; it has {', '.join(model)}")
    return dict(model)


def source_of(latents: xr.Dataset) -> dict[str, Any]:
    """Parse ``attrs["source"]``, the file that the data were read from.

    Parameters
    ----------
    latents : Dataset

    Returns
    -------
    dict
        Empty where the attribute is missing.
    """
    return dict(json.loads(latents.attrs.get("source", "{}")))


def sources_table(source: Mapping[str, Any], object_ids: Mapping[str, str | None]) -> DynamicTable:
    """Make the table of sources: one row for each series that was read, with ids and digests that identify its file.

    What lies in files that the recording links to has a row for each of its parts too, with ids and digest of that file.

    Parameters
    ----------
    source : mapping
        `name`, `object_id`, `identifier`, `sha256`, `series` (paths), `linked` (files, with `parts` by path), and `dandiset`,
        `version`, `asset_id`, `asset_path`, `archive` where known.
    object_ids : mapping of path to object id, None where none is stored

    Returns
    -------
    DynamicTable
        Without the columns that are empty in all rows.
    """
    paths = source.get("series") or [""]
    rows = [_source_row(source, path, object_ids.get(path)) for path in paths]
    for file in source.get("linked", ()):
        rows += [_source_row(file, path, object_id) for path, object_id in file["parts"].items()]
    filled = [key for key in _SOURCE_COLUMNS if any(row[key] for row in rows)]
    return DynamicTable(
        name="sources",
        description="Recordings that the results were inferred from, one row per series.",
        columns=[
            VectorData(name=key, description=_SOURCE_COLUMNS[key], data=[str(row[key] or "") for row in rows])
            for key in filled
        ],
    )


def model_attributes(record: Any) -> dict[str, Any]:
    """Read back the attributes that `model_record` stored: those of the Dataset, with the model's record under ``model``.

    Parameters
    ----------
    record : LatentVariableModel
        Of the installed extension, or of the class made from the file's own specification.

    Returns
    -------
    dict
        Attributes of a latents Dataset.
    """
    model: dict[str, Any] = {key: getattr(record, key) for key in _REQUIRED}
    model |= {key: getattr(record, field) for key, field in _TEXT.items() if getattr(record, field) is not None}
    model["config"] = json.loads(record.config)
    model |= {key: json.loads(getattr(record, key)) for key in _JSON if getattr(record, key) is not None}
    if record.random_seed is not None:
        model["seed"] = int(record.random_seed)
    if record.details is not None:
        details = json.loads(record.details)
        if not isinstance(details, dict):
            raise FileError(
                f"the details of the results {record.name!r} are damaged: they are a {type(details).__name__}"
            )
        model |= details
    if record.training_metrics is not None:
        model["training"] = _training_rows(record.training_metrics)
    return {**read_description(record).attrs, "model": json.dumps(model)}


@dataclass(frozen=True)
class OtherCoord:
    """A coordinate that no table holds.

    Parameters
    ----------
    dims : list of str
    values : list, or one value without dims
    """

    dims: list[str]
    values: Any


@dataclass(frozen=True)
class Description:
    """What is written of a Dataset beside its arrays.

    Parameters
    ----------
    attrs : dict
    columns : dict
        Names of the columns that hold the coordinates of trials and of channels.
    coords : dict
        Other coordinates.
    """

    attrs: dict[str, Any]
    columns: dict[Literal["trial", "channel"], dict[str, str]]
    coords: dict[str, OtherCoord]

    def __post_init__(self) -> None:
        if missing := {"trial", "channel"} - set(self.columns) or {"kind", "bin_width"} - set(self.attrs):
            raise ValueError(f"{sorted(missing)[0]!r} is missing")


def read_description(record: Any) -> Description:
    """Read what was written of a Dataset beside its arrays.

    Parameters
    ----------
    record : ndx_sbtt model
        Of the results.

    Raises
    ------
    FileError
        If it is damaged, or missing.
    """
    if record.input_description is None:
        raise FileError(
            f"the results {record.name!r} have no 'input_description', the record of how their data were read, so "
            "they were not written by write_nwb; read their series with pynwb"
        )
    try:
        return TypeAdapter(Description).validate_json(record.input_description)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise FileError(f"the description of the results {record.name!r} is damaged: {place}: {first['msg']}") from None


def _source_row(file: Mapping[str, Any], series: str, object_id: str | None) -> dict[str, Any]:
    return {
        **{key: file.get(key) for key in _SOURCE_COLUMNS},
        "file_name": file.get("name"),
        "nwb_object_id": file.get("object_id"),
        "nwb_identifier": file.get("identifier"),
        "series": series,
        "series_object_id": object_id,
    }


def _without_paths(source: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a source without paths on this disk."""
    kept = {key: value for key, value in source.items() if key != "path"}
    return {**kept, "linked": list(map(_without_paths, source["linked"]))} if "linked" in source else kept


def _other_coords(latents: xr.Dataset) -> dict[str, Any]:
    """Coordinates that no table holds: neither of trials nor of channels, and not the time axis."""
    others = {}
    for key, coord in latents.coords.items():
        if coord.dims not in (("trial",), ("channel",)) and key != "time":
            others[str(key)] = {"dims": list(coord.dims), "values": coord.values.tolist()}
    return others


def _training_table(training: Sequence[Mapping[str, Any]]) -> DynamicTable:
    names = list(dict.fromkeys(key for row in training for key in row))
    return DynamicTable(
        name="training_metrics",
        description="Losses of the fit, one row per epoch.",
        columns=[
            VectorData(
                name=name, description=f"{name} of each epoch", data=_column([row.get(name) for row in training])
            )
            for name in names
        ],
    )


def _column(values: list[Any]) -> Any:
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.int64)
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return ["" if value is None else str(value) for value in values]


def _training_rows(table: DynamicTable) -> list[dict[str, Any]]:
    columns = {column.name: np.asarray(column.data[:]).tolist() for column in table.columns}
    if len(set(map(len, columns.values()))) > 1:
        raise FileError(f"the columns of {table.name!r} differ in length")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [
        {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in rows
    ]
