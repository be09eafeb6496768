"""From the files of a set to its tensors: what is shown, what is to be predicted, and what predictions are scored against."""

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
from nwb_sbtt.nlb.counting import Counter, cut, on_grid, ordered
from nwb_sbtt.nlb.definitions import SPLITS, Definition, Phase, definition, group_name
from nwb_sbtt.nlb.windows import Windows, column, grid_bin, place_windows

Array = NDArray[Any]
COMPAT = (None, "nlb_tools")


@dataclass(frozen=True)
class Prepared:
    """A set as tensors.

    Parameters
    ----------
    name : str
    phase : "val" or "test"
    bin_width : float
        Seconds.
    inputs : mapping of name to array (trial, time, …)
        ``train_spikes_heldin``, ``train_spikes_heldout``, both with ``_forward``, ``train_behavior``, ``eval_spikes_heldin``;
        counts per bin, NaN where nothing was observed.
    targets : mapping of name to array, or None
        In the benchmark's layout; None where the held-out units of the evaluated trials are not in the files.
    about : mapping
        Ids of units and trials, files, and how they were read; JSON-safe.
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
    """Align, bin and split a set.

    Parameters
    ----------
    name : str
        Of the set, such as "mc_maze_small".
    files : sequence of path, or of recordings that were read
        The file with training trials and, for the phase "test", the one with test trials, in any order. A file of test trials
        alone gives the evaluated tensors alone.
    bin_width : float
        0.005 or 0.02 seconds.
    phase : "val" or "test"
        Which trials are evaluated.
    compat : "nlb_tools", optional
        Take observation intervals as nlb_tools 0.0.4 does: those of the first unit in the table (of the held-in and of the
        held-out ones) for all, and a bin for observed if its first millisecond is; and average conditions as it does (see
        `nwb_sbtt.nlb.conditions`). By default each unit's own intervals decide, and all of a bin must be observed. The two
        agree where all units were watched alike and trials hold whole windows. Where a window has a pause, nlb_tools drops its
        bins and then makes no tensors, as trials differ in length; here they are NaN.

    Raises
    ------
    ConfigError
        If a setting is unknown.
    DataError
        If the files do not hold what the set's definition names, or their units do not agree.
    FileError
        If a file cannot be read.

    Examples
    --------
    >>> prepared = prepare("mc_maze_small", ["train.nwb", "test.nwb"], phase="test")  # doctest: +SKIP
    """
    which = definition(name)
    group_name(name, bin_width)
    if phase not in SPLITS or compat not in COMPAT:
        raise ConfigError(
            f"phase {phase!r} or compat {compat!r} is unknown; expected {list(SPLITS)} and 'nlb_tools' or None"
        )
    series = (which.behavior,) if isinstance(which.behavior, str) else ()
    recordings = [
        each if isinstance(each, TaskRecording) else read_task_recording(each, series=series) for each in files
    ]
    train_splits, eval_split = SPLITS[phase]
    training, evaluated = _holding(recordings, train_splits), _holding(recordings, (eval_split,))
    if evaluated is None:
        raise DataError(f"no file has trials of split {eval_split!r}; phase {phase!r} needs the file that holds them")
    if training is None and phase == "val":
        raise DataError(f"no file has trials of split {train_splits[0]!r}")
    inputs: dict[str, Array] = {}
    about: dict[str, Any] = {"name": name, "phase": phase, "bin_width": bin_width, "compat": compat}
    about["files"] = [dict(each.source) for each in recordings]
    if training is not None:
        _check_units(training, evaluated)
        source = _Source(training, which, bin_width, bool(compat))
        windows = place_windows(training.trials, which, bin_width, train_splits)
        inputs |= {f"train_{key}": array for key, array in source.spikes(windows).items()}
        if (behavior := source.behavior(windows)) is not None:
            inputs["train_behavior"] = behavior
        about["units_heldout"] = training.unit_id[ordered(training, held_out=True)].tolist()
        about["train_starts"] = (windows.first * bin_width).tolist()
        about["train_trials"] = training.trials["id"][windows.rows].tolist()
    own = _Source(evaluated, which, bin_width, bool(compat))
    eval_windows = place_windows(evaluated.trials, which, bin_width, (eval_split,))
    spikes = own.spikes(eval_windows)
    inputs["eval_spikes_heldin"] = spikes["spikes_heldin"]
    about["units_heldin"] = evaluated.unit_id[ordered(evaluated, held_out=False)].tolist()
    about["eval_trials"] = evaluated.trials["id"][eval_windows.rows].tolist()
    targets = None
    if training is evaluated and "spikes_heldout" in spikes:
        targets = _targets(own, windows, eval_windows, inputs.get("train_behavior"), spikes)
    return Prepared(name, phase, bin_width, inputs, targets, about)


def save_prepared(prepared: Prepared, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
    """Write tensors into a folder: ``GROUP.PHASE.inputs.h5`` and, where they are known, ``GROUP.PHASE.targets.h5``.

    Raises
    ------
    FileError
        If a file exists and may not be replaced, or cannot be written.
    """
    place = make_folder(folder)
    stem = f"{prepared.group}.{prepared.phase}"
    paths = [
        write_tensors(place / f"{stem}.inputs.h5", {"": prepared.inputs}, about=prepared.about, overwrite=overwrite)
    ]
    if prepared.targets is not None:
        groups = {prepared.group: prepared.targets}
        target = place / f"{stem}.targets.h5"
        paths.append(write_tensors(target, groups, about=prepared.about, overwrite=overwrite))
    return paths


def load_prepared(folder: Path | str, name: str, *, bin_width: float = 0.005, phase: Phase = "val") -> Prepared:
    """Read back what `save_prepared` wrote.

    Raises
    ------
    FileError
        If it is not there.
    """
    group = group_name(name, bin_width)
    inputs, targets = (Path(folder) / f"{group}.{phase}.{kind}.h5" for kind in ("inputs", "targets"))
    if not inputs.exists():
        raise FileError(f"there is no {inputs.name!r} in {str(folder)!r}; make it with `nwb-sbtt nlb prepare {name}`")
    arrays = {key: np.asarray(each) for key, each in read_tensors(inputs)[""].items()}
    known = dict(read_tensors(targets)[group]) if targets.exists() else None
    return Prepared(name, phase, bin_width, arrays, known, read_about(inputs))


@dataclass(frozen=True)
class _Source:
    """One recording, ready to be cut into the windows of its set."""

    recorded: TaskRecording
    which: Definition
    bin_width: float
    compat: bool

    def counter(self, *, held_out: bool) -> Counter:
        return Counter(self.recorded, ordered(self.recorded, held_out=held_out), self.bin_width, self.compat)

    def spikes(self, windows: Windows) -> dict[str, Array]:
        """Counts of held-in and held-out units in the windows and after them; what the file does not hold is left out."""
        found = {}
        for held_out, name in ((False, "heldin"), (True, "heldout")):
            counter = self.counter(held_out=held_out)
            if len(counter.units):
                counts = counter.counts(windows.first, windows.n_bins + windows.forward)
                found[f"spikes_{name}"] = counts[:, : windows.n_bins]
                found[f"spikes_{name}_forward"] = counts[:, windows.n_bins :]
        return found

    def behavior(self, windows: Windows) -> Array | None:
        """Velocities (trial, time, axis) or labels of the trials; None where the file holds none."""
        trials, behavior = self.recorded.trials, self.which.behavior
        if isinstance(behavior, str):
            if behavior not in self.recorded.samples:
                return None
            course = on_grid(self.recorded.samples[behavior], self.recorded, self.bin_width)
            event = column(trials, self.which.event)[windows.rows] + self.which.start + self.which.lag
            return cut(course, grid_bin(event, self.bin_width), windows.n_bins)
        if any(name not in trials for name in behavior):
            return None
        labels = np.stack([column(trials, name)[windows.rows].astype(np.float64) for name in behavior], axis=1)
        if self.which.outliers is not None:
            labels[column(trials, self.which.outliers)[windows.rows].astype(np.float64) != 0] = np.nan
        return labels


def _targets(
    source: _Source, windows: Windows, evaluated: Windows, train_behavior: Array | None, spikes: dict[str, Array]
) -> dict[str, Any]:
    """What predictions are scored against, under the benchmark's names."""
    behavior = source.behavior(evaluated)
    if behavior is None or train_behavior is None:
        raise DataError(f"the file has no behaviour {source.which.behavior!r} to score against")
    targets: dict[str, Any] = {
        "eval_spikes_heldout": np.where(evaluated.scored[..., None], spikes["spikes_heldout"], np.nan),
        "train_behavior": train_behavior,
        "eval_behavior": behavior,
        "eval_spikes_heldin_forward": spikes["spikes_heldin_forward"],
        "eval_spikes_heldout_forward": spikes["spikes_heldout_forward"],
    }
    parts = (("train", windows), ("eval", evaluated))
    if source.which.decoders is not None:
        flags = column(source.recorded.trials, source.which.decoders).astype(np.float64)
        for part, own in parts:
            targets[f"{part}_decode_mask"] = np.stack([flags[own.rows] == 0, flags[own.rows] == 1], axis=1)
    if source.which.psth is not None:
        smoothed = np.concatenate(
            [source.counter(held_out=each).smoothed(source.which.psth.smoothing) for each in (False, True)], axis=1
        )
        means = condition_means(
            smoothed,
            source.recorded.trials,
            source.which,
            bin_width=source.bin_width,
            parts=(windows, evaluated),
            compat=source.compat,
        )
        targets |= {"psth": means.psth, "train_cond_idx": means.rows[0], "eval_cond_idx": means.rows[1]}
        if source.which.produced is not None:
            targets |= {f"{part}_jitter": own.jitter for part, own in parts}
    return targets


def _holding(recordings: Sequence[TaskRecording], splits: Sequence[str]) -> TaskRecording | None:
    """The one recording with trials of these splits."""
    found = [each for each in recordings if np.isin(column(each.trials, "split").astype(str), list(splits)).any()]
    if len(found) > 1:
        raise DataError(f"{len(found)} files have trials of split {' or '.join(splits)}; give one file of each kind")
    return found[0] if found else None


def _check_units(training: TaskRecording, evaluated: TaskRecording) -> None:
    """The evaluated trials must show the very units that are held in."""
    own = set(training.unit_id[~training.held_out].tolist())
    other = set(evaluated.unit_id[~evaluated.held_out].tolist())
    if own != other:
        raise DataError(
            f"the files do not show the same held-in units: {json.dumps(sorted(own - other)[:8])} are only in the one with "
            f"training trials, {json.dumps(sorted(other - own)[:8])} only in the other; give the two files of one set"
        )
    if not training.held_out.any():
        raise DataError("the file with training trials marks no unit as held out (units column 'heldout')")
