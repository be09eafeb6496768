"""What members infer, as a labelled Dataset of latents: calibrated, in the units of the data, with kinetics and alignment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwb_sbtt.data.chops import cut_as
from nwb_sbtt.data.tensors import to_latents
from nwb_sbtt.evaluate.alignment import add_aligned
from nwb_sbtt.fitting.calibrations import calibrated, noise_of

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted


def labelled(fitted: Fitted, ds: xr.Dataset, session: str, arrays: dict[str, Tensor]) -> xr.Dataset:
    """Calibrate and label what was inferred.

    Parameters
    ----------
    fitted : Fitted
    ds : Dataset
        Data that it was inferred from, with the channels in the order of the fit.
    session : str
        Fitted session that the channels belong to.
    arrays : dict of name to tensor
        As `nwb_sbtt.models.posterior.posterior` returns them, or averages over members. Those of rates are overwritten.

    Returns
    -------
    Dataset
        See `nwb_sbtt.fitting.fitted.Fitted.infer`.
    """
    calibration = fitted.calibrations.get(session)
    attrs = {"model": json.dumps(fitted.record() | _session_record(fitted, session))}
    if calibration is not None:
        attrs["calibration"] = json.dumps(calibration.summary())
    width = float(ds.attrs["bin_width"])
    renamed = {
        name.replace("expected", fitted.expected_name): array for name, array in calibrated(arrays, calibration).items()
    }
    in_units = {name: array.div_(width) if name.startswith("rates") else array for name, array in renamed.items()}
    latents = to_latents(ds, in_units, attrs)
    if fitted.alignment is not None:
        latents = add_aligned(latents, fitted.alignment.sessions[session])
    return latents.assign_coords({**_kinetics(fitted, session, width), **noise_of(calibration)})


def chopped(whole: Tensor, chops: xr.Dataset) -> Tensor:
    """Cut what was inferred of a whole session into its chops.

    Parameters
    ----------
    whole : Tensor
        (1, bin, …), or (1, …) of what a trial has once, which is then the same for all chops.
    chops : Dataset
        With ``trial_start``.

    Returns
    -------
    Tensor
        (chop, bin, …) or (chop, …).
    """
    if whole.ndim > 2:
        return torch.from_numpy(cut_as(whole.cpu().numpy(), chops))
    return whole.expand(chops.sizes["trial"], *whole.shape[1:])


def _session_record(fitted: Fitted, session: str) -> dict[str, Any]:
    """Which session results are of, where there are several, and how its factors are aligned."""
    record: dict[str, Any] = {"session": session} if len(fitted.signature.sessions) > 1 else {}
    return record if fitted.alignment is None else {**record, "alignment": fitted.alignment.record(session)}


def _kinetics(fitted: Fitted, session: str, bin_width: float) -> dict[str, tuple[str, np.ndarray]]:
    """Kinetics of each channel: `decay` and `rise` [s]; `gain`, `baseline` and `noise` in the data's unit."""
    of_members = [
        {
            "decay": -bin_width / kinetics.decay_per_bin.log(),
            "rise": bin_width * kinetics.rise_time,
            "gain": kinetics.amplitude,
            "baseline": kinetics.baseline,
            "noise": kinetics.noise_sd,
        }
        for member in fitted.members
        if (kinetics := member.model.kinetics(session)) is not None
    ]
    return {
        name: ("channel", np.mean([each[name].cpu().double().numpy() for each in of_members], 0))
        for name in (of_members[0] if of_members else ())
    }
