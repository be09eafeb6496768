"""The data sets of the benchmark: one table a set, as the challenge defines it (Pei, Ye et al. 2021; nlb_tools 0.0.4).

Times are seconds. Windows start at the first bin of the session's grid (multiples of the bin width from 0) at or after
their start. The number of units, and which are held out, is read from the files (column ``heldout`` of the units).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nwb_sbtt.errors import ConfigError
from nwb_sbtt.suggestions import nearest

BIN_WIDTHS = {0.005: "", 0.02: "_20"}
"""Bin widths [s] that a submission may have, and the suffix of its group's name."""
FORWARD = 0.2
"""Seconds of forecast bins after a window, in all sets."""
SPLITS: dict[str, tuple[tuple[str, ...], str]] = {"val": (("train",), "val"), "test": (("train", "val"), "test")}
"""Values of the trials' column ``split`` that train, and the one that is evaluated, in each phase. "none" is never used."""
Phase = Literal["val", "test"]


@dataclass(frozen=True)
class Psth:
    """Conditions of a set, of which mean responses are computed.

    Parameters
    ----------
    columns : tuple of str
        Columns of the trials whose values together make a condition.
    smoothing : float
        Sd of the Gaussian that smooths the spikes, in seconds.
    excluded : str, optional
        Column of a flag: trials with 1 are left out.
    """

    columns: tuple[str, ...]
    smoothing: float
    excluded: str | None = None


@dataclass(frozen=True)
class ProducedInterval:
    """Timing of a task in which an interval is produced: windows end at an event, and bins after another event are scored.

    In training and validation each window is moved later by a random time, at most ``jitter`` and never so far that a
    produced interval (trial column ``tp``, ms) would leave the window.

    Parameters
    ----------
    scored_from : str
        Column of the trials: the event from which on bins are scored.
    jitter : float
        Seconds.
    """

    scored_from: str
    jitter: float


@dataclass(frozen=True)
class Definition:
    """One data set of the benchmark.

    Parameters
    ----------
    name : str
    dandiset : str
        Id and version of the published files.
    event : str
        Column of the trials that windows are aligned to.
    start, stop : float
        Window around the event, in seconds.
    behavior : str or tuple of str
        A TimeSeries of velocities, or columns of the trials.
    lag : float
        Seconds by which the decoded behaviour is later than the rates.
    psth : Psth, optional
        Conditions, if the set has any.
    decoders : str, optional
        Column of a flag (0 or 1); each value has its own decoder.
    outliers : str, optional
        Column of a flag: trials with 1 have no behaviour.
    produced : ProducedInterval, optional
        Timing of a task in which an interval is produced.
    """

    name: str
    dandiset: str
    event: str
    start: float
    stop: float
    behavior: str | tuple[str, ...]
    lag: float = 0.0
    psth: Psth | None = None
    decoders: str | None = None
    outliers: str | None = None
    produced: ProducedInterval | None = None


def _maze(name: str, dandiset: str, *, lag: float, smoothing: float) -> Definition:
    return Definition(
        name=name,
        dandiset=dandiset,
        event="move_onset_time",
        start=-0.25,
        stop=0.45,
        behavior="hand_vel",
        lag=lag,
        psth=Psth(("trial_type", "trial_version"), smoothing),
    )


MC_MAZE = _maze("mc_maze", "000128/0.220113.0400", lag=0.1, smoothing=0.07)

MC_RTT = Definition(
    name="mc_rtt",
    dandiset="000129/0.241017.1444",
    event="start_time",
    start=0.0,
    stop=0.6,
    behavior="finger_vel",
    lag=0.14,
)

AREA2_BUMP = Definition(
    name="area2_bump",
    dandiset="000127/0.220113.0359",
    event="move_onset_time",
    start=-0.1,
    stop=0.5,
    behavior="hand_vel",
    lag=-0.02,
    psth=Psth(("cond_dir", "ctr_hold_bump"), 0.04),
    decoders="ctr_hold_bump",
)

DMFC_RSG = Definition(
    name="dmfc_rsg",
    dandiset="000130/0.241017.1448",
    event="go_time",
    start=-1.5,
    stop=0.0,
    behavior=("is_eye", "theta", "is_short", "ts", "tp"),
    psth=Psth(("is_eye", "theta", "is_short", "ts"), 0.07, excluded="is_outlier"),
    outliers="is_outlier",
    produced=ProducedInterval(scored_from="set_time", jitter=0.3),
)

MC_MAZE_LARGE = _maze("mc_maze_large", "000138/0.220113.0407", lag=0.12, smoothing=0.05)
MC_MAZE_MEDIUM = _maze("mc_maze_medium", "000139/0.220113.0408", lag=0.12, smoothing=0.05)
MC_MAZE_SMALL = _maze("mc_maze_small", "000140/0.220113.0408", lag=0.12, smoothing=0.05)

DEFINITIONS = {
    definition.name: definition
    for definition in (MC_MAZE, MC_RTT, AREA2_BUMP, DMFC_RSG, MC_MAZE_LARGE, MC_MAZE_MEDIUM, MC_MAZE_SMALL)
}

SCALING = {"mc_maze_large": "[500]", "mc_maze_medium": "[250]", "mc_maze_small": "[100]"}
"""Sets that are scored as one, and how their scores are marked; a submission must have all three."""


def get_definition(name: str) -> Definition:
    """Return the definition of a data set.

    Parameters
    ----------
    name : str
        Such as "mc_maze_small".

    Raises
    ------
    ConfigError
        If there is no such set; the message names those there are.

    Examples
    --------
    >>> get_definition("mc_rtt").lag
    0.14
    """
    if name not in DEFINITIONS:
        near = nearest(name, DEFINITIONS)
        suggestion = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"the benchmark has no data set {name!r}; it has {list(DEFINITIONS)}{suggestion}")
    return DEFINITIONS[name]


def group_name(name: str, bin_width: float) -> str:
    """Return the name of a set's group in submissions and targets.

    Parameters
    ----------
    name : str
        Of the set.
    bin_width : float
        Seconds.

    Raises
    ------
    ConfigError
        If there is no such set, or bins are neither 5 nor 20 ms.

    Examples
    --------
    >>> group_name("mc_maze", 0.02)
    'mc_maze_20'
    """
    for width, suffix in BIN_WIDTHS.items():
        if abs(bin_width - width) < 1e-9:
            return get_definition(name).name + suffix
    raise ConfigError(f"bins of {bin_width:g} s cannot be submitted; expected 0.005 or 0.02 s")
