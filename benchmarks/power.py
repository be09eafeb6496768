"""R² of inferred to true rates against the power of a recording device, in µW per channel.

The Lorenz task of `accuracy.py`: k of 29 neurons sampled in each bin, drawn again in each (speckled masks). R² is read from
its table (--accuracy FILE, written by `accuracy.py --json`), mean over the seeds, or found by a fit at each level. Power
follows from the masks and published figures (`nwb_sbtt.data.published_devices`); its columns are cumulative:

* full: all channels sampled in all bins;
* conversions: only conversions are dropped;
* radio: what was not sampled is not sent either;
* settling: amplifiers are switched off too, and on again so long before a sample. No device was published with this
  time: a high-pass filter settles to 1 % in 1.5 ms at 500 Hz, in .7 s at 1 Hz.

A column is empty where the device's figure is unknown; parts without a figure are in no column.

    python benchmarks/accuracy.py --json accuracy.json
    python benchmarks/power.py --accuracy accuracy.json --json power.json --figure docs/power.png
    python benchmarks/power.py --small
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from fits import N_NEURONS, fitted_to, lorenz_task, take_settings
from machine import canvas, options, report
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.config import override
from nwb_sbtt.evaluate.metrics import r2

DEVICES = sb.data.published_devices()
STEPS = {"conversions": ("only conversions dropped", "#777777"), "radio": ("and bits not sent", "#0072B2")}
"""With their labels and colours in the figure."""
SWITCHED = ("#D55E00", "#E69F00", "#CC79A7")
"""Colours of settling times."""


def main() -> None:
    """Compute R² and power at each level and print the table."""
    parser = options(__doc__, small="a tenth of the data, five epochs, two levels, two devices")
    parser.add_argument("--accuracy", type=Path, help="table of accuracy.py (--json); without it, models are fitted")
    parser.add_argument("--levels", type=int, nargs="+", default=[29, 10, 5, 2], help="neurons sampled per bin")
    parser.add_argument("--seed", type=int, default=0, help="of data, masks and models")
    parser.add_argument(
        "--devices", nargs="+", default=["karpowicz_2024", "wattanapanitch_2011_radio"], choices=DEVICES
    )
    parser.add_argument(
        "--settling", type=float, nargs="+", default=[0.0015, 0.02, 0.7], help="seconds of an amplifier"
    )
    take_settings(parser)
    arguments = parser.parse_args()
    conditions = 65
    if arguments.small:
        arguments.levels, conditions, arguments.settings = [29, 10], 7, ["train.epochs=5", *arguments.settings]
    known = {} if arguments.accuracy is None else accuracies(arguments.accuracy)
    if missing := [k for k in arguments.levels if known and k not in known]:
        parser.error(f"{arguments.accuracy} has no R² at {missing} of {N_NEURONS}; available: {sorted(known)}")
    rows = []
    for k in arguments.levels:
        ds = lorenz_task(k, seed=arguments.seed, conditions=conditions)
        score = known[k] if known else _fitted_r2(ds, arguments)
        for name in arguments.devices:
            powers = power_columns(ds, DEVICES[name], arguments.settling)
            rows.append({"device": name, "sampled of 29": k, "R2": score, **powers})
    report(arguments, rows, lambda: _figure(rows, arguments.devices))


def accuracies(path: Path) -> dict[int, float]:
    """Read R² by level from a table of `accuracy.py`; mean over seeds."""
    rows = json.loads(path.read_text())["rows"]
    levels = sorted({row["observed of 29"] for row in rows})
    return {k: float(np.mean([row["R2"] for row in rows if row["observed of 29"] == k])) for k in levels}


def power_columns(ds: Any, device: sb.data.Device, settling: list[float]) -> dict[str, float | str]:
    """Power of a device under the mask of these data [µW per channel]; a column is empty where a figure is unknown."""
    saved = sb.data.power_saved(ds, device)
    steps = {"full": saved.full, "conversions": saved.conversions, "radio": saved.radio}
    for seconds in settling:
        steps[f"settling {1000 * seconds:g} ms"] = sb.data.power_saved(ds, replace(device, settling=seconds)).amplifiers
    return {name: "" if step is None else step.total / saved.n_channels for name, step in steps.items()}


def _fitted_r2(ds: Any, arguments: argparse.Namespace) -> float:
    config = override(sb.FitConfig(seed=arguments.seed), arguments.settings)
    valid = ds.isel(trial=np.flatnonzero(ds["split"].values == "valid"))
    with fitted_to(ds, config) as (fitted, _):
        return r2(valid["true_rates"].values, fitted.infer(valid)["rates"].values)


def _figure(rows: list[dict[str, Any]], devices: list[str]) -> Figure:
    figure = canvas(4.6 * len(devices), 4.2)
    panels = np.atleast_1d(figure.subplots(1, len(devices), sharey=True))
    labels: dict[str, Any] = {}
    for axes, name in zip(panels, devices, strict=True):
        labels |= _panel(axes, [row for row in rows if row["device"] == name])
        axes.set(title=name, xlabel="power [µW per channel]", xlim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"R² of rates; numbers: sampled of {N_NEURONS}")
    labels = dict(sorted(labels.items(), key=lambda item: item[0].startswith("and amplifiers")))
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def _panel(axes: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Draw a line for each step that is known, from all neurons to the fewest; return the lines by their labels."""
    scores = [row["R2"] for row in rows]
    columns = list(rows[0])
    settling = [name for name in columns if name.startswith("settling")]
    steps = {step: style for step, style in STEPS.items() if all(row[step] != "" for row in rows)}
    for step, colour in zip(settling, cycle(SWITCHED), strict=False):
        steps[step] = (f"and amplifiers off; {step}", colour)
    lines = {}
    for step, (label, colour) in steps.items():
        powers = [row[step] for row in rows]
        (lines[label],) = axes.plot(powers, scores, "o-", color=colour, markersize=4)
        if step == settling[0]:
            for row, power in zip(rows, powers, strict=True):
                near = {"xytext": (-5, 3), "textcoords": "offset points", "ha": "right"}
                axes.annotate(str(row["sampled of 29"]), (power, row["R2"]), color=colour, **near)
    return lines


if __name__ == "__main__":
    main()
