"""Every public function documents its arguments, in numpydoc's section of parameters; sources are read, not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "nwb_sbtt"
COMMANDS = {PACKAGE / "cli" / f"{name}.py" for name in ("main", "dandi", "many", "nlb", "search", "settings")}
"""Their functions are commands: arguments have help of their own, which the docstring would repeat."""
NAMES = re.compile(r"^(\S[^:]*?)(?: :.*)?$", re.MULTILINE)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Class:
    """A class of the package: the names of its bases, whether it is a protocol, and what it documents of its methods."""

    bases: tuple[str, ...]
    methods: Mapping[str, set[str]]


def arguments(function: Function) -> list[str]:
    """Names of the arguments that a caller passes."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return [argument.arg for argument in named if argument.arg not in ("self", "cls") and argument.arg[0] != "_"]


def documented(docstring: str) -> set[str]:
    """Names below the heading of parameters."""
    found = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n\S[^\n]*\n-{3,}\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    lines = NAMES.findall(found[1]) if found else []
    return {name.strip("* ") for line in lines for name in line.split(",")}


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Functions and classes whose name has no leading underscore."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node


def is_overload(function: Function) -> bool:
    return any(ast.unparse(decorator).endswith(("overload", ".setter")) for decorator in function.decorator_list)


def classes(trees: Mapping[Path, ast.Module]) -> dict[str, Class]:
    """All classes of the package by name, with the arguments that each documents of its methods."""
    found = {}
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = tuple(re.split(r"[.\[]", ast.unparse(base).partition("[")[0])[-1] for base in node.bases)
                methods = {
                    method.name: documented(ast.get_docstring(method) or "")
                    for method in node.body
                    if isinstance(method, Function)
                }
                methods["__init__"] = documented(ast.get_docstring(node) or "")
                found[node.name] = Class(bases, methods)
    return found


def inherited(name: str, method: str, known: Mapping[str, Class]) -> set[str]:
    """Arguments that bases document of a method, or protocols of the package, whose members need no base."""
    protocols = [other for other, kind in known.items() if "Protocol" in kind.bases]
    names, todo = set[str](), [*known[name].bases, *protocols]
    while todo:
        kind = known.get(todo.pop())
        if kind is not None:
            names |= kind.methods.get(method, set())
            todo += kind.bases
    return names


def undocumented(path: Path, tree: ast.Module, known: Mapping[str, Class]) -> Iterator[str]:
    """Arguments of public functions, methods and classes that no docstring explains."""
    place = path.relative_to(PACKAGE.parent)
    for node in public(tree.body):
        own = documented(ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef):
            fields = constructor(node)
            if missing := [name for name in fields if name not in own | inherited(node.name, "__init__", known)]:
                yield f"{place}: {node.name}: {', '.join(missing)}"
            for method in public(node.body):
                if isinstance(method, Function) and not is_overload(method):
                    below = documented(ast.get_docstring(method) or "") | inherited(node.name, method.name, known)
                    if missing := [name for name in arguments(method) if name not in below]:
                        yield f"{place}: {node.name}.{method.name}: {', '.join(missing)}"
        elif path not in COMMANDS and not is_overload(node):
            missing = [name for name in arguments(node) if name not in own]
            yield from [f"{place}: {node.name}: {', '.join(missing)}"] if missing else []


def constructor(node: ast.ClassDef) -> list[str]:
    """Arguments that make an object of a class; of a data class its fields."""
    for method in node.body:
        if isinstance(method, Function) and method.name == "__init__":
            return arguments(method)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return [
            field.target.id
            for field in node.body
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and field.target.id[0] != "_"
            and "ClassVar" not in ast.unparse(field.annotation)
            and "init=False" not in ast.unparse(field)
        ]
    return []


def test_every_public_function_documents_its_arguments():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    known = classes(trees)
    found = [text for path, tree in trees.items() for text in undocumented(path, tree, known)]
    assert found == [], "\n".join(found)


def test_the_check_notices_what_is_missing():
    source = '''
class Source(Protocol):
    def bin(self, grid):
        """Put it on a grid.

        Parameters
        ----------
        grid : Grid
        """

class Own:
    def bin(self, grid, *, extra): ...

def read(path, *paths, limit=1):
    """Read.

    Parameters
    ----------
    path, *paths : Path

    Returns
    -------
    limit : not an argument
    """
'''
    tree = ast.parse(source)
    found = list(undocumented(PACKAGE / "a.py", tree, classes({PACKAGE / "a.py": tree})))
    assert found == ["nwb_sbtt/a.py: Own.bin: extra", "nwb_sbtt/a.py: read: limit"]
