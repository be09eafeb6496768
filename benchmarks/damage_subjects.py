"""The small files that `damage.py` damages, and the commands that it runs on them."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutations
import numpy as np

InProcess = Callable[[Callable[[], None]], int]
Damage = Callable[[Path, np.random.Generator], str]
TINY = [
    *("--model", "lfads", "--set", "train.epochs=2", "--set", "train.checkpoint_every=1"),
    *("--set", "posterior_samples=2", "--set", "model.factors=2"),
    *(f"--set=model.{part}=4" for part in ("read_in", "encoder", "initial_condition", "controller", "generator")),
]
BY_TRIALS = ["--series", "units", "--trials", "start_time:0:0.4"]
ENSEMBLE = ["--seeds", "2"]
SUITE2P = ("RoiResponseSeries", "Neuropil")
NLB = ["mc_maze_small", "--bin-width", "0.02"]
LISTED, WRITTEN, FITTED = 0.35, 0.06, 0.02
"""Shares of cases in which series are listed (others are read), results are written, and a model is fitted."""
COPIED = 0.5
"""Share of the cases of a recording with results in which others are added to a copy."""


@dataclass(frozen=True)
class Command:
    """One command on the files of a case, run in their folder.

    Parameters
    ----------
    text : str
        The command in words.
    run : callable
        Takes the folder for results; returns the exit code.
    check : callable
        Takes what was printed and the folder of results; returns what is wrong with them, or nothing.
    decides : bool
        Whether the commands after it are left out where it fails.
    """

    text: str
    run: Callable[[Path], int | None]
    check: Callable[[str, Path], str] = lambda _printed, _results: ""
    decides: bool = False


Commands = Callable[[str, np.random.Generator], list[Command]]


@dataclass(frozen=True)
class Subject:
    """Files that are damaged together with the commands that read them.

    Parameters
    ----------
    name : str
    folder : Path
        Copied for each case.
    damage : callable
        Takes the folder of the copy and a generator; returns what it did.
    commands : callable
        Takes what was done and a generator; draws the commands of a case.
    kept : str
        Glob of the files that no command may change.
    weight : float
        Share of the cases.
    """

    name: str
    folder: Path
    damage: Damage
    commands: Commands
    kept: str = "**/*"
    weight: float = 1.0


def make_subjects(folder: Path, recorded: Path, *, in_process: InProcess) -> list[Subject]:
    """Write all files, in processes of their own: a fork of one that trained has lost its threads."""

    def made(action: Callable[[], None]) -> None:
        if in_process(action):
            raise RuntimeError(f"{action.__name__} failed")

    folder.mkdir()
    names = ("units", "imaging", "zarr", "result", "run", "ensemble", "appended", "latents-benchmark")
    folders = {name: folder / name for name in names}
    made(lambda: _write_recordings(folders))
    made(lambda: _write_fits(folders))
    made(lambda: _write_benchmark(folders["latents-benchmark"]))
    units_reads = [
        {"series": ("units",), "cut": {"by": "trials", "event": "go", "start": -0.1, "stop": 0.3}, "bin_width": 0.02},
        {"series": ("units",), "bin_width": 0.05},
        {"series": ("acquisition/ElectricalSeries",), "bin_width": 0.02, "electrical": {"feature": "lfp"}},
        {"series": ("acquisition/ElectricalSeries",), "bin_width": 0.02, "electrical": {"feature": "power"}},
        {"series": ("processing/behavior/hand",), "bin_width": 0.02, "control": [1]},
        {"series": ("units", "processing/behavior/hand"), "bin_width": 0.02},
    ]
    roi_reads: list[dict[str, Any]] = [
        {"series": ("processing/ophys/Fluorescence/*",)},
        {"series": ("processing/ophys/Fluorescence/*",), "rois": {"offset": "column"}, "bin_width": 0.05},
        {"series": ("processing/ophys/Fluorescence/*",), "events": {}},
    ]
    subjects = [
        Subject(
            "units", folders["units"], _hdf5("a.nwb"), _on_recording("a.nwb", units_reads, fit=BY_TRIALS), weight=4
        ),
        Subject("imaging", folders["imaging"], _hdf5("a.nwb"), _on_recording("a.nwb", roi_reads), weight=3),
        Subject("zarr", folders["zarr"], _zarr("a.nwb.zarr"), _on_recording("a.nwb.zarr", units_reads[:2])),
        Subject("result", folders["result"], _hdf5("latents.nwb"), _on_result("latents.nwb")),
        Subject("appended", folders["appended"], _hdf5("a.nwb"), _on_appended("a.nwb")),
        Subject("run folder", folders["run"], _run_folder, _on_run_folder(), kept="**/*.nwb", weight=3),
        Subject("ensemble", folders["ensemble"], _run_folder, _on_run_folder(*ENSEMBLE), kept="**/*.nwb"),
        Subject("latents benchmark", folders["latents-benchmark"], _benchmark, _on_benchmark, weight=2),
    ]
    for path, reads in (
        (recorded / "units" / "sub_anm00239123_ses_20170627T093549_ecephys_and_ogen.nwb", units_reads[1:2]),
        (
            recorded / "ophys" / "nwb_test.nwb",
            [{"series": (f"processing/ophys/Fluorescence/{name}",)} for name in SUITE2P],
        ),
    ):
        if path.exists():
            copied = folder / path.stem
            copied.mkdir()
            shutil.copy(path, copied / "a.nwb")
            name = f"recorded {path.parent.name}"
            subjects.append(Subject(name, copied, _hdf5("a.nwb"), _on_recording("a.nwb", reads)))
        else:
            print(f"left out, as it is not there: {path}")
    with redirect_stdout(io.StringIO()):
        # What was loaded and looked up once need not be again in each case.
        for path in (*folder.glob("*/*.nwb"), *folder.glob("*/*.zarr")):
            _main("inspect", path, "--json")
    return subjects


def _write_recordings(folders: dict[str, Path]) -> None:
    """What recordings have: units with intervals of their own, trials with events, voltages, behaviour with `control`."""
    from nwb_sbtt.simulate.tasks import Task, write_task
    from tests.support import nwbfiles

    random = np.random.default_rng(0)
    for folder in folders.values():
        folder.mkdir()
    for place, zarr in ((folders["units"] / "a.nwb", False), (folders["zarr"] / "a.nwb.zarr", True)):
        nwbfile = nwbfiles.new_file()
        starts = np.arange(8) * 0.5
        nwbfiles.add_trials(
            nwbfile,
            starts,
            starts + 0.45,
            go=[np.nan if start == 1.5 else start + 0.1 for start in starts],
            side=list("lrlrlrlr"),
        )
        spikes = [np.sort(random.uniform(0, 4, 60)).round(4) for _ in range(4)]
        intervals = [np.array(pairs) for pairs in ([[0.0, 4]], [[0.0, 2], [2.5, 4]], [[1.0, 4]], [[0.0, 4]])]
        if not zarr:
            nwbfiles.add_electrodes(nwbfile, 3, columns={"depth": [1.0, 2.0, 3.0]})
        columns: dict[str, list[object]] = {"quality": list("abab"), "depth": [1.0, 2.0, 3.0, 4.0]}
        nwbfiles.add_units(nwbfile, spikes, obs_intervals=intervals, columns=columns, ids=[10, 20, 30, 40])
        nwbfiles.add_invalid_times(nwbfile, [[3.0, 3.2]])
        if not zarr:
            voltages = random.integers(-100, 100, (1000, 3)).astype("i2")
            nwbfiles.add_electrical(nwbfile, voltages, rate=250.0)
        times = np.arange(200) * 0.02
        nwbfiles.add_series(
            nwbfile,
            random.normal(size=(200, 2)),
            module="behavior",
            name="hand",
            timestamps=times + (times > 2) * 0.3,
            control=np.ones(200, dtype="u1"),
            control_description=["lost", "tracked"],
        )
        nwbfiles.write(nwbfile, place, zarr=zarr)
        if not zarr:
            _without_specifications(place)
    write_task(folders["imaging"] / "a.nwb", Task("calcium-subframe", 4, 2, 4))
    _without_specifications(folders["imaging"] / "a.nwb")


def _without_specifications(path: Path) -> None:
    """Drop the cached schema, which is most of a small file and of the time to open it; the packages have the same."""
    from pynwb import NWBHDF5IO

    smaller = path.with_suffix(".smaller.nwb")
    with NWBHDF5IO(path, "r", load_namespaces=True) as stored, NWBHDF5IO(smaller, "w") as io:
        io.export(stored, nwbfile=stored.read(), write_args={"link_data": False}, cache_spec=False)
    smaller.replace(path)


def _write_fits(folders: dict[str, Path]) -> None:
    """Finished fits and unfinished ones of the same data, of one model and of an ensemble, and results."""
    from nwb_sbtt.fitting import fit as fitting
    from tests.support.fits import Stopping

    tracker = vars(fitting)["default_tracker"]
    # An ensemble is stopped in its second member.
    for folder, more, last in ((folders["run"], [], 2), (folders["ensemble"], ENSEMBLE, 4)):
        shutil.copy(folders["units"] / "a.nwb", folder / "a.nwb")
        fit = ["fit", folder / "a.nwb", *BY_TRIALS, *TINY, *more, "--run-dir"]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            _main(*fit, folder / "run", "--out", folder / "latents.nwb")
            stopping = Stopping(last)  # type: ignore[no-untyped-call]
            vars(fitting)["default_tracker"] = lambda _label, stopping=stopping: stopping
            _main(*fit, folder / "unfinished")
            vars(fitting)["default_tracker"] = tracker
    (folders["run"] / "latents.nwb").rename(folders["result"] / "latents.nwb")
    (folders["ensemble"] / "latents.nwb").unlink()
    shutil.copytree(folders["run"] / "run", folders["units"] / "run")
    shutil.copytree(folders["run"] / "run", folders["appended"] / "run")
    recording, copy = folders["run"] / "a.nwb", folders["appended"] / "a.nwb"
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        _main("infer", folders["run"] / "run", recording, "--append", "--out", copy)
    _without_specifications(copy)


def _write_benchmark(folder: Path) -> None:
    """Two files of a set, its tensors, and rates of them."""
    from nwb_sbtt.io.benchmark.tensorfile import read_tensors, write_tensors

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        _main("nlb", "simulate", NLB[0], folder, *("--train", 12, "--val", 6, "--test", 3, "--units", 8))
        training = sorted(folder.glob("*train*.nwb"))[0]
        training.rename(folder / "train.nwb")
        _without_specifications(folder / "train.nwb")
        for other in folder.glob("*test*.nwb"):
            other.unlink()
        _main("nlb", "prepare", NLB[0], folder / "train.nwb", *NLB[1:], "--folder", folder / "nlb")
    inputs = read_tensors(next((folder / "nlb").glob("*inputs.h5")))[""]
    rates = {}
    for part in ("train", "eval"):
        for kind in ("heldin", "heldout", "heldin_forward", "heldout_forward"):
            like = np.asarray(inputs[f"train_spikes_{kind}"])
            n_trials = len(inputs[f"{part}_spikes_heldin"])
            rates[f"{part}_rates_{kind}"] = np.full((n_trials, *like.shape[1:]), 0.2, dtype="f4")
    write_tensors(folder / "rates.h5", {f"{NLB[0]}_20": rates})


def _main(*words: object) -> int | None:
    """Run the command line as `main` does."""
    from nwb_sbtt.cli.main import app
    from nwb_sbtt.cli.output import guarded

    sys.argv = ["nwb-sbtt", *map(str, words)]
    return guarded(lambda: app(sys.argv[1:], prog_name="nwb-sbtt", standalone_mode=False))


def _verb(*words: object, check: Callable[[str, Path], str] = Command.check) -> Command:
    """Make a command of the command line; OUT in its words becomes a path in the folder of results."""

    def run(results: Path) -> int | None:
        return _main(*(str(word).replace("OUT", str(results)) for word in words))

    return Command(" ".join(map(str, words)), run, check)


def _python(text: str, action: Callable[[], str], *, decides: bool = False) -> Command:
    """Make a command of what a verb calls; `action` returns what is wrong with its output."""
    found: list[str] = []

    def run(_results: Path) -> int | None:
        from nwb_sbtt.cli.output import guarded

        return guarded(lambda: found.append(action()))

    return Command(text, run, lambda _printed, _results: found[-1], decides)


def _hdf5(name: str) -> Damage:
    def damage(files: Path, random: np.random.Generator) -> str:
        mutate = mutations.mutate_bytes if random.random() < 0.35 else mutations.mutate_hdf5
        return f"{name}: {mutate(files / name, random)}"

    return damage


def _zarr(name: str) -> Damage:
    def damage(files: Path, random: np.random.Generator) -> str:
        paths = sorted(
            path for path in (files / name).rglob("*") if path.is_file() and "specifications" not in path.parts
        )
        path = paths[random.integers(len(paths))]
        is_json = path.name.startswith(".z") and random.random() < 0.7
        if random.random() < 0.1:
            path.unlink()
            return f"{path.relative_to(files)} removed"
        what = mutations.mutate_json(path, random) if is_json else mutations.mutate_bytes(path, random)
        return f"{path.relative_to(files)}: {what}"

    return damage


def _run_folder(files: Path, random: np.random.Generator) -> str:
    run = files / str(random.choice(["run", "run", "unfinished"]))
    paths = sorted(path for path in run.rglob("*") if path.suffix in (".json", ".jsonl", ".yaml", ".safetensors"))
    return _damage_one(paths[random.integers(len(paths))], random, files)


def _benchmark(files: Path, random: np.random.Generator) -> str:
    paths = sorted(path for path in files.rglob("*") if path.suffix in (".h5", ".nwb"))
    return _damage_one(paths[random.integers(len(paths))], random, files)


def _damage_one(path: Path, random: np.random.Generator, files: Path) -> str:
    by_format = {
        ".json": mutations.mutate_json,
        ".jsonl": mutations.mutate_json,
        ".yaml": mutations.mutate_yaml,
        ".safetensors": mutations.mutate_safetensors,
    }
    kind = random.random()
    if kind < 0.05:
        path.unlink()
        return f"{path.relative_to(files)} removed"
    mutate = mutations.mutate_bytes if kind < 0.35 else by_format.get(path.suffix, mutations.mutate_hdf5)
    return f"{path.relative_to(files)}: {mutate(path, random)}"


def _on_recording(name: str, reads: Sequence[dict[str, Any]], *, fit: Sequence[str] = ()) -> Commands:
    def commands(_damage: str, random: np.random.Generator) -> list[Command]:
        if random.random() < LISTED:
            return [_verb("inspect", name, "--json", check=_check_listing)]
        chosen = [_read(name, reads[int(random.integers(len(reads)))], with_truth=random.random() < LISTED)]
        if fit and random.random() < WRITTEN:
            chosen.append(_verb("infer", "run", name, "--out", "OUT/out.nwb", check=_check_results))
        elif fit and random.random() < FITTED:
            words = ("fit", name, *fit, *TINY, "--run-dir", "../fit", "--out", "OUT/out.nwb")
            chosen.append(_verb(*words, check=_check_results))
        return chosen

    return commands


def _on_result(name: str) -> Commands:
    return lambda _damage, _random: [_read_results(name)]


def _on_appended(name: str) -> Commands:
    """Read results that stand in a copy of the recording, or add others to a copy of that."""

    def commands(_damage: str, random: np.random.Generator) -> list[Command]:
        if random.random() > COPIED:
            return [_read_results(name)]
        words = ("infer", "run", name, "--append", "--name", "second", "--out", "OUT/out.nwb")
        return [_verb(*words, check=lambda printed, results: _check_results(printed, results, name="second"))]

    return commands


def _read_results(name: str) -> Command:
    def action() -> str:
        from nwb_sbtt.io.write.results import read_result

        return _problem(read_result(name))

    return _python("read_result", action)


def _on_run_folder(*more: str) -> Commands:
    def commands(damage: str, random: np.random.Generator) -> list[Command]:
        run = "unfinished" if damage.startswith("unfinished") else "run"
        chosen = [_python(f"load {run}", lambda: _infer(run))]
        if random.random() < WRITTEN + FITTED:
            fit, out = ("fit", "a.nwb", *BY_TRIALS, *TINY), ("--out", "OUT/out.nwb")
            others = [
                _verb("infer", run, "a.nwb", *out, check=_check_results),
                _verb("evaluate", run, "--file", "a.nwb", "--json", check=_check_json),
                _verb("report", run, "--file", "a.nwb"),
                _verb(*fit, *more, "--run-dir", run, *out, check=_check_results),
                _verb("fit", "a.nwb", *BY_TRIALS, *TINY[2:4], *more, "--init", run, "--run-dir", "../fit"),
                _verb("fit", "a.nwb", "--config", f"{run}/config.yaml", "--run-dir", "../fit"),
            ]
            chosen.append(others[int(random.integers(len(others)))])
        return chosen

    return commands


def _on_benchmark(damage: str, random: np.random.Generator) -> list[Command]:
    def prepared() -> str:
        from nwb_sbtt.nlb.modelling import trials_dataset
        from nwb_sbtt.nlb.preparation import load_prepared

        tensors = load_prepared("nlb", NLB[0], bin_width=0.02)
        return _problem(trials_dataset(tensors, "train")) or _problem(trials_dataset(tensors, "eval"))

    folder = ("--folder", "nlb")
    if ".nwb" in damage:
        return [_verb("nlb", "prepare", NLB[0], "train.nwb", *NLB[1:], "--folder", "OUT/nlb")]
    chosen = [_verb("nlb", "submit", "rates.h5", "--out", "OUT/submission.h5", *folder)]
    if "inputs" in damage:
        chosen.append(_python("load_prepared", prepared))
        if random.random() < FITTED:
            chosen.append(_verb("nlb", "fit", *NLB, *folder, "--run-dir", "../fit", "--set", "train.epochs=1"))
    else:
        chosen.append(_verb("nlb", "evaluate", "rates.h5", *folder, "--json", check=_check_json))
    return chosen


def _read(name: str, settings: dict[str, Any], *, with_truth: bool) -> Command:
    def action() -> str:
        from nwb_sbtt.config import ReadConfig, build
        from nwb_sbtt.io.read.reader import read_nwb
        from nwb_sbtt.io.read.truth import attach_truth

        ds = read_nwb(Path(name), build(ReadConfig, settings))
        return _problem(attach_truth(Path(name), ds) if with_truth else ds)

    return _python(f"read {name} {json.dumps(settings)}", action, decides=True)


def _infer(run: str) -> str:
    from nwb_sbtt.fitting.loading import load
    from nwb_sbtt.fitting.recorded import read_again

    fitted = load(run)
    return _problem(fitted.infer(read_again(fitted, Path("a.nwb"), None)))


def _problem(ds: Any) -> str:
    """What is wrong with a Dataset that was read or inferred."""
    from nwb_sbtt.data.schema import check_dataset

    if "values" in ds:
        check_dataset(ds)
        if (ds["values"].values[~ds["observed"].values] != 0).any():
            return "values that were not observed are not 0"
        if "exposure" in ds and not ((ds["exposure"].values > 0) & (ds["exposure"].values <= 1)).all():
            return "exposure is not in (0, 1]"
        if ds.attrs.get("unit") == "counts" and (ds["values"].values < 0).any():
            return "negative counts"
    for name in ("values", "rates", "rates_sd", "mean", "mean_sd", "factors", "factors_sd", "inputs"):
        if name in ds and not np.isfinite(ds[name].values).all():
            return f"{name} is not finite"
    if "denoised" in ds and np.isnan(ds["denoised"].values[ds["observed"].values]).any():
        return "denoised is missing where something was observed"
    if "rates" in ds and (ds["rates"].values < 0).any():
        return "negative rates"
    for name in ("time", "trial_start"):
        if name in ds.coords and not np.isfinite(ds[name].values).all():
            return f"{name} is not finite"
    return ""


def _check_json(printed: str, _results: Path) -> str:
    """Refuse what is no JSON: Python's parser takes NaN, others do not."""
    try:
        json.loads(printed, parse_constant=lambda name: [][0])
    except (ValueError, IndexError):
        return f"no JSON: {printed[:80]!r}"
    return ""


def _check_listing(printed: str, results: Path) -> str:
    if problem := _check_json(printed, results):
        return problem
    for candidate in json.loads(printed)["series"]:
        start, stop, observed = (candidate[name] for name in ("start", "stop", "observed"))
        if start is not None and not (math.isfinite(start) and math.isfinite(stop) and start <= stop):
            return f"from {start} to {stop} s: {candidate['path']}"
        if observed is not None and not 0 <= observed <= 1:
            return f"{observed} observed: {candidate['path']}"
        if candidate["channels"] < 0 or any(size < 0 for size in candidate["shape"]):
            return f"shape {candidate['shape']}: {candidate['path']}"
    return ""


def _check_results(_printed: str, results: Path, *, name: str = "sbtt") -> str:
    from nwb_sbtt.io.write.results import read_result

    return _problem(read_result(results / "out.nwb", name=name)) if (results / "out.nwb").exists() else "no results"
