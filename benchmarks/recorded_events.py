"""Events found in recorded fluorescence, compared with those that suite2p stored in the same file, for each ROI.

The file is suite2p's own output as NWB: `Fluorescence`, neuropil and `Deconvolved` of the same ROIs. Ours come from
`read_nwb` with the settings of `nwb-sbtt fit` (decay time estimated per ROI, noise from the spectrum, a penalty as large as
the noise allows); suite2p has one decay time for all and no penalty. `r` is the correlation frame by frame, `r of 3` of sums
of three frames, and `same decay` the former with our decay time set to `--decay`, 1 s being suite2p's default for GCaMP6m.

    python benchmarks/recorded_events.py --file ../shared/realdata/ophys/nwb_test.nwb --json recorded.json --figure recorded.png
    python benchmarks/recorded_events.py --small
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from machine import canvas, options, report, show_medians
from matplotlib.figure import Figure
from numpy.typing import NDArray
from spike_inference import correlation

import nwb_sbtt as sb

Floats = NDArray[np.float64]
FLUORESCENCE, DECONVOLVED = "*/RoiResponseSeries", "*/Deconvolved"


@dataclass(frozen=True)
class Session:
    """A session and its table, with a row for each ROI.

    Parameters
    ----------
    name : str
        Name of the events in the file.
    rows : list of dict
    raw, denoised, ours, theirs : array (frame, ROI)
        Fluorescence, denoised fluorescence, events of this package, events of the file.
    """

    name: str
    rows: list[dict[str, Any]]
    raw: Floats
    denoised: Floats
    ours: Floats
    theirs: Floats


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Find the events and print the table."""
    parser = options(__doc__, small="four simulated cells beside their true spikes instead")
    parser.add_argument("--file", type=Path, default=Path("../shared/realdata/ophys/nwb_test.nwb"))
    parser.add_argument("--decay", type=float, default=1.0, help="seconds, of the column `same decay`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the generated file")
    arguments = parser.parse_args(argv)
    simulated = arguments.seeds if arguments.small else []
    sessions = [_simulated(seed, arguments.decay) for seed in simulated] or [_recorded(arguments.file, arguments.decay)]
    rows = [row for session in sessions for row in session.rows]
    report(arguments, rows, lambda: _figure(sessions[0]))
    show_medians(rows, ("r", "r of 3", "same decay"))
    return rows


def _recorded(path: Path, decay: float) -> Session:
    theirs = _flat(sb.read_nwb(path, series=DECONVOLVED), "values")
    return _compared("suite2p", path, sb.ReadConfig(series=(FLUORESCENCE,)), theirs=theirs, decay=decay)


def _simulated(seed: int, decay: float) -> Session:
    with tempfile.TemporaryDirectory() as folder:
        path = sb.simulate.write_task(Path(folder) / "calcium.nwb", sb.simulate.Task("calcium", 4, 2, 3, seed=seed))
        read = sb.ReadConfig(cut=sb.Trials(event="start_time", start=0, stop=10))
        spikes = sb.simulate.read_truth(path, sb.read_nwb(path, read))
        return _compared("true spikes", path, read, theirs=_flat(spikes, "true_spikes"), decay=decay)


def _flat(ds: xr.Dataset, name: str) -> Floats:
    """Array (frame, ROI) of a session: overlapping windows merged, or trials one after another."""
    chopped = "trial_id" not in ds.coords
    return np.concatenate((sb.data.merge(ds) if chopped else ds)[name].values)


def _compared(name: str, path: Path, read: sb.ReadConfig, *, theirs: Floats, decay: float) -> Session:
    events, same_decay = (
        sb.read_nwb(path, read.model_copy(update={"events": config}))
        for config in (sb.config.EventsConfig(), sb.config.EventsConfig(decay_time=decay))
    )
    ours, same = _flat(events, "values"), _flat(same_decay, "values")
    rows = [
        {
            "roi": int(events["channel_id"].values[i]),
            "decay": float(events["decay"].values[i]),
            "within": float(np.exp(events["decay_log_sd"].values[i])),
            "noise": float(events["noise"].values[i]),
            "frames with events": float((ours[:, i] > 0).mean()),
            "r": correlation(ours[:, i], theirs[:, i]),
            "r of 3": correlation(_threes(ours[:, i]), _threes(theirs[:, i])),
            "same decay": correlation(same[:, i], theirs[:, i]),
        }
        for i in range(ours.shape[1])
    ]
    as_it_is = sb.read_nwb(path, read.model_copy(update={"rois": sb.config.RoiConfig(deconvolve="never")}))
    return Session(name, rows, _flat(as_it_is, "values"), _flat(events, "denoised"), ours, theirs)


def _threes(values: Floats) -> Floats:
    n = len(values) // 3
    return np.asarray(values[: 3 * n].reshape(n, 3).sum(1))


def _figure(session: Session) -> Figure:
    rows = session.rows
    order = np.argsort([row["r"] for row in rows])
    picks = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
    figure = canvas(11, 7)
    axes = figure.subplots(2, 3, sharex=True)
    for (what, i), (above, below) in zip(picks.items(), axes.T, strict=True):
        above.plot(session.raw[:, i], color="0.6", lw=0.8, label="recorded")
        above.plot(session.denoised[:, i], color="C0", lw=1, label="from the events, neuropil taken off")
        above.set_title(f"{what}: ROI {rows[i]['roi']}, r = {rows[i]['r']:.2f}, decay {rows[i]['decay']:.2f} s")
        below.plot(session.ours[:, i], color="C0", lw=1, label="ours")
        below.plot(-session.theirs[:, i], color="C1", lw=1, label=f"{session.name}, downwards")
        below.set_xlabel("frame")
    axes[0, 0].set_ylabel("fluorescence")
    axes[1, 0].set_ylabel("size of events")
    axes[0, 0].legend(fontsize=8)
    axes[1, 0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
