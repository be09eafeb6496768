"""Colours, fonts and sizes of all figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442"),
)
"""Palette of Okabe and Ito (2008, Color Universal Design), for any kind of colour vision."""
INK, GREY, UNOBSERVED = "#222222", "#767676", "#C5D3E0"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "svg.hashsalt": "nwb_sbtt",
    # Names from files may hold a dollar sign.
    "text.parse_math": False,
}
WIDTH = 9.5
"""Inches."""

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw in this style, without a change of matplotlib's global settings.

    Parameters
    ----------
    draw : callable
        Returns a figure.

    Returns
    -------
    callable
        With the same arguments.
    """

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def row_of_axes(figure: Figure, n: int) -> list[Axes]:
    """Add axes side by side that share their y axis.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    n : int
        Number of axes.

    Returns
    -------
    list of matplotlib.axes.Axes
        From left to right.
    """
    return list(np.asarray(figure.subplots(1, n, sharey=True, squeeze=False))[0])


def image_height(n_channels: int) -> float:
    """Return the height of a figure of images with a row for each channel [inches].

    Parameters
    ----------
    n_channels : int

    Returns
    -------
    float
        Between 2.6 and 5.5 inches.
    """
    return float(np.clip(1.5 + 0.06 * n_channels, 2.6, 5.5))
