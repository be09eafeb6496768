"""Behaviour of a recording, decoded from what a fit infers of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from nwb_sbtt.evaluate.decoding import Of, decode
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.io.read.behaviour import read_behaviour
from nwb_sbtt.io.read.series_columns import split_column

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted

PERHAPS_TRAINED = (
    "the recording is one of the fit's, but other trials or bins were read: the fit may have been trained on some of them, so "
    "scores may be too high"
)


def trial_columns_among(names: Sequence[str]) -> list[str]:
    """List the names that are columns of the trials: those without a slash.

    Parameters
    ----------
    names : sequence of str
        Trial columns, and in-file paths with or without columns (``PATH:0,1``).

    Returns
    -------
    list of str
    """
    return [name for name in names if "/" not in name.strip("/")]


def decode_recording(
    fitted: Fitted,
    path: Path,
    ds: xr.Dataset,
    names: Sequence[str],
    *,
    lag: float = 0.0,
    of: Of = "factors",
    session: str | None = None,
    same_channels: bool = False,
) -> tuple[xr.Dataset, list[xr.Dataset]]:
    """Infer latents of a recording, and decode behaviour from them.

    Parameters
    ----------
    fitted : Fitted
    path : Path
        The recording's file.
    ds : Dataset
        Read from it with the settings of the fit, with the trial columns among `names`.
    names : sequence of str
        In-file paths of behaviour, with or without columns, and trial columns.
    lag : float
        Seconds by which behaviour in bins is later than the latents.
    of : "factors", "aligned_factors", "rates" or "mean"
    session, same_channels
        As for `nwb_sbtt.Fitted.infer`.

    Returns
    -------
    latents : Dataset
    decoded : list of Dataset
        See `nwb_sbtt.evaluate.decode`; scored on the validation and test trials where the data are those of the fit.

    Raises
    ------
    SelectionError
        If there is no such series or column.
    DataError
        If there is too little behaviour, or it does not vary.
    MismatchError
        If channels, bin width or recording differ from those of the fit.
    """
    name, _ = fitted.match(ds, session, same_channels=same_channels)
    notes: list[str] = []
    if fitted.is_fitted_to(ds, session=name):
        ds = prepare(ds, fitted.config)
    else:
        ds = ds.drop_vars("split", errors="ignore")
        if fitted.session_of(json.loads(ds.attrs.get("source", "{}"))) is not None:
            notes = [PERHAPS_TRAINED]
    latents = fitted.infer(ds, session=name, same_channels=same_channels)
    columns = trial_columns_among(names)
    decoded = []
    for each in names:
        behaviour: Any = each if each in columns else read_behaviour(path, each, ds, lag=lag)
        found = decode(latents, behaviour, of=of, data=ds)
        all_notes = [*json.loads(found.attrs["decoding_notes"]), *notes, *_given(each, ds)]
        decoded.append(found.assign_attrs(decoding_notes=json.dumps(all_notes)))
    return latents, decoded


def _given(name: str, ds: xr.Dataset) -> list[str]:
    """A note where the model was given what is decoded."""
    inputs = json.loads(ds.attrs.get("read_config", "{}")).get("inputs", [])
    if split_column(name)[0] not in [split_column(text)[0] for text in inputs]:
        return []
    return [f"{name!r} is a known input of the model, so the latents contain it in any case"]
