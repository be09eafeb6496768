"""What a picture shows: trials, channels and bins, their values in the unit of the plot, and the labels of its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nwb_sbtt.data import datasets
from nwb_sbtt.data.datasets import check_matching, with_trials
from nwb_sbtt.errors import DataError, MismatchError, SelectionError

MAX_CHANNELS = 120
MAX_IDS = 14
"""Most ids of channels at an axis."""
MAX_BINS = 600
LEAST_MILLIVOLTS = 0.01
"""Volts from which on numbers are shown in millivolts."""
CHANNEL_NAMES = {"electrodes": "electrode", "rois": "ROI", "units": "unit", "series": "channel"}


@runtime_checkable
class Fit(Protocol):
    """What is drawn of a fit; `nwb_sbtt.Fitted` is one."""

    def data(self, session: str | None = None) -> xr.Dataset:
        """Return the data of a fitted session.

        Parameters
        ----------
        session : str, optional
        """
        ...

    def infer(self, ds: xr.Dataset, *, session: str | None = None) -> xr.Dataset:
        """Infer rates and latents.

        Parameters
        ----------
        ds : Dataset
        session : str, optional
        """
        ...

    def metrics(self, session: str | None = None) -> dict[str, Any]:
        """Return the scores of a fitted session.

        Parameters
        ----------
        session : str, optional
        """
        ...

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Return the losses of every epoch of each model of the fit, by name."""
        ...


Source = xr.Dataset | Fit
"""What most pictures are drawn from."""


@dataclass(frozen=True)
class Pair:
    """What was measured and what was inferred of it; one of them may be missing.

    Parameters
    ----------
    data, latents : Dataset or None
    """

    data: xr.Dataset | None
    latents: xr.Dataset | None

    @property
    def base(self) -> xr.Dataset:
        """The one that is there, data first: both have trials, bins, channels and the mask."""
        ds = self.latents if self.data is None else self.data
        assert ds is not None
        return ds

    def inferred(self) -> Inferred:
        """Return rates or means; see `inferred_values`."""
        if self.latents is None:
            raise DataError("these are data without inferred variables; also pass the latents (from Fitted.infer)")
        return inferred_values(self.base, self.latents)

    @property
    def verb(self) -> str:
        """Whether rates or means were inferred, or forecast (`Fitted.forecast`)."""
        return "forecast" if self.data is None and _is_forecast(self.base) else "inferred"


def pair_of(source: Source, latents: xr.Dataset | None = None, session: str | None = None) -> Pair:
    """Tell data from latents, and get both from a fit.

    Parameters
    ----------
    source : Dataset or Fitted
        Data, latents, or a fit, which reads its data again and infers all trials of them.
    latents : Dataset, optional
        What was inferred from data.
    session : str, optional
        Fitted session, of a fit of several.

    Returns
    -------
    Pair

    Raises
    ------
    DataError
        If anything else comes, or neither data nor latents are in a Dataset.
    MismatchError
        If data and latents are not of the same trials, bins and channels.
    """
    if isinstance(source, Fit):
        ds = source.data(session)
        latents = source.infer(ds, session=session) if latents is None else latents
    else:
        ds = dataset_of(source)
    if session is not None and not isinstance(source, Fit):
        raise DataError(
            f"session={session!r} chooses a session of a fit, but got a Dataset, which is one session; omit session"
        )
    if latents is not None:
        pair = Pair(ds, dataset_of(latents))
        pair.inferred()
        return pair
    if "values" in ds:
        return Pair(ds, None)
    if {"rates", "mean"} & set(ds):
        return Pair(None, ds)
    raise DataError(
        f"the Dataset has {sorted(map(str, ds.data_vars))}; expected data with 'values' and 'observed' (from read_nwb), or "
        "latents with 'rates' or 'mean' (from Fitted.infer or read_result)"
    )


def dataset_of(source: object) -> xr.Dataset:
    """Check that a Dataset with trials came, and say what else came; one trial alone gets its dim of trials.

    Parameters
    ----------
    source : object

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If it is anything else, or has no trial.
    """
    return with_trials(datasets.dataset_of(source, of="either", expected=f"{datasets.MAKERS['either']}, or a Fitted"))


def data_of(source: Source, session: str | None = None) -> xr.Dataset:
    """Return data, read again where a fit came.

    Parameters
    ----------
    source : Dataset or Fitted
    session : str, optional

    Returns
    -------
    Dataset
        With ``values`` and ``observed``.

    Raises
    ------
    DataError
        If anything else comes.
    """
    if isinstance(source, Fit):
        return source.data(session)
    pair = pair_of(source, session=session)
    if pair.data is None:
        raise DataError("these are latents without measured values; pass the data that they were inferred from")
    return pair.data


def trial_row(ds: xr.Dataset, trial: int | str | None) -> int:
    """Find a trial by its id; without one, a validation trial with something observed.

    Parameters
    ----------
    ds : Dataset
        Data or latents.
    trial : int, str or None
        Id; of trials without ids their number.

    Returns
    -------
    int
        Row of the trial.

    Raises
    ------
    SelectionError
        If there is no such trial.
    """
    if trial is None:
        if not len(rows := select_trials(ds, 1)):
            raise DataError("nothing is observed in any of these trials, so there is none to draw; choose other trials")
        return int(rows[0])
    ids, trial = trial_ids(ds), _one(trial, "trial")
    rows = np.flatnonzero(ids == trial)
    if not len(rows):
        raise SelectionError(f"there is no trial {trial!r}; {len(ids)} trials have the ids {_few(ids)}")
    return int(rows[0])


def _one(given: Any, name: str) -> Any:
    """The id of a trial or channel, where one is drawn."""
    if np.ndim(given) or isinstance(given, set | dict):
        raise SelectionError(f"{name} is {given!r}; expected one id")
    return given


def trial_ids(ds: xr.Dataset) -> NDArray[Any]:
    """Return the ids of trials; their numbers, from 0, where they have none.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    array (trial)
    """
    return ds["trial_id"].values if "trial_id" in ds.coords else np.arange(ds.sizes["trial"])


def channel_row(ds: xr.Dataset, channel: int | str) -> int:
    """Find a channel by its id.

    Parameters
    ----------
    ds : Dataset
        Data or latents.
    channel : int or str

    Returns
    -------
    int
        Row of the channel.

    Raises
    ------
    SelectionError
        If there is no such channel, or several are named.
    """
    return int(channel_rows(ds, _one(channel, "channel"))[0])


def channel_rows(ds: xr.Dataset, channels: int | str | Sequence[int | str]) -> NDArray[np.intp]:
    """Find channels by their ids.

    Parameters
    ----------
    ds : Dataset
        Data or latents.
    channels : int, str, or sequence of these
        Ids; one alone is a list of it.

    Returns
    -------
    int array (row)
        In the order of the ids.

    Raises
    ------
    SelectionError
        If there is no such channel, or none is named.
    """
    ids = ds["channel_id"].values
    found: list[int] = []
    named: Any = [channels] if np.ndim(channels) == 0 else channels
    for channel in named:
        rows = np.flatnonzero(ids == channel)
        if not len(rows):
            raise SelectionError(f"there is no {channel_name(ds)} {channel!r}; {len(ids)} have the ids {_few(ids)}")
        found += rows.tolist()
    if not found:
        raise SelectionError("channels=[] has no channel; name at least one, or omit it")
    return np.asarray(found, dtype=np.intp)


def liveliest(ds: xr.Dataset, mean: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Select channels with observed entries, or any of a forecast, from the half whose inferred rates vary most.

    Parameters
    ----------
    ds : Dataset
        Data or latents of the same trials, bins and channels.
    mean : array (trial, time, channel)
    count : int
        Most channels to select.

    Returns
    -------
    int array (row)
        In order.
    """
    observed = np.flatnonzero(entries(ds).any((0, 1)))
    by_sd = observed[np.argsort(-mean[:, :, observed].std((0, 1)), kind="stable")]
    return np.sort(thin(by_sd[: max(count, len(by_sd) // 2)], count))


def label_ids(ax: Axes, ids: NDArray[Any]) -> None:
    """Put ids beside the rows of an image, as many as there is room for.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        With rows at 0, 1, …
    ids : array (row)
    """
    rows = thin(np.arange(len(ids)), MAX_IDS)
    ax.set_yticks(rows, [str(ids[row]) for row in rows])


def _few(ids: NDArray[Any]) -> str:
    return ", ".join(map(str, ids[:5].tolist())) + (", …" if len(ids) > 5 else "")


@dataclass(frozen=True)
class Inferred:
    """Inferred rates of counts [Hz], or means of signals [the data's unit].

    Parameters
    ----------
    is_counts : bool
    mean : array (trial, time, channel)
    sd : array (trial, time, channel) or None
        Of the posterior.
    unit : str
    """

    is_counts: bool
    mean: NDArray[np.float32]
    sd: NDArray[np.float32] | None
    unit: str

    @property
    def name(self) -> str:
        """Name of the variable: "rate" or "mean"."""
        return "rate" if self.is_counts else "mean"


def inferred_values(data: xr.Dataset, latents: xr.Dataset) -> Inferred:
    """Return the rates or means of a latents Dataset.

    Parameters
    ----------
    data : Dataset
        What the latents were inferred from.
    latents : Dataset
        As returned by `Fitted.infer`.

    Returns
    -------
    Inferred
        Rates [Hz], or means in the data's unit, with their sd where there is one; (trial, time, channel).

    Raises
    ------
    MismatchError
        If there are none, or their trials, bins or channels are not those of the data.
    """
    name = "mean" if "mean" in latents else "rates"
    if name not in latents:
        raise MismatchError(
            f"the latents have neither 'rates' nor 'mean'; they have {sorted(map(str, latents.data_vars))}"
        )
    check_matching(data, latents)
    sd = latents[f"{name}_sd"].values if f"{name}_sd" in latents else None
    is_counts = name == "rates"
    return Inferred(is_counts, latents[name].values, sd, "Hz" if is_counts else str(data.attrs.get("unit", "a.u.")))


def plotted_values(data: xr.Dataset) -> NDArray[np.float64]:
    """Return values in the unit of inferred ones: counts as spikes per observed second, signals as they are.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    array (trial, time, channel)
        Hz for counts, else the data's unit.
    """
    values = data["values"].values.astype(np.float64)
    if data.attrs.get("unit") != "counts":
        return values
    exposure = data["exposure"].values if "exposure" in data else 1.0
    return np.asarray(values / (exposure * float(data.attrs["bin_width"])))


def standardise(part: Any, values: NDArray[Any], observed: NDArray[np.bool_]) -> Any:
    """Express a part of the values in sd from each channel's mean over all observed entries.

    Parameters
    ----------
    part : masked array (…, channel)
    values : array (trial, time, channel)
    observed : bool array (trial, time, channel)
    """
    n = np.maximum(observed.sum((0, 1)), 1)
    mean = np.where(observed, values, 0).sum((0, 1), dtype=float) / n
    sd = np.sqrt(np.where(observed, (values - mean) ** 2, 0).sum((0, 1)) / n)
    return (part - mean) / np.where(sd > 0, sd, 1)


def select_trials(data: xr.Dataset, count: int) -> NDArray[np.intp]:
    """Select trials spread over the session: validation trials where there are any, unobserved ones of a forecast alone.

    Parameters
    ----------
    data : Dataset
    count : int
        Most trials to select.

    Returns
    -------
    int array (row)
        Rows of the trials, in order.
    """
    observed = entries(data).any((1, 2))
    if "split" in data.coords and (observed & (data["split"].values == "valid")).any():
        observed &= data["split"].values == "valid"
    return thin(np.flatnonzero(observed), count)


def select_channels(data: xr.Dataset, count: int = MAX_CHANNELS) -> NDArray[np.intp]:
    """Select channels with observed entries, or any of a forecast, evenly spaced if there are more than `count`.

    Parameters
    ----------
    data : Dataset
    count : int
        Most channels to select.

    Returns
    -------
    int array (row)
        Numbers of the channels, in order.
    """
    return thin(np.flatnonzero(entries(data).any((0, 1))), count)


def entries(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Return the entries for which trials and channels are drawn: those that were observed; all of a forecast.

    Parameters
    ----------
    ds : Dataset
        Data or latents.

    Returns
    -------
    bool array (trial, time, channel)
    """
    observed = np.asarray(ds["observed"].values)
    return np.ones_like(observed) if _is_forecast(ds) else observed


def _is_forecast(ds: xr.Dataset) -> bool:
    """Whether these are latents of bins beyond the last one that was observed."""
    return "values" not in ds and "forecast" in ds.coords and bool(ds["forecast"].all())


def select_bins(data: xr.Dataset) -> slice:
    """Select the first 600 bins of a trial.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    slice
        Along ``time``.
    """
    return slice(0, min(data.sizes["time"], MAX_BINS))


def thin(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Select at most `count` rows, evenly spaced from the first to the last.

    Parameters
    ----------
    rows : int array (row)
    count : int

    Returns
    -------
    int array (row)
    """
    if len(rows) <= count:
        return rows
    positions = np.round(np.linspace(0, len(rows) - 1, count)).astype(np.intp)
    return np.asarray(rows[positions])


def peak_order(traces: NDArray[np.floating]) -> NDArray[np.intp]:
    """Order the columns of (time, channel) by the time of their peak.

    Parameters
    ----------
    traces : array (time, channel)

    Returns
    -------
    int array (channel)
        Numbers of the columns, that with the earliest peak first.
    """
    return np.argsort(traces.argmax(0), kind="stable")


def image_extent(data: xr.Dataset, n_rows: int) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of an image of the selected bins, with the first row on top.

    Parameters
    ----------
    data : Dataset
    n_rows : int
        Rows of the image.

    Returns
    -------
    (float, float, float, float)
        Left and right in seconds, bottom and top in rows, as `matplotlib.axes.Axes.imshow` takes them.
    """
    time = data["time"].values[select_bins(data)]
    half = float(data.attrs["bin_width"]) / 2
    return float(time[0]) - half, float(time[-1]) + half, n_rows - 0.5, -0.5


def prefixed(unit: str, largest: float) -> tuple[str, float]:
    """Choose a unit in which numbers are read easily: of volts microvolts or millivolts, where these are small.

    Parameters
    ----------
    unit : str
    largest : float
        Largest size of a number, in that unit.

    Returns
    -------
    unit : str
    factor : float
        By which numbers are multiplied.
    """
    if unit != "volts" or not np.isfinite(largest) or largest >= 1:
        return unit, 1.0
    return ("mV", 1e3) if largest >= LEAST_MILLIVOLTS else ("µV", 1e6)


def channel_name(data: xr.Dataset) -> str:
    """Return what a channel is: "unit", "electrode", "ROI" or "channel".

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    str
    """
    return CHANNEL_NAMES.get(str(data.attrs.get("kind")), "channel")


def channel_title(data: xr.Dataset, row: int) -> str:
    """Name one channel by its id and, where there are some, by its frequency band; by its series where several have the id.

    Parameters
    ----------
    data : Dataset
    row : int
        Of the channel.

    Returns
    -------
    str
    """
    ids = data["channel_id"].values
    title = f"{channel_name(data)} {ids[row]}"
    if "frequency_band" in data.coords:
        return f"{title}, {data['frequency_band'].values[row]}"
    if "series" in data.coords and (ids == ids[row]).sum() > 1:
        title += f", {str(data['series'].values[row]).rpartition('/')[2]}"
    return title


def channel_label(data: xr.Dataset, n_plotted: int) -> str:
    """Label the channel axis, with the number of plotted channels if not all are.

    Parameters
    ----------
    data : Dataset
    n_plotted : int
        Channels that are plotted.

    Returns
    -------
    str
    """
    name, total = channel_name(data), data.sizes["channel"]
    return name if n_plotted == total else f"{name} ({n_plotted} of {total})"


def time_label(data: xr.Dataset) -> str:
    """Label the time axis, with the number of plotted bins if not all are.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    str
    """
    n_plotted, total = len(data["time"].values[select_bins(data)]), data.sizes["time"]
    return "time (s)" if n_plotted == total else f"time (s), first {n_plotted} of {total} bins"


def trial_title(data: xr.Dataset, trial: int) -> str:
    """Return id and split of a trial.

    Parameters
    ----------
    data : Dataset
    trial : int
        Row of the trial.

    Returns
    -------
    str
    """
    part = f", {data['split'].values[trial]}" if "split" in data.coords else ""
    return f"trial {trial_ids(data)[trial]}{part}"
