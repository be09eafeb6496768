"""Data with known truth: simulated tasks, and how they are written to NWB files and their truth is read back.

* `lorenz`, `perturbation`, `calcium` (with `Imaging` and `subframe`) simulate a Dataset, with all settings of the task.
* `Task` names one of them with the few settings that all have; `write_task` writes it to a file.
* `learned` has what writes trials of the system that a fit has learned.
* `write_simulation` writes a Dataset of your own that carries its truth; `read_truth` reads the truth of any of these files.

`population` has what the tasks share, `latents_benchmark` makes files like those of the Neural Latents Benchmark. May import
everything but the command line. Imported eagerly: functions have the names of their modules.
"""

from __future__ import annotations

from nwb_sbtt.io.read.truth import read_truth
from nwb_sbtt.io.write.simulation import write_simulation
from nwb_sbtt.simulate.calcium import Imaging, calcium, subframe
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz
from nwb_sbtt.simulate.perturbation import KickedOscillation, perturbation
from nwb_sbtt.simulate.tasks import Task, write_task

__all__ = [
    "Imaging",
    "KickedOscillation",
    "LorenzDynamics",
    "Task",
    "calcium",
    "lorenz",
    "perturbation",
    "read_truth",
    "subframe",
    "write_simulation",
    "write_task",
]
