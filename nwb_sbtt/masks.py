"""Which observed entries a model may read and which it is scored on.

Each function takes a batch and returns a new one; none has state. `shown` and `scored` only ever shrink, so the functions can
be chained in any order. Masks have one number an entry: (trial, time, channel) in a dense batch, (entry) in a sparse one.

Draws are made on the batch's device, where the generator must be too (`nwb_sbtt.batch.generator_on`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nwb_sbtt.batch import Batch
from nwb_sbtt.errors import ConfigError


def coordinated_dropout(
    batch: Batch, rate: float | Float[Tensor, ""], generator: torch.Generator, *, mask_length: int = 1
) -> Batch:
    """Hide a random share of the shown entries and take the loss on exactly those (Keshtkaran and Pandarinath 2019).

    Entries that are never shown (held-out channels, forecast bins) stay scored: the encoder cannot copy them.

    Parameters
    ----------
    batch : Batch
    rate : float or Float[Tensor, ""]
        Share of the shown entries that is hidden.
    generator : torch.Generator
    mask_length : int
        Bins of a channel that are hidden together; more than 1 needs a dense batch.

    Returns
    -------
    Batch

    Raises
    ------
    ConfigError
        If the batch is sparse and `mask_length` more than 1.
    """
    drawn = _uniform(batch, generator, mask_length)
    hidden = batch.shown & (drawn < rate)
    return replace(batch, shown=batch.shown & ~hidden, scored=batch.scored & (hidden | ~batch.shown))


def hide(batch: Batch, hidden: Bool[Tensor, "*entry"]) -> Batch:
    """Hide some entries from the encoder and leave the loss as it is.

    Parameters
    ----------
    batch : Batch
    hidden : Bool[Tensor, "*entry"]

    Returns
    -------
    Batch
    """
    return replace(batch, shown=batch.shown & ~hidden)


def score_only(batch: Batch, where: Bool[Tensor, "*entry"]) -> Batch:
    """Take the loss on some entries alone.

    Parameters
    ----------
    batch : Batch
    where : Bool[Tensor, "*entry"]

    Returns
    -------
    Batch
    """
    return replace(batch, scored=batch.scored & where)


def sample_validation(
    batch: Batch, share: float, generator: torch.Generator, *, mask_length: int = 1
) -> Bool[Tensor, "*entry"]:
    """Draw a fixed random share of the shown entries, to be hidden in training and scored when models are compared.

    Parameters
    ----------
    batch : Batch
    share : float
        Of the shown entries.
    generator : torch.Generator
    mask_length : int
        Bins of a channel that are drawn together.

    Returns
    -------
    Bool[Tensor, "*entry"]

    Raises
    ------
    ConfigError
        If the batch is sparse and `mask_length` more than 1.
    """
    return batch.shown & (_uniform(batch, generator, mask_length) < share)


def cosmoothing(batch: Batch, held_out: Bool[Tensor, "channel"]) -> Batch:
    """Hide whole channels from the encoder; they stay scored (Pei, Ye et al. 2021).

    Parameters
    ----------
    batch : Batch
    held_out : Bool[Tensor, "channel"]

    Returns
    -------
    Batch
    """
    return replace(batch, shown=batch.shown & ~batch.along_channels(held_out))


def forward_prediction(batch: Batch, first_hidden_bin: int) -> Batch:
    """Hide every bin from one on; those bins stay scored.

    Parameters
    ----------
    batch : Batch
    first_hidden_bin : int

    Returns
    -------
    Batch
    """
    early = torch.arange(batch.shape[1], device=batch.device) < first_hidden_bin
    return replace(batch, shown=batch.shown & batch.along_times(early))


def _uniform(batch: Batch, generator: torch.Generator, mask_length: int) -> Float[Tensor, "*entry"]:
    """One draw for each entry, or for each block of `mask_length` bins of a channel; blocks have a random offset."""
    if mask_length == 1:
        return torch.rand(batch.values.shape, generator=generator, device=batch.device)
    if batch.entries is not None:
        raise ConfigError(
            f"{mask_length} bins of a channel are to be hidden together, which a sparse batch cannot do; "
            "leave masks.mask_length at 1, or choose fewer channels"
        )
    n_trials, n_bins, n_channels = batch.shape
    n_blocks = (n_bins - 1) // mask_length + 2
    drawn = torch.rand((n_trials, n_blocks, n_channels), generator=generator, device=batch.device)
    offset = torch.randint(mask_length, (n_trials, 1, n_channels), generator=generator, device=batch.device)
    block = (torch.arange(n_bins, device=batch.device)[:, None] + offset) // mask_length
    return drawn.gather(1, block)
