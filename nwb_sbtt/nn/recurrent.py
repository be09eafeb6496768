"""The recurrent cell, with everything that does not depend on the recurrence kept out of it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Cell(nn.Module):
    """GRU cell whose input projection is made outside the loop, with the state kept within ±`limit`.

    The reset gate acts after the recurrent product, so that one product a step serves all three gates.
    """

    def __init__(self, n_in: int, n: int, *, limit: float):
        super().__init__()
        self.limit = limit
        self.inward = nn.Parameter(torch.randn(n_in, 3 * n) / max(n_in, 1) ** 0.5)
        self.recurrent = nn.Parameter(torch.cat([torch.nn.init.orthogonal_(torch.empty(n, n)) for _ in range(3)], 1))
        self.bias = nn.Parameter(torch.zeros(3 * n))
        self.bias_new = nn.Parameter(torch.zeros(n))
        with torch.no_grad():
            self.bias[n : 2 * n] = 1.0

    def project(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """Input projection for all gates; `rows` picks part of the inputs."""
        return x @ self.inward[rows] + self.bias

    def weights(self, rows: slice) -> Tensor:
        """Weights of part of the inputs."""
        return self.inward[rows]

    def forward(self, projected: Float[Tensor, "trial gates"], h: Float[Tensor, "trial state"]) -> Tensor:
        """One step."""
        n = h.shape[-1]
        inner = h @ self.recurrent
        r, z = torch.sigmoid(projected[:, : 2 * n] + inner[:, : 2 * n]).chunk(2, -1)
        new = torch.tanh(projected[:, 2 * n :] + r * (inner[:, 2 * n :] + self.bias_new))
        return (new + z * (h - new)).clamp(-self.limit, self.limit)
