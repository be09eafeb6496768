"""Streams of nwb_sbtt and the Lab Streaming Layer: an inlet of counts or signals, and outlets of what is inferred."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pylsl

from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.stream import Stream
from nwb_sbtt_bridges.bins import Bins, Estimate, Tally, channel_order

TYPES = {
    **{"rates": "Rates", "rates_sd": "Rates", "mean": "Signal", "mean_sd": "Signal"},
    **{"factors": "Factors", "decoded": "Behavior"},
}
"""Content type of the stream of each estimate."""
SECONDS = 10.0
"""How long the description of a stream is waited for."""


class Bridge:
    """Infers what an LSL stream of counts or signals sends, and sends the estimates as further LSL streams.

    Samples of the source are those of bins, or of equal parts of bins, at a regular rate: the channels of the fit, followed by
    its known inputs if it has any. NaN is missing. Channels that have labels are matched by them. Time stamps are mapped to the
    clock of this machine. There is one outlet for each estimate, named ``NAME-rates``, ``NAME-factors`` and so on, with one
    sample a bin, whose time stamp is that of the bin itself, not of the moment at which it was inferred.
    `nwb_sbtt_bridges.bins.Bins` says what happens to lost and late samples.

    Parameters
    ----------
    stream : Stream
        Of a fit with a lag (`nwb_sbtt.Fitted.stream`); it begins anew.
    source : pylsl.StreamInfo
        The stream of the recording, as pylsl resolves it.
    send : sequence of str
        Estimates to send: "rates", "rates_sd" and "factors" of counts, "mean", "mean_sd" and "factors" of signals; "decoded" if
        the stream decodes behaviour (`nwb_sbtt.fitting.stream.Stream.decode`).
    name : str
        First part of the names of the outlets.
    longest_gap : float
        Seconds of lost samples beyond which the stream begins again.
    patience : float, optional
        Seconds that a sample is waited for beyond its time; then it counts as lost, and its bin is inferred without it. By
        default a bin is inferred when its samples or later ones are there. Only for time stamps of the LSL clock.

    Attributes
    ----------
    outlets : dict of str to pylsl.StreamOutlet
        By what they send.

    Raises
    ------
    DataError
        If the source has other channels than the fit, no regular rate, or one that does not suit the bins; if there is no such
        estimate.
    """

    def __init__(
        self,
        stream: Stream,
        source: pylsl.StreamInfo,
        *,
        send: Sequence[str] = ("rates", "factors"),
        name: str = "nwb_sbtt",
        longest_gap: float = 10.0,
        patience: float | None = None,
    ):
        self._inlet = pylsl.StreamInlet(source, processing_flags=pylsl.proc_clocksync)
        description = self._inlet.info(timeout=SECONDS)
        if description.nominal_srate() == pylsl.IRREGULAR_RATE:
            raise DataError(
                f"the LSL stream {source.name()!r} has no regular rate; expected the counts or signals of bins, "
                f"{1 / stream.bin_width:g} Hz, or of equal parts of bins. Count events in bins before they are sent"
            )
        self._order = _places(description, stream.channels, stream.inputs)
        self._n_channels = len(stream.channels)
        self._bins = Bins(stream, description.nominal_srate(), longest_gap=longest_gap)
        self._patience = patience
        labels = self._bins.labels
        if absent := [each for each in send if each not in labels]:
            raise DataError(f"the stream has no {absent[0]!r} to send; expected some of {', '.join(labels)}")
        units = {"rates": "Hz", "rates_sd": "Hz", "factors": "none", "decoded": "unknown"}
        unit = (description.get_channel_units() or ["unknown"])[0] or "unknown"
        self.outlets = {}
        for each in send:
            info = pylsl.StreamInfo(
                f"{name}-{each}",
                TYPES[each],
                len(labels[each]),
                1 / stream.bin_width,
                pylsl.cf_float32,
                f"{name}-{each} of {source.source_id()}",
            )
            info.set_channel_labels(list(labels[each]))
            info.set_channel_types(TYPES[each])
            info.set_channel_units(units.get(each, unit))
            about = info.desc().append_child("inference")
            about.append_child_value("source", source.name())
            about.append_child_value("lag_bins", str(stream.lag))
            about.append_child_value("bin_width", repr(stream.bin_width))
            self.outlets[each] = pylsl.StreamOutlet(info)
        self._inlet.open_stream(timeout=SECONDS)
        self._inlet.time_correction(timeout=SECONDS)  # Measured now: it takes longer than a bin.

    @property
    def tally(self) -> Tally:
        """Bins that were given, samples that were lost or late, and how often the stream began again."""
        return self._bins.tally

    def pull(self, timeout: float = 0.2) -> int:
        """Wait for samples, infer what is due, and send it.

        Parameters
        ----------
        timeout : float
            Seconds to wait if there is no sample.

        Returns
        -------
        int
            Bins that were sent.

        Raises
        ------
        DataError
            If values are negative counts or infinite.
        """
        if self._patience is not None:
            timeout = min(timeout, self._patience / 2)
        samples, times = self._inlet.pull_chunk(timeout=timeout, min_samples=1, as_numpy=True)
        found: list[Estimate] = []
        if len(times):
            ordered = samples[:, self._order]
            values, inputs = ordered[:, : self._n_channels], ordered[:, self._n_channels :]
            found += self._bins.add(times, values, inputs=inputs if inputs.size else None)
        if self._patience is not None:
            found += self._bins.give_up(pylsl.local_clock() - self._patience)
        self._send(found)
        return len(found)

    def restart(self) -> None:
        """Send the last bins, which the lag still holds back: the next sample is the first of another trial or recording."""
        self._send(self._bins.restart())

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Infer and send until told to stop, then send the last bins.

        Parameters
        ----------
        until : callable
            Returns whether to stop; asked several times a second. By default there is no end but Ctrl-C.
        """
        try:
            while not until():
                self.pull()
        finally:
            self.restart()

    def _send(self, estimates: Sequence[Estimate]) -> None:
        for time, step in estimates:
            for each, outlet in self.outlets.items():
                outlet.push_sample(getattr(step, each), time)


def _places(description: pylsl.StreamInfo, channels: Sequence[str], inputs: Sequence[str]) -> list[int]:
    """Places in the samples of the channels of the fit and of its known inputs."""
    expected = [*channels, *inputs]
    labels = description.get_channel_labels()
    if labels is None and description.channel_count() != len(expected):
        raise DataError(
            f"samples of the LSL stream {description.name()!r} have {description.channel_count()} values; expected "
            f"{len(expected)}: the {len(channels)} channels of the fit{f' and {len(inputs)} known inputs' if inputs else ''}"
        )
    return channel_order(None if labels is None else [label or "" for label in labels], expected)
