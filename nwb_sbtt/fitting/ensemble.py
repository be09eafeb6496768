"""Ensembles: models of the same data that differ in their training seed, and the average of their predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nwb_sbtt.config import FitConfig
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
    for number, arrays in enumerate(posteriors):
        for name, array in arrays.items():
            if name in rules:
                averages.setdefault(name, _Average(rules[name] == GEOMETRIC)).add(array, arrays.get(f"{name}_sd"))
            elif name.removesuffix("_sd") not in rules and number == latents_of:
                latents[name] = array
    averaged = {name: average.estimate() for name, average in averages.items()}
    return averaged | {f"{name}_sd": average.sd() for name, average in averages.items()} | latents


class _Average:
    """Running mean, variance between members and mean variance within them, of estimates or of their logarithms."""

    def __init__(self, logarithmic: bool) -> None:
        self.logarithmic, self.n = logarithmic, 0

    def add(self, estimate: Tensor, sd: Tensor | None) -> None:
        if self.logarithmic:
            estimate = estimate.clamp(min=_TINY)
        location = estimate.log() if self.logarithmic else estimate
        sd = torch.zeros_like(estimate) if sd is None else sd
        if self.n == 0:
            self.mean = location.clone()
            self.squares, self.within = torch.zeros_like(location), torch.zeros_like(location)
        self.n += 1
        deviation = location - self.mean
        self.mean += deviation / self.n
        self.squares += deviation * (location - self.mean)
        self.within += (sd / estimate if self.logarithmic else sd) ** 2

    def estimate(self) -> Tensor:
        return self.mean.exp() if self.logarithmic else self.mean

    def sd(self) -> Tensor:
        sd = (self.within / self.n + self.squares / max(1, self.n - 1)).sqrt()
        return self.estimate() * sd if self.logarithmic else sd


def _seed(seed: int, member: int) -> int:
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])
