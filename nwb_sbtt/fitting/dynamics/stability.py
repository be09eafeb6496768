"""Fixed points of a learned system and their stability, and its Lyapunov exponents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike

from nwb_sbtt.data.datasets import whole_number
from nwb_sbtt.fitting.dynamics.held import HeldSystem
from nwb_sbtt.models.dynamics import BOUND
from nwb_sbtt.models.stability import find_fixed_points, lyapunov_exponents

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

STARTS = 512
"""Of the search for fixed points."""
RUNS, BINS, SETTLE = 32, 1000, 200
"""Runs, their bins that exponents are measured over, and the bins before these."""


def fixed_points(
    fitted: Fitted,
    ds: xr.Dataset | None = None,
    *,
    starts: int = STARTS,
    inputs: ArrayLike | None = None,
    session: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Find the fixed points of the system that a fit has learned, and how states move near them.

    From many inferred states the squared speed ``|F(z) − z|²`` is minimised (Sussillo and Barak 2013,
    doi:10.1162/NECO_a_00409). Where it ends above rounding there is no fixed point, but perhaps a place where the system is
    slow; such places are left out. The system is known only near states that data visit: see ``distance``. Of an ensemble, the
    system of the best member is taken.

    Parameters
    ----------
    fitted : Fitted
        With ``dynamics``.
    ds : Dataset, optional
        Data whose inferred states the search starts from. Default: the fitted recording, from its file.
    starts : int
        States drawn from these, with replacement.
    inputs : array (input), optional
        Values at which known inputs are held, in their units, NaN for a missing one. Default: their means over the training
        trials.
    session : str, optional
        Fitted session that the channels belong to. Default: the session of the same recording, if there is one.
    seed : int

    Returns
    -------
    Dataset
        Along ``point``, those that most starts led to first: ``state`` (point, latent) in units of the sd over the training
        trials, ``stability`` ("stable": all near states approach; "unstable": none does; "saddle": some do), ``speed``
        [sd/s], ``distance`` to the nearest visited state as a share of the states' typical distance from their mean,
        ``reached_from`` (share of the starts), and the expected ``rates`` [Hz] or ``mean`` (point, channel). Along ``mode``,
        for each eigenvalue of the Jacobian, the fastest growing first: ``eigenvalue`` (point, mode, part) of a step of one
        bin, ``growth_rate`` [1/s], positive where differences grow, and ``frequency`` [Hz] of the rotation. ``attrs`` have
        the share of starts that led to no fixed point (``unresolved``) or to the edge of the region (``at_edge``).

    Raises
    ------
    ConfigError
        If the fit has learned no system.
    DataError, FileError, MismatchError
        If data, inputs or numbers do not suit, or the fitted recording cannot be read.
    """
    starts, seed = whole_number("starts", starts), whole_number("seed", seed, least=0)
    return points_of(HeldSystem.of(fitted, ds, session=session, inputs=inputs), starts=starts, seed=seed)


def points_of(system: HeldSystem, *, starts: int = STARTS, seed: int = 0) -> xr.Dataset:
    """Find the fixed points of a system; see `fixed_points`.

    Parameters
    ----------
    system : HeldSystem
    starts, seed : int

    Returns
    -------
    Dataset
        That of `fixed_points`.
    """
    rows = np.random.default_rng(seed).integers(len(system.visited), size=starts)
    with torch.no_grad():
        found = find_fixed_points(system.step, system.visited[torch.from_numpy(rows)], within=BOUND)
        expected = system.dynamics.likelihood.expected(found.states[None], system.session)[0].numpy()
        eigenvalues = torch.linalg.eigvals(found.jacobians)
    order = eigenvalues.abs().sort(dim=1, descending=True, stable=True).indices
    values = eigenvalues.gather(1, order).numpy()
    width = system.bin_width
    with np.errstate(divide="ignore"):
        growth = np.log(np.abs(values)) / width
    growing = (growth > 0).sum(1)
    kinds = np.where(growing == 0, "stable", np.where(growing == growth.shape[1], "unstable", "saddle"))
    if system.expects_counts:
        name, expected, unit = "rates", expected / width, "Hz"
    else:
        name, unit = "mean", str(system.data.attrs["unit"])
    variables = {
        "state": (("point", "latent"), found.states.numpy(), "sd over the training trials"),
        "speed": (("point",), found.residuals.numpy() / width, "sd/s"),
        "distance": (("point",), system.distances(found.states), "share of the states' distance from their mean"),
        "reached_from": (("point",), found.counts.numpy() / starts, "share of the starts"),
        "eigenvalue": (("point", "mode", "part"), np.stack([values.real, values.imag], 2), "per bin"),
        "growth_rate": (("point", "mode"), growth, "1/s"),
        "frequency": (("point", "mode"), np.abs(np.angle(values)) / (2 * np.pi * width), "Hz"),
        name: (("point", "channel"), expected, unit),
    }
    result = _labelled(system, variables).assign(stability=("point", kinds)).assign_coords(part=["real", "imaginary"])
    at_edge = found.at_edge / starts
    unresolved = 1 - at_edge - float(found.counts.sum()) / starts
    return result.assign_attrs(starts=starts, at_edge=at_edge, unresolved=unresolved)


def lyapunov_exponent(
    fitted: Fitted,
    ds: xr.Dataset | None = None,
    *,
    runs: int = RUNS,
    bins: int = BINS,
    inputs: ArrayLike | None = None,
    session: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Measure how fast small differences grow along long runs of the system that a fit has learned.

    Runs begin in the starts of training trials; their first 200 bins are not measured. The exponents are those of Benettin,
    Galgani, Giorgilli and Strelcyn 1980 (doi:10.1007/BF02128236). A largest exponent above 0 means chaos, near 0 a cycle,
    below 0 that runs end at a fixed point. Runs are far longer than trials: the exponents describe the system, and the
    recording only if long runs stay where its states are; see ``distance``. Of an ensemble, the system of the best member is
    taken.

    Parameters
    ----------
    fitted : Fitted
        With ``dynamics``.
    ds : Dataset, optional
        Data whose inferred states are those visited. Default: the fitted recording, from its file.
    runs : int
        Starts, drawn from those of the training trials with replacement.
    bins : int
        Bins of a run that are measured.
    inputs : array (input), optional
        Values at which known inputs are held, in their units, NaN for a missing one. Default: their means over the training
        trials.
    session : str, optional
        Fitted session that the channels belong to. Default: the session of the same recording, if there is one.
    seed : int

    Returns
    -------
    Dataset
        ``exponent`` [1/s], the largest, a mean over runs, and its standard error ``exponent_se``. Along ``run``:
        ``exponents`` [1/s] (run, mode), the largest first, ``left``, and ``distance`` of its last state to the nearest
        visited one, as a share of the states' typical distance from their mean. A run has left where a dimension reached ± 6
        sd, which the system cannot pass: its exponents are those of that bound, so they are NaN and enter no mean.

    Raises
    ------
    ConfigError
        If the fit has learned no system.
    DataError, FileError, MismatchError
        If data, inputs or numbers do not suit, or the fitted recording cannot be read.
    """
    runs, bins = whole_number("runs", runs), whole_number("bins", bins)
    seed = whole_number("seed", seed, least=0)
    return exponents_of(HeldSystem.of(fitted, ds, session=session, inputs=inputs), runs=runs, bins=bins, seed=seed)


def exponents_of(system: HeldSystem, *, runs: int = RUNS, bins: int = BINS, seed: int = 0) -> xr.Dataset:
    """Measure the Lyapunov exponents of a system; see `lyapunov_exponent`.

    Parameters
    ----------
    system : HeldSystem
    runs, bins, seed : int

    Returns
    -------
    Dataset
        That of `lyapunov_exponent`.
    """
    known = system.dynamics.starts[system.session]
    rows = torch.from_numpy(np.random.default_rng(seed).integers(len(known), size=runs))
    with torch.no_grad():
        found = lyapunov_exponents(system.step, known[rows], n_steps=bins, settle=SETTLE, within=BOUND)
    left = found.left.numpy()
    exponents = np.where(left[:, None], np.nan, found.exponents.numpy() / system.bin_width)
    largest = exponents[~left, 0]
    mean = float(largest.mean()) if len(largest) else np.nan
    se = float(largest.std(ddof=1) / np.sqrt(len(largest))) if len(largest) > 1 else np.nan
    variables = {
        "exponent": ((), mean, "1/s"),
        "exponent_se": ((), se, "1/s"),
        "exponents": (("run", "mode"), exponents, "1/s"),
        "distance": (("run",), system.distances(found.last), "share of the states' distance from their mean"),
    }
    return _labelled(system, variables).assign(left=("run", left)).assign_attrs(bins=bins, settle=SETTLE)


def _labelled(system: HeldSystem, variables: dict[str, tuple[tuple[str, ...], Any, str]]) -> xr.Dataset:
    """Variables with their dims and units."""
    ds = xr.Dataset({name: (dims, values, {"units": unit}) for name, (dims, values, unit) in variables.items()})
    numbers = {dim: np.arange(1, ds.sizes[dim] + 1) for dim in ("point", "latent", "mode", "run") if dim in ds.sizes}
    ds = ds.assign_coords(numbers).assign_attrs(system.attrs())
    return ds.assign_coords(channel_id=("channel", system.data["channel_id"].values)) if "channel" in ds.dims else ds
