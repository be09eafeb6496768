"""Bits per spike on held-out neurons of a real recording: MC_Maze_Small's 100 test segments, five folds, 20 ms bins.

27 of 107 units are hidden in the 20 test trials of each fold and scored there; the null model is their mean rate over those
trials. Folds and units are drawn once, from generator 0. The defaults of `nwb-sbtt fit`, unless --set says otherwise.

    python benchmarks/cosmoothing.py sub-Jenkins_ses-small_desc-test_ecephys.nwb --json cosmoothing.json
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import fitted_to, take_settings
from machine import options, save, show

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import bits_per_spike

PEERS = {"smoothing + ridge, best of its grid": 0.093, "lfads-torch, best epoch on the test folds": 0.188}
"""Bits per spike of the same folds, mean; see the issue that set the task."""


def main() -> None:
    """Fit each fold and print the table."""
    arguments = options(__doc__, small="one fold, three epochs", figure=False)
    arguments.add_argument("file", type=Path, help="the test file of DANDI:000140")
    arguments.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0], help="averaged in log-rate space")
    take_settings(arguments)
    asked = arguments.parse_args()
    if asked.small:
        asked.folds, asked.settings = [0], ["train.epochs=3", "samples=4", *asked.settings]
    cut = sb.Trials(event="move_onset_time", start=-0.25, stop=0.45)
    ds = sb.read_nwb(asked.file, series="units", bin_width=0.02, trials=cut)
    rows = [_fold(ds, fold, asked.seeds, asked.settings) for fold in asked.folds]
    show(rows)
    print(f"mean {np.mean([row['bits/spike'] for row in rows]):.4f}; peers {PEERS}")
    save(asked.json, vars(asked), rows)


def _fold(ds: xr.Dataset, fold: int, seeds: list[int], settings: list[str]) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    held_out = np.sort(generator.permutation(107)[:27])
    test = np.array_split(generator.permutation(100), 5)[fold]
    parts = np.where(np.isin(np.arange(100), test), "test", "train")
    hidden = np.isin(np.arange(107), held_out)
    ds = ds.assign_coords(split=("trial", parts), held_out=("channel", hidden))
    started, logs, epochs = time.process_time(), [], []
    for seed in seeds:
        with fitted_to(ds, override(sb.FitConfig(seed=seed), settings)) as (fitted, _):
            logs.append(np.log(fitted.infer(ds.isel(trial=test))["rates"].values * 0.02))
            epochs.append(len(fitted.history))
    where = np.broadcast_to(hidden, logs[0].shape)
    counts = ds["values"].values[test]
    row = {
        "fold": fold,
        "bits/spike": bits_per_spike(np.exp(np.mean(logs, 0)), counts, where),
        "single": float(np.mean([bits_per_spike(np.exp(one), counts, where) for one in logs])),
        "epochs": round(float(np.mean(epochs))),
        "CPU-seconds": time.process_time() - started,
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
