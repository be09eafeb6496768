"""Pages, help, messages, settings and notes have no phrase that lost readers; each has a better word."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click
import pytest
from typer.main import get_command

from nwb_sbtt.cli import main as cli

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nwb_sbtt"
FOLDERS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
MADE = {"jupyter_execute", "made"}
"""Folders of docs that a build fills."""
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not MADE & set(page.parts))]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))

LOST = {
    r"simple (baselines|methods)": "baselines",
    r"what lies behind": "the rate or mean",
    r"\bgoes on\b": "resumes; continues; the next step is",
    r"\bit knows nothing\b|\bno (one|recording|method) knows\b": "is not modelled; is unknown",
    r"\bis there to be asked\b": "not a terminal: pass --yes",
    r"\bneeds? nothing else\b": "self-contained; with all pictures inside",
    r"\btak(e|es|en|ing) off\b": "subtract; remove",
    r"\bnothing (then )?(says|tells)\b": "is unknown",
    r"\b(code|note|file|table|page|report|model|samples|data) tells?\b": "states; shows; the data do not identify",
    r"\bnotes? says?\b|\bas a note says\b": "a note states; with a note",
    r"\blet expect\b": "expected from",
    r"\bsmears?\b": "blurs",
    r"\bstarts of their own\b": "whole conditions are held out",
    r"\bof it what\b|\bwhat of it\b|\bwhat was found of\b": "name the thing; no nominal relative as a subject",
    r"\bcomes? home\b": "is copied to",
    r"\bmake factors mean the same\b|\bmeans? the same on all\b": "align factors; are comparable",
    r"\bread where it lies\b": "is streamed",
    r"\bhow sure it is\b": "posterior sd",
    r"\bhold what they claim\b": "measured coverage",
    r"\btaken up (again|elsewhere)\b": "resumed",
    r"\bafter the fact\b": "afterwards",
    r"\bhands? (it|the script|their fits) to\b": "submits; runs with",
}
"""Regular expressions of phrases that readers did not understand, each with what to write instead."""

LOST_IN_MESSAGES = LOST | {
    r"\bknown are\b": "available:",
    r"\bcame\b(?! from| with| after)": "got …; expected …",
    r"(?<!there )\b(is|are) no (?!longer\b|more\b|better\b|worse\b)": "is not a; has no",
    r"\bwhat is no\b": "values that are not",
    r"\btak(e|es|ing) (fewer|less|more|shorter|wider|over|out|up)\b": "use; copy; remove; resume",
    r"\btaken (over|out|up)\b": "copied; removed; resumed",
    r"\b(says|tells|knows)\b": "states; shows; is set by",
    r"\bcan(not)? be told\b": "is unknown; cannot be determined",
    r"\banew\b": "again",
    r"\ball the same\b": "nevertheless",
    r"\bto the bit\b": "exactly the same",
    r"\bof (its|their) own\b(?! \w)": "its own …; separate; new",
    r"\bless (a|the)\b": "minus",
    r"\b(set|kept) aside\b": "reserved; not used until the end",
    r"\bof other (data|weights)\b": "of different data",
    r"\balone\b(?! explain)": "only",
    r"\bunobserved\b": "treated as missing; missing",
    r"\bnobody\b|\bno one\b": "who does what",
    r"\bread as it is\b": "read unchanged",
    r"\bhold nothing\b|\bnothing observed\b": "have no observed entry",
    r"\bmost (passes|fits)\b": "maximum number of",
    r"\bthe converter\b": "the analog-to-digital converter",
    r"\blines at\b": "line noise at",
    r"\bfetch(es|ed|ing)?\b": "download",
}
"""Phrases that may stand in pages, where a sentence around them explains them, but not in a message of one line."""

PLACE = "VALUE"
"""What stands for an expression of a template."""


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of prose of a page, or of the markdown cells of a notebook (lines of its file); no blocks of code."""
    if path.suffix == ".ipynb":
        text = path.read_text(encoding="utf-8")
        prose = {
            line.rstrip("\n")
            for cell in json.loads(text)["cells"]
            if cell["cell_type"] == "markdown"
            for line in "".join(cell["source"]).splitlines()
        }
        for number, line in enumerate(text.splitlines(), 1):
            try:
                shown = json.loads(line.strip().rstrip(","))
            except ValueError:
                continue
            if isinstance(shown, str) and shown.rstrip("\n") in prose:
                yield number, shown
        return
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```") and (inside or not re.match(r"```\{(?!code)", line)):
            inside = not inside
        elif not inside:
            yield number, line


def lost(
    numbered: Iterable[tuple[int, str]], name: str, patterns: Mapping[str, str] = LOST, *, broken: bool = True
) -> list[str]:
    """What is wrong, with the place and the better word; a phrase may be `broken` over two lines."""
    rows = list(numbered)
    found = []
    for (number, line), (_, following) in zip(rows, [*rows, (0, "")][1:], strict=True):
        both = f"{line.rstrip()} {following.strip()}" if broken else line
        for pattern, better in patterns.items():
            found += [
                f"{name}:{number}: {match.group()!r}; write: {better}"
                for match in re.finditer(pattern, both, re.IGNORECASE)
                if match.start() < len(line.rstrip())
            ]
    return found


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text of a module that a user can read: errors, notes, reports, logs, help and descriptions of settings.

    These are all texts but documentation and names; of a template the expressions are left out.
    """
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    templates = {node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)}
    parts = {id(part) for template in templates for part in template.values}
    # A text within an expression of a template is one of its own.
    for node in sorted(ast.walk(tree), key=lambda node: getattr(node, "lineno", 0)):
        if id(node) in documentation | parts:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else PLACE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield node.lineno, " ".join(text.split())


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its name, groups included."""
    yield name, command
    for word, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{name} {word}")


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_have_no_phrase_that_lost_readers(path):
    found = lost(lines(path), str(path.relative_to(ROOT)))
    assert not found, "\n".join(found)


def test_the_help_of_commands_has_no_phrase_that_lost_readers():
    found = []
    for name, command in commands(get_command(cli.app), "nwb-sbtt"):
        texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
        text = [(i, line) for i, line in enumerate("\n\n".join(texts).splitlines(), 1)]
        found += lost(iter(text), f"{name} -h")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", [None, *FOLDERS], ids=lambda folder: folder or "nwb_sbtt")
def test_messages_and_settings_have_no_phrase_that_lost_readers(folder):
    paths = PACKAGE.glob("*.py") if folder is None else (PACKAGE / folder).rglob("*.py")
    found = []
    for path in sorted(paths):
        texts = messages(ast.parse(path.read_text(encoding="utf-8")))
        found += lost(texts, str(path.relative_to(ROOT)), LOST_IN_MESSAGES, broken=False)
    assert not found, "\n".join(found)


def test_a_lost_phrase_is_found_in_errors_notes_and_descriptions():
    module = ast.parse(
        '''"""A model goes on."""
raise DataError(f"a {type(ds).__name__} came; "
                f"expected {'no piece taken over' if ds else ''}")
notes.append(f"{n} bins are unobserved")
Field(description="Goes on.")
name = "anew"
'''
    )
    found = lost(messages(module), "m.py", LOST_IN_MESSAGES, broken=False)
    assert [each.partition("; write")[0] for each in found] == [
        "m.py:2: 'came'",
        "m.py:3: 'taken over'",
        "m.py:4: 'unobserved'",
        "m.py:5: 'Goes on'",
    ]


def test_a_lost_phrase_is_found_with_its_line_also_where_it_is_broken(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Score a fit beside simple\nbaselines.\n\n```bash\ngoes on\n```\nThe same command goes on.\n")
    found = lost(lines(page), "page.md")
    assert [each.partition(": ")[0] for each in found] == ["page.md:1", "page.md:7"]
    cells = [
        {"cell_type": "markdown", "source": ["Notes.\n", "A note says why."]},
        {"cell_type": "code", "source": ["goes on"]},
    ]
    notebook = tmp_path / "page.ipynb"
    notebook.write_text(json.dumps({"cells": cells}, indent=1))
    assert [each.partition("; ")[0] for each in lost(lines(notebook), "page.ipynb")] == ["page.ipynb:7: 'note says'"]
