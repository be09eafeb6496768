"""The bridge: labelled Datasets to batches and back. The only file that knows both xarray and torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwb_sbtt.batch import Batch, to_sparse
from nwb_sbtt.data.schema import DIMS, LATENT_DIMS, check_dataset, name_units

SPARSE_SHARE, SPARSE_FROM = 0.35, 200
"""A batch is sparse where fewer entries are observed than `SPARSE_SHARE` of those of all channels but `SPARSE_FROM`.

Measured on one thread, read-in and likelihood of a step at batch 32 cost as much in either form at 40 % observed of 1000
channels and more, 25 % of 300, 15 % of 100; the gain below 200 channels is nothing beside the recurrent part. At 10 %
the sparse form takes 0.36 of the time at 1000 channels, 0.17 at 10,000. The choice follows from the data alone, on every
device, because random draws depend on it.
"""


def to_batch(ds: xr.Dataset, session: str = "session") -> Batch:
    """Put a Dataset into tensors.

    Every observed entry is scored and, but for channels marked ``held_out`` and bins marked ``forecast``, shown. Where few
    entries of many channels were observed, the batch is sparse (see `SPARSE_SHARE`): the same to the models, but for random
    draws.

    Parameters
    ----------
    ds : Dataset
    session : str
        Name of the session.

    Returns
    -------
    Batch
        All trials, on the CPU.

    Raises
    ------
    DataError
        If the Dataset breaks a rule of `nwb_sbtt.data.schema`.
    """
    check_dataset(ds)
    observed = torch.from_numpy(ds["observed"].values.copy())
    shown = observed
    if "held_out" in ds.coords:
        shown = observed & ~torch.from_numpy(ds["held_out"].values.astype(bool))
    if "forecast" in ds.coords:
        shown = shown & ~torch.from_numpy(ds["forecast"].values.astype(bool))[:, None]
    exposure = None
    if "exposure" in ds:
        exposure = torch.where(observed, torch.from_numpy(ds["exposure"].values.copy()), 1.0)
    batch = Batch(
        values=torch.from_numpy(ds["values"].values.copy()),
        observed=observed,
        shown=shown,
        scored=observed,
        trials=torch.arange(ds.sizes["trial"]),
        exposure=exposure,
        session=session,
        inputs=torch.from_numpy(ds["inputs"].values.copy()) if "inputs" in ds else None,
        inputs_observed=torch.from_numpy(ds["inputs_observed"].values.copy()) if "inputs" in ds else None,
    )
    n_trials, n_bins, n_channels = batch.shape
    sparse = int(observed.sum()) < SPARSE_SHARE * n_trials * n_bins * (n_channels - SPARSE_FROM)
    return to_sparse(batch) if sparse else batch


def to_latents(ds: xr.Dataset, arrays: Mapping[str, Tensor], attrs: Mapping[str, str]) -> xr.Dataset:
    """Label inferred arrays with the coordinates of their data.

    Events inferred from fluorescence before the fit are copied, NaN where there is none to be known, with the fluorescence
    expected from them (``denoised``).

    Parameters
    ----------
    ds : Dataset
        The data.
    arrays : mapping of name to tensor
        Names of `LATENT_DIMS`, with or without ``_sd``.
    attrs : mapping
        Added to those of the data.

    Returns
    -------
    Dataset
        With the variables of `LATENT_DIMS` that there are, and ``observed``.
    """
    data: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        name: (LATENT_DIMS[name.removesuffix("_sd")], tensor.float().cpu().numpy()) for name, tensor in arrays.items()
    }
    if "denoised" in ds:
        events = np.where(ds["observed"].values, ds["values"].values, np.float32(np.nan))
        data |= {"events": (DIMS, events), "denoised": (DIMS, ds["denoised"].values)}
    data["observed"] = (DIMS, ds["observed"].values)
    # In latents the dim `input` is that of inferred inputs.
    coords = ds.coords.drop_vars("input", errors="ignore")
    return name_units(xr.Dataset(data, coords=coords, attrs={**ds.attrs, **attrs}))
