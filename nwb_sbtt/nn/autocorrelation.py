"""How long the part of a signal that a channel shares with no other is correlated with itself.

A model that is to find what channels share must not be rewarded for following what is a channel's own. If that is
autocorrelated, a hidden entry is best predicted from the same channel's entries just before and after it; so entries are hidden
together over as many bins as the autocorrelation takes to decay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

DECAYED = 0.05
"""Autocorrelation of the channels' own part below which it has decayed, if it is larger than two standard errors."""
LEAST_SHARE = 0.01
"""Autocovariance of the own part, as a share of the signal's variance, that is too small to be worth copying."""
LEAST_SHARED = 0.02
"""Share of the variance that channels must share; where they share nothing each can be predicted from its own past alone."""
LEAST_STRENGTH = 0.5
"""Least eigenvalue of a shared component, in units of a channel's variance; more where few pairs leave more to chance."""
MOST_COMPONENTS = 12
REACHES, FEW_PAIRS, MOST_PAIRED = (0, 1, 2, 4, 8, 16), 100, 0.9
"""Bins between the entries of two channels whose products tell how they are correlated: the first for which nine tenths of the
pairs of channels have this many."""
SINGULAR = 0.01
"""Share of the largest eigenvalue below which a combination of components counts as not determined."""
ITERATIONS = 30
"""Of principal factors."""
MOST_ENTRIES, MOST_CHANNELS, MOST_LAGS = 2_000_000, 200, 2048
"""Entries, channels and lags [bins] that are looked at, at most."""


def decay_of_own_part(values: NDArray[np.floating], observed: Mask) -> int:
    """Measure after how many bins the part that channels do not share is no longer correlated with itself.

    With standardised values of autocovariance R_i, and shared components of loadings v_j of unit length and autocovariance c_j,
    the own part of the n channels has the autocovariance ``a(k) = Σ_i R_i(k) / n − Σ_j c_j(k) / n``. Products of different
    channels alone, in which there is nothing of a channel's own, determine c: ``Σ_{i≠i'} v_ij v_i'j x_i(t) x_i'(t + k)`` is
    expected to be ``Σ_q c_q(k) Σ_{i≠i'} v_ij v_i'j v_iq v_i'q``. The own part has decayed at the first lag from which ``|a|``
    stays small for as many lags again.

    Parameters
    ----------
    values : array (trial, time, channel)
        Signals, in any unit.
    observed : bool array (trial, time, channel)

    Returns
    -------
    int
        Bins, from 1 (own parts are white noise) to those of half a trial (they do not decay before). 1 also where there is one
        channel, or channels share nothing.
    """
    values, observed = _sample(values, observed)
    n_bins = values.shape[1]
    if values.shape[2] < 2 or n_bins < 2:
        return 1
    x, w = _standardised(values, observed)
    loadings = _loadings(x, w)
    if not loadings.shape[1]:
        return 1
    pairs = _products(w)
    n_pairs = pairs.sum(1)
    total = _products(x)
    (n_lags, _), n_components = pairs.shape, loadings.shape[1]
    alike, gains = np.zeros((n_lags, n_components)), np.zeros((n_lags, n_components, n_components))
    for i, one in enumerate(loadings.T):
        alike[:, i] = _products(x @ one) - total @ one**2
        for j, other in enumerate(loadings.T[: i + 1]):
            gains[:, i, j] = gains[:, j, i] = _products(w @ (one * other)) - pairs @ (one * other) ** 2
    shared = (np.linalg.pinv(gains, rcond=SINGULAR, hermitian=True) @ alike[..., None]).sum((1, 2)) / x.shape[2]
    own = _ratio(total.sum(1), n_pairs) - shared
    if 1 - own[0] < LEAST_SHARED or own[0] < LEAST_SHARE:
        return 1
    known = n_pairs > 0.5
    correlation = np.where(known, own / own[0], 0)
    # Bartlett's standard error, in units of the own part's variance.
    squares = np.cumsum(np.append(0.0, correlation[1:-1] ** 2))
    error = np.sqrt((1 + 2 * squares) / np.maximum(n_pairs[1:], 1)) / own[0]
    small: Mask = np.abs(correlation[1:]) < np.maximum(np.maximum(DECAYED, 2 * error), LEAST_SHARE / own[0])
    known = known[1:]
    half = max(int(n_lags) // 2, 1)
    for lag in range(1, half):
        longer = slice(lag - 1, 2 * lag - 1)
        if known[longer].any() and small[longer][known[longer]].all():
            return lag
    return half


def _sample(values: NDArray[np.floating], observed: Mask) -> tuple[NDArray[np.floating], Mask]:
    """Take trials and channels at even distances, so that no more than `MOST_ENTRIES` are looked at."""
    _, n_bins, n_channels = values.shape
    channels = np.linspace(0, n_channels - 1, min(n_channels, MOST_CHANNELS)).astype(np.intp)
    most = max(MOST_ENTRIES // (n_bins * len(channels)), 1)
    trials = np.linspace(0, len(values) - 1, min(len(values), most)).astype(np.intp)
    some = np.ix_(trials, np.arange(n_bins), channels)
    return values[some], observed[some]


def _standardised(values: NDArray[np.floating], observed: Mask) -> tuple[Floats, Floats]:
    """Deviations from each channel's mean in units of its sd, and weights: 0 where nothing was observed or nothing varies."""
    n = np.maximum(observed.sum((0, 1)), 1)
    values = np.where(observed, values, 0).astype(np.float64)
    deviations = np.where(observed, values - values.sum((0, 1)) / n, 0)
    sd = np.sqrt((deviations**2).sum((0, 1)) / n)
    varies = sd > 1e-6 * np.abs(values).max((0, 1))
    return np.asarray(deviations / np.where(varies, sd, 1) * varies), (observed & varies).astype(np.float64)


def _loadings(x: Floats, w: Floats) -> Floats:
    """Loadings (channel, component) of unit length of the shared components: principal factors of the correlations."""
    n_channels = x.shape[2]
    # Channels that are sampled in turn have no bin in common, but bins close by.
    for reach in REACHES:
        n_pairs = _nearby_products(w, reach)
        if (n_pairs >= FEW_PAIRS).mean() >= MOST_PAIRED:
            break
    correlation = _ratio(_nearby_products(x, reach), n_pairs)
    np.fill_diagonal(correlation, 0)
    # The largest eigenvalue of noise (Marchenko and Pastur 1967).
    least = max(LEAST_STRENGTH, 2 * float(np.sqrt(n_channels / max(np.median(n_pairs), 1))))
    communality = np.abs(correlation).max(1)
    for _ in range(ITERATIONS):
        strength, vectors = np.linalg.eigh(correlation + np.diag(communality))
        order = np.flatnonzero(strength >= least)[::-1][:MOST_COMPONENTS]
        communality = np.clip(vectors[:, order] ** 2 @ strength[order], 0, 1)
    return np.asarray(vectors[:, order])


def _nearby_products(x: Floats, reach: int) -> Floats:
    """Sum products (channel, channel) of values at most `reach` bins apart."""
    n_bins = x.shape[1]
    sums = np.cumsum(np.pad(x, ((0, 0), (reach + 1, reach), (0, 0))), axis=1)
    nearby = sums[:, 2 * reach + 1 :] - sums[:, :n_bins]
    products = np.tensordot(x, nearby, axes=((0, 1), (0, 1)))
    return np.asarray((products + products.T) / 2)


def _products(x: Floats) -> Floats:
    """Sum products of values `lag` bins apart over all trials: (trial, time, …) becomes (lag, …), up to `MOST_LAGS`."""
    n_bins = x.shape[1]
    n_padded = next_fast_len(2 * n_bins, real=True)
    power = (np.abs(rfft(x, n_padded, axis=1)) ** 2).sum(0)
    return np.asarray(irfft(power, n_padded, axis=0)[: min(n_bins, MOST_LAGS)])


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with 0 where there is nothing to divide by."""
    enough = denominator > 1e-6
    return np.asarray(np.where(enough, numerator / np.where(enough, denominator, 1), 0))
