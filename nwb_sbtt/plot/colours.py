"""Colours of trials, by any of their columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from nwb_sbtt.data.columns import MAX_CATEGORIES, known_values, trial_columns
from nwb_sbtt.errors import SelectionError
from nwb_sbtt.plot.selection import thin
from nwb_sbtt.plot.style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, theme

CATEGORIES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
SECONDS = ("trial_start", "start_time", "stop_time")
"""Columns whose unit is known: seconds on the session clock."""
Colour = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrialColours:
    """Colours of trials by a column.

    Parameters
    ----------
    column : str
    values : array (trial)
        Of the column.
    groups : tuple
        Its values that have a name and a colour of their own, in order; empty where it is a scale of numbers.
    of : callable
        From a value to a colour.
    scale : Normalize or None
        Of numbers.
    """

    column: str
    values: NDArray[Any]
    groups: tuple[Hashable, ...]
    of: Callable[[Any], Colour] = field(repr=False)
    scale: Normalize | None = None

    def rows(self, group: Hashable) -> NDArray[np.intp]:
        """Return the trials of a group.

        Parameters
        ----------
        group : hashable
        """
        return np.flatnonzero(self.values == group)

    def add_key(self, ax: Axes, *, above: bool = False) -> None:
        """Say beside axes what the colours mean.

        Parameters
        ----------
        ax : matplotlib.axes.Axes
        above : bool
            Whether names stand above the axes, whose right side is taken.
        """
        if self.scale is not None:
            label = f"{self.column} (s)" if self.column in SECONDS else self.column
            mappable = ScalarMappable(self.scale, matplotlib.colormaps["viridis"])
            pad = 0.1 if above else 0.02
            ax.figure.colorbar(mappable, ax=ax, fraction=0.04, pad=pad, shrink=0.8).set_label(label)
            return
        handles = [Line2D([], [], color=self.of(group), lw=2, label=str(group)) for group in self.groups]
        others = len(set(self.values.tolist())) - len(self.groups)
        handles += [Line2D([], [], color=theme().grey, lw=2, label=f"{others} others")] if others > 0 else []
        if above:
            handles.insert(0, Line2D([], [], lw=0, label=self.column))
            ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=7, **_COMPACT)
            return
        ax.legend(
            handles=handles,
            title=self.column,
            loc="center left",
            bbox_to_anchor=(1.12 if ax.name == "3d" else 1.02, 0.5),
            alignment="left",
            **_COMPACT,
        )


_COMPACT: Any = {"borderaxespad": 0.0, "handlelength": 1.2, "columnspacing": 1.2}


def colours_by(ds: xr.Dataset, column: str) -> TrialColours:
    """Choose colours of trials by a column.

    Parameters
    ----------
    ds : Dataset
        Data or latents.
    column : str
        A coordinate along ``trial``, such as ``condition``, ``split`` or ``trial_start``.

    Returns
    -------
    TrialColours
        Up to 12 values have colours of their own; more numbers are a scale, and of more texts the first have names.

    Raises
    ------
    SelectionError
        If trials have no such column.
    """
    if column not in ds.coords or ds[column].dims != ("trial",):
        raise SelectionError(
            f"trials have no column {column!r}; they have {', '.join(trial_columns(ds))}. To read other columns, list "
            "them in read.trial_columns"
        )
    values = ds[column].values
    is_number = values.dtype.kind in "iuf"
    if not is_number:
        values = values.astype(str)
    known = known_values(values)
    if is_number and len(known) > MAX_CATEGORIES:
        scale = Normalize(float(known[0]), float(known[-1]))
        colour_map = matplotlib.colormaps["viridis"]

        def on_scale(value: Any) -> Colour:
            return to_rgba(theme().grey) if not np.isfinite(value) else colour_map(scale(float(value)))

        return TrialColours(column, values, (), on_scale, scale)
    groups = tuple(known[thin(np.arange(len(known)), MAX_CATEGORIES)].tolist())
    if len(groups) <= len(CATEGORIES):
        palette = [to_rgba(colour) for colour in CATEGORIES]
    else:
        palette = [matplotlib.colormaps["turbo"](x) for x in np.linspace(0.05, 0.95, len(groups))]
    colour = dict(zip(groups, palette, strict=False))
    return TrialColours(column, values, groups, lambda value: colour.get(_plain(value), to_rgba(theme().grey)))


def default_column(ds: xr.Dataset) -> str | None:
    """Return "condition" where trials have such a column with several values.

    Parameters
    ----------
    ds : Dataset
        Data or latents.

    Returns
    -------
    str or None
    """
    has_it = "condition" in ds.coords and ds["condition"].dims == ("trial",)
    return "condition" if has_it and len(np.unique(ds["condition"].values.astype(str))) > 1 else None


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
