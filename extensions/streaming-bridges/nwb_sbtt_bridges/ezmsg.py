"""Streams of nwb_sbtt as units of ezmsg."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import ezmsg.core as ez
import numpy as np
from ezmsg.util.messages.axisarray import AxisArray, CoordinateAxis, LinearAxis

from nwb_sbtt import Fitted, load
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.stream import Stream
from nwb_sbtt_bridges.bins import Bins, Estimate, channel_order


class InferenceSettings(ez.Settings):
    """Settings of `Inference`.

    Parameters
    ----------
    run_dir : str
        Run folder of a fit with a lag.
    session : str, optional
        Of the fit; may be omitted if there is one.
    longest_gap : float
        Seconds of lost samples beyond which the stream begins again.
    """

    run_dir: str
    session: str | None = None
    longest_gap: float = 10.0


class InferenceState(ez.State):
    """The stream, and its bins once the first message has told how long samples are."""

    fitted: Fitted
    stream: Stream
    bins: Bins | None = None
    order: list[int] | None = None


class Inference(ez.Unit):
    """Infers rates and factors from messages of counts or signals.

    A message is an AxisArray with the dimensions "time" and "ch": one sample or several, of bins or of equal parts of bins. Its
    time axis is linear, its gain the seconds from one sample to the next. Channels are matched by the labels of a
    CoordinateAxis "ch", if there is one. NaN is missing. `attrs` may hold arrays: "observed" and "exposure" of the shape of
    the data, "inputs" (time, input) for a fit with known inputs; and "restart", True for the first message of a trial.

    What is published has the dimensions "time" and "ch", and the time of the bins themselves, `lag` bins before those that were
    received. Lost messages are told from the time axis: their bins are inferred as missing ones.
    """

    SETTINGS = InferenceSettings
    STATE = InferenceState

    INPUT_SIGNAL = ez.InputStream(AxisArray)
    OUTPUT_RATES = ez.OutputStream(AxisArray)
    """Rates in Hz; means where the data are signals."""
    OUTPUT_SD = ez.OutputStream(AxisArray)
    """Posterior sd of rates or means."""
    OUTPUT_FACTORS = ez.OutputStream(AxisArray)

    def initialize(self) -> None:
        """Load the fit."""
        self.STATE.fitted = load(self.SETTINGS.run_dir)
        self.STATE.stream = self.STATE.fitted.stream(session=self.SETTINGS.session)

    @ez.subscriber(INPUT_SIGNAL)
    @ez.publisher(OUTPUT_RATES)
    @ez.publisher(OUTPUT_SD)
    @ez.publisher(OUTPUT_FACTORS)
    async def infer(self, message: AxisArray) -> AsyncGenerator:
        """Publish the estimates that are due with a message."""
        expected = self.STATE.fitted.expected_name
        unit = "Hz" if self.STATE.fitted.expects_counts else ""
        channels, bin_width = self.STATE.stream.channels, self.STATE.stream.bin_width
        for estimates in _runs(self._estimates(message), bin_width):
            n_factors = len(estimates[0].step.factors)
            for output, name, labels, unit_of in (
                (self.OUTPUT_RATES, expected, channels, unit),
                (self.OUTPUT_SD, f"{expected}_sd", channels, unit),
                (self.OUTPUT_FACTORS, "factors", [f"factor {i}" for i in range(n_factors)], ""),
            ):
                yield (
                    output,
                    AxisArray(
                        np.stack([getattr(step, name) for _, step in estimates]),
                        dims=["time", "ch"],
                        axes={
                            "time": LinearAxis(unit="s", gain=bin_width, offset=estimates[0].time),
                            "ch": CoordinateAxis(np.array(labels), dims=["ch"]),
                        },
                        attrs={"unit": unit_of},
                        key=name,
                    ),
                )

    def _estimates(self, message: AxisArray) -> list[Estimate]:
        if sorted(message.dims) != ["ch", "time"] or not isinstance(message.axes.get("time"), LinearAxis):
            raise DataError(
                f"a message has the dimensions {message.dims} and the axes {sorted(message.axes)}; expected the dimensions "
                "'time' and 'ch' and a LinearAxis 'time'"
            )
        time = message.axes["time"]
        state = self.STATE
        if state.bins is None:
            state.bins = Bins(
                state.stream, 1 / time.gain, counts=state.fitted.expects_counts, longest_gap=self.SETTINGS.longest_gap
            )
            labels = message.axes.get("ch")
            known = list(map(str, labels.data)) if isinstance(labels, CoordinateAxis) else None
            state.order = channel_order(known, state.stream.channels)
        found = state.bins.restart() if message.attrs.get("restart") else []
        flip = message.dims[0] == "ch"

        def ordered(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else (np.transpose(array) if flip else np.asarray(array))[:, state.order]

        values = ordered(message.data)
        observed, exposure = (ordered(message.attrs.get(name)) for name in ("observed", "exposure"))
        return found + state.bins.add(
            time.value(np.arange(len(values))), values, observed, exposure, inputs=message.attrs.get("inputs")
        )


def _runs(estimates: Sequence[Estimate], bin_width: float) -> list[list[Estimate]]:
    """Estimates without a gap between them: one time axis each."""
    runs: list[list[Estimate]] = []
    for each in estimates:
        if runs and abs(each.time - runs[-1][-1].time - bin_width) < bin_width / 2:
            runs[-1].append(each)
        else:
            runs.append([each])
    return runs
