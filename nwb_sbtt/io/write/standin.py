"""Results without meaning in the place of those that a fit will give, to try the writing of them before the fit."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import xarray as xr

from nwb_sbtt.data.schema import DIMS, is_chopped

MOST_TRIALS, MOST_BINS = 2, 16
"""Trials and, of data that are not chopped, bins of the results that stand in for all."""


def stand_in(ds: xr.Dataset) -> xr.Dataset:
    """Make results of a few trials, with all that results have from their data: labels, attributes, masks.

    Parameters
    ----------
    ds : Dataset
        The data that a model will be fitted to, or applied to.

    Returns
    -------
    Dataset
        As `write_nwb` takes it: zeros in the place of rates or means, and of one factor.
    """
    few = ds.isel(trial=slice(MOST_TRIALS))
    if not is_chopped(ds) or ds.sizes["trial"] == 1:
        few = few.isel(time=slice(MOST_BINS))
    zeros = np.zeros(few["observed"].shape, dtype=np.float32)
    names = ["rates"] if ds.attrs.get("unit") == "counts" else ["mean"]
    names += ["events", "denoised"] if "denoised" in ds else []
    model = {"model_type": "none", "software_name": "nwb_sbtt", "software_version": version("nwb_sbtt")}
    data = {
        **dict.fromkeys(names, (DIMS, zeros)),
        "factors": (("trial", "time", "factor"), zeros[:, :, :1]),
        "observed": (DIMS, few["observed"].values),
    }
    return xr.Dataset(data, coords=few.coords, attrs={**ds.attrs, "model": json.dumps(model)})
