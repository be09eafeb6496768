"""Simulated tasks written to NWB files, by the name of the task."""

from __future__ import annotations

from pathlib import Path

from nwb_sbtt.io.write.simulation import new_target, write_simulation
from nwb_sbtt.simulate.systems import Simulation


def simulate(
    path: Path | str,
    simulation: Simulation | None = None,
    *,
    observed_per_bin: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Simulate a task by name and write it to an NWB file, with its truth.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    simulation : Simulation, optional
        The Lorenz task of the published demo where nothing is said.
    observed_per_bin, overwrite
        As for `write_simulation`.

    Raises
    ------
    FileError, DataError
        As `write_simulation`.

    Examples
    --------
    >>> from nwb_sbtt.simulate import Simulation
    >>> simulate("kicked.nwb", Simulation("perturbation", speed=2))  # doctest: +SKIP
    """
    simulation = simulation or Simulation()
    target = new_target(path, overwrite=overwrite)
    return write_simulation(
        target, simulation.data(), observed_per_bin=observed_per_bin, seed=simulation.seed, overwrite=overwrite
    )


def simulate_lorenz(
    path: Path | str,
    *,
    n_channels: int = 29,
    conditions: int = 65,
    trials_per_condition: int = 24,
    observed_per_bin: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Simulate a Lorenz task and write it to an NWB file, with its truth.

    Parameters
    ----------
    path : path
        Ends in ``.nwb``.
    n_channels, conditions, trials_per_condition, seed : int
        As for `nwb_sbtt.simulate.lorenz.lorenz`, which has further settings.
    observed_per_bin, overwrite
        As for `write_simulation`.

    Examples
    --------
    >>> simulate_lorenz("lorenz.nwb", observed_per_bin=5)  # doctest: +SKIP
    """
    simulation = Simulation("lorenz", n_channels, conditions, trials_per_condition, seed=seed)
    return simulate(path, simulation, observed_per_bin=observed_per_bin, overwrite=overwrite)
