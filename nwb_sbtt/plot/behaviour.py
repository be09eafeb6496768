"""Behaviour decoded from latents."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from nwb_sbtt.errors import DataError
from nwb_sbtt.plot.colours import colours_by
from nwb_sbtt.plot.lanes import TITLE_PAD, Lanes
from nwb_sbtt.plot.selection import dataset_of, thin
from nwb_sbtt.plot.style import BLUE, WIDTH, axes_of, picture, theme

MAX_TRIALS, MAX_COLUMNS = 8, 4


@picture
def decoding(decoded: xr.Dataset, *, color_by: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw behaviour as measured and as decoded, over some of the trials that the decoder was not fitted to.

    Parameters
    ----------
    decoded : Dataset
        From `nwb_sbtt.evaluate.decode`: ``measured`` and ``decoded`` (trial, time, column), and ``r2`` of each column.
    color_by : str, optional
        Column of trials that what was decoded is coloured by.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes
        Up to eight trials, one after the other, and up to four columns, one above the other.

    Raises
    ------
    DataError
        If nothing was decoded.
    SelectionError
        If trials have no such column.
    """
    ds = dataset_of(decoded)
    if not {"measured", "decoded", "r2"} <= set(ds):
        raise DataError(
            f"the Dataset has {sorted(map(str, ds.data_vars))}; expected the result of sb.evaluate.decode(latents, "
            "behaviour)"
        )
    colours = None if color_by is None else colours_by(ds, color_by)
    # Trials that nothing was measured in tell nothing.
    rows = thin(np.flatnonzero(np.isfinite(ds["measured"].values).any((1, 2))), MAX_TRIALS)
    names = ds["column"].values[:MAX_COLUMNS]
    ax = axes_of(ax, (WIDTH * 0.8, 1.0 + 1.0 * len(names)))
    time = ds["time"].values
    step = float(time[1] - time[0]) if len(time) > 1 else 1.0
    length = float(time[-1] - time[0]) + 6 * step
    unit = str(ds.attrs.get("unit", "a.u."))
    lanes = Lanes(ax, unit=unit)
    for column, name in enumerate(names):
        measured, predicted = (ds[each].values[rows, :, column] for each in ("measured", "decoded"))
        lane = lanes.add(
            f"{name}\nR² {float(ds['r2'].values[column]):.2f}",
            float(min(np.nanmin(measured), np.nanmin(predicted))),
            float(max(np.nanmax(measured), np.nanmax(predicted))),
        )
        for k, row in enumerate(rows):
            lane.plot(time + k * length, measured[k], color=theme().ink, lw=1.2, label="measured")
            colour = BLUE if colours is None else colours.of(colours.values[row])
            lane.plot(time + k * length, predicted[k], color=colour, lw=1.6, label="decoded")
    lanes.finish()
    for k in range(1, len(rows)):
        ax.axvline(float(time[0]) + k * length - 3 * step, color=theme().grey, lw=0.4)
    ids = ds["trial_id"].values[rows] if "trial_id" in ds.coords else rows
    ax.set_xticks([float(time.mean()) + k * length for k in range(len(rows))], [str(each) for each in ids])
    ax.set_xlabel(f"trial, {float(time[-1] - time[0]) + step:.3g} s each")
    ax.set_title(f"decoded from {ds.attrs.get('of', 'the latents')}", loc="left", pad=TITLE_PAD)
    if colours is not None:
        ax.set_title(f"{theme().ink_name}: measured", loc="right", pad=TITLE_PAD, fontsize=8, color=theme().grey)
        colours.add_key(ax, above=True)
    else:
        lanes.legend()
    return ax
