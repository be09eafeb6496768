"""Behaviour decoded from latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from nwb_sbtt.errors import DataError
from nwb_sbtt.plot.colours import TrialColours, colours_by
from nwb_sbtt.plot.lanes import TITLE_PAD, Lanes
from nwb_sbtt.plot.selection import dataset_of, thin
from nwb_sbtt.plot.style import BLUE, ORANGE, WIDTH, axes_of, picture, theme

MAX_TRIALS, MAX_COLUMNS = 8, 4


@picture
def decoding(decoded: xr.Dataset, *, color_by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw behaviour as measured and as decoded, of trials that the decoder was not fitted to and that are scored.

    Parameters
    ----------
    decoded : Dataset
        From `nwb_sbtt.decode`.
    color_by : str, optional
        Column of trials that what was decoded is coloured by.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes
        Of behaviour in bins up to eight trials, one after the other, and up to four columns, one above the other, decoded
        from the latents (thick) and from the smoothed data (thin). Of numbers of trials, decoded over measured. Of classes,
        the share of trials of each class that were decoded as each.

    Raises
    ------
    DataError
        If nothing was decoded.
    SelectionError
        If trials have no such column.
    """
    ds = dataset_of(decoded)
    if not {"measured", "decoded"} <= set(ds) or "predictor" not in ds["decoded"].dims:
        raise DataError(
            f"the Dataset has {sorted(map(str, ds.data_vars))}; expected the result of sb.decode(latents, behaviour)"
        )
    colours = None if color_by is None else colours_by(ds, color_by)
    if "accuracy" in ds:
        return _confusion(ds, ax)
    if "time" not in ds["measured"].dims:
        return _scatter(ds, colours, ax)
    return _courses(ds, colours, ax)


def _courses(ds: xr.Dataset, colours: TrialColours | None, ax: Axes | None) -> Axes:
    # Trials that nothing was measured in tell nothing.
    rows = thin(np.flatnonzero(np.isfinite(ds["measured"].values).any((1, 2)) & ds["scored"].values), MAX_TRIALS)
    names = ds["column"].values[:MAX_COLUMNS]
    sources = ds["predictor"].values.tolist()
    ax = axes_of(ax, (WIDTH * 0.8, 1.0 + 1.0 * len(names)))
    time = ds["time"].values
    step = float(time[1] - time[0]) if len(time) > 1 else 1.0
    length = float(time[-1] - time[0]) + 6 * step
    lanes = Lanes(ax, unit=str(ds.attrs.get("unit", "a.u.")))
    for column, name in enumerate(names):
        measured, decoded = ds["measured"].values[rows, :, column], ds["decoded"].values[..., column][:, rows]
        lane = lanes.add(
            f"{name}\nR² {float(ds['r2'].values[0, column]):.2f}",
            float(min(np.nanmin(measured), np.nanmin(decoded))),
            float(max(np.nanmax(measured), np.nanmax(decoded))),
        )
        for k, row in enumerate(rows):
            lane.plot(time + k * length, measured[k], color=theme().ink, lw=1.2, label="measured")
            for source, line in zip(sources[1:], decoded[1:, k], strict=True):
                lane.plot(time + k * length, line, color=ORANGE, lw=0.9, alpha=0.9, label=f"from {source}")
            colour = BLUE if colours is None else colours.of(colours.values[row])
            lane.plot(time + k * length, decoded[0, k], color=colour, lw=1.6, label=f"from {sources[0]}")
    lanes.finish()
    for k in range(1, len(rows)):
        ax.axvline(float(time[0]) + k * length - 3 * step, color=theme().grey, lw=0.4)
    ids = ds["trial_id"].values[rows] if "trial_id" in ds.coords else rows
    ax.set_xticks([float(time.mean()) + k * length for k in range(len(rows))], [str(each) for each in ids])
    ax.set_xlabel(f"trial, {float(time[-1] - time[0]) + step:.3g} s each")
    _title(ds, ax)
    if colours is not None:
        ax.set_title(f"{theme().ink_name}: measured", loc="right", pad=TITLE_PAD, fontsize=8, color=theme().grey)
        colours.add_key(ax, above=True)
    else:
        lanes.legend()
    return ax


def _scatter(ds: xr.Dataset, colours: TrialColours | None, ax: Axes | None) -> Axes:
    ax = axes_of(ax, (WIDTH * 0.5, WIDTH * 0.45))
    rows = np.flatnonzero(ds["scored"].values)
    measured, decoded = ds["measured"].values[rows, 0], ds["decoded"].values[0, rows, 0]
    dots: Any = BLUE if colours is None else [colours.of(value) for value in colours.values[rows]]
    ax.scatter(measured, decoded, s=12, color=dots)
    ends = [min(measured.min(), decoded.min()), max(measured.max(), decoded.max())]
    ax.plot(ends, ends, color=theme().grey, lw=0.8)
    ax.set_xlabel(f"{ds['column'].values[0]}, measured")
    ax.set_ylabel("decoded")
    _title(ds, ax)
    ax.set_title(f"R² {float(ds['r2'].values[0, 0]):.2f}", loc="right", pad=TITLE_PAD, fontsize=8, color=theme().grey)
    if colours is not None:
        colours.add_key(ax)
    return ax


def _confusion(ds: xr.Dataset, ax: Axes | None) -> Axes:
    ax = axes_of(ax, (WIDTH * 0.5, WIDTH * 0.45))
    rows = ds["scored"].values
    measured, decoded = ds["measured"].values[rows, 0], ds["decoded"].values[0, rows, 0]
    classes = np.unique(np.concatenate([measured, decoded]))
    counts = np.array([[((measured == true) & (decoded == other)).sum() for other in classes] for true in classes])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        ax.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=8, color="black" if share > 0.6 else "white")
    labels = [str(each) for each in classes]
    ax.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xlabel("decoded")
    ax.set_ylabel(f"{ds['column'].values[0]}, measured")
    _title(ds, ax)
    accuracy = f"accuracy {float(ds['accuracy'].values[0]):.2f}, chance {float(ds['chance']):.2f}"
    ax.set_title(accuracy, loc="right", fontsize=8, color=theme().grey)
    return ax


def _title(ds: xr.Dataset, ax: Axes) -> None:
    lag = float(ds.attrs.get("lag", 0.0))
    later = f", {1000 * lag:.3g} ms later" if lag else ""
    ax.set_title(f"decoded from {ds.attrs.get('of', 'the latents')}{later}", loc="left", pad=TITLE_PAD)
