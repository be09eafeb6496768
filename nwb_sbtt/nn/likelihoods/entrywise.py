"""Likelihoods under which entries are independent, given the factors of their bins."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.nn.dense import is_large
from nwb_sbtt.nn.entries import along_channels, dot, gather_sum, gather_terms, sum_terms
from nwb_sbtt.nn.likelihoods.base import Likelihood

SCALE, SCALE_PRIOR = 20.0, 1e-4
"""Mean and precision of the prior on a channel's scales (Zhu et al. 2022)."""

Linear = tuple[Tensor, ...]
"""Read-outs ``W f + b`` of the entries, one tensor per parameter."""


class EntryByEntry(Likelihood):
    """A likelihood that is a sum of terms, one per entry; of a sparse batch only its own entries are computed.

    Subclasses define the term (`_terms`) and the expected value (`_expected`) of an entry.
    """

    costly: ClassVar[bool] = False
    """Whether a term is so expensive that, on a CPU, only the marked entries of a dense batch are computed."""

    @abstractmethod
    def _scales(self, session: str) -> tuple[Tensor, ...]:
        """Trained scales of the channels, in multiples of their prior mean."""

    @abstractmethod
    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        """Parameters of each channel beside the read-outs, in the order that `_terms` takes them."""

    @abstractmethod
    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        """Negative log-likelihood of each entry."""

    def prior(self, session: str) -> Float[Tensor, ""]:
        """Compute the penalty of the trained scales, a normal prior around `SCALE`."""
        penalties = [SCALE_PRIOR * ((SCALE * (scale - 1)) ** 2).sum() / 2 for scale in self._scales(session)]
        return torch.stack(penalties).sum() if penalties else self.biases[session].new_zeros(())

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the negative log-likelihood of each entry, in nats."""
        return self._terms(self._linear_at(factors, batch), batch.values, batch.exposure, *self._at_entries(batch))

    def _linear_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Linear:
        return tuple(dot(factors, w, bias=b, batch=batch) for w, b in self.read_outs(batch.session))

    def _selects(self, batch: Batch) -> bool:
        # Not on a GPU: it would wait for the number of entries, and terms take little time there.
        return self.costly and batch.entries is None and batch.values.is_cpu

    def _select(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, marked: Bool[Tensor, "trial time channel"]
    ) -> tuple[Tensor, Linear, Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Flat indices, read-outs, values, exposure and channel tensors of the marked entries of a dense batch."""
        index = marked.reshape(-1).nonzero()[:, 0]

        def select(tensor: Tensor) -> Tensor:
            return tensor.reshape(-1).index_select(0, index)

        linear = tuple(select(tensor) for tensor in self._linear_at(factors, batch))
        exposure = None if batch.exposure is None else select(batch.exposure)
        channels = index % batch.shape[2]
        per_channel = tuple(tensor.index_select(0, channels) for tensor in self._channel_tensors(batch.session))
        return index, linear, select(batch.values), exposure, per_channel

    def _at_entries(self, batch: Batch) -> tuple[Tensor, ...]:
        return tuple(along_channels(tensor, batch=batch) for tensor in self._channel_tensors(batch.session))

    def total(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum `nll` over the scored entries; values elsewhere change neither the sum nor its gradient."""
        if self._selects(batch):
            _, linear, values, exposure, per_channel = self._select(factors, batch, marked=batch.scored)
            return self._terms(linear, values, exposure, *per_channel).sum(dtype=dtype)
        if batch.entries is None and not is_large(batch):
            return super().total(factors, batch, dtype=dtype)
        read_outs, per_channel = self.read_outs(batch.session), self._channel_tensors(batch.session)
        return sum_terms(self._terms, factors, read_outs=read_outs, per_channel=per_channel, batch=batch).to(dtype)

    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the expected value of each entry of the batch, for its exposure, in the data's unit."""
        return self._expected(self._linear_at(factors, batch), batch.exposure, *self._at_entries(batch))

    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum the residuals of the shown entries, data minus expected value, weighted by `into`."""
        if self._selects(batch):
            index, linear, values, exposure, per_channel = self._select(factors, batch, marked=batch.shown)
            differences = values - self._expected(linear, exposure, *(tensor.detach() for tensor in per_channel))
            residual = differences.new_zeros(batch.values.numel()).index_copy(0, index, differences)
            return gather_sum(residual.reshape(batch.shape), into, batch=batch)
        if batch.entries is None and not is_large(batch):
            # As in a sparse batch, no gradient of the residual input reaches the channel tensors.
            fixed = (tensor.detach() for tensor in self._channel_tensors(batch.session))
            expected = self._expected(self._linear(factors, batch.session), batch.exposure, *fixed)
            residual = batch.values - expected
            return gather_sum(torch.where(batch.shown, residual, torch.zeros_like(residual)), into, batch=batch)

        def residuals(linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
            return values - self._expected(linear, exposure, *per_channel)

        read_outs, per_channel = self.read_outs(batch.session), self._channel_tensors(batch.session)
        return gather_terms(residuals, factors, read_outs=read_outs, per_channel=per_channel, into=into, batch=batch)

    @abstractmethod
    def _expected(self, linear: Linear, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        """Expected value of each entry."""

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the expected value of each entry over a whole bin, in the data's unit."""
        return self._expected(self._linear(factors, session), None, *self._channel_tensors(session))

    def _linear(self, factors: Float[Tensor, "trial time factor"], session: str) -> Linear:
        return tuple(nn.functional.linear(factors, w, b) for w, b in self.read_outs(session))

    def latent_estimates(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> dict[str, Float[Tensor, "trial time channel"]]:
        """Return no further estimates."""
        return {}

    def kinetics(self, session: str) -> Kinetics | None:
        """Return None: rates are not inferred from fluorescence."""
        return None
