"""A plain implementation of LFADS: a loop over bins, a cell of separate products, dropout drawn in every bin.

`step_time.py` compares the package with it. Two encoders (one for the initial condition, one for the controller), each in
both directions; the controller reads encoder and last factors; states are clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PlainCell(nn.Module):
    """A GRU step with the reset gate before the recurrent product and a state within ±5."""

    def __init__(self, n_in: int, n: int):
        super().__init__()
        self.n = n
        self.project = nn.Linear(n_in, 3 * n)
        self.gates = nn.Linear(n, 2 * n, bias=False)
        self.candidate = nn.Linear(n, n, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """One step."""
        from_new, from_update, from_reset = self.project(x).split(self.n, -1)
        to_update, to_reset = self.gates(h).split(self.n, -1)
        update, reset = torch.sigmoid(from_update + to_update), torch.sigmoid(from_reset + to_reset)
        new = torch.tanh(from_new + self.candidate(reset * h))
        return (update * h + (1 - update) * new).clamp(-5, 5)

    def run(self, x: Tensor, *, backwards: bool = False) -> Tensor:
        """All steps, (trial, time, state) in the order of time."""
        x = x.flip(1) if backwards else x
        h, path = x.new_zeros(len(x), self.n), []
        for t in range(x.shape[1]):
            h = self(x[:, t], h)
            path.append(h)
        states = torch.stack(path, 1)
        return states.flip(1) if backwards else states


class PlainLFADS(nn.Module):
    """Encoders, controller, generator, factors and log rates."""

    def __init__(
        self, channels: int, *, inputs: int, generator: int, factors: int, encoder: int = 64, dropout: float = 0.3
    ):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.encoders = nn.ModuleList(PlainCell(channels, encoder) for _ in range(4))
        self.controller = PlainCell(2 * encoder + factors, 64)
        self.generator = PlainCell(inputs, generator)
        self.to_initial, self.to_state = nn.Linear(2 * encoder, 128), nn.Linear(64, generator)
        self.to_inputs = nn.Linear(64, 2 * inputs)
        self.to_factors, self.to_rates = nn.Linear(generator, factors, bias=False), nn.Linear(factors, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log rates and the KL divergence from standard normal priors, mean over trials."""
        runs = []
        for i, encoder in enumerate(self.encoders):
            assert isinstance(encoder, PlainCell)
            runs.append(encoder.run(x, backwards=i % 2 == 1))
        last = torch.cat([runs[0][:, -1], runs[1][:, 0]], -1)
        states = torch.cat(runs[2:], -1)
        initial, kl = _draw(self.to_initial(self.dropout(last)))
        g = self.to_state(initial)
        c, f, path = g.new_zeros(len(x), 64), self.to_factors(g), []
        for t in range(x.shape[1]):
            c = self.controller(self.dropout(torch.cat([states[:, t], f], -1)), c)
            u, step_kl = _draw(self.to_inputs(c))
            kl = kl + step_kl
            g = self.generator(u, g)
            f = self.to_factors(self.dropout(g))
            path.append(f)
        return self.to_rates(torch.stack(path, 1)), kl


def _draw(parameters: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = parameters.chunk(2, -1)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1).mean()
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean), kl
