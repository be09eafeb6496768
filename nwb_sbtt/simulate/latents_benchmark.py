"""Recordings shaped like those of the Neural Latents Benchmark, with known rates: all steps from files to scores, offline.

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
from nwb_sbtt.nlb.counting import CLOCK, Floats, cut_windows
from nwb_sbtt.nlb.definitions import Definition, get_definition
from nwb_sbtt.nlb.windows import BenchmarkWindows

N_LATENTS = 4
PAUSE = 0.1
"""Seconds between trials in which nothing is recorded."""
N_TYPES = 4
"""Number of values of each column that makes conditions."""
FREQUENCIES = (0.8, 1.2, 1.7, 2.3)
"""Of the latents around a trial's event [Hz]."""
PHASE_SD, LOG_SIZE_SD = 0.35, 0.25
"""Sd over trials of a condition: of the phases of the latents, and of the logarithm of their sizes."""


@dataclass(frozen=True)
class SetSettings:
    """Settings of a simulated set.

    Parameters
    ----------
    name : str
        Of the set whose shape the files have.
    train, val, test : int
        Trials of each split.
    units : int
    held_out : float
        Share of the units.
    rate : float
        Median rate of the units in Hz.
    depth : float
        Sd of the logarithm of a rate over time.
    seed : int
    """

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
class SimulatedSet:
    """A simulated set.

    Parameters
    ----------
    name : str
        Of the set whose shape the files have.
    training, testing : TaskRecording
        Recording of the training and validation trials, and of the test trials.
    rates : array (millisecond, unit)
        True rates of `training` in Hz.
    system : System
        What all trials share.
    """

    name: str
    training: TaskRecording
    testing: TaskRecording
    rates: NDArray[np.float32] = field(repr=False)
    system: System = field(repr=False)

    def expected_counts(self, windows: BenchmarkWindows, bin_width: float, *, forward: bool = False) -> Floats:
        """Compute the true expected counts in windows.

        Parameters
        ----------
        windows : BenchmarkWindows
            Of `training`.
        bin_width : float
            Seconds.
        forward : bool
            Take the forecast bins after the windows instead.

        Returns
        -------
        array (trial, time, unit)
        """
        factor = round(bin_width / CLOCK)
        whole = len(self.rates) // factor * factor
        per_bin = self.rates[:whole].astype(np.float64).reshape(-1, factor, self.rates.shape[1]).sum(1) * CLOCK
        if forward:
            return cut_windows(per_bin, windows.first_bins + windows.n_bins, windows.n_forward)
        return cut_windows(per_bin, windows.first_bins, windows.n_bins)


def simulate_set(settings: SetSettings) -> SimulatedSet:
    """Simulate the recordings of a set.

    Parameters
    ----------
    settings : SetSettings

    Raises
    ------
    ConfigError
        If the settings leave nothing to train on, to evaluate or to hold out, or rates are not above 0.

    Examples
    --------
    >>> simulated = simulate_set(SetSettings("mc_rtt", train=4, val=2, test=2, units=8))
    >>> len(simulated.training.spikes), len(simulated.testing.spikes)
    (8, 6)
    """
    definition = get_definition(settings.name)
    n_held_out = round(settings.held_out * settings.units)
    if min(settings.train, settings.val, settings.test) < 2 or not 0 < n_held_out < settings.units:
        raise ConfigError(
            f"cannot simulate {settings}; expected at least two trials of each kind, one held-in and one held-out unit"
        )
    if not (settings.rate > 0 and settings.depth >= 0):
        raise ConfigError(f"cannot simulate {settings}; expected a rate above 0 and a depth of at least 0")
    generator = np.random.default_rng(settings.seed)
    system = System(
        loadings=generator.normal(size=(N_LATENTS, settings.units)) * settings.depth / np.sqrt(N_LATENTS / 2),
        offsets=np.log(settings.rate) + generator.normal(size=settings.units) * 0.3,
        velocity=generator.normal(size=(N_LATENTS, 2)) * 50,
        phases=generator.uniform(0, 2 * np.pi, (N_TYPES, N_TYPES, 2, N_LATENTS)),
        held_out=generator.permutation(settings.units) < n_held_out,
    )
    splits = np.array(["train"] * settings.train + ["val"] * settings.val)
    training, rates = _session(definition, system, generator.permutation(splits), generator)
    session, _ = _session(definition, system, np.full(settings.test, "test"), generator)
    return SimulatedSet(settings.name, training, _test_recording(session, definition), rates, system)


def write_set(simulated: SimulatedSet, folder: Path | str, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Write both recordings of a set, with names as the benchmark's files have.

    Parameters
    ----------
    simulated : SimulatedSet
    folder : path
        Made where it does not exist.
    overwrite : bool
        Replace existing files.

    Returns
    -------
    (Path, Path)
        The file with training trials first.

    Raises
    ------
    FileError
        If a file exists and may not be replaced, or cannot be written.
    """
    text = f"Simulation in the shape of {simulated.name} of the Neural Latents Benchmark."
    stem = make_folder(folder) / f"sub-simulated_ses-{simulated.name.replace('_', '-')}"
    training, testing = (Path(f"{stem}_desc-{kind}_ecephys.nwb") for kind in ("train", "test"))
    return (
        write_task_recording(simulated.training, training, description=text, overwrite=overwrite),
        write_task_recording(simulated.testing, testing, description=text, overwrite=overwrite),
    )


@dataclass(frozen=True)
class System:
    """What trials and sessions share: log rates and velocities are linear in the latents.

    Parameters
    ----------
    loadings : array (latent, unit)
    offsets : array (unit)
        Log rates where all latents are 0.
    velocity : array (latent, axis)
    phases : array (value of the first column, value of the second, 2, latent)
        Of the latents at the event of a condition; the first of the two.
    held_out : bool array (unit)
    """

    loadings: Floats
    offsets: Floats
    velocity: Floats
    phases: Floats
    held_out: NDArray[np.bool_]


def _session(
    definition: Definition, system: System, splits: NDArray[np.str_], generator: np.random.Generator
) -> tuple[TaskRecording, NDArray[np.float32]]:
    """A session of trials, each with all of its window and forecast bins, and the true rates (millisecond, unit)."""
    trials = _trials(definition, splits, generator)
    n_ms = round(float(trials["stop_time"][-1]) / CLOCK)
    moments: Floats = (np.arange(n_ms, dtype=np.float64) + 0.5) * CLOCK
    latents = (
        _smooth_latents(n_ms, generator)
        if definition.psth is None
        else _around_events(definition, system, trials, moments, generator)
    )
    rates = np.exp(system.offsets + latents @ system.loadings).astype(np.float32)
    intervals = _recorded_in(definition, trials)
    counts = generator.poisson(rates * CLOCK)
    spikes = []
    for unit_counts in counts.T:
        ticks = np.repeat(np.arange(n_ms), unit_counts)
        times = np.round((ticks + generator.uniform(0.05, 0.95, len(ticks))) * CLOCK, 7)
        spikes.append(select_inside(np.sort(times), intervals))
    samples = {}
    if isinstance(definition.behavior, str):
        lag = round(definition.lag / CLOCK)
        velocity = np.roll(latents, lag, axis=0) @ system.velocity
        velocity += generator.normal(size=velocity.shape) * 5
        sampled = _inside(moments, intervals, margin=0.3)
        times = np.arange(n_ms, dtype=np.float64) * CLOCK
        samples[definition.behavior] = SampledSeries(times[sampled], velocity[sampled])
    n_units = len(system.offsets)
    ids = np.arange(n_units, dtype=np.int64) * 10 + 1001
    recorded = TaskRecording(ids, tuple(spikes), (intervals,) * n_units, system.held_out, trials, samples)
    return recorded, rates


def _trials(
    definition: Definition, splits: NDArray[np.str_], generator: np.random.Generator
) -> dict[str, NDArray[Any]]:
    n = len(splits)
    trials: dict[str, NDArray[Any]] = {"id": np.arange(n), "split": splits}
    if definition.psth is None:
        # Windows of 0.6 s every 0.5 s: they overlap.
        trials["start_time"] = 0.2 + 0.5 * np.arange(n)
        trials["stop_time"] = trials["start_time"] + 0.5
        trials["stop_time"][-1] += 1.0
        return trials
    length = np.round(1.6 + generator.uniform(0, 0.4, n) + (1.3 if definition.produced else 0), 3)
    trials["start_time"] = np.round(np.concatenate([[0], np.cumsum(length + PAUSE)[:-1]]), 3)
    trials["stop_time"] = np.round(trials["start_time"] + length, 3)
    trials[definition.event] = np.round(trials["start_time"] + length - 0.9 + generator.uniform(-0.1, 0.1, n), 3)
    types = np.arange(n) % N_TYPES
    if definition.produced is not None:
        target = np.where(types % 2 == 0, 640.0, 1000.0)
        tp = np.round(target * generator.normal(1, 0.12, n))
        columns = {"is_eye": types % 2, "theta": (types // 2) * 180, "is_short": (target < 800).astype(int)}
        trials |= {**columns, "ts": target, "tp": tp, "is_outlier": (generator.random(n) < 0.04).astype(int)}
        trials[definition.produced.scored_from] = np.round(trials[definition.event] - tp / 1000, 3)
        trials[definition.event] = np.round(trials[definition.event], 3)
    elif definition.decoders is not None:
        trials |= {"cond_dir": types * 90.0, "ctr_hold_bump": (generator.random(n) < 0.5).astype(int)}
    else:
        trials |= {"trial_type": types, "trial_version": generator.integers(0, 2, n)}
    return trials


def _around_events(
    definition: Definition,
    system: System,
    trials: Mapping[str, NDArray[Any]],
    moments: Floats,
    generator: np.random.Generator,
) -> Floats:
    latents = np.zeros((len(moments), N_LATENTS))
    frequency = np.array(FREQUENCIES)
    labels = [
        np.unique(trials[name], return_inverse=True)[1] for name in (definition.psth.columns if definition.psth else ())
    ]
    for row in range(len(trials["id"])):
        trial = slice(*np.searchsorted(moments, [trials["start_time"][row], trials["stop_time"][row]]))
        since = moments[trial] - trials[definition.event][row]
        if definition.produced is not None:
            since = 0.8 * (1 + since / (trials["tp"][row] / 1000))
        kind = tuple(int(label[row]) % N_TYPES for label in labels[:2])
        phase = system.phases[kind][0] + generator.normal(size=N_LATENTS) * PHASE_SD
        size = np.exp(generator.normal(size=N_LATENTS) * (0.05 if definition.produced else LOG_SIZE_SD))
        latents[trial] = size * np.sin(2 * np.pi * frequency * since[:, None] + phase)
    return latents


def _smooth_latents(n_ms: int, generator: np.random.Generator) -> Floats:
    from scipy.ndimage import gaussian_filter1d

    latents: Floats = gaussian_filter1d(generator.normal(size=(n_ms, N_LATENTS)), 100, axis=0)
    return np.asarray(latents / latents.std(0) / np.sqrt(2))


def _recorded_in(definition: Definition, trials: Mapping[str, NDArray[Any]]) -> Intervals:
    """The whole session of a task without pauses, or the trials alone."""
    if definition.psth is None:
        return np.array([[0.0, float(trials["stop_time"][-1])]])
    return union(np.column_stack([trials["start_time"], trials["stop_time"]]))


def _inside(moments: Floats, intervals: Intervals, *, margin: float) -> NDArray[np.bool_]:
    inside = np.zeros(len(moments), dtype=bool)
    for begin, end in intervals:
        inside |= (moments >= begin - margin) & (moments < end + margin)
    return inside


def _test_recording(session: TaskRecording, definition: Definition) -> TaskRecording:
    """The recording of test trials: held-in spikes in the windows of a session, and where these lie.

    As in the published files windows stand one after the other on a clock of their own, every one on a bin's edge; those of a
    task without pauses stay where they are, and overlap.
    """
    event = session.trials[definition.event]
    begin, length = event + definition.start, definition.stop - definition.start
    target = begin if definition.psth is None else np.arange(len(event)) * (length + PAUSE)
    shifts = np.round(target - begin, 6)
    names = ["start_time", "stop_time", definition.event]
    if definition.produced is not None:
        names.append(definition.produced.scored_from)
    intervals = union(np.round(np.column_stack([target, target + length]), 6))
    held_in = np.flatnonzero(~session.held_out)
    return TaskRecording(
        unit_id=session.unit_id[held_in],
        spikes=tuple(_shifted(session.spikes[unit], begin, length, shifts) for unit in held_in),
        intervals=(intervals,) * len(held_in),
        held_out=np.zeros(len(held_in), dtype=bool),
        trials={
            **{name: session.trials[name] for name in ("id", "split")},
            **{name: np.round(session.trials[name] + shifts, 6) for name in names},
        },
    )


def _shifted(spikes: Floats, begin: Floats, length: float, shifts: Floats) -> Floats:
    """Spikes of the windows, each shifted with its window; one in the overlap of two windows counts once."""
    parts = [
        select_inside(spikes, np.array([[first, first + length]])) + shift
        for first, shift in zip(begin, shifts, strict=True)
    ]
    return np.unique(np.round(np.concatenate(parts), 7))
