"""Ensembles: models of the same data that differ in their training seed, and the average of their predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nwb_sbtt.config import FitConfig
from nwb_sbtt.data.memory import ENTRIES_AT_ONCE
from nwb_sbtt.fitting.runfolder import member_folders
from nwb_sbtt.train.checkpoint import BEST, read_digest

_TINY = float(torch.finfo(torch.float32).tiny)
GEOMETRIC = (
    "geometric mean r over members of rate r_i, sd s_i; sd = r * sqrt(mean of (s_i / r_i)^2 + variance of log r_i)"
)
ARITHMETIC = "mean over members of mean m_i, sd s_i; sd = sqrt(mean of s_i^2 + variance of m_i)"
AVERAGED = {"rates": GEOMETRIC, "mean": ARITHMETIC, "events": ARITHMETIC, "kinetics": ARITHMETIC}
"""How members are averaged, by quantity, as written into a result's record; all others are one member's."""


def member_configs(config: FitConfig) -> list[FitConfig]:
    """Return the settings of each model of a fit.

    The first member has the settings of a single fit; the others have a `train.seed` drawn from the seed and their number.
    All share `seed`, which decides on the split and the hidden entries.

    Parameters
    ----------
    config : FitConfig
        Settings of the whole fit, with ``seeds`` members.

    Returns
    -------
    list of FitConfig
        One per member.
    """
    if config.seeds == 1:
        return [config]
    first = config.model_copy(update={"seeds": 1})
    others = [
        first.model_copy(update={"train": config.train.model_copy(update={"seed": _seed(config.training_seed, i)})})
        for i in range(1, config.seeds)
    ]
    return [first, *others]


def checkpoint_digest(run_dir: Path, n: int) -> str:
    """Compute the SHA-256 of the best weights of a fit: of names, shapes and bytes of the tensors, not of their files.

    Parameters
    ----------
    run_dir : Path
        Run folder.
    n : int
        Number of members. The digest of an ensemble is that of its members' digests, one per line.

    Returns
    -------
    str
        Hexadecimal digest; equal for equal weights.

    Raises
    ------
    FileError
        If a file is damaged.
    """
    digests = [read_digest(folder / BEST) for folder in member_folders(run_dir, n)]
    return digests[0] if n == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def combine(posteriors: Iterable[dict[str, Tensor]], *, expected: str, latents_of: int) -> dict[str, Tensor]:
    """Average the members' predictions; the sd combines that of each posterior with that between members.

    Each quantity of `AVERAGED` is averaged by its rule, with member i's estimate and posterior sd (0 where it has none). The
    geometric rule holds to first order in the relative sd, and the variance between n members divides by n − 1. Factors,
    inputs and initial conditions are defined within one model only, so those of one member are returned.

    Parameters
    ----------
    posteriors : iterable of dict
        Tensors of each member, as returned by `nwb_sbtt.models.posterior.posterior`; consumed one at a time.
    expected : str
        The quantity of `AVERAGED` that the expected values are: "rates" for counts, else "mean".
    latents_of : int
        Number of the member whose latents are returned.

    Returns
    -------
    dict of name to tensor
        Averages with their ``_sd`` (trial, time, channel), and the latents of that member.
    """
    rules = {**AVERAGED, "expected": AVERAGED[expected]}
    averages: dict[str, _Average] = {}
    latents: dict[str, Tensor] = {}
    number = 0
    for arrays in posteriors:
        for name, array in arrays.items():
            if name in rules:
                averages.setdefault(name, _Average(rules[name] == GEOMETRIC)).add(array, arrays.get(f"{name}_sd"))
            elif name.removesuffix("_sd") not in rules and number == latents_of:
                latents[name] = array
        number += 1  # noqa: SIM113, since enumerate would hold the arrays while the next member's are made
        del arrays, array
    combined = {name: average.result() for name, average in averages.items()}
    means = {name: mean for name, (mean, _) in combined.items()}
    return means | {f"{name}_sd": sd for name, (_, sd) in combined.items()} | latents


class _Average:
    """Running mean, variance between members and mean variance within them, of estimates or of their logarithms."""

    def __init__(self, logarithmic: bool) -> None:
        self.logarithmic, self.n = logarithmic, 0

    def add(self, estimate: Tensor, sd: Tensor | None) -> None:
        if self.n == 0:
            self.mean, self.squares, self.within = (torch.zeros_like(estimate) for _ in range(3))
        self.n += 1
        for rows in self._parts():
            self._add(rows, estimate[rows], None if sd is None else sd[rows])

    def _add(self, rows: slice, estimate: Tensor, sd: Tensor | None) -> None:
        if self.logarithmic:
            estimate = estimate.clamp(min=_TINY)
        location = estimate.log() if self.logarithmic else estimate
        if self.n == 1:
            self.mean[rows] = location
        deviation = location - self.mean[rows]
        self.mean[rows] += deviation / self.n
        self.squares[rows] += deviation * (location - self.mean[rows])
        if sd is not None:
            self.within[rows] += (sd / estimate if self.logarithmic else sd) ** 2

    def result(self) -> tuple[Tensor, Tensor]:
        """The average and its sd, in the memory of what was summed up."""
        for rows in self._parts():
            sd = (self.within[rows] / self.n + self.squares[rows] / max(1, self.n - 1)).sqrt()
            if self.logarithmic:
                self.mean[rows] = self.mean[rows].exp()
                sd = self.mean[rows] * sd
            self.within[rows] = sd
        del self.squares
        return self.mean, self.within

    def _parts(self) -> Iterator[slice]:
        """Trials of about `ENTRIES_AT_ONCE` entries: what is computed from them stays small beside the averages."""
        step = max(1, ENTRIES_AT_ONCE // max(self.mean[0].numel(), 1))
        yield from (slice(first, first + step) for first in range(0, len(self.mean), step))


def _seed(seed: int, member: int) -> int:
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])
