"""From the files of a set to its tensors: inputs that are shown, and targets that predictions are scored against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.atomic import make_folder
from nwb_sbtt.errors import ConfigError, DataError, FileError
from nwb_sbtt.io.benchmark.recordings import TaskRecording, read_task_recording
from nwb_sbtt.io.benchmark.tensorfile import read_about, read_tensors, write_tensors
from nwb_sbtt.nlb.conditions import condition_means
from nwb_sbtt.nlb.counting import SpikeCounter, behavior_on_grid, cut_windows, units_in_order
from nwb_sbtt.nlb.definitions import SPLITS, Definition, Phase, get_definition, group_name
from nwb_sbtt.nlb.windows import BenchmarkWindows, grid_bin, place_windows, trial_column

Array = NDArray[Any]
COMPAT = (None, "nlb_tools")


@dataclass(frozen=True)
class Prepared:
    """A set as tensors.

    Parameters
    ----------
    name : str
        Of the set.
    phase : "val" or "test"
    bin_width : float
        Seconds.
    inputs : mapping of name to array (trial, time, …)
        ``train_spikes_heldin``, ``train_spikes_heldout``, both with ``_forward``, ``train_behavior``, ``eval_spikes_heldin``;
        counts per bin, NaN where a bin is missing.
    targets : mapping of name to array, or None
        In the benchmark's layout; None where the files lack the held-out units of the evaluated trials.
    about : mapping
        Ids of units and trials, files, and settings of the preparation; JSON-safe.
    """

    name: str
    phase: Phase
    bin_width: float
    inputs: dict[str, Array] = field(repr=False)
    targets: dict[str, Any] | None = field(repr=False)
    about: dict[str, Any] = field(repr=False)

    @property
    def group(self) -> str:
        """Name of the set's group in a submission."""
        return group_name(self.name, self.bin_width)


def prepare(
    name: str,
    files: Sequence[Path | str | TaskRecording],
    *,
    bin_width: float = 0.005,
    phase: Phase = "val",
    compat: str | None = None,
) -> Prepared:
    """Align, bin and split a set of the benchmark.

    Parameters
    ----------
    name : str
        Of the set, such as "mc_maze_small".
    files : sequence of path or TaskRecording
        The file with training trials and, for the phase "test", the one with test trials, in any order. A file of test trials
        alone is enough for the evaluated tensors.
    bin_width : float
        0.005 or 0.02 seconds.
    phase : "val" or "test"
        Which trials are evaluated.
    compat : "nlb_tools", optional
        Use observation intervals as nlb_tools 0.0.4 does: those of the first unit in the table (of the held-in and of the
        held-out ones) for all, and a bin counts as observed if its first millisecond is; and average conditions as it does
        (see `nwb_sbtt.nlb.conditions`). By default each unit's own intervals decide, and all of a bin must be observed. The
        two agree where all units were observed alike and trials contain whole windows. Where a window has a pause, nlb_tools
        drops its bins and then makes no tensors, as trials differ in length; here they are NaN.

    Raises
    ------
    ConfigError
        If a setting is unknown.
    DataError
        If the files lack columns or series that the set's definition names, or their units do not agree.
    FileError
        If a file cannot be read.

    Examples
    --------
    >>> prepared = prepare("mc_maze_small", ["train.nwb", "test.nwb"], phase="test")  # doctest: +SKIP
    """
    definition = get_definition(name)
    group_name(name, bin_width)
    if phase not in SPLITS or compat not in COMPAT:
        raise ConfigError(
            f"phase {phase!r} or compat {compat!r} is unknown; expected one of {list(SPLITS)} and 'nlb_tools' or None"
        )
    series = (definition.behavior,) if isinstance(definition.behavior, str) else ()
    recordings = [
        file if isinstance(file, TaskRecording) else read_task_recording(file, series=series) for file in files
    ]
    train_splits, eval_split = SPLITS[phase]
    training, evaluated = _with_splits(recordings, train_splits), _with_splits(recordings, (eval_split,))
    if evaluated is None:
        raise DataError(f"no file has trials of split {eval_split!r}; phase {phase!r} needs a file with them")
    if training is None and phase == "val":
        raise DataError(f"no file has trials of split {train_splits[0]!r}; pass the file with the training trials")
    inputs: dict[str, Array] = {}
    about: dict[str, Any] = {"name": name, "phase": phase, "bin_width": bin_width, "compat": compat}
    about["files"] = [dict(recorded.source) for recorded in recordings]
    if training is not None:
        _check_units(training, evaluated)
        train_recording = _SetRecording(training, definition, bin_width, bool(compat))
        windows = place_windows(training.trials, definition, bin_width, train_splits)
        inputs |= {f"train_{key}": array for key, array in train_recording.spikes(windows).items()}
        if (behavior := train_recording.behavior(windows)) is not None:
            inputs["train_behavior"] = behavior
        about["units_heldout"] = training.unit_id[units_in_order(training, held_out=True)].tolist()
        about["train_starts"] = (windows.first_bins * bin_width).tolist()
        about["train_trials"] = training.trials["id"][windows.rows].tolist()
    eval_recording = _SetRecording(evaluated, definition, bin_width, bool(compat))
    eval_windows = place_windows(evaluated.trials, definition, bin_width, (eval_split,))
    spikes = eval_recording.spikes(eval_windows)
    inputs["eval_spikes_heldin"] = spikes["spikes_heldin"]
    about["units_heldin"] = evaluated.unit_id[units_in_order(evaluated, held_out=False)].tolist()
    about["eval_trials"] = evaluated.trials["id"][eval_windows.rows].tolist()
    targets = None
    if training is evaluated and "spikes_heldout" in spikes:
        targets = _targets(eval_recording, windows, eval_windows, inputs.get("train_behavior"), spikes)
    return Prepared(name, phase, bin_width, inputs, targets, about)


def save_prepared(prepared: Prepared, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
    """Write tensors into a folder: ``GROUP.PHASE.inputs.h5`` and, if there are any, ``GROUP.PHASE.targets.h5``.

    Parameters
    ----------
    prepared : Prepared
    folder : path
        Made where it does not exist.
    overwrite : bool
        Replace existing files.

    Returns
    -------
    list of Path
        Of the files written.

    Raises
    ------
    FileError
        If a file exists and may not be replaced, or cannot be written.
    """
    target_dir = make_folder(folder)
    stem = f"{prepared.group}.{prepared.phase}"
    paths = [
        write_tensors(
            target_dir / f"{stem}.inputs.h5", {"": prepared.inputs}, about=prepared.about, overwrite=overwrite
        )
    ]
    if prepared.targets is not None:
        groups = {prepared.group: prepared.targets}
        target = target_dir / f"{stem}.targets.h5"
        paths.append(write_tensors(target, groups, about=prepared.about, overwrite=overwrite))
    return paths


def load_prepared(folder: Path | str, name: str, *, bin_width: float = 0.005, phase: Phase = "val") -> Prepared:
    """Read back the tensors that `save_prepared` wrote.

    Parameters
    ----------
    folder : path
    name : str
        Of the set.
    bin_width : float
        Seconds.
    phase : "val" or "test"

    Raises
    ------
    FileError
        If they are not in the folder.
    ConfigError
        If there is no such set or bin width.
    """
    group = group_name(name, bin_width)
    inputs, targets = (Path(folder) / f"{group}.{phase}.{kind}.h5" for kind in ("inputs", "targets"))
    if not inputs.exists():
        raise FileError(
            f"there is no {inputs.name!r} in {str(folder)!r}; prepare it with `nwb-sbtt nlb prepare {name}`"
        )
    arrays = {key: np.asarray(array) for key, array in read_tensors(inputs).get("", {}).items()}
    about = read_about(inputs)
    if problem := _problem_of_inputs(arrays, about):
        raise FileError(f"{str(inputs)!r} is damaged: {problem}; prepare it again with `nwb-sbtt nlb prepare {name}`")
    known_targets: dict[str, Any] | None = None
    if targets.exists():
        groups = read_tensors(targets)
        if group not in groups:
            raise FileError(
                f"{str(targets)!r} has {sorted(groups)}, not {group!r}; prepare it again with `nwb-sbtt nlb prepare`"
            )
        known_targets = dict(groups[group])
    return Prepared(name, phase, bin_width, arrays, known_targets, about)


def _problem_of_inputs(arrays: dict[str, Array], about: dict[str, Any]) -> str:
    """What is wrong with tensors that were stored, or with their description; nothing if they are as `prepare` makes them."""
    kinds = ("heldin", "heldout", "heldin_forward", "heldout_forward")
    training = [f"train_spikes_{kind}" for kind in kinds] if any(name.startswith("train") for name in arrays) else []
    spikes = ["eval_spikes_heldin", *training]
    if missing := [name for name in spikes if name not in arrays]:
        return f"{missing[0]!r} is missing"
    for name in spikes:
        array = arrays[name]
        if array.ndim != 3 or array.dtype.kind != "f":
            return f"{name!r} is {array.dtype} of shape {array.shape}, not floats (trial, time, unit)"
        if ((array < 0) | np.isinf(array)).any():
            return f"{name!r} has values that are not counts"
    heldin = _ids(about, "units_heldin")
    n_bins, n_heldin = arrays["eval_spikes_heldin"].shape[1:]
    if n_heldin != len(heldin):
        return f"{n_heldin} held-in units, but ids of {len(heldin)}"
    if training:
        heldout, starts = _ids(about, "units_heldout"), _ids(about, "train_starts")
        n_forward = arrays["train_spikes_heldin_forward"].shape[1]
        units = {"heldin": len(heldin), "heldout": len(heldout)}
        for kind in kinds:
            expected = (len(starts), n_forward if "forward" in kind else n_bins, units[kind.removesuffix("_forward")])
            if arrays[f"train_spikes_{kind}"].shape != expected:
                shape = arrays[f"train_spikes_{kind}"].shape
                return f"'train_spikes_{kind}' has shape {shape}; expected {expected}, as in the other arrays"
        if not np.isfinite(starts).all() or len(set(heldin) | set(heldout)) != len(heldin) + len(heldout):
            return "its trials have no times, or its units ids that repeat"
    return ""


def _ids(about: dict[str, Any], name: str) -> list[float]:
    """A list of numbers in the description of tensors; empty where it is none."""
    numbers = about.get(name)
    if not isinstance(numbers, list) or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        return []
    return numbers


@dataclass(frozen=True)
class _SetRecording:
    """One recording, ready to be cut into the windows of its set."""

    recorded: TaskRecording
    definition: Definition
    bin_width: float
    compat: bool

    def counter(self, *, held_out: bool) -> SpikeCounter:
        return SpikeCounter(
            self.recorded, units_in_order(self.recorded, held_out=held_out), self.bin_width, self.compat
        )

    def spikes(self, windows: BenchmarkWindows) -> dict[str, Array]:
        """Counts (trial, time, unit) of those held-in and held-out units that the file has, in the windows and after them."""
        spikes = {}
        for held_out, name in ((False, "heldin"), (True, "heldout")):
            counter = self.counter(held_out=held_out)
            if len(counter.units):
                counts = counter.counts(windows.first_bins, windows.n_bins + windows.n_forward)
                spikes[f"spikes_{name}"] = counts[:, : windows.n_bins]
                spikes[f"spikes_{name}_forward"] = counts[:, windows.n_bins :]
        return spikes

    def behavior(self, windows: BenchmarkWindows) -> Array | None:
        """Velocities (trial, time, axis) or labels (trial, column); None where the file has none."""
        trials, behavior = self.recorded.trials, self.definition.behavior
        if isinstance(behavior, str):
            if behavior not in self.recorded.samples:
                return None
            velocity = behavior_on_grid(self.recorded.samples[behavior], self.recorded, self.bin_width)
            event = (
                trial_column(trials, self.definition.event)[windows.rows] + self.definition.start + self.definition.lag
            )
            return cut_windows(velocity, grid_bin(event, self.bin_width), windows.n_bins)
        if any(name not in trials for name in behavior):
            return None
        labels = np.stack([trial_column(trials, name)[windows.rows].astype(np.float64) for name in behavior], axis=1)
        if self.definition.outliers is not None:
            labels[trial_column(trials, self.definition.outliers)[windows.rows].astype(np.float64) != 0] = np.nan
        return labels


def _targets(
    recording: _SetRecording,
    windows: BenchmarkWindows,
    evaluated: BenchmarkWindows,
    train_behavior: Array | None,
    spikes: dict[str, Array],
) -> dict[str, Any]:
    """Targets under the benchmark's names."""
    behavior = recording.behavior(evaluated)
    if behavior is None or train_behavior is None:
        raise DataError(f"the file has no behaviour {recording.definition.behavior!r}, which is needed for the scores")
    targets: dict[str, Any] = {
        "eval_spikes_heldout": np.where(evaluated.scored[..., None], spikes["spikes_heldout"], np.nan),
        "train_behavior": train_behavior,
        "eval_behavior": behavior,
        "eval_spikes_heldin_forward": spikes["spikes_heldin_forward"],
        "eval_spikes_heldout_forward": spikes["spikes_heldout_forward"],
    }
    parts = (("train", windows), ("eval", evaluated))
    if recording.definition.decoders is not None:
        flags = trial_column(recording.recorded.trials, recording.definition.decoders).astype(np.float64)
        for part, part_windows in parts:
            groups = [flags[part_windows.rows] == 0, flags[part_windows.rows] == 1]
            targets[f"{part}_decode_mask"] = np.stack(groups, axis=1)
    if recording.definition.psth is not None:
        smoothed = np.concatenate(
            [
                recording.counter(held_out=held_out).smoothed(recording.definition.psth.smoothing)
                for held_out in (False, True)
            ],
            axis=1,
        )
        means = condition_means(
            smoothed,
            recording.recorded.trials,
            recording.definition,
            bin_width=recording.bin_width,
            parts=(windows, evaluated),
            compat=recording.compat,
        )
        targets |= {"psth": means.psth, "train_cond_idx": means.rows[0], "eval_cond_idx": means.rows[1]}
        if recording.definition.produced is not None:
            targets |= {f"{part}_jitter": part_windows.jitter for part, part_windows in parts}
    return targets


def _with_splits(recordings: Sequence[TaskRecording], splits: Sequence[str]) -> TaskRecording | None:
    """The one recording with trials of these splits."""
    matching = [
        recorded
        for recorded in recordings
        if np.isin(trial_column(recorded.trials, "split").astype(str), list(splits)).any()
    ]
    if len(matching) > 1:
        raise DataError(f"{len(matching)} files have trials of split {' or '.join(splits)}; pass one file of each kind")
    return matching[0] if matching else None


def _check_units(training: TaskRecording, evaluated: TaskRecording) -> None:
    """Refuse files whose held-in units differ."""
    train_ids = set(training.unit_id[~training.held_out].tolist())
    eval_ids = set(evaluated.unit_id[~evaluated.held_out].tolist())
    if train_ids != eval_ids:
        raise DataError(
            f"the files do not have the same held-in units: {json.dumps(sorted(train_ids - eval_ids)[:8])} are only "
            f"in the one with training trials, {json.dumps(sorted(eval_ids - train_ids)[:8])} only in the other; pass "
            "the two files of the same set"
        )
    if not training.held_out.any():
        raise DataError("the file with training trials marks no unit as held out (units column 'heldout')")
