"""Rates of a set from any model: held-out units and forecast bins are never shown, in training as in evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_sbtt.config import FitConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.fitted import Fitted
from nwb_sbtt.io.benchmark.tensorfile import write_tensors
from nwb_sbtt.nlb.preparation import Prepared
from nwb_sbtt.nlb.submission import check_rates

Array = NDArray[Any]
PARTS = ("train", "eval")


def predict(prepared: Prepared, config: FitConfig | None = None, *, run_dir: Path | str) -> dict[str, Array]:
    """Fit a model to the training trials, and infer the rates of these and of the evaluated trials.

    The encoder is shown held-in units within the windows alone; held-out units and forecast bins are only scored. The
    checkpoint is chosen on validation trials drawn from the training trials; evaluated trials are not used before the fit has
    ended. Rates are posterior means, those of several seeds averaged in their logarithm.

    Parameters
    ----------
    prepared : Prepared
        With training trials.
    config : FitConfig, optional
        ``seeds`` above 1 fits an ensemble.
    run_dir : path
        Run folder; an interrupted fit is resumed.

    Returns
    -------
    dict of name to array (trial, time, unit)
        In the layout of a submission, expected counts per bin.

    Raises
    ------
    DataError
        If there are no training trials, or nothing to fit.
    TrainingError, ConfigError
        As `nwb_sbtt.fit`.
    """
    return infer_rates(prepared, fit(trials_dataset(prepared, "train"), config, run_dir=run_dir))


def infer_rates(prepared: Prepared, fitted: Fitted) -> dict[str, Array]:
    """Infer the rates of the training trials and of the evaluated trials, by any fit of the training trials.

    Parameters
    ----------
    prepared : Prepared
        With training trials.
    fitted : Fitted
        Of `trials_dataset(prepared, "train")`: of `predict`, or the winner or the average of a search.

    Returns
    -------
    dict of name to array (trial, time, unit)
        In the layout of a submission, expected counts per bin.

    Raises
    ------
    DataError
        If there are no training trials, or the fit is of other units.
    """
    rates: dict[str, Array] = {}
    for part in PARTS:
        ds = trials_dataset(prepared, part)
        expected = fitted.infer(ds)["rates"].values * prepared.bin_width
        n_bins = int((~ds["forecast"].values).sum())
        for held_out, kind in ((False, "heldin"), (True, "heldout")):
            units = expected[:, :, ds["held_out"].values == held_out].astype(np.float32)
            rates[f"{part}_rates_{kind}"] = units[:, :n_bins]
            rates[f"{part}_rates_{kind}_forward"] = units[:, n_bins:]
    check_rates(prepared.group, rates, prepared)
    return rates


def save_rates(rates: dict[str, Array], prepared: Prepared, folder: Path | str, *, overwrite: bool = False) -> Path:
    """Write rates as ``GROUP.PHASE.rates.h5``, in the layout of a submission.

    Parameters
    ----------
    rates : mapping of name to array (trial, time, unit)
        As `predict` returns them.
    prepared : Prepared
    folder : path
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    FileError
        If the file exists and may not be replaced, or cannot be written.
    """
    path = Path(folder) / f"{prepared.group}.{prepared.phase}.rates.h5"
    return write_tensors(path, {prepared.group: rates}, about=prepared.about, overwrite=overwrite)


def trials_dataset(prepared: Prepared, part: str) -> xr.Dataset:
    """Make a Dataset of the training or the evaluated trials: windows and the forecast bins after them, held-in units first.

    Coordinates ``held_out`` (channel) and ``forecast`` (time) mark the entries that are never shown. Of evaluated trials only
    held-in units within the window are observed.

    Parameters
    ----------
    prepared : Prepared
    part : "train" or "eval"

    Raises
    ------
    DataError
        If there are no training trials.
    """
    inputs = prepared.inputs
    if "train_spikes_heldout" not in inputs:
        raise DataError("there are no training trials; prepare the set with the file that has them")
    n_bins, n_held_in = inputs["train_spikes_heldin"].shape[1:]
    n_forward, n_held_out = inputs["train_spikes_heldout_forward"].shape[1:]
    if part == "train":
        window = np.concatenate([inputs["train_spikes_heldin"], inputs["train_spikes_heldout"]], axis=2)
        after = np.concatenate([inputs["train_spikes_heldin_forward"], inputs["train_spikes_heldout_forward"]], axis=2)
        counts = np.concatenate([window, after], axis=1)
    else:
        shown = inputs["eval_spikes_heldin"]
        counts = np.full((len(shown), n_bins + n_forward, n_held_in + n_held_out), np.nan, dtype=np.float32)
        counts[:, :n_bins, :n_held_in] = shown
    starts = prepared.about["train_starts"] if part == "train" else None
    units = [*prepared.about["units_heldin"], *prepared.about["units_heldout"]]
    return make_dataset(
        counts,
        np.isfinite(counts),
        bin_width=prepared.bin_width,
        kind="units",
        channel_id=np.asarray(units),
        trial_start=starts,
        coords={
            "held_out": ("channel", np.arange(n_held_in + n_held_out) >= n_held_in),
            "forecast": ("time", np.arange(n_bins + n_forward) >= n_bins),
        },
        attrs={"unit": "counts", "session_id": prepared.group},
    )
