"""What every benchmark that fits does: changes of the defaults, and a fit whose folder goes when its scores are taken."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.train.trackers import Silent


def take_settings(arguments: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    arguments.add_argument("--set", nargs="*", default=[], dest="settings", help="changes of the defaults, a.b=value")


@contextmanager
def fitted_to(ds: xr.Dataset, config: sb.FitConfig) -> Iterator[tuple[sb.Fitted, float]]:
    """A fit and the CPU-seconds that it took; its run folder is there while the block lasts."""
    with tempfile.TemporaryDirectory() as folder:
        yield timed_fit(ds, config, Path(folder) / "run")


def timed_fit(ds: xr.Dataset, config: sb.FitConfig, run_dir: Path) -> tuple[sb.Fitted, float]:
    """A fit and the CPU-seconds that it took."""
    started = time.process_time()
    fitted = sb.fit(ds, config, run_dir=run_dir, tracker=Silent())
    return fitted, time.process_time() - started
