"""What a baseline gets and gives, and how one is added.

A baseline is a function from `MaskedData` to `Prediction`. It gets what the model was allowed to see: the shown entries,
which trials are for training, which channels are held in, and whether values are counts (Poisson) or samples (Gaussian).
Values and exposure of all other entries are replaced by 0 before, so a baseline cannot look at what it is scored on. It gives
the expected value of every entry, shown or not, in a whole bin, and a phrase on how it was set.

    @register_baseline("trial_mean")
    def trial_mean(data: MaskedData) -> Prediction:
        values, bins = (np.where(data.predictors, array, 0).sum(1, keepdims=True) for array in (data.values, data.weights))
        mean = (values + data.channel_mean) / (bins + 1)
        return Prediction(np.broadcast_to(mean, data.shape), "mean of the trial, shrunk by one bin", label="trial mean")

A package adds one by an entry point, without an import:

    [project.entry-points."nwb_sbtt.baselines"]
    trial_mean = "my_package.baselines:trial_mean"

Every registered baseline stands in ``metrics.json`` under its name, in the report and in ``nwb-sbtt evaluate``. Settings (a
width, a rank) should be chosen on entries hidden in the training trials: see `tuning.tuning_task`. The same data must give
the same numbers, so draw with a seed.

With a lag, a prediction of bin t may be computed from the bins up to t + lag of its trial; what is learned from the training
trials may come from all of their bins. A baseline that keeps to `MaskedData.lag` says so by giving it back in its
`Prediction`; any other is called one that sees the whole trial wherever its name is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nwb_sbtt.data.memory import ENTRIES_AT_ONCE
from nwb_sbtt.errors import DataError
from nwb_sbtt.registry import Registry

SEES_ALL = "sees the whole trial"
"""Said in the name of a baseline that does not keep to the lag of the data."""
CHUNK = 512
"""Trials longer than this many bins are cut into parts before a sample of them is drawn for training."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskedData:
    """What a baseline may look at: data in which everything that is not shown is 0. Its arrays cannot be written to.

    Parameters
    ----------
    values : array (trial, time, channel)
        Counts per bin, or samples in the data's unit. Kept in their precision, 0 where not shown.
    shown : bool array (trial, time, channel)
        Entries that may be learned from.
    train : bool array (trial)
        Trials from which settings and structure are learned. The other trials' shown entries serve their own predictions,
        and, where there is no lag, the channels' means.
    is_counts : bool
        Whether values are counts, so that expected values must be positive.
    exposure : array (trial, time, channel), optional
        Share of each bin that was observed, in (0, 1]. Kept as 0 where not shown.
    held_in : bool array (channel), optional
        Channels from which predictions may be computed. The others (co-smoothing) are shown in the training trials alone.
    forecast : bool array (trial, time), optional
        Bins from which no prediction may be computed (forward prediction); they too are shown in the training trials alone.
    mask_length : int
        Bins of a channel that are hidden together in what is scored, and so where settings are chosen.
    lag : int, optional
        Bins after the predicted one from which its prediction may be computed, besides all before; default: the whole trial.
    mean : array (channel), optional
        The channels' means, where the trials are a part of larger data (see `parts`).

    Raises
    ------
    DataError
        If shapes do not fit together, no entry of the training trials is shown, or the lag is negative.
    """

    values: NDArray[np.floating]
    shown: Mask
    train: Mask
    is_counts: bool
    exposure: NDArray[np.floating] | None = None
    held_in: Mask | None = None
    forecast: Mask | None = None
    mask_length: int = 1
    lag: int | None = None
    mean: Floats | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.shown.shape != self.values.shape or self.train.shape != self.values.shape[:1]:
            raise DataError(
                f"values {self.values.shape}, shown {self.shown.shape} and train {self.train.shape} do not match; "
                "expected values and shown with shape (trial, time, channel), and train with shape (trial,)"
            )
        if self.mean is None and not (np.any(self.shown, axis=(1, 2)) & self.train).any():
            raise DataError(
                "no entry of the training trials is shown, so baselines cannot be fitted; show some entries of the "
                "training trials"
            )
        if self.lag is not None and self.lag < 0:
            raise DataError(f"lag is {self.lag} bins; expected 0 or more, or None for the whole trial")
        values = np.asarray(self.values, dtype=np.result_type(self.values, np.float32))
        object.__setattr__(self, "values", _read_only(np.where(self.shown, values, values.dtype.type(0))))
        if self.exposure is not None:
            object.__setattr__(self, "exposure", _read_only(np.where(self.shown, self.exposure, 0)))
        for name in ("shown", "train", "held_in", "forecast"):
            if (array := getattr(self, name)) is not None:
                object.__setattr__(self, name, _read_only(array.view()))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of trials, bins and channels."""
        n_trials, n_bins, n_channels = self.values.shape
        return n_trials, n_bins, n_channels

    @cached_property
    def weights(self) -> Floats:
        """Share of each bin observed (trial, time, channel), 0 where not shown; for samples 1 or 0. Eight bytes an entry."""
        return _read_only(self._exposure_or_shown.astype(np.float64))

    @property
    def _exposure_or_shown(self) -> NDArray[Any]:
        return self.shown if self.exposure is None or not self.is_counts else self.exposure

    @cached_property
    def predictors(self) -> Mask:
        """Shown entries from which predictions may be computed (trial, time, channel): what the model's encoder may read."""
        predictors = self.shown if self.held_in is None else self.shown & self.held_in
        return _read_only(predictors if self.forecast is None else predictors & ~self.forecast[:, :, None])

    @cached_property
    def channel_mean(self) -> Floats:
        """Expected value of each channel in a whole bin (channel), over all shown entries; positive for counts.

        A channel that was never shown gets the mean of the others. With a lag the mean is that of the training trials: the
        other trials' later bins would be seen in it.
        """
        if self.mean is not None:
            return self.mean
        total = self.values.sum((0, 1), dtype=np.float64, where=self._averaged)
        weight = self._exposure_or_shown.sum((0, 1), dtype=np.float64, where=self._averaged)
        if not self.is_counts:
            was_shown = weight > 0
            mean = np.where(was_shown, total / np.maximum(weight, 1), (total[was_shown] / weight[was_shown]).mean())
            return np.asarray(mean)
        # Half a spike at the mean of all channels, so that a silent channel does not rule a spike out.
        return np.asarray((total + 0.5) / (weight + 0.5 / self.overall_mean))

    @cached_property
    def overall_mean(self) -> float:
        """Mean count of all channels in a whole bin, over the same trials; half a spike in all where there is no spike."""
        total = float(self.values.sum(dtype=np.float64, where=self._averaged))
        return max(total, 0.5) / float(self._exposure_or_shown.sum(dtype=np.float64, where=self._averaged))

    @property
    def _averaged(self) -> Mask | Literal[True]:
        """Trials (trial, 1, 1) whose entries count in means."""
        return True if self.lag is None else self.train[:, None, None]

    def parts(self, trials: Mask | None = None) -> Iterator[tuple[NDArray[np.intp], MaskedData]]:
        """Go through the trials, a few at a time, so that what is computed from them takes little memory.

        Parameters
        ----------
        trials : bool array (trial), optional
            Only these; default: all.

        Yields
        ------
        rows : int array (row)
            The trials of the part.
        part : MaskedData
            With the channels' means over all data.
        """
        rows = np.arange(self.shape[0]) if trials is None else np.flatnonzero(trials)
        step = max(1, ENTRIES_AT_ONCE // (self.shape[1] * self.shape[2]))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            yield some, self.select_trials(some, mean=self.channel_mean)

    def predictions(self, of_part: Callable[[MaskedData], NDArray[np.floating]]) -> NDArray[np.floating]:
        """Predict every entry, a few trials at a time.

        Parameters
        ----------
        of_part : callable (part) -> array (trial, time, channel)

        Returns
        -------
        array (trial, time, channel)
            In the precision of the values.
        """
        expected = np.empty(self.shape, dtype=self.values.dtype)
        for rows, part in self.parts():
            expected[rows] = of_part(part)
        return expected

    def select_trials(self, rows: NDArray[np.intp], *, mean: Floats | None = None) -> MaskedData:
        """Select trials by their row.

        Parameters
        ----------
        rows : int array (row)
            Rows of the trials.
        mean : array (channel), optional
            The channels' means; default: those over the selected trials.

        Returns
        -------
        MaskedData
        """
        return replace(
            self,
            values=self.values[rows],
            shown=self.shown[rows],
            train=self.train[rows],
            exposure=None if self.exposure is None else self.exposure[rows],
            forecast=None if self.forecast is None else self.forecast[rows],
            mean=mean,
        )

    def training_sample(self, max_entries: int) -> MaskedData:
        """Draw training trials of about `max_entries` entries in all; the draw is always the same.

        Trials longer than 512 bins are cut into equal parts first. Where nothing is left out, the trials keep their order.

        Parameters
        ----------
        max_entries : int
            Entries (trial × bin × channel) wanted, shown or not.

        Returns
        -------
        MaskedData
            All of its trials are for training.
        """
        n_bins = self.values.shape[1]
        n_parts = -(-n_bins // CHUNK)
        length = n_bins // n_parts
        trials, starts = np.flatnonzero(self.train), np.arange(n_parts) * length
        shown_in_part = [np.any(self.shown[:, first : first + length], axis=(1, 2)) for first in starts]
        anything_shown = np.stack(shown_in_part, axis=1)[trials]
        rows = np.flatnonzero(anything_shown)
        count = max(1, max_entries // (length * self.shape[2]))
        if count < len(rows):
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:count])

        def cut(array: NDArray[Any]) -> NDArray[Any]:
            bins = starts[rows % n_parts, None] + np.arange(length)
            return np.asarray(array[trials[rows // n_parts, None], bins])

        return replace(
            self,
            values=cut(self.values),
            shown=cut(self.shown),
            train=np.ones(len(rows), dtype=bool),
            exposure=None if self.exposure is None else cut(self.exposure),
            forecast=None if self.forecast is None else cut(self.forecast),
            mean=None,
        )


@dataclass(frozen=True)
class Prediction:
    """What a baseline predicts.

    Parameters
    ----------
    expected : array (trial, time, channel)
        Expected count in a whole bin, or expected sample, of every entry; finite, and not negative for counts. Single
        precision is enough, and takes half the memory.
    description : str
        How it was set, in a phrase, such as "rank 3 (chosen)".
    label : str
        What it is called in tables; by default its registered name with blanks for underscores.
    lag : int, optional
        Bins after the predicted one that were looked at, at most: `MaskedData.lag`; default: the whole trial.
    """

    expected: NDArray[np.floating]
    description: str
    label: str = ""
    lag: int | None = None


Baseline = Callable[[MaskedData], Prediction]

BASELINES: Registry[Baseline] = Registry(
    "baseline",
    "nwb_sbtt.baselines",
    {
        "mean_rate": "nwb_sbtt.evaluate.baselines.smoothing:mean_rate",
        "masked_smoothing": "nwb_sbtt.evaluate.baselines.smoothing:masked_smoothing",
        "low_rank_wiener": "nwb_sbtt.evaluate.baselines.wiener:low_rank_wiener",
        "factor_analysis": "nwb_sbtt.evaluate.baselines.statespace:factor_analysis",
        "linear_dynamics": "nwb_sbtt.evaluate.baselines.statespace:linear_dynamics",
    },
)
"""All baselines by name: those of the package, those of installed packages, those registered in this process."""


def register_baseline(name: str) -> Callable[[Baseline], Baseline]:
    """Make a decorator that registers a baseline under a name.

    Parameters
    ----------
    name : str
        Under which the baseline stands in ``metrics.json``.

    Returns
    -------
    callable
        Takes a baseline and returns it.

    Raises
    ------
    ConfigError
        If there is another baseline of that name.
    """
    return BASELINES.decorator(name)


def predict(name: str, data: MaskedData) -> Prediction:
    """Run a baseline and check what it gives.

    Parameters
    ----------
    name : str
        Of the registered baseline.
    data : MaskedData

    Returns
    -------
    Prediction
        Its label says so where it looks further ahead than the lag of the data.

    Raises
    ------
    ConfigError
        If there is no such baseline.
    DataError
        If its expected values have another shape than the data, are not finite, or are negative for counts.
    """
    prediction = BASELINES[name](data)
    expected = np.asarray(prediction.expected)
    if expected.shape != data.shape:
        raise DataError(f"the baseline {name!r} returned values of shape {expected.shape}; expected {data.shape}")
    if n_bad := expected.size - int(np.isfinite(expected).sum()):
        raise DataError(f"{n_bad} of {expected.size} expected values of the baseline {name!r} are not finite")
    if data.is_counts and (n_negative := int((expected < 0).sum())):
        raise DataError(f"{n_negative} of {expected.size} expected counts of the baseline {name!r} are negative")
    label = prediction.label or name.replace("_", " ")
    if data.lag is not None and (prediction.lag is None or prediction.lag > data.lag):
        label += f" ({SEES_ALL})"
    return replace(prediction, label=label)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
