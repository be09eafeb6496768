"""Settings of reading: what to take from a file, and how to cut it. Import them from `nwb_sbtt.config`, as all settings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nwb_sbtt.config.base import (
    Config,
    Count,
    Finite,
    NotNegative,
    NotNegativeInt,
    Positive,
    Seconds,
    SecondsOrZero,
    Share,
    Time,
)
from nwb_sbtt.config.describe import Unit


class Trials(Config):
    """Cut trials around an event of each row of a table of intervals or events.

    Rows whose event is missing are left out, and their number is noted.
    """

    by: Literal["trials"] = Field(default="trials", description="Cuts around an event of each trial.")
    event: str = Field(
        description="Column of the table with the time of the event, in seconds on the session clock; or, instead of a column "
        "of the trials, the name of a table of events."
    )
    start: Time = Field(description="Start of the trial, from the event; negative before it.")
    stop: Time = Field(description="End of the trial, from the event; later than `start`.")
    table: str = Field(
        default="trials", description="Table of intervals or events, by its name or its path in the file."
    )
    relative: bool = Field(
        default=False,
        description="Whether the column `event` counts seconds from the `start_time` of its own trial, as many laboratories "
        "store it, and not on the session clock.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop}) must be later than start ({self.start})")
        return self


class Window(Config):
    """Take one window of the session as a single trial."""

    by: Literal["window"] = Field(default="window", description="Takes one window as a single trial.")
    start: Time = Field(description="Start of the window on the session clock.")
    stop: Time = Field(description="End of the window on the session clock; later than `start`.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop}) must be later than start ({self.start})")
        return self


class Chop(Config):
    """Chop the whole session, or a part of it, into trials of equal length that may overlap."""

    by: Literal["chop"] = Field(default="chop", description="Chops the session into trials of equal length.")
    length: Seconds | None = Field(
        default=None,
        description="Length of a trial. Default: 100 bins, fewer where a session is too short for ten trials; of the LFP and "
        "band power three cycles of the band's lower edge at least.",
    )
    overlap: SecondsOrZero | None = Field(
        default=None,
        description="Time that a trial shares with the next; shorter than `length`, which must be set too. Default: a fifth "
        "of the length.",
    )
    start: Time | None = Field(
        default=None,
        description="Start of the part to chop, on the session clock. Default: the start of the recording.",
    )
    stop: Time | None = Field(
        default=None, description="End of the part to chop, on the session clock. Default: the end of the recording."
    )

    @model_validator(mode="after")
    def _shorter(self) -> Self:
        if self.overlap is not None and (self.length is None or self.overlap >= self.length):
            raise ValueError(f"overlap ({self.overlap}) must be shorter than length ({self.length})")
        if self.start is not None and self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop ({self.stop}) must be later than start ({self.start})")
        return self


Cut = Annotated[Trials | Window | Chop, Field(discriminator="by")]


LEAST_THRESHOLD = 1.0
"""Noise sds."""
LOWEST_LINE = 16.0
"""Hz; of a lower line and its harmonics a notch of 1 Hz to either side would take out more than an eighth of a band."""


class ElectricalConfig(Config):
    """How an ElectricalSeries becomes one value a bin."""

    feature: Literal["lfp", "power", "spikes"] = Field(
        default="lfp",
        description="What is computed from the voltage in the band. lfp: the voltage, decimated to the bins, in volts. power: "
        "natural logarithm of the mean power (half the squared envelope) in each bin. spikes: threshold crossings in each bin.",
    )
    band: Annotated[tuple[Positive, Positive], Unit("Hz")] | None = Field(
        default=None,
        description="Pass band, its lower and upper edge, at which half of the amplitude remains; some 3 % of the variance "
        "lie outside. Default: 1 Hz to 0.4 of the bin rate for lfp, with a gentle lower edge (half the power); 70 to 150 Hz "
        "for power, 300 to 3000 Hz for spikes; always below 0.45 of the sampling rate.",
    )
    bands: dict[str, Annotated[tuple[Positive, Positive], Unit("Hz")]] | None = Field(
        default=None,
        description="Several pass bands by name, instead of `band`, such as {theta: [4, 8], gamma: [30, 80]}: each electrode "
        "is a channel of each (coordinate `frequency_band`), and results are written band by band. Default: the one `band`.",
    )
    threshold: Finite = Field(
        default=-4.5,
        description="Threshold of spikes, crossed downward where it is negative, and upward otherwise; in `threshold_unit`, "
        "and 1 sd at least.",
    )
    threshold_unit: Literal["sd", "uV"] = Field(
        default="sd",
        description="Unit of `threshold`. sd: robust noise sd of each electrode (median of magnitudes / 0.6745) in its band. "
        "uV: microvolts, the same for all electrodes.",
    )
    both_polarities: bool = Field(
        default=False, description="Whether crossings of the threshold of the other sign count as well."
    )
    dead_time: SecondsOrZero = Field(
        default=0.001,
        le=1,
        description="Time after a counted threshold crossing in which others of the electrode do not count. Those do not "
        "prolong it: a burst counts once every dead time.",
    )
    pad: SecondsOrZero | None = Field(
        default=None,
        description="Time before and after each of the `invalid_times` that counts as invalid too. Default: none, but for "
        "spikes the time after them in which what is left of an artefact exceeds the noise, measured over all of them.",
    )
    min_observed: float = Field(
        default=0.9,
        ge=0.5,
        le=1,
        description="A filtered value counts as observed where at least this fraction of the filter's weight lies on "
        "observed samples; short gaps between them are bridged by a straight line.",
    )
    reference: Literal["none", "median", "average", "bipolar"] = Field(
        default="none",
        description="What is subtracted from each voltage before any filter. median, average: that of the electrodes of its "
        "group that are observed at that moment, after the converter's delays (column inter_sample_shift of the electrodes) "
        "are taken out. bipolar: the next electrode of its group along the shank (rel_y, or the order of the series).",
    )
    reference_by: str = Field(
        default="group",
        description="Which electrodes have a reference in common: those of one group, probe (device) or shank, all of the "
        "series, or those with the same value in another column of the table of electrodes.",
    )
    bad_channels: Literal["note", "auto", "off"] | tuple[int | str, ...] = Field(
        default="note",
        description="Electrodes that are dead, noisy or uncorrelated with the others of their group. note: named in a note and "
        "kept. auto: unobserved, and left out of references. off: not looked for. Or the ids of electrodes that are bad.",
    )
    notch: Annotated[Positive, Unit("Hz")] | None = Field(
        default=None,
        description="Frequency of line noise, 50 or 60 Hz, that is taken out with all its harmonics in the band, within 1 Hz "
        "of each; 16 at least. Default: none, with a note where lines are a tenth of the variance in the band.",
    )
    mask_flat: bool = Field(
        default=True,
        description="Whether samples that were stored but not measured count as missing: runs of identical samples or zeros, "
        "stretches of two values of a channel that usually has many, and samples at the limits of the converter. How long a "
        "run must be follows from how often neighbours are equal by chance.",
    )

    @model_validator(mode="after")
    def _bands_alone(self) -> Self:
        if self.bands is None:
            return self
        if self.band is not None or self.feature == "spikes":
            raise ValueError("bands are for feature=lfp and feature=power, and take the place of band")
        if wrong := [name for name in self.bands if not name.isidentifier()] or ([] if self.bands else ["none"]):
            raise ValueError(f"bands need names of letters, digits and underscores, such as theta; not {wrong[0]!r}")
        return self

    @model_validator(mode="after")
    def _edges_ordered(self) -> Self:
        named = (
            {"band": self.band} if self.band else {f"bands.{name}": band for name, band in (self.bands or {}).items()}
        )
        for name, (low, high) in named.items():
            if low >= high:
                raise ValueError(f"{name} is [{low:g}, {high:g}] Hz; expected the lower edge first")
        return self

    @model_validator(mode="after")
    def _threshold_given(self) -> Self:
        if self.threshold_unit == "uV" and "threshold" not in self.model_fields_set:
            raise ValueError("threshold_unit=uV needs a threshold in microvolts, such as threshold=-50")
        least = LEAST_THRESHOLD if self.threshold_unit == "sd" else 0.0
        if abs(self.threshold) < least or self.threshold == 0:
            raise ValueError(
                f"a threshold of {self.threshold:g} {self.threshold_unit} is crossed by noise all the time; expected one "
                "beyond most of the noise, such as -4.5 sd or -50 uV"
            )
        return self

    @model_validator(mode="after")
    def _line_leaves_a_band(self) -> Self:
        if self.notch is not None and self.notch < LOWEST_LINE:
            raise ValueError(
                f"notch={self.notch:g} takes out all within 1 Hz of each multiple of {self.notch:g} Hz, which leaves little of "
                f"any band; expected the frequency of the line, such as 50 or 60, and {LOWEST_LINE:g} at least"
            )
        return self

    @model_validator(mode="after")
    def _grouped_for_a_reference(self) -> Self:
        if self.reference == "none" and self.reference_by != "group":
            raise ValueError(
                f"reference_by={self.reference_by} groups electrodes for a reference, and there is none; set reference to "
                "median, average or bipolar too"
            )
        return self


class RoiConfig(Config):
    """How a RoiResponseSeries is read."""

    offset: Literal["none", "column", "centroid"] = Field(
        default="none",
        description="When each ROI was sampled within its frame. none: at the frame's time. column: as a column of the ROI "
        "table says. centroid: line of the ROI's centroid over the scan-line rate. `read_nwb(offsets=…)` takes an array.",
    )
    offset_column: str = Field(
        default="sampling_time_offset",
        description="Column of the ROI table with the offsets in seconds, under offset=column.",
    )
    slow_axis: Literal["x", "y"] | None = Field(
        default=None,
        description="Axis of the ROI masks along which the scanner steps from line to line. Default: none, and "
        "offset=centroid needs one.",
    )
    mask_order: Literal["xy", "yx"] | None = Field(
        default=None,
        description="Which coordinate comes first in the ROI masks, under offset=centroid. Default: xy, as NWB defines it; yx, "
        "with a note, if suite2p itself wrote the file or only yx agrees with the size of the images.",
    )
    scan_line_rate: Annotated[Positive, Unit("lines/s")] | None = Field(
        default=None, description="Scan-line rate under offset=centroid. Default: that of the file's TwoPhotonSeries."
    )
    cells: Literal["all", "accepted"] = Field(
        default="all",
        description="ROIs to read: all, or those that a column of the ROI table (accepted, iscell or rejected) accepts.",
    )
    deconvolve: Literal["auto", "never"] = Field(
        default="auto",
        description="Whether fluorescence is deconvolved into events if `events` is not set. auto: ROIs that hold fluorescence "
        "or ΔF/F, if events are found in any; not by `nwb-sbtt fit` with a model or likelihood of fluorescence. never: series "
        "are read unchanged.",
    )
    holds: Literal["fluorescence", "dff", "events"] | None = Field(
        default=None,
        description="Content of the series: raw fluorescence, ΔF/F or deconvolved events. Default: decided by the names of "
        "series and container, then the unit, then the values, with a note.",
    )
    neuropil: str | None = Field(
        default=None,
        description="Series of the neuropil around the ROIs, as a path in the file or a glob. Default: the series of the same "
        "rows of the ROI table with neuropil in its name or that of its container.",
    )
    neuropil_coefficient: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Multiple of the neuropil around each ROI, of the same rows of the ROI table, that is subtracted from raw "
        "fluorescence, as suite2p's neucoeff; 0 subtracts none. Default: 0.7, unless names say that it was done.",
    )
    aggregate: Literal["mean", "sum"] = Field(
        default="mean",
        description="How several frames in one bin are combined: mean or, for deconvolved events, sum.",
    )


class EventsConfig(Config):
    """How events are found in fluorescence (deconvolution); the same settings serve all ROIs."""

    indicator: str | None = Field(
        default=None,
        description='Calcium indicator, such as "GCaMP6f": its decay time is the prior of each ROI\'s, and its rise time is '
        "used. Default: the one that the file names.",
    )
    decay_time: Seconds | None = Field(
        default=None, description="Decay time of the fluorescence after an event. Default: fitted for each ROI."
    )
    rise_time: SecondsOrZero | None = Field(
        default=None,
        description="Rise time of the fluorescence after an event, taken as it is. Default: "
        "that of the indicator, and what frames add that are means over their duration; 0 without an indicator.",
    )
    baseline_window: Seconds = Field(
        default=60.0, description="Window of the running baseline (maximin), as suite2p's win_baseline."
    )
    baseline_smoothing: Annotated[Positive, Unit("samples")] = Field(
        default=10.0,
        description="Standard deviation of the Gaussian that smooths the trace before its baseline is taken, as suite2p's "
        "sig_baseline.",
    )
    threshold: NotNegative = Field(
        default=0.0,
        description="Least size of an event, in multiples of the noise sd. At 0 sizes are shrunk by an L1 penalty that the "
        "noise determines.",
    )


class BandwidthConfig(Config):
    """A limit on how many channels are sampled per bin, imposed after reading; see `nwb_sbtt.data.limit_bandwidth`.

    All schemes take equally many samples of a trial.
    """

    scheme: Literal["speckled", "round_robin", "fixed", "decimate"] = Field(
        default="speckled",
        description="Which channels are sampled. speckled: k drawn anew in every bin. round_robin: blocks of k in turn, as a "
        "multiplexer does. fixed: the same k throughout (control). decimate: all N, in k/N of the bins (control).",
    )
    k: Annotated[Count, Unit("channels")] = Field(description="Channels sampled per bin; fewer than there are.")
    seed: NotNegativeInt = Field(
        default=0, description="Seed of the channels drawn and of the trials left fully sampled."
    )
    full_fraction: Share = Field(
        default=0.0, description="Fraction of the training trials that is left fully sampled; not for chopped sessions."
    )


class ReadConfig(Config):
    """What to take from a file and how to cut it into bins and trials."""

    series: tuple[str, ...] | None = Field(
        default=None,
        description="Series to read, as paths in the file or globs, such as ``units`` or ``processing/ecephys/LFP/*``. "
        "Default: the only series that can be fitted.",
    )
    bin_width: Seconds | None = Field(
        default=None,
        description="Width of a time bin. Default: 0.02 s for counts and band power, 0.01 s for the LFP (others where "
        "`electrical.band` asks for them), the sampling period for other sampled series, the longest of several.",
    )
    cut: Cut | None = Field(
        default=None, description="How the session is cut into trials; each way has settings of its own. Default: chop."
    )
    electrical: ElectricalConfig = Field(default=ElectricalConfig(), description="Reading of an ElectricalSeries.")
    rois: RoiConfig = Field(default=RoiConfig(), description="Reading of a RoiResponseSeries.")
    events: EventsConfig | None = Field(
        default=None,
        description="How events are found in fluorescence or ΔF/F of the whole session, before trials are cut. If set, even to "
        "{}, series that hold neither are refused. Default: `rois.deconvolve` decides.",
    )
    obs_intervals: bool = Field(
        default=True,
        description="Whether a unit, or an electrode whose table has that column, counts as observed only within its "
        "`obs_intervals`; one without any was never observed, but if none has any, all are always observed. false treats every "
        "bin as observed.",
    )
    valid_unit_periods: bool | str = Field(
        default=True,
        description="Whether a unit counts as observed only within its valid periods, where the spike sorting left such a "
        "table (`ValidUnitPeriods`); or the path of that table, where there are several.",
    )
    invalid_times: bool = Field(
        default=True, description="Whether the times in the file's table `invalid_times` count as missing."
    )
    slow_units: bool = Field(
        default=False,
        description="Whether units that fire far more slowly than neurons do for more than 12 h (at less than 0.02 Hz on "
        "average) are read. Without it they are refused, as spike times in milliseconds look like this.",
    )
    external_data: bool = Field(
        default=False,
        description="Whether a file that was fetched from an archive, or a Zarr store, may store data outside itself: it could "
        "have any file of this machine read as its data. Of other HDF5 files, measurements outside are read and named. Nothing "
        "that lies outside is written into a result.",
    )
    control: tuple[int, ...] | None = Field(
        default=None,
        description="Values of a TimeSeries' `control` that mark a sample as observed. Default: `control` is ignored.",
    )
    missing_value: Finite | None = Field(
        default=None, description="Stored value that stands for a missing sample. Default: none; NaN is always missing."
    )
    where: dict[str, tuple[str | float | bool, ...]] = Field(
        default_factory=dict,
        description="Channels to keep: for each named column of the channel table, the values to keep, such as "
        "{quality: [good]}. Empty keeps all.",
    )
    trial_columns: tuple[str, ...] = Field(
        default=(), description="Columns of the table of trials that become coordinates of the Dataset."
    )
    channel_columns: tuple[str, ...] = Field(
        default=(), description="Columns of the channel table that become coordinates of the Dataset."
    )
    bandwidth: BandwidthConfig | None = Field(
        default=None, description="Limit on the channels sampled per bin, imposed after reading. Default: no limit."
    )
    memory_limit: Annotated[Positive, Unit("bytes")] = Field(
        default=1e9, description="Memory that reading a sampled series may take at once, beside the binned result."
    )
