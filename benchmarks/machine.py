"""What every benchmark takes and says of itself: the machine, the versions, one table, one JSON file and one figure."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure


def options(text: str | None, *, small: str, figure: bool = True) -> argparse.ArgumentParser:
    """A parser of what every benchmark takes; `small` says what its quick run leaves of it."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help=small)
    parser.add_argument("--json", type=Path, help="where to write settings, machine and rows")
    if figure:
        parser.add_argument("--figure", type=Path, help="where to draw them, as PNG")
    return parser


def report(asked: argparse.Namespace, rows: list[dict[str, Any]], figure: Callable[[], Figure]) -> None:
    """Print the table, and write what else was asked for."""
    show(rows)
    save(asked.json, vars(asked), rows)
    if asked.figure:
        figure().savefig(asked.figure, dpi=150)


def canvas(width: float, height: float) -> Figure:
    """An empty figure of that many inches."""
    return Figure(figsize=(width, height), layout="constrained")


def machine() -> dict[str, str]:
    """Processor, cores and versions, without naming the computer."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = next((name for name in names if name.strip("-? ")), model)
    packages = {name: version(name) for name in ("nwb_sbtt", "torch", "numpy")}
    return {"processor": model, "cores": str(os.cpu_count()), "python": platform.python_version(), **packages}


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows as one aligned table."""
    names = list(rows[0])
    cells = [names] + [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def show_medians(rows: list[dict[str, Any]], names: Sequence[str]) -> None:
    """Print the middle of these columns."""
    for name in names:
        print(f"median of {name}: {median(row[name] for row in rows):.3f}")


def save(path: Path | None, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write settings, machine and rows as JSON, if a path was given."""
    if path is not None:
        content = {"settings": settings, "machine": machine(), "rows": rows}
        path.write_text(json.dumps(content, indent=2, default=str) + "\n")


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
