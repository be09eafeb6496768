"""Neuropil: fluorescence around an ROI, a part of which also reaches the ROI's own pixels."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_sbtt.errors import MismatchError


def check_alike(neuropil: xr.Dataset, ds: xr.Dataset) -> None:
    """Check that a Dataset of neuropil has the trials, bins and channels of that of the ROIs.

    Parameters
    ----------
    neuropil, ds : Dataset

    Raises
    ------
    MismatchError
        If it has not.
    """
    if neuropil["values"].shape != ds["values"].shape or not all(
        np.array_equal(neuropil[name].values, ds[name].values) for name in ("trial_start", "time", "channel_id")
    ):
        raise MismatchError(
            f"the neuropil has shape {neuropil['values'].shape}, the fluorescence {ds['values'].shape}; expected the "
            "same trials, bins and channels in both"
        )
