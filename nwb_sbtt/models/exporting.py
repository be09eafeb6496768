"""A bin of the convolutional model as a function of data and state, which programs without this package can run.

The numbers are those of `nwb_sbtt.models.stepping`. There the past lies in rings that change in place; here it is one vector
that goes in and comes out, all zero before the first bin of a trial.
"""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nwb_sbtt.errors import ConfigError
from nwb_sbtt.models.base import Model
from nwb_sbtt.models.conv import Conv, Layer
from nwb_sbtt.models.stepping import NO_LAG, Counts, observation_of, one_sided_gaussians
from nwb_sbtt.nn.channels import RESIDUAL_SMOOTHING
from nwb_sbtt.nn.likelihoods.base import MAX_LOG_RATE, MOST_LOG_VARIANCE

COUNTED = 2.0**20
"""Bins up to which they are counted: more than any lag or memory, and exact in single precision."""


class BinStep(nn.Module):
    """One bin of one model: data and state in, estimates and the next state out.

    Parameters
    ----------
    model : Model
        In evaluation mode, with a lag.
    session : str
        Whose channels the data are of.

    Attributes
    ----------
    sizes : dict of name to tuple of int
        Shapes of the parts of the state, in their order.

    Raises
    ------
    ConfigError
        If the model has no lag, or its likelihood couples bins.
    """

    of_mean: Tensor
    of_sd: Tensor
    of_values: Tensor
    of_masks: Tensor
    of_residuals: Tensor
    of_mixture: Tensor
    of_smoothing: Tensor
    of_residual_smoothing: Tensor
    of_weights: Tensor
    of_bias: Tensor
    of_squares: Tensor
    of_least: Tensor

    def __init__(self, model: Model, session: str):
        super().__init__()
        if not isinstance(model, Conv) or model.lag is None:
            raise ConfigError(NO_LAG)
        read_in, observation = model.read_in, observation_of(model.likelihood, session)
        self.lag, self.counts = model.lag, isinstance(observation, Counts)
        self.embedding, self.memory, self.norm = model.embedding, model.memory, model.norm
        self.to_factors, self.to_log_variance = model.to_factors, model.to_log_variance
        self.layers = nn.ModuleList(steps := [_LayerStep(layer) for layer in model.layers])
        self._steps = tuple(steps)
        self._late = list(accumulate([layer.ahead for layer in steps], initial=0))
        constants: dict[str, Tensor] = {
            "mean": read_in.means[session],
            "sd": read_in.sds[session],
            "values": read_in.values[session],
            "masks": read_in.masks[session],
            "residuals": read_in.residual_table(session),
            "mixture": read_in.mixture,
            "smoothing": torch.from_numpy(one_sided_gaussians(read_in.smoothing)),
            "residual_smoothing": torch.from_numpy(one_sided_gaussians((RESIDUAL_SMOOTHING,))[:, 0].copy()),
            **{name: torch.from_numpy(getattr(observation, name)) for name in ("weights", "bias", "squares")},
        }
        for name, tensor in constants.items():
            self.register_buffer(f"of_{name}", tensor.detach().clone())
        self.n_channels, width = read_in.values[session].shape
        area = np.array([*read_in.smoothing, RESIDUAL_SMOOTHING]) * math.sqrt(2 * math.pi)
        least = torch.from_numpy(1 / (self.n_channels * area)).float()
        self.register_buffer("of_least", least[:-1])
        self.least_of_residuals = float(least[-1])
        n_smoothed, n_residual = len(constants["smoothing"]), len(constants["residual_smoothing"])
        self.sizes: dict[str, tuple[int, ...]] = {
            "bins": (1,),
            "sums": (n_smoothed, width),
            "shares": (n_smoothed,),
            **dict.fromkeys(("values", "shown", "exposure"), (self.lag + 1, self.n_channels)),
            "scales": (self.lag + 1, 2),
        }
        if self.memory is not None:
            self.sizes["inputs"] = (self.memory.gru.hidden_size,)
        for i, layer in enumerate(steps):
            self.sizes[f"{i} residuals"] = (n_residual, constants["residuals"].shape[1])
            self.sizes |= {f"{i} {name}": size for name, size in layer.sizes.items()}

    @property
    def n_state(self) -> int:
        """Numbers in the state."""
        return sum(math.prod(size) for size in self.sizes.values())

    def forward(
        self,
        values: Float[Tensor, "channel"],
        shown: Float[Tensor, "channel"],
        exposure: Float[Tensor, "channel"],
        inputs: Float[Tensor, "input"] | None,
        state: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Take a bin.

        Parameters
        ----------
        values : Float[Tensor, "channel"]
            In the data's unit; 0 where nothing is shown.
        shown : Float[Tensor, "channel"]
            1 where there is a measurement, else 0.
        exposure : Float[Tensor, "channel"]
            Share of the bin during which each channel was observed; 1 where nothing is shown.
        inputs : Float[Tensor, "input"] or None
            Known inputs in their units, NaN where they are missing.
        state : Tensor
            As `sizes`, in one vector.

        Returns
        -------
        expected, expected_sd : Float[Tensor, "channel"]
            Of the bin `lag` bins before, over a whole bin, in the data's unit, and its sd as the model predicts it.
        factors : Float[Tensor, "factor"]
        due : Float[Tensor, ""]
            1 where there is such a bin, else 0.
        state : Tensor
            Before the next bin.
        """
        past = self._unpacked(state)
        n_before, present = past["bins"][0], {"bins": (past["bins"] + 1).clamp(max=COUNTED)}
        scores = (values / exposure - self.of_mean) / self.of_sd * shown
        sums, which = scores @ self.of_values, shown @ self.of_masks
        share = shown.sum() / self.n_channels
        present["sums"], present["shares"] = _pushed(past["sums"], sums), _pushed(past["shares"], share)
        scale = 1 / (present["shares"] @ self.of_smoothing + self.of_least)
        near = ((self.of_smoothing.t() @ present["sums"]) * scale[:, None] * self.of_mixture).sum(0)
        of_bin = 1 / (share + 1 / self.n_channels)
        n_residual = len(self.of_residual_smoothing)
        nearby = 1 / (present["shares"][-n_residual:] @ self.of_residual_smoothing + self.least_of_residuals)
        x = self.embedding(torch.cat([sums * (0.5 * of_bin) + which / self.n_channels, near]))
        if self.memory is not None:
            assert inputs is not None
            added, present["inputs"] = self._remembered(inputs, past["inputs"])
            x = x + added
        data = {"values": values, "shown": shown, "exposure": exposure, "scales": torch.stack([of_bin, nearby])}
        present |= {name: _pushed(past[name], row) for name, row in data.items()}
        for i, layer in enumerate(self._steps):
            # Each layer is as many bins late as those before it look ahead; before its first bin all is zero.
            late = self._late[i]
            n_bins = n_before - late + 1
            due = (n_bins > 0).to(x.dtype)
            of = {name: present[name][self.lag - late] for name in data}
            residual = (of["values"] - self._expected(self._factors(x), of["exposure"])) * of["shown"]
            sums = (residual @ self.of_residuals) * due
            key = f"{i} residuals"
            present[key] = _pushed(past[key], sums)
            smooth = self.of_residual_smoothing @ present[key]
            rings = {name: past[f"{i} {name}"] for name in layer.sizes}
            x, rings = layer(x, (sums * of["scales"][0], smooth * of["scales"][1]), due, n_bins, rings)
            present |= {f"{i} {name}": ring for name, ring in rings.items()}
        factors, due = self._factors(x), (n_before >= self.lag).to(x.dtype)
        variance = self.to_log_variance(self.norm(x)).clamp(max=MOST_LOG_VARIANCE).exp()
        expected = self._expected(factors, torch.ones_like(exposure))
        spread = self.of_squares @ variance
        sd = expected * torch.expm1(spread.clamp(max=MOST_LOG_VARIANCE)).sqrt() if self.counts else spread.sqrt()
        return expected, sd, factors, due, torch.cat([present[name].reshape(-1) for name in self.sizes])

    def _unpacked(self, state: Tensor) -> dict[str, Tensor]:
        parts = torch.split(state, [math.prod(size) for size in self.sizes.values()])
        return {name: part.view(size) for (name, size), part in zip(self.sizes.items(), parts, strict=True)}

    def _factors(self, x: Tensor) -> Tensor:
        factors: Tensor = self.to_factors(self.norm(x))
        return factors

    def _expected(self, factors: Tensor, exposure: Tensor) -> Tensor:
        linear = self.of_weights @ factors + self.of_bias
        return linear.clamp(max=MAX_LOG_RATE).exp() * exposure if self.counts else linear

    def _remembered(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What known inputs add, and the next state of their memory: see `nwb_sbtt.nn.inputs.InputMemory`."""
        assert self.memory is not None
        known, gru = self.memory.known, self.memory.gru
        missing = torch.isnan(inputs)
        values = torch.where(missing, 0.0, (inputs - known.mean) / known.sd)
        features = torch.cat([values, missing.to(values.dtype)])
        given = nn.functional.linear(features, *(gru.get_parameter(f"{of}_ih_l0") for of in ("weight", "bias"))).chunk(
            3
        )
        held = nn.functional.linear(state, *(gru.get_parameter(f"{of}_hh_l0") for of in ("weight", "bias"))).chunk(3)
        reset, update = torch.sigmoid(given[0] + held[0]), torch.sigmoid(given[1] + held[1])
        new = torch.tanh(given[2] + reset * held[2])
        state = new + update * (state - new)
        added: Tensor = self.memory.now(features) + self.memory.before(state)
        return added, state


class _LayerStep(nn.Module):
    """One layer, for a bin: see `nwb_sbtt.models.conv.Layer`."""

    kernels: Tensor

    def __init__(self, layer: nn.Module):
        super().__init__()
        assert isinstance(layer, Layer) and layer.memory is not None
        self.now, self.near, self.trial, self.mixing = layer.now, layer.near, layer.trial, layer.mixing
        self.ahead, self.memory, width = layer.mixing.ahead, layer.memory, layer.now.out_features
        # Lag, feature: the oldest bin has the longest lag and comes first.
        kernels = layer.mixing.kernels.detach().flip(1)
        self.register_buffer("kernels", kernels.repeat_interleave(width // len(kernels), 0).t().contiguous())
        self.sizes = {
            "states": (self.memory, width),
            "inputs": (len(self.kernels), width),
            "waiting": (self.ahead + 1, width),
            "gates": (self.ahead + 1, width),
        }

    def forward(
        self, x: Tensor, residual_input: tuple[Tensor, Tensor], due: Tensor, n_bins: Tensor, past: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        states = _pushed(past["states"], x * due)
        mean = states.sum(0) / n_bins.clamp(1, self.memory)
        state = x + self.trial(mean) + self.now(residual_input[0]) + self.near(residual_input[1])
        into, gate = self.mixing.inward(self.mixing.norm(state)).chunk(2)
        rows = {"inputs": into * due, "waiting": state * due, "gates": gate * due}
        present = {"states": states, **{name: _pushed(past[name], row) for name, row in rows.items()}}
        mixed = (self.kernels * present["inputs"]).sum(0) * nn.functional.silu(present["gates"][0])
        return self.mixing.outward(mixed) + present["waiting"][0], present


def _pushed(rows: Tensor, row: Tensor) -> Tensor:
    """The rows with one more at the end, and without the first."""
    return torch.cat([rows[1:], row[None]])
