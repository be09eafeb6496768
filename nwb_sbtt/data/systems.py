"""The simulated tasks by name, with the few settings that all of them have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import xarray as xr

from nwb_sbtt.data.perturbation import KickedOscillation, perturbation
from nwb_sbtt.data.population import check_positive, check_split_by
from nwb_sbtt.data.simulate import LorenzDynamics, lorenz
from nwb_sbtt.errors import DataError

SYSTEMS = ("lorenz", "perturbation")


@dataclass(frozen=True)
class Simulation:
    """A task to simulate; `lorenz` and `perturbation` have further settings.

    Parameters
    ----------
    system : "lorenz" or "perturbation"
        Courses that the start decides, or courses that something unseen changes at an unknown time.
    n_channels, conditions, trials_per_condition : int
        Neurons; starts of the latents; trials from each start.
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
    n_channels: int = 29
    conditions: int = 65
    trials_per_condition: int = 24
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
        if self.system == "lorenz":
            return lorenz(
                n_channels=self.n_channels,
                conditions=self.conditions,
                trials_per_condition=self.trials_per_condition,
                seed=self.seed,
                dynamics=LorenzDynamics(speed=LorenzDynamics.speed * self.speed, split_by=split_by),
            )
        usual = KickedOscillation()
        return perturbation(
            n_channels=self.n_channels,
            conditions=self.conditions,
            trials_per_condition=self.trials_per_condition,
            seed=self.seed,
            dynamics=KickedOscillation(
                frequency=usual.frequency * self.speed,
                relaxation=usual.relaxation / self.speed,
                split_by=split_by,
            ),
        )
