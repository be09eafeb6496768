"""Latents, rates, spikes and denoised fluorescence, inferred from fluorescence on the simulated data of the ladder papers.

`lorenz` is the set of Prince & Richards 2019 (30 cells, 65 conditions × 20 trials, 100 bins of 0.1 s, noise 0.2 of a spike),
`valpaca` that of Prince et al. 2021 (90 bins at 30 Hz, noise 0.5 or 0.2). Models: the ladder; LFADS that matches two moments
of the fluorescence, or four (Edgeworth), all without the true spike amplitude, decay time, noise sd and baseline; LFADS and
the convolutional model on events found by OASIS; and both on the true spikes. Squared Pearson correlation of arrays
flattened over trials, bins and cells, as published, and 1 − SSE/SST, on the validation trials; latents are decoded linearly
from the factors, fitted to the training trials; fluorescence against the noisy trace. In the papers' split validation trials
share conditions with training trials; `--split condition` holds out whole conditions, `--observed 10` leaves 10 cells in each
frame, drawn anew. A fit that learns a system has two rows, `network` is without it; `shares` are those of the system and of the
hidden Markov model. Sizes set by `--set model.…` are for
the convolutional model and the ladder.

    python benchmarks/ladder.py --seeds 0 1 2 3 4 --json ladder.json --figure ladder.png
    python benchmarks/ladder.py --models "Gaussian LFADS" "Edgeworth LFADS" --set train.epochs=50
    python benchmarks/ladder.py --small
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import observe, without_system
from machine import machine, save, show
from numpy.typing import NDArray

import nwb_sbtt as sb
from nwb_sbtt.config import (
    ConvConfig,
    ConvolutionConfig,
    EdgeworthConfig,
    GaussianMomentsConfig,
    LadderConfig,
    LFADSConfig,
    override,
)
from nwb_sbtt.evaluate.metrics import pearson_r2
from nwb_sbtt.simulate.calcium import LADDER, VALPACA, calcium
from nwb_sbtt.train.trackers import Silent

PUBLISHED: dict[tuple[str, float], dict[str, tuple[float | None, ...]]] = {
    ("lorenz", 0.2): {
        "LFADS on spikes": (0.978, 0.970, None, None),
        "OASIS + LFADS": (0.924, 0.946, 0.950, None),
        "Gaussian LFADS": (0.898, 0.771, None, 0.001),
        "Edgeworth LFADS": (0.614, 0.097, None, 0.001),
        "ladder LFADS": (0.962, 0.943, 0.697, 0.850),
    },
    ("valpaca", 0.5): {
        "LFADS on spikes": (0.956, 0.913, None, None),
        "Gaussian LFADS": (0.479, 0.322, None, None),
        "OASIS + LFADS": (0.803, 0.714, 0.464, 0.916),
        "VaLPACa": (0.955, 0.929, 0.585, 0.919),
    },
    ("valpaca", 0.2): {
        "LFADS on spikes": (0.953, 0.908, None, None),
        "Gaussian LFADS": (0.469, 0.317, None, None),
        "OASIS + LFADS": (0.788, 0.593, 0.438, 0.824),
        "VaLPACa": (0.418, 0.398, 0.713, 0.970),
    },
}
"""Squared Pearson correlation of latents, rates, spikes and fluorescence."""
QUANTITIES = ("latents", "rates", "spikes", "fluorescence")


def main() -> None:
    """Fit each model to each data set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["lorenz", "valpaca"], default="lorenz")
    parser.add_argument("--noise", type=float, help="sd, in spikes [default: .2 and .5]")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="[default: all]")
    parser.add_argument("--split", choices=["trial", "condition"], default="trial")
    parser.add_argument("--observed", type=int, help="cells that are sampled in each frame [default: all]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of data, masks and models")
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="changes of the defaults, a.b=value")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument(
        "--small", action="store_true", help="few cells and trials, three epochs, by default the ladder alone"
    )
    arguments = parser.parse_args()
    imaging = LADDER if arguments.task == "lorenz" else VALPACA
    arguments.noise = imaging.noise_sd if arguments.noise is None else arguments.noise
    imaging, sizes = replace(imaging, noise_sd=arguments.noise), {}
    if arguments.small:
        arguments.models, imaging = arguments.models or ["ladder"], replace(imaging, n_bins=40)
        sizes = {"n_channels": 4, "conditions": 4, "trials_per_condition": 5}
        arguments.settings = ["train.epochs=3", *arguments.settings]
    arguments.models = arguments.models or list(MODELS)
    rows = []
    for seed in arguments.seeds:
        ds = calcium(seed=seed, split_by=arguments.split, imaging=imaging, **sizes)
        ds = observe(ds, arguments.observed or ds.sizes["channel"], seed=seed)
        for model in arguments.models:
            for row in _rows(ds, model, override(sb.FitConfig(seed=seed), arguments.settings)):
                rows.append({"seed": seed, **row})
                print(rows[-1], flush=True)
    print(machine())
    show(rows)
    save(arguments.json, vars(arguments), rows)
    if arguments.figure:
        _figure(rows, PUBLISHED.get((arguments.task, arguments.noise), {}), arguments.figure)


def _ladder(ds: xr.Dataset, config: sb.FitConfig) -> tuple[xr.Dataset, sb.FitConfig]:
    return ds, config.model_copy(update={"model": LadderConfig(**_sizes(config))})


def _events(ds: xr.Dataset, config: sb.FitConfig) -> tuple[xr.Dataset, sb.FitConfig]:
    return sb.calcium.find_events(ds), config


def _spikes(ds: xr.Dataset, config: sb.FitConfig) -> tuple[xr.Dataset, sb.FitConfig]:
    attrs = {name: text for name, text in ds.attrs.items() if not name.startswith("signal")}
    counted = ds.assign(values=ds["true_spikes"], observed=xr.ones_like(ds["observed"]))
    return counted.assign_attrs({**attrs, "unit": "counts", "kind": "units"}), config


def _moments(ds: xr.Dataset, config: sb.FitConfig) -> tuple[xr.Dataset, sb.FitConfig]:
    return ds, config.model_copy(update={"likelihood": GaussianMomentsConfig()})


def _edgeworth(ds: xr.Dataset, config: sb.FitConfig) -> tuple[xr.Dataset, sb.FitConfig]:
    return ds, config.model_copy(update={"likelihood": EdgeworthConfig()})


LFADS, CONV = True, False
MODELS = {
    "ladder": (_ladder, CONV),
    "OASIS + conv": (_events, CONV),
    "conv on spikes": (_spikes, CONV),
    "LFADS on spikes": (_spikes, LFADS),
    "OASIS + LFADS": (_events, LFADS),
    "Gaussian LFADS": (_moments, LFADS),
    "Edgeworth LFADS": (_edgeworth, LFADS),
}


def _sizes(config: sb.FitConfig) -> dict[str, Any]:
    assert isinstance(config.model, ConvConfig)
    return config.model.model_dump(include=set(ConvolutionConfig.model_fields) - {"name"})


def _rows(ds: xr.Dataset, model: str, config: sb.FitConfig) -> Iterator[dict[str, Any]]:
    """Score a fit, and its network alone where it has learned a system."""
    started = time.process_time()
    made, by_lfads = MODELS[model]
    data, config = made(ds, config)
    if by_lfads:
        config = config.model_copy(update={"model": LFADSConfig()})
    with tempfile.TemporaryDirectory() as folder:
        fitted = sb.fit(data, config, run_dir=Path(folder) / "run", tracker=Silent())
        spent: dict[str, Any] = {"CPU-seconds": time.process_time() - started, "epochs": len(fitted.history)}
        (member,), name = fitted.members, fitted.session_name()
        if (system := member.dynamics) is not None:
            yield {"model": f"{model}, network", **_scores(ds, without_system(fitted).infer(data))}
            shares = [system.shares, *([] if system.markov is None else [system.markov.shares])]
            spent["shares"] = ", ".join(f"{float(each[name]):.2f}" for each in shares)
        yield {"model": model, **_scores(ds, fitted.infer(data)), **spent}


def _scores(ds: xr.Dataset, latents: xr.Dataset) -> dict[str, Any]:
    valid = ds["split"].values == "valid"
    true_latents = ds["true_latents"].values
    factors = np.insert(latents["factors"].values, 0, 1.0, axis=2)
    n_latents = true_latents.shape[2]
    weights, *_ = np.linalg.lstsq(
        factors[~valid].reshape(-1, factors.shape[2]), true_latents[~valid].reshape(-1, n_latents), rcond=None
    )
    observed = ds["observed"].values[valid]
    pairs: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "latents": (true_latents[valid].reshape(-1, n_latents), (factors[valid] @ weights).reshape(-1, n_latents))
    }
    rates = latents["rates" if "rates" in latents else "mean"]
    pairs["rates"] = (ds["true_rates"].values[valid], rates.values[valid])
    if "events" in latents:
        pairs["spikes"] = (ds["true_spikes"].values[valid], latents["events"].values[valid])
    light = latents["mean"] if {"rates", "mean"} <= set(latents) else latents.get("denoised")
    if light is not None:
        pairs["fluorescence"] = (ds["values"].values[valid][observed], light.values[valid][observed])
    row: dict[str, Any] = dict.fromkeys(f"{name}, r²" for name in QUANTITIES)
    for name, (true, inferred) in pairs.items():
        known = np.isfinite(inferred)  # There is no estimate of frames that could not be used.
        row[f"{name}, r²"] = pearson_r2(true[known], inferred[known])
    for name in ("latents", "rates"):
        true, inferred = pairs[name]
        row[f"{name}, R²"] = float(1 - ((true - inferred) ** 2).sum() / ((true - true.mean()) ** 2).sum())
    return row


def _figure(rows: list[dict[str, Any]], published: dict[str, tuple[float | None, ...]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(row["model"] for row in rows))
    names = [*models, *(name for name in published if name not in models)]
    for i, name in enumerate(names):
        for j, quantity in enumerate(QUANTITIES):
            x = j + 0.8 * ((i + 0.5) / len(names) - 0.5)
            values = [row[f"{quantity}, r²"] for row in rows if row["model"] == name]
            defined = [value for value in values if value is not None]
            axes.plot([x] * len(defined), defined, "o", ms=4, color=f"C{i}", label=name if values and j == 0 else None)
            said = published[name][j] if name in published else None
            if said is not None:
                label = f"{name}, published" if j == 0 else None
                axes.plot([x - 0.04, x + 0.04], [said] * 2, color=f"C{i}", lw=2, label=label)
    axes.set(xticks=range(len(QUANTITIES)), xticklabels=QUANTITIES, ylabel="squared correlation", ylim=(None, 1.01))
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
