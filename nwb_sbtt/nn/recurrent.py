"""The recurrent cell of loops that no library runs: weights, and one step that also gives its own slopes.

A GRU step costs one matrix product and a handful of element-wise operations; what autograd adds on top is more than either.
Loops built on `step` therefore carry their own backward pass: it does one multiplication by the slopes and one matrix
product a step, and all weight gradients are single products over (time · trial) at the end.

The gates are ordered (new, reset, update) on the input side and (reset, update, new) on the recurrent side: then what both
sides' gradients need are overlapping slices of one array of four blocks.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Cell(nn.Module):
    """Weights of a GRU whose reset gate acts after the recurrent product.

    ``h' = n + z (h − n)``, ``n = tanh(x_n + r (h W_n + b_n))``, ``r, z = σ(x + h W)`` with the projection
    ``x = input · inward + bias`` made for all steps at once. The state never leaves ±max(1, |h_0|).
    """

    def __init__(self, n_in: int, n: int):
        super().__init__()
        self.n = n
        self.inward = nn.Parameter(torch.randn(n_in, 3 * n) / max(n_in, 1) ** 0.5)
        self.recurrent = nn.Parameter(torch.cat([nn.init.orthogonal_(torch.empty(n, n)) for _ in range(3)], 1))
        self.bias = nn.Parameter(torch.cat([torch.zeros(2 * n), torch.ones(n)]))
        self.bias_new = nn.Parameter(torch.zeros(n))

    def project(self, x: Float[Tensor, "*rest input"]) -> Float[Tensor, "*rest gates"]:
        """Input projection of all gates."""
        return x @ self.inward + self.bias


def step(
    projected: Tensor, inner: Tensor, h: Tensor, *, out: Tensor, update: Tensor, slopes: Tensor | None = None
) -> Tensor:
    """One step from the input projection and the recurrent product (with the bias of its new gate).

    `out` gets the new state, `update` the update gate, which is the slope of the new state by the old one; `slopes`
    (…, 4, state), where given, those by the inputs of the new, reset and update gates and by the recurrent product's new
    gate.
    """
    n = h.shape[-1]
    reset = torch.add(projected[..., n : 2 * n], inner[..., :n]).sigmoid_()
    torch.add(projected[..., 2 * n :], inner[..., n : 2 * n], out=update).sigmoid_()
    recurrent_new = inner[..., 2 * n :]
    new = torch.addcmul(projected[..., :n], reset, recurrent_new).tanh_()
    if slopes is not None:
        rest = 1 - update
        torch.addcmul(rest, rest, new * new, value=-1, out=slopes[..., 0, :])
        torch.mul(slopes[..., 0, :], reset, out=slopes[..., 3, :])
        torch.mul(slopes[..., 3, :], recurrent_new * (1 - reset), out=slopes[..., 1, :])
        torch.mul((h - new).mul_(update), rest, out=slopes[..., 2, :])
    return torch.lerp(new, h, update, out=out)
