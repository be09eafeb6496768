"""The simulated tasks by name, with the few settings that all of them have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import xarray as xr

from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.calcium import LADDER, calcium, subframe
from nwb_sbtt.simulate.lorenz import LorenzDynamics, lorenz
from nwb_sbtt.simulate.perturbation import KickedOscillation, perturbation
from nwb_sbtt.simulate.population import check_positive, check_split_by

SYSTEMS = ("lorenz", "perturbation", "calcium", "calcium-subframe")
SIZES = {"calcium": (30, 65, 20), "calcium-subframe": (278, 32, 30)}
"""Channels, conditions and trials of each, where the published task has others than the first has."""


@dataclass(frozen=True)
class Simulation:
    """A task to simulate; `lorenz`, `perturbation` and `calcium` have further settings.

    Parameters
    ----------
    system : "lorenz", "perturbation", "calcium" or "calcium-subframe"
        Courses that the start decides, or courses that something unseen changes at an unknown time; or those of the start seen
        by fluorescence, of all cells at once, or of each at its own moment of a frame.
    n_channels, conditions, trials_per_condition : int, optional
        Neurons; starts of the latents; trials from each start. As in the published task where nothing is said.
    speed : float
        Of the latents, in multiples of the usual.
    split_by : "trial" or "condition"
        Whether validation trials share their starts with training trials, or have their own.
    seed : int

    Raises
    ------
    DataError
        If a setting is not possible.
    """

    system: str = "lorenz"
    n_channels: int | None = None
    conditions: int | None = None
    trials_per_condition: int | None = None
    speed: float = 1.0
    split_by: str = "trial"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise DataError(f"there is no system {self.system!r} to simulate; known are {', '.join(SYSTEMS)}")
        check_positive(self, "speed")
        check_split_by(self.split_by)

    def data(self) -> xr.Dataset:
        """Simulate it: trials of counts with ``true_rates``, ``true_latents`` and, where there are any, ``true_inputs``.

        Raises
        ------
        DataError
            If a size is too small.
        """
        split_by: Literal["trial", "condition"] = "condition" if self.split_by == "condition" else "trial"
        given = (self.n_channels, self.conditions, self.trials_per_condition)
        usual = SIZES.get(self.system, (29, 65, 24))
        n_channels, conditions, trials = (size if own is None else own for own, size in zip(given, usual, strict=True))
        if self.system.startswith("calcium"):
            slow = replace(LADDER, step=LADDER.step * self.speed)
            return calcium(
                n_channels=n_channels,
                conditions=conditions,
                trials_per_condition=trials,
                seed=self.seed,
                split_by=split_by,
                task=slow if self.system == "calcium" else subframe(frequency=7.0 * self.speed),
            )
        if self.system == "lorenz":
            return lorenz(
                n_channels=n_channels,
                conditions=conditions,
                trials_per_condition=trials,
                seed=self.seed,
                dynamics=LorenzDynamics(speed=LorenzDynamics.speed * self.speed, split_by=split_by),
            )
        kicked = KickedOscillation()
        return perturbation(
            n_channels=n_channels,
            conditions=conditions,
            trials_per_condition=trials,
            seed=self.seed,
            dynamics=KickedOscillation(
                frequency=kicked.frequency * self.speed,
                relaxation=kicked.relaxation / self.speed,
                split_by=split_by,
            ),
        )
