"""Calibrations of a fit, one for each session: in its run folder, and applied to what its model infers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from nwb_sbtt.data.memory import ENTRIES_AT_ONCE
from nwb_sbtt.errors import FileError
from nwb_sbtt.evaluate.calibration import Calibration, CountCalibration, SignalCalibration, variance_of_log
from nwb_sbtt.fitting.runfolder import CALIBRATION, read_json, write_json

_ADAPTER: TypeAdapter[dict[str, Calibration]] = TypeAdapter(
    dict[str, Annotated[Calibration, Field(discriminator="kind")]]
)


def read_calibrations(run_dir: Path, *, checkpoint: str) -> dict[str, Calibration]:
    """Read the calibrations of a run folder; there are none where it has no such file.

    Parameters
    ----------
    run_dir : Path
    checkpoint : str
        Digest of the weights.

    Returns
    -------
    dict of session to Calibration

    Raises
    ------
    FileError
        If the file is damaged, is an earlier version's, or belongs to other weights.
    """
    path = run_dir / CALIBRATION
    if not path.exists():
        return {}
    content = read_json(path)
    if content.get("checkpoint_sha256") != checkpoint:
        raise FileError(
            f"{str(path)!r} was computed from different weights than those in the run folder, so files of two fits "
            "are mixed; restore the folder from a copy, or remove this file and run the fit again"
        )
    earlier = FileError(
        f"{str(path)!r} is the calibration of an earlier version; remove this file and run the same fit again, which "
        "keeps the weights and repeats the calibration"
    )
    if "sessions" not in content:
        raise earlier
    try:
        return _ADAPTER.validate_python(content["sessions"])
    except ValidationError as error:
        if any(found["type"] == "missing" for found in error.errors()):
            raise earlier from None
        raise FileError(f"{str(path)!r} of the run folder is damaged: {error.errors()[0]['msg']}") from None


def write_calibrations(calibrations: Mapping[str, Calibration], run_dir: Path, *, checkpoint: str) -> None:
    """Write calibrations to a run folder.

    Parameters
    ----------
    calibrations : mapping of session to Calibration
    run_dir : Path
    checkpoint : str
        Digest of the weights.

    Raises
    ------
    FileError
        If they cannot be written.
    """
    sessions = {name: asdict(calibration) for name, calibration in calibrations.items()}
    write_json(run_dir / CALIBRATION, {"sessions": sessions, "checkpoint_sha256": checkpoint})


def predicted_variance(arrays: Mapping[str, Tensor], *, counts: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return what a model expects and the variance that it predicts.

    Parameters
    ----------
    arrays : mapping of name to tensor
        ``expected`` and, where the model has one, ``expected_sd`` (trial, time, channel).
    counts : bool

    Returns
    -------
    expected, variance : array (trial, time, channel)
        The variance is that of a count's logarithm, or of a mean; 0 where the model predicts none.
    """
    expected = arrays["expected"].cpu().numpy().astype(float)
    sd = arrays["expected_sd"].cpu().numpy().astype(float) if "expected_sd" in arrays else np.zeros_like(expected)
    return expected, variance_of_log(expected, sd) if counts else sd**2


def calibrated(arrays: dict[str, Tensor], calibration: Calibration | None) -> dict[str, Tensor]:
    """Calibrate the sd of what a model expects.

    Parameters
    ----------
    arrays : dict of name to tensor
        As for `predicted_variance`.
    calibration : Calibration or None
        None leaves everything as it is.

    Returns
    -------
    dict of name to tensor
        With another ``expected_sd``, if it is not 0 throughout.
    """
    if calibration is None:
        return arrays
    of = {name: arrays[name] for name in ("expected", "expected_sd") if name in arrays}
    sd = torch.empty(of["expected"].shape)
    for rows in torch.split(torch.arange(len(sd)), max(1, ENTRIES_AT_ONCE // max(sd[0].numel(), 1))):
        part: dict[str, Tensor] = {name: array[rows] for name, array in of.items()}
        sd[rows] = torch.from_numpy(np.sqrt(_variance(part, calibration))).float()
    return {**arrays, "expected_sd": sd} if sd.any() else arrays


def _variance(arrays: Mapping[str, Tensor], calibration: Calibration) -> np.ndarray:
    if isinstance(calibration, CountCalibration):
        expected, predicted = predicted_variance(arrays, counts=True)
        return np.asarray(expected**2 * calibration.relative_variance(expected, predicted))
    return calibration.variance(predicted_variance(arrays, counts=False)[1])


def noise_of(calibration: Calibration | None) -> dict[str, tuple[str, np.ndarray]]:
    """Return the sd of the noise of each channel as a coordinate; nothing for counts.

    Parameters
    ----------
    calibration : Calibration or None

    Returns
    -------
    dict
        ``noise_sd`` (channel), in the data's unit; NaN where it is not known.
    """
    if not isinstance(calibration, SignalCalibration):
        return {}
    return {"noise_sd": ("channel", np.array([np.nan if sd is None else sd for sd in calibration.noise_sd]))}
