"""Settings of reading: what to take from a file, and how to cut it. Import them from `nwb_sbtt.config`, as all settings."""

from __future__ import annotations

from collections.abc import Mapping
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
from nwb_sbtt.errors import ConfigError


class Trials(Config):
    """Cut trials around an event of each row of a table of intervals or events.

    Rows whose event is missing are left out, and their number is noted.
    """

    by: Literal["trials"] = Field(default="trials", description="Cuts around an event of each trial.")
    event: str = Field(
        description="Column of the table with the time of the event, in seconds on the session clock. Instead of a "
        "column of the trials table, it may be the name of a table of events."
    )
    start: Time = Field(description="Start of the trial relative to the event; negative: before the event.")
    stop: Time = Field(description="End of the trial relative to the event; later than `start`.")
    table: str = Field(
        default="trials", description="Table of intervals or events, by its name or its path in the file."
    )
    relative: bool = Field(
        default=False,
        description="Whether the times in the column `event` are relative to the `start_time` of their own trial, as many "
        "laboratories store them. Otherwise they are on the session clock.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop}) must be later than start ({self.start})")
        return self


class Window(Config):
    """Take one window of the session as a single trial."""

    by: Literal["window"] = Field(default="window", description="Uses one window as a single trial.")
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
        description="Length of a trial. Default: 100 bins, or fewer if the session is too short for ten trials; for "
        "LFP and band power at least three cycles of the lower edge of the band.",
    )
    overlap: SecondsOrZero | None = Field(
        default=None,
        description="Time by which a trial overlaps the next one; shorter than `length`, which must also be set. Default: a "
        "fifth of the length.",
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


def check_cut(given: object, *, else_: str = "") -> None:
    """Refuse what is no description of trials, in the words of the argument `trials`.

    Parameters
    ----------
    given : object
    else_ : str, optional
        What to try.

    Raises
    ------
    ConfigError
        If it is anything but Trials, Window, Chop, a mapping of the settings of one, or None.
    """
    if given is None or isinstance(given, Trials | Window | Chop | Mapping):
        return
    came = repr(given) if isinstance(given, str | int | float) else f"a {type(given).__name__}"
    raise ConfigError(
        f"trials is {came}; expected sb.Trials(event=…, start=…, stop=…), sb.Window(start=…, stop=…) or sb.Chop(length=…)"
        + (f"; {else_}" if else_ else "")
    )


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
        description="Lower and upper edge of the pass band. At an edge half of the amplitude remains; about 3 % of "
        "the variance lies outside. Default: for lfp 1 Hz (a gradual edge, at which half of the power remains) to "
        "0.4 times the bin rate; for power 70 to 150 Hz; for spikes 300 to 3000 Hz; always below 0.45 times the "
        "sampling rate.",
    )
    bands: dict[str, Annotated[tuple[Positive, Positive], Unit("Hz")]] | None = Field(
        default=None,
        description="Several named pass bands instead of `band`, such as {theta: [4, 8], gamma: [30, 80]}. Each electrode "
        "becomes one channel in each band (coordinate `frequency_band`), and results are written separately for each "
        "band. Default: only `band`.",
    )
    threshold: Finite = Field(
        default=-4.5,
        description="Spike threshold, in `threshold_unit`. A negative threshold is crossed downward, a positive one "
        "upward. In units of sd its magnitude must be at least 1.",
    )
    threshold_unit: Literal["sd", "uV"] = Field(
        default="sd",
        description="Unit of `threshold`. sd: robust noise sd of each electrode in its band (median absolute value / 0.6745). "
        "uV: microvolts, the same for all electrodes.",
    )
    both_polarities: bool = Field(
        default=False, description="Whether crossings of the threshold with the opposite sign are counted too."
    )
    dead_time: SecondsOrZero = Field(
        default=0.001,
        le=1,
        description="Time after a counted threshold crossing in which further crossings of the same electrode are not counted. "
        "They do not extend the dead time, so a burst counts once in each dead time.",
    )
    pad: SecondsOrZero | None = Field(
        default=None,
        description="Time before and after each interval of `invalid_times` that is treated as invalid too. Default: 0; for "
        "spikes the time after an interval during which the rest of the artefact exceeds the noise, measured over "
        "all intervals.",
    )
    min_observed: float = Field(
        default=0.9,
        ge=0.5,
        le=1,
        description="A filtered value counts as observed if at least this fraction of the filter's weight lies on observed "
        "samples. Short gaps between samples are interpolated linearly.",
    )
    reference: Literal["none", "median", "average", "bipolar"] = Field(
        default="none",
        description="What is subtracted from each voltage before filtering. median, average: of the electrodes of "
        "the same group that are observed at that time, after the delays between channels of the analog-to-digital "
        "converter (column inter_sample_shift of the electrodes table) are corrected. bipolar: the next electrode of "
        "the group along the shank (by rel_y, or in the order of the series).",
    )
    reference_by: str = Field(
        default="group",
        description="Which electrodes share a reference: those of the same group, probe (device) or shank, all "
        "electrodes of the series, or those with the same value in another column of the electrodes table.",
    )
    bad_channels: Literal["note", "auto", "off"] | tuple[int | str, ...] = Field(
        default="note",
        description="What to do with electrodes that are dead, noisy or uncorrelated with the others of their group. "
        "note: keep them, and name them in a note. auto: treat them as missing, and exclude them from references. "
        "off: do not search for them. A list of ids: treat these electrodes as bad.",
    )
    notch: Annotated[Positive, Unit("Hz")] | None = Field(
        default=None,
        description="Frequency of the line noise to remove, 50 or 60 Hz (at least 16). All its harmonics in the band "
        "are removed too, within 1 Hz of each. Default: none; a note states when line noise is 10 % of the variance "
        "in the band or more.",
    )
    mask_flat: bool = Field(
        default=True,
        description="Whether samples that were stored but not measured are treated as missing: runs of identical samples or "
        "zeros, runs of only two values in a channel that usually has many, and samples at the limits of the "
        "analog-to-digital converter. The minimum length of a run depends on how often neighbouring samples are "
        "equal by chance.",
    )

    @model_validator(mode="after")
    def _bands_alone(self) -> Self:
        if self.bands is None:
            return self
        if self.band is not None or self.feature == "spikes":
            raise ValueError("bands can be used with feature=lfp or feature=power only, and not together with band")
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
                f"a threshold of {self.threshold:g} {self.threshold_unit} is too close to zero: noise crosses it all "
                "the time; use a larger magnitude, such as -4.5 sd or -50 uV"
            )
        return self

    @model_validator(mode="after")
    def _line_leaves_a_band(self) -> Self:
        if self.notch is not None and self.notch < LOWEST_LINE:
            raise ValueError(
                f"notch={self.notch:g} would remove everything within 1 Hz of each multiple of {self.notch:g} Hz, "
                "which is most of any band; expected the frequency of the line noise, such as 50 or 60 (at least "
                f"{LOWEST_LINE:g})"
            )
        return self

    @model_validator(mode="after")
    def _grouped_for_a_reference(self) -> Self:
        if self.reference == "none" and self.reference_by != "group":
            raise ValueError(
                f"reference_by={self.reference_by} has no effect without a reference; also set reference to median, "
                "average or bipolar"
            )
        return self


class RoiConfig(Config):
    """How a RoiResponseSeries is read."""

    offset: Literal["none", "column", "centroid"] = Field(
        default="none",
        description="When each ROI was sampled within its frame. none: at the time of the frame. column: at the offset in a "
        "column of the ROI table. centroid: at the scan line of the ROI's centroid, divided by the scan-line rate. "
        "To pass an array of offsets, use `read_nwb(offsets=…)`.",
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
        description=(
            "ROIs to read: all, or only those that are marked as cells in the column accepted, iscell or rejected of "
            "the ROI table."
        ),
    )
    deconvolve: Literal["auto", "never"] = Field(
        default="auto",
        description="Whether fluorescence is deconvolved into events if `events` is not set. auto: fluorescence and ΔF/F are "
        "deconvolved if events are found in any ROI, but not in `nwb-sbtt fit` with a model or likelihood for "
        "fluorescence. never: series are read unchanged.",
    )
    holds: Literal["fluorescence", "dff", "events"] | None = Field(
        default=None,
        description="Content of the series: raw fluorescence, ΔF/F or deconvolved events. Default: decided by the names of "
        "series and container, then by the unit, then by the values; a note states the decision.",
    )
    neuropil: str | None = Field(
        default=None,
        description="Series of the neuropil around the ROIs, as a path in the file or a glob. Default: the series of the same "
        'ROIs that has "neuropil" in its name or in the name of its container.',
    )
    neuropil_coefficient: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Fraction of the neuropil signal around each ROI that is subtracted from its raw fluorescence (neucoeff in "
        "suite2p); 0 subtracts nothing. Default: 0.7; 0 if the names of the series show that neuropil was already "
        "subtracted.",
    )
    aggregate: Literal["mean", "sum"] = Field(
        default="mean",
        description="How several frames in one bin are combined: mean or, for deconvolved events, sum.",
    )


class EventsConfig(Config):
    """How events are found in fluorescence (deconvolution); the same settings serve all ROIs."""

    indicator: str | None = Field(
        default=None,
        description='Calcium indicator, such as "GCaMP6f": its decay time is the centre of the prior of each ROI\'s '
        "decay time, and its rise time is used. Default: the one that the file names.",
    )
    decay_time: Seconds | None = Field(
        default=None, description="Decay time of the fluorescence after an event. Default: fitted for each ROI."
    )
    rise_time: SecondsOrZero | None = Field(
        default=None,
        description="Rise time of the fluorescence after an event; it is used without fitting. Default: that of the indicator, "
        "plus what averaging over the duration of a frame adds; 0 without an indicator.",
    )
    baseline_window: Seconds = Field(
        default=60.0, description="Window of the running baseline (maximin), as suite2p's win_baseline."
    )
    baseline_smoothing: Annotated[Positive, Unit("samples")] = Field(
        default=10.0,
        description="Standard deviation of the Gaussian that smooths the trace before its baseline is computed, as suite2p's "
        "sig_baseline.",
    )
    threshold: NotNegative = Field(
        default=0.0,
        description="Minimum size of an event, in multiples of the noise sd. 0: no minimum; instead sizes are shrunk by an L1 "
        "penalty that depends on the noise.",
    )


class BandwidthConfig(Config):
    """A limit on how many channels are sampled per bin, imposed after reading; see `nwb_sbtt.data.limit_bandwidth`.

    All schemes take equally many samples of a trial.
    """

    scheme: Literal["speckled", "round_robin", "fixed", "decimate"] = Field(
        default="speckled",
        description="Which channels are sampled. speckled: k random channels, drawn again in every bin. round_robin: "
        "blocks of k in turn, as a multiplexer does. fixed: the same k throughout (control). decimate: all N, in k/N "
        "of the bins (control).",
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
        description="Width of a time bin. Default: 0.02 s for counts and band power; 0.01 s for the LFP (another width if "
        "`electrical.band` requires it); for other sampled series the sampling period, the longest one if there are "
        "several series.",
    )
    cut: Cut | None = Field(
        default=None,
        description="How the session is cut into trials: trials, window or chop, each with its own settings. Default: chop.",
    )
    electrical: ElectricalConfig = Field(default=ElectricalConfig(), description="How an ElectricalSeries is read.")
    rois: RoiConfig = Field(default=RoiConfig(), description="How a RoiResponseSeries is read.")
    events: EventsConfig | None = Field(
        default=None,
        description="How events are found in fluorescence or ΔF/F of the whole session, before trials are cut. If set, even to "
        "{}, any other series is an error. Default: `rois.deconvolve` decides.",
    )
    obs_intervals: bool = Field(
        default=True,
        description="Whether a unit (or an electrode, if its table has that column) counts as observed only within its "
        "`obs_intervals`. A unit without intervals was never observed; if no unit has intervals, all are observed "
        "all the time. false: every bin counts as observed.",
    )
    valid_unit_periods: bool | str = Field(
        default=True,
        description="Whether a unit counts as observed only within its valid periods, if the file has a table of "
        "them from spike sorting (`ValidUnitPeriods`); or the path of that table, if there are several.",
    )
    invalid_times: bool = Field(
        default=True, description="Whether the times in the file's table `invalid_times` count as missing."
    )
    stored_masks: bool = Field(
        default=True,
        description="Whether stored masks are used: each `ObservationMaskSeries`, and each `TimeSeries` of 0 and 1 whose name "
        "is that of a series followed by `_mask` or `_observed`.",
    )
    slow_units: bool = Field(
        default=False,
        description="Whether units are read that fire at less than 0.02 Hz on average over more than 12 h. By default they are "
        "an error, because spike times stored in milliseconds look like this.",
    )
    external_data: bool = Field(
        default=False,
        description="Whether a file from an archive, or a Zarr store, may refer to data outside itself. By default this is an "
        "error, because such a file could make any file of this machine appear as its data. In other HDF5 files, "
        "external measurements are read, and a note names them. External data are never written into a result.",
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
    inputs: tuple[str, ...] = Field(
        default=(),
        description="Known inputs that the model is given beside the data, such as stimuli, kinematics or pulses: PATH or "
        "PATH:COLUMN of a TimeSeries (mean of its samples in each bin), of a table of intervals (share of the bin inside "
        "them; with a column its times, or the value of the row) or of events (number in the bin). Models conv, lfads and "
        "ladder take inputs.",
    )
    bandwidth: BandwidthConfig | None = Field(
        default=None, description="Limit on the channels sampled per bin, imposed after reading. Default: no limit."
    )
    memory_limit: Annotated[Positive, Unit("bytes")] = Field(
        default=1e9,
        description="Memory that may be used at a time to read a sampled series, in addition to the binned result.",
    )
