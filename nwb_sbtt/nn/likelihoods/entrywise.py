"""Likelihoods under which entries are independent, given the factors of their bins."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from itertools import combinations_with_replacement
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch, precise_dtype
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.nn import dense
from nwb_sbtt.nn.dense import ReadOut as ReadOutOf
from nwb_sbtt.nn.entries import along_channels, dot, gather_sum, gather_terms, sum_terms
from nwb_sbtt.nn.likelihoods.base import Likelihood

SCALE, SCALE_PRIOR = 20.0, 1e-4
"""Mean and precision of the prior on a channel's scales (Zhu et al. 2022)."""

_CLOSED = "_both", "_gradients"
"""Methods that a class may have beside `_terms` and `_expected`; see `nwb_sbtt.nn.dense.Functions`."""

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

    def _functions(self) -> dense.Functions:
        """Terms and expected values, with `_both` and `_gradients` where the class with the last word on them has these."""
        kind = next(kind for kind in type(self).__mro__ if vars(kind).keys() & {"_terms", "_expected"})
        both, gradients = (function and partial(function, self) for function in map(vars(kind).get, _CLOSED))
        return dense.Functions(self._terms, self._expected, both, gradients)

    def prior(self, session: str) -> Float[Tensor, ""]:
        """Compute the penalty of the trained scales, a normal prior around `SCALE`."""
        penalties = [SCALE_PRIOR * ((SCALE * (scale - 1)) ** 2).sum() / 2 for scale in self._scales(session)]
        return torch.stack(penalties).sum() if penalties else self.biases[session].new_zeros(())

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the negative log-likelihood of each entry, in nats."""
        linear = _at_entries(self._of(factors, batch), batch)
        return self._terms(linear, batch.values, batch.exposure, *self._tensors_at(batch))

    def _of(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> tuple[ReadOutOf, ...]:
        return tuple((factors, table, bias) for table, bias in self.read_outs(batch.session))

    def _tensors_at(self, batch: Batch) -> tuple[Tensor, ...]:
        return tuple(along_channels(tensor, batch=batch) for tensor in self._channel_tensors(batch.session))

    def _selects(self, batch: Batch) -> bool:
        # Not on a GPU: it would wait for the number of entries, and terms take little time there.
        return self.costly and dense.in_blocks(batch)

    def total(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum `nll` over the scored entries; values elsewhere change neither the sum nor its gradient."""
        per_channel = self._channel_tensors(batch.session)
        if batch.entries is None:
            return self._sum(self._functions(), self._of(factors, batch), per_channel=per_channel, batch=batch).to(
                dtype
            )
        read_outs = self.read_outs(batch.session)
        return sum_terms(self._terms, factors, read_outs=read_outs, per_channel=per_channel, batch=batch).to(dtype)

    def _sum(
        self,
        functions: dense.Functions,
        read_outs: Sequence[ReadOutOf],
        *,
        per_channel: Sequence[Tensor],
        batch: Batch,
    ) -> Float[Tensor, ""]:
        """Sum terms of any read-outs over the scored entries, in double precision, where the device has it."""
        if dense.in_blocks(batch) and not self.costly:
            return dense.sum_terms(functions, read_outs, per_channel=per_channel, batch=batch)
        precise = precise_dtype(batch.device)
        if self._selects(batch):
            _, selected = _select(_at_entries(read_outs, batch), per_channel, batch, marked=batch.scored)
            return functions.terms(*selected).sum(dtype=precise)
        tensors = (along_channels(tensor, batch=batch) for tensor in per_channel)
        each = functions.terms(_at_entries(read_outs, batch), batch.values, batch.exposure, *tensors)
        return torch.where(batch.scored, each, torch.zeros_like(each)).sum(dtype=precise)

    def _sum_with_spread(
        self,
        functions: dense.Functions,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        *,
        per_channel: Sequence[Tensor],
        batch: Batch,
    ) -> Float[Tensor, ""]:
        """Sum terms of the read-outs and their covariances over the scored entries; the gradient reaches `variance` only.

        `linear` of the functions has the read-outs and then, for each pair of them in the order of
        ``combinations_with_replacement``, their covariance, which factors of independent variances v give them:
        ``Σ_k w_ik w_jk v_k``.
        """
        of_factors = [(x.detach(), table.detach(), bias.detach()) for x, table, bias in self._of(factors, batch)]
        pairs = combinations_with_replacement([table for _, table, _ in of_factors], 2)
        spreads = [(variance, one * other, one.new_zeros(len(one))) for one, other in pairs]
        fixed = tuple(tensor.detach() for tensor in per_channel)
        return self._sum(functions, [*of_factors, *spreads], per_channel=fixed, batch=batch).to(variance.dtype)

    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the expected value of each entry of the batch, for its exposure, in the data's unit."""
        return self._expected(_at_entries(self._of(factors, batch), batch), batch.exposure, *self._tensors_at(batch))

    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum the residuals of the shown entries, data minus expected value, weighted by `into`."""
        # No gradient of the residual input reaches the channel tensors.
        fixed = tuple(tensor.detach() for tensor in self._channel_tensors(batch.session))
        if batch.entries is not None:

            def residuals(linear: Linear, values: Tensor, exposure: Tensor | None, *per_channel: Tensor) -> Tensor:
                return values - self._expected(linear, exposure, *per_channel)

            pairs = self.read_outs(batch.session)
            return gather_terms(residuals, factors, read_outs=pairs, per_channel=fixed, into=into, batch=batch)
        read_outs = self._of(factors, batch)
        if self._selects(batch):
            index, (linear, values, exposure, *tensors) = _select(
                _at_entries(read_outs, batch), fixed, batch, marked=batch.shown
            )
            differences = values - self._expected(linear, exposure, *tensors)
            residual = differences.new_zeros(batch.values.numel()).index_copy(0, index, differences)
            return gather_sum(residual.reshape(batch.shape), into, batch=batch)
        if dense.in_blocks(batch):
            return dense.sum_residuals(self._functions(), read_outs, per_channel=fixed, into=into, batch=batch)
        residual = batch.values - self._expected(_at_entries(read_outs, batch), batch.exposure, *fixed)
        return gather_sum(torch.where(batch.shown, residual, torch.zeros_like(residual)), into, batch=batch)

    def compare(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> tuple[Float[Tensor, "trial time width"], Float[Tensor, ""]]:
        """Return `sum_residuals` and `total`; of a dense batch on a CPU both are of one pass over its entries."""
        if not dense.in_blocks(batch) or self.costly:
            return super().compare(factors, batch, into=into)
        read_outs, per_channel = self._of(factors, batch), self._channel_tensors(batch.session)
        sums, total = dense.compare(self._functions(), read_outs, per_channel=per_channel, into=into, batch=batch)
        return sums, total.to(factors.dtype)

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


def _at_entries(read_outs: Sequence[ReadOutOf], batch: Batch) -> Linear:
    return tuple(dot(rows, table, bias=bias, batch=batch) for rows, table, bias in read_outs)


def _select(
    linear: Linear, per_channel: Sequence[Tensor], batch: Batch, *, marked: Bool[Tensor, "trial time channel"]
) -> tuple[Tensor, tuple[Any, ...]]:
    """Flat indices of the marked entries of a dense batch, and their read-outs, values, exposure and channel tensors."""
    index = marked.reshape(-1).nonzero()[:, 0]

    def select(tensor: Tensor) -> Tensor:
        return tensor.reshape(-1).index_select(0, index)

    exposure = None if batch.exposure is None else select(batch.exposure)
    channels = index % batch.shape[2]
    tensors = (tensor.index_select(0, channels) for tensor in per_channel)
    return index, (tuple(map(select, linear)), select(batch.values), exposure, *tensors)
