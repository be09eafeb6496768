"""Base of likelihoods of fluorescence whose cumulants follow from the rates."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch
from nwb_sbtt.calcium.indicators import Indicator
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.search import fluorescence_mask_length, measure_kinetics, refit_kinetics, resolve_indicator
from nwb_sbtt.config import FluorescenceConfig, LikelihoodConfig
from nwb_sbtt.errors import DataError
from nwb_sbtt.nn.channels import ChannelStatistics, channel_statistics, spike_statistics
from nwb_sbtt.nn.entries import along_channels, gather_sum
from nwb_sbtt.nn.kinetics import MeasuredKinetics, kinetics_of
from nwb_sbtt.nn.likelihoods.base import MAX_LOG_RATE, MOST_LOG_VARIANCE, ChannelValues, Likelihood, Values
from nwb_sbtt.nn.sessions import SessionTables

LEAST_RATE = 1e-3
"""Smallest initial mean rate of a channel, in spikes per bin."""
NEGLIGIBLE = 1e-9
"""Share of the calcium below which it is set to zero."""

Cumulants = tuple[Float[Tensor, "trial time channel"], ...]
"""First cumulants of each entry, from the mean on, in powers of the spike amplitude."""


class Moments(Likelihood):
    """Shot noise: Poisson spikes of rate ``λ = exp(W f + b)`` per bin, each followed by calcium that decays exponentially.

    By Campbell's theorem the n-th cumulant of calcium, in units of the spike amplitude, is ``κ_n(t) = Σ_k γ^(n k) λ_(t−k)``,
    where γ is the decay per bin. Calcium at the start of a trial has a mean, which adds to κ_1, and a variance, which adds to
    κ_2, as does the noise of the samples. Decay, spike amplitude, baseline and noise of each channel are measured before
    training and refitted with inferred rates. Samples of a trial are treated as independent given the rates, although
    neighbouring samples share spikes, which are thus counted several times.
    """

    n_parameters = 1
    infers_rates = True
    order: ClassVar[int]
    """Number of cumulants in the density."""

    @classmethod
    def mask_length(cls, data: Values, *, bin_width: float) -> int:
        """Return the bins of one second: a hidden sample could be inferred from later ones that hold the same calcium."""
        return fluorescence_mask_length(bin_width)

    @classmethod
    def check(cls, data: Values, config: LikelihoodConfig) -> None:
        """Refuse data other than fluorescence."""
        if data.kind != "signals":
            raise DataError(
                f"likelihood {cls.Config.model_fields['name'].default!r} needs fluorescence, but these data are "
                f"{data.kind}; do not set the likelihood, or read fluorescence"
            )

    @classmethod
    def measure(
        cls, batch: Batch, *, bin_width: float, channel_values: ChannelValues, config: LikelihoodConfig
    ) -> ChannelStatistics:
        """Measure mean and sd of the fluorescence, and its kinetics."""
        indicator, decay = _known_kinetics(config)
        measured = measure_kinetics(batch, bin_width=bin_width, indicator=indicator, decay=decay)
        return replace(channel_statistics(batch), kinetics=measured.kinetics)

    def refit(
        self, factors: Float[Tensor, "trial time factor"], batch: Batch, *, bin_width: float
    ) -> ChannelStatistics | None:
        """Refit the kinetics, given the rates of these factors."""
        with torch.no_grad():
            rates = self.rates(factors, batch.session)
        indicator, decay = _known_kinetics(self.config)
        measured = refit_kinetics(
            batch,
            rates,
            self.kinetics(batch.session),
            bin_width=bin_width,
            indicator=indicator,
            decay=decay,
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

    def _initial_biases(self, stats: ChannelStatistics) -> tuple[Float[Tensor, "channel"], ...]:
        return (_log_rate(stats.mean, kinetics_of(stats)),)

    def set_statistics(self, session: str, stats: ChannelStatistics) -> None:
        """Set refitted kinetics; rates are scaled so that the mean fluorescence is kept.

        Parameters
        ----------
        session : str
        stats : ChannelStatistics
            With the kinetics (channel).
        """
        mean, kinetics = self.means[session], kinetics_of(stats)
        with torch.no_grad():
            self.biases[session] += _log_rate(mean, kinetics) - _log_rate(mean, self.kinetics(session))
        self.measured.set(session, kinetics)

    @abstractmethod
    def _terms(self, level: Tensor, cumulants: tuple[Tensor, ...]) -> Tensor:
        """Negative log-density of each entry; `level` is above the baseline, in units of the spike amplitude."""

    def rates(self, factors: Float[Tensor, "trial time factor"], session: str) -> Float[Tensor, "trial time channel"]:
        """Compute the rates.

        Parameters
        ----------
        factors : Float[Tensor, "trial time factor"]
        session : str

        Returns
        -------
        Float[Tensor, "trial time channel"]
            Spikes per bin.
        """
        ((weights, bias),) = self.read_outs(session)
        rates: Tensor = nn.functional.linear(factors, weights, bias).clamp(max=MAX_LOG_RATE).exp()
        return rates

    def cumulants(self, rates: Float[Tensor, "trial time channel"], session: str) -> Cumulants:
        """Compute the first `order` cumulants of the samples.

        Parameters
        ----------
        rates : Float[Tensor, "trial time channel"]
            Spikes per bin.
        session : str

        Returns
        -------
        tuple of Float[Tensor, "trial time channel"]
            Of the level above the baseline, in units of the spike amplitude.
        """
        kinetics = self.kinetics(session)
        decay, noise = kinetics.decay_per_bin, kinetics.noise_sd / kinetics.amplitude
        bins = torch.arange(1, rates.shape[1] + 1, device=rates.device, dtype=rates.dtype)[:, None]
        cumulants = [filtered(rates, decay**n) for n in range(1, self.order + 1)]
        cumulants[0] = cumulants[0] + decay**bins * kinetics.initial
        cumulants[1] = cumulants[1] + decay ** (2 * bins) * kinetics.initial_sd**2 + noise**2
        return tuple(cumulants)

    def prior(self, session: str) -> Float[Tensor, ""]:
        """Return zero: no scales are trained."""
        return torch.zeros((), device=self.biases[session].device)

    def nll(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the negative log-density of each entry in units of the channel's sd, in nats."""
        cumulants = self.cumulants(self.rates(factors, batch.session), batch.session)
        unit = along_channels((self.kinetics(batch.session).amplitude / self.sds[batch.session]).log(), batch=batch)
        return self._terms(self._level(batch), tuple(batch.at_entries(cumulant) for cumulant in cumulants)) + unit

    def variance_loss(
        self, factors: Float[Tensor, "trial time factor"], variance: Float[Tensor, "trial time factor"], batch: Batch
    ) -> Float[Tensor, ""]:
        """Compute ``Σ ½ log s² + (x − μ)² / 2 s²``; s² is the variance of the sample given its mean μ, plus that of μ."""
        rates = self.rates(factors.detach(), batch.session).detach()
        mean, sample_variance, *_ = (batch.at_entries(cumulant) for cumulant in self.cumulants(rates, batch.session))
        relative_sd = self._relative_sd(variance, batch.session, fixed=True)
        mean_sd = filtered(rates * relative_sd, self.kinetics(batch.session).decay_per_bin)
        total = sample_variance + batch.at_entries(mean_sd) ** 2
        loss = 0.5 * total.log() + 0.5 * (self._level(batch) - mean) ** 2 / total
        return torch.where(batch.scored, loss, torch.zeros_like(loss)).sum()

    def expected(
        self, factors: Float[Tensor, "trial time factor"], session: str
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the fluorescence without noise, in the data's unit."""
        mean = self.cumulants(self.rates(factors, session), session)[0]
        return self.kinetics(session).baseline + self.kinetics(session).amplitude * mean

    def expected_sd(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"],
        session: str,
    ) -> Float[Tensor, "trial time channel"]:
        """Compute the sd of calcium, from lognormal rates whose errors are fully correlated within a trial."""
        sd = self.rates(factors, session) * self._relative_sd(variance, session)
        return self.kinetics(session).amplitude * filtered(sd, self.kinetics(session).decay_per_bin)

    def expected_at(self, factors: Float[Tensor, "trial time factor"], batch: Batch) -> Float[Tensor, "*entry"]:
        """Compute the fluorescence without noise of each entry of the batch, in the data's unit."""
        return batch.at_entries(self.expected(factors, batch.session))

    def sum_residuals(
        self,
        factors: Float[Tensor, "trial time factor"],
        batch: Batch,
        *,
        into: Float[Tensor, "channel width"],
    ) -> Float[Tensor, "trial time width"]:
        """Sum the residuals of the shown entries, data minus expected value, weighted by `into`."""
        residual = batch.values - self.expected_at(factors, batch)
        return gather_sum(torch.where(batch.shown, residual, torch.zeros_like(residual)), into, batch=batch)

    def latent_estimates(
        self,
        factors: Float[Tensor, "trial time factor"],
        variance: Float[Tensor, "trial time factor"] | None,
        session: str,
    ) -> dict[str, Float[Tensor, "trial time channel"]]:
        """Compute ``rates`` in spikes per bin and, where the factors have a variance, ``rates_sd``."""
        rates = self.rates(factors, session)
        return {"rates": rates} | (
            {} if variance is None else {"rates_sd": rates * self._relative_sd(variance, session)}
        )

    def kinetics(self, session: str) -> Kinetics:
        """Return the kinetics of a session's channels, as last measured."""
        return self.measured[session]

    def _level(self, batch: Batch) -> Float[Tensor, "*entry"]:
        kinetics = self.kinetics(batch.session)
        baseline, amplitude = (along_channels(value, batch=batch) for value in (kinetics.baseline, kinetics.amplitude))
        return (batch.values - baseline) / amplitude

    def _relative_sd(self, variance: Tensor, session: str, *, fixed: bool = False) -> Tensor:
        """Sd of a lognormal rate, as a share of the rate."""
        table = self.weights[session] ** 2
        log_variance = nn.functional.linear(variance, table.detach() if fixed else table)
        return log_variance.clamp(max=MOST_LOG_VARIANCE).expm1().sqrt()


def _known_kinetics(config: LikelihoodConfig) -> tuple[Indicator, float | None]:
    """The indicator, without its rise, which these moments do not have, and the decay time [s] where the settings give it."""
    assert isinstance(config, FluorescenceConfig)
    return resolve_indicator(config.indicator, 0.0), config.decay_time


def filtered(rates: Float[Tensor, "trial time channel"], decay: Float[Tensor, "channel"]) -> Tensor:
    """Filter rates exponentially, ``Σ_k γ^k λ_(t−k)``.

    Computed as ``Π_j (1 + γ^(2^j) L^(2^j)) λ`` with the lag operator L, in as many steps as the binary logarithm of the number
    of bins.

    Parameters
    ----------
    rates : Float[Tensor, "trial time channel"]
        λ, per bin.
    decay : Float[Tensor, "channel"]
        γ, the share that remains after a bin.

    Returns
    -------
    Float[Tensor, "trial time channel"]
    """
    total, step = rates, 1
    while step < rates.shape[1]:
        power = decay**step
        power = torch.where(power > NEGLIGIBLE, power, torch.zeros_like(power))
        total = total + power * nn.functional.pad(total[:, :-step], (0, 0, step, 0))
        step *= 2
    return total


def _log_rate(mean: Float[Tensor, "channel"], kinetics: Kinetics) -> Float[Tensor, "channel"]:
    """Logarithm of the constant rate, in spikes per bin, at which fluorescence has this mean."""
    rate = (mean - kinetics.baseline) / kinetics.amplitude * (1 - kinetics.decay_per_bin)
    return rate.clamp(min=LEAST_RATE).log()
