"""The convolutional model bin by bin, in numpy: what it keeps of the past lies in rings, and nothing is computed twice.

A bin is some hundred products of small matrices and vectors. torch takes several microseconds to start each of them, numpy
about one; `benchmarks/online.py` compares them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import NDArray

from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.models.base import Model
from nwb_sbtt.models.conv import Conv, Layer
from nwb_sbtt.nn.channels import FARTHEST, RESIDUAL_SMOOTHING
from nwb_sbtt.nn.inputs import InputMemory
from nwb_sbtt.nn.likelihoods.base import MAX_LOG_RATE, MOST_LOG_VARIANCE, Likelihood
from nwb_sbtt.nn.likelihoods.gaussian import Gaussian
from nwb_sbtt.nn.likelihoods.poisson import Poisson

NO_LAG = (
    "this model infers each bin from the whole trial, so it cannot run bin by bin; fit one with a lag (--lag 0, or --set "
    "model.lag=0), model 'conv'"
)
Row = NDArray[np.float32]
"""Numbers of a bin."""
Floats = NDArray[np.float64]


class Ring:
    """The last rows of a sequence, the oldest first; zero where there were none yet.

    Each row is written twice, so that the last `length` rows lie in one piece.

    Parameters
    ----------
    length, width : int
    """

    def __init__(self, length: int, width: int):
        self.length = length
        self._rows = np.zeros((2 * length, width), np.float32)
        self._next = 0

    def push(self, row: Row | np.float32 | float) -> None:
        """Add a row, and forget the oldest.

        Parameters
        ----------
        row : array (width) or float
        """
        self._rows[self._next] = self._rows[self._next + self.length] = row
        self._next = (self._next + 1) % self.length

    @property
    def rows(self) -> NDArray[np.float32]:
        """The last rows (length, width): a view that the next row changes."""
        return self._rows[self._next : self._next + self.length]

    def fill(self, rows: NDArray[np.float32]) -> None:
        """Replace all rows.

        Parameters
        ----------
        rows : array (length, width)
            The oldest first.
        """
        self._rows[: self.length] = self._rows[self.length :] = rows
        self._next = 0


@dataclass(frozen=True)
class Estimate:
    """What a model infers of a bin.

    Parameters
    ----------
    factors, variance : array (factor)
        Latent factors, and their posterior variance.
    expected, expected_sd : array (channel)
        Over a whole bin, in the data's unit, and its sd as the model predicts it.
    """

    factors: Row
    variance: Row
    expected: Row
    expected_sd: Row


@dataclass
class _Bin:
    """The data of a bin: `values` are 0 where nothing was shown; a scalar 1 stands for whole bins."""

    values: Row
    shown: Row
    exposure: Row | float
    of_bin: float
    nearby: float


class _Norm:
    """``(x − mean) / sd`` of a row; scale and offset of a layer norm go into the products that follow it."""

    def __init__(self, norm: torch.nn.LayerNorm):
        self.scale, self.offset, self.eps = _array(norm.weight), _array(norm.bias), norm.eps

    def __call__(self, row: Row) -> Row:
        # What `mean` of an array does, without its checks, which would take a fifth of the time of a bin.
        centred: Row = row - np.add.reduce(row) / np.float32(len(row))
        centred *= 1 / math.sqrt(float(centred @ centred) / len(row) + self.eps)
        return centred

    def into(self, linear: torch.nn.Linear) -> tuple[NDArray[np.float32], Row]:
        """Weights and bias of a linear layer after the norm, for rows that this object gives."""
        weight, bias = _array(linear.weight), _array(linear.bias)
        return np.ascontiguousarray(weight * self.scale), weight @ self.offset + bias


class _Layer:
    """One layer, with the last inputs of its convolution and of its mean, and what waits for the bins that it looks ahead."""

    def __init__(self, layer: torch.nn.Module):
        assert isinstance(layer, Layer)
        mixing = layer.mixing
        kernels = _array(mixing.kernels)
        self.ahead, self.width = mixing.ahead, mixing.outward.out_features
        self.now, self.bias = _array(layer.now.weight), _array(layer.now.bias)
        self.near, self.trial = _array(layer.near.weight), _array(layer.trial.weight)
        self.norm = _Norm(mixing.norm)
        self.inward, self.inward_bias = self.norm.into(mixing.inward)
        self.outward, self.outward_bias = _array(mixing.outward.weight), _array(mixing.outward.bias)
        # Lag, feature: the oldest bin has the longest lag and comes first, as in a ring.
        self.kernels = np.ascontiguousarray(np.repeat(kernels[:, ::-1], self.width // len(kernels), axis=0).T)
        assert layer.memory is not None
        self.memory = layer.memory
        self.reset()

    def reset(self) -> None:
        self.rings = {
            "inputs": Ring(len(self.kernels), self.width),
            "states": Ring(self.memory, self.width),
            "waiting": Ring(self.ahead + 1, self.width),
            "gates": Ring(self.ahead + 1, self.width),
        }
        self.total, self.bins = np.zeros(self.width), 0

    def state_of(self, x: Row, now: Row, near: Row) -> Row:
        """Add residual inputs and the recent mean to the state of a bin."""
        states = self.rings["states"]
        self.total += x
        self.total -= states.rows[0]
        states.push(x)
        self.bins += 1
        mean = (self.total / min(self.bins, self.memory)).astype(np.float32)
        state: Row = x + self.bias
        state += self.trial @ mean
        state += self.now @ now
        state += self.near @ near
        return state

    def push(self, state: Row | None) -> Row | None:
        """Convolve; give the state of the bin `ahead` bins before, or None before there is one. None: the trial has ended."""
        if state is None:
            self.rings["inputs"].push(0.0)
            gate: Row | float = 0.0
        else:
            both = self.inward @ self.norm(state)
            both += self.inward_bias
            self.rings["inputs"].push(both[: self.width])
            gate = both[self.width :]
        self.rings["waiting"].push(0.0 if state is None else state)
        self.rings["gates"].push(gate)
        gate, out = self.rings["gates"].rows[0], self.rings["waiting"].rows[0]
        mixed = np.einsum("lw,lw->w", self.kernels, self.rings["inputs"].rows)
        mixed *= gate / (1 + np.exp(-gate))
        added: Row = self.outward @ mixed
        added += self.outward_bias
        added += out
        return added


class _Memory:
    """Known inputs of a bin and the memory of those before: see `nwb_sbtt.nn.inputs.InputMemory`."""

    def __init__(self, memory: InputMemory):
        self.mean, self.sd = _array(memory.known.mean), _array(memory.known.sd)
        self.now, self.before = _array(memory.now.weight), _array(memory.before.weight)
        gru = memory.gru
        # torch's order of gates: reset, update, new.
        self.inward, self.recurrent = (_array(gru.get_parameter(f"weight_{of}_l0")) for of in ("ih", "hh"))
        self.bias, self.bias_hidden = (_array(gru.get_parameter(f"bias_{of}_l0")) for of in ("ih", "hh"))
        self.reset()

    def reset(self) -> None:
        self.state: Row = np.zeros(self.recurrent.shape[1], np.float32)

    def push(self, inputs: Row) -> Row:
        missing = np.isnan(inputs)
        values = np.where(missing, np.float32(0), (inputs - self.mean) / self.sd)
        features = np.concatenate([values, missing.astype(np.float32)]).astype(np.float32)
        n = len(self.state)
        given = self.inward @ features + self.bias
        held = self.recurrent @ self.state + self.bias_hidden
        reset, update = np.split(1 / (1 + np.exp(-(given[: 2 * n] + held[: 2 * n]))), 2)
        new = np.tanh(given[2 * n :] + reset * held[2 * n :])
        self.state = new + update * (self.state - new)
        added: Row = self.now @ features
        added += self.before @ self.state
        return added


class Stepper:
    """A convolutional model with a lag, bin by bin.

    Parameters
    ----------
    model : Model
        In evaluation mode.
    session : str
        Whose channels the data are of.

    Raises
    ------
    ConfigError
        If the model has no lag, or its likelihood couples bins.
    """

    def __init__(self, model: Model, session: str):
        if not isinstance(model, Conv) or model.lag is None:
            raise ConfigError(NO_LAG)
        self.lag = model.lag
        read_in = model.read_in
        self._layers = [_Layer(layer) for layer in model.layers]
        self._observation = observation_of(model.likelihood, session)
        self._mean, self._sd = _array(read_in.means[session]), _array(read_in.sds[session])
        values, masks = _array(read_in.values[session]), _array(read_in.masks[session])
        self._residuals = np.ascontiguousarray(_array(read_in.residual_table(session)).T)
        self.n_channels, self._n_read_in = values.shape
        self.n_factors = model.config.factors
        self._values, self._masks = np.ascontiguousarray(values.T), np.ascontiguousarray(masks.T)
        self._mixture = _array(read_in.mixture)
        self._smoothing = one_sided_gaussians(read_in.smoothing)
        self._residual_smoothing = one_sided_gaussians((RESIDUAL_SMOOTHING,))[:, 0]
        area = np.array([*read_in.smoothing, RESIDUAL_SMOOTHING], np.float32) * np.float32(math.sqrt(2 * math.pi))
        self._least = (1 / (self.n_channels * area)).astype(np.float32)
        self._embedding = _array(model.embedding.weight), _array(model.embedding.bias)
        self._memory = None if model.memory is None else _Memory(model.memory)
        self._norm = _Norm(model.norm)
        self._to_factors = self._norm.into(model.to_factors)
        self._to_log_variance = self._norm.into(model.to_log_variance)
        self.reset()

    def reset(self) -> None:
        """Forget all bins: the next one is the first of a trial."""
        for layer in self._layers:
            layer.reset()
        self._sums = Ring(len(self._smoothing), self._n_read_in)
        self._shares = Ring(len(self._smoothing), 1)
        self._residual_sums = [Ring(len(self._residual_smoothing), len(self._residuals)) for _ in self._layers]
        self._recent: list[_Bin] = []
        if self._memory is not None:
            self._memory.reset()
        self.bins = self.n_data = 0
        """Steps since then, and those of them with data."""

    def step(
        self,
        values: Float[ndarray, "channel"],
        shown: Bool[ndarray, "channel"],
        exposure: Float[ndarray, "channel"] | None = None,
        inputs: Float[ndarray, "input"] | None = None,
    ) -> Estimate | None:
        """Take the next bin.

        Parameters
        ----------
        values : array (channel)
            In the data's unit; anything where `shown` is False.
        shown : bool array (channel)
        exposure : array (channel), optional
            Share of the bin during which each channel was observed, in (0, 1].
        inputs : array (input), optional
            Known inputs in their units, NaN where they are missing; of a model that takes inputs.

        Returns
        -------
        Estimate or None
            Of the bin `lag` bins before; None before there is one.
        """
        mask = shown.astype(np.float32)
        data = np.where(shown, values, 0).astype(np.float32)
        share = np.float32(mask.sum() / np.float32(self.n_channels))
        scores = data if exposure is None else data / exposure
        scores = (scores - self._mean) / self._sd
        scores *= mask
        sums = self._values @ scores
        which = self._masks @ mask
        self._sums.push(sums)
        self._shares.push(share)
        shares = self._shares.rows[:, 0]
        scale = 1 / (shares @ self._smoothing + self._least[:-1])
        near = (self._smoothing.T @ self._sums.rows) * scale[:, None]
        near *= self._mixture
        of_bin = float(1 / (share + np.float32(1 / self.n_channels)))
        features = np.concatenate([sums * np.float32(0.5 * of_bin) + which / np.float32(self.n_channels), near.sum(0)])
        weight, bias = self._embedding
        nearby = float(1 / (shares[-len(self._residual_smoothing) :] @ self._residual_smoothing + self._least[-1]))
        self._recent.append(_Bin(data, mask, 1.0 if exposure is None else exposure, of_bin, nearby))
        del self._recent[: -(self.lag + 1)]
        self.n_data += 1
        x = weight @ features + bias
        if self._memory is not None:
            assert inputs is not None
            x += self._memory.push(inputs)
        return self._through(x)

    def end(self) -> Estimate | None:
        """Go on by a bin that is not there, as after the last one of a trial; `lag` such bins give the last estimates.

        Returns
        -------
        Estimate or None
            As `step`.
        """
        return self._through(None)

    def _through(self, x: Row | None) -> Estimate | None:
        """Pass the next bin through the layers, each of which is as many bins late as those before it look ahead."""
        position = self.bins
        self.bins += 1
        for layer, ring in zip(self._layers, self._residual_sums, strict=True):
            if position < 0:
                return None
            state = None
            if x is not None and position < self.n_data:
                of = self._recent[position - self.n_data]
                residual = of.values - self._observation.expected(self._factors(self._norm(x)), of.exposure)
                residual *= of.shown
                sums = self._residuals @ residual
                ring.push(sums)
                near = self._residual_smoothing @ ring.rows
                state = layer.state_of(x, sums * np.float32(of.of_bin), near * np.float32(of.nearby))
            x = layer.push(state)
            position -= layer.ahead
        if x is None or not 0 <= position < self.n_data:
            return None
        normed = self._norm(x)
        factors = self._factors(normed)
        weight, bias = self._to_log_variance
        variance = np.exp(np.minimum(weight @ normed + bias, np.float32(MOST_LOG_VARIANCE)))
        return Estimate(factors, variance, *self._observation.estimate(factors, variance))

    def _factors(self, normed: Row) -> Row:
        weight, bias = self._to_factors
        factors: Row = weight @ normed
        factors += bias
        return factors

    def state(self) -> dict[str, NDArray[Any]]:
        """Copy all that is kept of the bins so far.

        Returns
        -------
        dict of name to array
            To be given to `restore`, of this or another object of the same weights.
        """
        arrays: dict[str, NDArray[Any]] = {name: ring.rows.copy() for name, ring in self._rings()}
        arrays |= {f"total.{i}": layer.total.copy() for i, layer in enumerate(self._layers)}
        arrays["layer_bins"] = np.array([layer.bins for layer in self._layers])
        arrays["bins"] = np.array([self.bins, self.n_data])
        if self._memory is not None:
            arrays["inputs"] = self._memory.state.copy()
        recent = self._recent
        whole = np.ones(self.n_channels, np.float32)
        arrays["values"] = np.array([each.values for each in recent]).reshape(-1, self.n_channels)
        arrays["shown"] = np.array([each.shown for each in recent]).reshape(-1, self.n_channels)
        arrays["exposure"] = np.array([each.exposure * whole for each in recent]).reshape(-1, self.n_channels)
        arrays["scales"] = np.array([[each.of_bin, each.nearby] for each in recent]).reshape(-1, 2)
        return arrays

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state : dict of name to array
            As `state` gives it.

        Raises
        ------
        DataError
            If it is not of a model of this kind and size.
        """
        self.reset()
        fresh = {name: array.shape for name, array in self.state().items()}
        kept = ("values", "shown", "exposure", "scales")
        shapes = {name: np.shape(array) for name, array in state.items()}
        if fresh.keys() != shapes.keys() or any(
            fresh[name][name in kept :] != shapes[name][name in kept :] for name in fresh
        ):
            raise DataError(
                "this state is of another model: its arrays have other names or shapes than those of this one"
            )
        for name, ring in self._rings():
            ring.fill(state[name])
        for i, layer in enumerate(self._layers):
            layer.total, layer.bins = np.array(state[f"total.{i}"]), int(state["layer_bins"][i])
        self.bins, self.n_data = map(int, state["bins"])
        if self._memory is not None:
            self._memory.state = np.array(state["inputs"])
        rows = zip(*(np.array(state[name]) for name in kept), strict=True)
        self._recent = [
            _Bin(values, shown, exposure, float(scales[0]), float(scales[1]))
            for values, shown, exposure, scales in rows
        ]

    def _rings(self) -> Iterator[tuple[str, Ring]]:
        yield "sums", self._sums
        yield "shares", self._shares
        for i, (layer, ring) in enumerate(zip(self._layers, self._residual_sums, strict=True)):
            yield f"residuals.{i}", ring
            for name, each in layer.rings.items():
                yield f"{name}.{i}", each


class Counts:
    """What is expected of counts: see `nwb_sbtt.nn.likelihoods.poisson`.

    Parameters
    ----------
    likelihood : Poisson
    session : str

    Attributes
    ----------
    weights, squares : array (channel, factor)
        Of the logarithm of a rate, and their squares.
    bias : array (channel)
    """

    def __init__(self, likelihood: Poisson, session: str):
        self.weights, self.bias = _array(likelihood.weights[session]), _array(likelihood.biases[session])
        self.squares: Row = np.square(self.weights)

    def expected(self, factors: Row, exposure: Row | float) -> Row:
        """Compute what is expected of the channels of a bin.

        Parameters
        ----------
        factors : array (factor)
        exposure : array (channel) or float
            Share of the bin; without effect on signals.

        Returns
        -------
        array (channel)
        """
        rate = self.weights @ factors
        rate += self.bias
        np.minimum(rate, np.float32(MAX_LOG_RATE), out=rate)
        np.exp(rate, out=rate)
        rate *= exposure
        return rate

    def estimate(self, factors: Row, variance: Row) -> tuple[Row, Row]:
        """Compute what is expected over a whole bin, and its posterior sd.

        Parameters
        ----------
        factors, variance : array (factor)

        Returns
        -------
        expected, sd : array (channel)
        """
        expected = self.expected(factors, 1.0)
        return expected, expected * np.sqrt(
            np.expm1(np.minimum(self.squares @ variance, np.float32(MOST_LOG_VARIANCE)))
        )

    def information(self, expected: Row) -> Row:
        """Compute the Fisher information of an observed bin on the logarithm of each rate: the expected count.

        Parameters
        ----------
        expected : array (channel)

        Returns
        -------
        array (channel)
        """
        return expected

    def steady(self, expected: Floats) -> tuple[Floats, Floats]:
        """Transform expectations such that a sample tells as much of them everywhere.

        Parameters
        ----------
        expected : array (…, channel)
            Over a whole bin.

        Returns
        -------
        transformed : array (…, channel)
            Their square roots.
        information : array (channel)
            Fisher information of an observed bin on these: 4.
        """
        return np.sqrt(expected), np.full(expected.shape[-1], 4.0)


class Signals:
    """What is expected of signals: see `nwb_sbtt.nn.likelihoods.gaussian`.

    Parameters
    ----------
    likelihood : Gaussian
    session : str

    Attributes
    ----------
    weights, squares : array (channel, factor)
        Of the mean, in the data's unit, and their squares.
    bias : array (channel)
    """

    def __init__(self, likelihood: Gaussian, session: str):
        scale = _array(likelihood.scales[session])
        self.weights: Row = _array(likelihood.weights[session]) * scale[:, None]
        self.bias: Row = _array(likelihood.biases[session]) * scale
        self.squares: Row = np.square(self.weights)
        self._information: Row = np.reciprocal(np.square(_array(likelihood.noise_sd(session))))

    def expected(self, factors: Row, exposure: Row | float) -> Row:
        """Compute what is expected of the channels of a bin.

        Parameters
        ----------
        factors : array (factor)
        exposure : array (channel) or float
            Share of the bin; without effect on signals.

        Returns
        -------
        array (channel)
        """
        mean: Row = self.weights @ factors
        mean += self.bias
        return mean

    def estimate(self, factors: Row, variance: Row) -> tuple[Row, Row]:
        """Compute what is expected over a whole bin, and its posterior sd.

        Parameters
        ----------
        factors, variance : array (factor)

        Returns
        -------
        expected, sd : array (channel)
        """
        return self.expected(factors, 1.0), np.sqrt(self.squares @ variance)

    def information(self, expected: Row) -> Row:
        """Give the Fisher information of an observed bin on each mean: 1 / σ² of its noise.

        Parameters
        ----------
        expected : array (channel)

        Returns
        -------
        array (channel)
            Per square of the data's unit.
        """
        return self._information

    def steady(self, expected: Floats) -> tuple[Floats, Floats]:
        """Give means as they are: a sample tells as much of them everywhere.

        Parameters
        ----------
        expected : array (…, channel)

        Returns
        -------
        transformed : array (…, channel)
        information : array (channel)
            1 / σ² of the noise, per square of the data's unit.
        """
        return expected, self._information.astype(float)


def observation_of(likelihood: Likelihood, session: str) -> Counts | Signals:
    """Take the observation model of a session, for one bin at a time.

    Parameters
    ----------
    likelihood : Likelihood
    session : str

    Raises
    ------
    ConfigError
        If it is not one of counts or signals.
    """
    if isinstance(likelihood, Poisson):
        return Counts(likelihood, session)
    if isinstance(likelihood, Gaussian):
        return Signals(likelihood, session)
    name = type(likelihood).Config.model_fields["name"].default
    raise ConfigError(
        f"a stream takes counts and signals (likelihoods 'poisson' and 'gaussian'), and this model has {name!r}; infer whole "
        "trials, or fit the data as one of these"
    )


def one_sided_gaussians(sds: Sequence[float]) -> NDArray[np.float32]:
    """Compute one-sided weights of Gaussians, the longest lag first; see `nwb_sbtt.nn.channels.Nearby`.

    Parameters
    ----------
    sds : sequence of float
        Bins.

    Returns
    -------
    array (lag, sd)
    """
    sd = torch.tensor(sds)
    lag = torch.arange(math.ceil(FARTHEST * max(sds)) - 1, -1, -1)[:, None]
    area = sd * (2 * math.pi) ** 0.5
    weights = torch.where((lag / sd).abs() < FARTHEST, torch.exp(-0.5 * (lag / sd) ** 2), 0.0) / area
    return _array(weights)


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)
