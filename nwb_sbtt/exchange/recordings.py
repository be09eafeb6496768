"""A Dataset from objects of pynapple and spikeinterface, by way of a recording in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr
from hdmf.common import DynamicTable
from numpy.typing import ArrayLike, NDArray
from pynwb import NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries

from nwb_sbtt.config import Chop, ReadConfig, Trials, Window, build, check_cut, config_of
from nwb_sbtt.data.memory import check_memory
from nwb_sbtt.data.schema import IDS, with_ids_as_index
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.exchange.arrays import numbers
from nwb_sbtt.io.read.reader import read_made

EVENT = "event"
"""Column of the trials made of events."""
RESERVED = ("id", "rate", "spike_times", "obs_intervals", "start_time", "stop_time", "start", "end", EVENT)
"""Names that columns of a table of NWB cannot have here, or need not."""
NOT_OF_ELECTRODES = ("gain_to_uV", "offset_to_uV", "contact_vector")
"""Properties of channels that the series has, or no column can hold."""
BYTES_PER_SAMPLE = 12
"""Memory that a recording takes for each of its samples: the copy, and what reading it takes."""
MICROVOLT = 1e-6


def from_pynapple(
    data: Any,
    *,
    bin_width: float | None = None,
    events: Any = None,
    start: float | None = None,
    stop: float | None = None,
    trials: Window | Chop | None = None,
    unit: str = "a.u.",
    config: ReadConfig | Mapping[str, object] | None = None,
) -> xr.Dataset:
    """Bin pynapple objects and cut them into trials.

    Parameters
    ----------
    data : pynapple.TsGroup, Ts, TsdFrame or Tsd
        Spike times of units, which are observed within the group's `time_support`; or samples of a signal, which are averaged
        in each bin. NaN is missing, and so are bins without a sample.
    bin_width : float, optional
        Seconds. Default: 20 ms for spikes, the sampling period for a signal.
    events : pynapple.Ts or IntervalSet, or array of float, optional
        Event of each trial, in seconds; for an IntervalSet the start of each interval. Columns of an IntervalSet become columns
        of the trials.
    start, stop : float, optional
        Start and end of each trial relative to its event, in seconds; needed with `events`.
    trials : Window or Chop, optional
        Without events: one part of the recording, or how the recording is chopped with overlap.
    unit : str
        Of a signal.
    config : ReadConfig, or mapping of its settings, optional
        Other settings of reading, such as ``where``.

    Returns
    -------
    Dataset
        See `nwb_sbtt.data.schema`. Channel ids are the keys of the group or the columns of the frame, whose metadata come
        along.

    Raises
    ------
    DataError
        If `data` is of another type, or as of `read_nwb`.
    ConfigError
        If pynapple is not installed, or trials are described in two ways.
    """
    nap = import_pynapple()
    nwbfile = _empty_file("pynapple")
    if isinstance(data, nap.Ts):
        data = nap.TsGroup({0: data}, time_support=data.time_support)
    if isinstance(data, nap.TsGroup):
        columns = _columns({name: data.get_info(name) for name in data.metadata_columns}, len(data))
        made = _add_units(nwbfile, {key: np.asarray(data[key].index) for key in data.index}, _bounds(data), columns)
    elif isinstance(data, nap.Tsd | nap.TsdFrame):
        made = _add_signal(nwbfile, data, unit=unit)
    else:
        raise DataError(f"expected a TsGroup, Ts, TsdFrame or Tsd of pynapple, not a {type(data).__name__}")
    cut, of_trials = _trials(nwbfile, nap, events, start=start, stop=stop, trials=trials)
    return _read(nwbfile, made, config, bin_width=bin_width, cut=cut, trial_columns=of_trials)


def from_spikeinterface(
    data: Any,
    *,
    bin_width: float | None = None,
    events: ArrayLike | None = None,
    start: float | None = None,
    stop: float | None = None,
    trials: Window | Chop | None = None,
    segment: int | None = None,
    config: ReadConfig | Mapping[str, object] | None = None,
) -> xr.Dataset:
    """Bin a spikeinterface sorting or recording and cut it into trials.

    Parameters
    ----------
    data : spikeinterface.BaseSorting or BaseRecording
        Units, which are observed for the duration of the recording that is registered with the sorting; or voltages, which are
        read like an ElectricalSeries: ``config.electrical`` sets feature (LFP, band power, threshold crossings) and
        reference.
    bin_width : float, optional
        Seconds.
    events : array of float, optional
        Seconds; each is the event of one trial.
    start, stop : float, optional
        Start and end of each trial relative to its event, in seconds; needed with `events`.
    trials : Window or Chop, optional
        Without events: one part of the recording, or how the recording is chopped with overlap.
    segment : int, optional
        Which segment; needed where there are several.
    config : ReadConfig, or mapping of its settings, optional
        Other settings of reading.

    Returns
    -------
    Dataset
        See `nwb_sbtt.data.schema`. Channel ids are those of units or channels, whose properties come along.

    Raises
    ------
    DataError
        If `data` is of another type, or as of `read_nwb`.
    ConfigError
        If spikeinterface is not installed, or trials or the segment are not described in one way.
    """
    si = _spikeinterface()
    nwbfile = _empty_file("spikeinterface")
    if not isinstance(data, si.BaseSorting | si.BaseRecording):
        raise DataError(f"expected a sorting or a recording of spikeinterface, not a {type(data).__name__}")
    if segment is None and data.get_num_segments() > 1:
        raise ConfigError(
            f"this {type(data).__name__} has {data.get_num_segments()} segments; choose one with `segment`. To use "
            "several, fit them as separate sessions"
        )
    segment = segment or 0
    properties = {str(name): data.get_property(name) for name in data.get_property_keys()}
    if isinstance(data, si.BaseSorting):
        spikes = {
            unit: np.asarray(data.get_unit_spike_train(unit, segment_index=segment, return_times=True))
            for unit in data.unit_ids
        }
        bounds = None
        if data.has_recording():
            last = data.get_num_samples(segment_index=segment) - 1
            first, last = (float(data.sample_index_to_time(i, segment_index=segment)) for i in (0, last))
            bounds = np.array([[first, last + 1 / data.sampling_frequency]])
        made = _add_units(nwbfile, spikes, bounds, _columns(properties, len(spikes)))
    else:
        made = _add_voltages(nwbfile, data, segment, properties)
    cut, of_trials = _trials(nwbfile, None, events, start=start, stop=stop, trials=trials)
    return _read(nwbfile, made, config, bin_width=bin_width, cut=cut, trial_columns=of_trials)


@dataclass(frozen=True)
class _Made:
    """What was added to a recording in memory: path of the series, names of its channels, columns of their table."""

    path: str
    names: NDArray[np.generic]
    columns: tuple[str, ...] = ()


def import_pynapple() -> Any:
    """Import pynapple, or say how to install it.

    Raises
    ------
    ConfigError
    """
    try:
        import pynapple
    except ModuleNotFoundError:
        raise ConfigError("for objects of pynapple: pip install pynapple") from None
    return pynapple


def _spikeinterface() -> Any:
    try:
        import spikeinterface
    except ModuleNotFoundError:
        raise ConfigError("to read objects of spikeinterface: pip install spikeinterface") from None
    return spikeinterface


def _empty_file(made_of: str) -> NWBFile:
    # The date is never seen: what is read has none.
    return NWBFile(f"objects of {made_of}", str(uuid4()), datetime(2000, 1, 1, tzinfo=UTC))


def _bounds(data: Any) -> NDArray[np.float64]:
    """Intervals (interval, 2) of the time support of an object of pynapple [s]."""
    return np.column_stack([data.time_support.start, data.time_support.end]).astype(float)


def _columns(columns: Mapping[str, Any], n_rows: int) -> dict[str, NDArray[np.generic]]:
    """Columns that a table of NWB can hold: one number, flag or text for each row."""
    usable = {}
    for name, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = np.array([str(value) for value in array])
        if array.shape == (n_rows,) and array.dtype.kind in "biufUT" and name not in RESERVED:
            usable[re.sub(r"[/:]", "_", str(name))] = array.astype(str) if array.dtype.kind == "T" else array
    return usable


def _add_columns(table: DynamicTable, columns: Mapping[str, NDArray[np.generic]]) -> None:
    for name, values in columns.items():
        table.add_column(name=name, description=f"{name} of each row", data=values.tolist())


def _add_units(
    nwbfile: NWBFile,
    spikes: Mapping[Any, NDArray[np.float64]],
    bounds: NDArray[np.float64] | None,
    columns: Mapping[str, NDArray[np.generic]],
) -> _Made:
    """Add units to a recording."""
    if not spikes:
        raise DataError("there are no units; expected at least one")
    observed = {} if bounds is None else {"obs_intervals": bounds}
    for times in spikes.values():
        nwbfile.add_unit(spike_times=np.sort(np.asarray(times, dtype=float)), **observed)
    columns = {name: values for name, values in columns.items() if name not in nwbfile.units.colnames}
    _add_columns(nwbfile.units, columns)
    return _Made("units", _names(list(spikes)), tuple(columns))


def _names(names: list[Any]) -> NDArray[np.generic]:
    """Ids of channels: whole numbers where all are, texts otherwise."""
    if all(isinstance(name, int | np.integer) for name in names):
        return np.array(names, dtype=np.int64)
    texts = [str(name) for name in names]
    return np.array([int(text) for text in texts] if all(text.isdecimal() for text in texts) else texts)


def _add_signal(nwbfile: NWBFile, data: Any, *, unit: str) -> _Made:
    """Add the samples of a Tsd or a TsdFrame, which lie in its time support."""
    values = np.asarray(data.values)
    if values.dtype.kind not in "biuf":
        raise DataError(f"the samples are {values.dtype}; expected real numbers")
    values = values.reshape(len(values), -1)
    nwbfile.add_acquisition(
        TimeSeries(name="signal", data=values, unit=unit, timestamps=np.asarray(data.index, dtype=float))
    )
    return _Made("acquisition/signal", _names(list(getattr(data, "columns", [0]))))


def _add_voltages(nwbfile: NWBFile, data: Any, segment: int, properties: Mapping[str, Any]) -> _Made:
    """Add the traces of a recording with a table of its electrodes."""
    n_samples, n_channels = data.get_num_samples(segment_index=segment), data.get_num_channels()
    check_memory(
        n_samples * n_channels,
        BYTES_PER_SAMPLE,
        what=f"a copy of {n_samples} samples of {n_channels} channels",
        remedy="write the recording to an NWB file, which is read in parts, or use a part of it with frame_slice",
    )
    device = nwbfile.create_device(name="device")
    groups = np.asarray(properties.get("group", np.zeros(n_channels, dtype=int)))
    made = {
        name: nwbfile.create_electrode_group(name=str(name), description="a group", location="unknown", device=device)
        for name in dict.fromkeys(groups.tolist())
    }
    places = _places(data)
    for row in range(n_channels):
        nwbfile.add_electrode(
            group=made[groups.tolist()[row]], location="unknown", **{k: v[row] for k, v in places.items()}
        )
    columns = {
        name: values
        for name, values in _columns(properties, n_channels).items()
        if name not in (*nwbfile.electrodes.colnames, *NOT_OF_ELECTRODES)
    }
    _add_columns(nwbfile.electrodes, columns)
    gains, offsets = data.get_channel_gains(), data.get_channel_offsets()
    scaled = gains is not None and offsets is not None
    if scaled and len(np.unique(offsets)) > 1:
        traces, factor, each, offset = data.get_traces(segment_index=segment, return_in_uV=True), MICROVOLT, None, 0.0
    else:
        traces = data.get_traces(segment_index=segment)
        factor, each = (MICROVOLT, np.asarray(gains, dtype=float)) if scaled else (1.0, None)
        offset = float(offsets[0]) * MICROVOLT if scaled else 0.0
    if data.has_time_vector(segment_index=segment):
        clock: dict[str, Any] = {"timestamps": np.asarray(data.get_times(segment_index=segment), dtype=float)}
    else:
        clock = {
            "rate": float(data.sampling_frequency),
            "starting_time": float(data.get_start_time(segment_index=segment)),
        }
    nwbfile.add_acquisition(
        ElectricalSeries(
            name="voltages",
            data=traces,
            electrodes=nwbfile.create_electrode_table_region(list(range(n_channels)), "all"),
            conversion=factor,
            offset=offset,
            channel_conversion=each,
            **clock,
        )
    )
    return _Made("acquisition/voltages", _names(list(data.channel_ids)), tuple(columns))


def _places(data: Any) -> dict[str, NDArray[np.float64]]:
    """Where the electrodes are on their probe [µm], where that is known."""
    if not data.has_probe() and "location" not in data.get_property_keys():
        return {}
    places = np.asarray(data.get_channel_locations(), dtype=float)
    return {"rel_x": places[:, 0], "rel_y": places[:, 1]}


def _trials(
    nwbfile: NWBFile,
    nap: Any,
    events: Any,
    *,
    start: float | None,
    stop: float | None,
    trials: Window | Chop | None,
) -> tuple[Trials | Window | Chop | None, tuple[str, ...]]:
    """Add a trial for each event; returns how the session is cut, and the columns of the trials."""
    check_cut(trials, else_="times or intervals of events are passed as events=…, with start=… and stop=…")
    if events is None:
        if start is not None or stop is not None:
            raise ConfigError(
                "`start` and `stop` are relative to events: pass `events`, or trials=sb.Window(start=…, stop=…)"
            )
        return trials, ()
    if trials is not None:
        raise ConfigError("pass either `events` with `start` and `stop`, or `trials`")
    if start is None or stop is None:
        raise ConfigError("pass `start` and `stop` of each trial relative to its event, in seconds")
    columns: dict[str, NDArray[np.generic]] = {}
    if nap is not None and isinstance(events, nap.IntervalSet):
        columns = _columns({name: events.get_info(name) for name in events.metadata_columns}, len(events))
        times = np.asarray(events.start, dtype=float)
    else:
        spikes = nap is not None and isinstance(events, nap.Ts | nap.Tsd)
        times = numbers(events.index if spikes else events, "events").astype(float)
    if times.ndim != 1 or len(times) == 0:
        raise DataError(f"events have shape {times.shape}; expected the time of one or more events, in seconds")
    nwbfile.add_trial_column(name=EVENT, description="The event of the trial.")
    for time in times:
        nwbfile.add_trial(start_time=time + start, stop_time=time + stop, **{EVENT: time})
    _add_columns(nwbfile.trials, columns)
    return build(Trials, {"event": EVENT, "start": start, "stop": stop}), tuple(columns)


def _read(
    nwbfile: NWBFile,
    made: _Made,
    config: ReadConfig | Mapping[str, object] | None,
    *,
    bin_width: float | None,
    cut: Trials | Window | Chop | None,
    trial_columns: tuple[str, ...],
) -> xr.Dataset:
    """Read the recording in memory; its channels get their own names instead of the numbers that NWB allows."""
    config = config_of(ReadConfig, config)
    settings = {name: getattr(config, name) for name in ReadConfig.model_fields}
    settings |= {name: value for name, value in (("bin_width", bin_width), ("cut", cut)) if value is not None}
    settings["series"] = (made.path,)
    for name, columns in (("trial_columns", trial_columns), ("channel_columns", made.columns)):
        settings[name] = tuple(dict.fromkeys([*settings[name], *columns]))
    ds = read_made(nwbfile, build(ReadConfig, settings))
    ids = made.names[ds["channel_row"].values]
    return ds.drop_vars([IDS["channel_id"], "channel_id"]).assign_coords(
        with_ids_as_index({"channel_id": ("channel", ids)})
    )
