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
RATES_RULE = (
    "geometric mean r over members of rate r_i, sd s_i; sd = r * sqrt(mean of (s_i / r_i)^2 + variance of log r_i)"
)
SIGNALS_RULE = "mean over members of mean m_i, sd s_i; sd = sqrt(mean of s_i^2 + variance of m_i)"
"""How the members' estimates are combined, as written into a result's record."""


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


def combine(posteriors: Iterable[dict[str, Tensor]], *, logarithmic: bool, latents_of: int) -> dict[str, Tensor]:
    """Average the members' predictions; the sd combines that of each posterior with that between members.

    Rates are averaged in the logarithm: with member i's rate r_i and posterior sd s_i,

    ``r = exp(mean_i log r_i)``, ``sd = r · sqrt(mean_i (s_i / r_i)² + var_i(log r_i))``

    to first order in the relative sd. Signals are averaged directly, ``sd = sqrt(mean_i s_i² + var_i(m_i))``. The variance
    between n members divides by n − 1. Factors, inputs and initial conditions are defined within one model only, so those of
    one member are returned.

    Parameters
    ----------
    posteriors : iterable of dict
        Tensors of each member, as returned by `nwb_sbtt.models.posterior.posterior`; consumed one at a time.
    logarithmic : bool
        Whether the expected values are rates.
    latents_of : int
        Number of the member whose latents are returned.

    Returns
    -------
    dict of name to tensor
        ``expected`` and ``expected_sd`` (trial, time, channel) of the ensemble, and the latents of that member.
    """
    n, latents = 0, dict[str, Tensor]()
    for arrays in posteriors:
        estimate = arrays["expected"].clamp(min=_TINY) if logarithmic else arrays["expected"]
        location = estimate.log() if logarithmic else estimate
        sd = arrays.get("expected_sd", torch.zeros_like(estimate))
        if n == 0:
            mean, squares, within = location.clone(), torch.zeros_like(location), torch.zeros_like(location)
        if n == latents_of:
            latents = {name: value for name, value in arrays.items() if not name.startswith("expected")}
        n += 1
        deviation = location - mean
        mean += deviation / n
        squares += deviation * (location - mean)
        within += (sd / estimate if logarithmic else sd) ** 2
    sd = (within / n + squares / max(1, n - 1)).sqrt()
    expected = mean.exp() if logarithmic else mean
    return {"expected": expected, "expected_sd": expected * sd if logarithmic else sd, **latents}


def _seed(seed: int, member: int) -> int:
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])
