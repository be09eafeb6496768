"""What a model must know of a session's channels, and the layer that reads them in.

Only this layer and the observation model (`nwb_sbtt.nn.likelihoods`) know the channel axis; everything between them is
(trial, time, width).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.batch import Batch, precise_dtype
from nwb_sbtt.calcium.kinetics import Kinetics
from nwb_sbtt.calcium.search import Measured
from nwb_sbtt.nn import convolution, dense
from nwb_sbtt.nn.convolution import TILE_BINS, tiles
from nwb_sbtt.nn.entries import gather_sum, marked_share, shown_terms
from nwb_sbtt.nn.inputs import InputStatistics, KnownInputs
from nwb_sbtt.nn.sessions import SessionTables


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of each channel, over the observed entries of the training trials.

    Parameters
    ----------
    mean, sd : Float[Tensor, "channel"]
        Per whole bin, in the data's unit.
    nonzero_share : Float[Tensor, "channel"]
        Share of the entries that are not zero.
    smallest_event : Float[Tensor, "channel"]
        Size that every event exceeds, where the values are sizes of events.
    kinetics : Kinetics, optional
        How fluorescence follows spikes, where the values are fluorescence; the other statistics are then of the spikes
        inferred from it.
    inputs : InputStatistics, optional
        Of the known inputs of the session, where there are any.
    """

    mean: Float[Tensor, "channel"]
    sd: Float[Tensor, "channel"]
    nonzero_share: Float[Tensor, "channel"]
    smallest_event: Float[Tensor, "channel"]
    kinetics: Kinetics | None = None
    inputs: InputStatistics | None = None


def blank_statistics(n_channels: int, n_inputs: int = 0) -> ChannelStatistics:
    """Make placeholder statistics for a model whose own are then loaded with its weights.

    Parameters
    ----------
    n_channels : int
    n_inputs : int
        Known inputs.

    Returns
    -------
    ChannelStatistics
    """
    one = torch.ones(n_channels)
    inputs = InputStatistics.blank(n_inputs) if n_inputs else None
    return ChannelStatistics(one, one, one, one, Kinetics(one, one, one, one, one, one, one), inputs)


def known_inputs(statistics: Mapping[str, ChannelStatistics]) -> KnownInputs | None:
    """Make the features of known inputs, where the sessions have any.

    Parameters
    ----------
    statistics : mapping of session to ChannelStatistics

    Returns
    -------
    KnownInputs or None
    """
    measured = [each.inputs for each in statistics.values() if each.inputs is not None]
    return KnownInputs(measured) if measured else None


OWN, FAR_MEAN, FAR_VARIANCE = 20, 4.0, 100.0
"""Values that are not 0 from which on what all channels have may be left out of a channel's own mean and variance, and by how
much it has to outweigh these: the squared shift of the mean, or the variance weighed in, as a multiple of the own variance."""


def channel_statistics(batch: Batch, *, smallest_event: Float[Tensor, "channel"] | None = None) -> ChannelStatistics:
    """Measure mean, sd and share of nonzero entries of each channel where it was observed.

    The mean and variance over all channels are weighted in like one observed bin, so that nothing is infinite, and a silent
    channel has a small positive rate. They are left out where they would outweigh a channel's own by far (`FAR_MEAN`,
    `FAR_VARIANCE`), as where offsets or units of signals differ by orders of magnitude. A channel that was never observed has
    the mean over all.

    Parameters
    ----------
    batch : Batch
        All training trials of a session.
    smallest_event : Float[Tensor, "channel"], optional
        Size that every event exceeds; 0 without.

    Returns
    -------
    ChannelStatistics
    """
    count = _per_channel(batch, lambda value, exposure, mean: torch.ones_like(value))
    amount = count if batch.exposure is None else _per_channel(batch, lambda value, exposure, mean: exposure)
    total = _per_channel(batch, lambda value, exposure, mean: value)
    overall = total.sum() / amount.sum().clamp(min=1e-12)
    own = total / amount.clamp(min=1e-12)
    own_variance = _spread(batch, own) / count.clamp(min=1)
    events = _per_channel(batch, lambda value, exposure, mean: (value != 0).to(value.dtype))
    known = (events >= OWN) & (own_variance > 0)
    mean = (total + overall) / (amount + 1)
    mean = torch.where(known & ((mean - own) ** 2 > FAR_MEAN * own_variance), own, mean)
    spread = _spread(batch, mean)
    overall_variance = (spread.sum() / count.sum().clamp(min=1)).clamp(min=1e-24)
    variance = (spread + overall_variance) / (count + 1)
    variance = torch.where(known & (overall_variance > FAR_VARIANCE * spread), own_variance, variance)
    share = (events + (events.sum() + 1) / (count.sum() + 1)) / (count + 1)
    smallest = torch.zeros_like(mean) if smallest_event is None else smallest_event
    return ChannelStatistics(mean.float(), variance.sqrt().float(), share.float(), smallest.to(mean.device).float())


def spike_statistics(measured: Measured) -> ChannelStatistics:
    """Give statistics of the spikes found in fluorescence, with its kinetics.

    Parameters
    ----------
    measured : Measured
        Spikes per bin (trial, time, channel), their mean, and kinetics.

    Returns
    -------
    ChannelStatistics
    """
    spikes, mean = measured.spikes.flatten(0, 1), measured.mean.clamp(min=1e-5)
    share = (spikes > 0.5).float().mean(0)
    return ChannelStatistics(mean, spikes.std(0) + 1e-3, share, torch.zeros_like(mean), measured.kinetics)


def _spread(batch: Batch, mean: Float[Tensor, "channel"]) -> Float[Tensor, "channel"]:
    """Sum of the squared distances of each channel's values from its mean."""
    return _per_channel(batch, lambda value, exposure, mean: (value - mean * exposure) ** 2, mean)


def _per_channel(
    batch: Batch, term: Callable[[Tensor, Tensor, Tensor], Tensor], mean: Tensor | None = None
) -> Float[Tensor, "channel"]:
    """Sum a term of value, exposure and the channel's mean over the observed entries of each channel, in double precision."""
    precise = precise_dtype(batch.device)
    mean = torch.zeros(batch.shape[2], dtype=precise, device=batch.device) if mean is None else mean
    one = torch.ones((), dtype=precise, device=batch.device)
    if batch.entries is None:
        values = torch.where(batch.observed, batch.values, torch.zeros_like(batch.values)).to(precise)
        exposure = one if batch.exposure is None else batch.exposure.to(precise)
        return (term(values, exposure, mean) * batch.observed.to(precise)).sum((0, 1))
    total = torch.zeros_like(mean)
    for block in batch.entries.blocks():
        rows = block.entries
        exposure = one if batch.exposure is None else batch.exposure[rows].to(precise)
        terms = term(batch.values[rows].to(precise), exposure, block.along_channels(mean))
        marked = terms * batch.observed[rows].to(precise)
        total[block.channels] = torch.bincount(block.columns, marked, len(mean[block.channels]))
    return total


FARTHEST = 8.0
"""Sds of a Gaussian beyond which its weights are zero."""
RESIDUAL_SMOOTHING = 2.0
"""Sd [bins] of the Gaussian that smooths residuals; a model reads them smoothed and as they are."""


class ReadIn(nn.Module):
    """Read-in: sums over the shown entries of each bin and of bins near it, and how much was missing.

    With scores ``s = (value / exposure − mean) / sd`` of the shown entries and n of N channels shown, a bin's features are

    * now: ``Σ W_c s_c · N / (n + 1)``, which keeps its expected size whatever is missing;
    * near: the same sums and counts, both weighted over time by Gaussians of several widths, and one mixture of these widths
      per feature. A recurrent encoder with random weights hardly learns from data of which little is observed, where a
      linear filter finds most of what there is within seconds; this hands it that filter.
    * which: ``Σ_shown M_c / N``, zero at first.

    A bin with nothing shown near it has features of exactly 0.

    Parameters
    ----------
    statistics : mapping of session to ChannelStatistics
    width : int
        Features of each kind; `forward` gives twice as many.
    smoothing : tuple of float
        Sds [bins] of the Gaussians.
    residual_features : int
        Features that `Nearby.residual_input` makes, in a model that feeds residuals back; 0 for none.
    ahead : int, optional
        As of `Nearby`.
    """

    def __init__(
        self,
        statistics: dict[str, ChannelStatistics],
        width: int,
        smoothing: tuple[float, ...],
        *,
        residual_features: int = 0,
        ahead: int | None = None,
    ):
        super().__init__()
        self.ahead = ahead
        self.smoothing = smoothing
        self.values = SessionTables()
        self.masks = SessionTables()
        self.residuals = SessionTables()
        self.means = SessionTables()
        self.sds = SessionTables()
        for session, stats in statistics.items():
            n_channels = len(stats.mean)
            self.values[session] = nn.Parameter(torch.randn(n_channels, width) / n_channels**0.5)
            self.masks[session] = nn.Parameter(torch.zeros(n_channels, width))
            if residual_features:
                self.residuals[session] = nn.Parameter(torch.randn(n_channels, residual_features) / n_channels**0.5)
            self.means[session] = stats.mean.clone()
            self.sds[session] = stats.sd.clone()
        one_each = torch.eye(len(smoothing))[torch.arange(width) % len(smoothing)].t().contiguous()
        self.mixture = nn.Parameter(one_each * torch.tensor(smoothing)[:, None].sqrt())

    def set_statistics(self, session: str, stats: ChannelStatistics) -> None:
        """Replace means and sds of a session by those of statistics that were measured again.

        Parameters
        ----------
        session : str
        stats : ChannelStatistics
            Means and sds (channel), in the data's unit.
        """
        self.means[session].copy_(stats.mean)
        self.sds[session].copy_(stats.sd)

    @property
    def n_features(self) -> int:
        """Number of features that `forward` gives."""
        return 2 * self.mixture.shape[1]

    def forward(self, batch: Batch) -> Float[Tensor, "trial time feature"]:
        """Read the shown entries of a batch.

        Parameters
        ----------
        batch : Batch
            Dense or sparse.

        Returns
        -------
        Float[Tensor, "trial time feature"]
        """
        values, masks = self.values[batch.session], self.masks[batch.session]
        of_session = self.means[batch.session], self.sds[batch.session]
        if dense.in_blocks(batch):
            sums, which = dense.sum_shown(_scores, batch, per_channel=of_session, into=(values, masks))
        else:
            sums = gather_sum(shown_terms(_scores, batch, per_channel=of_session), values, batch=batch)
            which = gather_sum(batch.shown, masks, batch=batch)
        nearby = Nearby(batch, self.smoothing, ahead=self.ahead)
        near = (nearby.average(sums) * self.mixture[:, None]).sum(1)
        return torch.cat([sums * (0.5 * nearby.of_bin) + which / batch.shape[2], near], -1)

    def residual_table(self, session: str) -> Float[Tensor, "channel residual"]:
        """Return the weights with which residuals, in the data's unit, are summed for `Nearby.residual_input`: in sds.

        For counts a residual is, but for the sd, the slope of the log-likelihood by the log-rate, so a model can climb it
        (iterative inference, Marino et al. 2018). A missing entry has none.

        Parameters
        ----------
        session : str
        """
        return self.residuals[session] / self.sds[session][:, None]


class Nearby:
    """Scales sums over what was shown, and smooths them over nearby bins, as if each held one more entry with the score 0.

    What was shown is smoothed once for all sums over the entries of a batch.

    Parameters
    ----------
    batch : Batch
    smoothing : tuple of float
        Sds [bins] of Gaussians.
    ahead : int, optional
        Bins after its own that a bin is averaged with at most; by default as far as the Gaussians reach.

    Attributes
    ----------
    of_bin : Float[Tensor, "trial time 1"]
        What sums of a bin are multiplied with: about 1 over the share of the channels that was shown.
    """

    def __init__(self, batch: Batch, smoothing: tuple[float, ...], *, ahead: int | None = None):
        n_bins, n_channels = batch.shape[1:]
        share = marked_share(batch.shown, batch=batch)
        sd = torch.tensor(smoothing, device=share.device)[:, None, None]
        area = sd * (2 * math.pi) ** 0.5
        self._halo = 0 if n_bins <= convolution.LONG_TRIAL else math.ceil(FARTHEST * max(smoothing))
        to = torch.arange(n_bins if not self._halo else TILE_BINS, device=share.device)
        lag = to[:, None] - torch.arange(-self._halo, len(to) + self._halo, device=share.device)
        # Farther weights would be denormal numbers, with which a product takes several times as long.
        near = (lag / sd).abs() < FARTHEST
        if ahead is not None:
            near &= lag >= -ahead
        self._kernels = torch.where(near, torch.exp(-0.5 * (lag / sd) ** 2), 0.0) / area
        self._scale = (self._smooth(share) + 1 / (n_channels * area)).reciprocal()
        self.of_bin = (share + 1 / n_channels).reciprocal()

    def average(self, sums: Float[Tensor, "trial time width"]) -> Float[Tensor, "trial kernel time width"]:
        """Smooth sums by each Gaussian.

        Parameters
        ----------
        sums : Float[Tensor, "trial time width"]
            Over the shown entries of each bin.
        """
        near: Tensor = self._smooth(sums) * self._scale
        return near

    def residual_input(
        self, sums: Float[Tensor, "trial time residual"]
    ) -> tuple[Float[Tensor, "trial time residual"], Float[Tensor, "trial time residual"]]:
        """Scale the sums of residuals, data minus the current prediction: of the bin, and smoothed by the first Gaussian.

        Parameters
        ----------
        sums : Float[Tensor, "trial time residual"]
            Residuals of the shown entries, summed by `ReadIn.residual_table`.
        """
        return sums * self.of_bin, self.average(sums)[:, 0]

    def _smooth(self, sums: Float[Tensor, "trial time width"]) -> Float[Tensor, "trial kernel time width"]:
        n_trials, n_bins, width = sums.shape
        n_kernels = len(self._kernels)
        rows = self._kernels.flatten(0, 1)
        if not self._halo:
            # A product for each trial needs no copy with the bins first, but of a single column it takes many times as long.
            whole: Tensor = (
                torch.bmm(rows.expand(n_trials, -1, -1), sums) if width > 1 else torch.mm(sums.flatten(1), rows.t())
            )
            return whole.view(n_trials, n_kernels, n_bins, width)
        # Of a long trial, one product for each tile.
        smooth: Tensor = rows @ tiles(sums.transpose(0, 1).reshape(n_bins, -1).t(), self._halo).permute(1, 2, 0)
        by_kernel = smooth.reshape(len(smooth), n_kernels, TILE_BINS, -1).transpose(0, 1)
        of_bins = by_kernel.reshape(n_kernels, -1, n_trials * width)[:, :n_bins]
        return of_bins.reshape(n_kernels, n_bins, n_trials, width).permute(2, 0, 1, 3)


def _scores(values: Tensor, exposure: Tensor | None, mean: Tensor, sd: Tensor) -> Tensor:
    return ((values if exposure is None else values / exposure) - mean).div_(sd)
