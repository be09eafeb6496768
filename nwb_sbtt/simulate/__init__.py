"""Systems with known truth: what they are, and how they are written to NWB files and their truth is read back.

`lorenz`, `perturbation`, `calcium` (and `subframe`) make Datasets, `population` holds what they share, `systems` has them by
name, `files` writes them, and `latents_benchmark` makes files like those of the Neural Latents Benchmark. May import everything
but the command line.
"""

from __future__ import annotations

from nwb_sbtt.io.read.truth import read_truth
from nwb_sbtt.io.write.simulation import write_simulation
from nwb_sbtt.simulate.calcium import Imaging, calcium, subframe
from nwb_sbtt.simulate.files import simulate, simulate_lorenz
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz
from nwb_sbtt.simulate.perturbation import KickedOscillation, perturbation
from nwb_sbtt.simulate.systems import Simulation

__all__ = [
    "Imaging",
    "KickedOscillation",
    "LorenzDynamics",
    "Simulation",
    "calcium",
    "lorenz",
    "perturbation",
    "read_truth",
    "simulate",
    "simulate_lorenz",
    "subframe",
    "write_simulation",
]
