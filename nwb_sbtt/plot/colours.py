"""Colours of trials, by any of their columns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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
from nwb_sbtt.errors import DataError, SelectionError
from nwb_sbtt.plot.selection import thin
from nwb_sbtt.plot.style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, theme

CATEGORIES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
LONGEST_NAME = 28
"""Characters of a name in a legend: a longer one would take the place of the picture."""
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

    def check_groups(self) -> None:
        """Refuse a column by which trials cannot be averaged.

        Raises
        ------
        DataError
            If it is a scale of numbers, or no trial has a value.
        """
        if self.scale is not None:
            raise DataError(
                f"{self.column!r} has {len(np.unique(self.values))} different numbers with few trials each; use a column of "
                "conditions, or add a column that groups the numbers: ds.assign_coords(condition=('trial', …))"
            )
        if not self.groups:
            raise DataError(f"no trial has a value of {self.column!r}; choose another column")

    def add_key(self, ax: Axes, *, above: bool = False) -> None:
        """Say beside axes what the colours mean.

        Parameters
        ----------
        ax : matplotlib.axes.Axes
        above : bool
            Whether names stand above the axes, whose right side is taken.
        """
        (title,) = short_names([self.column])
        if self.scale is not None:
            label = f"{title} (s)" if self.column in SECONDS else title
            mappable = ScalarMappable(self.scale, matplotlib.colormaps["viridis"])
            pad = 0.1 if above else 0.02
            ax.figure.colorbar(mappable, ax=ax, fraction=0.04, pad=pad, shrink=0.8).set_label(label)
            return
        names = short_names([str(group) for group in self.groups])
        handles = [
            Line2D([], [], color=self.of(group), lw=2, label=name)
            for group, name in zip(self.groups, names, strict=True)
        ]
        without = {value for value in self.values.tolist() if value == value} - set(self.groups)
        rest = [f"{len(without)} others"] * bool(without) + ["no value"] * bool((self.values != self.values).any())
        handles += [Line2D([], [], color=theme().grey, lw=2, label=name) for name in rest]
        if above:
            handles.insert(0, Line2D([], [], lw=0, label=title))
            ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=7, **_COMPACT)
            return
        ax.legend(
            handles=handles,
            title=title,
            loc="center left",
            bbox_to_anchor=(1.12 if ax.name == "3d" else 1.02, 0.5),
            alignment="left",
            **_COMPACT,
        )


_COMPACT: Any = {"borderaxespad": 0.0, "handlelength": 1.2, "columnspacing": 1.2}


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten names for a legend; those of one beginning are told apart by what follows it.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    list of str
        Of at most `LONGEST_NAME` characters; an empty name is "(empty)".

    Examples
    --------
    >>> short_names(["left", ""])
    ['left', '(empty)']
    >>> short_names(["reach to the target in the upper left", "reach to the target in the upper right"])
    ['…left', '…right']
    """
    shortened = [_shortened(name) for name in names]
    if len(set(shortened)) == len(set(names)):
        return shortened
    letters = enumerate(zip(*names, strict=False))
    same = next((i for i, each in letters if len(set(each)) > 1), min(map(len, names)))
    beginning = names[0].rfind(" ", 0, same) + 1 or same
    return [_shortened(f"…{name[beginning:]}") for name in names]


def _shortened(name: str) -> str:
    if not name.strip():
        return "(empty)"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"


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
