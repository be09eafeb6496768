"""How alike factors of two sessions are."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nwb_sbtt.plot.selection import thin
from nwb_sbtt.plot.style import BLUE, axes_of, picture, theme

MAX_CONDITIONS = 4
Floats = NDArray[np.float64]


@picture
def condition_courses(
    reference: Floats,
    courses: Floats,
    *,
    conditions: tuple[str, ...],
    time: Floats,
    component: int = 1,
    color: str = BLUE,
    ax: Axes | None = None,
) -> Axes:
    """Draw condition averages of a session's factors over those of the reference, along a principal component of these.

    Parameters
    ----------
    reference, courses : array (condition, time, factor)
    conditions : tuple of str
        Names; up to four are drawn, one after the other.
    time : array (time)
        Seconds.
    component : int
        Principal component of the reference, from 1.
    color : str
        Of the session; the reference is grey.
    ax : Axes, optional
        Default: those of a new figure.

    Returns
    -------
    Axes
    """
    flat = reference.reshape(-1, reference.shape[2])
    mean = flat.mean(0)
    axis = np.linalg.svd(flat - mean, full_matrices=False)[2][component - 1]
    drawn = thin(np.arange(len(conditions)), MAX_CONDITIONS)
    ax = axes_of(ax, (5.0, 2.2))
    step = float(time[1] - time[0]) if len(time) > 1 else 1.0
    length = float(time[-1] - time[0]) + 6 * step
    for k, condition in enumerate(drawn):
        seconds = time + k * length
        ax.plot(seconds, (reference[condition] - mean) @ axis, color=theme().grey, lw=2.2)
        ax.plot(seconds, (courses[condition] - mean) @ axis, color=color, lw=1.1)
    ax.set_ylabel(f"PC {component} (a.u.)")
    ax.set_xticks([float(time.mean()) + k * length for k in range(len(drawn))], [conditions[k] for k in drawn])
    ax.set_xlabel(f"condition, {float(time[-1] - time[0]) + step:g} s each")
    return ax
