"""What every benchmark says of itself: the machine, the versions, one table on the screen, one JSON file."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


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


def save(path: Path | None, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write settings, machine and rows as JSON, if a path was given."""
    if path is not None:
        content = {"settings": settings, "machine": machine(), "rows": rows}
        path.write_text(json.dumps(content, indent=2, default=str) + "\n")


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
