"""Fluorescence whose moments follow from the rates of spikes: what likelihoods made of these have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.search import hidden_together, known_indicator, measure_kinetics, refit_kinetics
from nwb_sbtt.config import LikelihoodConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.nn.channels import ChannelStatistics, channel_statistics, spike_statistics
from nwb_sbtt.nn.entries import along_channels, gather_sum
from nwb_sbtt.nn.kinetics import MeasuredKinetics, kinetics_of
from nwb_sbtt.nn.likelihoods.base import MAX_LOG_RATE, MOST_LOG_VARIANCE, ChannelValues, Likelihood, Values
from nwb_sbtt.nn.sessions import SessionTables

LEAST_RATE = 1e-3
"""Least mean rate that a channel starts from, in spikes a bin."""
NEGLIGIBLE = 1e-9
"""Share of the calcium that is as good as none."""

Cumulants = tuple[Float[Tensor, "trial time channel"], ...]


class Moments(Likelihood):
    """Shot noise: Poisson spikes of rate ``λ = exp(W f + b)`` per bin, each of which leaves calcium that decays.

    By Campbell's theorem the n-th cumulant of calcium, in units of what a spike adds, is ``κ_n(t) = Σ_k γ^(n k) λ_(t−k)``,
    where γ is what is left after a bin; the noise of the samples adds to κ_2, and so does what is not known of the calcium
    that a trial begins with, whose mean adds to κ_1. Decay, spike size, baseline and noise of each channel are measured before
    training, and again when rates are known, as a ladder's are. A likelihood takes the samples of a trial as independent given
    the rates: what several of them share of the same spikes is counted several times.
    """

    n_parameters = 1
    infers_rates = True
    order: ClassVar[int]
    """How many cumulants the density is made of."""

    @classmethod
    def mask_length(cls, bin_width: float) -> int:
        """A second: what is hidden of fluorescence shows in the samples after it."""
        return hidden_together(bin_width)

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse what is not fluorescence."""
        if data.kind != "signals":
            raise DataError(
                f"likelihood {cls.Config.model_fields['name'].default!r} takes fluorescence, and these are {data.kind}; leave "
                "the likelihood open, which suits them, or read fluorescence"
            )

    @classmethod
    def measure(
        cls, batch: Batch, *, bin_width: float, channel_values: ChannelValues, config: LikelihoodConfig
    ) -> ChannelStatistics:
        """Measure mean and sd of the fluorescence, and its kinetics."""
        measured = measure_kinetics(batch, bin_width=bin_width, indicator=known_indicator(None, None), decay=None)
        return replace(channel_statistics(batch), kinetics=measured.kinetics)

    def refit(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, bin_width: float
    ) -> ChannelStatistics | None:
        """Measure the kinetics again, given the rates of these factors."""
        with torch.no_grad():
            rates = self.rates(factors, batch.session)
        measured = refit_kinetics(
            batch,
            rates,
            self.kinetics(batch.session),
            bin_width=bin_width,
            indicator=known_indicator(None, None),
            decay=None,
        )
        return spike_statistics(measured)

    def __init__(self, statistics: dict[str, ChannelStatistics], factors: int, config: LikelihoodConfig | None = None):
        super().__init__(statistics, factors, config)
        self.measured = MeasuredKinetics(statistics)
        self.means = SessionTables()
        self.sds = SessionTables()
        for session, stats in statistics.items():
            self.means[session] = stats.mean.clone()
            self.sds[session] = stats.sd.clone()

    def _first_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return (_log_rate(stats.mean, kinetics_of(stats)),)

    def set_statistics(self, session: str, stats: ChannelStatistics) -> None:
        """Take over kinetics that were measured again; rates are scaled as those that make the mean have changed."""
        mean, kinetics = self.means[session], kinetics_of(stats)
        with torch.no_grad():
            self.biases[session] += _log_rate(mean, kinetics) - _log_rate(mean, self.kinetics(session))
        self.measured.set(session, kinetics)

    @abstractmethod
    def _terms(self, level: Tensor, cumulants: tuple[Tensor, ...]) -> Tensor:
        """Negative log-density, entry by entry, of a sample in units of what a spike adds above the baseline."""

    def rates(self, factors: Float[Tensor, "trial time factor"], session: str) -> Float[Tensor, "trial time channel"]:
        """Spikes expected of each bin."""
        ((weights, bias),) = self.read_outs(session)
        rates: Tensor = nn.functional.linear(factors, weights, bias).clamp(max=MAX_LOG_RATE).exp()
        return rates

    def cumulants(self, rates: Float[Tensor, "trial time channel"], session: str) -> Cumulants:
        """As many as the likelihood takes, of samples in units of what a spike adds above the baseline."""
        kinetics = self.kinetics(session)
        decay, noise = kinetics.decay_per_bin, kinetics.noise_sd / kinetics.amplitude
        bins = torch.arange(1, rates.shape[1] + 1, device=rates.device, dtype=rates.dtype)[:, None]
        cumulants = [filtered(rates, decay**n) for n in range(1, self.order + 1)]
        cumulants[0] = cumulants[0] + decay**bins * kinetics.initial
        cumulants[1] = cumulants[1] + decay ** (2 * bins) * kinetics.initial_sd**2 + noise**2
        return tuple(cumulants)

    def prior(self, session: str) -> Float[Tensor, ""]:
        """None."""
        return torch.zeros((), device=self.biases[session].device)

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Negative log-density of each entry in units of the channel's own sd, in nats."""
        cumulants = self.cumulants(self.rates(factors, batch.session), batch.session)
        unit = along_channels((self.kinetics(batch.session).amplitude / self.sds[batch.session]).log(), batch=batch)
        return self._terms(self._level(batch), tuple(batch.at_entries(cumulant) for cumulant in cumulants)) + unit

    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """``Σ ½ log s² + (x − μ)² / 2 s²``, s² the variance of the sample and of not knowing its mean μ."""
        rates = self.rates(factors.detach(), batch.session).detach()
        mean, sample_variance, *_ = (batch.at_entries(cumulant) for cumulant in self.cumulants(rates, batch.session))
        relative_sd = self._relative_sd(variance, batch.session, fixed=True)
        doubt = filtered(rates * relative_sd, self.kinetics(batch.session).decay_per_bin)
        total = sample_variance + batch.at_entries(doubt) ** 2
        loss = 0.5 * total.log() + 0.5 * (self._level(batch) - mean) ** 2 / total
        return torch.where(batch.scored, loss, torch.zeros_like(loss)).sum()

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Fluorescence without noise, in the data's unit."""
        mean = self.cumulants(self.rates(factors, session), session)[0]
        return self.kinetics(session).baseline + self.kinetics(session).amplitude * mean

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """That of calcium from lognormal rates that are off together in neighbouring bins."""
        sd = self.rates(factors, session) * self._relative_sd(variance, session)
        return self.kinetics(session).amplitude * filtered(sd, self.kinetics(session).decay_per_bin)

    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Fluorescence without noise of each entry of the batch, in the data's unit."""
        return batch.at_entries(self.expected(factors, batch.session))

    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum by `into` how far the shown entries of each bin are from what is expected of them."""
        residual = batch.values - self.expected_at(factors, batch)
        return gather_sum(torch.where(batch.shown, residual, torch.zeros_like(residual)), into, batch=batch)

    def latent_estimates(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> dict[str, Float[Tensor, "trial time channel"]]:
        """Spikes expected of each bin, ``rates``, and how surely."""
        rates = self.rates(factors, session)
        return {"rates": rates} | (
            {} if variance is None else {"rates_sd": rates * self._relative_sd(variance, session)}
        )

    def kinetics(self, session: str) -> Kinetics:
        """As measured last."""
        return self.measured[session]

    def _level(self, batch: Batch) -> Float[Tensor, "*entry"]:
        kinetics = self.kinetics(batch.session)
        baseline, amplitude = (along_channels(value, batch=batch) for value in (kinetics.baseline, kinetics.amplitude))
        return (batch.values - baseline) / amplitude

    def _relative_sd(self, variance: Tensor, session: str, *, fixed: bool = False) -> Tensor:
        """Sd of a lognormal rate, as a share of it."""
        table = self.weights[session] ** 2
        log_variance = nn.functional.linear(variance, table.detach() if fixed else table)
        return log_variance.clamp(max=MOST_LOG_VARIANCE).expm1().sqrt()


def filtered(rates: Float[Tensor, "trial time channel"], decay: Float[Tensor, "channel"]) -> Tensor:
    """``Σ_k decay^k rates_(t−k)``, made as ``Π_j (1 + decay^(2^j) L^(2^j))`` with the lag L of a bin: in few steps."""
    total, step = rates, 1
    while step < rates.shape[1]:
        left = decay**step
        left = torch.where(left > NEGLIGIBLE, left, torch.zeros_like(left))
        total = total + left * nn.functional.pad(total[:, :-step], (0, 0, step, 0))
        step *= 2
    return total


def _log_rate(mean: Float[Tensor, "channel"], kinetics: Kinetics) -> Float[Tensor, "channel"]:
    """Logarithm of the rate, in spikes a bin, that keeps fluorescence at its mean."""
    rate = (mean - kinetics.baseline) / kinetics.amplitude * (1 - kinetics.decay_per_bin)
    return rate.clamp(min=LEAST_RATE).log()
