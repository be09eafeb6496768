"""The commands for the Neural Latents Benchmark; `main` registers them as `nwb-sbtt nlb …`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from nwb_sbtt.cli.options import check_agree, check_initial
from nwb_sbtt.cli.output import App, print_json, show_help
from nwb_sbtt.errors import FileError

app = App(
    help="Run the Neural Latents Benchmark. Goes from the files of a data set to a submission, with the benchmark's scores."
)
app.callback()(show_help)


class Phase(StrEnum):
    """Which trials are evaluated."""

    val = "val"
    test = "test"


class Compat(StrEnum):
    """Whose rules for observation intervals are followed."""

    nlb_tools = "nlb_tools"


Set = Annotated[str, typer.Argument(help="mc_maze, mc_rtt, area2_bump, dmfc_rsg, mc_maze_large, …", show_default=False)]
BinWidth = Annotated[float, typer.Option(help="seconds: 0.005 or 0.02")]
PhaseOption = Annotated[Phase, typer.Option(help="which trials are evaluated")]
Folder = Annotated[Path, typer.Option("--folder", help="folder of the prepared tensors")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace existing files")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


@app.command()
def prepare(
    name: Set,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="NWB files of the set [default: downloaded from DANDI]", show_default=False),
    ] = None,
    bin_width: BinWidth = 0.005,
    phase: PhaseOption = Phase.val,
    folder: Folder = Path("nlb"),
    compat: Annotated[
        Compat | None,
        typer.Option(
            help="nlb_tools: as in nlb_tools 0.0.4, the first unit's obs_intervals apply to all units, a bin is observed if "
            "its first ms is, and PSTHs average bins by their distance from the event "
            "[default: each unit's own obs_intervals, the whole bin, the scored windows]"
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Prepare the tensors of a data set.

    The tensors are the inputs and, if the files contain them, the targets: held-out units, forecast bins, behaviour at its lag
    and PSTHs. Data are aligned, binned and split as the benchmark defines it. Without FILES, the files are downloaded once from
    DANDI into the folder. The phase test also needs the file of test trials.
    """
    from nwb_sbtt.nlb.fetching import fetch_files
    from nwb_sbtt.nlb.preparation import prepare as prepare_set
    from nwb_sbtt.nlb.preparation import save_prepared

    paths = files or fetch_files(name, folder, phase=_phase(phase))
    prepared = prepare_set(name, paths, bin_width=bin_width, phase=_phase(phase), compat=compat and compat.value)
    written = save_prepared(prepared, folder, overwrite=overwrite)
    if as_json:
        shapes = {key: list(array.shape) for key, array in prepared.inputs.items()}
        targets = None if prepared.targets is None else sorted(prepared.targets)
        print_json({"paths": [str(path) for path in written], "inputs": shapes, "targets": targets})
        return
    for key, array in prepared.inputs.items():
        typer.echo(f"  {key}: {' × '.join(map(str, array.shape))}")
    if prepared.targets is None:
        typer.echo("  no targets: the files do not hold the held-out units of the evaluated trials")
    for path in written:
        typer.echo(f"wrote {path}")


@app.command()
def simulate(
    name: Set,
    folder: Annotated[Path, typer.Argument(help="folder of both files")] = Path(),
    train: Annotated[int, typer.Option(min=2, help="training trials")] = 75,
    val: Annotated[int, typer.Option(min=2, help="validation trials")] = 25,
    test: Annotated[int, typer.Option(min=2, help="test trials")] = 25,
    units: Annotated[int, typer.Option(min=2, help="units; a quarter of them are held out")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="seed of all random numbers")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Simulate the two files of a data set.

    With these you can try every step without a download.
    """
    from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set

    simulated = simulate_set(SetSettings(name, train, val, test, units, seed=seed))
    for path in write_set(simulated, folder, overwrite=overwrite):
        typer.echo(f"wrote {path}")


@app.command()
def fit(
    name: Set,
    run_dir: Annotated[
        Path, typer.Option(help="run folder of the fit; an interrupted fit is resumed", show_default=False)
    ],
    bin_width: BinWidth = 0.005,
    phase: PhaseOption = Phase.val,
    folder: Folder = Path("nlb"),
    model: Annotated[
        str | None,
        typer.Option(help="conv, lfads or sae; lfads has settings published for each set [default: conv]"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="number of models fitted and averaged [default: 1]")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of all random numbers [default: 0]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="one setting, e.g. train.epochs=100")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit a model to prepared tensors.

    The rates of all trials are written to the run folder. Held-out units and forecast bins are never shown, only scored.
    The checkpoint is chosen on 10 % of the training trials; evaluated trials and targets are not used in training. Settings
    come from the preset (see nlb presets), then --config, then options and --set. Later ones replace earlier ones; options and
    --set must agree.
    """
    from nwb_sbtt.config import override
    from nwb_sbtt.config.base import load_settings
    from nwb_sbtt.nlb.modelling import predict, save_rates
    from nwb_sbtt.nlb.preparation import load_prepared
    from nwb_sbtt.nlb.presets import starting_config

    prepared = load_prepared(folder, name, bin_width=bin_width, phase=_phase(phase))
    options = {key: value for key, value in (("seed", seed), ("seeds", seeds)) if value is not None}
    settings = {**(load_settings(config) if config else {}), **options}
    if not settings.get("init"):
        check_initial(set_ or [])
    starting = starting_config(name, bin_width, model=model, settings=settings)
    fit_config = override(starting, set_ or [])
    check_agree(starting, fit_config, {**options, "model": model})
    rates = predict(prepared, fit_config, run_dir=run_dir)
    typer.echo(f"wrote {save_rates(rates, prepared, run_dir, overwrite=overwrite)}")


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="one set [default: all]", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the published settings of each set.

    They are the defaults of nlb fit --model lfads. Bins are 5 ms, or 20 ms where the name ends in _20. Settings not listed,
    and all those of conv, have the defaults of nwb-sbtt fit, which follow from the number of training trials.
    """
    from nwb_sbtt.nlb.presets import list_presets

    presets_by_set = list_presets(name)
    if as_json:
        print_json(presets_by_set)
        return
    for group, settings in presets_by_set.items():
        typer.echo(group)
        for setting in settings:
            typer.echo(f"  {setting}")


@app.command()
def submit(
    rates: Annotated[
        list[Path],
        typer.Argument(help="files of rates, as written by nlb fit or in the same layout", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="submission file, .h5", show_default=False)],
    phase: PhaseOption = Phase.val,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="folder of prepared tensors; the rates must have their shapes")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Check rates, and write all sets to one file.

    The file has the benchmark's layout. Names, shapes and bins are checked. Every rate must be finite and not negative. The
    three scaling sets must be in one file.
    """
    from nwb_sbtt.nlb.preparation import load_prepared
    from nwb_sbtt.nlb.submission import check_rates, read_submission, write_submission

    sets = read_submission(rates)
    for group, arrays in sets.items() if folder is not None else ():
        width = 0.02 if group.endswith("_20") else 0.005
        prepared = load_prepared(str(folder), group.removesuffix("_20"), bin_width=width, phase=_phase(phase))
        check_rates(group, arrays, prepared)
    for note in write_submission(out, sets, overwrite=overwrite):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"wrote {out}: {', '.join(sets)}")


@app.command()
def evaluate(
    submission: Annotated[list[Path], typer.Argument(help="submission file, or files of rates", show_default=False)],
    targets: Annotated[
        list[Path] | None, typer.Option(help="files of targets [default: those of --phase in --folder]")
    ] = None,
    folder: Folder = Path("nlb"),
    phase: PhaseOption = Phase.val,
    as_json: Json = False,
) -> None:
    """Score rates as the benchmark does.

    The targets are those of the validation trials, written by nlb prepare, or a file in the benchmark's layout.
    """
    from nwb_sbtt.io.benchmark.tensorfile import read_tensors
    from nwb_sbtt.nlb.scoring import evaluate as evaluate_sets
    from nwb_sbtt.nlb.submission import read_submission

    paths = targets or sorted(folder.glob(f"*.{phase.value}.targets.h5"))
    if not paths:
        hint = " (of test trials, the eval_data_test.h5 that comes with nlb_tools)" if phase is Phase.test else ""
        raise FileError(
            f"there are no targets of phase {phase.value} in {str(folder)!r}; name a file with --targets{hint}"
        )
    target_sets = {group: arrays for path in paths for group, arrays in read_tensors(path).items()}
    scores = evaluate_sets(read_submission(submission), target_sets)
    if as_json:
        print_json(scores)
        return
    for split, split_scores in scores.items():
        typer.echo(split)
        for metric, value in split_scores.items():
            typer.echo(f"  {metric:<14} {value:8.4f}")


def _phase(phase: Phase) -> Literal["val", "test"]:
    return "val" if phase is Phase.val else "test"
