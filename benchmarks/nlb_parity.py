"""Metrics of the Neural Latents Benchmark compared with those of nlb_tools, on difficult arrays.

"difference" is relative. nlb_tools 0.0.4 cannot be installed beside current packages without `--no-deps`; this script needs
only `nlb_tools.evaluation`, which can be imported from a folder outside the environment:

    pip install --no-deps --target=elsewhere nlb_tools==0.0.4
    PYTHONPATH=elsewhere python benchmarks/nlb_parity.py --seeds 5 --json nlb_parity.json
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from machine import options, save, show
from nlb_tools import evaluation as theirs
from numpy.typing import NDArray

from nwb_sbtt.nlb import metrics as ours

Array = NDArray[Any]
KINDS = ("random", "sparse", "NaN-holed", "zero rates", "faint rates")


def main() -> None:
    parser = options(__doc__.splitlines()[0], small="fewer trials", figure=False)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = [row for kind in KINDS for row in compare(kind, args.seeds, n_trials=24 if args.small else 80)]
    show(rows)
    save(args.json, {**vars(args), "nlb_tools": version("nlb_tools")}, rows)


def compare(kind: str, seeds: int, *, n_trials: int) -> Iterator[dict[str, Any]]:
    """Print a row for each metric: the largest difference over seeds."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    unchanged = True
    for seed in range(seeds):
        arrays = make(kind, np.random.default_rng(seed), n_trials)
        before = {name: array.copy() for name, array in arrays.items()}
        ours = {name: metric(arrays) for name, metric in OURS.items()}
        unchanged &= all(np.array_equal(array, before[name], equal_nan=True) for name, array in arrays.items())
        for name, value in ours.items():
            # nlb_tools writes into its arguments.
            pairs.setdefault(name, []).append(
                (value, float(THEIRS[name]({key: array.copy() for key, array in before.items()})))
            )
    for name, values in pairs.items():
        yield {
            "arrays": kind,
            "metric": name,
            "ours": values[0][0],
            "nlb_tools": values[0][1],
            "difference": f"{max(abs(a - b) / abs(b) for a, b in values):.1e}",
            "inputs kept": unchanged,
        }


def make(kind: str, generator: np.random.Generator, n_trials: int) -> dict[str, Array]:
    """Simulate rates, spikes, behaviour, conditions and jitter, with as many training as evaluated trials."""
    n_bins, n_units, n_conditions = 30, 12, 4
    scale = 0.02 if kind == "sparse" else 0.4
    rates = generator.gamma(2, scale / 2, (2, n_trials, n_bins, n_units))
    spikes = generator.poisson(rates[1]).astype(float)
    weights = generator.normal(size=(n_units, 2))
    behavior = np.log(rates + 0.01) @ weights + generator.normal(size=(2, n_trials, n_bins, 2))
    first = generator.integers(0, n_bins - 10, n_trials)
    outside = np.arange(n_bins) < first[:, None]
    if kind == "NaN-holed":
        spikes[generator.random(spikes.shape) < 0.2] = np.nan
        behavior[generator.random(behavior.shape[:3]) < 0.1] = np.nan
    if kind == "zero rates":
        rates[generator.random(rates.shape) < 0.1] = 0
        spikes[..., 0] = 0
    if kind == "faint rates":
        rates[generator.random(rates.shape) < 0.1] = 1e-12
    condition = np.arange(n_trials) % n_conditions
    psth = np.stack([rates[1][condition == i].mean(0) for i in range(n_conditions)])
    psth += generator.normal(size=psth.shape) * 0.05 * scale
    psth[:, :3] = np.nan
    psth[1, -4:] = np.nan
    if kind == "zero rates":
        psth[..., 0] *= 0
    timed = np.column_stack([condition % 2, condition // 2, np.zeros(n_trials), np.full(n_trials, 700.0)])
    timed = np.column_stack([timed, generator.normal(700, 80, n_trials)])
    timed[:2] = np.nan
    return {
        "train_rates": rates[0],
        "rates": rates[1],
        "spikes": spikes,
        "train_behavior": behavior[0],
        "behavior": behavior[1],
        "groups": np.stack([condition % 2 == 0, condition % 2 == 1], axis=1),
        "psth": psth,
        "condition": condition,
        "jitter": generator.integers(0, 4, n_trials) * (psth.shape[1] > 10),
        "timed": timed,
        "outside": outside,
    }


def trials_of(a: dict[str, Array]) -> list[Array]:
    """Rows of each condition; the last one has none."""
    return [np.flatnonzero((a["condition"] == i) & (i < 3)) for i in range(len(a["psth"]))]


def back(a: dict[str, Array]) -> Array:
    """Jitter that leaves the bins with a PSTH covered: at most the three bins without one at the front."""
    return np.minimum(a["jitter"], 3)


OURS: dict[str, Callable[[dict[str, Array]], float]] = {
    "bits per spike": lambda a: ours.bits_per_spike(a["rates"], a["spikes"]),
    "vel R2": lambda a: ours.velocity_r2(a["train_rates"], a["train_behavior"], a["rates"], a["behavior"]),
    "vel R2, two decoders": lambda a: ours.velocity_r2(
        a["train_rates"],
        a["train_behavior"],
        a["rates"],
        a["behavior"],
        train_groups=a["groups"],
        eval_groups=a["groups"],
    ),
    "psth R2": lambda a: ours.psth_r2(a["psth"], a["rates"], trials_of(a)),
    "psth R2, jitter": lambda a: ours.psth_r2(a["psth"], a["rates"], trials_of(a), jitter=back(a)),
    "tp corr": lambda a: ours.speed_correlation(a["rates"], a["timed"], ~a["outside"]),
}


def _all(a: dict[str, Array]) -> Array:
    return np.full((len(a["rates"]), 1), True)


THEIRS: dict[str, Callable[[dict[str, Array]], float]] = {
    "bits per spike": lambda a: theirs.bits_per_spike(a["rates"], a["spikes"]),
    "vel R2": lambda a: theirs.velocity_decoding(
        a["train_rates"], a["train_behavior"], _all(a), a["rates"], a["behavior"], _all(a)
    ),
    "vel R2, two decoders": lambda a: theirs.velocity_decoding(
        a["train_rates"], a["train_behavior"], a["groups"], a["rates"], a["behavior"], a["groups"]
    ),
    "psth R2": lambda a: theirs.eval_psth(a["psth"], a["rates"], trials_of(a)),
    "psth R2, jitter": lambda a: theirs.eval_psth(a["psth"], a["rates"], trials_of(a), jitter=back(a)),
    "tp corr": lambda a: theirs.speed_tp_correlation(
        np.where(a["outside"][..., None], np.nan, a["rates"]), a["rates"], a["timed"]
    ),
}


if __name__ == "__main__":
    main()
