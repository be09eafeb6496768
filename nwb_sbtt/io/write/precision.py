"""How many digits of inferred values are stored: what lies far below their own uncertainty only takes space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.io.write.layout import CHANNEL_VARIABLES, INITIAL_CONDITION, LATENT_VARIABLES

STEPS_PER_SD = 8
"""Least number of rounding steps in a posterior sd, and in the usual change from bin to bin."""
SD_BITS = 5
"""Significant bits of a posterior sd."""
ROUNDED = "Rounded by at most a sixteenth of the posterior sd, and of the root mean square change from bin to bin"
ROUNDED_SD = "Rounded by at most 3 %"


def rounded_names(latents: xr.Dataset) -> list[str]:
    """List the variables that can be rounded: those that have a posterior sd, and these sds.

    Parameters
    ----------
    latents : Dataset
    """
    names = [name for name in (*CHANNEL_VARIABLES, *LATENT_VARIABLES, INITIAL_CONDITION) if f"{name}_sd" in latents]
    return [*names, *(f"{name}_sd" for name in names)]


def rounded(latents: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """Round variables to less than what their posterior sd resolves; everything else stays as it is.

    The rounding error of a value is at most a sixteenth of its sd, and of the root mean square change of its channel from bin
    to bin, so that it shows neither in intervals nor in derivatives: it adds at most 0.13 % to the variance of either. Steps
    are powers of two: the last bits are zeros, which compression removes.

    Parameters
    ----------
    latents : Dataset
        Checked by `layout.check_latents`.
    names : sequence of str
        From `rounded_names`.

    Returns
    -------
    Dataset
    """
    changed = {}
    for name in names:
        values = latents[name]
        if name.endswith("_sd"):
            changed[name] = values.copy(data=_round_sd(values.values))
        else:
            data = _round_values(values.values, latents[f"{name}_sd"].values, in_time=values.ndim == 3)
            changed[name] = values.copy(data=data)
    return latents.assign(changed)


def _round_values(values: NDArray[np.float32], sd: NDArray[np.float32], *, in_time: bool) -> NDArray[np.float32]:
    scale = sd.astype(np.float32)
    if in_time and values.shape[1] > 1:
        squares = np.diff(values.astype(np.float64), axis=1) ** 2
        known = np.isfinite(squares)
        sums, counts = np.where(known, squares, 0.0).sum((0, 1)), known.sum((0, 1))
        change = np.sqrt(sums / np.maximum(counts, 1))
        scale = np.minimum(scale, np.where(change > 0, change, np.inf).astype(np.float32))
    # Where the sd is zero or not a number, nothing is known to lie below it. No value becomes zero: rates stay positive.
    usable = np.isfinite(scale) & (scale > np.finfo(np.float32).tiny * STEPS_PER_SD)
    _, exponent = np.frexp(np.where(usable, scale / STEPS_PER_SD, 1.0))
    step = np.ldexp(np.float32(1.0), exponent - 1)
    multiples = np.divide(values, step, out=values.copy(), where=usable)
    nearest = np.rint(multiples) * step
    return np.where(usable & (nearest != 0), nearest, values).astype(np.float32)


def _round_sd(sd: NDArray[np.float32]) -> NDArray[np.float32]:
    mantissa, exponent = np.frexp(sd)
    nearest: NDArray[np.float32] = np.ldexp(np.rint(np.ldexp(mantissa, SD_BITS)), exponent - SD_BITS)
    return nearest.astype(np.float32)
