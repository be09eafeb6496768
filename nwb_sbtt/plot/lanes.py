"""Several quantities above each other in one axes, each with a scale of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nwb_sbtt.plot.selection import prefixed
from nwb_sbtt.plot.style import theme

TITLE_PAD = 22
"""Points between axes and their title, with a line of legend between."""
GAP = 0.28
"""Free height between two lanes, as a share of a lane."""
LABEL_MARGIN = 10
"""Pixels that stay free beside the labels of lanes."""
LEAST_LABEL = 5.0
"""Points of the smallest label."""
Floats = NDArray[np.floating]


class Lane:
    """A strip of axes in which one quantity is drawn in its own scale.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    bottom : float
        Of the strip, which is 1 − `GAP` high.
    low, high : float
        Values at its bottom and top.
    """

    def __init__(self, ax: Axes, bottom: float, low: float, high: float) -> None:
        self._ax, self._bottom, self._low = ax, bottom, low
        self._scale = (1 - GAP) / (high - low) if high > low else 0.0

    def y(self, values: Floats) -> Floats:
        """Return heights of values.

        Parameters
        ----------
        values : array
        """
        return self._bottom + (np.asarray(values, dtype=float) - self._low) * self._scale

    def plot(self, x: Floats, values: Floats, **style: Any) -> None:
        """Draw a line or dots.

        Parameters
        ----------
        x, values : array
        **style
            Of `matplotlib.axes.Axes.plot`.
        """
        self._ax.plot(x, self.y(values), **style)

    def fill(self, x: Floats, low: Floats, high: Floats, *, color: Any, label: str) -> None:
        """Fill between two lines.

        Parameters
        ----------
        x, low, high : array
        color : color
        label : str
        """
        self._ax.fill_between(x, self.y(low), self.y(high), color=color, alpha=0.25, lw=0, label=label)

    def spans(self, ends: Sequence[tuple[float, float]], *, color: Any, label: str) -> None:
        """Shade stretches of time.

        Parameters
        ----------
        ends : sequence of (float, float)
            Left and right end of each.
        color : color
        label : str
        """
        if ends:
            widths = [(left, right - left) for left, right in ends]
            place = (self._bottom - 0.6 * GAP, 1 - 0.15 * GAP)
            self._ax.broken_barh(widths, place, facecolors=color, alpha=0.6, lw=0, label=label)

    def ticks(self, x: Floats, sizes: Floats, *, color: Any, label: str) -> None:
        """Draw ticks below the lane, longer where there is more.

        Parameters
        ----------
        x, sizes : array
        color : color
        label : str
        """
        foot, length = self._bottom - 0.5 * GAP, 0.32 * GAP * np.minimum(sizes, 3)
        self._ax.vlines(x, foot, foot + length, color=color, lw=1.2, label=label)

    def stems(self, x: Floats, values: Floats, *, color: Any, label: str) -> None:
        """Draw vertical lines from the foot of the lane.

        Parameters
        ----------
        x, values : array
        color : color
        label : str
        """
        shown = values > 0
        self._ax.vlines(x[shown], self._bottom, self.y(values[shown]), color=color, lw=1.8, alpha=0.8, label=label)


class Lanes:
    """Lanes of axes, the first at the top.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    unit : str
        Of the numbers at the right; empty where each lane's label has it.
    quantity : str
        That they are of, to stand before the unit.
    """

    def __init__(self, ax: Axes, *, unit: str, quantity: str = "") -> None:
        self._ax, self._unit, self._quantity = ax, unit, quantity
        self._labels: list[str] = []
        self._ends: list[tuple[float, float]] = []

    def add(self, label: str, low: float, high: float) -> Lane:
        """Add a lane below those there are.

        Parameters
        ----------
        label : str
            Stands at its left.
        low, high : float
            Values at its bottom and top; the numbers at its right.

        Returns
        -------
        Lane
        """
        self._labels.append(label)
        self._ends.append((low, high))
        return Lane(self._ax, -float(len(self._labels)), low, high)

    def finish(self) -> None:
        """Label the lanes, once all are drawn."""
        bottoms = -np.arange(1.0, len(self._labels) + 1)
        ax = self._ax
        ax.set_yticks(bottoms + (1 - GAP) / 2, self._labels)
        _fit_labels(ax)
        ax.set_ylim(bottoms[-1] - 0.7 * GAP, 0.0)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        right = ax.secondary_yaxis("right")
        places, texts = [], []
        unit, factor = prefixed(self._unit, float(np.abs(self._ends).max()))
        for bottom, (low, high) in zip(bottoms, self._ends, strict=True):
            places += [bottom, bottom + 1 - GAP] if high > low else [bottom]
            texts += [_short(factor * each) for each in ((low, high) if high > low else (low,))]
        right.set_yticks(places, texts)
        right.tick_params(length=3, labelsize=7.5, color=theme().grey)
        right.spines["right"].set_visible(False)
        right.set_ylabel(f"{self._quantity} ({unit})".strip() if unit else "")

    def legend(self) -> None:
        """Explain what is drawn, each once, above the axes."""
        handles, labels = self._ax.get_legend_handles_labels()
        unique = dict(zip(reversed(labels), reversed(handles), strict=True))
        names = list(dict.fromkeys(labels))
        self._ax.legend(
            [unique[name] for name in names], names, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5,
            borderaxespad=0.2, columnspacing=1.2, handlelength=1.4,
        )  # fmt: skip


def _fit_labels(ax: Axes) -> None:
    """Make labels at the left so small that the figure's edge cuts none; a figure with a layout makes room by itself."""
    if ax.figure.get_layout_engine() is not None:
        return
    labels = ax.get_yticklabels()
    widest, room = max(label.get_window_extent().width for label in labels), ax.bbox.x0 - LABEL_MARGIN
    if widest > room > 0:
        ax.tick_params(axis="y", labelsize=max(LEAST_LABEL, float(labels[0].get_fontsize()) * room / widest))


def _short(value: float) -> str:
    """Three digits, and no power of ten where there is no need."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.3g}"
