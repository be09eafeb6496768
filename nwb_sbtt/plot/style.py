"""Colours, fonts and sizes of all pictures, and the axes that they are drawn on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nwb_sbtt.errors import ConfigError

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
"""Inches, of the figures of a report."""

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Make a function draw in this style, without a change of matplotlib's global settings.

    Parameters
    ----------
    draw : callable
        Draws on axes or a figure.

    Returns
    -------
    callable
        With the same arguments.
    """

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def picture(draw: Callable[P, Axes]) -> Callable[P, Axes]:
    """Make a function with an argument `ax` draw in this style, on these axes or on those of a new figure.

    Parameters
    ----------
    draw : callable
        Gets its axes from `axes_of`, and returns them.

    Returns
    -------
    callable
        With the same arguments.

    Raises
    ------
    ConfigError
        By the callable, if `ax` is anything but axes.
    """
    in_style = styled(draw)

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Axes:
        ax = kwargs.get("ax")
        if ax is None:
            from matplotlib import pyplot as plt

            # Loads the backend before settings are replaced for a while: that of a notebook sets one to be told of figures.
            plt.draw_if_interactive()  # type: ignore[no-untyped-call]
        elif not isinstance(ax, Axes):
            raise ConfigError(
                f"ax is a {type(ax).__name__}; expected one matplotlib Axes, such as one of those that "
                "`figure, axes = plt.subplots(1, 2)` makes"
            )
        return in_style(*args, **kwargs)

    return wrapped


def axes_of(ax: Axes | None, size: tuple[float, float], *, projection: Literal["3d"] | None = None) -> Axes:
    """Return the axes to draw on: those given, or those of a new figure, which a notebook shows.

    Parameters
    ----------
    ax : Axes or None
    size : (float, float)
        Width and height of a new figure [inches].
    projection : "3d" or None
        Of new axes.

    Returns
    -------
    Axes
    """
    if ax is not None:
        return ax
    # Loaded where it is needed: importing the package costs nothing, and reports are drawn without a window system.
    from matplotlib import pyplot as plt

    return plt.figure(figsize=size, layout="constrained").add_subplot(projection=projection)


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
