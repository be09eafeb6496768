"""What a kernel of a notebook offers, without one."""

import builtins
import sys
from types import ModuleType, SimpleNamespace


class ZMQInteractiveShell:
    """The shell of a notebook's kernel has this name."""


def notebook(monkeypatch):
    """Make this process one in a notebook; returns what is shown, as (kind, HTML)."""
    shown = []
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    display.HTML = lambda text: text

    def show(page, *, display_id):
        shown.append(("display", page))
        return SimpleNamespace(update=lambda page: shown.append(("update", page)))

    display.display = show
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)  # by which rich knows notebooks
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown
