"""Is what was inferred the right system? Fits to systems whose truth is known (`systems.py`), by the share of samples observed.

On validation trials, a fifth, unless said otherwise:

* rates: R² of the true rates, weighted by variance.
* states: R² of the inferred latents, decoded linearly from the true states (fitted to training trials). What a model has
  invented cannot be decoded. The scale of latents is the model's own; `log-rates` is the same of what it says of channels.
* cycle: R² of the latents that are read back from the inferred log-rates, which are linear in them: latents that move no rate
  are lost on the way (Versteeg et al. 2025).
* few, many: bits per spike on ten neurons that no fit was given, by Poisson regression on the latents of 10 training trials
  (mean of five draws), and of 100. Needless latents cost bits where trials are few (Dabholkar and Barak 2025,
  doi:10.1371/journal.pcbi.1013789).
* cross: R² of the latents of a fit decoded linearly from those of another one with another seed, mean of both ways (--twice).
* dsa: distance of the dynamics of latents to those of the true states by Dynamical Similarity Analysis (Ostrow et al. 2023,
  arXiv:2306.10168), 0 where one is the other in other coordinates (--dsa, needs the package dsa-metric).
* exponent: largest Lyapunov exponent per bin of the learned system, without inputs, beside the true one. `away` is how far
  its runs end from states that data visit (share of the states' typical distance from their mean).
* points: fixed points of the learned system without inputs, and the true ones; stable ones, or all where the truth has no
  stable one. Distances are as channels see them, after the true states were mapped linearly to the learned ones, as a share of
  the states' typical distance from their mean: `missed` from each true one to the nearest learned one, `invented` the other
  way, medians. `eigenvalue` is the median difference of the leading eigenvalues' magnitudes of such pairs.

Models: `dynamics` (the default that learns a system) has two rows: `conv`, the network alone, its factors as latents, which is
what the defaults fit (`--models conv` fits nothing else); and `dynamics`, what the fit returns, the states of the system as
latents (`system rates` are those of the system alone, `share` is its part in the rates). Further models: `lfads`, alone;
`linear` (linear dynamical system); `gpfa` (low-rank Wiener filter: a few Gaussian processes with measured autocovariances,
linear read-out). The last two have no known inputs, and their latents are the logarithms of their rates, so that nothing is
lost in a cycle.

    python benchmarks/right_system.py --json right_system.json --figure right_system.png
    python benchmarks/right_system.py --systems flip-flop --models dynamics lfads --shares 1 --twice
    python benchmarks/right_system.py --small
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from fits import fitted_to, take_settings, without_system
from flipflop import NEURONS, dataset
from machine import canvas, options, report, save
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, PoissonRegressor
from sklearn.metrics import r2_score
from systems import SYSTEMS, System
from threadpoolctl import threadpool_limits

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.evaluate import MaskedData, bits_per_spike
from nwb_sbtt.evaluate.baselines import predict
from nwb_sbtt.fitting.dynamics.held import HeldSystem
from nwb_sbtt.fitting.dynamics.stability import exponents_of, points_of
from nwb_sbtt.models.courses import weigh
from nwb_sbtt.models.stability import find_fixed_points, lyapunov_exponents

MODELS = {
    "conv": ["dynamics=null"],
    "dynamics": [],
    "lfads": ["model.name=lfads", "dynamics=null"],
}
"""Their settings."""
BASELINES = {"linear": "linear_dynamics", "gpfa": "low_rank_wiener"}
FEW, MANY, DRAWS = 10, 100, 5
"""Trials that further neurons are regressed on, and draws of the few."""
PENALTY = 1e-3
"""Of the squared weights of these regressions, of latents with a mean square of 1."""
KEPT = 0.99
"""Share of the squared singular values of the read-out that a cycle goes through."""
COMPONENTS, DELAYS, RANK = 8, 5, 10
"""Of `dsa`: principal components at most, delays, and rank of the linear systems that are compared."""
STARTS, RUNS, SETTLE = 128, 8, 200
"""Starts of the search for fixed points; runs for the exponent, and bins before it is measured, ten times `length` at most."""
LEAST_COUNT = 1e-6
"""Expected of a neuron that did not fire in the trials that it is regressed on."""
Floats = NDArray[np.float64]


def main() -> None:
    """Fit each model to each system at each share, and print the scores."""
    parser = options(__doc__, small="one system, few trials, epochs and steps, one share")
    parser.add_argument("--systems", nargs="+", default=[*SYSTEMS], choices=[*SYSTEMS])
    parser.add_argument("--models", nargs="+", default=["dynamics", "lfads", *BASELINES], choices=[*MODELS, *BASELINES])
    parser.add_argument("--shares", type=float, nargs="+", default=[1, 1 / 3, 0.1], help="of samples observed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of systems, masks and models")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--length", type=int, default=500, help="bins over which Lyapunov exponents are measured")
    parser.add_argument("--starts", type=int, default=STARTS, help="of the search for fixed points")
    parser.add_argument("--twice", action="store_true", help="fit each model with a second seed too, for `cross`")
    parser.add_argument("--dsa", action="store_true", help="compute `dsa`, a few seconds a row")
    take_settings(parser)
    arguments = parser.parse_args()
    if arguments.dsa and importlib.util.find_spec("DSA") is None:
        parser.error("--dsa needs the package dsa-metric: pip install dsa-metric")
    training = 1.0
    if arguments.small:
        arguments.systems, arguments.models = ["chaotic"], ["dynamics", "gpfa"]
        arguments.trials, arguments.shares, training = 40, [1 / 3], 0.01
        arguments.length, arguments.starts = 5, 16
        small = ["train.epochs=2", "model.width=16", "model.groups=4", "dynamics.steps=5", "dynamics.courses=32"]
        arguments.settings = [*small, *arguments.settings]
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for name in arguments.systems:
            system = SYSTEMS[name](seed, trials=arguments.trials, steps=training)
            truth = Truth.of(system, length=arguments.length, starts=arguments.starts)
            for share in arguments.shares:
                for model in arguments.models:
                    where = {"system": name, "observed": f"{share:.0%}", "seed": seed}
                    for row in _rows(system, truth, model, share=share, seed=seed, arguments=arguments):
                        rows.append({**where, **row})
                        print(rows[-1], flush=True)
                    save(arguments.json, vars(arguments), rows)
    report(arguments, rows, lambda: _figure(rows))


@dataclass(frozen=True)
class Points:
    """Fixed points: states (point, dimension), magnitudes of leading eigenvalues, and which of them are stable."""

    states: Floats
    leading: Floats

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Where all near states approach."""
        return np.asarray(self.leading < 1)

    def only(self, where: NDArray[np.bool_]) -> Points:
        """Return some of them."""
        return Points(self.states[where], self.leading[where])


@dataclass(frozen=True)
class Truth:
    """Largest exponent per bin and fixed points of a system without inputs."""

    exponent: float
    points: Points

    @classmethod
    def of(cls, system: System, *, length: int, starts: int = STARTS) -> Truth:
        """Compute them from states of its trials, the exponent over `length` bins."""
        visited = torch.from_numpy(system.states.reshape(-1, system.states.shape[2]))
        drawn = visited[np.random.default_rng(0).integers(len(visited), size=max(starts, RUNS))]
        with torch.no_grad():
            found = find_fixed_points(system.free, drawn[:starts], within=np.inf)
            leading = torch.linalg.eigvals(found.jacobians).abs().amax(1)
            settle = min(SETTLE, 10 * length)
            grown = lyapunov_exponents(system.free, drawn[:RUNS], n_steps=length, settle=settle, within=np.inf)
        return cls(float(grown.exponents[:, 0].mean()), Points(found.states.numpy(), leading.numpy()))


def state_r2(true: Floats, latents: Floats, train: NDArray[np.bool_]) -> float:
    """R² of latents (trial, time, latent) of the other trials, decoded linearly from true states; weighted by variance."""
    decoder = LinearRegression().fit(_flat(true[train]), _flat(latents[train]))
    return float(
        r2_score(_flat(latents[~train]), decoder.predict(_flat(true[~train])), multioutput="variance_weighted")
    )


def cycle_r2(latents: Floats, rates: Floats, train: NDArray[np.bool_]) -> float:
    """R² of latents of the other trials that are read back from their log-rates; weighted by variance.

    Log-rates are regressed on latents, and brought back by the pseudo-inverse of the table, without its weakest directions.
    """
    centre, z = _flat(latents[train]).mean(0), _flat(latents)
    table = LinearRegression().fit(_flat(latents[train]), np.log(_flat(rates[train]))).coef_.T
    left, values, right = np.linalg.svd(table, full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(values**2), KEPT * (values**2).sum())) + 1
    z = (z - centre).reshape(latents.shape)[~train]
    back = z @ table @ (right[:kept].T / values[:kept]) @ left[:, :kept].T
    return float(r2_score(_flat(z), _flat(back), multioutput="variance_weighted"))


def dsa_distance(true: Floats, latents: Floats) -> float:
    """Distance of the dynamics of latents (trial, time, latent) to those of true states, by the package dsa-metric."""
    parts = [_components(each, min(COMPONENTS, true.shape[2], latents.shape[2])) for each in (latents, true)]
    analysis = importlib.import_module("DSA").DSA(*parts, n_delays=DELAYS, rank=RANK, score_method="angular")
    return float(analysis.fit_score())


def held_out_bits(
    latents: Floats, counts: NDArray[np.integer], rows: NDArray[np.intp], valid: NDArray[np.bool_]
) -> float:
    """Bits per spike on other neurons (trial, time, neuron) of valid trials, regressed on the latents of some trials."""
    centred = latents - latents[rows].mean((0, 1))
    features = centred / np.sqrt((centred[rows] ** 2).sum(2).mean() / centred.shape[2])
    given, wanted = _flat(features[rows]), _flat(features[valid])
    expected = np.full((len(wanted), counts.shape[2]), LEAST_COUNT)
    for i, target in enumerate(_flat(counts[rows]).T):
        if target.any():
            expected[:, i] = PoissonRegressor(alpha=PENALTY, max_iter=300).fit(given, target).predict(wanted)
    scored = _flat(counts[valid])
    return bits_per_spike(expected, scored, np.ones(scored.shape, bool))


def compare_points(true: Points, learned: Points, to_learned: Any, metric: Floats, scale: float) -> dict[str, Any]:
    """Distances of true and learned fixed points; true states are mapped to learned ones, and both to what channels see."""
    row: dict[str, Any] = {"true points": f"{len(true.states)} ({true.stable.sum()} stable)"}
    row["points"] = f"{len(learned.states)} ({learned.stable.sum()} stable)"
    if true.stable.any():
        true, learned = true.only(true.stable), learned.only(learned.stable)
    row |= dict.fromkeys(("missed", "invented", "eigenvalue"), float("nan"))
    if len(true.states) and len(learned.states):
        apart = np.linalg.norm((to_learned(true.states)[:, None] - learned.states) @ metric, axis=2) / scale
        nearest = apart.argmin(1)
        row["missed"], row["invented"] = float(np.median(apart.min(1))), float(np.median(apart.min(0)))
        row["eigenvalue"] = float(np.median(np.abs(true.leading - learned.leading[nearest])))
    return row


@dataclass(frozen=True)
class Inferred:
    """What a model says of all trials: rates [Hz] (trial, time, neuron), latents, and further columns of its row.

    `alone` are the rates of a learned system alone.
    """

    model: str
    rates: Floats
    latents: Floats
    columns: dict[str, Any]
    alone: Floats | None = None


def _rows(
    system: System, truth: Truth, model: str, *, share: float, seed: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Score a model, and the network alone where it learns a system."""
    ds = dataset(system.counts, system.inputs, observed=round(share * NEURONS), seed=seed, bin_width=system.bin_width)
    train = ds["split"].values == "train"
    if model in BASELINES:
        found = [_baseline(model, ds, train)]
    else:
        config = override(sb.FitConfig(seed=seed), [*MODELS[model], *_suited(arguments.settings, model)])
        with fitted_to(ds, config) as (fitted, seconds):
            found = _inferred(model, fitted, ds, seconds)
            if config.dynamics is not None:
                found[-1].columns.update(_system_scores(system, truth, fitted, ds, arguments))
        if arguments.twice:
            again = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed + 1000})})
            with fitted_to(ds, again) as (other, seconds):
                for one, two in zip(found, _inferred(model, other, ds, seconds), strict=True):
                    ways = (one.latents, two.latents), (two.latents, one.latents)
                    one.columns["cross"] = float(np.mean([state_r2(*way, train) for way in ways]))
    random = np.random.default_rng(seed)
    draws = [random.permutation(np.flatnonzero(train)) for _ in range(DRAWS)]
    return [_row(each, system, truth, train, draws, dsa=arguments.dsa) for each in found]


def _row(
    found: Inferred,
    system: System,
    truth: Truth,
    train: NDArray[np.bool_],
    draws: list[NDArray[np.intp]],
    *,
    dsa: bool,
) -> dict[str, Any]:
    latents = found.latents
    row: dict[str, Any] = {
        "model": found.model,
        "rates": _rates_r2(system, found.rates, train),
        "states": state_r2(system.states, latents, train),
        "log-rates": state_r2(system.states, np.log(found.rates), train),
        "cycle": cycle_r2(latents, found.rates, train),
        "few": float(np.mean([held_out_bits(latents, system.apart, rows[:FEW], ~train) for rows in draws])),
        "many": held_out_bits(latents, system.apart, draws[0][:MANY], ~train),
        "true exponent": truth.exponent,
        **found.columns,
    }
    if found.alone is not None:
        row["system rates"] = _rates_r2(system, found.alone, train)
    if dsa:
        row["dsa"] = dsa_distance(system.states[~train], latents[~train])
    return row


def _rates_r2(system: System, rates: Floats, train: NDArray[np.bool_]) -> float:
    return float(r2_score(_flat(system.rates[~train]), _flat(rates[~train]), multioutput="variance_weighted"))


def _baseline(model: str, ds: xr.Dataset, train: NDArray[np.bool_]) -> Inferred:
    started = time.process_time()
    data = MaskedData(ds["values"].values, ds["observed"].values, train, is_counts=True)
    with threadpool_limits(limits=1, user_api="blas"):
        rates = predict(BASELINES[model], data).expected.astype(float) / float(ds.attrs["bin_width"])
    return Inferred(model, rates, np.log(rates), {"CPU-s": time.process_time() - started})


def _inferred(model: str, fitted: sb.Fitted, ds: xr.Dataset, seconds: float) -> list[Inferred]:
    """Of the network, and of the network with its system, whose courses are weighed for the states."""
    (member,), session = fitted.members, fitted.session_name()
    of_network = without_system(fitted).infer(ds)
    rates, factors = (of_network[name].values.astype(float) for name in ("rates", "factors"))
    if member.dynamics is None:
        return [Inferred(model, rates, factors, {"CPU-s": seconds})]
    of_system = weigh(member.dynamics, to_batch(ds, session))
    states, expected = (each.double().numpy() for each in (of_system.states, of_system.expected))
    both = fitted.infer(ds)["rates"].values.astype(float)
    columns = {"CPU-s": seconds, "share": float(member.dynamics.shares[session])}
    alone = expected / float(ds.attrs["bin_width"])
    return [Inferred("conv", rates, factors, {}), Inferred(model, both, states, columns, alone)]


def _suited(settings: list[str], model: str) -> list[str]:
    """Settings of the default model and of its system are none of others."""
    left_out = {"conv": ("dynamics.",), "lfads": ("dynamics.", "model.")}.get(model, ())
    return [text for text in settings if not text.startswith(left_out)]


def _system_scores(
    system: System, truth: Truth, fitted: sb.Fitted, ds: xr.Dataset, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Scores of the learned system, without inputs."""
    train = ds["split"].values == "train"
    zeros = np.zeros(len(system.inputs)) if system.inputs else None
    held = HeldSystem.of(fitted, ds, session=None, inputs=zeros)
    states, metric = held.states.numpy(), held.metric().numpy()
    to_learned = LinearRegression().fit(_flat(system.states[train]), _flat(states[train]))
    seen = _flat(states) @ metric
    scale = float(np.sqrt(((seen - seen.mean(0)) ** 2).sum(1).mean()))
    points = points_of(held, starts=arguments.starts)
    values = points["eigenvalue"].values
    learned = Points(points["state"].values, np.hypot(values[..., 0], values[..., 1]).max(1, initial=0))
    grown = exponents_of(held, runs=RUNS, bins=arguments.length)
    return {
        "exponent": float(grown["exponent"]) * system.bin_width,
        "away": float(grown["distance"].median()),
        **compare_points(truth.points, learned, to_learned.predict, metric, scale),
    }


def _components(array: Floats, n: int) -> Floats:
    """First principal components, in units of the sd of the first."""
    flat = _flat(array) - _flat(array).mean(0)
    _, values, axes = np.linalg.svd(flat, full_matrices=False)
    return np.asarray((flat @ axes[:n].T) * (len(flat) ** 0.5 / values[0])).reshape(*array.shape[:2], n)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, array.shape[-1])


def _figure(rows: list[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(row["system"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = canvas(2.6 * len(names), 4.6)
    axes = figure.subplots(2, len(names), squeeze=False, sharex=True)
    for j, name in enumerate(names):
        for i, score in enumerate(("rates", "states")):
            for model, colour in zip(models, ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#888888"), strict=False):
                ours = [row for row in rows if (row["system"], row["model"]) == (name, model)]
                shares = list(dict.fromkeys(row["observed"] for row in ours))
                means = [np.mean([row[score] for row in ours if row["observed"] == share]) for share in shares]
                axes[i, j].plot(shares, means, "o-", ms=3.5, color=colour, label=model)
            axes[i, j].set(ylim=(min(0.0, *(row[score] for row in rows)), 1.02))
        axes[0, j].set_title(name)
        axes[1, j].set_xlabel("samples observed")
    axes[0, 0].set_ylabel("R² of the true rates")
    axes[1, 0].set_ylabel("R² of latents\nfrom true states")
    axes[0, 0].legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
