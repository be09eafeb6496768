"""The flow of a learned system in the plane in which its states vary most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from nwb_sbtt.data.datasets import whole_number
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.dynamics.held import HeldSystem

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

POINTS, MARGIN = 30, 0.1
"""Along each axis; and the share of the visited range by which the plane is wider."""
NEAREST = 20
"""Visited states over which the velocity at a point is averaged."""


def flow_field(
    fitted: Fitted,
    ds: xr.Dataset | None = None,
    *,
    points: int = POINTS,
    inputs: ArrayLike | None = None,
    session: str | None = None,
) -> xr.Dataset:
    """Compute where the system that a fit has learned moves states to, in the plane of their first two principal axes.

    The axes are those of what channels read out of the visited states (of counts, of log-rates), so a distance of 1 changes
    these by 1 in the root mean square over channels. The other dimensions of a point are those of the 20 visited states that
    are nearest to it in the plane, and their velocities are averaged: what is drawn is the flow near the data. Where states
    that overlap in the plane move in different directions, it is the average of these. Of an ensemble, the system of the best
    member is taken.

    Parameters
    ----------
    fitted : Fitted
        With ``dynamics``, of two dimensions or more.
    ds : Dataset, optional
        Data whose inferred states are those visited. Default: the fitted recording, from its file.
    points : int
        Along each axis.
    inputs : array (input), optional
        Values at which known inputs are held, in their units, NaN for a missing one. Default: their means over the training
        trials.
    session : str, optional
        Fitted session that the channels belong to. Default: the session of the same recording, if there is one.

    Returns
    -------
    Dataset
        ``velocity`` [1/s] (y, x, component) along the two axes, ``distance`` (y, x) to the nearest visited state in the plane,
        as a share of the states' typical distance from their mean there, and ``trajectory`` (trial, time, component), the
        visited states. ``axis`` (component, latent) and ``origin`` (latent) bring a state to the components: axis @ (state −
        origin). ``share`` (component) is that of the variance.

    Raises
    ------
    ConfigError
        If the fit has learned no system.
    DataError, FileError, MismatchError
        If the system has one dimension alone, data, inputs or numbers do not suit, or the fitted recording cannot be read.
    """
    points = whole_number("points", points)
    return flow_of(HeldSystem.of(fitted, ds, session=session, inputs=inputs), points=points)


def flow_of(system: HeldSystem, *, points: int = POINTS) -> xr.Dataset:
    """Compute the flow of a system; see `flow_field`.

    Parameters
    ----------
    system : HeldSystem
    points : int
        Along each axis.

    Returns
    -------
    Dataset
        That of `flow_field`.

    Raises
    ------
    DataError
        If it has one dimension alone.
    """
    if system.states.shape[2] < 2:
        raise DataError("the system has one dimension, and a plane needs two; fit with dynamics.dimensions=2 or more")
    visited, metric = system.visited, system.metric()
    origin = visited.mean(0)
    seen = (visited - origin) @ metric
    variance, vectors = torch.linalg.eigh(seen.T @ seen / len(seen))
    variance, vectors = variance.flip(0).clamp(min=0), vectors.flip(1)
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    axes = (metric @ vectors).T
    components = seen @ vectors
    x, y = (_range(components[:, i], points) for i in range(2))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
    n_nearest = min(NEAREST, len(components))
    nearest = [torch.cdist(each[None], components[:, :2])[0].topk(n_nearest, largest=False) for each in grid]
    beyond = components[torch.stack([each.indices for each in nearest]), 2:]
    places = torch.cat([grid[:, None].expand(-1, n_nearest, -1), beyond], 2)
    states = origin + places @ torch.linalg.inv(axes).T
    with torch.no_grad():
        velocity = ((system.step(states) - states) @ axes[:2].T).mean(1) / system.bin_width
    distance = torch.stack([each.values[0] for each in nearest]) / variance[:2].sum().sqrt().clamp(min=1e-12)
    dims = ("y", "x")
    return xr.Dataset(
        {
            "velocity": ((*dims, "component"), velocity.reshape(points, points, 2).numpy(), {"units": "1/s"}),
            "distance": (dims, distance.reshape(points, points).numpy(), {"units": "share of the typical distance"}),
            "trajectory": (("trial", "time", "component"), components.reshape(*system.states.shape).numpy()[..., :2]),
            "axis": (("component", "latent"), axes[:2].numpy()),
            "origin": (("latent",), origin.numpy(), {"units": "sd over the training trials"}),
            "share": (("component",), (variance / variance.sum().clamp(min=1e-12))[:2].numpy()),
        },
        coords={
            "x": x.numpy(),
            "y": y.numpy(),
            "time": system.data["time"].values,
            "component": [1, 2],
            "latent": np.arange(1, len(origin) + 1),
        },
        attrs=system.attrs(),
    )


def _range(values: Tensor, points: int) -> Tensor:
    """Evenly spaced points over the range of values and a margin."""
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * max(high - low, 1e-6)
    return torch.linspace(low - margin, high + margin, points, dtype=values.dtype)
