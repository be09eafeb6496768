"""Calcium events of one ROI: baseline, noise, decay, and non-negative deconvolution, across samples that are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

from nwb_sbtt.calcium.artefacts import find_artefacts, find_clipped
from nwb_sbtt.calcium.decay import DecayFit, Floats, above_noise, evenly_spread, fit_decay, resolution_of
from nwb_sbtt.calcium.indicators import INDICATORS, UNKNOWN, Indicator, indicator_of
from nwb_sbtt.calcium.nonnegative import Response, solve, solve_above, solve_across_gaps
from nwb_sbtt.config import EventsConfig
from nwb_sbtt.errors import ConfigError, DataError

Bools = NDArray[np.bool_]

SHORT = 0.1
"""Quantile of the steps that stands for the shortest, free of outliers."""
OFTEN = 10
"""Steps in which an even clock, rounded to bins, takes a longer one; where these are rarer, a sample is missing in each."""
FEWEST = 32
"""Samples that an ROI must have: noise and decay cannot be measured in fewer."""
RESOLVED_RISE = 0.2
"""Shortest rise, in frames, that is modelled where it is given."""
MOST_RISE = 1 / 6
"""Longest rise in units of the decay, where it is not given: what is more is a sign of few frames in a decay."""
SPARSITY = 1.0
"""Penalty of events, in sds of what noise alone makes of one."""
ROUNDING = 1e-9
"""Events, in units of the brightest sample, that are rounding errors."""
MOST_NAMED = 10
"""ROIs that are named in one note."""
SAME_ARTEFACT, REGULAR = 1.0, 3
"""Seconds within which artefacts are one moment, and intervals between these that make a rhythm."""
OFFSETS, SETTLED = 8, 0.01
"""Most rounds of events and offset, and the change of the offset, in sds of the noise, that ends them."""


@dataclass(frozen=True)
class Deconvolved:
    """Events of one ROI.

    Parameters
    ----------
    sizes : array (sample)
        Of the events, in the unit of the fluorescence; 0 where there is none.
    calcium : array (sample)
        Fluorescence that the events make, without the baseline; NaN at artefacts.
    baseline : array (sample)
        NaN at artefacts.
    observed : bool array (sample)
        Whether the event is known: not in the first sample, not after more missing frames than a decay time, not in a sample
        whose neighbours are both missing, and not at artefacts.
    artefact, clipped : bool array (sample)
        Samples that are left out as neither noise nor calcium, and samples of which only a least value is known.
    kinetics : DecayFit
    rise : float
        Rise time of the indicator [s], as known or set; 0 for none. Frames add to it, see `rise_of_frames`.
    """

    sizes: Floats
    calcium: Floats
    baseline: Floats
    observed: Bools
    artefact: Bools
    clipped: Bools
    kinetics: DecayFit
    rise: float

    @property
    def smallest_event(self) -> float:
        """Size of the smallest event; 0 where there is none."""
        return float(self.sizes[self.sizes > 0].min()) if (self.sizes > 0).any() else 0.0


def why_unusable(values: Floats) -> str | None:
    """Say why no events can be found in the samples of an ROI; None where they can.

    Parameters
    ----------
    values : array (sample)
        Where they were observed.
    """
    if len(values) == 0:
        return "no sample"
    if len(values) < FEWEST:
        return f"{len(values)} samples, at least {FEWEST} are needed"
    return f"constant {values[0]:g}" if values.min() == values.max() else None


def deconvolve(
    values: Floats, times: Floats, *, config: EventsConfig, indicator: Indicator, neuropil: Floats | None = None
) -> Deconvolved:
    """Deconvolve the observed samples of one ROI.

    Missing frames have no weight, and calcium ages by their number; the events after them are of the same kind as all others
    (`nwb_sbtt.calcium.nonnegative.solve_across_gaps`). Where none is missing and the indicator has no rise, the events are
    those of OASIS, which are the same. Noise, decay and offset are measured on all samples together.

    Parameters
    ----------
    values : array (sample)
        Fluorescence or ΔF/F, where it was observed; finite.
    times : array (sample)
        Seconds, rising. A step longer than 1.5 usual ones holds missing frames.
    config : EventsConfig
    indicator : Indicator
        What is known of the decay.
    neuropil : array (sample), optional
        Its share of the fluorescence at these samples, which is subtracted.

    Raises
    ------
    DataError
        If the samples are too few or constant, see `why_unusable`.
    ConfigError
        If oasis-deconv is not installed and needed.
    """
    corrected = values if neuropil is None else values - neuropil
    if reason := why_unusable(corrected):
        raise DataError(f"no events can be found: {reason}")
    period = usual_step(times)
    rate = 1 / period
    resolution = resolution_of(values)
    artefact = find_artefacts(
        corrected, frames_between(times, period), rate=rate, indicator=indicator, resolution=resolution
    )
    clipped = find_clipped(values)
    kept = ~artefact
    used, elapsed = corrected[kept], frames_between(times[kept], period)
    floor = running_baseline(used, window=config.baseline_window * rate, smoothing=config.baseline_smoothing)
    kinetics = fit_decay(
        used - floor, elapsed, rate=rate, indicator=indicator, decay=config.decay_time, resolution=resolution
    )
    rise = rise_of_frames(kinetics.decay, config, indicator, rate=rate)
    problem = _Problem(used - floor, elapsed, clipped[kept], kinetics, rise, rate)
    offset = problem.offset()
    if config.threshold:
        events, calcium = problem.above(offset, config.threshold * kinetics.noise_sd)
    else:
        events, calcium = problem.penalised(offset)
    known = (elapsed <= problem.longest_gap) & ~((elapsed > 1) & (np.append(elapsed[1:], 1) > 1))
    known[0] = False
    observed = kept.copy()
    observed[kept] = known

    def at_samples(values: Floats, elsewhere: float) -> Floats:
        result = np.full(len(kept), elsewhere)
        result[kept] = values
        return result

    return Deconvolved(
        at_samples(events * known, 0.0),
        at_samples(calcium, np.nan),
        at_samples(floor + offset, np.nan),
        observed,
        artefact,
        clipped & kept,
        kinetics,
        indicator.rise,
    )


@dataclass(frozen=True)
class Remarkable:
    """What is to be said of the samples of one ROI.

    Parameters
    ----------
    unusable : str or None
        Why no events could be found.
    artefacts : array (sample)
        Seconds at which samples were left out as neither noise nor calcium.
    n_clipped : int
        Samples at the ceiling of the detector.
    """

    unusable: str | None = None
    artefacts: Floats = field(default_factory=lambda: np.zeros(0))
    n_clipped: int = 0


def remarks(found: Mapping[str, Remarkable]) -> list[str]:
    """Say in a line each which ROIs are left out, how many samples are, and how many are clipped.

    Parameters
    ----------
    found : mapping of ROI to Remarkable

    Returns
    -------
    list of str
        Empty where there is nothing to say.
    """
    lines = []
    unusable = [f"{name} ({roi.unusable})" for name, roi in found.items() if roi.unusable]
    if unusable:
        lines.append(
            (
                f"{len(unusable)} of {len(found)} ROIs cannot be used and are treated as missing: "
                f"{', '.join(unusable[:MOST_NAMED])}"
            )
            + (f" and {len(unusable) - MOST_NAMED} more" if len(unusable) > MOST_NAMED else "")
        )
    artefacts = [roi.artefacts for roi in found.values() if len(roi.artefacts)]
    if artefacts:
        times = np.unique(np.concatenate(artefacts))
        firsts = times[np.diff(times, prepend=-np.inf) > SAME_ARTEFACT]
        steps = np.diff(firsts)
        regular = len(steps) >= REGULAR and np.quantile(steps, 0.9) < 1.1 * np.quantile(steps, 0.1)
        lines.append(
            f"{sum(map(len, artefacts))} samples in {len(artefacts)} of {len(found)} ROIs are larger than noise and "
            f"calcium can explain and are treated as missing, at {len(firsts)} "
            f"{'moment' if len(firsts) == 1 else 'moments'}"
            + (f" about {np.median(steps):.3g} s apart (a repeated artefact)" if regular else "")
        )
    clipped = [roi.n_clipped for roi in found.values() if roi.n_clipped]
    if clipped:
        lines.append(
            f"{sum(clipped)} samples in {len(clipped)} of {len(found)} ROIs are saturated (at the detector's "
            "maximum): the true value is at least this large, and only this is used"
        )
    return lines


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
            f"indicator {config.indicator!r} is unknown; available: {', '.join(INDICATORS)}. For another indicator, "
            "set decay_time and rise_time in seconds (--set read.events.decay_time=0.4)"
        )
    rise = indicator.rise if config.rise_time is None else config.rise_time
    return Indicator(indicator.name, config.decay_time or indicator.decay, rise, indicator.log_sd)


def rise_of_frames(decay: float, config: EventsConfig, indicator: Indicator, *, rate: float) -> float:
    """Rise time of the response to an event in frames that are means over their duration [s].

    A spike falls anywhere in its frame, so half of what it adds comes a frame later, however fast the indicator. The response
    ``(d^(n+1) − r^(n+1)) / (d − r)`` rises ``r / (1 − r)`` frames late in the mean: this is to be half a frame more than the
    indicator's rise time. A rise time that the settings give is taken as it is.

    Parameters
    ----------
    decay : float
        Seconds.
    config : EventsConfig
    indicator : Indicator
    rate : float
        Frames per second.

    Returns
    -------
    float
        At most a sixth of the decay; 0 for an indicator without a rise.
    """
    if config.rise_time is not None or indicator.rise == 0:
        rise = indicator.rise if indicator.rise * rate > RESOLVED_RISE else 0.0
    else:
        late = 0.5 + indicator.rise * rate
        rise = -1 / np.log(late / (1 + late)) / rate
    return float(min(rise, MOST_RISE * decay))


def usual_step(times: Floats) -> float:
    """Mean step between samples [s], without the steps across missing samples.

    Times rounded to bins have steps of one and of two bins where nothing is missing: an even clock takes the longer ones often
    and at even intervals. Others hold a missing sample.

    Parameters
    ----------
    times : array (sample)
        Seconds, rising.
    """
    steps = np.diff(times)
    if len(steps) == 0:
        return 0.0
    shortest = np.quantile(steps, SHORT)
    usual = steps <= 2.001 * shortest
    longer = steps[usual] > 1.5 * shortest
    intervals = np.diff(np.flatnonzero(longer))
    early, late = np.quantile(intervals, (0.25, 0.75)) if len(intervals) else (0.0, np.inf)
    if late > OFTEN or late - early > 1:
        usual = steps <= 1.5 * np.median(steps[usual][~longer])
    return float(steps[usual].mean())


def frames_between(times: Floats, period: float) -> Floats:
    """Count the frames from each sample to the next, 1 where none is missing.

    Parameters
    ----------
    times : array (sample)
        Seconds, rising.
    period : float
        Usual step [s].

    Returns
    -------
    array (sample)
        Frames since the sample before; 1 for the first.
    """
    frames = np.ones(len(times))
    frames[1:] = np.maximum(np.rint(np.diff(times) / period), 1)
    return frames


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
class _Problem:
    """Fluorescence above the running baseline, and what is known of it."""

    trace: Floats
    elapsed: Floats
    clipped: Bools
    kinetics: DecayFit
    rise: float
    rate: float

    @property
    def response(self) -> Response:
        return Response.of_times(self.kinetics.decay * self.rate, self.rise * self.rate)

    @property
    def penalty(self) -> float:
        return SPARSITY * self.kinetics.noise_sd * self.response.norm

    @property
    def longest_gap(self) -> float:
        """Frames from one sample to the next across which calcium is left: not more than a decay time."""
        return max(1.0, self.kinetics.decay * self.rate)

    @property
    def complete_decay(self) -> bool:
        """Whether this is the problem that OASIS solves exactly: events that decay, and every sample of them."""
        return self.rise == 0 and not self.clipped.any() and not (self.elapsed > 1).any()

    def offset(self) -> float:
        """Mean fluorescence that events leave."""
        chosen, elapsed = evenly_spread(self.elapsed)
        trace, clipped = self.trace[chosen], self.clipped[chosen]
        offset, solution = above_noise(trace, self.kinetics.noise_sd), None
        for _ in range(OFFSETS):
            solution = solve(
                trace - offset, elapsed, self.response, penalty=self.penalty, clipped=clipped, start=solution
            )
            shift = float((trace - offset - solution.light)[~clipped].mean())
            offset += shift
            if abs(shift) < SETTLED * self.kinetics.noise_sd:
                break
        return offset

    def penalised(self, offset: float) -> tuple[Floats, Floats]:
        """Events and calcium."""
        if self.complete_decay:
            return self._oasis(offset, penalty=self.penalty, smallest=0.0)
        solution = solve_across_gaps(
            self.trace - offset,
            self.elapsed,
            self.response,
            penalty=self.penalty,
            longest=self.longest_gap,
            clipped=self.clipped,
        )
        return solution.sizes, solution.light

    def above(self, offset: float, smallest: float) -> tuple[Floats, Floats]:
        """Events, none smaller than said, and calcium."""
        if self.complete_decay:
            return self._oasis(offset, penalty=0.0, smallest=smallest)
        solution = solve_above(
            self.trace - offset, self.elapsed, self.response, smallest=smallest, clipped=self.clipped
        )
        return solution.sizes, solution.light

    def _oasis(self, offset: float, *, penalty: float, smallest: float) -> tuple[Floats, Floats]:
        try:
            from oasis.functions import deconvolve as oasis
        except ImportError:
            raise ConfigError('deconvolution needs the package oasis-deconv: pip install "nwb_sbtt[calcium]"') from None
        result = oasis(
            self.trace,
            tau_d=self.kinetics.decay,
            tau_r=0.0,
            framerate=self.rate,
            sn=self.kinetics.noise_sd,
            b=offset,
            penalty=None,
            lam=penalty,
            s_min=smallest,
        )
        # Differences of light are rarely 0 to the last digit.
        return np.where(result.s > ROUNDING * result.c.max(), result.s, 0.0), result.c
