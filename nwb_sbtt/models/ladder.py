"""The ladder: spikes inferred from fluorescence, rates and latents inferred from spikes."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from nwb_sbtt.batch import Batch, precise_dtype
from nwb_sbtt.calcium.evidence import neighbours, spike_evidence
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.search import (
    fluorescence_mask_length,
    measure_kinetics,
    refit_kinetics,
    resolve_indicator,
    some_trials,
)
from nwb_sbtt.calcium.spiking import Spikes, infer_spikes, log_evidence
from nwb_sbtt.config import LadderConfig, LikelihoodConfig, ModelConfig, PoissonConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.models.base import Encoded, Inference, noise
from nwb_sbtt.models.conv import Conv
from nwb_sbtt.nn.channels import ChannelStatistics, spike_statistics
from nwb_sbtt.nn.kinetics import MeasuredKinetics, kinetics_of
from nwb_sbtt.nn.likelihoods import LIKELIHOODS, ChannelValues, Values
from nwb_sbtt.nn.sessions import SessionTables

TRIALS_AT_ONCE, MOST_SCORED = 128, 3_000_000
"""Trials of a pass (`Batch.pieces`), and entries, hidden or not, of trials by which rates are compared."""


class Ladder(Conv):
    """A model of two levels: factors determine the rates of spikes, and spikes determine fluorescence.

    The lower level has no weights. Its posterior, of spike counts given fluorescence and rates, is computed by message passing
    (`nwb_sbtt.calcium.spiking`): first with each channel's mean rate, as input of the upper level, then with the rates that the
    upper level infers. The upper level is the convolutional model of counts, trained by expectation maximisation. By Fisher's
    identity ``∂ log p(x) / ∂ log λ_t = E[n_t | x] − λ_t`` for fluorescence x, count n_t and rate λ_t of a bin: the gradient of
    a Poisson likelihood at the posterior mean of the count. So neither level can starve the other of gradient, as happens in a
    variational ladder (Prince and Richards 2019).

    Parameters
    ----------
    config : LadderConfig
    statistics : dict of session to ChannelStatistics
        With kinetics, as returned by `measure`.
    likelihood : LikelihoodConfig or str
        Not used: the upper level has a Poisson likelihood of spike counts.
    """

    Config = LadderConfig
    infers_spikes = True
    many_steps = 500.0
    """Fewer than `Conv`, as a step takes twice as long. Three times as many raise the squared correlation of the rates with
    the true ones from 0.967 to 0.974 (`benchmarks/ladder.py`)."""

    def __init__(
        self, config: LadderConfig, statistics: dict[str, ChannelStatistics], likelihood: LikelihoodConfig | str
    ):
        # The upper level models counts, whatever the likelihood of the fluorescence.
        super().__init__(config, statistics, PoissonConfig())
        self.ladder = config
        self.rate = SessionTables()
        self.measured = MeasuredKinetics(statistics)
        for session, stats in statistics.items():
            self.rate[session] = stats.mean.clone()

    def encode(self, batch: Batch, generator: torch.Generator | None = None) -> Encoded:
        """Infer spikes from the shown samples at each channel's mean rate, and encode them."""
        batch = _dense(batch)
        spikes = self._infer_spikes(batch, batch.shown, self.rate[batch.session])
        return super().encode(_with_counts(batch, spikes.mean), generator)

    def target(self, inference: Inference, batch: Batch) -> Batch:
        """Return posterior means of the counts, given shown and scored samples and the rates; scored where the samples are."""
        batch = _dense(batch)
        spikes = self._infer_spikes(batch, batch.shown | batch.scored, self.rates(inference, batch))
        return _with_counts(batch, spikes.mean)

    def held_out_nll(
        self, inference: Inference, batch: Batch, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, ""]:
        """Sum the one-step predictive negative log-likelihood of the hidden scored samples, given the rates.

        Each sample is predicted from the samples before it only. Given the shown samples on both sides of a gap, the sum of
        the counts within would be inferred too coarsely to compare rates by.
        """
        return -self._density(_dense(batch), self.rates(inference, batch)).to(dtype).sum()

    def estimates(self, inference: Inference, batch: Batch) -> dict[str, Tensor]:
        """Compute fluorescence without noise in the data's unit, and events and rates in spikes per bin, with their sds."""
        arrays = self.given_rates(self.rates(inference, batch), batch)
        if inference.factor_variance is not None:
            arrays["rates_sd"] = self.likelihood.expected_sd(
                inference.factors, inference.factor_variance, batch.session
            )
        return arrays

    def given_rates(self, rates: Float[Tensor, "trial time channel"], batch: Batch) -> dict[str, Tensor]:
        """Infer fluorescence without noise and events, with their sds, given expected spikes per bin and the shown samples."""
        kinetics, parts = self.kinetics(batch.session), list[tuple[Tensor, ...]]()
        for rows in batch.pieces(TRIALS_AT_ONCE):
            part = _dense(batch.select(rows))
            spikes = self._infer_spikes(part, part.shown, rates[rows])
            parts.append((spikes.calcium, spikes.calcium_variance, spikes.mean, spikes.variance))
        calcium, calcium_variance, mean, variance = (torch.cat(each) for each in zip(*parts, strict=True))
        return {
            "expected": kinetics.amplitude * calcium + kinetics.baseline,
            "expected_sd": kinetics.amplitude * calcium_variance.sqrt(),
            "events": mean,
            "events_sd": variance.sqrt(),
            "rates": rates,
        }

    def evidence(self, batch: Batch, *, hidden: bool = False) -> Batch:
        """Give what samples tell of rates, near those that are inferred, as spikes of parts of bins."""
        parts = list[tuple[Tensor, Tensor, Tensor]]()
        with torch.no_grad():
            for rows in batch.pieces(TRIALS_AT_ONCE):
                part = _dense(batch.select(rows))
                rates, sampled = self.rates(self(part), part), part.observed if hidden else part.shown
                parts.append(spike_evidence(self._infer_spikes(part, sampled, rates), rates, sampled))
        counts, shares, told = (torch.cat(each) for each in zip(*parts, strict=True))
        return replace(batch, values=counts, exposure=shares, observed=told, shown=told, scored=told, entries=None)

    def cost_of_hidden(
        self, expected: Float[Tensor, "trial time channel"], batch: Batch, weights: Float[Tensor, "channel"]
    ) -> Float[Tensor, ""]:
        """Sum one-step predictive negative log-likelihoods of the hidden scored samples, given expected spikes per bin.

        Of many trials every so many is scored, up to some `MOST_SCORED` entries: it takes as long as half of inferring spikes.
        """
        every = torch.arange(0, len(batch.trials), math.ceil(math.prod(batch.shape) / MOST_SCORED), device=batch.device)
        cost = torch.zeros((), dtype=precise_dtype(batch.device), device=batch.device)
        for rows in torch.split(every, TRIALS_AT_ONCE):
            cost -= (self._density(_dense(batch.select(rows)), expected[rows]) * weights).sum(dtype=cost.dtype)
        return cost

    def draw_values(
        self, counts: Float[Tensor, "trial time channel"], batch: Batch, generator: torch.Generator
    ) -> Float[Tensor, "trial time channel"]:
        """Simulate fluorescence of drawn spikes, with calcium of earlier ones and noise."""
        kinetics, like = self.kinetics(batch.session), counts[:, 0]
        decay, rise = kinetics.decay_per_bin, kinetics.rise_per_bin
        calcium = (kinetics.initial + kinetics.initial_sd * noise(tuple(like.shape), generator, like)).clamp(min=0)
        rising, light = torch.zeros_like(calcium), list[Tensor]()
        for spikes in counts.unbind(1):
            calcium = decay * calcium + spikes
            rising = rise * rising + kinetics.rise_amplitude * spikes
            light.append(calcium - rising)
        clean = kinetics.amplitude * torch.stack(light, 1) + kinetics.baseline
        return clean + kinetics.noise_sd * noise(tuple(clean.shape), generator, clean)

    def rates(self, inference: Inference, batch: Batch) -> Float[Tensor, "trial time channel"]:
        """Compute the expected spikes of each bin.

        Parameters
        ----------
        inference : Inference
        batch : Batch

        Returns
        -------
        Float[Tensor, "trial time channel"]
            Spikes per bin, without gradient.
        """
        return self.likelihood.expected(inference.factors, batch.session).detach()

    def kinetics(self, session: str) -> Kinetics:
        """Return the kinetics of a session's channels, as last measured."""
        return self.measured[session]

    @classmethod
    def mask_length(cls, data: Values, *, likelihood: str, bin_width: float) -> int:
        """Return the bins of one second: a hidden sample could be inferred from later ones that hold the same calcium."""
        return fluorescence_mask_length(bin_width)

    @classmethod
    def check(cls, data: Values, likelihood: str) -> None:
        """Refuse data other than fluorescence."""
        if data.kind != "signals" or "signals" not in LIKELIHOODS[likelihood].suits:
            description = data.kind if data.kind != "signals" else data.signal or "signals"
            raise DataError(
                f"the model ladder needs fluorescence, but these data are {description} with likelihood "
                f"{likelihood!r}; read fluorescence and do not set the likelihood, or use the model 'conv'"
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
        """Measure the kinetics of each channel, and statistics of the spikes inferred with them."""
        assert isinstance(config, LadderConfig)
        indicator = resolve_indicator(config.indicator, config.rise_time)
        return spike_statistics(
            measure_kinetics(batch, bin_width=bin_width, indicator=indicator, decay=config.decay_time)
        )

    def refit(self, batch: Batch, *, bin_width: float) -> ChannelStatistics:
        """Refit the kinetics, given the rates that are inferred from the shown samples."""
        subset = some_trials(batch)
        with torch.no_grad():
            rates = self.rates(self(subset), subset)
        indicator, before = (
            resolve_indicator(self.ladder.indicator, self.ladder.rise_time),
            self.kinetics(batch.session),
        )
        return spike_statistics(
            refit_kinetics(
                subset, rates, before, bin_width=bin_width, indicator=indicator, decay=self.ladder.decay_time
            )
        )

    def set_statistics(self, session: str, stats: ChannelStatistics) -> None:
        """Set refitted kinetics; rates are scaled by the change of the mean rates.

        Parameters
        ----------
        session : str
        stats : ChannelStatistics
            Of the spikes, with the kinetics (channel).
        """
        with torch.no_grad():
            self.likelihood.biases[session] += (stats.mean / self.rate[session]).log()
        self.read_in.set_statistics(session, stats)
        self.rate[session].copy_(stats.mean)
        self.measured.set(session, kinetics_of(stats))

    def _density(self, batch: Batch, rates: Tensor) -> Float[Tensor, "trial channel"]:
        """Logarithm of the density of the hidden scored samples, each given those before it."""
        kinetics, rises = self.measured[batch.session], self.measured.rises(batch.session)
        hidden, observed = batch.scored & ~batch.shown, batch.shown | batch.scored
        return log_evidence(batch.values, observed, rates, kinetics, only=hidden, rises=rises)

    def _infer_spikes(self, batch: Batch, observed: Tensor, rate: Tensor) -> Spikes:
        session = batch.session
        return infer_spikes(batch.values, observed, rate, self.measured[session], rises=self.measured.rises(session))


def _dense(batch: Batch) -> Batch:
    if batch.entries is None:
        return batch
    values, observed, shown, scored = (
        batch.dense(tensor) for tensor in (batch.values, batch.observed, batch.shown, batch.scored)
    )
    return replace(batch, values=values, observed=observed, shown=shown, scored=scored, entries=None)


def _with_counts(batch: Batch, counts: Float[Tensor, "trial time channel"]) -> Batch:
    """The same trials, with counts in place of fluorescence."""
    # Counts between two samples follow from both, and are masked as the later sample: shown where both samples are shown, and
    # scored where the later one is. Spikes up to a trial's first sample cannot be separated from earlier calcium: missing.
    n_bins = counts.shape[1]
    after, before = neighbours(batch.observed)
    observed = (before >= 0) & (after < n_bins)
    after, before = after.clamp(max=n_bins - 1), before.clamp(min=0)
    shown = batch.shown.gather(1, after) & batch.shown.gather(1, before) & observed
    scored = batch.scored.gather(1, after) & observed
    return replace(batch, values=counts, observed=observed, shown=shown, scored=scored, exposure=None)
