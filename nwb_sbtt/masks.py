"""Which observed entries a model may read and which it is scored on.

Each function takes a batch and returns a new one; none has state. `shown` and `scored` only ever shrink, so the functions can
be chained in any order. Masks have one number an entry: (trial, time, channel) in a dense batch, (entry) in a sparse one.

Draws are made on the batch's device, where the generator must be too (`nwb_sbtt.batch.generator_on`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nwb_sbtt.batch import Batch


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
        Bins of a channel that are hidden together.

    Returns
    -------
    Batch
    """
    drawn = _uniform(batch, generator, mask_length)
    shown = batch.shown & (drawn >= rate)
    return replace(batch, shown=shown, scored=batch.scored & ~shown)


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


def warm_up(batch: Batch, n_bins: int) -> Batch:
    """Take no loss on the first bins of each trial.

    Parameters
    ----------
    batch : Batch
    n_bins : int

    Returns
    -------
    Batch
    """
    late = torch.arange(batch.shape[1], device=batch.device) >= n_bins
    return score_only(batch, batch.along_times(late))


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
    """
    return batch.shown & (_uniform(batch, generator, mask_length) < share)


def in_turn(
    batch: Batch, share: float, generator: torch.Generator, *, mask_length: int = 1
) -> Iterator[Bool[Tensor, "*entry"]]:
    """Divide the shown entries at random into parts that are to be hidden one after the other.

    Parameters
    ----------
    batch : Batch
    share : float
        Of the shown entries that are hidden at a time; where it does not divide 1, some are in no part.
    generator : torch.Generator
    mask_length : int
        Bins of a channel that are hidden together.

    Yields
    ------
    Bool[Tensor, "*entry"]
    """
    drawn = _uniform(batch, generator, mask_length)
    for i in range(int(1 / share + 1e-9)):
        yield batch.shown & (drawn >= i * share) & (drawn < (i + 1) * share)


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
        return _uniform_of_blocks(batch, generator, mask_length)
    n_trials, n_bins, n_channels = batch.shape
    n_blocks = (n_bins - 1) // mask_length + 2
    drawn = torch.rand((n_trials, n_blocks, n_channels), generator=generator, device=batch.device)
    offset = torch.randint(mask_length, (n_trials, 1, n_channels), generator=generator, device=batch.device)
    block = (torch.arange(n_bins, device=batch.device)[:, None] + offset) // mask_length
    return drawn.gather(1, block)


def _uniform_of_blocks(batch: Batch, generator: torch.Generator, mask_length: int) -> Float[Tensor, "entry"]:
    """Draws of a sparse batch: entries of one block have one number, without an array of all blocks.

    Blocks are told apart by hashing trial, channel and block with seeds that are drawn.
    """
    assert batch.entries is not None
    n_trials, n_bins, n_channels = batch.shape
    seeds = torch.randint(1 << 62, (2,), generator=generator, device=batch.device)
    rows = torch.arange(n_trials, device=batch.device)
    series = batch.along_trials(rows) * n_channels + batch.entries.channels
    offset = _hashed(series + seeds[0]).remainder(mask_length)
    block = torch.div(
        batch.along_times(torch.arange(n_bins, device=batch.device)) + offset, mask_length, rounding_mode="floor"
    )
    # 24 bits are what a float32 in [0, 1) can hold.
    return ((_hashed(_hashed(series + seeds[1]) + block) >> 40) & 0xFFFFFF).float() / (1 << 24)


def _hashed(numbers: Int[Tensor, "entry"]) -> Int[Tensor, "entry"]:
    """Mix the bits of int64 numbers: the finaliser of SplitMix64 (Steele, Lea and Flood 2014); overflow wraps around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        # Shifts of signed numbers copy the sign into the upper bits, which are cleared.
        numbers = (numbers ^ ((numbers >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return numbers
