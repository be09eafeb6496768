"""R² of inferred to true rates on the published Lorenz task, by the number of neurons observed in each bin.

29 neurons, 50 bins of 20 ms, 65 conditions × 24 trials, 1248 for training and 312 for validation; k of 29 neurons observed
per bin, in training and validation trials. The same settings at all levels: the defaults. R² is 1 − SSE/SST, mean over
neurons, pooled over validation trials, as in the published demo of Zhu, Sedler et al. 2021. `in 95%` is the coverage of the
true rates by the 95 % intervals.

    python benchmarks/accuracy.py --members 5 --json accuracy.json --figure accuracy.png
    python benchmarks/accuracy.py --small
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from fits import N_NEURONS, fitted_to, lorenz_task, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import r2

PUBLISHED = {29: 0.911, 25: 0.908, 20: 0.891, 15: 0.888, 10: 0.852, 5: 0.757, 3: 0.590, 2: 0.339}
"""The published demo, on its own data of the same kind: 1000 epochs, about 38 minutes each."""


def main() -> None:
    """Fit each level and print the table."""
    parser = options(__doc__, small="a tenth of the data, five epochs, one level")
    parser.add_argument("--levels", type=int, nargs="+", default=[29, 10, 5, 2], help="neurons observed per bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--members", type=int, default=1, help="models averaged; the first is scored alone too")
    parser.add_argument("--baselines", action="store_true", help="score the baselines too")
    take_settings(parser)
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        arguments.levels, conditions, arguments.settings = [10], 7, ["train.epochs=5", *arguments.settings]
    rows = []
    for seed in arguments.seeds:
        for k in arguments.levels:
            rows.append(_level(k, seed, conditions, arguments))
            print(rows[-1], flush=True)
    report(arguments, rows, lambda: _figure(rows))


def _level(k: int, seed: int, conditions: int, arguments: argparse.Namespace) -> dict[str, Any]:
    ds = lorenz_task(k, seed=seed, conditions=conditions)
    config = override(sb.FitConfig(seed=seed, seeds=arguments.members), arguments.settings)
    with fitted_to(ds, config) as (fitted, seconds):
        valid = ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))
        single = fitted if arguments.members == 1 else sb.load(fitted.run_dir / "member-0")
        true, latents = valid["true_rates"].values, fitted.infer(valid)
        row: dict[str, Any] = {
            "observed of 29": k,
            "seed": seed,
            "R2": r2(true, single.infer(valid)["rates"].values),
            "CPU-seconds": seconds / arguments.members,
            "epochs": len(single.history),
        }
        if arguments.members > 1:
            row[f"R2 of {arguments.members}"] = r2(true, latents["rates"].values)
        for level in (0.5, 0.8, 0.9, 0.95):
            lower, upper = sb.interval(latents, level)
            row[f"in {level:.0%}"] = float(((true >= lower.values) & (true <= upper.values)).mean())
        if arguments.baselines:
            scores = fitted.evaluate(ds)["scores"]
            row |= {f"bits/spike, {name}": score for name, score in scores.items()}
    return row


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(5, 3.5)
    axes = figure.subplots()
    levels = sorted({row["observed of 29"] for row in rows})
    dropped = [1 - k / N_NEURONS for k in levels]
    ours = [[row["R2"] for row in rows if row["observed of 29"] == k] for k in levels]
    axes.plot(dropped, [np.mean(r) for r in ours], "o-", color="#0072B2", label="nwb_sbtt, defaults")
    for x, values in zip(dropped, ours, strict=True):
        axes.plot([x] * len(values), values, ".", color="#0072B2", alpha=0.5)
    name = next((name for name in rows[0] if name.startswith("R2 of")), None)
    if name is not None:
        means = [np.mean([row[name] for row in rows if row["observed of 29"] == k]) for k in levels]
        axes.plot(dropped, means, "^-", color="#D55E00", label=f"{name[6:]} averaged")
    axes.plot(
        [1 - k / N_NEURONS for k in PUBLISHED], list(PUBLISHED.values()), "s--", color="#888888", label="published demo"
    )
    axes.set(xlabel="share of samples dropped", ylabel="R² to true rates (validation)", ylim=(0, 1))
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
