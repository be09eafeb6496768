"""Calcium events of one ROI: baseline, noise, decay, and deconvolution by OASIS (Friedrich et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

from nwb_sbtt.calcium.decay import DecayFit, Floats, Runs, fit_decay
from nwb_sbtt.calcium.indicators import INDICATORS, UNKNOWN, Indicator, indicator_of
from nwb_sbtt.calcium.neuropil import correct_neuropil
from nwb_sbtt.config import EventsConfig
from nwb_sbtt.errors import ConfigError, DataError

GAP = 1.5
"""Steps longer than this many sampling periods end a run."""
SHORT = 0.1
"""Quantile of the steps that stands for the shortest, free of outliers."""
FEWEST = 32
"""Samples that the longest run must have: noise and decay cannot be measured in less."""
SEARCHED = 20_000
FEWEST_RUNS = 20
"""Penalty and offset are searched on about so many samples, spread over at least so many runs."""
BASELINES, HALVINGS = 3, 10
"""Rounds of baseline offset and penalty, and halvings of the penalty's range in each."""


@dataclass(frozen=True)
class Deconvolved:
    """Events of one ROI.

    Parameters
    ----------
    sizes : array (sample)
        Of the events, in the unit of the fluorescence; 0 where there is none.
    calcium : array (sample)
        Fluorescence that the events make, without the baseline.
    baseline : array (sample)
    observed : bool array (sample)
        Not at the first sample of each run: calcium from before it cannot be told from an event.
    kinetics : DecayFit
    """

    sizes: Floats
    calcium: Floats
    baseline: Floats
    observed: NDArray[np.bool_]
    kinetics: DecayFit

    @property
    def smallest_event(self) -> float:
        """Size of the smallest event; 0 where there is none."""
        return float(self.sizes[self.sizes > 0].min()) if (self.sizes > 0).any() else 0.0


def deconvolve(
    values: Floats, times: Floats, *, config: EventsConfig, indicator: Indicator, neuropil: Floats | None = None
) -> Deconvolved:
    """Deconvolve the observed samples of one ROI.

    Parameters
    ----------
    values : array (sample)
        Fluorescence or ΔF/F, where it was observed; finite.
    times : array (sample)
        Seconds, rising. A step longer than 1.5 usual ones ends a run; nothing is filled in between runs.
    config : EventsConfig
    indicator : Indicator
        What is known of the decay.
    neuropil : array (sample), optional
        Fluorescence around the ROI at the same samples.

    Raises
    ------
    DataError
        If no run is long enough to find noise and decay.
    ConfigError
        If oasis-deconv is not installed.
    """
    period = usual_step(times)
    runs = runs_of(times, period)
    longest = max(stop - first for first, stop in runs)
    if longest < FEWEST:
        raise DataError(
            f"the longest run without a gap has {longest} samples; events need {FEWEST} at least: read longer trials, or the "
            "whole session"
        )
    corrected = correct_neuropil(values, neuropil, coefficient=config.neuropil_coefficient)
    rate = 1 / period
    floor = running_baseline(corrected, window=config.baseline_window * rate, smoothing=config.baseline_smoothing)
    trace = corrected - floor
    kinetics = fit_decay(trace, runs, rate=rate, indicator=indicator, decay=config.decay_time)
    solver = _Solver(trace, runs, rate, kinetics)
    if config.threshold:
        offset = solver.penalised()[2]
        calcium, sizes = solver.solve(offset, 0.0, config.threshold * kinetics.noise_sd)
    else:
        calcium, sizes, offset = solver.penalised()
    observed = np.ones(len(values), dtype=bool)
    observed[[first for first, _ in runs]] = False
    return Deconvolved(sizes * observed, calcium, floor + offset, observed, kinetics)


def known_indicator(config: EventsConfig, named: str) -> Indicator:
    """Resolve the indicator: that of the settings or, where these name none, the one that a text of the data names.

    Parameters
    ----------
    config : EventsConfig
        Its decay and rise replace the indicator's.
    named : str
        What the file says, such as "AAV-syn-jGCaMP8s"; may be empty.

    Raises
    ------
    ConfigError
        If the settings name one that is not known.
    """
    indicator = indicator_of(config.indicator or named)
    if config.indicator and indicator is UNKNOWN:
        raise ConfigError(
            f"indicator {config.indicator!r} is not known; known are {', '.join(INDICATORS)}; for another, set "
            "decay_time and rise_time in seconds (--set read.events.decay_time=0.4)"
        )
    rise = indicator.rise if config.rise_time is None else config.rise_time
    return Indicator(indicator.name, config.decay_time or indicator.decay, rise, indicator.log_sd)


def usual_step(times: Floats) -> float:
    """Mean step between samples [s], without the steps across missing samples.

    Times rounded to bins have steps of several sizes; a step up to twice the shortest still holds no missing sample.

    Parameters
    ----------
    times : array (sample)
        Seconds, rising.
    """
    steps = np.diff(times)
    if len(steps) == 0:
        return 0.0
    return float(steps[steps <= 2.001 * np.quantile(steps, SHORT)].mean())


def runs_of(times: Floats, period: float) -> Runs:
    """Cut samples into runs, at steps longer than 1.5 periods.

    Parameters
    ----------
    times : array (sample)
        Seconds, rising.
    period : float
        Usual step [s].

    Returns
    -------
    list of (first, stop)
    """
    bounds = [0, *(np.flatnonzero(np.diff(times) > GAP * period) + 1).tolist(), len(times)]
    return list(pairwise(bounds))


def running_baseline(values: Floats, *, window: float, smoothing: float) -> Floats:
    """Estimate a slow baseline as suite2p's "maximin": the running maximum of the running minimum of the smoothed values.

    Parameters
    ----------
    values : array (sample)
    window : float
        Samples over which minimum and maximum are taken.
    smoothing : float
        Sd of the Gaussian [samples].
    """
    size = max(1, round(window))
    smooth = gaussian_filter1d(values, smoothing)
    return np.asarray(maximum_filter1d(minimum_filter1d(smooth, size), size))


@dataclass(frozen=True)
class _Solver:
    """OASIS on every run of a trace, with the same settings."""

    trace: Floats
    runs: Runs
    rate: float
    kinetics: DecayFit

    def solve(self, offset: float, penalty: float, smallest: float, *, every: int = 1) -> tuple[Floats, Floats]:
        """Calcium and events above an offset, by a penalty on their sum or a smallest size; NaN in runs left out."""
        try:
            from oasis.functions import deconvolve as oasis
        except ImportError:
            raise ConfigError('events are found by oasis-deconv: pip install "nwb_sbtt[calcium]"') from None
        calcium, sizes = np.full_like(self.trace, np.nan), np.full_like(self.trace, np.nan)
        for first, stop in self.runs[::every]:
            result = oasis(
                self.trace[first:stop],
                tau_d=self.kinetics.decay,
                tau_r=self.kinetics.rise,
                framerate=self.rate,
                sn=self.kinetics.noise_sd,
                b=offset,
                penalty=None,
                lam=penalty,
                s_min=smallest,
            )
            calcium[first:stop], sizes[first:stop] = result.c, np.maximum(result.s, 0)
        return calcium, sizes

    def penalised(self) -> tuple[Floats, Floats, float]:
        """Sparsest calcium whose residual variance is that of the noise, its events, and the offset that fits best."""
        offset, allowed = 0.0, self.kinetics.noise_sd**2
        every = max(1, min(-(-len(self.trace) // SEARCHED), len(self.runs) // FEWEST_RUNS))
        for _ in range(BASELINES):
            low, high, penalty = 0.0, np.inf, self.kinetics.noise_sd
            for _ in range(HALVINGS):
                calcium, _ = self.solve(offset, penalty, 0.0, every=every)
                residual = float(np.nanmean((self.trace - offset - calcium) ** 2))
                low, high = (penalty, high) if residual < allowed else (low, penalty)
                penalty = 3 * penalty if np.isinf(high) else (low + high) / 2
            shift = float(np.nanmean(self.trace - offset - calcium))
            offset += shift
            if abs(shift) < 1e-3 * self.kinetics.noise_sd:
                break
        return *self.solve(offset, low, 0.0), offset
