"""A recording given to a stream bin by bin, as a rig would, with the time that each bin takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.data.chops import cut_as, merge_chops
from nwb_sbtt.data.schema import is_chopped
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.fitting.preparation import hold_out
from nwb_sbtt.fitting.stream import Step, Stream

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

SPIN = 0.002
"""Seconds before a bin is due from which on the clock is read all the time: a sleep may end as late as that."""
EDGES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Milliseconds between which latencies are counted."""


@dataclass(frozen=True)
class Replayed:
    """What a stream has inferred of a recording, and how long it took.

    Parameters
    ----------
    latents : Dataset
        As `nwb_sbtt.Fitted.infer` returns it, but with what the stream inferred: rates or mean with their sd, and factors.
    latency : float array (bin)
        Seconds from giving a bin to its result, for every bin in the order in which they were given.
    missed : int
        Bins whose result came after the next bin was due; 0 if bins were given as fast as they were taken.
    difference : float
        Largest difference of rates or means to those of `nwb_sbtt.Fitted.infer`, relative to the largest of its channel.
    """

    latents: xr.Dataset
    latency: NDArray[np.float64]
    missed: int
    difference: float

    def summary(self) -> dict[str, Any]:
        """Return latencies in milliseconds, as numbers of a report.

        Returns
        -------
        dict
            JSON-safe: ``bins``; ``p50_ms``, ``p99_ms``, ``max_ms``; ``histogram``, numbers of bins by their range;
            ``missed_deadlines``; ``largest_difference``.
        """
        milliseconds = 1e3 * self.latency
        counts, _ = np.histogram(milliseconds, [0, *EDGES, np.inf])
        names = [f"< {EDGES[0]:g} ms"]
        names += [f"{low:g}-{high:g} ms" for low, high in pairwise(EDGES)] + [f"> {EDGES[-1]:g} ms"]
        return {
            "bins": len(milliseconds),
            "p50_ms": float(np.percentile(milliseconds, 50)),
            "p99_ms": float(np.percentile(milliseconds, 99)),
            "max_ms": float(milliseconds.max()),
            "histogram": dict(zip(names, counts.tolist(), strict=True)),
            "missed_deadlines": self.missed,
            "largest_difference": self.difference,
        }


def replay(
    fitted: Fitted,
    ds: xr.Dataset,
    *,
    session: str | None = None,
    same_channels: bool = False,
    speed: float | None = None,
    advance: Callable[[int], None] | None = None,
) -> Replayed:
    """Give the bins of a recording to a stream, one by one.

    Parameters
    ----------
    fitted : Fitted
        With a model that has a lag.
    ds : Dataset
        As for `nwb_sbtt.Fitted.infer`. Of trials, the stream begins anew with each; chops are given as one recording.
    session, same_channels
        As for `nwb_sbtt.Fitted.infer`.
    speed : float, optional
        Bins are given when they would be complete at this multiple of real time; by default as fast as they are taken.
    advance : callable, optional
        Called with 1 after each bin.

    Returns
    -------
    Replayed

    Raises
    ------
    ConfigError
        If the model has no lag, or its likelihood is not one of counts or signals.
    MismatchError
        If channels, bin width or recording differ from those of the fit.
    """
    name, matched = fitted.match(ds, session, same_channels=same_channels)
    stream = fitted.stream(session=name)
    inferred = fitted.infer(matched, session=name, same_channels=True)
    whole = merge_chops(matched)
    clock = _Clock(None if speed is None else stream.bin_width / speed)
    trials = [
        _streamed(stream, trial, clock=clock, advance=advance or _nothing) for trial in _trials(fitted, whole, name)
    ]
    names = ("factors", *(("rates", "rates_sd") if fitted.expects_counts else ("mean", "mean_sd")))
    arrays = {each: np.stack([trial[each] for trial in trials]) for each in names}
    if is_chopped(matched):
        arrays = {each: np.asarray(cut_as(array, matched), np.float32) for each, array in arrays.items()}
    absent = [str(each) for each in inferred.data_vars if each not in (*names, "observed")]
    latents = inferred.drop_vars(absent)
    latents = latents.assign({each: (inferred[each].dims, array) for each, array in arrays.items()})
    expected = inferred[names[1]].values
    largest = np.abs(expected).max((0, 1)).clip(min=1e-12)
    difference = float((np.abs(arrays[names[1]] - expected) / largest).max())
    return Replayed(latents, np.array(clock.latency), clock.missed, difference)


class _Clock:
    """Waits until each bin is due, and keeps how long it took from then on."""

    def __init__(self, period: float | None):
        self.period, self.due = period, time.perf_counter()
        self.latency: list[float] = []
        self.missed = 0

    def start(self) -> None:
        """Begin a trial: its first bin is due one bin from now."""
        self.due = time.perf_counter()

    def wait(self) -> None:
        """Wait until the next bin is complete."""
        if self.period is None:
            self.due = time.perf_counter()
            return
        self.due += self.period
        if (left := self.due - time.perf_counter() - SPIN) > 0:
            time.sleep(left)
        while time.perf_counter() < self.due:
            pass

    def done(self) -> None:
        """Take the time of a result."""
        taken = time.perf_counter() - self.due
        self.latency.append(taken)
        self.missed += self.period is not None and taken > self.period


@dataclass(frozen=True)
class _Trial:
    """What a stream is given of a trial: values, what is shown, and exposure (bin, channel); known inputs (bin, input)."""

    values: NDArray[np.float32]
    shown: NDArray[np.bool_]
    exposure: NDArray[np.float32] | None
    inputs: NDArray[np.float32] | None

    def step(self, stream: Stream, t: int) -> Step:
        exposure = None if self.exposure is None else self.exposure[t]
        inputs = None if self.inputs is None else self.inputs[t]
        return stream.step(self.values[t], self.shown[t], exposure, inputs=inputs)


def _trials(fitted: Fitted, ds: xr.Dataset, session: str) -> Iterator[_Trial]:
    batch = to_batch(hold_out(ds, fitted.config), session)
    shown, values = batch.dense(batch.shown).numpy(), batch.dense(batch.values).numpy()
    exposure = ds["exposure"].values if "exposure" in ds else None
    inputs = np.where(ds["inputs_observed"], ds["inputs"], np.float32(np.nan)) if "inputs" in ds else None
    for i in range(len(values)):
        yield _Trial(
            values[i], shown[i], None if exposure is None else exposure[i], None if inputs is None else inputs[i]
        )


def _streamed(
    stream: Stream, trial: _Trial, *, clock: _Clock, advance: Callable[[int], object]
) -> dict[str, NDArray[np.float32]]:
    """What the stream infers of a trial, by name (bin, …)."""
    stream.reset()
    steps: list[Step] = []
    clock.start()
    for t in range(len(trial.values)):
        clock.wait()
        steps.append(trial.step(stream, t))
        clock.done()
        advance(1)
    last = stream.finish()
    due = [step for step in steps if step.bin >= 0]
    return {
        name: np.concatenate([*(getattr(step, name)[None] for step in due), getattr(last, name)])
        for name in ("factors", "rates", "rates_sd", "mean", "mean_sd")
        if getattr(last, name) is not None
    }


def _nothing(n: int) -> None:
    """Show no progress."""
