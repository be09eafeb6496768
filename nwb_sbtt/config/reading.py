"""Settings of reading: what to take from a file, and how to cut it. Import them from `nwb_sbtt.config`, as all settings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from nwb_sbtt.config.base import Config, Count, Finite, NotNegative, NotNegativeInt, Positive, Share


class Trials(Config):
    """Cut around an event of each row of a table of intervals.

    ``event`` is a time column (seconds on the session clock); the window runs from ``start`` to ``stop`` seconds from
    it. Rows whose event is missing are left out and counted.
    """

    by: Literal["trials"] = "trials"
    event: str
    start: Finite
    stop: Finite
    table: str = "trials"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop}) must be later than start ({self.start})")
        return self


class Window(Config):
    """Take one window of the session clock, from ``start`` to ``stop`` seconds, as a single trial."""

    by: Literal["window"] = "window"
    start: Finite
    stop: Finite

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop}) must be later than start ({self.start})")
        return self


class Chop(Config):
    """Cut the whole session into pieces of ``length`` seconds that share ``overlap`` seconds with the next.

    ``length`` None takes 100 bins, less in a session too short for ten such pieces, with a fifth shared. ``start`` and
    ``stop`` limit the part of the session.
    """

    by: Literal["chop"] = "chop"
    length: Positive | None = None
    overlap: NotNegative | None = None
    start: Finite | None = None
    stop: Finite | None = None

    @model_validator(mode="after")
    def _shorter(self) -> Self:
        if self.overlap is not None and (self.length is None or self.overlap >= self.length):
            raise ValueError(f"overlap ({self.overlap}) must be shorter than length ({self.length})")
        if self.start is not None and self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop ({self.stop}) must be later than start ({self.start})")
        return self


Cut = Annotated[Trials | Window | Chop, Field(discriminator="by")]


class ElectricalConfig(Config):
    """How an ElectricalSeries becomes one value a bin.

    * ``use="lfp"``: the band, decimated to the bin; volts.
    * ``use="power"``: natural logarithm of the mean squared voltage of the band in each bin.
    * ``use="spikes"``: downward crossings of ``threshold`` times each electrode's robust noise (median |x| / 0.6745) in
      the band, counted per bin, at least ``dead_time`` seconds apart.

    ``band`` is in Hz; None takes 1 Hz to 0.4 of the bin rate for lfp, 70–150 Hz for power, 300–3000 Hz for spikes,
    always kept below 0.45 of the sampling rate.
    """

    use: Literal["lfp", "power", "spikes"] = "lfp"
    band: tuple[Positive, Positive] | None = None
    threshold: Finite = -4.5
    dead_time: NotNegative = 0.001
    support: Annotated[float, Field(gt=0, le=1)] = 0.9
    """A filtered value is observed where at least this share of the filter's weight lies on observed samples."""


class RoiConfig(Config):
    """How a RoiResponseSeries is read.

    ``offset`` says when, within its frame, each ROI was sampled: "none" (all at the frame's time), "column" (seconds, the
    table's column ``offset_column``), or "centroid" (line of the ROI's centroid over the scan-line rate; the slow axis of
    the masks must then be named in ``slow_axis``, and ``scan_line_rate`` in lines per second where the file has none).
    An own array of offsets goes to ``read_nwb(offsets=…)``. ``cells`` keeps "accepted" ROIs alone, or "all".
    """

    offset: Literal["none", "column", "centroid"] = "none"
    offset_column: str = "sampling_time_offset"
    slow_axis: Literal["x", "y"] | None = None
    scan_line_rate: Positive | None = None
    cells: Literal["all", "accepted"] = "all"
    aggregate: Literal["mean", "sum"] = "mean"
    """What becomes of several frames in one bin: their mean, or (for deconvolved events) their sum."""


class EventsConfig(Config):
    """How fluorescence becomes events; the same settings serve all ROIs.

    ``indicator`` names the calcium indicator ("GCaMP6f", …); None takes what the data say. ``decay`` and ``rise`` [s] set the
    time constants instead of fitting them. ``neuropil`` is the share of the neuropil's fluorescence that is taken off, and
    ``window`` [s] and ``smoothing`` [samples] are those of the running baseline, all three with suite2p's defaults. With a
    ``threshold`` smaller events than so many sds of the noise do not occur (but for a few where the indicator has a rise);
    at 0, sizes are shrunk by a penalty instead, as large as the noise allows.
    """

    indicator: str | None = None
    decay: Positive | None = None
    rise: NotNegative | None = None
    neuropil: Annotated[float, Field(ge=0, le=1)] = 0.7
    window: Positive = 60.0
    smoothing: Positive = 10.0
    threshold: NotNegative = 0.0


class BandwidthConfig(Config):
    """A limit on how many channels are sampled per bin, imposed on data after reading; see `nwb_sbtt.data.limit_bandwidth`.

    * ``speckled``: ``k`` channels of N drawn in every bin of every trial ("random" means the same);
    * ``round_robin``: blocks of ``k`` in turn, as a multiplexer does;
    * ``fixed``: the same ``k`` channels throughout (control);
    * ``decimate``: all channels, but only in a share k/N of the bins (control).

    All take equally many samples of a trial. ``full`` is the share of the training trials that are left as they are.
    """

    scheme: Literal["speckled", "round_robin", "fixed", "decimate"] = "speckled"
    k: Count
    seed: NotNegativeInt = 0
    full: Share = 0.0

    @field_validator("scheme", mode="before")
    @classmethod
    def _renamed(cls, scheme: object) -> object:
        # What "speckled" was called in files of version 0.1.
        return "speckled" if scheme == "random" else scheme


class ReadConfig(Config):
    """What to take from a file and how to cut it into bins and trials.

    ``series`` holds in-file paths or globs ("units", "processing/ecephys/LFP/*"); None takes the file's one candidate.
    ``bin_width`` is in seconds; None takes 0.02 for spike counts and the sampling period for sampled series.
    ``observed="intervals"`` uses each unit's `obs_intervals` where there are any (a unit without any counts as always
    observed); "all" ignores them. ``invalid_times`` False ignores the table of that name. ``control`` lists the values of
    a TimeSeries' `control` that count as observed; None ignores `control`. ``sentinel`` is a value that stands for a
    missing sample, beside NaN. ``where`` keeps the channels whose table column has one of the values given.
    """

    series: tuple[str, ...] | None = None
    bin_width: Positive | None = None
    cut: Cut | None = None
    electrical: ElectricalConfig = ElectricalConfig()
    rois: RoiConfig = RoiConfig()
    events: EventsConfig | None = None
    """Set, it finds events in fluorescence, or ΔF/F, before that is cut into trials; None takes the series as it is."""
    observed: Literal["intervals", "all"] = "intervals"
    invalid_times: bool = True
    control: tuple[int, ...] | None = None
    sentinel: Finite | None = None
    where: dict[str, tuple[str | float | bool, ...]] = Field(default_factory=dict)
    trial_columns: tuple[str, ...] = ()
    channel_columns: tuple[str, ...] = ()
    bandwidth: BandwidthConfig | None = None
    memory_limit: Positive = 1e9
    """Bytes that reading a sampled series may hold at once, beside the binned result."""
