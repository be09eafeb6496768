"""Whether a learned system ever hurts: hidden entries of test trials of recordings, by the model alone and with its system.

A fifth of the trials of each file is left for the test. Each of their entries is hidden once and predicted from the others,
by the model alone, and by model and system as a fit with the defaults infers them (`with system`): bits per spike of counts,
over the mean rate of the hidden entries of each channel, or R² of signals, mean over channels. Shares are those of the system
and of the hidden Markov model beside it,
decided on the validation trials; `none` says why no system was learned.

    python benchmarks/recorded_systems.py recording.nwb other.nwb --json recorded_systems.json
    python benchmarks/recorded_systems.py recording.nwb --set read.bin_width=0.05
    python benchmarks/recorded_systems.py --small
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from fits import fitted_to, lorenz_task, take_settings, without_system
from machine import options, save, show
from sklearn.metrics import r2_score
from threadpoolctl import threadpool_limits

import nwb_sbtt as sb
from nwb_sbtt.config import ReadConfig, override
from nwb_sbtt.evaluate import bits_per_spike
from nwb_sbtt.fitting.forward import why_without


def main() -> None:
    """Fit each file and print the table."""
    parser = options(__doc__, small="a short simulated recording, two epochs", figure=False)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of splits, masks and models")
    take_settings(parser)
    arguments = parser.parse_args()
    reading = [text.removeprefix("read.") for text in arguments.settings if text.startswith("read.")]
    fitting = [text for text in arguments.settings if not text.startswith("read.")]
    rows = []
    recordings: dict[str, Callable[[], xr.Dataset]] = {
        path.name: partial(sb.read_nwb, path, override(ReadConfig(), reading)) for path in arguments.files
    }
    if arguments.small:
        recordings = {"simulated": lambda: lorenz_task(10, seed=0, conditions=4).drop_vars("split")}
        small = ["train.epochs=2", "model.width=16", "model.groups=4", "dynamics.steps=5", "dynamics.courses=32"]
        fitting = [*small, *fitting]
    with threadpool_limits(1):
        for name, read in recordings.items():
            ds = read()
            for seed in arguments.seeds:
                config = override(sb.FitConfig(seed=seed, test_fraction=0.2), fitting)
                rows.append({"file": name, "seed": seed, **_row(ds, config)})
                print(rows[-1], flush=True)
                save(arguments.json, vars(arguments), rows)
    show(rows)


def _row(ds: xr.Dataset, config: sb.FitConfig) -> dict[str, Any]:
    with fitted_to(ds, config) as (fitted, seconds):
        name = fitted.session_name()
        split = np.asarray(fitted.signature.sessions[name].split)
        test = ds.isel(trial=np.flatnonzero(split == "test"))
        (member,) = fitted.members
        row: dict[str, Any] = {"kind": str(ds.attrs["kind"]), "shape": "×".join(map(str, ds["values"].shape))}
        started = time.process_time()
        row["model"] = _score(without_system(fitted), test, name)
        between = time.process_time()
        row["with system"] = _score(fitted, test, name)
        row |= {"share": 0.0, "share, Markov": 0.0, "window": 0, "none": ""}
        if member.dynamics is None:
            row["none"] = why_without(fitted)
        else:
            row |= {"share": float(member.dynamics.shares[name]), "window": int(member.dynamics.window)}
            if (markov := member.dynamics.markov) is not None:
                row["share, Markov"] = float(markov.shares[name])
        infer = f"{between - started:.0f}, {time.process_time() - between:.0f}"
        return {**row, "CPU-s of fit": seconds, "CPU-s of inference": infer}


def _score(fitted: sb.Fitted, test: xr.Dataset, name: str) -> float:
    """Bits per spike, or R², of entries that are hidden in turn."""
    hidden = fitted.hide_in_turn(test, session=name)
    scored = hidden.turn >= 0
    if fitted.expects_counts:
        return bits_per_spike(hidden.expected, hidden.values, scored)
    each = [
        r2_score(values[where], expected[where])
        for values, expected, where in zip(
            *(np.moveaxis(box, 2, 0) for box in (hidden.values, hidden.expected, scored)), strict=True
        )
        if where.any() and np.ptp(values[where])
    ]
    return float(np.mean(each))


if __name__ == "__main__":
    main()
