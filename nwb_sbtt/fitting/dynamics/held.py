"""A learned system whose known inputs are held, and the states that data visit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.forward import best_system, forecast_variable
from nwb_sbtt.fitting.preparation import hold_out
from nwb_sbtt.fitting.stream import as_inputs
from nwb_sbtt.models.courses import weigh
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.train.dynamics import LEAST_SHARE

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldSystem:
    """The system of a fit's best member, in double precision, with its known inputs held.

    Parameters
    ----------
    dynamics : Dynamics
    session : str
    data : Dataset
        Whose states are `states`; channels as in the fit.
    states : Tensor (trial, time, dimension)
        Inferred from the whole trials.
    inputs : dict of name to float
        Values at which known inputs are held, NaN where they are missing.
    features : Tensor (feature) or None
        The same as the system reads them.
    expects_counts : bool
        Whether channels read out rates: of counts, or of spikes.
    """

    dynamics: Dynamics
    session: str
    data: xr.Dataset
    states: Tensor
    inputs: dict[str, float]
    features: Tensor | None
    expects_counts: bool

    @classmethod
    def of(cls, fitted: Fitted, ds: xr.Dataset | None, *, session: str | None, inputs: ArrayLike | None) -> HeldSystem:
        """Infer the states of data, and hold the known inputs of the best member's system.

        Parameters
        ----------
        fitted : Fitted
        ds : Dataset or None
            None reads the fitted recording again.
        session : str or None
            Fitted session that the channels belong to; None takes the session of the same recording.
        inputs : array (input) or None
            In their units, NaN for a missing one; None takes the means over the training trials.

        Returns
        -------
        HeldSystem

        Raises
        ------
        ConfigError
            If the fit has learned no system.
        DataError, FileError, MismatchError
            If data or inputs do not suit, or the fitted recording cannot be read.
        """
        dynamics = best_system(fitted)
        name, matched = fitted.match(fitted.data(session) if ds is None else ds, session, same_channels=True)
        batch = to_batch(hold_out(matched, fitted.config), name)
        states = states_in(fitted, dynamics, batch).cpu().double()
        dynamics = dynamics.cpu().double()
        values = _held_inputs(dynamics, fitted.signature.inputs, inputs)
        features = None
        if values is not None:
            given = torch.from_numpy(values)[None, None]
            known = given.isfinite()
            one = replace(batch.select(torch.arange(1)), inputs=given.nan_to_num(), inputs_observed=known)
            features = dynamics.features(one)[0, 0]  # type: ignore[index]
        held = {} if values is None else dict(zip(fitted.signature.inputs, values.tolist(), strict=True))
        return cls(dynamics, name, matched, states, held, features, forecast_variable(fitted) == "rates")

    @property
    def bin_width(self) -> float:
        """Seconds of a step."""
        return float(self.data.attrs["bin_width"])

    @property
    def visited(self) -> Tensor:
        """All states (state, dimension)."""
        return self.states.flatten(0, 1)

    def step(self, states: Tensor) -> Tensor:
        """Go on by one bin.

        Parameters
        ----------
        states : Tensor (…, dimension)

        Returns
        -------
        Tensor (…, dimension)
        """
        features = self.features
        return self.dynamics.step(states, None if features is None else features.expand(*states.shape[:-1], -1))

    def metric(self) -> Tensor:
        """Return a table (dimension, dimension) that brings states to coordinates in which distances are what channels see.

        The distance of two states is the root of the mean squared difference of what channels read out of them: of counts, of
        log-rates. So dimensions that move no channel do not count.

        Returns
        -------
        Tensor (dimension, dimension)
            Row vectors of states are multiplied by it from the right.
        """
        table, _ = self.dynamics.likelihood.read_outs(self.session)[0]
        product = table.T @ table / len(table)
        least = LEAST_SHARE * product.diagonal().mean().clamp(min=1e-12)
        root: Tensor = torch.linalg.cholesky(product + least * torch.eye(len(product), dtype=product.dtype))
        return root

    def distances(self, states: Tensor) -> Floats:
        """Measure how far states lie from the nearest visited one, as channels see it (`metric`).

        Parameters
        ----------
        states : Tensor (state, dimension)

        Returns
        -------
        array (state)
            As a share of the visited states' root mean square distance from their mean.
        """
        metric = self.metric()
        visited, mean = self.visited @ metric, (self.visited @ metric).mean(0)
        scale = (visited - mean).square().sum(1).mean().sqrt().clamp(min=1e-12)
        nearest = [torch.cdist(each[None] @ metric, visited).min() for each in states]
        return np.array([float(each / scale) for each in nearest])

    def attrs(self) -> dict[str, str | float | list[str] | list[float]]:
        """Describe how it was held, as attributes of a Dataset."""
        attrs: dict[str, str | float | list[str] | list[float]] = {"session": self.session, "bin_width": self.bin_width}
        if self.inputs:
            attrs |= {"inputs": list(self.inputs), "inputs_held_at": list(self.inputs.values())}
        return attrs


def states_in(fitted: Fitted, dynamics: Dynamics, batch: Batch) -> Tensor:
    """Infer the states of trials.

    Parameters
    ----------
    fitted : Fitted
    dynamics : Dynamics
        Of the best member.
    batch : Batch

    Returns
    -------
    Tensor (trial, time, dimension)
        Means over the courses of the system; see `nwb_sbtt.models.courses`.
    """
    with torch.no_grad():
        return weigh(dynamics, fitted.model.evidence(batch.to(str(dynamics.window.device)))).states


def _held_inputs(dynamics: Dynamics, names: tuple[str, ...], inputs: ArrayLike | None) -> Floats | None:
    if dynamics.known is None:
        if inputs is not None:
            raise DataError("got inputs, but the fit has no known inputs; leave them out")
        return None
    if inputs is None:
        return np.asarray(dynamics.known.mean.numpy(), np.float64)
    return as_inputs(inputs, (len(names),), names).astype(np.float64)
