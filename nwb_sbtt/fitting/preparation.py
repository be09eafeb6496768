"""Preparation of Datasets for a fit: checks, split, held-out channels, hidden entries, and the signature."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch
from nwb_sbtt.config import AutoConfig, FitConfig, LikelihoodConfig, ReadConfig, build
from nwb_sbtt.data.inputs import input_names
from nwb_sbtt.data.memory import check_memory
from nwb_sbtt.data.schema import check_dataset, is_chopped
from nwb_sbtt.data.splits import split
from nwb_sbtt.errors import ConfigError, DataError, MismatchError
from nwb_sbtt.fitting.signature import Signature, describe_session, equal_bin_widths
from nwb_sbtt.models import MODELS
from nwb_sbtt.nn.likelihoods import LIKELIHOODS, Values, suitable_likelihood

WARM_UP = 0.25
"""Share of a chop after which a model with a lag is scored."""
MOST_NAMED = 10
"""Most channels that an error names."""


def prepare(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Validate a Dataset, and add ``split`` and ``held_out`` where they are missing and the settings ask for them.

    Parameters
    ----------
    ds : Dataset
        As returned by `nwb_sbtt.read_nwb`.
    config : FitConfig

    Returns
    -------
    Dataset
        Ready for `nwb_sbtt.data.tensors.to_batch`.

    Raises
    ------
    DataError
        If values are impossible under the likelihood, or there are too few trials.
    ConfigError
        If the model takes no known inputs, and the data have some.
    """
    check_dataset(ds)
    _refuse_inferred_events(ds, config)
    _check_takes_inputs(ds, config)
    data, likelihood = values_of(ds), likelihood_of(ds, config)
    MODELS[config.model.name].check(data, likelihood.name)
    LIKELIHOODS[likelihood.name].check(data, likelihood)
    return split(hold_out(ds, config), valid=config.valid_fraction, test=config.test_fraction, seed=config.seed)


@contextmanager
def naming_session(name: str, *, of: int) -> Iterator[None]:
    """Name the session in an error about its data, where there are several.

    Parameters
    ----------
    name : str
    of : int
        Number of sessions that are fitted together.

    Raises
    ------
    DataError, MismatchError
        As raised in the block, with the session's name.
    """
    try:
        yield
    except (DataError, MismatchError) as error:
        if of == 1:
            raise
        raise type(error)(
            f"session {name!r}: {error}. Correct it, or fit the other sessions without this one"
        ) from None


def check_fits_memory(
    sessions: Sequence[xr.Dataset], bytes_each: float, bytes_observed: float = 0.0, *, what: str
) -> None:
    """Refuse data for which memory does not suffice, before it is taken.

    Parameters
    ----------
    sessions : sequence of Dataset
    bytes_each, bytes_observed : float
        Of each entry, and of each that was observed besides; see `nwb_sbtt.data.memory`.
    what : str
        What is to be done, such as "the fit".

    Raises
    ------
    DataError
    """
    sizes = [ds["values"].shape for ds in sessions]
    n_observed = sum(int(ds["observed"].sum()) for ds in sessions) if bytes_observed else 0
    n_entries = sum(int(np.prod(shape, dtype=np.int64)) for shape in sizes)
    described = " and ".join(" × ".join(map(str, shape)) for shape in sizes[:3])
    check_memory(
        n_entries,
        bytes_each + bytes_observed * n_observed / max(n_entries, 1),
        what=f"{what}, of size {described} (trials × bins × channels), would",
        remedy="use fewer trials, wider bins, fewer channels (read.where), or a machine with more memory",
    )


def likelihood_of(ds: xr.Dataset, config: FitConfig) -> LikelihoodConfig:
    """Resolve the likelihood of a Dataset.

    Parameters
    ----------
    ds : Dataset
    config : FitConfig

    Returns
    -------
    LikelihoodConfig
        As set or, under "auto", the defaults of the likelihood for this kind of data: Poisson for counts, zero-inflated gamma
        for events, Gaussian for other signals.
    """
    if config.likelihood.name != AutoConfig().name:
        return config.likelihood
    return likelihood_settings(config, suitable_likelihood(kind_of(ds)))


def reading_of(read: ReadConfig, config: FitConfig) -> ReadConfig:
    """Resolve what a fit needs of the reader: the column of conditions, and how ROIs are read.

    Fluorescence stays as it is for a model or likelihood of fluorescence.

    Parameters
    ----------
    read : ReadConfig
    config : FitConfig

    Returns
    -------
    ReadConfig
        `rois.deconvolve` changed only where it is "auto" and `events` is not set; `trial_columns` with ``sessions.condition``.
    """
    condition = config.sessions.condition
    if condition is not None and condition not in read.trial_columns:
        read = read.model_copy(update={"trial_columns": (*read.trial_columns, condition)})
    if not _is_open(read) or _fits_events(config):
        return read
    return read.model_copy(update={"rois": read.rois.model_copy(update={"deconvolve": "never"})})


def likelihood_settings(config: FitConfig, name: str) -> LikelihoodConfig:
    """Return the settings of a fit's likelihood: as set, or the defaults where "auto" has chosen it.

    Parameters
    ----------
    config : FitConfig
    name : str
        Name of the likelihood that the fit has.

    Returns
    -------
    LikelihoodConfig
    """
    return config.likelihood if config.likelihood.name == name else LIKELIHOODS[name].Config()


def values_of(ds: xr.Dataset) -> Values:
    """Return a Dataset's arrays without labels, for the checks of model and likelihood.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    Values
        Values, masks, kind of data, numeric columns of the channels, and which trials are for training.
    """
    columns = {
        str(name): values.values.astype(float)
        for name, values in ds.coords.items()
        if values.dims == ("channel",) and np.issubdtype(values.dtype, np.number)
    }
    signal = str(ds.attrs.get("signal", ""))
    training = ds["split"].values == "train" if "split" in ds.coords else None
    return Values(ds["values"].values, ds["observed"].values, kind_of(ds), signal, columns, training)


def kind_of(ds: xr.Dataset) -> Literal["counts", "events", "signals"]:
    """Classify the values of a Dataset.

    Parameters
    ----------
    ds : Dataset

    Returns
    -------
    {"counts", "events", "signals"}
        Spikes per bin, sizes of events, or any other signal.
    """
    if ds.attrs.get("unit") == "counts":
        return "counts"
    return "events" if ds.attrs.get("signal") == "events" else "signals"


def train_and_valid(
    ds: xr.Dataset, batch: Batch, config: FitConfig, *, mask_length: int | None = None
) -> tuple[Batch, Batch]:
    """Split a session into training and validation trials, and hide entries of the validation trials.

    Parameters
    ----------
    ds : Dataset
        As returned by `prepare`.
    batch : Batch
        The same trials as tensors.
    config : FitConfig
    mask_length : int, optional
        Bins of a channel that are hidden together; `mask_length_of` these data by default.

    Returns
    -------
    train, valid : Batch
        In `valid` the hidden entries, those of held-out channels and those of forecast bins are scored. Of the chops of a
        session the first `WARM_UP` is not scored, in either, for a model with a lag: it knows little of the past there, and
        of a whole session it knows all of it.

    Raises
    ------
    DataError
        If no entry is left to compare models on.
    """
    if config.lag is not None and is_chopped(ds):
        batch = masks.warm_up(batch, round(WARM_UP * ds.sizes["time"]))
    labels = ds["split"].values
    rows = {
        part: torch.from_numpy(np.flatnonzero(labels == part)).to(batch.trials.device) for part in ("train", "valid")
    }
    hidden = hidden_entries(ds, batch, config, mask_length=mask_length)
    never_shown = batch.observed & ~batch.shown
    valid = masks.score_only(masks.hide(batch, hidden), hidden | never_shown).select(rows["valid"])
    if not valid.scored.any():
        raise DataError(
            "the validation trials have no observed entry, so models cannot be compared; use more trials or channels"
        )
    if lack := LIKELIHOODS[likelihood_of(ds, config).name].lacks(valid.values[valid.scored]):
        raise DataError(
            f"the {int(valid.scored.sum())} hidden entries of the {len(rows['valid'])} validation trials have no "
            f"{lack}, so models cannot be compared; hide more entries (--set masks.sample_validation=0.4), keep more "
            "trials for validation (--set valid_fraction=0.3), or use wider bins"
        )
    return batch.select(rows["train"]), valid


def test_trials(ds: xr.Dataset) -> xr.Dataset:
    """Make the test trials of a session its validation trials, to score a fit on them.

    Parameters
    ----------
    ds : Dataset
        As returned by `prepare`.

    Returns
    -------
    Dataset
        The same data; the validation trials are left out of the split.

    Raises
    ------
    DataError
        If there are none.
    """
    labels = ds["split"].values.astype(str)
    if not (labels == "test").any():
        raise DataError("the data have no test trials; set test_fraction (--set test_fraction=0.1), and fit again")
    relabelled = np.select([labels == "test", labels == "valid"], ["valid", "none"], labels)
    return ds.assign_coords(split=("trial", relabelled))


def hidden_entries(ds: xr.Dataset, batch: Batch, config: FitConfig, *, mask_length: int | None = None) -> Tensor:
    """Draw the entries of the validation trials that are hidden from every model; they follow from ``config.seed``.

    Parameters
    ----------
    ds : Dataset
        As returned by `prepare`.
    batch : Batch
        The same trials as tensors.
    config : FitConfig
    mask_length : int, optional
        Bins of a channel that are hidden together; `mask_length_of` these data by default.

    Returns
    -------
    Tensor
        Bool, as `batch.values`.
    """
    generator = torch.Generator().manual_seed(config.seed)
    cpu = batch.to("cpu")
    valid = torch.from_numpy(ds["split"].values == "valid")
    length = mask_length or mask_length_of(ds, config)
    return (
        masks.sample_validation(cpu, config.masks.sample_validation, generator, mask_length=length)
        & cpu.along_trials(valid)
    ).to(batch.values.device)


def mask_length_of(ds: xr.Dataset, config: FitConfig) -> int:
    """Resolve the mask length of a session, the number of bins of a channel that are hidden together.

    Parameters
    ----------
    ds : Dataset
        As returned by `prepare`.
    config : FitConfig

    Returns
    -------
    int
        As set, or what the model asks for: by default what the likelihood does, which may measure it on the training trials.
    """
    if config.masks.mask_length is not None:
        return config.masks.mask_length
    likelihood, bin_width = likelihood_of(ds, config).name, float(ds.attrs["bin_width"])
    return MODELS[config.model.name].mask_length(values_of(ds), likelihood=likelihood, bin_width=bin_width)


def channels_to_hide(ds: xr.Dataset, config: FitConfig) -> NDArray[np.bool_] | None:
    """Draw the channels of signals on which a model that was fitted to all channels is scored (co-smoothing).

    Parameters
    ----------
    ds : Dataset
        As returned by `prepare`.
    config : FitConfig
        ``masks.sample_validation`` is their share.

    Returns
    -------
    bool array (channel) or None
        None of counts and events, of a single channel, and where channels are held out.
    """
    n_channels = ds.sizes["channel"]
    if kind_of(ds) != "signals" or n_channels < 2 or "held_out" in ds.coords:
        return None
    n_hidden = min(max(round(config.masks.sample_validation * n_channels), 1), n_channels - 1)
    hidden = np.zeros(n_channels, dtype=bool)
    hidden[np.random.default_rng(config.seed).permutation(n_channels)[:n_hidden]] = True
    return hidden


def hold_out(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Draw held-out channels, where the settings ask for them and the Dataset has none.

    Parameters
    ----------
    ds : Dataset
    config : FitConfig
        ``masks.held_out_channels`` is their share.

    Returns
    -------
    Dataset
        With ``held_out`` along ``channel``.

    Raises
    ------
    DataError
        If no channel would be held out, or none shown.
    """
    if not config.masks.held_out_channels or "held_out" in ds.coords:
        return ds
    return ds.assign_coords(held_out=("channel", held_out_channels(ds.sizes["channel"], config)))


def held_out_channels(n_channels: int, config: FitConfig) -> NDArray[np.bool_]:
    """Draw held-out channels.

    Parameters
    ----------
    n_channels : int
    config : FitConfig
        ``masks.held_out_channels`` is their share.

    Returns
    -------
    bool array (channel)
        None of them where the share is 0.

    Raises
    ------
    DataError
        If no channel would be held out, or none shown.
    """
    held_out = np.zeros(n_channels, bool)
    if not config.masks.held_out_channels:
        return held_out
    n_held_out = round(config.masks.held_out_channels * n_channels)
    if not 0 < n_held_out < n_channels:
        raise DataError(
            f"holding out {config.masks.held_out_channels:g} of {n_channels} channels holds out {n_held_out}; "
            "expected at least one held-out and one shown channel"
        )
    held_out[np.random.default_rng(config.seed).permutation(n_channels)[:n_held_out]] = True
    return held_out


def signature_of(sessions: Mapping[str, xr.Dataset], config: FitConfig) -> Signature:
    """Make the signature of a fit.

    Parameters
    ----------
    sessions : mapping of name to Dataset
        As returned by `prepare`.
    config : FitConfig

    Returns
    -------
    Signature

    Raises
    ------
    DataError
        If sessions need different likelihoods, or hold the same data, channels share an id, or a known input does not vary.
    MismatchError
        If sessions have different bin widths or known inputs.
    """
    widths = {name: float(ds.attrs["bin_width"]) for name, ds in sessions.items()}
    first = next(iter(widths))
    if unequal := [name for name, width in widths.items() if not equal_bin_widths(width, widths[first])]:
        raise MismatchError(
            f"session {unequal[0]!r} has bins of {widths[unequal[0]]:g} s, but session {first!r} has bins of "
            f"{widths[first]:g} s; read all sessions with the same bin width, because learned dynamics are valid for "
            "one bin width only"
        )
    inputs = {name: input_names(ds) for name, ds in sessions.items()}
    if unequal := [name for name, names in inputs.items() if names != inputs[first]]:
        raise MismatchError(
            f"session {unequal[0]!r} has the known inputs {list(inputs[unequal[0]])}, but session {first!r} has "
            f"{list(inputs[first])}; all sessions need the same inputs in the same order, NaN where they are not known"
        )
    _check_inputs_vary(sessions)
    likelihoods = {likelihood_of(ds, config) for ds in sessions.values()}
    if len(likelihoods) > 1:
        names = sorted(likelihood.name for likelihood in likelihoods)
        raise DataError(
            f"the sessions have different default likelihoods, {names}; set one for all with `likelihood` "
            "(--likelihood)"
        )
    likelihood = likelihoods.pop()
    signatures = {}
    for name, ds in sessions.items():
        signatures[name] = describe_session(
            ds,
            LIKELIHOODS[likelihood.name].channel_values(values_of(ds), likelihood),
            mask_length=mask_length_of(ds, config),
        )
        channels = signatures[name].channels
        if len(set(channels)) < len(channels):
            repeated = [channel for channel, count in Counter(channels).items() if count > 1][:MOST_NAMED]
            raise DataError(
                f"channels of session {name!r} share an id ({', '.join(repeated)}); set different ids in "
                "`channel_id`, or add their row in the table as `channel_row`"
            )
        same = [
            other for other in list(signatures)[:-1] if signatures[other].data_sha256 == signatures[name].data_sha256
        ]
        if same:
            raise DataError(
                f"sessions {same[0]!r} and {name!r} have exactly the same data; pass each recording only once"
            )
    return Signature(likelihood.name, signatures)


def _check_takes_inputs(ds: xr.Dataset, config: FitConfig) -> None:
    if (names := input_names(ds)) and not MODELS[config.model.name].takes_inputs:
        able = [name for name in MODELS.names() if MODELS[name].takes_inputs]
        raise ConfigError(
            f"model {config.model.name!r} takes no known inputs, but the data have {', '.join(map(repr, names))}; choose "
            f"one of {', '.join(able)} (--model), or omit the inputs (--input)"
        )


def _check_inputs_vary(sessions: Mapping[str, xr.Dataset]) -> None:
    """Refuse inputs from which nothing can be learned."""
    for i, name in enumerate(input_names(next(iter(sessions.values())))):
        known = []
        for ds in sessions.values():
            train = ds["split"].values == "train"
            known.append(ds["inputs"].values[train, :, i][ds["inputs_observed"].values[train, :, i]])
        values = np.concatenate(known)
        if not len(values) or values.min() == values.max():
            always = f"is {values[0]:g} in all of them" if len(values) else "is missing in all of them"
            raise DataError(
                f"nothing can be learned from the known input {name!r}: it {always} (the training trials); omit it, or take "
                "trials in which it varies"
            )


def _is_open(read: ReadConfig) -> bool:
    """Whether the settings leave it to the data and the model if events are found in fluorescence."""
    return read.rois.deconvolve == "auto" and read.events is None


def _fits_events(config: FitConfig) -> bool:
    """Whether, of ROIs, model and likelihood take events rather than fluorescence."""
    likelihood = config.likelihood.name
    suits_events = likelihood == AutoConfig().name or "events" in LIKELIHOODS[likelihood].suits
    return suits_events and not MODELS[config.model.name].infers_spikes


def _refuse_inferred_events(ds: xr.Dataset, config: FitConfig) -> None:
    """Refuse events that the reader found unasked in fluorescence that the model or the likelihood takes as it is."""
    if "denoised" not in ds or "read_config" not in ds.attrs or _fits_events(config):
        return
    if _is_open(build(ReadConfig, json.loads(ds.attrs["read_config"]))):
        model = MODELS[config.model.name].infers_spikes
        suits = () if model else LIKELIHOODS[config.likelihood.name].suits
        if suits and "signals" not in suits:
            raise DataError(
                f"likelihood {config.likelihood.name!r} is for {' or '.join(suits)}, but the data are events that "
                "read_nwb found in fluorescence; let the likelihood be chosen by the data (likelihood.name=auto)"
            )
        name = f"model {config.model.name!r}" if model else f"likelihood {config.likelihood.name!r}"
        raise DataError(
            f"{name} needs fluorescence, but the data are events that read_nwb found in it; read fluorescence with "
            "ReadConfig(rois=RoiConfig(deconvolve='never')), or request events with ReadConfig(events=EventsConfig())"
        )
