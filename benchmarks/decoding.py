"""Is behaviour decoded as well from inferred rates as from the true ones, at each share of samples observed?

Reaches of the simulator of the latents benchmark: units whose log rates, and velocities of a hand later by the benchmark's
lag, are linear in the same latents; velocities have noise of their own. In each bin a share of the units is observed, drawn
anew for each. A model with the default settings is fitted to the trials; hand velocity is decoded by `nwb_sbtt.decode` (ridge
regression, nested cross-validation over trials, the same lag) from its rates, from its factors, from smoothed counts, and
from the true rates. R² is variance-weighted over both columns, on validation trials, which the model was not trained on.
"behind" is R² of the true rates minus that of the inferred ones; to reach: .02.

"reachable" is the R² of the posterior mean given the system, the condition and the law of sizes and phases of the latents,
which no fit is given: Fisher scoring for the eight numbers of each trial, and the mean over draws from a Gaussian at its end
(Laplace's approximation).

    python benchmarks/decoding.py --seeds 0 1 --json decoding.json --figure decoding.png
    python benchmarks/decoding.py --small
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import fitted_to, observe, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.nlb.counting import CLOCK
from nwb_sbtt.nlb.definitions import get_definition
from nwb_sbtt.simulate.latents_benchmark import (
    FREQUENCIES,
    LOG_SIZE_SD,
    N_LATENTS,
    PHASE_SD,
    SetSettings,
    SimulatedSet,
    simulate_set,
    write_set,
)

NAME = "mc_maze"
BIN_WIDTH = 0.02
SHARES = {"all": 1.0, "half": 0.5, "quarter": 0.25, "tenth": 0.1}


def main() -> None:
    parser = options(__doc__, small="few trials of few brisk units, half and a quarter observed, a small model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--observed", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--trials", type=int, default=400, help="of which 100 are for validation")
    parser.add_argument("--units", type=int, default=120)
    parser.add_argument("--rate", type=float, default=12.0, help="median rate of the units, Hz")
    take_settings(parser)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.seeds, arguments.observed, arguments.trials, arguments.units = [0], ["half", "quarter"], 60, 20
        arguments.settings = ["train.epochs=10", "model.width=16", "model.groups=4", *arguments.settings]
    rows = [row for seed in arguments.seeds for row in rows_of_seed(arguments, seed)]
    report(arguments, rows, lambda: draw(rows))


def rows_of_seed(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Fit a model at each share observed."""
    n_valid = arguments.trials // 4
    settings = SetSettings(
        NAME, arguments.trials - n_valid, n_valid, 2, arguments.units, rate=arguments.rate, seed=seed, held_out=0.05
    )
    simulated = simulate_set(settings)
    definition = get_definition(NAME)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, _ = write_set(simulated, folder)
        cut = sb.Trials(event=str(definition.event), start=definition.start, stop=definition.stop)
        whole = sb.read_nwb(path, series="units", bin_width=BIN_WIDTH, trials=cut)
        whole = whole.assign_coords(split=("trial", split_of(whole, simulated)))
        hand = sb.read_behaviour(path, hand_path(path), whole, lag=definition.lag)
    truth = whole.assign(rates=(whole["values"].dims, true_rates(whole, simulated)))
    best = r2_of(truth.drop_vars(["values", "observed"]), hand, "rates")
    for name in arguments.observed:
        ds = observed_share(whole, SHARES[name], seed)
        with fitted_to(ds, override(sb.FitConfig(seed=seed), arguments.settings)) as (fitted, seconds):
            latents = fitted.infer(ds)
        found = sb.decode(latents, hand, of="rates", data=ds)
        inferred, smoothed = found["r2_weighted"].values.tolist()
        row = {"observed": name, "seed": seed, "true rates": best, "rates": inferred, "behind": best - inferred}
        row["reachable"] = reachable(ds, hand, simulated)
        row |= {"factors": r2_of(latents, hand, "factors"), "smoothed counts": smoothed, "CPU-seconds": round(seconds)}
        rows.append(row)
        print(row, flush=True)
    return rows


def r2_of(latents: xr.Dataset, hand: xr.DataArray, of: Any) -> float:
    """Return the variance-weighted R² of the hand decoded from latents."""
    return float(sb.decode(latents, hand, of=of)["r2_weighted"].values[0])


def reachable(ds: xr.Dataset, hand: xr.DataArray, simulated: SimulatedSet) -> float:
    """Return the R² of the posterior mean of the hand given all but the trial's sizes and phases, on validation trials."""
    valid = np.flatnonzero(ds["split"].values == "valid")
    ds, target = ds.isel(trial=valid), np.asarray(hand.values[valid], float)
    system, definition, trials = simulated.system, get_definition(NAME), simulated.training.trials
    ids = trials["id"].tolist()
    rows = [ids.index(trial) for trial in ds["trial_id"].values.tolist()]
    centres = (np.arange(ds.sizes["time"]) + 0.5) * BIN_WIDTH
    since = ds["trial_start"].values[:, None] + centres - trials[definition.event][rows][:, None]
    assert definition.psth is not None
    first, second = (np.unique(trials[name], return_inverse=True)[1][rows] for name in definition.psth.columns[:2])
    angles = 2 * np.pi * np.array(FREQUENCIES) * since[..., None] + system.phases[first, second, 0][:, None]
    units = [simulated.training.unit_id.tolist().index(unit) for unit in ds["channel_id"].values.tolist()]
    loadings, offsets = system.loadings[:, units], system.offsets[units]
    counts, observed = ds["values"].values.astype(float), ds["observed"].values.astype(float)
    precision = np.repeat([LOG_SIZE_SD**-2, PHASE_SD**-2], N_LATENTS)
    trial = np.zeros((len(rows), 2 * N_LATENTS))
    for _ in range(60):
        latents, slopes = _latents(angles, trial)
        expected = observed * np.exp(offsets + latents @ loadings) * BIN_WIDTH
        residual = (observed * counts - expected) @ loadings.T
        gradient = np.concatenate([(residual * latents).sum(1), (residual * slopes).sum(1)], 1) - precision * trial
        slopes = np.concatenate([latents, slopes], 2)
        of_bins = np.tile(np.einsum("tbn,kn,jn->tbkj", expected, loadings, loadings, optimize=True), (2, 2))
        information = np.einsum("tbi,tbij,tbj->tij", slopes, of_bins, slopes, optimize=True) + np.diag(precision)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        trial = trial + step * np.minimum(1, 0.3 / np.abs(step).max(1, keepdims=True))
    generator = np.random.default_rng(0)
    spread = np.linalg.cholesky(np.linalg.inv(information))
    draws = (trial + np.einsum("tij,tj->ti", spread, generator.normal(size=trial.shape)) for _ in range(100))
    decoded = np.mean([_latents(angles, draw)[0] for draw in draws], axis=0) @ system.velocity
    known = np.isfinite(target).all(2)
    measured = target[known]
    return float(1 - ((measured - decoded[known]) ** 2).sum() / ((measured - measured.mean(0)) ** 2).sum())


def _latents(angles: np.ndarray, trial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return latents (trial, bin, latent), and their derivatives by the phases, from log sizes and phases."""
    size, moved = np.exp(trial[:, None, :N_LATENTS]), angles + trial[:, None, N_LATENTS:]
    return size * np.sin(moved), size * np.cos(moved)


def split_of(ds: xr.Dataset, simulated: SimulatedSet) -> np.ndarray:
    """Return the label of each trial that was read: training or validation, as simulated."""
    labels = dict(
        zip(simulated.training.trials["id"].tolist(), simulated.training.trials["split"].tolist(), strict=True)
    )
    return np.array(["valid" if labels[trial] == "val" else "train" for trial in ds["trial_id"].values.tolist()])


def true_rates(ds: xr.Dataset, simulated: SimulatedSet) -> np.ndarray:
    """Return the true rates in the bins of data [Hz]."""
    first = np.round(ds["trial_start"].values / CLOCK).astype(int)
    per_bin = round(BIN_WIDTH / CLOCK)
    moments = first[:, None] + np.arange(ds.sizes["time"] * per_bin)
    rows = {unit: i for i, unit in enumerate(simulated.training.unit_id.tolist())}
    units = [rows[unit] for unit in ds["channel_id"].values.tolist()]
    rates = simulated.rates[np.minimum(moments, len(simulated.rates) - 1)][:, :, units]
    return np.asarray(rates.reshape(len(first), -1, per_bin, len(units)).mean(2), np.float32)


def hand_path(path: Path) -> str:
    """Return the in-file path of the hand's velocity."""
    (series,) = [
        each.path for each in sb.inspect(path).series if each.path.endswith(str(get_definition(NAME).behavior))
    ]
    return series


def observed_share(ds: xr.Dataset, share: float, seed: int) -> xr.Dataset:
    """Observe a share of the units in each bin, drawn anew for each."""
    return observe(ds, max(1, round(share * ds.sizes["channel"])), seed=seed)


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw R² by the share observed, in the mean over seeds."""
    names = list(dict.fromkeys(row["observed"] for row in rows))
    figure = canvas(5, 3.5)
    axes = figure.subplots()
    colours = {
        "true rates": "#888888",
        "reachable": "#CC79A7",
        "rates": "#0072B2",
        "factors": "#009E73",
        "smoothed counts": "#D55E00",
    }
    for key, colour in colours.items():
        means = [np.mean([row[key] for row in rows if row["observed"] == name]) for name in names]
        axes.plot(names, means, "o-", color=colour, label=key)
    axes.set(xlabel="samples observed", ylabel="R² of hand velocity (validation)")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
