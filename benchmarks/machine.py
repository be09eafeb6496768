"""What all benchmarks share: options, a process for each case, and output as one table, one JSON file with machine and
versions, and one figure."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure


def options(text: str | None, *, small: str, figure: bool = True) -> argparse.ArgumentParser:
    """Make a parser with the options of every benchmark; `small` describes its quick run."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help=small)
    parser.add_argument("--json", type=Path, help="where to write settings, machine and rows")
    if figure:
        parser.add_argument("--figure", type=Path, help="where to draw the rows, as PNG")
    return parser


def apart(action: Callable[..., Any], *values: Any, **parameters: Any) -> Any:
    """Call a function in a new process with the imports of this one, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as process:
        return process.submit(action, *values, **parameters).result()


def report(arguments: argparse.Namespace, rows: list[dict[str, Any]], figure: Callable[[], Figure]) -> None:
    """Print the table, and write JSON and figure where their paths are set."""
    show(rows)
    save(arguments.json, vars(arguments), rows)
    if arguments.figure:
        figure().savefig(arguments.figure, dpi=150)


def canvas(width: float, height: float) -> Figure:
    """Make an empty figure; width and height in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def machine() -> dict[str, str]:
    """Return processor, cores and versions, but not the computer's name."""
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
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[_cell(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def show_medians(rows: list[dict[str, Any]], names: Sequence[str]) -> None:
    """Print the median of these columns."""
    for name in names:
        print(f"median of {name}: {median(row[name] for row in rows):.3f}")


def save(path: Path | None, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write settings, machine and rows as JSON, if there is a path."""
    if path is not None:
        content = {"settings": settings, "machine": machine(), "rows": rows}
        path.write_text(json.dumps(content, indent=2, default=str) + "\n")


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
