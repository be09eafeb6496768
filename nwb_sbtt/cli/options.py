"""Options that several commands share, and what they say of the settings; they must agree with what --set says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nwb_sbtt.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nwb_sbtt.config import FitConfig, ReadConfig, WriteConfig

File = Annotated[
    Path, typer.Argument(help="NWB file (HDF5, or a Zarr folder), or its address on DANDI", show_default=False)
]


def check_no_settings(places: list[Path]) -> list[Path]:
    """Refuse a setting where files are named: `--set` takes one, and a second one would be a file.

    Parameters
    ----------
    places : list of path

    Returns
    -------
    list of path
        The same.

    Raises
    ------
    ConfigError
        If a place that does not exist looks like a setting.
    """
    for place in places:
        if re.fullmatch(r"\w+(\.\w+)*=.*", str(place)) and not place.exists():
            raise ConfigError(
                f"{str(place)!r} is a setting, not a file; write --set before each setting: --set {place}"
            )
    return places


Files = Annotated[
    list[Path],
    typer.Argument(help="NWB files; several are fitted together", show_default=False, callback=check_no_settings),
]
RunDir = Annotated[Path, typer.Argument(help="run folder of a fit", show_default=False)]
Session = Annotated[str | None, typer.Option(help="session of the fit that recorded these channels")]
SameChannels = Annotated[
    bool,
    typer.Option("--same-channels", help="the file is another recording of the same channels; they are matched by id"),
]
Out = Annotated[Path, typer.Option(help="result file", show_default=False)]
OutOrNone = Annotated[Path | None, typer.Option(help="result file (a folder for several FILEs)")]
Moved = Annotated[
    list[Path] | None,
    typer.Option("--file", help="new path of the recording, if it was moved after the fit; repeat for several"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace an existing result")]
Append = Annotated[bool, typer.Option("--append", help="copy the source to --out and add the results to the copy")]
Name = Annotated[str, typer.Option(help="prefix of the names of everything written")]
TrialsText = Annotated[
    str | None,
    typer.Option(
        "--trials",
        help="EVENT:START:STOP in seconds, e.g. move_onset_time:-0.25:0.45; EVENT is a column or a table of events",
    ),
]
TrialsTable = Annotated[
    str | None, typer.Option(help="table of intervals or events that has the column EVENT [default: trials]")
]
TrialsRelative = Annotated[
    bool,
    typer.Option(
        "--trials-relative", help="times of EVENT are relative to the start of their trial, not on the session clock"
    ),
]
WindowText = Annotated[
    str | None,
    typer.Option("--window", help="START:STOP in seconds; use only this part of the session, chopped into trials"),
]
ChopText = Annotated[
    str | None,
    typer.Option("--chop", help="LENGTH[:OVERLAP] in seconds; chop the whole session into trials [default of a fit]"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
Series = Annotated[list[str] | None, typer.Option(help="in-file path or glob of a series; repeat for several")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="known input of the model, PATH[:COLUMN] of a series or table of the file, such as a stimulus; repeat for several",
    ),
]
BinWidth = Annotated[float | None, typer.Option(help="bin width in seconds [default: by the data]")]
ModelName = Annotated[
    str | None,
    typer.Option(
        help="name of a model; `nwb-sbtt models` lists them [default: conv]", autocompletion=lambda: _names("model")
    ),
]
LikelihoodName = Annotated[
    str | None,
    typer.Option(
        help="name of a likelihood; `nwb-sbtt models` lists them [default: by the data]",
        autocompletion=lambda: _names("likelihood"),
    ),
]
Seed = Annotated[int | None, typer.Option(help="seed of all random numbers [default: 0]")]
Seeds = Annotated[int | None, typer.Option(help="number of models fitted and averaged [default: 1]")]
Lag = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="for use online: number of later bins that an estimate may depend on; 0: only past and present bins "
        "[default: the whole trial]",
    ),
]
Init = Annotated[Path | None, typer.Option(help="run folder of a finished fit to start from")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps [default: a GPU if there is one]")]
SettingsFile = Annotated[Path | None, typer.Option(help="YAML file of settings")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="one setting, e.g. train.epochs=100 or read.control=1,2",
        autocompletion=lambda: [f"{name}=" for name in _names("setting")],
    ),
]
Offsets = Annotated[
    list[str] | None,
    typer.Option(
        help="delay from the start of the frame to the sample of each ROI, in seconds: a .npy array (ROI), or one number; "
        "with several series SERIES=FILE or SERIES=SECONDS, repeated for each"
    ),
]

Write = Annotated[
    list[str] | None,
    typer.Option(
        help="variables to write, e.g. rates,factors; a comma list, or repeat [default: all that were inferred]"
    ),
]
WriteAssignments = Annotated[
    list[str] | None, typer.Option("--set", help="one setting of the result file, e.g. write.compression=blosc")
]

OPTIONS = {
    "model": "--model",
    "likelihood": "--likelihood",
    "seed": "--seed",
    "seeds": "--seeds",
    "model.lag": "--lag",
    "device": "--device",
    "init.run_dir": "--init",
    "series": "--series",
    "inputs": "--input",
    "bin_width": "--bin-width",
    "cut": "--trials, --window or --chop",
}
"""Options by the dotted names of their settings; those of the reader without ``read.``."""

NAMED = ("model", "likelihood")
"""Settings whose option gives a name."""


def settings_of(context: typer.Context) -> tuple[ReadConfig, FitConfig]:
    """Resolve the settings of a command that reads and fits, from all its options.

    In this order: those of the initial fit, the file, the options and --set; ``read.`` names are the reader's.

    Parameters
    ----------
    context : typer.Context
        Of a command with the options of `fit`.

    Returns
    -------
    read : ReadConfig
    fit : FitConfig

    Raises
    ------
    ConfigError
        If a setting is wrong, or two say different things of one.
    FileError
        If the initial fit is not there.
    """
    from nwb_sbtt.config.base import load_settings

    given = context.params
    path, init = given["config"], given["init"]
    cut = cut_of(*(given[name] for name in ("trials", "trials_table", "trials_relative", "window", "chop")))
    shortcuts: dict[str, Any] = {name: given[name] for name in ("model", "likelihood", "seed", "seeds", "device")}
    shortcuts |= {
        "model.lag": given["lag"],
        "init.run_dir": str(init) if init else None,
        "read.series": list(given["series"] or []) or None,
        "read.inputs": list(given["inputs"] or []) or None,
        "read.bin_width": given["bin_width"],
        "read.cut": cut,
    }
    settings: dict[str, Any] = {}
    if init:
        from nwb_sbtt.pipeline import initial_settings

        settings = initial_settings(Path(init))
    settings |= load_settings(path) if path else {}
    for name, value in shortcuts.items():
        section, _, last = name.rpartition(".")
        if value is not None:
            if section == "model":
                settings[section] = _by_name(settings.get(section))
            elif section and settings.get(section) is None:
                settings[section] = {}
            group = settings[section] if section else settings
            if not isinstance(group, dict):
                raise ConfigError(f"{section!r} is {group!r} in {str(path)!r}; expected names and values below it")
            group[last] = value
    return _assigned(settings, shortcuts, list(given["set_"] or []))


def take_assignments(context: typer.Context, prefix: str) -> list[str]:
    """Take the settings of one part out of --set.

    Parameters
    ----------
    context : typer.Context
        Of a command with --set.
    prefix : str
        Such as "write.".

    Returns
    -------
    list of str
        Assignments without the prefix.
    """
    assignments = [text.strip() for text in context.params["set_"] or []]
    context.params["set_"] = [text for text in assignments if not text.startswith(prefix)]
    return [text.removeprefix(prefix) for text in assignments if text.startswith(prefix)]


def write_settings_of(context: typer.Context) -> WriteConfig:
    """Resolve the settings of result files, from --write and --set write.NAME=VALUE, which are taken out of --set.

    Parameters
    ----------
    context : typer.Context
        Of a command with these options.

    Raises
    ------
    ConfigError
        If a setting is wrong, or two name different variables.
    """
    from nwb_sbtt.config import WriteConfig, build, override
    from nwb_sbtt.io.write.layout import check_variables

    own = take_assignments(context, "write.")
    names = [name for text in context.params["write"] or [] for name in text.replace(",", " ").split()]
    if context.params["write"]:
        check_variables(names)
    config = build(WriteConfig, {"variables": names or None}, within="write")
    changed = override(config, own, within="write")
    if names and changed.variables != config.variables:
        raise ConfigError(
            f"--write names {names}, and --set write.variables {list(changed.variables or [])}; use only one of them"
        )
    check_variables(changed.variables)
    return changed


def cut_of(
    trials: str | None, table: str | None, relative: bool, window: str | None, chop: str | None
) -> dict[str, Any] | None:
    """Read --trials, --trials-table, --trials-relative, --window and --chop as the setting ``read.cut``.

    Parameters
    ----------
    trials, table : str or None
    relative : bool
    window, chop : str or None

    Returns
    -------
    dict or None
        None where none was given.

    Raises
    ------
    ConfigError
        If they contradict each other, or lack a part.
    """
    if trials is not None and (window is not None or chop is not None):
        raise ConfigError("--trials cannot be combined with --window or --chop; use one of them")
    if table is not None and trials is None:
        raise ConfigError("--trials-table needs --trials EVENT:START:STOP")
    if relative and trials is None:
        raise ConfigError("--trials-relative needs --trials EVENT:START:STOP")
    cut: dict[str, Any] = {}
    if trials is not None:
        cut["by"] = "trials"
        cut["event"], cut["start"], cut["stop"] = _parts(trials, "--trials", ("EVENT", "START", "STOP"))
        cut["relative"] = relative
        return cut if table is None else {**cut, "table": table}
    if window is not None:
        cut["start"], cut["stop"] = _parts(window, "--window", ("START", "STOP"))
    if chop is not None:
        length, _, overlap = chop.partition(":")
        cut.update(length=length, overlap=overlap or None)
    return {"by": "chop", **cut} if cut else None


def check_agree(before: BaseModel, after: BaseModel, options: Mapping[str, Any], *, within: str = "") -> None:
    """Raise if --set changed what an option of its own has set.

    Parameters
    ----------
    before, after : Config
        Settings without and with the assignments of --set.
    options : mapping of dotted name to value
        Those of `OPTIONS` that were given; None for those that were not. Of a dict its values are compared, one by one.
    within : str
        Dotted name in front of those of the settings, such as "read".

    Raises
    ------
    ConfigError
        Naming the option, the setting and both values.
    """
    for name, value in options.items():
        parts = [f"{name}.{part}" for part in value] if isinstance(value, dict) else [name]
        for part in parts if value is not None else []:
            if (first := _plain(before, part)) != (second := _plain(after, part)):
                setting = (f"{within}." if within else "") + part + (".name" if name in NAMED else "")
                raise ConfigError(
                    f"{OPTIONS[name]} is {first!r}, but --set {setting} is {second!r}; use only one of them"
                )


def check_initial(assignments: Sequence[str]) -> None:
    """Raise if --set names a setting of an initial fit, but not that fit; for settings that name none otherwise.

    Parameters
    ----------
    assignments : sequence of str
        As --set takes them.

    Raises
    ------
    ConfigError
        Naming the setting and --init.
    """
    names = [text.partition("=")[0].strip() for text in assignments]
    below = [name for name in names if name.startswith("init.")]
    if below and not {"init", "init.run_dir"} & set(names):
        raise ConfigError(
            f"{below[0]} is only for a fit that starts from a finished fit; name the run folder of the finished fit "
            "with --init"
        )


def _plain(config: BaseModel, name: str) -> object:
    """Value of a setting by its dotted name; the name of a model or likelihood, and None where there is no such part."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part, None)
    value = getattr(value, "name", value)
    return list(value) if isinstance(value, tuple) else value


def _assigned(
    settings: dict[str, Any], options: Mapping[str, Any], assignments: Sequence[str]
) -> tuple[ReadConfig, FitConfig]:
    """Settings with those of --set, which must agree with the options."""
    from nwb_sbtt.config import FitConfig, ReadConfig, build, override
    from nwb_sbtt.config.messages import path_of

    read = build(ReadConfig, settings.pop("read", None) or {}, within="read")
    read_assignments = [text.strip().removeprefix("read.") for text in assignments if text.strip().startswith("read.")]
    fit_assignments = [text for text in assignments if not text.strip().startswith("read.")]
    for text in fit_assignments:
        if text.partition("=")[0].strip() == "read":
            raise ConfigError(f"{text.strip()!r} is a group of settings; write read.NAME=VALUE")
        if text.strip().split(".")[0].partition("=")[0] in ReadConfig.model_fields:
            raise ConfigError(f"{text.strip()!r} is a setting of the reader; write read.{text.strip()}")
        if text.strip().startswith("search."):
            raise ConfigError(f"{text.strip()!r} is a setting of a search; use it with `nwb-sbtt search`")
        name = text.partition("=")[0].strip()
        if not path_of(FitConfig, name) and (path := path_of(ReadConfig, name)):
            raise ConfigError(f"unknown setting {name!r}; did you mean 'read.{path}'?")
    if not settings.get("init"):
        check_initial(fit_assignments)
    fit = build(FitConfig, settings)
    changed_read, changed_fit = override(read, read_assignments, within="read"), override(fit, fit_assignments)
    of_reader = {name.removeprefix("read."): value for name, value in options.items() if name.startswith("read.")}
    check_agree(read, changed_read, of_reader, within="read")
    check_agree(fit, changed_fit, {name: value for name, value in options.items() if not name.startswith("read.")})
    return changed_read, changed_fit


def _by_name(model: object) -> object:
    """Settings of a model to which others can be added, where there is none yet, or a name alone."""
    from nwb_sbtt.config import FitConfig

    name = FitConfig().model.name if model is None else model
    return {"name": name} if isinstance(name, str) else name


def _names(what: str) -> list[str]:
    """Models, likelihoods or settings, for the completion of a shell."""
    from nwb_sbtt.config.listing import list_parts, list_settings

    if what == "setting":
        return list(dict.fromkeys(row.name for row in list_settings()))
    return [part.name for part in list_parts() if part.kind == what]


def _parts(text: str, option: str, names: tuple[str, ...]) -> list[str]:
    parts = text.rsplit(":", len(names) - 1)
    if len(parts) != len(names):
        raise ConfigError(f"{option} is {text!r}; expected {':'.join(names)}")
    return parts
