"""Time and peak memory of one training step of the default model, by the number of bins of a trial.

Two trials of 30 channels. Beyond 512 bins products over time are made in tiles; `--whole` makes them of whole trials, as
shorter ones have them: then work and memory grow with the square of the bins. Each case is a separate process: a forward and
a backward pass on one thread. Memory is the largest resident size of the process, with some 0.3 GiB of Python and torch.

    python benchmarks/long_trials.py --json long_trials.json --figure long_trials.png
    python benchmarks/long_trials.py --bins 1000 2000 --whole
    python benchmarks/long_trials.py --small
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

from machine import apart, canvas, options, report
from matplotlib.figure import Figure

GIB = 2**30


def main() -> None:
    """Measure each case and print the table."""
    parser = options(__doc__, small="trials of 100 and 600 bins")
    parser.add_argument("--bins", type=int, nargs="*", default=[250, 500, 1000, 2000, 4000, 16000])
    parser.add_argument("--channels", type=int, default=30)
    parser.add_argument("--whole", action="store_true", help="never in tiles")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for bins in [100, 600] if arguments.small else arguments.bins:
        case = {name: getattr(arguments, name) for name in ("channels", "whole", "seed")}
        rows.append({"bins": bins, **apart(measure, bins=bins, **case)})
        print(rows[-1], file=sys.stderr, flush=True)
    report(arguments, rows, lambda: _figure(rows))


def measure(*, bins: int, channels: int, whole: bool, seed: int) -> dict[str, float]:
    """Take a forward and a backward pass in this process."""
    import torch

    from nwb_sbtt.batch import Batch
    from nwb_sbtt.config import ConvConfig
    from nwb_sbtt.models import make_model
    from nwb_sbtt.nn import convolution
    from nwb_sbtt.nn.channels import channel_statistics
    from nwb_sbtt.train.objective import Weights, objective
    from nwb_sbtt.train.schedules import fill

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    if whole:
        convolution.LONG_TRIAL = sys.maxsize
    counts = torch.poisson(torch.full((2, bins, channels), 0.1), generator=generator)
    everything = torch.ones_like(counts, dtype=torch.bool)
    batch = Batch(counts, everything, everything, everything, torch.arange(2))
    model = make_model(fill(ConvConfig(), [64]), {batch.session: channel_statistics(batch)}, "poisson").train()
    started = time.process_time()
    objective(model, batch, generator, Weights(kl=0.1, l2=0.0)).total.backward()  # type: ignore[no-untyped-call]
    return {
        "CPU-seconds": time.process_time() - started,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / GIB,
    }


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(7, 3.2)
    for axis, name in zip(figure.subplots(1, 2), ("CPU-seconds", "peak GiB"), strict=True):
        axis.loglog([row["bins"] for row in rows], [row[name] for row in rows], "o-", color="#0072B2")
        axis.set(xlabel="bins of a trial", ylabel=name)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
