"""Single channels over time: traces of a trial, averages over trials, and fluorescence with what it comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from nwb_sbtt.data.schema import infers_spikes
from nwb_sbtt.errors import DataError
from nwb_sbtt.plot.colours import colours_by, default_column
from nwb_sbtt.plot.lanes import TITLE_PAD, Lanes
from nwb_sbtt.plot.selection import (
    Inferred,
    Pair,
    Source,
    channel_row,
    channel_rows,
    channel_title,
    entries,
    liveliest,
    pair_of,
    plotted_values,
    prefixed,
    select_bins,
    thin,
    time_label,
    trial_row,
    trial_title,
)
from nwb_sbtt.plot.style import BLUE, PURPLE, RED, WIDTH, axes_of, picture, theme

TRUE_STYLE = (0, (4, 2))
"""Dashes of true rates."""
FEWEST_SPIKES = 0.1
"""Expected spikes in a bin from which on they are drawn."""
MAX_TRIALS = 40
OBSERVED_BAND, INFERRED_BAND = 0.12, 0.25
"""Opacity of the bands around averages."""
Floats = NDArray[np.float64]


@picture
def traces(
    source: Source,
    latents: xr.Dataset | None = None,
    *,
    channels: int | str | Sequence[int | str] | None = None,
    trial: int | str | None = None,
    color_by: str | None = None,
    session: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw channels of a trial, one above the other: observed values, inferred rate or mean with posterior sd, true rate.

    Parameters
    ----------
    source : Dataset or Fitted
        Data, or latents alone, also those of a forecast; a fit reads its data again and infers them.
    latents : Dataset, optional
        What was inferred from the data.
    channels : int, str, or sequence of these, optional
        Ids; by default six of those whose inferred rates vary most.
    trial : int or str, optional
        Id of the trial; by default one of validation.
    color_by : str, optional
        Column of trials: what was inferred of up to 40 trials is drawn in colours of this column, without data.
    session : str, optional
        Fitted session, of a fit of several.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes
        Numbers on the right are the lowest and highest value of each channel.

    Raises
    ------
    DataError
        If nothing was inferred.
    MismatchError
        If latents and data do not match.
    SelectionError
        If there is no such trial, channel or column.
    """
    pair = pair_of(source, latents, session)
    inferred, base = pair.inferred(), pair.base
    rows = liveliest(base, inferred.mean, 6) if channels is None else channel_rows(base, channels)
    colours = None if color_by is None else colours_by(base, color_by)
    row, bins = trial_row(base, trial), select_bins(base)
    ax = axes_of(ax, (WIDTH * 0.75, 0.9 + 0.75 * len(rows)))
    time, half = base["time"].values[bins], float(base.attrs["bin_width"]) / 2
    lanes = Lanes(ax, unit=inferred.unit, quantity=inferred.name)
    for channel in rows.tolist():
        label = channel_title(base, channel)
        if colours is not None:
            drawn = thin(np.flatnonzero(entries(base).any((1, 2))), MAX_TRIALS)
            lines = inferred.mean[drawn][:, bins, channel].astype(float)
            lane = lanes.add(label, float(lines.min()), float(lines.max()))
            for i, line in zip(drawn, lines, strict=True):
                lane.plot(time, line, color=colours.of(colours.values[i]), lw=0.8, alpha=0.8)
        else:
            _draw_trial(lanes, label, pair, row=row, channel=channel, time=time, bins=bins, half=half)
    lanes.finish()
    ax.set_xlim(time[0] - half, time[-1] + half)
    ax.set_xlabel(time_label(base))
    if colours is not None:
        ax.set_title(f"{pair.verb} {inferred.name}s of {len(drawn)} trials", loc="left", pad=TITLE_PAD)
        colours.add_key(ax, above=True)
    else:
        ax.set_title(trial_title(base, row), loc="left", pad=TITLE_PAD)
        lanes.legend()
    return ax


def _draw_trial(
    lanes: Lanes,
    label: str,
    pair: Pair,
    *,
    row: int,
    channel: int,
    time: Floats,
    bins: slice,
    half: float,
) -> None:
    """One channel of one trial: where it is missing, what was measured, what was inferred, and the truth."""
    data, inferred = pair.data, pair.inferred()
    mean = inferred.mean[row, bins, channel].astype(float)
    sd = None if inferred.sd is None else inferred.sd[row, bins, channel].astype(float)
    low, high = mean.min(), mean.max()
    if sd is not None:
        low, high = (mean - sd).min(), (mean + sd).max()
    true = None
    if data is not None and "true_rates" in data and inferred.is_counts:
        true = data["true_rates"].values[row, bins, channel]
        low, high = min(low, true.min()), max(high, true.max())
    values, observed = mean[:0], np.zeros(len(time), dtype=bool)
    if data is not None:
        values, observed = data["values"].values[row, bins, channel], data["observed"].values[row, bins, channel]
        if not inferred.is_counts and observed.any():
            low, high = min(low, values[observed].min()), max(high, values[observed].max())
    if inferred.is_counts:
        low = 0.0
    lane = lanes.add(label, float(low), float(high))
    if data is not None:
        lane.spans(_missing(time, observed, half), color=theme().missing, label="missing")
    if sd is not None:
        band = "± SD" if pair.verb == "forecast" else "± posterior SD"
        lane.fill(time, np.maximum(mean - sd, low), mean + sd, color=BLUE, label=band)
    if true is not None:
        lane.plot(time, true, color=theme().ink, lw=1.2, ls=TRUE_STYLE, label="true rate")
    lane.plot(time, mean, color=BLUE, lw=1.8, label=f"{pair.verb} {inferred.name}")
    if data is None:
        return
    if inferred.is_counts:
        spikes = observed & (values > 0)
        lane.ticks(time[spikes], values[spikes], color=RED, label="spikes (longer: more)")
    else:
        lane.plot(time[observed], values[observed], ls="", marker=".", color=RED, ms=3, label="observed")


@picture
def psth(
    source: Source,
    latents: xr.Dataset | None = None,
    *,
    channel: int | str | None = None,
    by: str | None = None,
    smooth: float = 0.05,
    session: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw averages of a channel over trials with one value of a column: observed (thin) and inferred (thick).

    Bands are ± the standard error of each average over its trials.

    Parameters
    ----------
    source : Dataset or Fitted
        Data, or latents alone; a fit reads its data again and infers them.
    latents : Dataset, optional
        What was inferred from the data; without it observed averages alone are drawn.
    channel : int or str, optional
        Id; by default the one whose averages differ most.
    by : str, optional
        Column of trials; by default ``condition`` if there is one, and else all trials are averaged.
    smooth : float
        Standard deviation of the Gaussian kernel that smooths observed averages, in seconds; 0 for none. Only observed entries
        count: sums of weighted values are divided by sums of the weights of observed time.
    session : str, optional
        Fitted session, of a fit of several.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If `smooth` is negative.
    MismatchError
        If latents and data do not match.
    SelectionError
        If there is no such channel or column, or a scale of numbers is no condition.
    """
    if not (np.isfinite(smooth) and smooth >= 0):
        raise DataError(f"smooth is {smooth!r}; expected a standard deviation in seconds, 0 for no smoothing")
    pair = pair_of(source, latents, session)
    base = pair.base
    column = by or default_column(base)
    colours = None if column is None else colours_by(base, column)
    if colours is not None:
        colours.check_groups()
    rows_of = {"all trials": np.arange(base.sizes["trial"])}
    if colours is not None:
        rows_of = {str(group): colours.rows(group) for group in colours.groups}
    inferred = None if pair.latents is None else pair.inferred()
    of = channel_row(base, channel) if channel is not None else _most_different(pair.base, inferred, rows_of)
    bins = select_bins(base)
    time, width = base["time"].values[bins], float(base.attrs["bin_width"])
    ax = axes_of(ax, (WIDTH * 0.55, 3.0))
    for i, rows in enumerate(rows_of.values()):
        colour = to_rgba(BLUE) if colours is None else colours.of(colours.groups[i])
        if pair.data is not None:
            measured, error = _average(pair.data, rows, bins, int(of), smooth / width)
            ax.plot(time, measured, color=colour, lw=0.9, alpha=0.75)
            ax.fill_between(time, measured - error, measured + error, color=colour, alpha=OBSERVED_BAND, lw=0)
        if inferred is not None:
            courses = inferred.mean[rows][:, bins, of].astype(float)
            mean, error = courses.mean(0), _standard_error(courses)
            ax.plot(time, mean, color=colour, lw=2)
            ax.fill_between(time, mean - error, mean + error, color=colour, alpha=INFERRED_BAND, lw=0)
    unit = "Hz" if base.attrs.get("unit") == "counts" else str(base.attrs.get("unit", "a.u."))
    quantity = "rate" if base.attrs.get("unit") == "counts" else "mean"
    shown_unit, factor = prefixed(unit, float(np.abs(ax.dataLim.intervaly).max()))
    ax.yaxis.set_major_formatter(lambda value, _: f"{factor * value:g}")
    ax.set_ylabel(f"{quantity} ({shown_unit})")
    ax.set_xlabel(time_label(base))
    ax.set_xlim(time[0] - width / 2, time[-1] + width / 2)
    smoothed = f" (smoothed, sd {1000 * smooth:.3g} ms)" if smooth > 0 else ""
    thin_thick = f"thin: observed{smoothed}; thick: inferred" if pair.data is not None and inferred is not None else ""
    ax.set_title(channel_title(base, of), loc="left")
    ax.set_title(thin_thick, loc="right", fontsize=8, color=theme().grey)
    if colours is not None:
        colours.add_key(ax)
    return ax


def _average(data: xr.Dataset, rows: NDArray[np.intp], bins: slice, channel: int, sd: float) -> tuple[Floats, Floats]:
    """Average of observed values over trials, smoothed over observed entries alone, and its standard error.

    Both are NaN where nothing is near. The average is the ratio of two sums over trials, of values and of observed time; its
    error is that of a ratio (Cochran, Sampling Techniques, 1977, equation 2.46), 0 for a single trial.
    """
    observed = data["observed"].values[rows, bins, channel]
    weight = observed * (data["exposure"].values[rows, bins, channel] if "exposure" in data else 1.0)
    total = plotted_values(data.isel(trial=rows, channel=[channel]))[:, bins, 0] * weight
    if sd > 0:
        reach = int(np.ceil(4 * sd))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
        total, weight = (correlate1d(each.astype(float), kernel, axis=1, mode="constant") for each in (total, weight))
    time = weight.sum(0)
    known = time > 1e-9
    average: Floats = np.divide(total.sum(0), time, out=np.full(len(time), np.nan), where=known)
    squares = ((total - average * weight) ** 2).sum(0) * len(rows) / max(len(rows) - 1, 1)
    return average, np.divide(np.sqrt(squares), time, out=np.full(len(time), np.nan), where=known)


def _standard_error(courses: Floats) -> Floats:
    """Of the mean over trials (trial, time); 0 for a single trial."""
    n = len(courses)
    return np.asarray(courses.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(courses.shape[1]))


def _most_different(base: xr.Dataset, inferred: Inferred | None, rows_of: dict[str, NDArray[np.intp]]) -> int:
    """The channel whose averages vary most, over conditions and time; of counts, relative to Poisson noise."""
    values = base["values"].values if inferred is None else inferred.mean
    means = np.stack([values[rows].mean(0, dtype=float) for rows in rows_of.values()])
    spread = means.var((0, 1))
    if base.attrs.get("unit") == "counts":
        spread = spread / np.maximum(means.mean((0, 1)), 1e-9)
    spread[~base["observed"].values.any((0, 1))] = -1
    return int(spread.argmax())


@picture
def calcium(
    source: Source,
    latents: xr.Dataset | None = None,
    *,
    channel: int | str | None = None,
    trial: int | str | None = None,
    session: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one ROI of a trial: fluorescence, the events or spikes that it comes from, and their rate, each in its unit.

    Parameters
    ----------
    source : Dataset or Fitted
        Data of ROIs: fluorescence, or events found in it with the ``denoised`` fluorescence; or latents alone.
    latents : Dataset, optional
        What was inferred from the data.
    channel : int or str, optional
        Id of the ROI; by default the one that varies most.
    trial : int or str, optional
        Id of the trial; by default one of validation.
    session : str, optional
        Fitted session, of a fit of several.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If channels are not ROIs.
    MismatchError
        If latents and data do not match.
    SelectionError
        If there is no such trial or ROI.
    """
    pair = pair_of(source, latents, session)
    base = pair.base
    if base.attrs.get("kind") != "rois":
        raise DataError(
            f"the channels are {base.attrs.get('kind')!r}; expected ROIs of imaging. Plot other channels with `traces`"
        )
    values = base["values"].values if pair.latents is None else pair.inferred().mean
    row, bins = trial_row(base, trial), select_bins(base)
    of = channel_row(base, channel) if channel is not None else int(liveliest(base, values, 1)[0])
    time, half = base["time"].values[bins], float(base.attrs["bin_width"]) / 2

    def part(ds: xr.Dataset | None, name: str) -> Floats | None:
        return None if ds is None or name not in ds else ds[name].values[row, bins, of].astype(float)

    unit = str(base.attrs.get("unit", "a.u."))
    data, denoised = pair.data, part(pair.data, "denoised")
    measured, mean, rate = part(data, "values"), part(pair.latents, "mean"), part(pair.latents, "rates")
    true_rate, true_spikes = part(data, "true_rates"), part(data, "true_spikes")
    spikes = part(pair.latents, "events") if pair.latents is not None and infers_spikes(pair.latents) else None
    seen = None if data is None else data["observed"].values[row, bins, of]
    if measured is not None and seen is not None:
        measured = np.where(seen, measured, np.nan)
    lanes = [
        (rate, true_rate, "rate (Hz)"),
        (spikes, true_spikes, "spikes"),
        (mean, None, f"event size\n({unit})" if denoised is not None else f"fluorescence\n({unit})"),
    ]
    ax = axes_of(ax, (WIDTH * 0.75, 4.0))
    drawn = Lanes(ax, unit="")
    for inferred, true, label in lanes:
        of_data = measured if label.startswith(("event", "fluorescence")) else None
        present = [each for each in (inferred, true, of_data) if each is not None and np.isfinite(each).any()]
        if not present:
            continue
        low, high = min(np.nanmin(each) for each in present), max(np.nanmax(each) for each in present)
        lane = drawn.add(label, float(low if of_data is not None else min(low, 0.0)), float(high))
        if of_data is not None and seen is not None:
            lane.spans(_missing(time, seen, half), color=theme().missing, label="missing")
            lane.plot(time[seen], of_data[seen], ls="", marker=".", color=RED, ms=3.5, label="observed")
        if true is not None and label == "spikes":
            lane.stems(time, true, color=theme().grey, label="true")
        elif true is not None:
            lane.plot(time, true, color=theme().ink, lw=1.2, ls=TRUE_STYLE, label="true")
        if inferred is not None and label == "spikes":
            lane.stems(time, np.where(inferred >= FEWEST_SPIKES, inferred, 0), color=PURPLE, label="inferred spikes")
        elif inferred is not None:
            lane.plot(time, inferred, color=BLUE, lw=1.6, label="inferred")
    if denoised is not None:
        lane = drawn.add(f"denoised\n({unit})", float(np.nanmin(denoised)), float(np.nanmax(denoised)))
        lane.plot(time, denoised, color=theme().ink, lw=1.2, label="denoised fluorescence")
    drawn.finish()
    ax.set_xlim(time[0] - half, time[-1] + half)
    ax.set_xlabel(time_label(base))
    ax.set_title(f"{channel_title(base, of)}, {trial_title(base, row)}", loc="left", pad=TITLE_PAD)
    drawn.legend()
    return ax


def _missing(time: Floats, observed: NDArray[np.bool_], half: float) -> list[tuple[float, float]]:
    """Left and right end of each stretch of bins without a measurement."""
    edges = np.diff(np.concatenate([[0], (~observed).astype(int), [0]]))
    first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip((time[first] - half).tolist(), (time[last] + half).tolist(), strict=True))
