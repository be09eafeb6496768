"""Each channel's mean, and a Gaussian smoothing of the shown entries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import correlate1d
from scipy.signal import oaconvolve

from nwb_sbtt.evaluate.baselines.protocol import Floats, MaskedData, Prediction
from nwb_sbtt.evaluate.baselines.tuning import apply_floor, tuning_task

MATRIX_BINS = 500
"""Bins of a trial up to which the kernel is a matrix; one product is ten times faster than convolutions there."""
WIDTHS = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Standard deviations of the smoothing kernel to choose from, in bins."""
PRIOR_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Weights of the channel's mean to choose from, in expected spikes or in samples."""


def mean_rate(data: MaskedData) -> Prediction:
    """Predict each channel's mean over the shown entries, with a lag those of the training trials, in every bin.

    Parameters
    ----------
    data : MaskedData

    Returns
    -------
    Prediction
    """
    expected = np.broadcast_to(data.channel_mean, data.shape)
    entries = "all shown entries" if data.lag is None else "the shown entries of the training trials"
    label = "mean rate" if data.is_counts else "mean"
    return Prediction(expected, f"each channel's mean over {entries}", label=label, lag=data.lag)


def masked_smoothing(data: MaskedData) -> Prediction:
    """Smooth each channel with a Gaussian over its shown entries, which with a lag is cut there.

    The prediction is the kernel-weighted sum of shown values over the kernel-weighted time shown, shrunk towards the
    channel's mean; far from any shown entry it is the mean. Kernel width and strength of the shrinkage are the same for all
    channels, and those that best predict hidden entries of the training trials.

    Parameters
    ----------
    data : MaskedData

    Returns
    -------
    Prediction
    """
    task = tuning_task(data)
    best, width, strength = np.inf, WIDTHS[0], PRIOR_STRENGTHS[0]
    for candidate in usable_widths(data.shape[1]):
        sums = _kernel_sums(task.data, candidate)
        for prior in PRIOR_STRENGTHS:
            loss = task.loss(_shrunk_mean(task.data, *sums, strength=prior))
            if loss < best:
                best, width, strength = loss, candidate, prior
    unit = "spikes" if data.is_counts else "samples"
    return Prediction(
        data.predictions(lambda part: smoothed(part, width, strength=strength)),
        f"Gaussian with sd of {width:g} bins; the channel's mean has the weight of {strength:g} {unit} (chosen)",
        label="masked smoothing",
        lag=data.lag,
    )


def smoothed(data: MaskedData, width: float, *, strength: float) -> Floats:
    """Smooth each channel over its shown entries, as `masked_smoothing` does, with a given kernel.

    Parameters
    ----------
    data : MaskedData
    width : float
        Standard deviation of the kernel [bins].
    strength : float
        Weight of the channel's mean, in expected spikes or in samples.

    Returns
    -------
    array (trial, time, channel)
        Expected value of a whole bin.
    """
    return _shrunk_mean(data, *_kernel_sums(data, width), strength=strength)


def usable_widths(n_bins: int) -> Sequence[float]:
    """List the kernel widths [bins] up to a quarter of a trial.

    Parameters
    ----------
    n_bins : int
        Bins in a trial.

    Returns
    -------
    sequence of float
        Standard deviations of the kernels [bins]; the least is always among them.
    """
    return [width for width in WIDTHS if width <= max(n_bins / 4, WIDTHS[0])]


def kernel_sum(array: Floats, width: float, *, lag: int | None = None) -> Floats:
    """Sum over time with Gaussian weights: 1 in the bin itself, and 0 beyond four widths, beyond the trial and after the lag.

    Parameters
    ----------
    array : array (trial, time, channel)
    width : float
        Standard deviation of the kernel [bins].
    lag : int, optional
        Bins after each one that are in its sum, at most.

    Returns
    -------
    array (trial, time, channel)
    """
    n_bins = array.shape[1]
    reach = min(int(np.ceil(4 * width)), n_bins)
    ahead = reach if lag is None else min(lag, reach)
    kernel = np.exp(-0.5 * (np.arange(-reach, ahead + 1) / width) ** 2)
    if n_bins <= MATRIX_BINS:
        band = sum(np.eye(n_bins, k=k) * weight for k, weight in zip(range(-reach, ahead + 1), kernel, strict=True))
        weighted: Floats = band @ array
        return weighted
    if lag is not None:
        # Rounding in a Fourier transform would carry something of the later bins into the sum.
        cut: Floats = correlate1d(array, kernel, axis=1, mode="constant", origin=reach - len(kernel) // 2)
        return cut
    summed: Floats = oaconvolve(array, kernel[None, :, None], mode="full", axes=1)
    return summed[:, reach : reach + n_bins]


def _kernel_sums(data: MaskedData, width: float) -> tuple[Floats, Floats]:
    """Kernel-weighted sums of the values around each entry, and of the time they were shown for [bins]."""
    values = np.where(data.predictors, data.values.astype(np.float64), 0)
    if not data.is_counts:
        values = np.where(data.predictors, values - data.channel_mean, 0)
    weights = kernel_sum(np.where(data.predictors, data.weights, 0), width, lag=data.lag)
    return kernel_sum(values, width, lag=data.lag), np.maximum(weights, 0)


def _shrunk_mean(data: MaskedData, total: Floats, weight: Floats, *, strength: float) -> Floats:
    if not data.is_counts:
        return data.channel_mean + total / (weight + strength)
    return apply_floor(data, (total + strength) / (weight + strength / data.channel_mean))
