"""Likelihood models of which each entry has a term of its own, given the factors of its bin."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.nn.entries import along_channels, dot, gather_sum, gather_terms, sum_terms
from nwb_sbtt.nn.likelihoods.base import Likelihood

SCALE, SCALE_PRIOR = 20.0, 1e-4
"""Mean and precision of the prior on a channel's scales (Zhu et al. 2022)."""

Linear = tuple[Tensor, ...]
"""What each of the read-outs gives at the entries."""


class EntryByEntry(Likelihood):
    """A likelihood says what the term of an entry is, and what is expected of it; in a sparse batch no others are made."""

    costly: ClassVar[bool] = False
    """Whether a term costs so much that, on a CPU, entries nobody asked for are left out of a dense batch first."""

    @abstractmethod
    def _scales(self, session: str) -> tuple[Tensor, ...]:
        """Trained scales of the channels, in multiples of where their prior has its mean."""

    @abstractmethod
    def _channel_tensors(self, session: str) -> tuple[Tensor, ...]:
        """What `_terms` must know of each channel beside the read-outs."""

    @abstractmethod
    def _terms(self, linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
        """Negative log-likelihood, entry by entry."""

    def prior(self, session: str) -> Float[Tensor, ""]:
        """Penalty of the scales of the channels, to be added to the mean term of an entry."""
        penalties = [SCALE_PRIOR * ((SCALE * (scale - 1)) ** 2).sum() / 2 for scale in self._scales(session)]
        return torch.stack(penalties).sum() if penalties else self.biases[session].new_zeros(())

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Negative log-likelihood of each entry, in nats."""
        return self._terms(self._linear_at(factors, batch), batch.values, batch.exposure, *self._spread(batch))

    def _linear_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Linear:
        return tuple(dot(factors, w, bias=b, batch=batch) for w, b in self.read_outs(batch.session))

    def _picks(self, batch: Batch) -> bool:
        # Not on a GPU: it would have to wait for the number of entries, and time is not lost in terms there.
        return self.costly and batch.entries is None and batch.values.is_cpu

    def _pick(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, marked: Bool[Tensor, "trial time channel"]
    ) -> tuple[Tensor, Linear, Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Of the marked entries of a dense batch alone: places, read-outs, values, exposure, and what their channels have."""
        places = marked.reshape(-1).nonzero()[:, 0]

        def picked(tensor: Tensor) -> Tensor:
            return tensor.reshape(-1).index_select(0, places)

        linear = tuple(picked(tensor) for tensor in self._linear_at(factors, batch))
        exposure = None if batch.exposure is None else picked(batch.exposure)
        channels = places % batch.shape[2]
        per_channel = tuple(tensor.index_select(0, channels) for tensor in self._channel_tensors(batch.session))
        return places, linear, picked(batch.values), exposure, per_channel

    def _spread(self, batch: Batch) -> tuple[Tensor, ...]:
        return tuple(along_channels(tensor, batch=batch) for tensor in self._channel_tensors(batch.session))

    def total(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum of `nll` over the scored entries. Junk elsewhere has no effect, on gradients either."""
        if self._picks(batch):
            _, linear, values, exposure, per_channel = self._pick(factors, batch, marked=batch.scored)
            return self._terms(linear, values, exposure, *per_channel).sum(dtype=dtype)
        if batch.entries is None:
            return super().total(factors, batch, dtype=dtype)
        read_outs, per_channel = self.read_outs(batch.session), self._channel_tensors(batch.session)
        return sum_terms(self._terms, factors, read_outs=read_outs, per_channel=per_channel, batch=batch).to(dtype)

    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Expected value of each entry of the batch, for its exposure, in the data's unit."""
        return self._expected(self._linear_at(factors, batch), batch.exposure, *self._spread(batch))

    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum by `into` how far the shown entries of each bin are from what is expected of them."""
        if self._picks(batch):
            places, linear, values, exposure, per_channel = self._pick(factors, batch, marked=batch.shown)
            differences = values - self._expected(linear, exposure, *(tensor.detach() for tensor in per_channel))
            residual = differences.new_zeros(batch.values.numel()).index_copy(0, places, differences)
            return gather_sum(residual.reshape(batch.shape), into, batch=batch)
        if batch.entries is None:
            # As in a sparse batch, what channels have beside the read-outs does not learn from feedback.
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
        """Expected value, entry by entry."""

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Expected value of each entry over a whole bin, in the data's unit."""
        return self._expected(self._linear(factors, session), None, *self._channel_tensors(session))

    def _linear(self, factors: Float[Tensor, "trial time factor"], session: str) -> Linear:
        return tuple(nn.functional.linear(factors, w, b) for w, b in self.read_outs(session))

    def latent_estimates(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> dict[str, Float[Tensor, "trial time channel"]]:
        """Nothing."""
        return {}

    def kinetics(self, session: str) -> Kinetics | None:
        """None: spikes play no part."""
        return None
