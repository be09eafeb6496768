"""Colours, fonts and sizes of all pictures, and the axes that they are drawn on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Theme:
    """Colours that depend on what a picture stands on; those of the palette are read on both.

    Parameters
    ----------
    paper : str
        Of the background.
    ink, ink_name : str
        Of text and of lines that are measured or true, and what it is called in words.
    grey : str
        Of axes and of what matters less.
    faint : str
        Of grids.
    bar : str
        Of bars of baselines.
    missing : str
        Of entries that were not observed; no observed value has it.
    counts : str
        Colour map of counts, from near the paper's colour away from it.
    ranks : str
        Colour map of ranks, the best of which stands out.
    """

    paper: str
    ink: str
    ink_name: str
    grey: str
    faint: str
    bar: str
    missing: str
    counts: str
    ranks: str


LIGHT = Theme("#ffffff", "#222222", "black", "#767676", "#e4e4e4", "#b8c1cb", "#c5d3e0", "inferno_r", "viridis")
DARK = Theme("#16181b", "#e6e6e6", "white", "#959ca3", "#3a3f45", "#5d6873", "#3c4b5a", "plasma", "viridis_r")
_theme: ContextVar[Theme] = ContextVar("_theme", default=LIGHT)


def theme() -> Theme:
    """Return the theme that pictures are drawn in now."""
    return _theme.get()


@contextmanager
def drawn_in(chosen: Theme) -> Iterator[None]:
    """Draw pictures in a theme.

    Parameters
    ----------
    chosen : Theme
        `LIGHT`, the default, or `DARK`.

    Yields
    ------
    None
    """
    token = _theme.set(chosen)
    try:
        yield
    finally:
        _theme.reset(token)


def _style() -> Any:
    paper, ink, grey = theme().paper, theme().ink, theme().grey
    return {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": grey,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "figure.facecolor": paper,
        "savefig.facecolor": paper,
        "axes.facecolor": paper,
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
        with matplotlib.rc_context(_style()):
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
