"""Gaussian beliefs of calcium, in the two forms that message passing needs them in: without a rise and with one.

`nwb_sbtt.calcium.spiking` says what message passing does; here stand the steps that depend on the indicator's response.

**The state** x of a bin decays linearly and gets a share b of each spike; a sample is of its first component, the light:

====================  ==========================  ==========================================================
quantity              without a rise (`Calcium`)  with a rise (`LightAndRise`)
====================  ==========================  ==========================================================
state x               calcium c                   light ``l = c − m`` and the rising component m, not shown yet
a bin later, A x      ``d c``                     ``d l + (d − r) m`` and ``r m``
of a spike, b         1                           ``1 − a`` and a
====================  ==========================  ==========================================================

with ``d, r, a`` = `decay_per_bin`, `rise_per_bin`, `rise_amplitude` of `Kinetics`. Light follows from ``c → d c, m → r m``.

**The count between two samples** is one number n: nothing tells when in a gap its spikes fell. In bin t of the gap ``x = u
+ s n``, where u is left of the state at the sample before, with mean μ and covariance P, and s is what a spike of the gap
is now, on average over when it fell: ``s = Σ_j A^(t−j) b λ_j / Σ_j λ_j`` with the expected counts λ, whose sum is
*pending*.

**Forward** (`update`). Let the sample y have precision p, and e = y − μ_l be its error. Given n, u is updated as in a
Kalman filter, with the gain ``K = P_l / (P_ll + 1/p)``, so the state has the mean ``μ + K e + (s − K s_l) n`` and the
covariance ``P − K P_l'``. Over n, of mean ⟨n⟩ and variance v after the sample, mean and covariance are those of the
mixture: ``μ + K e + (s − K s_l) ⟨n⟩`` and ``P − K P_l' + v (s − K s_l)(s − K s_l)'``. That is assumed-density filtering
(Minka 2001, "Expectation propagation for approximate Bayesian inference").

**Backward** (`combine`). All samples from this one on tell of x, up to a factor, ``exp(w'x − ½ x'W x)``: the message. With
the belief, and u integrated out, it multiplies the probability of n by ``exp(q n − ½ Q n²)``, where

    q = s' (1 + W P)⁻¹ (w − W μ),    Q = s' (1 + W P)⁻¹ W s.

Summing over n gives its posterior mean ⟨n⟩ and variance v. Then u has the mean ``μ + P g`` and the covariance ``P − P G P``
with

    g = (1 + W P)⁻¹ (w − W (μ + s ⟨n⟩)),    G = (1 + W P)⁻¹ W − v h h',    h = (1 + W P)⁻¹ W s.

g and G, the *correction*, are the adjoints of the modified Bryson–Frazier smoother (Bierman 1973, "Fixed interval smoothing
with discrete measurements"): in the bins before, up to the last sample, they are A' g and A' G A, so that bins without a
sample cost no inversion.

**The message to the bin before** (`Combined.posterior`) is what these moments of u tell beside the belief, a quotient of two
Gaussians: ``W ← (P − P G P)⁻¹ − P⁻¹`` and ``w ← (P − P G P)⁻¹ (μ + P g) − P⁻¹ μ``, then ``A' W A`` and ``A' w``. Where the
count is so uncertain that the first is not positive, ``v Q ≥ 1``, the sample tells nothing of u along W s.

The scalar form takes the quotient as it stands. In the pair form P may be singular (before the first spike nothing is in
doubt of m), so it is written without its inverse: the count is integrated out as if it were normal with the cavity variance
c that makes its posterior variance v, ``1/v = 1/c + Q``. By the formula of Sherman and Morrison that is

    W ← W − W s (W s)' / (1/c + s'W s),    w ← g + W (μ + P g),

and c → ∞ where ``v Q ≥ 1``. With a rise of 0 both forms agree but for rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from nwb_sbtt.calcium.samples import Count, Sample, Samples

LEAST_VARIANCE = 1e-4
"""Of calcium, in squared spikes, added in each bin: keeps precisions finite where nothing is in doubt."""

Pair = tuple[Tensor, Tensor]
"""Of the light and of the rising component m."""
Symmetric = tuple[Tensor, Tensor, Tensor]
"""A symmetric matrix: entries (l, l), (l, m) and (m, m)."""
V = TypeVar("V", Tensor, Pair)
"""A vector of the state: one number of each row, or a pair."""
M = TypeVar("M", Tensor, Symmetric)
"""A symmetric matrix of the state."""
C = TypeVar("C")
"""A correction: g and G of the next sample, as felt in a bin."""


@dataclass(frozen=True)
class State(Generic[V, M]):
    """After a bin: mean and covariance of u; spikes expected since the last sample, and what is left of all of them.

    Parameters
    ----------
    mean : tensor or pair (row)
        Mean of u, in spikes: the part of the state that is left of the last sample's.
    covariance : tensor or three tensors (row)
        Covariance of u.
    pending : Tensor (row)
        Spikes expected since the last sample.
    left : tensor or pair (row)
        What is left of these, in spikes.
    """

    mean: V
    covariance: M
    pending: Tensor
    left: V


@dataclass(frozen=True)
class Belief(Generic[V, M]):
    """What earlier samples tell of a bin: mean μ and covariance P of u, spikes pending, this bin's included, and size s.

    Parameters
    ----------
    mean : tensor or pair (row)
        μ, in spikes.
    covariance : tensor or three tensors (row)
        P.
    pending : Tensor (row)
        Spikes expected since the last sample.
    left : tensor or pair (row)
        What is left of these, in spikes.
    size : tensor or pair (row)
        s, what one of them is on average now: ``left / pending``.
    """

    mean: V
    covariance: M
    pending: Tensor
    left: V
    size: V


class Light(NamedTuple):
    """The shown component of a belief: mean and variance of u, and size of a pending spike."""

    mean: Tensor
    variance: Tensor
    size: Tensor


@dataclass(frozen=True)
class Message(Generic[V, M]):
    """What samples from a bin on tell of its state: ``exp(information · x − ½ x' precision x)``.

    Parameters
    ----------
    precision : tensor or three tensors (row)
        W, per squared spike.
    information : tensor or pair (row)
        w, per spike.
    """

    precision: M
    information: V


@dataclass(frozen=True)
class Posterior(Generic[V, M, C]):
    """What follows in one bin from the moments of n: the correction, the variance of the light, and the message before it.

    Parameters
    ----------
    correction : g, G and what their form needs besides
    light_variance : Tensor (row)
        Posterior variance of the light, in squared spikes.
    message : Message
        For the bin before.
    """

    correction: C
    light_variance: Tensor
    message: Message[V, M]


class Combined(ABC, Generic[V, M, C]):
    """A belief and a message, with u integrated out: they multiply the probability of n by ``exp(linear n + square n²)``."""

    linear: Tensor
    square: Tensor

    @abstractmethod
    def posterior(self, count: Count, observed: Tensor) -> Posterior[V, M, C]:
        """Conclude from the moments of n; what concerns bins without a sample, but for their message, is meaningless.

        Parameters
        ----------
        count : Count
            Posterior mean and variance of n (row).
        observed : Bool[Tensor, "row"]
            Whether the bin has a sample.

        Returns
        -------
        Posterior
        """


class Form(ABC, Generic[V, M, C]):
    """The steps of message passing that depend on the response.

    Parameters
    ----------
    samples : Samples
        With the kinetics of each row.
    """

    def __init__(self, samples: Samples):
        self.samples = samples

    @abstractmethod
    def initial(self) -> State[V, M]:
        """State before the first bin."""

    @abstractmethod
    def predict(self, state: State[V, M], rate: Tensor) -> Belief[V, M]:
        """Go to the next bin, in which `rate` spikes are expected.

        Parameters
        ----------
        state : State
            After the bin before.
        rate : Tensor (row)
            Spikes expected in the next bin, λ.

        Returns
        -------
        Belief
        """

    @abstractmethod
    def light(self, belief: Belief[V, M]) -> Light:
        """Take the component that a sample shows.

        Parameters
        ----------
        belief : Belief

        Returns
        -------
        Light
            Its mean, variance and size (row).
        """

    @abstractmethod
    def update(self, belief: Belief[V, M], sample: Sample, error: Tensor, count: Count) -> State[V, M]:
        """Take a sample and the moments of n in; without a sample nothing changes.

        Parameters
        ----------
        belief : Belief
            Of the bin.
        sample : Sample
            The bin's sample y and its precision p (row).
        error : Tensor (row)
            ``y − μ_l``.
        count : Count
            Mean and variance of n after the sample (row).

        Returns
        -------
        State
        """

    @abstractmethod
    def nothing(self) -> tuple[Message[V, M], C]:
        """Message and correction from after the last bin."""

    @abstractmethod
    def add(self, message: Message[V, M], sample: Sample) -> Message[V, M]:
        """Add what a sample tells of its bin.

        Parameters
        ----------
        message : Message
            Of all later samples.
        sample : Sample
            The bin's sample y and its precision p (row); 0 where there is none.

        Returns
        -------
        Message
        """

    @abstractmethod
    def combine(self, belief: Belief[V, M], message: Message[V, M]) -> Combined[V, M, C]:
        """Integrate u out of belief and message.

        Parameters
        ----------
        belief : Belief
            Of all earlier samples.
        message : Message
            Of this bin's sample and all later ones.

        Returns
        -------
        Combined
            q and Q of the count n.
        """

    @abstractmethod
    def choose(self, observed: Tensor, own: C, later: C) -> C:
        """Take a bin's own correction where it has a sample, and that of the next sample elsewhere.

        Parameters
        ----------
        observed : Bool[Tensor, "row"]
            Whether the bin has a sample.
        own, later : correction
            g and G of the bin, and of the next sample.

        Returns
        -------
        correction
        """

    @abstractmethod
    def corrected(self, belief: Belief[V, M], correction: C) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of the light of u.

        Parameters
        ----------
        belief : Belief
        correction : g and G

        Returns
        -------
        mean, variance : Tensor (row)
            In spikes, and squared spikes.
        """

    @abstractmethod
    def back(self, message: Message[V, M], correction: C) -> tuple[Message[V, M], C]:
        """Bring both to the bin before: ``A' w, A' W A`` and ``A' g, A' G A``.

        Parameters
        ----------
        message : Message
        correction : g and G

        Returns
        -------
        message, correction
            Of the bin before.
        """


class _Correction(NamedTuple):
    """g and G of the next sample, and the share of calcium of now that is left by then."""

    mean: Tensor
    covariance: Tensor
    reach: Tensor


class Calcium(Form[Tensor, Tensor, _Correction]):
    """Without a rise: the light is calcium itself."""

    def initial(self) -> State[Tensor, Tensor]:
        """Calcium before a trial, and its variance."""
        mean = self.samples.initial
        return State(mean, self.samples.initial_sd**2, torch.zeros_like(mean), torch.zeros_like(mean))

    def predict(self, state: State[Tensor, Tensor], rate: Tensor) -> Belief[Tensor, Tensor]:
        """``d μ``, ``d² P`` and ``d s + b λ``."""
        decay = self.samples.decay
        mean, variance = decay * state.mean, decay**2 * state.covariance + LEAST_VARIANCE
        pending, left = state.pending + rate, decay * state.left + rate
        return Belief(mean, variance, pending, left, left / pending)

    def light(self, belief: Belief[Tensor, Tensor]) -> Light:
        """All of it."""
        return Light(belief.mean, belief.covariance, belief.size)

    def update(
        self, belief: Belief[Tensor, Tensor], sample: Sample, error: Tensor, count: Count
    ) -> State[Tensor, Tensor]:
        """``μ + K e + (1 − K) s ⟨n⟩`` and ``(1 − K) P + v (1 − K)² s²``."""
        observed, variance, size = sample.observed, belief.covariance, belief.size
        remainder = 1 / (1 + variance * sample.precision)
        mean = belief.mean + torch.where(observed, (1 - remainder) * error + remainder * size * count.mean, 0.0)
        reduced = torch.where(observed, variance * remainder + (remainder * size) ** 2 * count.variance, variance)
        return State(mean, reduced, belief.pending * ~observed, belief.left * ~observed)

    def nothing(self) -> tuple[Message[Tensor, Tensor], _Correction]:
        """Zeros."""
        zero = torch.zeros_like(self.samples.decay)
        return Message(zero, zero), _Correction(zero, zero, torch.ones_like(zero))

    def add(self, message: Message[Tensor, Tensor], sample: Sample) -> Message[Tensor, Tensor]:
        """``W + p`` and ``w + p y``."""
        precision = message.precision + sample.precision
        return Message(precision, message.information + sample.precision * sample.value)

    def combine(self, belief: Belief[Tensor, Tensor], message: Message[Tensor, Tensor]) -> _Combined:
        """Divide by ``1 + W P``."""
        return _Combined(belief, message)

    def choose(self, observed: Tensor, own: _Correction, later: _Correction) -> _Correction:
        """g, G and 1 at a sample."""
        return _Correction(
            torch.where(observed, own.mean, later.mean),
            torch.where(observed, own.covariance, later.covariance),
            torch.where(observed, 1.0, later.reach),
        )

    def corrected(self, belief: Belief[Tensor, Tensor], correction: _Correction) -> tuple[Tensor, Tensor]:
        """``μ + P A' g`` and ``P − P A' G A P``."""
        reached = correction.reach * belief.covariance
        variance = (belief.covariance - reached**2 * correction.covariance).clamp(min=0)
        return belief.mean + reached * correction.mean, variance

    def back(
        self, message: Message[Tensor, Tensor], correction: _Correction
    ) -> tuple[Message[Tensor, Tensor], _Correction]:
        """``d² W``, ``d w``; g and G stay, and their reach shrinks."""
        decay = self.samples.decay
        earlier = Message(decay**2 * message.precision, decay * message.information)
        return earlier, correction._replace(reach=decay * correction.reach)


class _Combined(Combined[Tensor, Tensor, _Correction]):
    """Without a rise."""

    def __init__(self, belief: Belief[Tensor, Tensor], message: Message[Tensor, Tensor]):
        self.belief, self.incoming = belief, message
        self.shrink = 1 + belief.covariance * message.precision
        self.linear = belief.size * (message.information - message.precision * belief.mean) / self.shrink
        self.square = -0.5 * belief.size**2 * message.precision / self.shrink

    def posterior(self, count: Count, observed: Tensor) -> Posterior[Tensor, Tensor, _Correction]:
        before, before_variance, size = self.belief.mean, self.belief.covariance, self.belief.size
        precision, information = self.incoming.precision, self.incoming.information
        mean = (before + before_variance * (information - precision * size * count.mean)) / self.shrink
        felt = before_variance * precision * size / self.shrink
        variance = before_variance / self.shrink + felt**2 * count.variance
        correction = _Correction(
            (mean - before) / before_variance,
            (before_variance - variance) / before_variance**2,
            torch.ones_like(before),
        )
        proper = observed & (variance < before_variance)
        message = Message(
            torch.where(proper, 1 / variance - 1 / before_variance, precision * ~observed),
            torch.where(proper, mean / variance - before / before_variance, information * ~observed),
        )
        # A spike more is mostly taken from what was there before; only at a sample is it known how much.
        light_variance = before_variance / self.shrink + (size / self.shrink) ** 2 * count.variance
        return Posterior(correction, light_variance, message)


_PairCorrection = tuple[Pair, Symmetric]
"""A' g and A' G A."""


class LightAndRise(Form[Pair, Symmetric, _PairCorrection]):
    """With a rise: light l, and the rising component m that is not shown yet."""

    def initial(self) -> State[Pair, Symmetric]:
        """Calcium before a trial, all of it shown."""
        zero = torch.zeros_like(self.samples.initial)
        return State((self.samples.initial, zero), (self.samples.initial_sd**2, zero, zero), zero, (zero, zero))

    def predict(self, state: State[Pair, Symmetric], rate: Tensor) -> Belief[Pair, Symmetric]:
        """``A μ``, ``A P A'`` and ``A s + b λ``."""
        amplitude = self.samples.rise_amplitude
        mean, covariance = self._onward(state.mean), self._onward_both(state.covariance)
        light, rising = self._onward(state.left)
        pending, left = state.pending + rate, (light + (1 - amplitude) * rate, rising + amplitude * rate)
        return Belief(mean, covariance, pending, left, (left[0] / pending, left[1] / pending))

    def light(self, belief: Belief[Pair, Symmetric]) -> Light:
        """The first component."""
        return Light(belief.mean[0], belief.covariance[0], belief.size[0])

    def update(
        self, belief: Belief[Pair, Symmetric], sample: Sample, error: Tensor, count: Count
    ) -> State[Pair, Symmetric]:
        """``μ + K e + (s − K s_l) ⟨n⟩`` and ``P − K P_l' + v (s − K s_l)(s − K s_l)'``."""
        observed, mean, covariance, size = sample.observed, belief.mean, belief.covariance, belief.size
        precision = sample.precision
        # Without a sample, its precision and with it the gain are 0.
        error_precision = precision / (1 + covariance[0] * precision)
        gain = (covariance[0] * error_precision, covariance[1] * error_precision)
        remainder = (size[0] - gain[0] * size[0], size[1] - gain[1] * size[0])
        updated = (
            mean[0] + torch.where(observed, gain[0] * error + remainder[0] * count.mean, 0.0),
            mean[1] + torch.where(observed, gain[1] * error + remainder[1] * count.mean, 0.0),
        )
        variance = count.variance * observed
        reduced = (
            covariance[0] / (1 + covariance[0] * precision) + remainder[0] ** 2 * variance,
            covariance[1] / (1 + covariance[0] * precision) + remainder[0] * remainder[1] * variance,
            (covariance[2] - gain[1] * covariance[1]).clamp(min=0) + remainder[1] ** 2 * variance,
        )
        left = (belief.left[0] * ~observed, belief.left[1] * ~observed)
        return State(updated, reduced, belief.pending * ~observed, left)

    def nothing(self) -> tuple[Message[Pair, Symmetric], _PairCorrection]:
        """Zeros."""
        zero = torch.zeros_like(self.samples.decay)
        return Message((zero, zero, zero), (zero, zero)), ((zero, zero), (zero, zero, zero))

    def add(self, message: Message[Pair, Symmetric], sample: Sample) -> Message[Pair, Symmetric]:
        """``W_ll + p`` and ``w_l + p y``."""
        (light, both, rising), (of_light, of_rising) = message.precision, message.information
        return Message(
            (light + sample.precision, both, rising), (of_light + sample.precision * sample.value, of_rising)
        )

    def combine(self, belief: Belief[Pair, Symmetric], message: Message[Pair, Symmetric]) -> _PairCombined:
        """Invert ``1 + W P``."""
        return _PairCombined(belief, message)

    def choose(self, observed: Tensor, own: _PairCorrection, later: _PairCorrection) -> _PairCorrection:
        """g and G at a sample."""
        return _where(observed, own[0], later[0]), _where_both(observed, own[1], later[1])

    def corrected(self, belief: Belief[Pair, Symmetric], correction: _PairCorrection) -> tuple[Tensor, Tensor]:
        """Light of ``μ + P A' g`` and of ``P − P A' G A P``."""
        variance = (belief.covariance[0] - _reduction(belief.covariance, correction[1])).clamp(min=0)
        return belief.mean[0] + _times(belief.covariance, correction[0])[0], variance

    def back(
        self, message: Message[Pair, Symmetric], correction: _PairCorrection
    ) -> tuple[Message[Pair, Symmetric], _PairCorrection]:
        """``A' W A, A' w`` and ``A' g, A' G A``."""
        earlier = Message(self._back_both(message.precision), self._back(message.information))
        return earlier, (self._back(correction[0]), self._back_both(correction[1]))

    def _onward(self, pair: Pair) -> Pair:
        """A x."""
        decay, rise = self.samples.decay, self.samples.rise
        return decay * pair[0] + (decay - rise) * pair[1], rise * pair[1]

    def _onward_both(self, covariance: Symmetric) -> Symmetric:
        """A P A', and a little more doubt of the light."""
        first, second = self._onward(covariance[:2]), self._onward(covariance[1:])
        light = self._onward((first[0], second[0]))
        return light[0] + LEAST_VARIANCE, light[1], self.samples.rise * second[1]

    def _back(self, pair: Pair) -> Pair:
        """A' w."""
        decay, rise = self.samples.decay, self.samples.rise
        return decay * pair[0], (decay - rise) * pair[0] + rise * pair[1]

    def _back_both(self, precision: Symmetric) -> Symmetric:
        """A' W A."""
        first, second = self._back(precision[:2]), self._back(precision[1:])
        light = self._back((first[0], second[0]))
        return light[0], light[1], self._back((first[1], second[1]))[1]


class _PairCombined(Combined[Pair, Symmetric, _PairCorrection]):
    """With a rise."""

    def __init__(self, belief: Belief[Pair, Symmetric], message: Message[Pair, Symmetric]):
        self.belief, self.incoming = belief, message
        precision, size = message.precision, belief.size
        self.weighted_size = _times(precision, size)
        self.inverse = _inverse(precision, belief.covariance)
        self.by_spike = _product(self.inverse, self.weighted_size)
        self.by_message = _product(self.inverse, _minus(message.information, _times(precision, belief.mean)))
        self.linear = _dot(size, self.by_message)
        self.count_precision = _dot(size, self.by_spike)
        self.square = -0.5 * self.count_precision

    def posterior(self, count: Count, observed: Tensor) -> Posterior[Pair, Symmetric, _PairCorrection]:
        covariance, precision = self.belief.covariance, self.incoming.precision
        mean = _minus(self.by_message, (self.by_spike[0] * count.mean, self.by_spike[1] * count.mean))
        column, other = _product(self.inverse, precision[:2]), _product(self.inverse, precision[1:])
        known = (column[0], column[1], other[1])
        # Net of what a spike more takes from what was there before; only at a sample is it known how much.
        net = self.belief.size[0] - _times(covariance, self.by_spike)[0]
        light_variance = (covariance[0] - _reduction(covariance, known)).clamp(min=0) + net**2 * count.variance
        outgoing = self._outgoing(count, mean)
        message = Message(
            _where_both(observed, outgoing.precision, precision),
            _where(observed, outgoing.information, self.incoming.information),
        )
        return Posterior((mean, _minus_square(known, self.by_spike, count.variance)), light_variance, message)

    def _outgoing(self, count: Count, mean: Pair) -> Message[Pair, Symmetric]:
        """The message with the count integrated out, by its cavity variance c."""
        narrow = count.variance * self.count_precision < 1
        along = _dot(self.belief.size, self.weighted_size)
        factor = torch.where(narrow, count.variance / (1 + count.variance * (along - self.count_precision)), 1 / along)
        precision = _minus_square(self.incoming.precision, self.weighted_size, factor)
        corrected = _plus(self.belief.mean, _times(self.belief.covariance, mean))
        flat = _dot(self.belief.size, self.incoming.information) / along
        blind = _minus(self.incoming.information, (self.weighted_size[0] * flat, self.weighted_size[1] * flat))
        return Message(precision, _where(narrow, _plus(_times(precision, corrected), mean), blind))


def _inverse(precision: Symmetric, covariance: Symmetric) -> tuple[Pair, Pair]:
    """Rows of ``(1 + W P)⁻¹``."""
    by_light, by_rising = _times(precision, covariance[:2]), _times(precision, covariance[1:])
    a, b, c, d = 1 + by_light[0], by_rising[0], by_light[1], 1 + by_rising[1]
    determinant = a * d - b * c
    return (d / determinant, -b / determinant), (-c / determinant, a / determinant)


def _product(rows: tuple[Pair, Pair], pair: Pair) -> Pair:
    return _dot(rows[0], pair), _dot(rows[1], pair)


def _times(matrix: Symmetric, pair: Pair) -> Pair:
    return matrix[0] * pair[0] + matrix[1] * pair[1], matrix[1] * pair[0] + matrix[2] * pair[1]


def _dot(one: Pair, other: Pair) -> Tensor:
    return one[0] * other[0] + one[1] * other[1]


def _plus(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


def _minus(one: Pair, other: Pair) -> Pair:
    return one[0] - other[0], one[1] - other[1]


def _minus_square(matrix: Symmetric, pair: Pair, factor: Tensor) -> Symmetric:
    """``M − factor · pair pair'``."""
    return (
        matrix[0] - factor * pair[0] ** 2,
        matrix[1] - factor * pair[0] * pair[1],
        matrix[2] - factor * pair[1] ** 2,
    )


def _reduction(covariance: Symmetric, correction: Symmetric) -> Tensor:
    """Light of ``P G P``."""
    return _dot(covariance[:2], _times(correction, covariance[:2]))


def _where(observed: Tensor, one: Pair, other: Pair) -> Pair:
    return torch.where(observed, one[0], other[0]), torch.where(observed, one[1], other[1])


def _where_both(observed: Tensor, one: Symmetric, other: Symmetric) -> Symmetric:
    return *_where(observed, one[:2], other[:2]), torch.where(observed, one[2], other[2])
