"""CPU-seconds of one training step of LFADS and of a plain implementation of it, in alternation.

A step includes coordinated dropout, both passes, the loss on hidden entries with its KL terms, clipping, AdamW, and for ours
the moving average of the weights. Same widths, bins, channels and batch for all rows. Differences by design: ours reads
channels in by 32 sums and their smoothed copies, and has one encoder for initial condition and controller where the plain
one has two; "GFLOP" is the actual number of operations of the matrix products (at paper size ours saves a sixth, at the
small one nothing). Its dropout is drawn for all bins at once, and the controller gets the generator's state without dropout.

"matrix rate" is the speed of this machine for the plain implementation's matrix products alone (every shape, as often as it
occurs); "share" is the time of a row's products at that rate, relative to its CPU-seconds.
"of floor" is the time of the plain implementation's products, relative to the row's CPU-seconds.

The last row is the convolutional model with its own default widths, whatever the widths of the others: the cost
of a default `fit`.

--calcium has the shape of the ladder papers' data: 65 trials of 30 ROIs and 100 bins, which LFADS without a controller (every
width 64, 3 factors) reads as counts, and a ladder with its defaults as fluorescence.

    python benchmarks/step_time.py --json step_time.json --figure step_time.png
    python benchmarks/step_time.py --calcium --json calcium.json --figure calcium.png
    python benchmarks/step_time.py --small
    python benchmarks/step_time.py --reference other_implementation.py   # a file with a class LFADS(n, co=, gen=, fac=)
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import canvas, machine, options, report
from matplotlib.figure import Figure
from plain_lfads import PlainLFADS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import ConvConfig, FitConfig, GaussianConfig, LadderConfig, LFADSConfig, MaskConfig, ModelConfig
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.models import make_model
from nwb_sbtt.models.ladder import Ladder
from nwb_sbtt.nn.channels import ChannelStatistics, channel_statistics
from nwb_sbtt.simulate.calcium import LADDER, calcium
from nwb_sbtt.train import schedules
from nwb_sbtt.train.loop import _Run

HIDDEN = 0.3
"""Share of the entries hidden from the encoder, and dropout of units."""


@dataclass(frozen=True)
class Size:
    """Sizes that all rows share."""

    channels: int
    steps: int
    inputs: int
    generator: int
    factors: int
    batch: int = 64


PAPER = Size(channels=202, steps=140, inputs=4, generator=200, factors=100)
SMALL = Size(channels=29, steps=50, inputs=1, generator=64, factors=8)
CALCIUM = Size(channels=30, steps=100, inputs=1, generator=64, factors=3, batch=65)
FEW_CALCIUM = Size(channels=6, steps=40, inputs=1, generator=64, factors=3, batch=16)
Step = Callable[[], object]


def main() -> None:
    """Measure and print the table."""
    parser = options(__doc__, small="29 channels × 50 bins, every width 64 (seconds), or few trials and ROIs")
    parser.add_argument("--calcium", action="store_true", help="the shape of the ladder papers' data")
    parser.add_argument("--repeats", type=int, help="steps of each row; the median is shown (default 9, small 15)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or mps; wall time counts but on a CPU")
    parser.add_argument("--reference", type=Path, help="file with the class LFADS to measure instead of the plain one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    large, small = (CALCIUM, FEW_CALCIUM) if arguments.calcium else (PAPER, SMALL)
    size = small if arguments.small else large
    device = torch.device(arguments.device)
    steps = {
        "plain": _plain(size, arguments.reference, device),
        "nwb_sbtt": _ours(size, _lfads(size, size.inputs), device),
        "nwb_sbtt, no controller": _ours(size, _lfads(size, 0), device),
        "nwb_sbtt, conv": _ours(size, ConvConfig(dropout=HIDDEN), device),
    }
    if arguments.calcium:
        steps["nwb_sbtt, ladder"] = _ladder(size, arguments.seed, device)
    repeats = arguments.repeats or (15 if arguments.small else 9)
    rows = _table(steps, repeats) if device.type == "cpu" else _wall_table(steps, repeats, device)
    print({**machine(), "threads": arguments.threads, "device": str(device), **vars(size)})
    report(argparse.Namespace(**vars(arguments), **vars(size)), rows, lambda: _figure(rows))


def _lfads(size: Size, inputs: int) -> LFADSConfig:
    return LFADSConfig(
        encoder=64,
        initial_condition=64,
        controller=64,
        inputs=inputs,
        generator=size.generator,
        factors=size.factors,
        dropout=HIDDEN,
    )


def _ours(size: Size, model: ModelConfig, device: torch.device) -> Step:
    """Make a step on counts for a model's config."""
    counts = _counts(size)
    everywhere = torch.ones_like(counts, dtype=torch.bool)
    batch = Batch(counts, everywhere, everywhere, everywhere, torch.arange(size.batch))
    return _of_fit(batch, channel_statistics(batch), model, device)


def _ladder(size: Size, seed: int, device: torch.device) -> Step:
    imaging = replace(LADDER, n_bins=size.steps)
    ds = calcium(n_channels=size.channels, conditions=size.batch, trials_per_condition=1, seed=seed, imaging=imaging)
    batch, model = to_batch(ds), LadderConfig(dropout=HIDDEN)
    statistics = Ladder.measure(
        batch, config=model, likelihood=GaussianConfig(), bin_width=imaging.bin_width, channel_values={}
    )
    return _of_fit(batch, statistics, model, device, mask_length=round(1 / imaging.bin_width))


def _of_fit(
    batch: Batch, statistics: ChannelStatistics, model: ModelConfig, device: torch.device, *, mask_length: int = 1
) -> Step:
    """Make one step of the training loop of `fit`."""
    config = FitConfig(model=model, masks=MaskConfig(coordinated_dropout=(HIDDEN, HIDDEN)))
    net = make_model(model, {"session": statistics}, "poisson").train().to(device)
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(net, config, Path(folder), schedules.plan(config, [len(batch.trials)]), mask_length)
    generator, masked = torch.Generator(device).manual_seed(0), batch.to(str(device))
    return lambda: run.step([(masked, generator)], 1, 500, total_steps=1000)


def _plain(size: Size, path: Path | None, device: torch.device) -> Step:
    if path is None:
        net: nn.Module = PlainLFADS(
            size.channels, inputs=size.inputs, generator=size.generator, factors=size.factors, dropout=HIDDEN
        )
    else:
        spec = importlib.util.spec_from_file_location("reference", path)
        if spec is None or spec.loader is None:
            raise SystemExit(f"cannot load {path}; --reference takes a Python file with a class LFADS")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        net = module.LFADS(size.channels, co=size.inputs, gen=size.generator, fac=size.factors)
    net = net.to(device)
    optimizer, counts = torch.optim.AdamW(net.parameters(), 1e-3), _counts(size).to(device)

    def step() -> None:
        shown = torch.bernoulli(torch.full_like(counts, 1 - HIDDEN))
        log_rates, kl = net(counts * shown / (1 - HIDDEN))
        nll = nn.functional.poisson_nll_loss(log_rates, counts, full=True, reduction="none")
        loss = (nll * (1 - shown)).sum() / (1 - shown).sum() + 1e-6 * kl
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 200.0)
        optimizer.step()

    return step


def _counts(size: Size) -> torch.Tensor:
    return torch.poisson(torch.full((size.batch, size.steps, size.channels), 0.1))


def _table(steps: dict[str, Step], repeats: int) -> list[dict[str, Any]]:
    products = {name: _products(step) for name, step in steps.items()}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            before = time.process_time(), time.perf_counter()
            step()
            cpu[name].append(time.process_time() - before[0])
            wall[name].append(time.perf_counter() - before[1])
    floor = sum(n * _seconds(shape) for shape, n in products["plain"].items())
    rate = _gflop(products["plain"]) / floor
    return [
        {
            "model": name,
            "CPU s/step": median(cpu[name]),
            "ratio": median(cpu[name]) / median(cpu["plain"]),
            "wall s/step": median(wall[name]),
            "GFLOP": _gflop(products[name]),
            "GFLOP/s": _gflop(products[name]) / median(cpu[name]),
            "matrix rate": rate,
            "share": _gflop(products[name]) / rate / median(cpu[name]),
            "of floor": floor / median(cpu[name]),
        }
        for name in steps
    ]


def _wall_table(steps: dict[str, Step], repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Wall time of each step until the device has finished, which is what the processor's own time does not show."""

    def seconds(step: Step) -> float:
        torch.accelerator.synchronize(device)
        before = time.perf_counter()
        step()
        torch.accelerator.synchronize(device)
        return time.perf_counter() - before

    for step in steps.values():
        step()
    wall: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            wall[name].append(seconds(step))
    plain = median(wall["plain"])
    return [{"model": name, "wall s/step": median(wall[name]), "ratio": median(wall[name]) / plain} for name in steps]


Shape = tuple[int, int, int, int]
"""Shape of a matrix product: batch, rows, inner, columns."""


class _Recorder(TorchDispatchMode):
    """Counts matrix products by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Shape] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ("mm", "addmm", "bmm", "baddbmm"):
            a, b = args[-2:]
            self.products[a.shape[0] if a.dim() == 3 else 1, a.shape[-2], a.shape[-1], b.shape[-1]] += 1
        return func(*args, **(kwargs or {}))


def _products(step: Step) -> Counter[Shape]:
    step()
    with _Recorder() as recorder:
        step()
    return recorder.products


def _gflop(products: Counter[Shape]) -> float:
    return sum(2 * n * batch * rows * inner * columns for (batch, rows, inner, columns), n in products.items()) / 1e9


def _seconds(shape: Shape) -> float:
    batch, rows, inner, columns = shape
    a, b, out = torch.randn(batch, rows, inner), torch.randn(batch, inner, columns), torch.empty(batch, rows, columns)
    times = max(3, int(2e9 / (2 * batch * rows * inner * columns) / 20))
    took = []
    for _ in range(4):
        before = time.process_time()
        for _ in range(min(times, 200)):
            for x, y, z in zip(a, b, out, strict=True):
                torch.mm(x, y, out=z)
        took.append((time.process_time() - before) / min(times, 200))
    return min(took)


def _figure(rows: list[dict[str, Any]]) -> Figure:
    figure = canvas(7, 2.4)
    axes = figure.subplots()
    names = [row["model"] for row in rows][::-1]
    measure = "CPU s/step" if "CPU s/step" in rows[0] else "wall s/step"
    axes.barh(names, [row[measure] for row in rows][::-1], color="#0072B2", height=0.6)
    axes.set_xlabel("seconds a step")
    if "GFLOP" in rows[0]:
        axes.barh(names, [row["GFLOP"] / row["matrix rate"] for row in rows][::-1], color="#E69F00", height=0.6)
        axes.set_xlabel("CPU-seconds a step (orange: its matrix products alone)")
    for i, row in enumerate(rows[::-1]):
        axes.text(row[measure], i, f" {row['ratio']:.2f}", va="center")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
