"""Datasets made ready for a fit: checked, split, with what is held out and hidden, and known by a signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch
from nwb_sbtt.config import AutoConfig, FitConfig, LikelihoodConfig
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.data.splits import split
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.signature import Signature, describe_session
from nwb_sbtt.models import MODELS
from nwb_sbtt.nn.likelihoods import LIKELIHOODS, Values, suitable_likelihood


def prepare(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Check a Dataset against the settings, and add ``split`` and ``held_out`` where the settings ask for them.

    Raises
    ------
    DataError
        If values are impossible under the likelihood, or trials are too few.
    """
    check_dataset(ds)
    data, likelihood = values_of(ds), likelihood_of(ds, config)
    MODELS[config.model.name].check(data, likelihood.name)
    LIKELIHOODS[likelihood.name].check(data, likelihood)
    return split(hold_out(ds, config), valid=config.valid_fraction, seed=config.seed)


def likelihood_of(ds: xr.Dataset, config: FitConfig) -> LikelihoodConfig:
    """Give the likelihood's settings: those chosen or, under "auto", the defaults of the one that suits the data.

    That is Poisson for counts, zero-inflated gamma for events, and Gaussian for all else.
    """
    if config.likelihood.name != AutoConfig().name:
        return config.likelihood
    return likelihood_settings(config, suitable_likelihood(kind_of(ds)))


def likelihood_settings(config: FitConfig, name: str) -> LikelihoodConfig:
    """Give the settings of a fit's likelihood by its name: those chosen, or the defaults where the data chose it."""
    return config.likelihood if config.likelihood.name == name else LIKELIHOODS[name].Config()


def values_of(ds: xr.Dataset) -> Values:
    """Give what a model and a likelihood are asked about: arrays without labels."""
    columns = {
        str(name): values.values.astype(float)
        for name, values in ds.coords.items()
        if values.dims == ("channel",) and np.issubdtype(values.dtype, np.number)
    }
    signal = str(ds.attrs.get("signal", ""))
    return Values(ds["values"].values, ds["observed"].values, kind_of(ds), signal, columns)


def kind_of(ds: xr.Dataset) -> Literal["counts", "events", "signals"]:
    """Say what an entry is: spikes per bin, the size of an event, or anything else."""
    if ds.attrs.get("unit") == "counts":
        return "counts"
    return "events" if ds.attrs.get("signal") == "events" else "signals"


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
    if lack := LIKELIHOODS[likelihood_of(ds, config).name].lacks(valid.values[valid.scored]):
        raise DataError(
            f"the {int(valid.scored.sum())} hidden entries of the {len(rows['valid'])} validation trials hold no {lack} to "
            "compare models on; hide more (--set masks.sample_validation=0.4), keep more trials for validation "
            "(--set valid_fraction=0.3), or take wider bins"
        )
    return batch.select(rows["train"]), valid


def hidden_entries(ds: xr.Dataset, batch: Batch, config: FitConfig) -> Tensor:
    """Mark the entries of the validation trials that no model sees: a fixed draw by the seed."""
    generator = torch.Generator().manual_seed(config.seed)
    cpu = batch.to("cpu")
    valid = torch.from_numpy(ds["split"].values == "valid")
    length = mask_length_of(float(ds.attrs["bin_width"]), config, likelihood_of(ds, config).name)
    return (
        masks.sample_validation(cpu, config.masks.sample_validation, generator, mask_length=length)
        & cpu.along_trials(valid)
    ).to(batch.values.device)


def mask_length_of(bin_width: float, config: FitConfig, likelihood: str) -> int:
    """Give the bins of a channel that are hidden together: as the settings say, or as many as model and likelihood need.

    Parameters
    ----------
    bin_width : float
        Seconds.
    likelihood : str
        Name of the likelihood.
    """
    if config.masks.mask_length is not None:
        return config.masks.mask_length
    return max(MODELS[config.model.name].mask_length(bin_width), LIKELIHOODS[likelihood].mask_length(bin_width))


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


def signature_of(sessions: Mapping[str, xr.Dataset], config: FitConfig) -> Signature:
    """Give the signature of a fit of prepared Datasets.

    Raises
    ------
    DataError
        If sessions want different likelihoods, or channels share an id.
    """
    likelihoods = {likelihood_of(ds, config) for ds in sessions.values()}
    if len(likelihoods) > 1:
        names = sorted(likelihood.name for likelihood in likelihoods)
        raise DataError(f"the sessions want different likelihoods, {names}; set one with `likelihood`")
    likelihood = likelihoods.pop()
    described = {}
    for name, ds in sessions.items():
        described[name] = describe_session(ds, LIKELIHOODS[likelihood.name].channel_values(values_of(ds), likelihood))
        channels = described[name].channels
        if len(set(channels)) < len(channels):
            raise DataError(f"channels of session {name!r} share an id; each channel needs its own")
    return Signature(likelihood.name, described)
