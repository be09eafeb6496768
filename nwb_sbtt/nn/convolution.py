"""Gated long convolutions: all bins at once, where a recurrent cell goes bin by bin.

A convolution over time whose kernel is as long as the trial can hold what a diagonal state space model holds (sums of decaying
exponentials, forwards and backwards: Gu et al. 2022), and is one matrix product per group of channels. The kernels are free
tables that begin as exponentials of several time constants.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

GROWTH = 1.35
"""Ratio of neighbouring time constants, from one bin upwards."""


class GatedConvolution(nn.Module):
    """``out(K ∗ u · silu(g))`` with ``u, g`` linear in the normalised input; one kernel `K` per group of features.

    Parameters
    ----------
    width : int
        Features in and out.
    groups : int
        Kernels; half of them look back at first, half ahead. Divides `width`.
    max_lag : int
        Farthest lag, in bins, that a kernel reaches in either direction.
    """

    def __init__(self, width: int, groups: int, max_lag: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inward = nn.Linear(width, 2 * width)
        self.outward = nn.Linear(width, width)
        lag = torch.arange(-max_lag, max_lag + 1)
        kernels = []
        for i in range(groups):
            side = lag >= 0 if i % 2 else lag <= 0
            kernel = torch.exp(-lag.abs() / GROWTH ** (i // 2)) * side
            kernels.append(kernel / kernel.sum())
        self.kernels = nn.Parameter(torch.stack(kernels))

    def forward(self, x: Float[Tensor, "trial time width"]) -> Float[Tensor, "trial time width"]:
        """Mix features over time; bins before the first and after the last count as zero.

        Parameters
        ----------
        x : Float[Tensor, "trial time width"]
            Features in each bin.

        Returns
        -------
        Float[Tensor, "trial time width"]
        """
        n_bins, width = x.shape[1:]
        # With features first, every product below reads memory in its order; nothing is copied to be permuted.
        features = self.norm(x).reshape(-1, width).t()
        weights, biases = self.inward.weight.chunk(2), self.inward.bias[:, None].chunk(2)
        u, gate = (torch.addmm(bias, weight, features) for weight, bias in zip(weights, biases, strict=True))
        kernels = _toeplitz(self.kernels, n_bins)
        mixed = torch.bmm(u.view(len(kernels), -1, n_bins), kernels.mT).view(width, -1)
        out: Tensor = self.outward((mixed * nn.functional.silu(gate)).t())
        return out.view(x.shape)


def _toeplitz(kernels: Float[Tensor, "group lag"], n_bins: int) -> Float[Tensor, "group to from"]:
    """Lay each kernel out so that row t, column s holds its value at lag t − s; 0 beyond its longest lag."""
    beyond = n_bins - 1 - kernels.shape[1] // 2
    kernels = nn.functional.pad(kernels, (beyond, beyond))
    return kernels.unfold(1, n_bins, 1).flip(2)
