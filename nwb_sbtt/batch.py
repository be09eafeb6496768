"""Batches: the values that a model sees, with the masks of what was observed, is shown and is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor

from nwb_sbtt.errors import DataError

TILE = 4096
"""Least number of channels of a block: a table of 32 numbers a channel then stays in the cache of one core."""
BINS_OF_MOST = 512
"""Of the longest trials of which as many as a caller allows are computed at once (`Batch.pieces`)."""
ENTRIES_PER_ROW = 16
"""Least mean number of entries that a bin has in each block: the pointers then cost next to nothing."""


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """Make a generator whose draws are made on a device: the same numbers for the same seed on the same kind of device.

    Tensors on torch's "meta" device have no numbers; they are drawn with a generator of the CPU.

    Parameters
    ----------
    device : torch.device
    seed : int

    Returns
    -------
    torch.Generator
    """
    return torch.Generator("cpu" if device.type == "meta" else device).manual_seed(seed)


def precise_dtype(device: torch.device) -> torch.dtype:
    """Return the type for sums of many terms: double precision, where the device has it (Apple's "mps" has not).

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    torch.dtype
    """
    return torch.float32 if device.type == "mps" else torch.float64


def as_numbers(marks: Bool[Tensor, "*entry"], dtype: torch.dtype) -> Shaped[Tensor, "*entry"]:
    """Turn a mask into numbers: 1 where it is true, else 0.

    By way of bytes, which torch converts in a sixth of the time that it takes for truth values.

    Parameters
    ----------
    marks : Bool[Tensor, "*entry"]
    dtype : torch.dtype
    """
    return marks.view(torch.uint8).to(dtype)


def sparse_batch(
    trial: Integer[Tensor, "_"],
    time: Integer[Tensor, "_"],
    *,
    channel: Integer[Tensor, "_"],
    values: Float[Tensor, "_"],
    shape: tuple[int, int, int],
    exposure: Float[Tensor, "_"] | None = None,
    session: str = "session",
) -> Batch:
    """Make a sparse batch from the observed entries alone; no array of all trials, bins and channels is ever made.

    All entries are shown and scored; the functions of `nwb_sbtt.masks` change that.

    Parameters
    ----------
    trial, time, channel : int tensors (entry)
        Trial, bin and channel of each observed entry, counted from 0; in any order, each combination once. Entries sorted by
        trial need less memory.
    values : float tensor (entry)
        What was measured there; finite.
    shape : (int, int, int)
        Numbers of trials, bins and channels, with those of which nothing was observed.
    exposure : float tensor (entry), optional
        Share of the bin during which the channel was observed, in (0, 1].
    session : str
        Name that read-in and read-out know the session by.

    Returns
    -------
    Batch

    Raises
    ------
    DataError
        If lengths differ, an entry lies outside `shape` or comes twice, a value is not finite, or an exposure not in (0, 1].

    Examples
    --------
    >>> batch = sparse_batch(
    ...     torch.tensor([0, 0, 1]),
    ...     torch.tensor([0, 2, 1]),
    ...     channel=torch.tensor([5, 900_000, 5]),
    ...     values=torch.tensor([1.0, 0.0, 2.0]),
    ...     shape=(2, 3, 1_000_000),
    ... )
    >>> batch.shape, len(batch.values)
    ((2, 3, 1000000), 3)
    """
    places = {"trial": trial, "time": time, "channel": channel}
    for (name, place), size in zip(places.items(), shape, strict=True):
        if len(place) != len(values):
            raise DataError(
                f"got {len(values)} values, but {len(place)} indices of their {name}; expected one index for each value"
            )
        if len(place) and not 0 <= int(place.min()) <= int(place.max()) < size:
            raise DataError(
                f"the indices of {name} run from {int(place.min())} to {int(place.max())}; expected 0 to {size - 1}, "
                f"as shape is {shape}"
            )
    if not values.isfinite().all():
        raise DataError("some values are not finite; pass only entries that were observed")
    if exposure is not None and (len(exposure) != len(values) or not ((exposure > 0) & (exposure <= 1)).all()):
        raise DataError("exposure must be one number in (0, 1] for each value; pass only entries that were observed")
    columns = [values.float()] if exposure is None else [values.float(), exposure.float()]
    order = None if (trial[1:] >= trial[:-1]).all() else torch.argsort(trial, stable=True)
    bounds = [0, *torch.bincount(trial, minlength=shape[0]).cumsum(0).tolist()]

    def entries_of(i: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        rows = slice(bounds[i], bounds[i + 1]) if order is None else order[bounds[i] : bounds[i + 1]]
        return time[rows], channel[rows], [column[rows] for column in columns]

    index, columns = _arranged(
        shape, len(values), entries_of, [column.dtype for column in columns], device=values.device
    )
    everything = torch.ones((), dtype=torch.bool, device=values.device).expand(len(values))
    return Batch(
        values=columns[0],
        observed=everything,
        shown=everything,
        scored=everything,
        trials=torch.arange(shape[0], device=values.device),
        exposure=columns[1] if len(columns) > 1 else None,
        session=session,
        entries=index,
    )


def to_sparse(batch: Batch) -> Batch:
    """Make a batch sparse; a sparse batch is returned as it is.

    Parameters
    ----------
    batch : Batch

    Returns
    -------
    Batch
        Equal to `batch` at its observed entries, without the others.
    """
    if batch.entries is not None:
        return batch
    boxes = [batch.values, batch.shown, batch.scored] + ([] if batch.exposure is None else [batch.exposure])

    def entries_of(i: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        time, channel = batch.observed[i].nonzero(as_tuple=True)
        return time, channel, [box[i][time, channel] for box in boxes]

    n_entries = int(batch.observed.sum())
    index, columns = _arranged(batch.shape, n_entries, entries_of, [box.dtype for box in boxes], device=batch.device)
    return replace(
        batch,
        values=columns[0],
        observed=torch.ones((), dtype=torch.bool, device=batch.device).expand(n_entries),
        shown=columns[1],
        scored=columns[2],
        exposure=None if batch.exposure is None else columns[3],
        entries=index,
    )


@dataclass(frozen=True)
class Block:
    """The entries of a range of channels: a matrix (trial · time, channel) of compressed rows.

    Parameters
    ----------
    channels : slice
        Which channels.
    entries : slice
        Which entries of the batch.
    columns : Int[Tensor, "entry"]
        Channel of each entry, from the first of the block on.
    pointers : Int[Tensor, "row+1"]
        First entry of each row, from the first of the block on, and the end of the last.
    """

    channels: slice
    entries: slice
    columns: Int[Tensor, "entry"]
    pointers: Int[Tensor, "pointer"]

    @property
    def counts(self) -> Int[Tensor, "row"]:
        """Entries of each row."""
        return self.pointers.diff()

    @property
    def rows(self) -> Int[Tensor, "entry"]:
        """Row of each entry."""
        counts = self.counts
        rows = torch.arange(len(counts), device=counts.device)
        return torch.repeat_interleave(rows, counts, output_size=len(self.columns))

    def along_channels(self, per_channel: Tensor) -> Tensor:
        """Bring (channel), of all channels, to the entries of the block.

        Parameters
        ----------
        per_channel : Tensor (channel)

        Returns
        -------
        Tensor (entry)
            Entries of the block alone.
        """
        return per_channel[self.channels].index_select(0, self.columns)


@dataclass(frozen=True)
class Entries:
    """Index of a sparse batch: compressed sparse rows (CSR) in blocks of channels.

    Entries are ordered by block of channels, then trial, time and channel. Within a block, a table that is looked up by
    channel fits in a processor's cache; without blocks each entry of a million channels would wait for main memory.

    Parameters
    ----------
    shape : (int, int, int)
        Trials, bins and channels.
    width : int
        Channels of a block.
    channels : Int[Tensor, "entry"]
        Channel of each entry, int32.
    pointers : Int[Tensor, "block*trial*time+1"]
        First entry of each block, trial and bin, and the number of entries.
    sizes : Int[Tensor, "block trial"]
        Entries of each block and trial. Always on the CPU: on a GPU, sizes of tensors are then known without waiting.
    """

    shape: tuple[int, int, int]
    width: int
    channels: Int[Tensor, "entry"]
    pointers: Int[Tensor, "pointer"]
    sizes: Int[Tensor, "block trial"]

    def __len__(self) -> int:
        return len(self.channels)

    def blocks(self) -> Iterator[Block]:
        """Iterate over the blocks that hold any entry."""
        n_trials, n_bins, n_channels = self.shape
        n_rows = n_trials * n_bins
        bounds = _running(self.sizes.sum(1)).tolist()
        for i, (start, stop) in enumerate(pairwise(bounds)):
            if stop > start:
                first = i * self.width
                yield Block(
                    channels=slice(first, min(first + self.width, n_channels)),
                    entries=slice(start, stop),
                    columns=self.channels[start:stop] - first,
                    pointers=(self.pointers[i * n_rows : (i + 1) * n_rows + 1] - start).int(),
                )

    def of_rows(self, rows: Tensor) -> Tensor:
        """Bring (trial, time) to the entries.

        Parameters
        ----------
        rows : Tensor (trial, time)

        Returns
        -------
        Tensor (entry)
        """
        flat, result = rows.reshape(-1), rows.new_empty(len(self))
        for block in self.blocks():
            result[block.entries] = torch.repeat_interleave(flat, block.counts, output_size=len(block.columns))
        return result

    def select(self, trials: Int[Tensor, "row"], columns: Sequence[Tensor]) -> tuple[Entries, list[Tensor]]:
        """Take some trials, in the given order, and the same entries of each of the columns.

        Parameters
        ----------
        trials : Int[Tensor, "row"]
            Numbers of the trials to take.
        columns : sequence of Tensor (entry)
            Values, masks or exposure of the entries.

        Returns
        -------
        entries : Entries
            Of the trials taken.
        columns : list of Tensor (entry)
            What these entries have in each of the columns.
        """
        n_trials, n_bins, n_channels = self.shape
        sizes = self.sizes.index_select(1, trials.cpu())
        trials = trials.to(self.pointers.device)
        starts = self.pointers[:-1].reshape(-1, n_trials, n_bins)
        counts = self.pointers.diff().reshape(-1, n_trials, n_bins).index_select(1, trials)
        firsts, lengths = starts[:, :, :1].index_select(1, trials)[..., 0], counts.sum(-1)
        pointers = _running(counts)
        bounds = _running(sizes.sum(1)).tolist()
        taken = [column.new_empty(bounds[-1]) for column in (self.channels, *columns)]
        for (start, stop), first, length in zip(pairwise(bounds), firsts, lengths, strict=True):
            shift = torch.repeat_interleave(first - (length.cumsum(0) - length), length, output_size=stop - start)
            places = shift + torch.arange(stop - start, device=shift.device)
            for new, old in zip(taken, (self.channels, *columns), strict=True):
                torch.index_select(old, 0, places, out=new[start:stop])
        return Entries((len(trials), n_bins, n_channels), self.width, taken[0], pointers, sizes), taken[1:]


@dataclass(frozen=True)
class Batch:
    """Values of some trials with their masks, dense or sparse.

    In a dense batch every tensor but `trials` is (trial, time, channel). In a sparse one it is (entry), one number for each
    observed entry, with the index `entries`: work and memory then follow what was observed, however many channels there are.
    What is done entry by entry is written once for both; numbers of a channel, bin or trial are brought to the entries by
    `along_channels`, `along_times` and `along_trials`.

    Parameters
    ----------
    values : Float[Tensor, "*entry"]
        Counts per bin, event sizes, fluorescence or volts; finite, and 0 outside `observed`.
    observed : Bool[Tensor, "*entry"]
        Where a measurement exists.
    shown : Bool[Tensor, "*entry"]
        What the encoder may read; lies inside `observed`.
    scored : Bool[Tensor, "*entry"]
        Where the loss is taken; lies inside `observed`.
    trials : Int[Tensor, "trial"]
        Row of each trial in the data set it came from.
    exposure : Float[Tensor, "*entry"] or None
        Share of the bin during which the channel was observed, in (0, 1] where observed; None means 1 everywhere.
    session : str
        Which session's read-in and read-out to use.
    entries : Entries or None
        Index of a sparse batch; None for a dense one.
    inputs : Float[Tensor, "trial time input"] or None
        Known inputs, such as stimuli, in their units, dense in both forms; they are no measurement of a channel, so they are
        given to models whatever is shown.
    inputs_observed : Bool[Tensor, "trial time input"] or None
        Where the inputs are known.
    """

    values: Float[Tensor, "*entry"]
    observed: Bool[Tensor, "*entry"]
    shown: Bool[Tensor, "*entry"]
    scored: Bool[Tensor, "*entry"]
    trials: Int[Tensor, "trial"]
    exposure: Float[Tensor, "*entry"] | None = None
    session: str = "session"
    entries: Entries | None = None
    inputs: Float[Tensor, "trial time input"] | None = None
    inputs_observed: Bool[Tensor, "trial time input"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Trials, bins and channels."""
        if self.entries is not None:
            return self.entries.shape
        n_trials, n_bins, n_channels = self.values.shape
        return n_trials, n_bins, n_channels

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.values.device

    def along_channels(self, per_channel: Tensor) -> Tensor:
        """Bring (channel) to the entries, for element-wise use without gradient.

        Parameters
        ----------
        per_channel : Tensor (channel)

        Returns
        -------
        Tensor (entry)
            Of a dense batch `per_channel` itself, which broadcasts over (trial, time, channel).
        """
        return per_channel if self.entries is None else per_channel.index_select(0, self.entries.channels)

    def along_times(self, per_bin: Tensor) -> Tensor:
        """Bring (time) to the entries, for element-wise use without gradient.

        Parameters
        ----------
        per_bin : Tensor (time)

        Returns
        -------
        Tensor (entry)
            Of a dense batch (time, 1), which broadcasts.
        """
        if self.entries is None:
            return per_bin[:, None]
        return self.entries.of_rows(per_bin.expand(self.shape[:2]))

    def along_trials(self, per_trial: Tensor) -> Tensor:
        """Bring (trial) to the entries, for element-wise use without gradient.

        Parameters
        ----------
        per_trial : Tensor (trial)

        Returns
        -------
        Tensor (entry)
            Of a dense batch (trial, 1, 1), which broadcasts.
        """
        if self.entries is None:
            return per_trial[:, None, None]
        return self.entries.of_rows(per_trial[:, None].expand(self.shape[:2]))

    def dense(self, values: Tensor) -> Tensor:
        """Lay numbers of the entries out as (trial, time, channel), with 0 elsewhere.

        Parameters
        ----------
        values : Tensor (entry)
            Of a dense batch already (trial, time, channel).

        Returns
        -------
        Tensor (trial, time, channel)
        """
        if self.entries is None:
            return values
        box = values.new_zeros(self.shape)
        flat = box.view(-1, self.shape[2])
        for block in self.entries.blocks():
            flat[block.rows, self.entries.channels[block.entries].long()] = values[block.entries]
        return box

    def at_entries(self, box: Tensor) -> Tensor:
        """Take the entries out of (trial, time, channel); undoes `dense`.

        Parameters
        ----------
        box : Tensor (trial, time, channel)

        Returns
        -------
        Tensor (entry)
            Of a dense batch `box` itself.
        """
        if self.entries is None:
            return box
        flat, channels = box.flatten(0, 1), self.entries.channels
        return torch.cat([flat[block.rows, channels[block.entries].long()] for block in self.entries.blocks()])

    def pieces(self, most: int) -> tuple[Int[Tensor, "row"], ...]:
        """Divide the trials into pieces that are computed one after the other, to limit memory.

        Parameters
        ----------
        most : int
            Trials of a piece; fewer where they have more than 512 bins, but one at least.

        Returns
        -------
        tuple of Int[Tensor, "row"]
            Rows of each piece.
        """
        rows = torch.arange(len(self.trials), device=self.device)
        return torch.split(rows, min(most, max(1, most * BINS_OF_MOST // self.shape[1])))

    def select(self, rows: Int[Tensor, "row"]) -> Batch:
        """Take some trials, in the order of `rows`.

        Of a sparse batch on a GPU, pass `rows` on the CPU: sizes follow from them, and would have to be waited for.

        Parameters
        ----------
        rows : Int[Tensor, "row"]
            Rows of the trials in this batch.

        Returns
        -------
        Batch
        """
        columns = [self.values, self.observed, self.shown, self.scored]
        columns += [] if self.exposure is None else [self.exposure]
        on_device = rows.to(self.device)
        entries = None
        if self.entries is None:
            taken = [column[on_device] for column in columns]
        else:
            entries, varied = self.entries.select(rows, [column for column in columns if not _constant(column)])
            rest = iter(varied)
            taken = [column[:1].expand(len(entries)) if _constant(column) else next(rest) for column in columns]
        return replace(
            self,
            values=taken[0],
            observed=taken[1],
            shown=taken[2],
            scored=taken[3],
            trials=self.trials[on_device],
            exposure=None if self.exposure is None else taken[4],
            entries=entries,
            inputs=None if self.inputs is None else self.inputs[on_device],
            inputs_observed=None if self.inputs_observed is None else self.inputs_observed[on_device],
        )

    def to(self, device: str) -> Batch:
        """Move every tensor to a device.

        Parameters
        ----------
        device : str
            As torch names it, such as "cuda:1".

        Returns
        -------
        Batch
        """
        entries = self.entries
        if entries is not None:
            entries = replace(entries, channels=entries.channels.to(device), pointers=entries.pointers.to(device))
        return replace(
            self,
            values=self.values.to(device),
            observed=self.observed.to(device),
            shown=self.shown.to(device),
            scored=self.scored.to(device),
            trials=self.trials.to(device),
            exposure=None if self.exposure is None else self.exposure.to(device),
            entries=entries,
            inputs=None if self.inputs is None else self.inputs.to(device),
            inputs_observed=None if self.inputs_observed is None else self.inputs_observed.to(device),
        )


def _constant(tensor: Tensor) -> bool:
    """Whether a tensor is one number, repeated without taking memory."""
    return len(tensor) > 0 and tensor.stride() == (0,)


def _running(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.reshape(-1).cumsum(0)])


def _arranged(
    shape: tuple[int, int, int],
    n_entries: int,
    entries_of: Callable[[int], tuple[Tensor, Tensor, list[Tensor]]],
    dtypes: list[torch.dtype],
    *,
    device: torch.device,
) -> tuple[Entries, list[Tensor]]:
    """Sort entries into blocks, trial by trial, so that little beside the result is held in memory.

    `entries_of` gives time, channel and further columns of the entries of one trial.
    """
    n_trials, n_bins, n_channels = shape
    width = TILE
    while width < n_channels and n_entries * width < ENTRIES_PER_ROW * n_trials * n_bins * n_channels:
        width *= 2
    n_blocks = max(1, -(-n_channels // width))
    counts = torch.zeros(n_blocks, n_trials, n_bins, dtype=torch.int64)
    for i in range(n_trials):
        time, channel, _ = entries_of(i)
        places = (channel.long() // width) * n_bins + time
        counts[:, i] = torch.bincount(places.cpu(), minlength=n_blocks * n_bins).reshape(n_blocks, n_bins)
    pointers = _running(counts)
    firsts = pointers[:-1].reshape(n_blocks, n_trials, n_bins)[:, :, 0]
    channels = torch.empty(n_entries, dtype=torch.int32, device=device)
    columns = [torch.empty(n_entries, dtype=dtype, device=device) for dtype in dtypes]
    for i in range(n_trials):
        time, channel, of_trial = entries_of(i)
        channel = channel.long()
        key, order = torch.sort(((channel // width) * n_bins + time) * n_channels + channel)
        if (key[1:] == key[:-1]).any():
            raise DataError(
                "some entries are given more than once; expected each combination of trial, time and channel at most "
                "once"
            )
        length = counts[:, i].sum(-1)
        shift = firsts[:, i] - (length.cumsum(0) - length)
        target = (torch.repeat_interleave(shift, length) + torch.arange(len(key))).to(device)
        channels[target] = channel[order].int()
        for column, values in zip(columns, of_trial, strict=True):
            column[target] = values[order]
    return Entries(shape, width, channels, pointers.to(device), counts.sum(-1)), columns
