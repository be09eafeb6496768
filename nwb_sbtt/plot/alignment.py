"""Figure of how alike factors of two sessions are."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nwb_sbtt.plot.selection import thin
from nwb_sbtt.plot.style import BLUE, GREY, ORANGE, WIDTH, styled

MAX_CONDITIONS, MAX_COMPONENTS = 4, 3
Floats = NDArray[np.float64]


@styled
def condition_courses(
    reference: Floats, as_fitted: Floats | None, aligned: Floats, *, conditions: tuple[str, ...], time: Floats
) -> Figure:
    """Draw condition averages of a session's factors over those of the reference, along the reference's principal components.

    Parameters
    ----------
    reference, aligned : array (condition, time, factor)
    as_fitted : array (condition, time, factor) or None
        None where the session has another number of factors.
    conditions : tuple of str
        Names; up to four are drawn, one after the other.
    time : array (time)
        Seconds.

    Returns
    -------
    Figure
    """
    flat = reference.reshape(-1, reference.shape[2])
    mean = flat.mean(0)
    _, _, components = np.linalg.svd(flat - mean, full_matrices=False)
    components = components[:MAX_COMPONENTS]
    drawn = thin(np.arange(len(conditions)), MAX_CONDITIONS)
    figure = Figure(figsize=(WIDTH, 0.8 + 1.3 * len(components)), layout="constrained")
    axes = np.asarray(figure.subplots(len(components), 2, sharex=True, sharey="row", squeeze=False))
    step = float(time[1] - time[0]) if len(time) > 1 else 1.0
    length = float(time[-1] - time[0]) + 6 * step
    panels = ((as_fitted, "as fitted", ORANGE), (aligned, "aligned", BLUE))
    for j, (courses, title, colour) in enumerate(panels):
        for i, component in enumerate(components):
            axis = axes[i, j]
            for k, condition in enumerate(drawn):
                seconds = time + k * length
                axis.plot(seconds, (reference[condition] - mean) @ component, color=GREY, lw=2.2)
                if courses is not None:
                    axis.plot(seconds, (courses[condition] - mean) @ component, color=colour, lw=1.1)
            axis.set_ylabel(f"PC {i + 1}" if j == 0 else "")
        axes[0, j].set_title(title if courses is not None else f"{title}: another number of factors")
        axes[-1, j].set_xticks(
            [float(time.mean()) + k * length for k in range(len(drawn))], [conditions[k] for k in drawn]
        )
        axes[-1, j].set_xlabel(f"condition, {float(time[-1] - time[0]) + step:g} s each")
    return figure
