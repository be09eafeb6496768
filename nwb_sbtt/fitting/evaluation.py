"""Scores of a fit on data: entries are hidden, inferred, and compared with what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from nwb_sbtt import masks
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.evaluate.summary import evaluate_latents
from nwb_sbtt.fitting.alignment import check_alignment_of
from nwb_sbtt.fitting.hiding import without_channels
from nwb_sbtt.fitting.labelling import labelled
from nwb_sbtt.fitting.preparation import hidden_entries, mask_length_of, prepare, test_trials
from nwb_sbtt.fitting.scores import keep_metrics
from nwb_sbtt.fitting.signature import digest_of

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted


def evaluate(
    fitted: Fitted, ds: xr.Dataset, name: str, *, baselines: bool, on: Literal["valid", "test"]
) -> dict[str, Any]:
    """Score a fit; see `nwb_sbtt.fitting.fitted.Fitted.evaluate`.

    Parameters
    ----------
    fitted : Fitted
    ds : Dataset
        With the channels of the fit, in its order.
    name : str
        Fitted session that the channels belong to.
    baselines, on
        As there.

    Returns
    -------
    dict
    """
    ds = prepare(ds, fitted.config)
    if on == "test":
        ds = test_trials(ds)
    batch = to_batch(ds, name)
    mask_length = fitted.signature.sessions[name].mask_length or mask_length_of(ds, fitted.config)
    hidden = hidden_entries(ds, batch, fitted.config, mask_length=mask_length)
    where_hidden, of_channels = batch.dense(hidden).numpy(), without_channels(fitted, ds, batch)
    batch = masks.hide(batch, hidden)
    latents = labelled(fitted, ds, name, fitted.posterior(batch, None))
    del batch, hidden  # as large as the data, and no longer needed
    metrics = evaluate_latents(
        ds,
        latents,
        where_hidden,
        mask_length=mask_length,
        lag=fitted.config.lag,
        hidden_channels=of_channels,
        baselines=baselines,
    )
    if (check := check_alignment_of(fitted, name)) is not None:
        metrics["checks"].append(check)
    if not fitted.finished:
        metrics["checks"].insert(0, {"name": "training", "level": "warn", "text": f"{fitted.unfinished}."})
    if on == "valid" and baselines and digest_of(ds) == fitted.signature.sessions[name].data_sha256:
        keep_metrics(fitted.run_dir, name, metrics, sessions=fitted.signature.sessions)
    return metrics
