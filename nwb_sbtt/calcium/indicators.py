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
        Indicator("GCaMP6m", 1.0, 0.034, 0.8),
        Indicator("GCaMP6s", 1.47, 0.082),
        Indicator("jGCaMP7f", 0.25, 0.016),
        Indicator("jGCaMP7s", 0.65, 0.030, 0.8),
        Indicator("jGCaMP7b", 0.65, 0.030, 0.8),
        Indicator("jGCaMP7c", 0.25, 0.016, 0.8),
        Indicator("jGCaMP8f", 0.22, 0.002),
        Indicator("jGCaMP8m", 0.17, 0.002),
        Indicator("jGCaMP8s", 0.28, 0.006),
        Indicator("XCaMP-Gf", 0.21, 0.014),
        Indicator("XCaMP", 0.21, 0.014, 0.8),
        Indicator("jRGECO1a", 0.7, 0.014, 0.8),
        Indicator("jRCaMP1a", 1.0, 0.034, 0.8),
    )
}
"""Decay and rise are of double exponentials fitted to single action potentials (Wei et al. 2020; Zhang et al. 2023). A decay
is the mean lifetime, ``Σ a τ² / Σ a τ``; for GCaMP6 it is the geometric mean of virus and transgenic mice. Of the others no
such fit is known, and their priors are wider:

* GCaMP6m: the decay that suite2p's documentation recommends, beside 0.7 s for GCaMP6f and 1.25 to 1.5 s for GCaMP6s, which
  agree with those above; a rise between theirs.
* jGCaMP7s: a decay between those of jGCaMP7f and GCaMP6s. Affinities (Dana et al. 2019: dissociation constants of 174, 68, 82
  and 298 nM for 7f, 7s, 7b and 7c) put jGCaMP7b beside 7s, and jGCaMP7c beside 7f.
* XCaMP of other colours (Inoue et al. 2019): as XCaMP-Gf.
* jRGECO1a: the decay that suite2p's developers recommend (their issue 233), with a rise like GCaMP6f's (Dana et al. 2016).
  jRCaMP1a is slower (Kerruth et al. 2019); how much so in neurons is a guess."""
_VARIANTS = {"f": "f|fast", "m": "m|med|medium", "s": "s|slow", "b": "b|bright", "c": "c|contrast"}
_GAP = r"[\s_(-]*"
_PATTERNS = {
    **{
        f"{prefix}GCaMP{number}{variant}": rf"gc(?:amp)?{_GAP}{number}{_GAP}(?:{_VARIANTS[variant]})"
        for prefix, number, variants in (("", 6, "fms"), ("j", 7, "fsbc"), ("j", 8, "fms"))
        for variant in variants
    },
    "XCaMP-Gf": rf"xcamp{_GAP}gf",
    "XCaMP": rf"xcamp(?!{_GAP}gf(?![a-z0-9]))(?:{_GAP}(?:gf0|[grby]))?",
    "jRGECO1a": rf"rgeco{_GAP}1a",
    "jRCaMP1a": rf"rcamp{_GAP}1a",
}
"""How laboratories write each name, without what stands before and after it."""
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
    >>> indicator_of("GCaMP6 (fast)").decay
    0.66
    """
    matches = [name for name, pattern in _PATTERNS.items() if re.search(rf"{pattern}(?![a-z0-9])", text, re.IGNORECASE)]
    return INDICATORS[matches.pop()] if len(matches) == 1 else UNKNOWN
