"""Messages name a setting and an argument as they are typed on the command line too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nwb_sbtt
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.config.describe import classes_in

PACKAGE = Path(nwb_sbtt.__file__).parent
PARTS = [name for name, field in ReadConfig.model_fields.items() if classes_in(field.annotation)]
BELOW = {
    name
    for part in PARTS
    for kind in classes_in(ReadConfig.model_fields[part].annotation)
    for name in kind.model_fields
}
SHORTENED = re.compile(rf"(?<![\w./])({'|'.join(PARTS)})\.({'|'.join(BELOW)})\b")
ARGUMENT = re.compile(r"\b[a-z_]+=(True|False)\b|\bpass [a-z_]+ as '")
"""A setting of the reader without ``read.``, and an argument as Python alone takes it."""


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text of a module but docstrings and descriptions of settings; of a template its constant parts."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    documentation |= {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in ("description", "help")
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in documentation or id(node) in parts:
            continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def wrong(text: str) -> bool:
    return bool(SHORTENED.search(text) or (ARGUMENT.search(text) and "--" not in text))


def test_messages_name_settings_and_arguments_as_they_are_typed():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in texts(ast.parse(path.read_text(encoding="utf-8")))
        if wrong(text)
    ]
    assert found == []


def test_the_law_of_messages_notices_what_it_is_for():
    assert (
        wrong("use rois.cells='all'")
        and wrong("pass overwrite=True to replace it")
        and wrong("pass existing as 'skip'")
    )
    assert not wrong("use read.rois.cells=all") and not wrong("pass overwrite=True (--overwrite) to replace it")
