"""A fit that is given bins as they are recorded, and infers each from its past and the few bins of its lag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_sbtt.data.datasets import masked_as_nan
from nwb_sbtt.errors import ConfigError, DataError
from nwb_sbtt.evaluate.calibration import Calibration, CountCalibration, variance_of_log
from nwb_sbtt.evaluate.decoding import decoder_of
from nwb_sbtt.evaluate.regression import Linear
from nwb_sbtt.fitting.ensemble import combine
from nwb_sbtt.fitting.signature import channel_names
from nwb_sbtt.models.stepping import Estimate, Stepper

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

Array = NDArray[np.float32]
FIT = "fit"
"""Name of what tells, in the state of a stream, which fit and session it is of."""
DECODER = "decoder/"
"""Start of the names of a decoder's arrays in the state of a stream."""


@dataclass(frozen=True)
class Step:
    """What a stream infers of a bin, or of a few.

    Parameters
    ----------
    bin : int, or int array (bin)
        Number of the bin that the estimates are of, counted from 0: the lag before the bin that was given. A negative number
        where no estimate is due yet; all estimates are then NaN.
    factors : array (factor) or (bin, factor)
        Latent factors.
    rates, rates_sd : array (channel) or (bin, channel), or None
        In Hz, with the calibrated posterior sd; None where the data are signals.
    mean, mean_sd : array (channel) or (bin, channel), or None
        In the data's unit, with the calibrated posterior sd; None where the data are counts.
    decoded : array (column) or (bin, column), or None
        Behaviour, in its unit, at the lag of the decoder after the bin; None without a decoder (see `Stream.decode`).
    """

    bin: int | NDArray[np.intp]
    factors: Array
    rates: Array | None = None
    rates_sd: Array | None = None
    mean: Array | None = None
    mean_sd: Array | None = None
    decoded: Array | None = None


class Stream:
    """State of a recording that is inferred bin by bin; made by `nwb_sbtt.Fitted.stream`.

    Every estimate equals that of `nwb_sbtt.Fitted.infer` for the whole recording, to rounding (1e-5). State is kept in rings of
    a fixed size, and no bin is computed twice.

    Parameters
    ----------
    fitted : Fitted
        With a model that has a lag.
    session : str
        Of the fit.

    Attributes
    ----------
    channels : tuple
        Names of the channels, in the order in which `step` takes them: that of the fit.
    inputs : tuple of str
        Names of the known inputs, in the order in which `step` takes them; empty for a fit without.
    bin_width : float
        Seconds.
    lag : int
        Bins between the bin that is given and the one that is inferred.
    columns : tuple of str
        Names of the columns of behaviour that is decoded; empty without a decoder.

    Raises
    ------
    ConfigError
        If the model has no lag, or its likelihood is not one of counts or signals.

    Examples
    --------
    >>> stream = fitted.stream()  # doctest: +SKIP
    >>> for counts, observed in recording:  # doctest: +SKIP
    ...     step = stream.step(counts, observed)
    ...     control(step.factors)
    """

    def __init__(self, fitted: Fitted, session: str):
        lag = fitted.config.lag
        if lag is None:
            raise ConfigError(
                f"the fit in {str(fitted.run_dir)!r} has no lag: each bin is inferred from the whole trial, so there is no "
                "stream of it; fit a model with a lag: --model conv --set model.lag=0 (only the past and the present)"
            )
        signature = fitted.signature.sessions[session]
        self.channels: tuple[Any, ...] = tuple(signature.channels)
        self.inputs = signature.inputs
        self.bin_width, self.lag = float(signature.bin_width), lag
        self._steppers = [Stepper(member.model, session) for member in fitted.members]
        self._latents_of = fitted.members.index(fitted.best)
        self._is_counts = fitted.expects_counts
        self._variance = _variance_of(fitted.calibrations.get(session), counts=self._is_counts)
        self.columns: tuple[str, ...] = ()
        self._decoder: tuple[Linear, str] | None = None
        self._fit = f"{fitted.checkpoint_sha256}/{session}"

    @property
    def n_bins(self) -> int:
        """Bins that were given since the last `reset`."""
        return self._steppers[0].n_data

    def reset(self) -> None:
        """Begin anew: the next bin is the first of a trial or of a recording."""
        for stepper in self._steppers:
            stepper.reset()

    def step(
        self,
        values: ArrayLike,
        observed: ArrayLike | None = None,
        exposure: ArrayLike | None = None,
        *,
        inputs: ArrayLike | None = None,
    ) -> Step:
        """Give the next bin, or the next few.

        Parameters
        ----------
        values : array (channel) or (bin, channel)
            Counts, or signals in the data's unit, of `channels`. NaN is missing, and so is what a masked array masks.
        observed : bool array, or of 0 and 1, optional
            Whether there is a measurement; by default wherever `values` is not NaN.
        exposure : array, optional
            Share of the bin during which each channel was observed, in (0, 1]; 1 by default. Ignored where values are
            missing.
        inputs : array (input) or (bin, input), optional
            Known inputs, in the units of the fit's data; NaN where they are missing. Only for a fit with inputs, which needs
            them.

        Returns
        -------
        Step
            Of as many bins, `lag` earlier.

        Raises
        ------
        DataError
            If a shape is not that of the channels or inputs, something is no number, or an observed value is infinite, or a
            negative count; or after `finish`. The stream is then as it was before.
        """
        self._check_goes_on()
        array = as_numbers("values", values)
        n_channels = len(self.channels)
        if array.ndim not in (1, 2) or array.shape[-1] != n_channels:
            raise DataError(
                f"values have the shape {array.shape}; expected ({n_channels},), one value of each channel of the fit in the "
                f"order of stream.channels, or (bins, {n_channels})"
            )
        shown = ~np.isnan(array)
        if observed is not None:
            shown &= _same_shape("observed", as_flags(observed), array)
        share = None if exposure is None else as_numbers("exposure", exposure)
        check_bin(array, shown, share, counts=self._is_counts)
        if share is not None:
            share = np.where(shown, share, np.float32(1))
        known = self._known(inputs, array)
        if array.ndim == 1:
            return self._one([each.step(array, shown, share, known) for each in self._steppers])
        steps = []
        for i in range(len(array)):
            given = array[i], shown[i], None if share is None else share[i], None if known is None else known[i]
            steps.append(self._one([each.step(*given) for each in self._steppers]))
        return _stacked(steps, self)

    def decode(self, decoded: xr.Dataset | None) -> None:
        """Decode behaviour from now on: each `Step` has it as ``decoded``, equal to `nwb_sbtt.evaluate.apply_decoder`.

        Parameters
        ----------
        decoded : Dataset or None
            From `nwb_sbtt.decode`, of latents of the same fit and session; None ends decoding.

        Raises
        ------
        DataError
            If there is no decoder of bins, or it is of other latents than the stream has.
        """
        if decoded is None:
            self._decoder, self.columns = None, ()
            return
        decoder, of = decoder_of(decoded)
        sizes = {"factors": self._steppers[0].n_factors, self._expected: len(self.channels)}
        if sizes.get(of) != len(decoder.weights):
            has = " or ".join(f"{n} {name}" for name, n in sizes.items())
            raise DataError(
                f"the decoder is of {len(decoder.weights)} {of}; expected one of {has}, as this stream has them"
            )
        if of == self._expected:
            # Data may have the channels in another order than the fit.
            rows = {name: row for row, name in enumerate(channel_names(decoded))}
            if missing := [name for name in self.channels if name not in rows]:
                raise DataError(f"the decoder has no channel {missing[0]!r}; decode the rates of this fit and session")
            decoder = Linear(decoder.weights[[rows[name] for name in self.channels]], decoder.intercept)
        self._decoder, self.columns = (decoder, of), tuple(map(str, decoded["column"].values))

    def finish(self) -> Step:
        """End the trial or the recording: give the estimates of its last `lag` bins. The next call must be `reset`.

        Returns
        -------
        Step
            Of `lag` bins; none where the lag is 0.

        Raises
        ------
        DataError
            If the trial has ended already.
        """
        self._check_goes_on()
        steps = [self._one([each.end() for each in self._steppers]) for _ in range(self.lag)]
        return _stacked(steps, self)

    def state(self) -> dict[str, NDArray[Any]]:
        """Copy what is kept of the past, and the decoder, so that another process can go on (`numpy.savez`).

        Returns
        -------
        dict of name to array
        """
        state = {f"{i}/{name}": array for i, each in enumerate(self._steppers) for name, array in each.state().items()}
        if self._decoder is not None:
            decoder, of = self._decoder
            parts = {"weights": decoder.weights, "intercept": decoder.intercept, "of": of, "columns": self.columns}
            state |= {f"{DECODER}{name}": np.array(part) for name, part in parts.items()}
        return state | {FIT: np.array(self._fit)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state : mapping of name to array
            From `state`, of a stream of the same fit and session.

        Raises
        ------
        DataError
            If it is no state, or of another fit or session.
        """
        if not isinstance(state, Mapping) or FIT not in state:
            raise DataError(f"the state is a {type(state).__name__}; expected what stream.state() returned")
        if str(state[FIT]) != self._fit:
            raise DataError(
                "this state is of another model: its fit or its session differ from those of this stream; load the fit that "
                "it was made with, or start without a state"
            )
        parts = [
            {name.partition("/")[2]: np.asarray(state[name]) for name in state if name.startswith(f"{i}/")}
            for i in range(len(self._steppers))
        ]
        for each, part in zip(self._steppers, parts, strict=True):
            each.restore(part)
        kept = {name.removeprefix(DECODER): state[name] for name in state if name.startswith(DECODER)}
        self._decoder, self.columns = None, ()
        if kept:
            self._decoder = Linear(kept["weights"], kept["intercept"]), str(kept["of"])
            self.columns = tuple(map(str, kept["columns"]))

    def _check_goes_on(self) -> None:
        if self._steppers[0].bins > self.n_bins:
            raise DataError("the trial has ended (stream.finish); call stream.reset() before its next bin")

    def _known(self, inputs: ArrayLike | None, values: Array) -> Array | None:
        if not self.inputs and inputs is None:
            return None
        if inputs is None or not self.inputs:
            advice = (
                f"pass inputs=, {len(self.inputs)} numbers for each bin (NaN if missing)"
                if self.inputs
                else "omit inputs"
            )
            raise DataError(f"the model was fitted with the known inputs {self._input_names}; {advice}")
        return as_inputs(inputs, (*values.shape[:-1], len(self.inputs)), self.inputs)

    @property
    def _input_names(self) -> str:
        """For errors: text has no place among what is done in each bin."""
        return ", ".join(map(repr, self.inputs)) or "none"

    def _one(self, estimates: Sequence[Estimate | None]) -> Step:
        """What the members infer of one bin, averaged and calibrated."""
        number = self._steppers[0].bins - 1 - self.lag
        found = [each for each in estimates if each is not None]
        if not found:
            return self._none(number)
        expected, sd = found[0].expected, found[0].expected_sd
        if len(found) > 1:
            expected, sd = _combined(found, counts=self._is_counts)
        sd = self._variance(expected, sd)
        factors = found[self._latents_of].factors
        if self._is_counts:
            expected, sd = expected / self.bin_width, sd / self.bin_width
        return self._as_step(number, factors, expected, sd)

    def _none(self, number: int) -> Step:
        n_factors, n_channels = self._steppers[0].n_factors, len(self.channels)
        factors, channels = np.full(n_factors, np.nan, np.float32), np.full(n_channels, np.nan, np.float32)
        return self._as_step(number, factors, channels, channels)

    def _as_step(self, number: int, factors: Array, expected: Array, sd: Array) -> Step:
        """Name what was inferred, and decode behaviour from it."""
        decoded = None
        if self._decoder is not None:
            decoder, of = self._decoder
            decoded = decoder(factors if of == "factors" else expected).astype(np.float32)
        if self._is_counts:
            return Step(number, factors, rates=expected, rates_sd=sd, decoded=decoded)
        return Step(number, factors, mean=expected, mean_sd=sd, decoded=decoded)

    @property
    def _expected(self) -> str:
        return "rates" if self._is_counts else "mean"


def as_numbers(name: str, given: ArrayLike) -> Array:
    """Give an array of numbers, NaN where a masked array masks.

    Parameters
    ----------
    name : str
        For the error.
    given : array

    Returns
    -------
    float32 array

    Raises
    ------
    DataError
        If it cannot be one.
    """
    try:
        return masked_as_nan(given)
    except (TypeError, ValueError):
        raise DataError(
            f"{name} cannot be an array of numbers ({type(given).__name__}); expected numbers, NaN where they are missing"
        ) from None


def as_inputs(given: ArrayLike, shape: tuple[int, ...], names: Sequence[str]) -> Array:
    """Give known inputs as an array of numbers, NaN where one is missing.

    Parameters
    ----------
    given : array
    shape : tuple of int
        That they must have.
    names : sequence of str
        Of the inputs, for the error.

    Returns
    -------
    float32 array

    Raises
    ------
    DataError
        If they have another shape, are no numbers, or are infinite somewhere.
    """
    known = as_numbers("inputs", given)
    if known.shape != shape or np.isinf(known).any():
        what = f"have the shape {known.shape}" if known.shape != shape else "are infinite"
        raise DataError(f"inputs {what}; expected {shape} finite numbers or NaN, of {', '.join(map(repr, names))}")
    return known


def as_flags(observed: ArrayLike) -> NDArray[np.bool_]:
    """Give an array of bools, False where a masked array masks.

    Parameters
    ----------
    observed : bool array, or of 0 and 1

    Returns
    -------
    bool array

    Raises
    ------
    DataError
        If it has other values.
    """
    array = np.asarray(np.ma.filled(observed, 0) if isinstance(observed, np.ma.MaskedArray) else observed)
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf" or not ((array == 0) | (array == 1)).all():
        raise DataError(
            f"observed has {array.dtype} values other than 0 and 1; expected true or false for each value, not numbers of "
            "channels"
        )
    return array.astype(bool)


def check_bin(values: Array, shown: NDArray[np.bool_], exposure: Array | None, *, counts: bool) -> None:
    """Refuse what cannot be a bin, or a few.

    Parameters
    ----------
    values : array (…, channel)
    shown : bool array (…, channel)
        Whether there is a measurement.
    exposure : array, optional
    counts : bool

    Raises
    ------
    DataError
        If an observed value is infinite or a negative count, or an exposure has another shape or is not in (0, 1].
    """
    seen = values[shown]
    if not np.isfinite(seen).all():
        raise DataError("an observed value is infinite; pass NaN for a missing sample")
    if counts and seen.size and seen.min() < 0:
        raise DataError(f"an observed count is {seen.min():g}; counts are 0 or more")
    if exposure is None:
        return
    share = _same_shape("exposure", exposure, values)[shown]
    if not ((share > 0) & (share <= 1)).all():
        raise DataError("exposure is the share of the bin that was observed: expected numbers in (0, 1]")


def _same_shape(name: str, array: NDArray[Any], values: Array) -> NDArray[Any]:
    if array.shape != values.shape:
        raise DataError(f"{name} has the shape {array.shape}; expected that of the values, {values.shape}")
    return array


def _variance_of(calibration: Calibration | None, *, counts: bool) -> Callable[[Array, Array], Array]:
    """Return a function that calibrates the sd of what is expected of the channels of a bin."""
    if calibration is None:
        return lambda expected, sd: sd

    def of_counts(expected: Array, sd: Array) -> Array:
        assert isinstance(calibration, CountCalibration)
        mean, log = expected.astype(float), variance_of_log(expected.astype(float), sd.astype(float))
        return np.asarray(mean * np.sqrt(calibration.relative_variance(mean, log)), np.float32)

    def of_signals(expected: Array, sd: Array) -> Array:
        assert not isinstance(calibration, CountCalibration)
        return np.asarray(np.sqrt(calibration.variance(sd.astype(float) ** 2)), np.float32)

    return of_counts if counts else of_signals


def _combined(estimates: Sequence[Estimate], *, counts: bool) -> tuple[Array, Array]:
    """Average the members as `infer` does."""
    arrays = (
        {name: torch.from_numpy(getattr(each, name))[None, None] for name in ("expected", "expected_sd")}
        for each in estimates
    )
    averaged = combine(arrays, expected="rates" if counts else "mean", latents_of=0)
    return averaged["expected"][0, 0].numpy(), averaged["expected_sd"][0, 0].numpy()


def _stacked(steps: Sequence[Step], stream: Stream) -> Step:
    """Put the estimates of several bins into arrays (bin, …)."""
    names = ("factors", "rates", "rates_sd", "mean", "mean_sd", "decoded")
    bins = np.array([each.bin for each in steps], np.intp)
    like = steps[0] if steps else stream._none(0)
    arrays = {
        name: np.stack([getattr(each, name) for each in steps]) if steps else getattr(like, name)[None][:0]
        for name in names
        if getattr(like, name) is not None
    }
    return Step(bins, **arrays)
