"""The simulated tasks by name, with the few settings that all of them have, as a Dataset or as an NWB file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import xarray as xr

from nwb_sbtt.errors import DataError
from nwb_sbtt.io.write.simulation import check_simulation_path, write_simulation
from nwb_sbtt.simulate.calcium import LADDER, calcium, subframe
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz
from nwb_sbtt.simulate.perturbation import KickedOscillation, perturbation
from nwb_sbtt.simulate.population import check_positive, check_split_by

TASKS = ("lorenz", "perturbation", "calcium", "calcium-subframe")
SIZES = {
    "lorenz": (29, 65, 24),
    "perturbation": (29, 65, 24),
    "calcium": (30, 65, 20),
    "calcium-subframe": (278, 32, 30),
}
"""Channels, conditions and trials per condition of the published tasks."""


@dataclass(frozen=True)
class Task:
    """A task to simulate, by its name; the functions `lorenz`, `perturbation` and `calcium` have further settings.

    Parameters
    ----------
    name : "lorenz", "perturbation", "calcium" or "calcium-subframe"
        Counts of neurons that follow a Lorenz system from a starting point on; counts that follow an oscillation which is
        kicked at an unknown time; fluorescence of cells that follow a Lorenz system, all sampled at once, or each at its own
        moment of a frame.
    n_channels, conditions, trials_per_condition : int, optional
        Neurons, starting points of the latents, and trials from each. Default: as in the published task.
    speed : float
        Of the latents, in multiples of the published one.
    split_by : "trial" or "condition"
        Whether validation trials share their starting points with training trials, or have their own.
    seed : int

    Raises
    ------
    DataError
        If there is no task of that name, or a setting is out of range.

    Examples
    --------
    >>> dict(Task("perturbation", conditions=3, trials_per_condition=5).simulate().sizes)
    {'trial': 15, 'time': 50, 'channel': 29, 'latent': 2, 'true_input': 2}
    """

    name: str = "lorenz"
    n_channels: int | None = None
    conditions: int | None = None
    trials_per_condition: int | None = None
    speed: float = 1.0
    split_by: str = "trial"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise DataError(f"there is no simulated task {self.name!r}; expected one of {', '.join(TASKS)}")
        check_positive(self, "speed")
        check_split_by(self.split_by)

    def simulate(self) -> xr.Dataset:
        """Simulate the task.

        Returns
        -------
        Dataset
            As `lorenz`, `perturbation` or `calcium` makes it: trials with ``true_rates``, ``true_latents`` and, where the
            task has them, ``true_inputs``, ``true_spikes`` and ``true_calcium``.

        Raises
        ------
        DataError
            If a size is too small, or `speed` so high that the latents of "calcium" diverge.
        """
        split_by: Literal["trial", "condition"] = "condition" if self.split_by == "condition" else "trial"
        sizes = (self.n_channels, self.conditions, self.trials_per_condition)
        n_channels, conditions, trials = (
            published if size is None else size for size, published in zip(sizes, SIZES[self.name], strict=True)
        )
        if self.name.startswith("calcium"):
            frames = replace(LADDER, step=LADDER.step * self.speed)
            return calcium(
                n_channels=n_channels,
                conditions=conditions,
                trials_per_condition=trials,
                seed=self.seed,
                split_by=split_by,
                imaging=frames if self.name == "calcium" else subframe(frequency=7.0 * self.speed),
            )
        if self.name == "lorenz":
            return lorenz(
                n_channels=n_channels,
                conditions=conditions,
                trials_per_condition=trials,
                seed=self.seed,
                dynamics=LorenzDynamics(speed=LorenzDynamics.speed * self.speed, split_by=split_by),
            )
        published = KickedOscillation()
        return perturbation(
            n_channels=n_channels,
            conditions=conditions,
            trials_per_condition=trials,
            seed=self.seed,
            dynamics=KickedOscillation(
                frequency=published.frequency * self.speed,
                relaxation=published.relaxation / self.speed,
                split_by=split_by,
            ),
        )


def write_task(
    path: Path | str, task: Task | None = None, *, observed_per_bin: int | None = None, overwrite: bool = False
) -> Path:
    """Simulate a task and write it to an NWB file, with its truth; see `nwb_sbtt.io.write.simulation.write_simulation`.

    Parameters
    ----------
    path, observed_per_bin, overwrite
        As `write_simulation` takes them.
    task : Task, optional
        Default: the Lorenz task of the published demo.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError, DataError
        As `Task.simulate` and `write_simulation` do; whether the file may be written is checked before anything is simulated.

    Examples
    --------
    >>> write_task("kicked.nwb", Task("perturbation", speed=2), observed_per_bin=10)  # doctest: +SKIP
    """
    task = task or Task()
    target = check_simulation_path(path, overwrite=overwrite)
    return write_simulation(
        target, task.simulate(), observed_per_bin=observed_per_bin, seed=task.seed, overwrite=overwrite
    )
