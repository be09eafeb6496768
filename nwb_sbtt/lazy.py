"""Load the names of a package on first use, so that importing the package is fast."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec


def attach(
    package: str, homes: Mapping[str, str], submodules: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    homes : mapping of name to module
        Module, relative to the package, in which each name lives.
    submodules : mapping of name to module, optional
        Modules, relative to the package, that are names of the package themselves.

    Returns
    -------
    getattr, dir : callable
        To be assigned to ``__getattr__`` and ``__dir__``.

    Raises
    ------
    AttributeError
        By the first of them, for any other name.
    """
    submodules = submodules or {}

    def load(name: str) -> object:
        if name in submodules:
            return import_module(f".{submodules[name]}", package)
        if name in homes:
            return getattr(import_module(f".{homes[name]}", package), name)
        hint = "" if name.startswith("_") else _elsewhere(package, submodules, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")

    return load, lambda: sorted([*homes, *submodules])


@contextmanager
def loading() -> Iterator[None]:
    """Import packages without a search for garbage, of which imports leave none.

    Python searches all objects again and again while they become more, which takes a fifth of the time of large packages. What
    was imported is left out of later searches too; for programs, since a library must not decide this for the process it is in.

    Yields
    ------
    None
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _elsewhere(package: str, submodules: Mapping[str, str], name: str) -> str:
    """Say in which of the submodules a name is; empty where it is in none.

    Of a module of the package nothing is said: ``from package import module`` asks for it as an attribute first, and then
    imports it, for which all others need not be.
    """
    if find_spec(f"{package}.{name}") is not None:
        return ""
    for submodule, path in submodules.items():
        if hasattr(import_module(f".{path}", package), name):
            return f"; it is {package}.{submodule}.{name}"
    return ""
