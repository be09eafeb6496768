"""From fluorescence to spikes, and from spikes to rates and latents."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.spiking import Spikes, infer_spikes, log_evidence
from nwb_sbtt.config import LadderConfig
from nwb_sbtt.models.base import Encoded, Inference
from nwb_sbtt.models.conv import Conv
from nwb_sbtt.nn.channels import ChannelStatistics
from nwb_sbtt.nn.kinetics import MeasuredKinetics


class Ladder(Conv):
    """A ladder of two levels: fluorescence follows from spikes, and the spikes' rates from factors.

    The lower level has no weights. Its posterior, of spike counts given fluorescence and rates, is found by message passing
    (`nwb_sbtt.calcium.spiking`), once with each channel's mean rate for the upper level to read, and once with the rates that
    the upper level then finds. The upper level is the convolutional model of counts. It learns by expectation maximisation: the
    gradient of the fluorescence's log-likelihood by a bin's log-rate is how far the posterior mean of its count, given all
    samples, lies above the rate (Fisher's identity), which is that of a Poisson count of that size. So neither level can starve
    the other of gradient, as those of a variational ladder do (Prince and Richards 2019).
    """

    def __init__(self, config: LadderConfig, statistics: dict[str, ChannelStatistics]):
        super().__init__(config, statistics, "poisson")
        self.lower = nn.ModuleDict({session: _Lower(of) for session, of in statistics.items()})

    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Find spikes in what is shown, at each channel's mean rate, and read them."""
        batch = _dense(batch)
        of = self._of(batch)
        spikes = of.infer(batch.values, batch.shown, of.rate)
        return super().encode(_of_spikes(batch, spikes.mean), generator)

    def target(self, inference: Inference, batch: Batch) -> Batch:
        """Posterior means of the counts, given what is shown and scored and the rates, scored in the bins of scored samples."""
        batch = _dense(batch)
        spikes = self._of(batch).infer(batch.values, batch.shown | batch.scored, self.rates(inference, batch))
        return _of_spikes(batch, spikes.mean)

    def misfit(self, inference: Inference, batch: Batch, *, dtype: torch.dtype = torch.float32) -> Float[Tensor, ""]:
        """Negative logarithm of the density of the scored samples that are not shown, given the rates, and the samples before.

        Not given the shown samples on both sides of a gap: counts between these are as many as it is long, and what is
        believed of their sum is too rough to judge rates by.
        """
        batch = _dense(batch)
        seen, rates = batch.shown | batch.scored, self.rates(inference, batch)
        lower = self._of(batch)
        asked = batch.scored & ~batch.shown
        density = log_evidence(batch.values, seen, rates, lower.kinetics, only=asked, rises=lower.measured.rises)
        return -density.to(dtype).sum()

    def estimates(self, inference: Inference, batch: Batch) -> dict[str, Tensor]:
        """Fluorescence without noise, and the spikes and rates behind it, all per bin."""
        batch = _dense(batch)
        of, rates = self._of(batch), self.rates(inference, batch)
        spikes = of.infer(batch.values, batch.shown, rates)
        amplitude, baseline = of.kinetics.amplitude, of.kinetics.baseline
        found = {
            "expected": amplitude * spikes.calcium + baseline,
            "expected_sd": amplitude * spikes.calcium_variance.sqrt(),
            "events": spikes.mean,
            "events_sd": spikes.variance.sqrt(),
            "rates": rates,
        }
        if inference.factor_variance is not None:
            found["rates_sd"] = self.observation.expected_sd(
                inference.factors, inference.factor_variance, batch.session
            )
        return found

    def rates(self, inference: Inference, batch: Batch) -> Float[Tensor, "trial time channel"]:
        """Spikes expected of each bin."""
        return self.observation.expected(inference.factors, batch.session).detach()

    def kinetics(self, session: str) -> Kinetics:
        """How fluorescence is taken to follow spikes."""
        return self._lower(session).kinetics

    def adopt(self, session: str, of: ChannelStatistics) -> None:
        """Take over kinetics that were found anew; rates are scaled as the mean rates have changed."""
        lower = self._lower(session)
        with torch.no_grad():
            self.observation.biases[session] += (of.mean / lower.rate).log()
        self.read_in.set_statistics(session, of)
        lower.adopt(of)

    def _lower(self, session: str) -> _Lower:
        lower = self.lower[session]
        assert isinstance(lower, _Lower)
        return lower

    def _of(self, batch: Batch) -> _Lower:
        return self._lower(batch.session)


class _Lower(nn.Module):
    """What is known of a session's fluorescence."""

    rate: Tensor

    def __init__(self, of: ChannelStatistics):
        super().__init__()
        assert of.kinetics is not None
        self.register_buffer("rate", of.mean.clone())
        self.measured = MeasuredKinetics(of.kinetics)

    def adopt(self, of: ChannelStatistics) -> None:
        assert of.kinetics is not None
        self.rate.copy_(of.mean)
        self.measured.set(of.kinetics)

    @property
    def kinetics(self) -> Kinetics:
        return self.measured.value

    def infer(self, values: Tensor, seen: Tensor, rate: Tensor) -> Spikes:
        return infer_spikes(values, seen, rate, self.kinetics, rises=self.measured.rises)


def _dense(batch: Batch) -> Batch:
    if batch.entries is None:
        return batch
    values, observed, shown, scored = (
        batch.dense(each) for each in (batch.values, batch.observed, batch.shown, batch.scored)
    )
    return replace(batch, values=values, observed=observed, shown=shown, scored=scored, entries=None)


def _of_spikes(batch: Batch, counts: Float[Tensor, "trial time channel"]) -> Batch:
    """The same trials with counts instead of fluorescence.

    Those between two samples belong to the later one. They are shown where both samples are, and scored where the later one is
    scored and is not shown, or nothing is hidden. What fired until a trial's first sample cannot be told from the calcium that
    was there before: it is no count at all.
    """
    n_bins = counts.shape[1]
    bins = torch.arange(n_bins, device=counts.device)[:, None].expand_as(counts)
    after = torch.where(batch.observed, bins, n_bins).flip(1).cummin(1).values.flip(1)
    before = torch.where(batch.observed, bins, -1).cummax(1).values
    before = torch.cat([torch.full_like(before[:, :1], -1), before[:, :-1]], 1)
    observed = (before >= 0) & (after < n_bins)
    at, since = after.clamp(max=n_bins - 1), before.clamp(min=0)
    shown = batch.shown.gather(1, at) & batch.shown.gather(1, since) & observed
    scored = batch.scored.gather(1, at) & observed
    return replace(batch, values=counts, observed=observed, shown=shown, scored=scored, exposure=None)
