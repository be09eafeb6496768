"""Calcium indicators: decay and rise times as published, and how an indicator is recognised in a text."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Indicator:
    """What is known of an indicator before any data.

    Parameters
    ----------
    name : str
    decay, rise : float
        Time constants [s]; a rise of 0 means that a spike is shown at once.
    log_sd : float
        Sd of the prior of the decay's logarithm.
    """

    name: str
    decay: float
    rise: float = 0.0
    log_sd: float = 0.5


INDICATORS = {
    indicator.name: indicator
    for indicator in (
        Indicator("GCaMP6f", 0.66, 0.014),
        Indicator("GCaMP6s", 1.47, 0.082),
        Indicator("jGCaMP7f", 0.25, 0.016),
        Indicator("jGCaMP7s", 0.65, 0.030, 0.8),
        Indicator("jGCaMP8f", 0.22, 0.002),
        Indicator("jGCaMP8m", 0.17, 0.002),
        Indicator("jGCaMP8s", 0.28, 0.006),
        Indicator("XCaMP-Gf", 0.21, 0.014),
    )
}
"""Decay and rise are of double exponentials fitted to single action potentials. A decay is the mean lifetime,
``Σ a τ² / Σ a τ``; for GCaMP6 it is the geometric mean of virus and transgenic mice. No such fit exists for jGCaMP7s: its decay
lies between those of jGCaMP7f and GCaMP6s, with a wider prior."""
UNKNOWN = Indicator("unknown", 0.5, 0.0, 1.0)
"""Stands for an indicator that is not named: a wide prior, no rise."""


def indicator_of(text: str) -> Indicator:
    """Recognise the indicator that a text names; `UNKNOWN` if it names none or several.

    Parameters
    ----------
    text : str
        What a file or a user says, such as "AAV-syn-jGCaMP8s".

    Returns
    -------
    Indicator

    Examples
    --------
    >>> indicator_of("AAV-syn-jGCaMP8s").name
    'jGCaMP8s'
    >>> indicator_of("gcamp 6f").decay
    0.66
    """
    matches = []
    for name in INDICATORS:
        family, variant = name[:-2].strip("j-"), name[-2:]
        if re.search(rf"{family}[\s_-]*{variant}(?![a-z0-9])", text, re.IGNORECASE):
            matches.append(name)
    return INDICATORS[matches.pop()] if len(matches) == 1 else UNKNOWN
