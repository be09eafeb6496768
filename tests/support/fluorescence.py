"""Fluorescence of events that are known, and files of it."""

import numpy as np
from pynwb.ophys import DfOverF

from tests.support import nwbfiles
from tests.support.nwbfiles import Imaged

N_FRAMES, N_ROIS, PERIOD = 600, 3, 0.1
OFFSETS = (0.0, 0.03, 0.06)


def light(seed=0, decay=0.5):
    """Fluorescence (frame, ROI) of events that are known."""
    rng = np.random.default_rng(seed)
    sizes = rng.gamma(4.0, 0.5, (N_FRAMES, N_ROIS)) * (rng.random((N_FRAMES, N_ROIS)) < 0.08)
    calcium = np.zeros_like(sizes)
    for i in range(N_FRAMES):
        calcium[i] = sizes[i] + (np.exp(-PERIOD / decay) * calcium[i - 1] if i else 0)
    return 20 + calcium + rng.normal(0, 0.15, sizes.shape), sizes


def write(path, *all_series):
    """Write series of ROIs that are sampled one after another in each frame."""
    return nwbfiles.write(nwbfiles.imaging_file(*all_series, offsets=OFFSETS, rate=1 / PERIOD), path)


def dff(data):
    return Imaged("dff", data, DfOverF, start=5.0)
