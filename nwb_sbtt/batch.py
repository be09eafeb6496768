"""The one thing a model sees: values and the masks that say which of them count."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Values of some trials with their masks.

    Parameters
    ----------
    values : Float[Tensor, "trial time channel"]
        Counts per bin, event sizes, fluorescence or volts; finite, and 0 outside `observed`.
    observed : Bool[Tensor, "trial time channel"]
        Where a measurement exists.
    shown : Bool[Tensor, "trial time channel"]
        What the encoder may read; lies inside `observed`.
    scored : Bool[Tensor, "trial time channel"]
        Where the loss is taken; lies inside `observed`.
    trials : Int[Tensor, "trial"]
        Row of each trial in the data set it came from.
    exposure : Float[Tensor, "trial time channel"] or None
        Share of the bin during which the channel was observed, in (0, 1] where observed; None means 1 everywhere.
    session : str
        Which session's read-in and read-out to use.
    """

    values: Float[Tensor, "trial time channel"]
    observed: Bool[Tensor, "trial time channel"]
    shown: Bool[Tensor, "trial time channel"]
    scored: Bool[Tensor, "trial time channel"]
    trials: Int[Tensor, "trial"]
    exposure: Float[Tensor, "trial time channel"] | None = None
    session: str = "session"

    def select(self, rows: Int[Tensor, "row"]) -> Batch:
        """Take some trials, in the order of `rows`."""
        return replace(
            self,
            values=self.values[rows],
            observed=self.observed[rows],
            shown=self.shown[rows],
            scored=self.scored[rows],
            trials=self.trials[rows],
            exposure=None if self.exposure is None else self.exposure[rows],
        )

    def to(self, device: str) -> Batch:
        """Move every tensor to a device."""
        return replace(
            self,
            values=self.values.to(device),
            observed=self.observed.to(device),
            shown=self.shown.to(device),
            scored=self.scored.to(device),
            trials=self.trials.to(device),
            exposure=None if self.exposure is None else self.exposure.to(device),
        )
