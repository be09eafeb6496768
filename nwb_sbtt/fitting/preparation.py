"""Datasets made ready for a fit: checked, split, with what is held out and hidden, and known by a signature."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch
from nwb_sbtt.config import FitConfig, LadderConfig
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.data.splits import split
from nwb_sbtt.errors import DataError
from nwb_sbtt.train import checkpoint

TOGETHER = 1.0
"""Seconds of fluorescence that are hidden together where spikes are to be told from it."""
OF_RATES = ("gaussian_moments", "edgeworth")
"""Likelihoods of fluorescence that follows from rates of spikes."""


def prepare(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Check a Dataset against the settings, and add ``split`` and ``held_out`` where the settings ask for them.

    Raises
    ------
    DataError
        If values are impossible under the likelihood, or trials are too few.
    """
    check_dataset(ds)
    _check_values(ds, config)
    return split(hold_out(ds, config), valid=config.valid_fraction, seed=config.seed)


def likelihood_of(ds: xr.Dataset, config: FitConfig) -> str:
    """Name the likelihood: what the settings say or, under "auto", what suits the data.

    That is Poisson for counts, zero-inflated gamma where ``attrs["signal"]`` is "events", and Gaussian for all else.
    """
    if config.likelihood != "auto":
        return config.likelihood
    if ds.attrs.get("unit") == "counts":
        return "poisson"
    return "zig" if ds.attrs.get("signal") == "events" else "gaussian"


def smallest_events(ds: xr.Dataset, config: FitConfig) -> list[float]:
    """Size that the events of each channel exceed: what the settings say, what the data carry, or 0."""
    if config.smallest_event is not None:
        return [config.smallest_event] * ds.sizes["channel"]
    if "smallest_event" in ds.coords:
        return [float(each) for each in ds["smallest_event"].values]
    return [0.0] * ds.sizes["channel"]


def _check_values(ds: xr.Dataset, config: FitConfig) -> None:
    """Refuse what is impossible under the likelihood, and would make it infinite."""
    likelihood, values, observed = likelihood_of(ds, config), ds["values"].values, ds["observed"].values
    size = int(observed.sum())
    signals = "choose likelihood='gaussian' (--set likelihood=gaussian) for signals"
    if isinstance(config.model, LadderConfig) and (likelihood != "gaussian" or ds.attrs.get("signal") == "events"):
        what = "counts" if likelihood == "poisson" else ds.attrs.get("signal", "signals")
        raise DataError(
            f"a ladder takes fluorescence, and these are {what} under likelihood {likelihood!r}; leave the likelihood open and "
            "read fluorescence, or choose model 'conv'"
        )
    if likelihood in OF_RATES and (ds.attrs.get("unit") == "counts" or ds.attrs.get("signal") == "events"):
        what = "counts" if ds.attrs.get("unit") == "counts" else "events"
        raise DataError(
            f"likelihood {likelihood!r} takes fluorescence, and these are {what}; leave the likelihood open, which suits them, "
            "or read fluorescence"
        )
    negative = int((values < 0).sum())
    if negative and likelihood in ("poisson", "zig"):
        what = "counts" if likelihood == "poisson" else "sizes of events"
        raise DataError(f"{negative} of {size} values are negative, which {what} cannot be; {signals}")
    if likelihood == "gamma" and (flat := int((values[observed] <= 0).sum())):
        raise DataError(
            f"{flat} of {size} values are zero or less, which a gamma distribution does not reach; choose likelihood='zig' "
            "for sizes of events, most of them zero, or 'gaussian'"
        )
    if likelihood == "zig":
        smallest = np.asarray(smallest_events(ds, config), dtype=np.float32)
        small = (values > 0) & (values <= smallest)
        if small.any():
            where = values[small]
            raise DataError(
                f"{int(small.sum())} events of {size} values lie above 0 but not above the smallest event size, the least of "
                f"them {where.min():g}; set smallest_event below it (--set smallest_event=0), or remove such events"
            )


def train_and_valid(ds: xr.Dataset, batch: Batch, config: FitConfig) -> tuple[Batch, Batch]:
    """Part a session's trials into those that train and those that compare models, and hide entries of the latter.

    Raises
    ------
    DataError
        If nothing is left to compare models on.
    """
    split_of = ds["split"].values
    rows = {
        part: torch.from_numpy(np.flatnonzero(split_of == part)).to(batch.trials.device) for part in ("train", "valid")
    }
    hidden = hidden_entries(ds, batch, config)
    never_shown = batch.observed & ~batch.shown
    valid = masks.score_only(masks.hide(batch, hidden), hidden | never_shown).select(rows["valid"])
    if not valid.scored.any():
        raise DataError(
            "the validation trials hold no observed entry to compare models on; use more trials or channels"
        )
    if likelihood_of(ds, config) == "poisson" and not valid.values[valid.scored].any():
        raise DataError(
            f"the {int(valid.scored.sum())} hidden entries of the {len(rows['valid'])} validation trials hold no spike to "
            "compare models on; hide more (--set masks.sample_validation=0.4), keep more trials for validation "
            "(--set valid_fraction=0.3), or take wider bins"
        )
    return batch.select(rows["train"]), valid


def hidden_entries(ds: xr.Dataset, batch: Batch, config: FitConfig) -> Tensor:
    """Mark the entries of the validation trials that no model sees: a fixed draw by the seed."""
    generator = torch.Generator().manual_seed(config.seed)
    cpu = batch.to("cpu")
    valid = torch.from_numpy(ds["split"].values == "valid")
    length = mask_length(config, float(ds.attrs["bin_width"]))
    return (
        masks.sample_validation(cpu, config.masks.sample_validation, generator, mask_length=length)
        & cpu.along_trials(valid)
    ).to(batch.values.device)


def mask_length(config: FitConfig, bin_width: float) -> int:
    """Bins of a channel that are hidden together."""
    if config.masks.mask_length is not None:
        return config.masks.mask_length
    of_spikes = isinstance(config.model, LadderConfig) or config.likelihood in OF_RATES
    return max(1, round(TOGETHER / bin_width)) if of_spikes else 1


def channel_names(ds: xr.Dataset) -> list[str]:
    """Ids of the channels, each with the table that it counts in."""
    ids = [str(i) for i in ds["channel_id"].values]
    if "table" not in ds.coords:
        return ids
    return [f"{table}:{i}" for table, i in zip(ds["table"].values, ids, strict=True)]


def digest_of(ds: xr.Dataset) -> str:
    """SHA-256 of values, masks and split: what tells whether two Datasets are the same data."""
    digest = hashlib.sha256()
    for array in (ds["values"], ds["observed"], ds["split"]):
        digest.update(
            np.ascontiguousarray(array.values.astype(str) if array.dtype == object else array.values).tobytes()
        )
    return digest.hexdigest()


def hold_out(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Mark the channels that are never shown, where the settings ask for it and the data do not say which."""
    if not config.masks.held_out_channels or "held_out" in ds.coords:
        return ds
    n_channels = ds.sizes["channel"]
    n_held_out = round(config.masks.held_out_channels * n_channels)
    if not 0 < n_held_out < n_channels:
        raise DataError(
            f"holding out {config.masks.held_out_channels:g} of {n_channels} channels leaves {n_held_out} held out; "
            "at least one must be held out and one shown"
        )
    held_out = np.zeros(n_channels, bool)
    held_out[np.random.default_rng(config.seed).permutation(n_channels)[:n_held_out]] = True
    return ds.assign_coords(held_out=("channel", held_out))


def signature_of(sessions: dict[str, xr.Dataset], config: FitConfig) -> dict[str, Any]:
    """Say what a fit is of: likelihood and, for each session, channels, sizes, digest and where the data come from.

    Raises
    ------
    DataError
        If sessions want different likelihoods, or channels share an id.
    """
    likelihoods = {likelihood_of(ds, config) for ds in sessions.values()}
    if len(likelihoods) > 1:
        raise DataError(f"the sessions want different likelihoods, {sorted(likelihoods)}; set one with `likelihood`")
    described = {}
    for name, ds in sessions.items():
        channels = channel_names(ds)
        if len(set(channels)) < len(channels):
            raise DataError(f"channels of session {name!r} share an id; each channel needs its own")
        described[name] = {
            "channels": channels,
            "bin_width": ds.attrs["bin_width"],
            "kind": ds.attrs["kind"],
            "trials": ds.sizes["trial"],
            "training_trials": int((ds["split"].values == "train").sum()),
            "bins": ds.sizes["time"],
            "data_sha256": digest_of(ds),
            "source": json.loads(ds.attrs["source"]) if "source" in ds.attrs else None,
            "read_config": json.loads(ds.attrs["read_config"]) if "read_config" in ds.attrs else None,
            "offsets": json.loads(ds.attrs["offsets"]) if "offsets" in ds.attrs else None,
            **({"smallest_event": smallest_events(ds, config)} if "zig" in likelihoods else {}),
        }
    return {"format": checkpoint.FORMAT, "likelihood": likelihoods.pop(), "sessions": described}
