"""What a caller says of an array beside its values: ids, starts, columns, names of dimensions; what does not fit is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.datasets import finite_number
from nwb_sbtt.data.grid import Kind
from nwb_sbtt.data.schema import DIMS
from nwb_sbtt.errors import ConfigError, DataError

OWN = {
    "time": "start",
    "trial_start": "trial_start",
    "channel_id": "channel_id",
    "exposure": "exposure",
    "observed": "observed",
    "values": "values",
}
"""Names that a column cannot have, and the argument that is meant for each."""
LISTED = 5
"""Most repeated ids that an error names."""


def check_kind(kind: object) -> None:
    """Refuse a kind of channels that there is not.

    Parameters
    ----------
    kind : object
        As it was passed.

    Raises
    ------
    DataError
        If it is none.
    """
    if kind not in get_args(Kind):
        raise DataError(
            f"kind is {kind!r}; expected one of {get_args(Kind)}: counts are of 'units', voltages of 'electrodes', "
            "fluorescence of 'rois', any other signal is a 'series'"
        )


def seconds(value: object, name: str, *, positive: bool = False) -> float:
    """Return a number of seconds.

    Parameters
    ----------
    value : object
        As it was passed.
    name : str
        Of the argument, for the error.
    positive : bool
        Whether it must be above 0.

    Raises
    ------
    ConfigError
        If it is no finite number, or not positive.
    """
    number = finite_number(value)
    if number is None or (positive and not number > 0):
        raise ConfigError(f"{name} is {value!r}; expected a {'positive' if positive else 'finite'} number of seconds")
    return number


def channel_ids(ids: Sequence[int | str] | NDArray[np.generic] | None, n_channels: int) -> NDArray[np.generic]:
    """Return an id for each channel.

    Parameters
    ----------
    ids : sequence, optional
        Default: 0 … n−1.
    n_channels : int

    Raises
    ------
    DataError
        If there are more or fewer than channels, or one repeats.
    """
    if ids is None:
        return np.arange(n_channels)
    array = _array(ids, "channel_id")
    if array.shape != (n_channels,):
        raise DataError(
            f"channel_id has shape {array.shape}; expected one id for each of {n_channels} channels: ({n_channels},)"
        )
    return _checked_ids(array, "channel_id", "channel")


def _checked_ids(array: NDArray[Any], name: str, dim: str) -> NDArray[Any]:
    listed = array.tolist()
    if not all(isinstance(each, int | str | float) and each == each for each in listed):
        raise DataError(f"{name} contains {array.dtype} such as {listed[:3]}; expected integers or texts")
    if len(set(listed)) < len(listed):
        repeated = [each for each, count in Counter(listed).items() if count > 1]
        raise DataError(
            f"{name} repeats {', '.join(map(repr, repeated[:LISTED]))}{', …' * (len(repeated) > LISTED)}; expected an id "
            f"of its own for each {dim}: renumber them, or leave {name} out and pass them as a column, such as "
            f"coords={{'name': ({dim!r}, names)}}"
        )
    return array


def trial_starts(starts: NDArray[Any], n_trials: int) -> NDArray[np.float64]:
    """Return when each trial starts.

    Parameters
    ----------
    starts : array
        Seconds on the session clock.
    n_trials : int

    Raises
    ------
    DataError
        If there are more or fewer than trials, or one is not finite.
    """
    if starts.shape != (n_trials,) and not (n_trials == 1 and starts.shape == ()):
        raise DataError(
            f"trial_start has shape {starts.shape}; expected the start of each of {n_trials} trials: ({n_trials},), in seconds"
        )
    if not np.isfinite(starts).all():
        raise DataError("trial_start contains values that are not finite; expected seconds on the session clock")
    return starts.reshape(n_trials).astype(np.float64)


def columns(coords: Mapping[str, tuple[str, ArrayLike]] | None, sizes: Mapping[str, int]) -> dict[str, tuple[Any, Any]]:
    """Return further columns of trials, bins and channels, if each of them fits.

    Parameters
    ----------
    coords : mapping of name to (dim, array), optional
    sizes : mapping of dim to int

    Raises
    ------
    DataError
        If one is no pair of a dim and an array, names a dim that there is not, has another length or a name that is taken,
        or holds anything but numbers, flags and texts; or an id of a trial repeats.
    """
    if coords is None:
        return {}
    if not isinstance(coords, Mapping):
        raise DataError(
            f"coords is a {type(coords).__name__}; expected a mapping of name to (dim, array), such as "
            "{'condition': ('trial', conditions)}"
        )
    return {name: _column(name, column, sizes) for name, column in coords.items()}


def _column(name: object, column: object, sizes: Mapping[str, int]) -> tuple[tuple[str, ...], NDArray[Any]]:
    if not isinstance(name, str) or name in OWN or name in sizes:
        instead = OWN.get(name) if isinstance(name, str) else None
        remedy = f"pass it as `{instead}`" if instead else "give the column another name"
        raise DataError(f"coords cannot have a column {name!r}; {remedy}")
    example = f"such as coords={{{name!r}: ('trial', array)}}"
    if not (isinstance(column, tuple) and len(column) == 2):
        raise DataError(f"coords[{name!r}] is a {type(column).__name__}; expected a pair (dim, array), {example}")
    dims = (column[0],) if isinstance(column[0], str) else column[0]
    if not isinstance(dims, tuple) or not dims or not set(dims) <= set(sizes) or len(set(dims)) < len(dims):
        raise DataError(f"coords[{name!r}] has the dim {column[0]!r}; expected one of {tuple(sizes)}, {example}")
    values = column[1] if isinstance(column[1], np.ma.MaskedArray) else _array(column[1], f"coords[{name!r}]")
    expected = tuple(sizes[dim] for dim in dims)
    if values.shape != expected:
        raise DataError(
            f"coords[{name!r}] has shape {values.shape}; expected {expected}, one value for each {' and '.join(dims)}"
        )
    if name == "trial_id":
        return dims, _checked_ids(values, name, "trial")
    return dims, _storable(name, values)


def _storable(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Numbers, flags or texts, which files can hold."""
    if values.dtype.kind == "T" or (values.dtype.kind == "O" and all(isinstance(each, str) for each in values.flat)):
        return values.astype(str)
    if values.dtype.kind not in "biufU":
        raise DataError(
            f"coords[{name!r}] contains {values.dtype}; expected numbers, flags or texts, which a file of results can hold: "
            "convert the column, for example with astype(str), or leave it out"
        )
    return values


def _array(values: object, name: str) -> NDArray[Any]:
    if np.ma.is_masked(values):
        raise DataError(f"{name} is masked in places; expected a value for each")
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} cannot be converted into an array: {error}") from None


def with_roles(data: xr.DataArray, dims: Mapping[str, str] | None, *, of: xr.DataArray | None = None) -> xr.DataArray:
    """Rename the dimensions of a DataArray to the roles that they have, and put them in order.

    Parameters
    ----------
    data : DataArray
    dims : mapping of name to "trial", "time" or "channel", optional
    of : DataArray, optional
        The values that `data` is a mask of, renamed already: dims must be the same, and so must labels that both have.

    Returns
    -------
    DataArray
        With dims ("trial", "time", "channel") or ("time", "channel").

    Raises
    ------
    ConfigError
        If `dims` is no such mapping, names a dimension that there is not, or gives a role twice.
    DataError
        If dimensions or labels are not those that are needed.
    """
    what = "the DataArray" if of is None else "`observed`"
    roles = {} if dims is None else dims
    if not isinstance(roles, Mapping) or not set(roles.values()) <= set(DIMS):
        raise ConfigError(
            f"dims is {dims!r}; expected a mapping of names to roles of {DIMS}, as {{'neuron': 'channel'}}"
        )
    names = tuple(map(str, data.dims))
    if of is None and (unknown := [name for name in roles if name not in data.dims]):
        raise ConfigError(f"dims names {unknown[0]!r}; the DataArray has dims {names}")
    renamed = {name: role for name, role in roles.items() if name in data.dims and name != role}
    new_names = [renamed.get(str(name), str(name)) for name in data.dims]
    if len(set(new_names)) < len(new_names):
        raise ConfigError(
            f"dims is {dims!r}: with it, {what} would have the dims {tuple(new_names)}; give each role once"
        )
    expected = (DIMS if data.ndim == len(DIMS) else DIMS[1:]) if of is None else tuple(map(str, of.dims))
    if set(new_names) != set(expected):
        wanted = f"{DIMS} or {DIMS[1:]}" if of is None else f"{expected}"
        raise DataError(
            f"{what} has dims {names}; expected {wanted}: rename them with `dims`, such as dims={{'neuron': 'channel'}}"
        )
    for name, role in renamed.items():
        if role in data.coords and data.coords[role].dims not in ((name,), (role,)):
            raise DataError(
                f"{what} has a coordinate {role!r} that is not one of {name!r}; drop it: data.drop_vars({role!r})"
            )
    # The labels of a dimension may have the name of its role already.
    named = {name: role for name, role in renamed.items() if role in data.coords and role not in data.dims}
    ordered = data.swap_dims(named).rename({name: role for name, role in renamed.items() if name not in named})
    ordered = ordered.transpose(*expected)
    if of is None:
        return ordered
    for dim in expected:
        if dim in ordered.coords and dim in of.coords and not ordered.indexes[dim].equals(of.indexes[dim]):
            raise DataError(
                f"labels of {dim!r} of `observed` are not those of the values; expected the same in the same order: pass "
                "observed.reindex_like(values), or observed.values if it is in order"
            )
    return ordered
