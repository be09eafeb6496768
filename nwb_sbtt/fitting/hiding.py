"""Entries and channels hidden from a fit on purpose, and what it predicts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.evaluate.calibration import Changes, Hidden
from nwb_sbtt.evaluate.summary import HiddenChannels
from nwb_sbtt.fitting.calibrations import predicted_variance
from nwb_sbtt.fitting.labelling import labelled
from nwb_sbtt.fitting.preparation import channels_to_hide, hold_out

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted


def hide_in_turn(fitted: Fitted, ds: xr.Dataset, *, session: str) -> Hidden:
    """Hide each shown entry once, and predict it from the rest; see `Fitted.hide_in_turn`.

    Parameters
    ----------
    fitted : Fitted
    ds : Dataset
    session : str

    Returns
    -------
    Hidden
    """
    name, ds = fitted.match(ds, session)
    batch = to_batch(hold_out(ds, fitted.config), name)
    length = fitted.signature.sessions[name].mask_length or 1
    generator = torch.Generator().manual_seed(fitted.config.seed)
    share = fitted.config.masks.sample_validation
    shape = ds["values"].shape
    expected, variance, changes = np.zeros(shape, np.float32), np.zeros(shape, np.float32), Changes(share)
    turn = np.full(shape, -1, np.int16)
    for i, part in enumerate(masks.in_turn(batch, share, generator, mask_length=length)):
        arrays = fitted.posterior(masks.hide(batch, part))
        anywhere, predicted = predicted_variance(arrays, counts=fitted.expects_counts)
        hidden = batch.dense(part).numpy()
        expected[hidden], variance[hidden], turn[hidden] = anywhere[hidden], predicted[hidden], i
        changes.add(anywhere, counts=fitted.expects_counts)
    if fitted.expects_counts and "exposure" in ds:
        expected *= ds["exposure"].values
    jackknife = changes.variance(np.asarray(ds["observed"].values.any(2)))
    return Hidden(ds["values"].values, expected, variance, turn, anywhere, share, jackknife)


def without_channels(fitted: Fitted, ds: xr.Dataset, batch: Batch) -> HiddenChannels | None:
    """Infer the validation trials of signals without a part of their channels.

    Parameters
    ----------
    fitted : Fitted
    ds : Dataset
        Prepared.
    batch : Batch
        The same trials.

    Returns
    -------
    HiddenChannels or None
        None where some channels are held out anyway, and of counts.
    """
    channels = channels_to_hide(ds, fitted.config)
    if channels is None or fitted.model.infers_rates:
        return None
    rows = np.flatnonzero(ds["split"].values == "valid")
    valid = batch.select(torch.from_numpy(rows))
    shown = masks.cosmoothing(valid, torch.from_numpy(channels))
    arrays = fitted.posterior(shown)
    return HiddenChannels(labelled(fitted, ds.isel(trial=rows), batch.session, arrays), channels)
