"""Streams of nwb_sbtt as units of ezmsg."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import ezmsg.core as ez
import numpy as np
import xarray as xr
from ezmsg.util.messages.axisarray import AxisArray, CoordinateAxis, LinearAxis

from nwb_sbtt import load
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
    decoded : Dataset, optional
        Decoder of behaviour, from `nwb_sbtt.decode`.
    """

    run_dir: str
    session: str | None = None
    longest_gap: float = 10.0
    decoded: xr.Dataset | None = None


class InferenceState(ez.State):
    """The stream, and its bins once the first message has come, with the length of a sample and the order of the channels."""

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
    OUTPUT_DECODED = ez.OutputStream(AxisArray)
    """Behaviour, if there is a decoder."""

    def initialize(self) -> None:
        """Load the fit."""
        self.STATE.stream = load(self.SETTINGS.run_dir).stream(session=self.SETTINGS.session)
        self.STATE.stream.decode(self.SETTINGS.decoded)

    @ez.subscriber(INPUT_SIGNAL)
    @ez.publisher(OUTPUT_RATES)
    @ez.publisher(OUTPUT_SD)
    @ez.publisher(OUTPUT_FACTORS)
    @ez.publisher(OUTPUT_DECODED)
    async def infer(self, message: AxisArray) -> AsyncGenerator:
        """Publish the estimates that are due with a message."""
        bins = self._bins(message)
        outputs = {
            **dict.fromkeys(("rates", "mean"), self.OUTPUT_RATES),
            **dict.fromkeys(("rates_sd", "mean_sd"), self.OUTPUT_SD),
            **{"factors": self.OUTPUT_FACTORS, "decoded": self.OUTPUT_DECODED},
        }
        width = self.STATE.stream.bin_width
        for estimates in _runs(self._estimates(message, bins), width):
            for name, labels in bins.labels.items():
                yield (
                    outputs[name],
                    AxisArray(
                        np.stack([getattr(step, name) for _, step in estimates]),
                        dims=["time", "ch"],
                        axes={
                            "time": LinearAxis(unit="s", gain=width, offset=estimates[0].time),
                            "ch": CoordinateAxis(np.array(labels), dims=["ch"]),
                        },
                        attrs={"unit": "Hz"} if name in ("rates", "rates_sd") else {},
                        key=name,
                    ),
                )

    def _bins(self, message: AxisArray) -> Bins:
        """Check a message, and make the bins at the first one."""
        if sorted(message.dims) != ["ch", "time"] or not isinstance(message.axes.get("time"), LinearAxis):
            raise DataError(
                f"a message has the dimensions {message.dims} and the axes {sorted(message.axes)}; expected the dimensions "
                "'time' and 'ch' and a LinearAxis 'time'"
            )
        state = self.STATE
        if state.bins is None:
            labels = message.axes.get("ch")
            known = list(map(str, labels.data)) if isinstance(labels, CoordinateAxis) else None
            state.order = channel_order(known, state.stream.channels)
            state.bins = Bins(state.stream, 1 / message.axes["time"].gain, longest_gap=self.SETTINGS.longest_gap)
        return state.bins

    def _estimates(self, message: AxisArray, bins: Bins) -> list[Estimate]:
        flip = message.dims[0] == "ch"

        def ordered(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else (np.transpose(array) if flip else np.asarray(array))[:, self.STATE.order]

        values = ordered(message.data)
        observed, exposure = (ordered(message.attrs.get(name)) for name in ("observed", "exposure"))
        last = bins.restart() if message.attrs.get("restart") else []
        times = message.axes["time"].value(np.arange(len(values)))
        return last + bins.add(times, values, observed, exposure, inputs=message.attrs.get("inputs"))


def _runs(estimates: Sequence[Estimate], bin_width: float) -> list[list[Estimate]]:
    """Estimates without a gap between them: one time axis each."""
    runs: list[list[Estimate]] = []
    for each in estimates:
        if runs and abs(each.time - runs[-1][-1].time - bin_width) < bin_width / 2:
            runs[-1].append(each)
        else:
            runs.append([each])
    return runs
