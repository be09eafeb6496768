"""Known inputs of a session, such as stimuli and kinematics: their statistics, and the layers that read them in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch, as_numbers, precise_dtype
from nwb_sbtt.nn.recurrent import run_gru


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of each known input, where it was observed in the training trials.

    Parameters
    ----------
    count : Float[Tensor, "input"]
        Observed bins.
    mean, sd : Float[Tensor, "input"]
        In the unit of the input.
    """

    count: Float[Tensor, "input"]
    mean: Float[Tensor, "input"]
    sd: Float[Tensor, "input"]

    @classmethod
    def blank(cls, n_inputs: int) -> InputStatistics:
        """Make placeholder statistics for a model whose own are then loaded with its weights.

        Parameters
        ----------
        n_inputs : int
        """
        one = torch.ones(n_inputs)
        return cls(one, one, one)

    @classmethod
    def measured(cls, batch: Batch) -> InputStatistics | None:
        """Measure the known inputs of a batch.

        Parameters
        ----------
        batch : Batch
            All training trials of a session.

        Returns
        -------
        InputStatistics or None
            None without inputs. The mean of an input that was never observed is 0.
        """
        if batch.inputs is None or batch.inputs_observed is None:
            return None
        precise = precise_dtype(batch.device)
        observed = as_numbers(batch.inputs_observed, precise)
        count = observed.sum((0, 1))
        values = torch.where(batch.inputs_observed, batch.inputs, 0.0).to(precise)
        mean = values.sum((0, 1)) / count.clamp(min=1)
        variance = (((values - mean) * observed) ** 2).sum((0, 1)) / count.clamp(min=1)
        return cls(count.float(), mean.float(), variance.sqrt().float())

    @classmethod
    def pooled(cls, sessions: Iterable[InputStatistics]) -> InputStatistics:
        """Compute the statistics of several sessions together.

        Parameters
        ----------
        sessions : iterable of InputStatistics
        """
        parts = list(sessions)
        counts, means, sds = (torch.stack([getattr(part, name) for part in parts]) for name in ("count", "mean", "sd"))
        total = counts.sum(0).clamp(min=1)
        mean = (counts * means).sum(0) / total
        variance = (counts * (sds**2 + (means - mean) ** 2)).sum(0) / total
        return cls(counts.sum(0), mean, variance.sqrt())


class KnownInputs(nn.Module):
    """Known inputs as features: standardised, 0 where they are missing, and for each input whether it is missing.

    All sessions share mean and sd, because a model's response to an input is the same in all of them.

    Parameters
    ----------
    sessions : iterable of InputStatistics
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, sessions: Iterable[InputStatistics]):
        super().__init__()
        statistics = InputStatistics.pooled(sessions)
        self.register_buffer("mean", statistics.mean)
        self.register_buffer("sd", statistics.sd.clamp(min=1e-12))

    @property
    def n_features(self) -> int:
        """Number of features that `forward` gives."""
        return 2 * len(self.mean)

    def forward(self, batch: Batch) -> Float[Tensor, "trial time feature"]:
        """Standardise the inputs of a batch.

        Parameters
        ----------
        batch : Batch
            With inputs.
        """
        assert batch.inputs is not None and batch.inputs_observed is not None
        values = torch.where(batch.inputs_observed, (batch.inputs - self.mean) / self.sd, 0.0)
        return torch.cat([values, as_numbers(~batch.inputs_observed, values.dtype)], -1)


class InputMemory(nn.Module):
    """Known inputs of each bin, and a GRU along time, so that an input can be remembered for any number of bins.

    Parameters
    ----------
    known : KnownInputs
    memory : int
        Units of the GRU.
    width : int
        Features that `forward` gives.
    """

    known: KnownInputs
    gru: nn.GRU
    now: nn.Linear
    before: nn.Linear

    def __init__(self, known: KnownInputs, memory: int, width: int):
        super().__init__()
        self.known = known
        self.gru = nn.GRU(known.n_features, memory)
        self.now = nn.Linear(known.n_features, width, bias=False)
        self.before = nn.Linear(memory, width, bias=False)

    def forward(self, batch: Batch) -> Float[Tensor, "trial time width"]:
        """Read the inputs of each bin, and the memory of those up to it.

        Parameters
        ----------
        batch : Batch
            With inputs.
        """
        features = self.known(batch)
        states, _ = run_gru(self.gru, features.transpose(0, 1))
        result: Tensor = self.now(features) + self.before(states.transpose(0, 1))
        return result
