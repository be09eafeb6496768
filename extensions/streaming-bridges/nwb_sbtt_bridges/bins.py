"""Bins of a stream from samples with time stamps: lost samples are missing, late ones are dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.stream import Step, Stream

FOLLOW = 0.05
"""Share of the difference between a time stamp and the time expected that corrects the next times expected: jitter is
averaged over some 20 samples, and a clock that is 1 % too fast or slow is followed to a fifth of a sample."""
TOLERANCE = 0.01
"""Relative difference up to which a number of samples in a bin is a whole one."""


class Estimate(NamedTuple):
    """What is inferred of one bin, with the time stamp of the middle of the samples that it was recorded from."""

    time: float
    step: Step


@dataclass
class Tally:
    """What happened to samples.

    Parameters
    ----------
    bins : int
        Bins that were given to the stream.
    lost : int
        Samples that were not there when their bin was given; they were missing to the model.
    late : int
        Samples that came after their bin was given, or twice; they were dropped.
    restarts : int
        How often the stream began again after a gap that was too long, or because it was told to.
    """

    bins: int = 0
    lost: int = 0
    late: int = 0
    restarts: int = 0


class Bins:
    """Puts samples into the bins of a stream by their time stamps, and gives each complete bin to it.

    Time stamps need not be exact: a clock that follows them expects one sample after another. A sample that is more than half a
    sample later than expected means that others were lost. These are missing to the model, which infers their bins from the
    rest, so estimates have no gap. Of several samples in a bin, counts are added and signals averaged; the share that was
    observed is the exposure of the bin.

    Parameters
    ----------
    stream : Stream
        It begins anew.
    rate : float
        Samples in a second; a whole number of them in each bin.
    longest_gap : float
        Seconds of lost samples beyond which the stream begins again, as at the start of a recording.

    Attributes
    ----------
    labels : dict of str to tuple of str
        Of every estimate of the stream, such as "rates" and "factors", what its numbers are of.
    tally : Tally
        What happened so far.

    Raises
    ------
    DataError
        If a bin does not hold a whole number of samples.
    """

    def __init__(self, stream: Stream, rate: float, *, longest_gap: float = 10.0):
        per_bin = rate * stream.bin_width
        self._per_bin = round(per_bin)
        if self._per_bin < 1 or abs(per_bin - self._per_bin) > TOLERANCE * per_bin:
            raise DataError(
                f"samples come at {rate:g} Hz, which is {per_bin:g} in each bin of {stream.bin_width:g} s; expected a whole "
                f"number, such as 1 ({1 / stream.bin_width:g} Hz). Send counts of bins, or of equal parts of bins"
            )
        self.tally = Tally()
        self._stream, self._rate, self._longest_gap = stream, rate, longest_gap
        # A bin without data shows which estimates there are, and leaves no work for the first one with data.
        stream.reset()
        known = np.full(len(stream.inputs), np.nan) if stream.inputs else None
        first = stream.step(np.full(len(stream.channels), np.nan), inputs=known)
        stream.reset()
        self._counts = first.rates is not None
        of_others = {"factors": tuple(f"factor {i}" for i in range(len(first.factors))), "decoded": stream.columns}
        self.labels = {name: of_others.get(name, stream.channels) for name in _estimates(first)}
        self._expected: float | None = None
        self._rows: list[_Sample | None] = []
        self._start = 0.0
        self._times: deque[float] = deque()

    def add(
        self,
        times: Sequence[float] | NDArray[np.float64],
        values: ArrayLike,
        observed: ArrayLike | None = None,
        exposure: ArrayLike | None = None,
        *,
        inputs: ArrayLike | None = None,
    ) -> list[Estimate]:
        """Give the next samples.

        Parameters
        ----------
        times : array (sample)
            Time stamps in seconds, of any clock that does not jump.
        values : array (sample, channel)
            Counts or signals, in the order of ``stream.channels``. NaN is missing.
        observed, exposure : array (sample, channel), optional
            As for `nwb_sbtt.fitting.stream.Stream.step`, of each sample.
        inputs : array (sample, input), optional
            Known inputs; a bin has the mean of its samples.

        Returns
        -------
        list of Estimate
            Of the bins that are due, `stream.lag` bins after they were recorded; often none.

        Raises
        ------
        DataError
            As by `nwb_sbtt.fitting.stream.Stream.step`.
        """
        array = np.array(values, np.float32, ndmin=2)
        if observed is not None:
            array[~np.asarray(observed, bool).reshape(array.shape)] = np.nan
        share = np.ones_like(array) if exposure is None else np.asarray(exposure, np.float32).reshape(array.shape)
        known = None if inputs is None else np.asarray(inputs, np.float32).reshape(len(array), -1)
        found: list[Estimate] = []
        for i, time in enumerate(times):
            found += self._take(float(time), _Sample(array[i], share[i], None if known is None else known[i]))
        return found

    def give_up(self, before: float) -> list[Estimate]:
        """Stop waiting for the samples that were due before a time: they are lost.

        Parameters
        ----------
        before : float
            On the clock of the time stamps.

        Returns
        -------
        list of Estimate
        """
        found: list[Estimate] = []
        while self._expected is not None and self._expected < before:
            found += self._lose(1)
        return found

    def restart(self) -> list[Estimate]:
        """End the trial or the recording: the next sample is the first of another one. A bin that is not complete is dropped.

        Returns
        -------
        list of Estimate
            The last `stream.lag` bins.
        """
        if self._expected is None:
            return []
        self._expected, self._rows = None, []
        last = self._stream.finish()
        steps = [_one(last, i) for i in range(len(np.atleast_1d(last.bin)))]
        found = [Estimate(self._times.popleft(), step) for step in steps if step.bin >= 0]
        self._times.clear()
        self._stream.reset()
        self.tally.restarts += 1
        return found

    def _take(self, time: float, sample: _Sample) -> list[Estimate]:
        found: list[Estimate] = []
        if self._expected is not None:
            lost = round((time - self._expected) * self._rate)
            if lost < 0:
                self.tally.late += 1
                return []
            if lost > self._longest_gap * self._rate:
                found += self.restart()
            else:
                found += self._lose(lost)
        if self._expected is None:
            self._expected = time
        self._expected += FOLLOW * (time - self._expected)
        return found + self._put(sample)

    def _lose(self, n: int) -> list[Estimate]:
        self.tally.lost += n
        return [estimate for _ in range(n) for estimate in self._put(None)]

    def _put(self, sample: _Sample | None) -> list[Estimate]:
        """Put a sample, or a lost one, into the bin; give the bin to the stream once it is complete."""
        assert self._expected is not None
        if not self._rows:
            self._start = self._expected
        self._rows.append(sample)
        self._expected += 1 / self._rate
        if len(self._rows) < self._per_bin:
            return []
        rows, self._rows = self._rows, []
        self._times.append(self._start + (self._per_bin - 1) / 2 / self._rate)
        step = self._given(rows)
        self.tally.bins += 1
        return [Estimate(self._times.popleft(), step)] if step.bin >= 0 else []

    def _given(self, rows: list[_Sample | None]) -> Step:
        absent = np.full(len(self._stream.channels), np.nan, np.float32)
        values = np.stack([absent if row is None else row.values for row in rows])
        shown = ~np.isnan(values)
        n_shown, total = shown.sum(0), np.where(shown, values, 0).sum(0)
        inputs = self._inputs(rows)
        if not self._counts:
            return self._stream.step(np.where(n_shown, total / n_shown.clip(min=1), np.nan), inputs=inputs)
        share = np.stack([absent if row is None else row.share for row in rows])
        exposure = np.where(shown, share, 0).mean(0)
        return self._stream.step(np.where(n_shown, total, np.nan), exposure=exposure, inputs=inputs)

    def _inputs(self, rows: list[_Sample | None]) -> NDArray[np.float32] | None:
        """Mean of the known inputs of a bin, NaN where there are none."""
        given = [row.inputs for row in rows if row is not None and row.inputs is not None]
        if not given:
            return np.full(len(self._stream.inputs), np.nan, np.float32) if self._stream.inputs else None
        known = np.stack(given)
        there = ~np.isnan(known)
        mean = np.where(there, known, 0).sum(0) / there.sum(0).clip(min=1)
        return np.where(there.any(0), mean, np.nan).astype(np.float32)


class _Sample(NamedTuple):
    """Values and the share of the time observed (channel), and known inputs (input), of a sample."""

    values: NDArray[np.float32]
    share: NDArray[np.float32]
    inputs: NDArray[np.float32] | None


def _one(step: Step, i: int) -> Step:
    """One bin of several."""
    return Step(int(np.atleast_1d(step.bin)[i]), **{name: getattr(step, name)[i] for name in _estimates(step)})


def _estimates(step: Step) -> list[str]:
    """Names of what a stream infers."""
    return [each.name for each in fields(step) if each.name != "bin" and getattr(step, each.name) is not None]


def channel_order(labels: Sequence[str] | None, channels: Sequence[str]) -> list[int]:
    """Find the channels of a fit among those of a recording, by their names.

    Parameters
    ----------
    labels : sequence of str, or None
        Names in the recording; None if it names none, and its channels are those of the fit in their order.
    channels : sequence of str
        Names in the fit (``stream.channels``), such as "units:7"; a recording may call it "7" too.

    Returns
    -------
    list of int
        Place in the recording of each channel of the fit.

    Raises
    ------
    DataError
        If a channel of the fit is not there.
    """
    if labels is None:
        return list(range(len(channels)))
    place = {label: i for i, label in enumerate(labels)}
    names = [name if name in place else name.rpartition(":")[2] for name in channels]
    absent = [full for full, name in zip(channels, names, strict=True) if name not in place]
    if absent:
        raise DataError(
            f"the recording has no channel {', '.join(map(repr, absent[:5]))}; its labels are "
            f"{', '.join(map(repr, labels[:5]))}{', …' if len(labels) > 5 else ''}. Label its channels as in the fit "
            "(stream.channels), or remove the labels and send the channels in that order"
        )
    return [place[name] for name in names]
