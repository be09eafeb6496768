"""Whether times can be seconds: what is lost outside the intervals of units, how often neurons would fire, where trials lie.

Times in milliseconds, or in samples, are still numbers that rise. Spikes show it in two ways: they lie outside the intervals
in which their units were observed, or the units fire a thousand times more slowly than neurons do. Of any series it shows
beside trials: these lie outside it, or within its first thousandth, and fill it once one of both is divided by 1000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.memory import check_rows
from nwb_sbtt.errors import DataError

SLOWEST, FASTEST = 0.02, 1000.0
"""Mean rates of units [Hz] beyond which a remark asks about the unit of time: in ms, 5 Hz become 0.005 Hz."""
SLOWEST_BEFORE_LONG_REST = 0.2
"""Hz; the lower bound where the trials take less of the recording than `TRIALS_IN_SECONDS`."""
TRIALS_IN_SECONDS = 0.005
"""Share of the recording, from its start, that trials in seconds hardly fall below; beside spikes in ms it is 0.001."""
SHOWN_SHARE = 0.01
"""Shares of the recording below this that trials take are named."""
LEAST_SPIKES = 100
"""Fewest spikes from which a rate is judged."""
LONGEST = 12 * 3600.0
"""Seconds; that units fire as slowly as this for longer than so long is not believed, and an error."""
FINER_UNITS = {"milliseconds": 1e3, "microseconds": 1e6}
"""Units in which times may be stored by mistake, and how many make a second."""
LEAST_WITHIN, LEAST_FILLED = 0.9, 0.2
"""Share of the trials that lie in a recording, and share of it from the first to the last of them, if both are in one unit."""
FEWEST_OF_UNIT = 10
"""Fewest spikes of a unit that may not be lost for the most part: of fewer, most are soon outside by chance."""
MOST_NAMED = 5
"""Most units that an error names."""
IF_SLOW = "if the times are in seconds, allow this with --set read.slow_units=true (slow_units=True in ReadConfig)"
"""What to do about units that are refused for their rate, and do fire as slowly."""
IN_SECONDS = "spike times and obs_intervals should be in seconds on the session clock, not in milliseconds or samples"


@dataclass(frozen=True)
class Uncounted:
    """Numbers of spikes (unit) whose time is not finite, and of those outside their unit's obs_intervals.

    Parameters
    ----------
    not_finite, outside : int array (unit)
    """

    not_finite: NDArray[np.int64]
    outside: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence[Uncounted]) -> Uncounted:
        """Put parts that have some of the units each together.

        Parameters
        ----------
        parts : sequence of Uncounted
            Each of some of the units.

        Returns
        -------
        Uncounted
        """
        return cls(
            np.concatenate([part.not_finite for part in parts]), np.concatenate([part.outside for part in parts])
        )


def check_losses(
    path: str,
    ids: NDArray[np.generic],
    n_spikes: NDArray[np.int64],
    uncounted: Uncounted,
    *,
    never_observed: NDArray[np.bool_],
) -> None:
    """Refuse to lose more than half of the spikes of a table, or of one of its units.

    Spikes between the trials are not lost: only those that the file contradicts are.

    Parameters
    ----------
    path : str
        In-file path of the table.
    ids : array (unit)
    n_spikes : int array (unit)
        Number of all spikes that are stored.
    uncounted : Uncounted
    never_observed : bool array (unit)
        Units that have no interval: the file itself says that they were never observed, and a note tells of their spikes.

    Raises
    ------
    DataError
    """
    lost = uncounted.not_finite + uncounted.outside
    most = (lost > n_spikes / 2) & (n_spikes >= FEWEST_OF_UNIT) & ~never_observed
    n_all, n_lost = int(n_spikes.sum()), int(lost.sum())
    if not most.any() and n_lost <= n_all / 2:
        return
    worst = np.flatnonzero(most if most.any() else lost > 0)
    named = ", ".join(f"unit {ids[unit]}: {int(lost[unit])} of {int(n_spikes[unit])}" for unit in worst[:MOST_NAMED])
    more = f", and {len(worst) - MOST_NAMED} more units" if len(worst) > MOST_NAMED else ""
    raise DataError(
        f"{n_lost} of {n_all} spikes of {path!r} would be lost: {int(uncounted.outside.sum())} lie outside their "
        f"unit's obs_intervals, {int(uncounted.not_finite.sum())} have no finite time ({named}{more}); {IN_SECONDS}; "
        "correct the file, pass obs_intervals=False (--set read.obs_intervals=false), or exclude units with "
        "read.where"
    )


@dataclass(frozen=True)
class OddRate:
    """Units that fire more slowly or faster than neurons do.

    Parameters
    ----------
    remark : str
        One line for the user.
    slowest : float
        Mean rate [Hz] below which units fire more slowly than neurons do in this file.
    is_refused : bool
        Whether they fire so slowly, and for so long, that their times cannot be seconds.
    """

    remark: str
    slowest: float
    is_refused: bool


def odd_rate(
    units: Any,
    path: str,
    *,
    n_spikes: int,
    observed: float,
    span: tuple[float, float],
    active: Callable[[], float],
) -> OddRate | None:
    """Tell whether units fire more slowly or faster than neurons do.

    Parameters
    ----------
    units : pynwb.misc.Units
    path : str
        In-file path of the table.
    n_spikes : int
        Of all units.
    observed : float
        Seconds during which units were observed, summed over them.
    span : (float, float)
        First and last moment of the recording [s].
    active : callable () -> float
        Returns the seconds from the first to the last spike of each unit, summed over them: in a recording of a week many are
        found for an hour. Called only where units seem slow.

    Returns
    -------
    OddRate or None
        None where the rate is a neuron's, or there are too few spikes to tell.
    """
    if n_spikes < LEAST_SPIKES or not observed > 0:
        return None
    rate, duration = n_spikes / observed, span[1] - span[0]
    remark = f"units of {path!r} fire at {rate:.2g} Hz on average, over {duration:g} s ({duration / 3600:.3g} h)"
    if rate > FASTEST:
        return OddRate(f"{remark}, which is too fast for neurons; {IN_SECONDS}", SLOWEST, is_refused=False)
    n_trials, share = _trials(units, span)
    is_long = duration > LONGEST
    slowest = SLOWEST_BEFORE_LONG_REST if is_long and share < TRIALS_IN_SECONDS else SLOWEST
    if rate >= slowest or n_spikes >= slowest * active():
        return None
    of_trials = f", of which the {n_trials} trials cover the first {100 * share:.2g} %" if share < SHOWN_SHARE else ""
    return OddRate(f"{remark}{of_trials}, which is too slow for neurons; {IN_SECONDS}", slowest, is_refused=is_long)


def other_unit(
    starts: NDArray[np.float64], path: str, *, span: tuple[float, float], period: float | None
) -> str | None:
    """Tell whether trials and a series seem to have times in different units.

    Parameters
    ----------
    starts : array (trial)
        Where trials start, or the first and the last of them; as seconds on the session clock.
    path : str
        In-file path of the series.
    span : (float, float)
        First and last moment of the series, as seconds.
    period : float, optional
        Its sampling period.

    Returns
    -------
    str or None
        What seems to be in which unit, and what to try, in one line. None where both may be in seconds.
    """
    starts = starts[np.isfinite(starts)]
    if len(starts) == 0 or not span[1] > span[0] or _fills(starts, span, least=TRIALS_IN_SECONDS):
        return None
    first, last = float(starts.min()), float(starts.max())
    times = f"{path!r} covers {span[0]:g} to {span[1]:g}, but the trials start between {first:g} and {last:g}"
    for unit, per_second in FINER_UNITS.items():
        if _fills(starts, (span[0] / per_second, span[1] / per_second), least=LEAST_FILLED):
            return (
                f"units of time seem to differ: {times}, as if the series were in {unit} and the trials in seconds; "
                f"divide the times of the series by {per_second:g}, multiply its rate by it, and write the file again"
            )
        if _fills(starts / per_second, span, least=LEAST_FILLED):
            return (
                f"units of time seem to differ: {times}, as if the trials were in {unit} and the series in seconds; "
                f"divide the times of the trials table by {per_second:g}, and write the file again"
            )
    if period == 1 and 0 <= last - first < TRIALS_IN_SECONDS * (span[1] - span[0]):
        return (
            f"units of time seem to differ: {times}, and the sampling period is 1 s, as if the times were sample "
            "numbers; divide them by the sampling rate in Hz, and write the file again"
        )
    return None


def _fills(starts: NDArray[np.float64], span: tuple[float, float], *, least: float) -> bool:
    """Whether trials lie in a recording, and take that share of it from the first to the last."""
    inside = (starts >= span[0]) & (starts <= span[1])
    return bool(inside.mean() >= LEAST_WITHIN and np.ptp(starts) >= least * (span[1] - span[0]))


def _trials(units: Any, span: tuple[float, float]) -> tuple[int, float]:
    """Number of the trials, and the share of the recording up to the last one's stop; 1 where that cannot be told."""
    nwbfile = units.get_ancestor("NWBFile")
    trials = None if nwbfile is None else nwbfile.trials
    if trials is None or len(trials) == 0:
        return 0, 1.0
    check_rows(len(trials), trials.name)
    stops = np.asarray(trials["stop_time"].data[:])
    if stops.dtype.kind not in "iuf" or not np.isfinite(stops).any():
        return len(trials), 1.0
    return len(trials), max((float(np.nanmax(stops)) - span[0]) / (span[1] - span[0]), 0.0)
