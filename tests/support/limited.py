"""Data to limit the bandwidth of, and the schemes that do it."""

import numpy as np

from nwb_sbtt.data.schema import make_dataset

SCHEMES = ("speckled", "round_robin", "fixed", "decimate")


def dataset(n_trials=4, n_bins=60, n_channels=12, *, seed=0, missing=0.0, trial_start=None):
    rng = np.random.default_rng(seed)
    shape = (n_trials, n_bins, n_channels)
    observed = rng.random(shape) >= missing
    observed[0, 0, 0] = True
    start = np.arange(n_trials) * n_bins * 0.01 + 3 if trial_start is None else trial_start
    return make_dataset(rng.normal(size=shape) + 5, observed, bin_width=0.01, kind="units", trial_start=start)
