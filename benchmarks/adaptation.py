"""How much a few fully sampled trials add: sparse training alone, mixed training, and adaptation of a pretrained fit.

The Lorenz task of `accuracy.py`: 29 neurons, 1248 training and 312 validation trials. A share of the training trials is
sampled in full, in all others k of 29 neurons are observed per bin, as in all validation trials. R² is that of the true
rates of the validation trials, 1 − SSE/SST, mean over neurons. Ways to train:

* sparse: on all training trials with k of 29 observed, including those with full sampling;
* few: on the fully sampled trials alone, then applied to the sparse ones;
* mixed: on both kinds at once (one Dataset, masks differ between trials);
* adapted: first on the fully sampled trials, then from these weights (`init`) on the sparse ones, with nothing frozen, or
  with the generator and the read-out frozen ("decoder": only the encoder is trained further).

    python benchmarks/adaptation.py --json adaptation.json --figure adaptation.png
    python benchmarks/adaptation.py --small
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import observe, take_settings, timed_fit
from machine import canvas, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import r2

N = 29
SMALL = [
    *("train.epochs=10", "train.batch_size=12", "posterior_samples=4"),
    *("model.width=32", "model.layers=3"),
]
WAYS = {
    "sparse": ("sparse alone", "#888888"),
    "few": ("fully sampled alone", "#CC79A7"),
    "mixed": ("mixed", "#D55E00"),
    "adapted, none frozen": ("adapted", "#0072B2"),
    "adapted, decoder frozen": ("adapted, decoder frozen", "#56B4E9"),
}
"""What the ways are called in the figure, and their colours."""


def main() -> None:
    """Train in every way at each level and print the table."""
    parser = options(__doc__, small="a tenth of the data, few epochs, one level")
    parser.add_argument("--levels", type=int, nargs="+", default=[10, 5, 3, 2], help="neurons observed per bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--share", type=float, default=0.1, help="of the training trials sampled in full")
    parser.add_argument("--freeze", nargs="+", default=["none", "decoder"], help="init.freeze of the adapted fits")
    take_settings(parser)
    parser.add_argument(
        "--adapt", nargs="*", default=["train.learning_rate=0.004"], help="further changes where a fit is adapted"
    )
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        arguments.levels, arguments.share, conditions = [3], 0.3, 6
        arguments.settings = [*SMALL, *arguments.settings]
    rows = [row for seed in arguments.seeds for row in _rows(seed, conditions, arguments)]
    report(arguments, rows, lambda: _figure(rows))


def mixture(whole: xr.Dataset, sparse: xr.Dataset, full: np.ndarray) -> xr.Dataset:
    """Combine trials `full` with all samples and the others with limited bandwidth in one Dataset."""
    rest = np.setdiff1d(np.arange(whole.sizes["trial"]), full)
    parts = [whole.isel(trial=full), sparse.isel(trial=rest)]
    return xr.concat(
        parts,
        "trial",
        data_vars="minimal",
        coords="minimal",
        compat="equals",
        join="exact",
        combine_attrs="drop_conflicts",
    )


def _rows(seed: int, conditions: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    whole = sb.simulate.lorenz(conditions=conditions, seed=seed)
    train = np.flatnonzero(whole["split"].values == "train")
    full = np.sort(np.random.default_rng(seed).permutation(train)[: round(arguments.share * len(train))])
    config = override(sb.FitConfig(seed=seed), arguments.settings)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        # Its validation trials come from these few, too: nothing else was sampled in full.
        few, few_seconds = timed_fit(whole.isel(trial=full).drop_vars("split"), config, place / "few")
        for k in arguments.levels:
            sparse = observe(whole, k, seed=seed)
            rest = sparse.isel(trial=np.setdiff1d(np.arange(whole.sizes["trial"]), full))
            both = mixture(whole, sparse, full)
            rows.append(_row("few", few, few_seconds, sparse, k=k, seed=seed))
            for way, data in (("sparse", sparse), ("mixed", both)):
                fitted, seconds = timed_fit(data, config, place / f"{way} {k}")
                rows.append(_row(way, fitted, seconds, sparse, k=k, seed=seed))
            for freeze in arguments.freeze:
                init = sb.config.InitConfig(run_dir=few.run_dir, channels="same", freeze=freeze)
                later = override(config.model_copy(update={"init": init}), arguments.adapt)
                fitted, seconds = timed_fit(rest, later, place / f"adapted {freeze} {k}")
                way = f"adapted, {freeze} frozen"
                rows.append(_row(way, fitted, few_seconds + seconds, sparse, k=k, seed=seed))
    return rows


def _row(way: str, fitted: sb.Fitted, seconds: float, sparse: xr.Dataset, *, k: int, seed: int) -> dict[str, Any]:
    valid = sparse.isel(trial=np.flatnonzero(sparse["split"].values == "valid"))
    row = {
        "observed of 29": k,
        "seed": seed,
        "trained": way,
        "R2": r2(valid["true_rates"].values, fitted.infer(valid)["rates"].values),
        "epochs": len(fitted.history),
        "best epoch": fitted.best.progress.best_epoch,
        "CPU-seconds": seconds,
    }
    print(row, flush=True)
    return row


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(8.5, 3.5)
    left, right = figure.subplots(1, 2)
    r2_by_fit = {(row["trained"], row["observed of 29"], row["seed"]): row["R2"] for row in rows}
    levels, seeds = sorted({key[1] for key in r2_by_fit}), sorted({key[2] for key in r2_by_fit})
    dropped = [1 - k / N for k in levels]
    for way in dict.fromkeys(key[0] for key in r2_by_fit):
        name, colour = WAYS.get(way, (way, "#000000"))
        scores = np.array([[r2_by_fit[way, k, seed] for seed in seeds] for k in levels])
        gains = scores - np.array([[r2_by_fit["sparse", k, seed] for seed in seeds] for k in levels])
        for axes, values in ((left, scores), (right, gains)):
            axes.plot(dropped, values.mean(1), "o-", color=colour, label=name)
            if len(seeds) > 1:
                axes.plot(dropped, values, ".", color=colour, alpha=0.5)
    left.set(xlabel="share of samples dropped", ylabel="R² to true rates (validation)")
    right.set(xlabel="share of samples dropped", ylabel="gain in R² over sparse training alone")
    left.set_ylim(max(-0.2, min(0.0, *r2_by_fit.values())), 1)
    left.legend(frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    main()
