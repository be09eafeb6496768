"""Recordings shaped like the benchmark's, with rates that are known: to test the whole way from files to scores offline.

Latents are oscillations around a trial's event, of a phase and size that follow from the trial's condition and vary a little
from trial to trial; of mc_rtt a smooth random course without trials, of dmfc_rsg a course from set to go that is the slower the
longer the produced interval. Log rates and velocities (at the set's lag) are linear in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.atomic import make_folder
from nwb_sbtt.data.intervals import Intervals, select_inside, union
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.io.benchmark.recordings import SampledSeries, TaskRecording, write_task_recording
from nwb_sbtt.nlb.counting import CLOCK, Floats, cut
from nwb_sbtt.nlb.definitions import Definition, definition
from nwb_sbtt.nlb.windows import Windows

LATENTS = 4
GAP = 0.1
"""Seconds between trials in which nothing is recorded."""
TYPES = 4
"""Values of each column that makes conditions."""


@dataclass(frozen=True)
class Simulation:
    """Sizes of a simulated set; the median rate of its units [Hz], and the sd of the logarithm of a rate over time."""

    name: str = "mc_maze_small"
    train: int = 75
    val: int = 25
    test: int = 25
    units: int = 40
    held_out: float = 0.25
    rate: float = 12.0
    depth: float = 0.9
    seed: int = 0


@dataclass(frozen=True)
class Simulated:
    """The two recordings of a set, and the true rates [Hz] of the first on the clock (millisecond, unit)."""

    training: TaskRecording
    testing: TaskRecording
    rates: NDArray[np.float32] = field(repr=False)

    def expected(self, windows: Windows, bin_width: float, *, forward: bool = False) -> Floats:
        """True expected counts per bin (trial, time, unit) in windows, or in the bins after them."""
        factor = round(bin_width / CLOCK)
        whole = len(self.rates) // factor * factor
        per_bin = self.rates[:whole].astype(np.float64).reshape(-1, factor, self.rates.shape[1]).sum(1) * CLOCK
        if forward:
            return cut(per_bin, windows.first + windows.n_bins, windows.forward)
        return cut(per_bin, windows.first, windows.n_bins)


def simulate(simulation: Simulation) -> Simulated:
    """Draw the recordings of a set.

    Raises
    ------
    ConfigError
        If the sizes leave nothing to train on, to evaluate or to hold out, or rates are not above 0.
    """
    which = definition(simulation.name)
    n_held_out = round(simulation.held_out * simulation.units)
    if min(simulation.train, simulation.val, simulation.test) < 2 or not 0 < n_held_out < simulation.units:
        raise ConfigError(
            f"cannot simulate {simulation}: at least two trials of each kind, a held-in and a held-out unit are needed"
        )
    if not (simulation.rate > 0 and simulation.depth >= 0):
        raise ConfigError(f"cannot simulate {simulation}: a rate above 0 and a depth of 0 or more are needed")
    generator = np.random.default_rng(simulation.seed)
    system = _System(
        loadings=generator.normal(size=(LATENTS, simulation.units)) * simulation.depth / np.sqrt(LATENTS / 2),
        offsets=np.log(simulation.rate) + generator.normal(size=simulation.units) * 0.3,
        velocity=generator.normal(size=(LATENTS, 2)) * 50,
        phases=generator.uniform(0, 2 * np.pi, (TYPES, TYPES, 2, LATENTS)),
        held_out=generator.permutation(simulation.units) < n_held_out,
    )
    splits = np.array(["train"] * simulation.train + ["val"] * simulation.val)
    training, rates = _session(which, system, generator.permutation(splits), generator)
    whole, _ = _session(which, system, np.full(simulation.test, "test"), generator)
    return Simulated(training, _testing(whole, which), rates)


def write_simulated(
    simulated: Simulated, name: str, folder: Path | str, *, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write both files, named as the benchmark's are; the one with training trials first.

    Raises
    ------
    FileError
        If a file exists and may not be replaced, or cannot be written.
    """
    text = f"Simulation in the shape of {name} of the Neural Latents Benchmark."
    place = make_folder(folder)
    stem = f"sub-simulated_ses-{name.replace('_', '-')}"
    return (
        write_task_recording(
            simulated.training, place / f"{stem}_desc-train_ecephys.nwb", description=text, overwrite=overwrite
        ),
        write_task_recording(
            simulated.testing, place / f"{stem}_desc-test_ecephys.nwb", description=text, overwrite=overwrite
        ),
    )


@dataclass(frozen=True)
class _System:
    loadings: Floats
    offsets: Floats
    velocity: Floats
    phases: Floats
    held_out: NDArray[np.bool_]


def _session(
    which: Definition, system: _System, splits: NDArray[np.str_], generator: np.random.Generator
) -> tuple[TaskRecording, NDArray[np.float32]]:
    """A session of trials, each with all of its window and what follows, and the true rates."""
    trials = _trials(which, splits, generator)
    n_ms = round(float(trials["stop_time"][-1]) / CLOCK)
    moments: Floats = (np.arange(n_ms, dtype=np.float64) + 0.5) * CLOCK
    latents = (
        _smooth_course(n_ms, generator)
        if which.psth is None
        else _around_events(which, system, trials, moments, generator)
    )
    rates = np.exp(system.offsets + latents @ system.loadings).astype(np.float32)
    intervals = _recorded_in(which, trials)
    counts = generator.poisson(rates * CLOCK)
    spikes = []
    for each in counts.T:
        places = np.repeat(np.arange(n_ms), each)
        times = np.round((places + generator.uniform(0.05, 0.95, len(places))) * CLOCK, 7)
        spikes.append(select_inside(np.sort(times), intervals))
    samples = {}
    if isinstance(which.behavior, str):
        lag = round(which.lag / CLOCK)
        velocity = np.roll(latents, lag, axis=0) @ system.velocity
        velocity += generator.normal(size=velocity.shape) * 5
        there = _inside(moments, intervals, margin=0.3)
        samples[which.behavior] = SampledSeries((np.arange(n_ms, dtype=np.float64) * CLOCK)[there], velocity[there])
    n_units = len(system.offsets)
    ids = np.arange(n_units, dtype=np.int64) * 10 + 1001
    recorded = TaskRecording(ids, tuple(spikes), (intervals,) * n_units, system.held_out, trials, samples)
    return recorded, rates


def _trials(which: Definition, splits: NDArray[np.str_], generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    n = len(splits)
    trials: dict[str, NDArray[Any]] = {"id": np.arange(n), "split": splits}
    if which.psth is None:
        # Windows of 0.6 s every 0.5 s: they overlap.
        trials["start_time"] = 0.2 + 0.5 * np.arange(n)
        trials["stop_time"] = trials["start_time"] + 0.5
        trials["stop_time"][-1] += 1.0
        return trials
    length = np.round(1.6 + generator.uniform(0, 0.4, n) + (1.3 if which.produced else 0), 3)
    trials["start_time"] = np.round(np.concatenate([[0], np.cumsum(length + GAP)[:-1]]), 3)
    trials["stop_time"] = np.round(trials["start_time"] + length, 3)
    trials[which.event] = np.round(trials["start_time"] + length - 0.9 + generator.uniform(-0.1, 0.1, n), 3)
    types = np.arange(n) % TYPES
    if which.produced is not None:
        target = np.where(types % 2 == 0, 640.0, 1000.0)
        tp = np.round(target * generator.normal(1, 0.12, n))
        own = {"is_eye": types % 2, "theta": (types // 2) * 180, "is_short": (target < 800).astype(int)}
        trials |= {**own, "ts": target, "tp": tp, "is_outlier": (generator.random(n) < 0.04).astype(int)}
        trials[which.produced.scored_from] = np.round(trials[which.event] - tp / 1000, 3)
        trials[which.event] = np.round(trials[which.event], 3)
    elif which.decoders is not None:
        trials |= {"cond_dir": types * 90.0, "ctr_hold_bump": (generator.random(n) < 0.5).astype(int)}
    else:
        trials |= {"trial_type": types, "trial_version": generator.integers(0, 2, n)}
    return trials


def _around_events(
    which: Definition,
    system: _System,
    trials: Mapping[str, NDArray[Any]],
    moments: Floats,
    generator: np.random.Generator,
) -> Floats:
    latents = np.zeros((len(moments), LATENTS))
    frequency = np.array([0.8, 1.2, 1.7, 2.3])
    labels = [np.unique(trials[name], return_inverse=True)[1] for name in (which.psth.columns if which.psth else ())]
    for row in range(len(trials["id"])):
        own = slice(*np.searchsorted(moments, [trials["start_time"][row], trials["stop_time"][row]]))
        since = moments[own] - trials[which.event][row]
        if which.produced is not None:
            since = 0.8 * (1 + since / (trials["tp"][row] / 1000))
        kind = tuple(int(label[row]) % TYPES for label in labels[:2])
        phase = system.phases[kind][0] + generator.normal(size=LATENTS) * 0.35
        size = np.exp(generator.normal(size=LATENTS) * (0.05 if which.produced else 0.25))
        latents[own] = size * np.sin(2 * np.pi * frequency * since[:, None] + phase)
    return latents


def _smooth_course(n_ms: int, generator: np.random.Generator) -> Floats:
    from scipy.ndimage import gaussian_filter1d

    course: Floats = gaussian_filter1d(generator.normal(size=(n_ms, LATENTS)), 100, axis=0)
    return np.asarray(course / course.std(0) / np.sqrt(2))


def _recorded_in(which: Definition, trials: Mapping[str, NDArray[Any]]) -> Intervals:
    """The whole session of a task without pauses, or the trials alone."""
    if which.psth is None:
        return np.array([[0.0, float(trials["stop_time"][-1])]])
    return union(np.column_stack([trials["start_time"], trials["stop_time"]]))


def _inside(moments: Floats, intervals: Intervals, *, margin: float) -> NDArray[np.bool_]:
    there = np.zeros(len(moments), dtype=bool)
    for begin, end in intervals:
        there |= (moments >= begin - margin) & (moments < end + margin)
    return there


def _testing(whole: TaskRecording, which: Definition) -> TaskRecording:
    """What a file of test trials holds of a session: held-in spikes in the windows, and where these lie.

    As in the published files windows stand one after the other on a clock of their own, every one on a bin's edge; those of a
    task without pauses stay where they are, and overlap.
    """
    event = whole.trials[which.event]
    begin, length = event + which.start, which.stop - which.start
    place = begin if which.psth is None else np.arange(len(event)) * (length + GAP)
    moved = np.round(place - begin, 6)
    names = ["start_time", "stop_time", which.event]
    if which.produced is not None:
        names.append(which.produced.scored_from)
    intervals = union(np.round(np.column_stack([place, place + length]), 6))
    kept = np.flatnonzero(~whole.held_out)
    return TaskRecording(
        unit_id=whole.unit_id[kept],
        spikes=tuple(_moved(whole.spikes[unit], begin, length, moved) for unit in kept),
        intervals=(intervals,) * len(kept),
        held_out=np.zeros(len(kept), dtype=bool),
        trials={
            **{name: whole.trials[name] for name in ("id", "split")},
            **{name: np.round(whole.trials[name] + moved, 6) for name in names},
        },
    )


def _moved(spikes: Floats, begin: Floats, length: float, moved: Floats) -> Floats:
    """Spikes of the windows, each moved with its window; one that lies in two that overlap counts once."""
    parts = [
        select_inside(spikes, np.array([[first, first + length]])) + late
        for first, late in zip(begin, moved, strict=True)
    ]
    return np.unique(np.round(np.concatenate(parts), 7))
