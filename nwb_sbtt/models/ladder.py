"""From fluorescence to spikes, and from spikes to rates and latents."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.search import hidden_together, known_indicator, measure_kinetics, refit_kinetics, some_trials
from nwb_sbtt.calcium.spiking import Spikes, infer_spikes, log_evidence
from nwb_sbtt.config import LadderConfig, LikelihoodConfig, ModelConfig, PoissonConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.models.base import Encoded, Inference
from nwb_sbtt.models.conv import Conv
from nwb_sbtt.nn.channels import ChannelStatistics, spike_statistics
from nwb_sbtt.nn.kinetics import MeasuredKinetics, kinetics_of
from nwb_sbtt.nn.likelihoods import LIKELIHOODS, ChannelValues, Values
from nwb_sbtt.nn.sessions import SessionTables


class Ladder(Conv):
    """A ladder of two levels: fluorescence follows from spikes, and the spikes' rates from factors.

    The lower level has no weights. Its posterior, of spike counts given fluorescence and rates, is found by message passing
    (`nwb_sbtt.calcium.spiking`), once with each channel's mean rate for the upper level to read, and once with the rates that
    the upper level then finds. The upper level is the convolutional model of counts. It learns by expectation maximisation: the
    gradient of the fluorescence's log-likelihood by a bin's log-rate is how far the posterior mean of its count, given all
    samples, lies above the rate (Fisher's identity), which is that of a Poisson count of that size. So neither level can starve
    the other of gradient, as those of a variational ladder do (Prince and Richards 2019).
    """

    Config = LadderConfig
    infers_spikes = True
    many_steps = 500.0
    """A step takes twice as long. Three times as many bring rates from .967 to .974 (`benchmarks/ladder.py`)."""

    def __init__(
        self, config: LadderConfig, statistics: dict[str, ChannelStatistics], likelihood: LikelihoodConfig | str
    ):
        # The upper level sees counts, whatever likelihood the fluorescence has.
        super().__init__(config, statistics, PoissonConfig())
        self.ladder = config
        self.rate = SessionTables()
        self.measured = MeasuredKinetics(statistics)
        for session, stats in statistics.items():
            self.rate[session] = stats.mean.clone()

    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Find spikes in what is shown, at each channel's mean rate, and read them."""
        batch = _dense(batch)
        spikes = self._infer_spikes(batch, batch.shown, self.rate[batch.session])
        return super().encode(_of_spikes(batch, spikes.mean), generator)

    def target(self, inference: Inference, batch: Batch) -> Batch:
        """Posterior means of the counts, given what is shown and scored and the rates, scored in the bins of scored samples."""
        batch = _dense(batch)
        spikes = self._infer_spikes(batch, batch.shown | batch.scored, self.rates(inference, batch))
        return _of_spikes(batch, spikes.mean)

    def held_out_nll(
        self, inference: Inference, batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Negative logarithm of the density of the scored samples that are not shown, given the rates, and the samples before.

        Not given the shown samples on both sides of a gap: counts between these are as many as it is long, and what is
        believed of their sum is too rough to judge rates by.
        """
        batch = _dense(batch)
        seen, rates = batch.shown | batch.scored, self.rates(inference, batch)
        kinetics, rises = self.measured[batch.session], self.measured.rises(batch.session)
        density = log_evidence(batch.values, seen, rates, kinetics, only=batch.scored & ~batch.shown, rises=rises)
        return -density.to(dtype).sum()

    def estimates(self, inference: Inference, batch: Batch) -> dict[str, Tensor]:
        """Fluorescence without noise, and the spikes and rates behind it, all per bin."""
        batch = _dense(batch)
        kinetics, rates = self.kinetics(batch.session), self.rates(inference, batch)
        spikes = self._infer_spikes(batch, batch.shown, rates)
        arrays = {
            "expected": kinetics.amplitude * spikes.calcium + kinetics.baseline,
            "expected_sd": kinetics.amplitude * spikes.calcium_variance.sqrt(),
            "events": spikes.mean,
            "events_sd": spikes.variance.sqrt(),
            "rates": rates,
        }
        if inference.factor_variance is not None:
            arrays["rates_sd"] = self.likelihood.expected_sd(
                inference.factors, inference.factor_variance, batch.session
            )
        return arrays

    def rates(self, inference: Inference, batch: Batch) -> Float[Tensor, "trial time channel"]:
        """Spikes expected of each bin."""
        return self.likelihood.expected(inference.factors, batch.session).detach()

    def kinetics(self, session: str) -> Kinetics:
        """How fluorescence is taken to follow spikes."""
        return self.measured[session]

    @classmethod
    def mask_length(cls, bin_width: float) -> int:
        """A second: what is hidden of fluorescence shows in the samples after it."""
        return hidden_together(bin_width)

    @classmethod
    def check(cls, data: Values, likelihood: str) -> None:
        """Refuse what is not fluorescence."""
        if data.kind != "signals" or "signals" not in LIKELIHOODS[likelihood].suits:
            what = data.kind if data.kind != "signals" else data.signal or "signals"
            raise DataError(
                f"a ladder takes fluorescence, and these are {what} under likelihood {likelihood!r}; leave the likelihood open "
                "and read fluorescence, or choose model 'conv'"
            )

    @classmethod
    def measure(
        cls,
        batch: Batch,
        *,
        config: ModelConfig,
        likelihood: LikelihoodConfig,
        bin_width: float,
        channel_values: ChannelValues,
    ) -> ChannelStatistics:
        """Measure the kinetics of each channel, and the spikes that they find."""
        assert isinstance(config, LadderConfig)
        indicator = known_indicator(config.indicator, config.rise_time)
        return spike_statistics(
            measure_kinetics(batch, bin_width=bin_width, indicator=indicator, decay=config.decay_time)
        )

    def refit(self, batch: Batch, *, bin_width: float) -> ChannelStatistics:
        """Measure the kinetics again, given the rates that are inferred from what is shown."""
        part = some_trials(batch)
        with torch.no_grad():
            rates = self.rates(self(part), part)
        indicator, before = known_indicator(self.ladder.indicator, self.ladder.rise_time), self.kinetics(batch.session)
        return spike_statistics(
            refit_kinetics(part, rates, before, bin_width=bin_width, indicator=indicator, decay=self.ladder.decay_time)
        )

    def set_statistics(self, session: str, stats: ChannelStatistics) -> None:
        """Take over kinetics that were measured again; rates are scaled as the mean rates have changed."""
        with torch.no_grad():
            self.likelihood.biases[session] += (stats.mean / self.rate[session]).log()
        self.read_in.set_statistics(session, stats)
        self.rate[session].copy_(stats.mean)
        self.measured.set(session, kinetics_of(stats))

    def _infer_spikes(self, batch: Batch, seen: Tensor, rate: Tensor) -> Spikes:
        session = batch.session
        return infer_spikes(batch.values, seen, rate, self.measured[session], rises=self.measured.rises(session))


def _dense(batch: Batch) -> Batch:
    if batch.entries is None:
        return batch
    values, observed, shown, scored = (
        batch.dense(tensor) for tensor in (batch.values, batch.observed, batch.shown, batch.scored)
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
