"""Pages that are made from the program itself: settings, commands and the API; and the tutorials as guides."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from inspect import isclass, isroutine
from itertools import groupby
from pathlib import Path

import nwb_sbtt
from nwb_sbtt.config.listing import list_settings

SHARED = """
Every command also takes `-h` (its help), `--quiet` (results and errors only), `--verbose` (warnings of other packages, and
where an error arose) and `--log FILE` (append all that is printed, with times). Exit codes: 0; 2 after an error, which is one
line; 3 where some of many fits failed; 75 after SIGUSR1 and 130 after Ctrl-C, after which the same command continues.
"""
TUTORIALS = Path(__file__).parents[1] / "tutorials"


def write(docs: Path, *, small: bool) -> None:
    """Write all pages into ``docs/guides`` and ``docs/reference/made``; files that are the same are left alone."""
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        _write(docs / "guides" / path.name, guide(path, small=small))
    _write(docs / "reference" / "made" / "settings.md", settings())
    _write(docs / "reference" / "made" / "commands.md", commands())
    _write(docs / "reference" / "made" / "api.md", api())


def guide(path: Path, *, small: bool) -> str:
    """Text of a notebook; with small settings, the cell with its parameters is that of its tests."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if small and "small" in cell["metadata"]:
            cell["source"] = cell["metadata"]["small"]
    return json.dumps(notebook, indent=1, ensure_ascii=False)


def settings() -> str:
    """Tables of every setting, section by section."""
    lines = [
        "# Settings",
        "",
        "Each can be set with `--set NAME=VALUE`, in a YAML file (`--config`), and in Python in the class of its section",
        "(`nwb_sbtt.config`). `nwb-sbtt settings` prints this list, that of models of other packages included.",
        "A default of null is resolved when the fit starts, as the description says.",
    ]
    for (section, about), rows in groupby(list_settings(), key=lambda row: (row.section, row.about)):
        lines += ["", f"## {section or 'fit'}", ""] + ([about, ""] if about else [])
        lines += ["| setting | values | default | |", "|---|---|---|---|"]
        lines += [
            f"| `{row.name}` | {_cell(row.values)} | {_cell(row.default)} | {_cell(row.description)} |" for row in rows
        ]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Every command with its arguments and options, by typer."""
    words = ["-m", "typer", "nwb_sbtt.cli.main", "utils", "docs", "--name", "nwb-sbtt", "--title", "Command line"]
    made = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout
    lines = made.splitlines()
    # The shared options are explained once.
    shared = ("* `--quiet`", "* `--verbose`", "* `--log <path>`", "* `--help`")
    kept = [line for line in lines if not line.startswith(shared)]
    kept[1:1] = ["", *textwrap.wrap(SHARED, 120), ""]
    return "\n".join(kept) + "\n"


def api() -> str:
    """The names of the package and of its submodules, each with a page."""
    lines = ["# Python", "", "```{eval-rst}", ".. currentmodule:: nwb_sbtt", ""]
    submodules = [name for name in nwb_sbtt.__all__ if hasattr(getattr(nwb_sbtt, name), "__path__")]
    names = [name for name in nwb_sbtt.__all__ if name not in submodules and name != "__version__"]
    lines += [*_summary(names), "```"]
    for name in submodules:
        module = getattr(nwb_sbtt, name)
        about = (module.__doc__ or "").strip().splitlines()[0]
        lines += [
            "",
            f"## nwb_sbtt.{name}",
            "",
            about,
            "",
            "```{eval-rst}",
            f".. currentmodule:: {module.__name__}",
            "",
        ]
        own = [each for each in module.__all__ if each not in names and _is_documented(getattr(module, each))]
        lines += [*_summary(own), "```"]
    return "\n".join(lines) + "\n"


def _summary(names: list[str]) -> list[str]:
    return [".. autosummary::", "   :toctree: api", "   :nosignatures:", "", *(f"   {name}" for name in sorted(names))]


def _is_documented(thing: object) -> bool:
    """Kinds of numbers that settings take are described where they are used."""
    return isclass(thing) or isroutine(thing)


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
