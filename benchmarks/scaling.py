"""Time and peak memory of one training step, by the number of observed samples and by the number of channels.

64 trials of 100 bins in which 1 % of all channels is observed at a time: with 10^5 to 10^8 observed samples these are 1562
to 1,562,500 channels. Then 10^7 samples of more and more channels. Each case is a separate process: a sparse batch, a model
at its default widths, and a step as in training: 64 trials, half of the observed entries hidden, both passes, clipping,
AdamW, running average. CPU-seconds of one thread, median of the steps after the first; memory is the largest resident size
of the process, with data, weights, gradients, both moments and the average in it. "channel part" is the time beyond that of
a step with 100 channels and next to no samples; up to about 10^5 samples it is within the noise.

    python benchmarks/scaling.py --json scaling.json --figure scaling.png
    python benchmarks/scaling.py --samples 64e6 --channels
    python benchmarks/scaling.py --small
"""

from __future__ import annotations

import argparse
import copy
import resource
import sys
import time
from typing import Any

import numpy as np
from machine import apart, canvas, options, report
from matplotlib.figure import Figure

GIB = 2**30
DENSITY = 0.01
FIXED = 1e7
"""Observed samples if the number of channels is varied."""


def main() -> None:
    """Measure each case and print the table."""
    parser = options(__doc__, small="8 trials of 20 bins, 64,000 samples at most")
    samples = [1e5, 3.2e5, 1e6, 3.2e6, 1e7, 3.2e7, 6.4e7, 1e8]
    parser.add_argument("--samples", type=float, nargs="*", default=samples, help="observed, 1 %% of all there are")
    parser.add_argument("--channels", type=float, nargs="*", default=[5e3, 5e4, 1e6], help="with 10^7 samples observed")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--bins", type=int, default=100)
    parser.add_argument("--steps", type=int, default=3, help="beside the first, which is not counted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", dest="model_name", choices=["lfads", "conv"], default="lfads")
    arguments = parser.parse_args()
    fixed = FIXED
    if arguments.small:
        arguments.samples, arguments.channels, arguments.trials, arguments.bins, fixed = [6.4e4], [4e3], 8, 20, 3.2e4
    rows_of_bins = arguments.trials * arguments.bins
    base = _case(100, rows_of_bins, arguments)
    cases = [("1 % observed", round(n / rows_of_bins / DENSITY), n) for n in arguments.samples]
    cases += [("as many observed", round(channels), fixed) for channels in arguments.channels]
    rows = []
    for series, channels, n in cases:
        result = _case(channels, n, arguments)
        beyond = result["seconds"] - base["seconds"]
        rows.append(
            {
                "series": series,
                "samples": round(result["samples"]),
                "channels": channels,
                "CPU-seconds a step": result["seconds"],
                "channel part": beyond,
                "ns a sample": beyond / result["samples"] * 1e9,
                "peak GiB": result["peak"] / GIB,
                "weights GiB": result["weights"] / GIB,
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    report(arguments, rows, lambda: _figure(rows, base["seconds"]))
    print(f"a step of 100 channels, nothing but the recurrent part: {base['seconds']:.3f} CPU-seconds")
    first = [row for row in rows if row["series"] == "1 % observed" and row["samples"] >= 1e6]
    if len(first) > 1:
        print(f"slope of log channel part by log samples, from 10^6 on: {slope(first):.3f}")


def slope(rows: list[dict[str, Any]]) -> float:
    """Return the exponent with which the channel part grows with the number of samples."""
    x, y = (np.log([row[name] for row in rows]) for name in ("samples", "channel part"))
    return float(np.polyfit(x, y, 1)[0])


def measure(
    *, trials: int, bins: int, channels: int, samples: float, steps: int, seed: int, model_name: str
) -> dict[str, float]:
    """Take training steps in this process."""
    import torch

    from nwb_sbtt import masks
    from nwb_sbtt.config import ConvConfig, LFADSConfig
    from nwb_sbtt.models import make_model
    from nwb_sbtt.nn.channels import channel_statistics
    from nwb_sbtt.train.objective import Weights, objective

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    data = draw(trials, bins, channels, per_bin=max(1, round(samples / trials / bins)), generator=generator)
    config = {"lfads": LFADSConfig, "conv": ConvConfig}[model_name]()
    model = make_model(config, {data.session: channel_statistics(data)}, "poisson")
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    seconds = []
    for _ in range(steps + 1):
        started = time.process_time()
        batch = data.select(torch.randperm(trials, generator=generator))
        batch = masks.coordinated_dropout(batch, 0.5, generator)
        optimizer.zero_grad()
        objective(model, batch, generator, Weights(kl=0.1, l2=0.0)).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, parameter in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(parameter, 0.01)
        seconds.append(time.process_time() - started)
    return {
        "samples": float(len(data.values)),
        "seconds": float(np.median(seconds[1:])),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0),
        "weights": float(sum(p.numel() * p.element_size() for p in model.parameters())),
    }


def draw(trials: int, bins: int, channels: int, *, per_bin: int, generator: Any) -> Any:
    """Simulate counts of 1 in `per_bin` random channels in each bin, one from each of as many equal groups."""
    import torch

    from nwb_sbtt.batch import sparse_batch

    n_rows, part = trials * bins, channels // per_bin
    channel = torch.randint(0, part, (n_rows, per_bin), generator=generator, dtype=torch.int32)
    channel += torch.arange(per_bin, dtype=torch.int32) * part
    row = torch.arange(n_rows, dtype=torch.int16)
    return sparse_batch(
        (row // bins).repeat_interleave(per_bin),
        (row % bins).repeat_interleave(per_bin),
        channel=channel.flatten(),
        values=torch.empty(n_rows * per_bin).geometric_(0.7, generator=generator).sub_(1),
        shape=(trials, bins, channels),
    )


def _case(channels: int, samples: float, arguments: argparse.Namespace) -> dict[str, float]:
    case = {name: getattr(arguments, name) for name in ("trials", "bins", "steps", "seed", "model_name")}
    return dict(apart(measure, channels=channels, samples=samples, **case))


def _figure(rows: list[dict[str, Any]], base: float) -> Figure:
    figure = canvas(10, 3.4)
    axes = figure.subplots(1, 3)
    varied = [row for row in rows if row["series"] == "1 % observed"]
    fixed = [row for row in rows if row["series"] != "1 % observed"]
    n, channel_part = ([row[name] for row in varied] for name in ("samples", "channel part"))
    channel_part = [y if y > base / 20 else float("nan") for y in channel_part]
    axes[0].loglog(n, [row["CPU-seconds a step"] for row in varied], "o-", color="#0072B2", label="whole step")
    axes[0].loglog(n, channel_part, "s-", color="#D55E00", label="beyond that of 100 channels")
    axes[0].loglog(n, [channel_part[-1] * x / n[-1] for x in n], "--", color="#888888", label="in proportion")
    axes[0].axhline(base, color="#0072B2", lw=0.7, ls=":")
    axes[0].set(xlabel="observed samples (1 % of all)", ylabel="CPU-seconds a step")
    axes[1].loglog(n, [row["peak GiB"] for row in varied], "o-", color="#0072B2", label="peak, whole process")
    axes[1].loglog(n, [5 * row["weights GiB"] for row in varied], "s-", color="#D55E00", label="weights × 5")
    axes[1].axhline(8, color="#888888", ls="--", lw=0.7)
    axes[1].set(xlabel="observed samples (1 % of all)", ylabel="GiB")
    for label, name, marker in (("CPU-seconds a step", "CPU-seconds a step", "o-"), ("peak GiB", "peak GiB", "s-")):
        axes[2].loglog([row["channels"] for row in fixed], [row[name] for row in fixed], marker, label=label)
    axes[2].set(xlabel="channels, as many samples observed", ylim=(0.1, 10))
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
