"""Bits per spike on held-out neurons of a real recording: MC_Maze_Small's 100 test segments, five folds, 20 ms bins.

27 of 107 units are hidden in the 20 test trials of each fold and scored there; the null model is their mean rate over those
trials. Folds and units are drawn once, from generator 0. The defaults of `nwb-sbtt fit`, unless --set says otherwise.

With --speckled a quarter of all entries, of all units and trials, is hidden instead, and those of the test trials are scored,
beside masked smoothing and the low-rank Wiener filter, which choose their settings on the training trials.

    python benchmarks/cosmoothing.py sub-Jenkins_ses-small_desc-test_ecephys.nwb --json cosmoothing.json
    python benchmarks/cosmoothing.py sub-Jenkins_ses-small_desc-test_ecephys.nwb --speckled
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import fitted_to, take_settings
from machine import options, save, show
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate import MaskedData, bits_per_spike
from nwb_sbtt.evaluate.baselines import predict

PEERS = {"smoothing + ridge, best of its grid": 0.093, "lfads-torch, best epoch on the test folds": 0.188}
"""Bits per spike of the same folds, mean; see the issue that set the task."""
SPECKLES = 0.25
"""Share of the entries that --speckled hides."""
BIN = 0.02
"""Seconds."""
N_TRIALS, N_UNITS = 100, 107


def main() -> None:
    """Fit each fold and print the table."""
    parser = options(__doc__, small="one fold, three epochs", figure=False)
    parser.add_argument("file", type=Path, help="the test file of DANDI:000140")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="averaged in log-rate space")
    parser.add_argument("--speckled", action="store_true", help="hide a quarter of all entries instead of whole units")
    take_settings(parser)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.folds, arguments.settings = [0], ["train.epochs=3", "posterior_samples=4", *arguments.settings]
    ds = read_segments(arguments.file)
    score = _speckled if arguments.speckled else _held_out
    rows = []
    for fold in arguments.folds:
        rows.append(score(ds, fold, arguments.seeds, arguments.settings))
        print(rows[-1], flush=True)
    show(rows)
    print(
        f"mean {np.mean([row['bits/spike'] for row in rows]):.4f}" + ("" if arguments.speckled else f"; peers {PEERS}")
    )
    save(arguments.json, vars(arguments), rows)


def _held_out(ds: xr.Dataset, fold: int, seeds: list[int], settings: list[str]) -> dict[str, Any]:
    held_out, test = drawn(fold)
    hidden = np.isin(np.arange(N_UNITS), held_out)
    ds = ds.assign_coords(held_out=("channel", hidden))
    logs, spent = _log_counts(ds, test, seeds, settings)
    return {"fold": fold, **_scores(logs, ds["values"].values[test], hidden), **spent}


def _speckled(ds: xr.Dataset, fold: int, seeds: list[int], settings: list[str]) -> dict[str, Any]:
    _, test = drawn(fold)
    values, observed = ds["values"].values, ds["observed"].values
    shown = observed & (np.random.default_rng(0).random(values.shape) >= SPECKLES)
    where, counts = (observed & ~shown)[test], values[test]
    logs, spent = _log_counts(
        ds.assign(observed=(ds["observed"].dims, shown), values=ds["values"].where(shown, 0)), test, seeds, settings
    )
    data = MaskedData(values, shown, ~np.isin(np.arange(N_TRIALS), test), is_counts=True)
    baselines = {
        column: bits_per_spike(predict(name, data).expected[test], counts, where)
        for column, name in {"smoothing": "masked_smoothing", "Wiener": "low_rank_wiener"}.items()
    }
    return {"fold": fold, **_scores(logs, counts, where), **baselines, **spent}


def read_segments(file: Path) -> xr.Dataset:
    """Read the segments around the onset of movement, in bins of `BIN`."""
    cut = sb.Trials(event="move_onset_time", start=-0.25, stop=0.45)
    return sb.read_nwb(file, series="units", bin_width=BIN, trials=cut)


def drawn(fold: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Held-out units, and the test trials of a fold."""
    generator = np.random.default_rng(0)
    held_out = np.sort(generator.permutation(N_UNITS)[:27])
    return held_out, np.array_split(generator.permutation(N_TRIALS), 5)[fold]


def _log_counts(
    ds: xr.Dataset, test: NDArray[np.intp], seeds: list[int], settings: list[str]
) -> tuple[list[NDArray[np.floating]], dict[str, Any]]:
    """Log expected counts of the test trials from the model of each seed, and epochs and CPU-seconds of the fits."""
    ds = ds.assign_coords(split=("trial", np.where(np.isin(np.arange(N_TRIALS), test), "test", "train")))
    started, logs, epochs = time.process_time(), [], []
    for seed in seeds:
        with fitted_to(ds, override(sb.FitConfig(seed=seed), settings)) as (fitted, _):
            logs.append(log_counts(fitted, ds, test))
            epochs.append(len(fitted.history))
    return logs, {"epochs": round(float(np.mean(epochs))), "CPU-seconds": time.process_time() - started}


def averaged_bits(
    logs: Sequence[NDArray[np.floating]], counts: NDArray[np.floating], where: NDArray[np.bool_]
) -> float:
    """Bits per spike of the models' mean in log-rate space, where entries are scored (broadcast over trials and bins)."""
    return bits_per_spike(np.exp(np.mean(logs, 0)), counts, np.broadcast_to(where, counts.shape))


def log_counts(fitted: sb.Fitted, ds: xr.Dataset, trials: NDArray[np.intp]) -> NDArray[np.floating]:
    """Infer the logarithm of the expected counts of some trials."""
    log: NDArray[np.floating] = np.log(fitted.infer(ds.isel(trial=trials))["rates"].values * BIN)
    return log


def _scores(
    logs: list[NDArray[np.floating]], counts: NDArray[np.floating], where: NDArray[np.bool_]
) -> dict[str, float]:
    """Bits per spike of the models' mean in log-rate space, and the mean of theirs."""
    return {
        "bits/spike": averaged_bits(logs, counts, where),
        "single": float(np.mean([averaged_bits([log], counts, where) for log in logs])),
    }


if __name__ == "__main__":
    main()
