"""Several models of the same data that differ in the seed of their training: their settings, and their average."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nwb_sbtt.config import FitConfig
from nwb_sbtt.fitting.runfolder import member_folders
from nwb_sbtt.train.checkpoint import BEST

_TINY = float(torch.finfo(torch.float32).tiny)
RATES_RULE = (
    "geometric mean r over members of rate r_i, sd s_i; sd = r * sqrt(mean of (s_i / r_i)^2 + variance of log r_i)"
)
SIGNALS_RULE = "mean over members of mean m_i, sd s_i; sd = sqrt(mean of s_i^2 + variance of m_i)"
"""How the members' estimates are combined, as a result's record says it."""


def member_configs(config: FitConfig) -> list[FitConfig]:
    """Settings of each model of a fit; those of a single fit are its own.

    The first member has the very settings of a single fit, the others a `train.seed` that is drawn from the seed and their
    number. All keep `seed`, which decides on split and hidden entries.
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
    """SHA-256 of the best weights of a fit; of an ensemble, of its members' digests, one a line."""
    digests = [hashlib.sha256((folder / BEST).read_bytes()).hexdigest() for folder in member_folders(run_dir, n)]
    return digests[0] if n == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def combine(posteriors: Iterable[dict[str, Tensor]], *, logarithmic: bool, latents_of: int) -> dict[str, Tensor]:
    """Average what the members expect, with a spread that holds the posterior's own and that between members.

    Rates are averaged in the logarithm: with member i's rate r_i and posterior sd s_i,

    ``r = exp(mean_i log r_i)``, ``sd = r · sqrt(mean_i (s_i / r_i)² + var_i(log r_i))``

    to first order in the relative spread; signals as they are, ``sd = sqrt(mean_i s_i² + var_i(m_i))``. The variance between n
    members divides by n − 1. Factors, inputs and initial conditions mean something within one model only, and are those of
    one member.

    Parameters
    ----------
    posteriors : iterable of dict
        Of each member, as `nwb_sbtt.models.posterior.posterior` gives them; taken one at a time.
    logarithmic : bool
        Whether what is expected are rates.
    latents_of : int
        Member whose latents are kept.
    """
    n, kept = 0, dict[str, Tensor]()
    for arrays in posteriors:
        estimate = arrays["expected"].clamp(min=_TINY) if logarithmic else arrays["expected"]
        location = estimate.log() if logarithmic else estimate
        sd = arrays.get("expected_sd", torch.zeros_like(estimate))
        if n == 0:
            mean, squares, within = location.clone(), torch.zeros_like(location), torch.zeros_like(location)
        if n == latents_of:
            kept = {name: value for name, value in arrays.items() if not name.startswith("expected")}
        n += 1
        deviation = location - mean
        mean += deviation / n
        squares += deviation * (location - mean)
        within += (sd / estimate if logarithmic else sd) ** 2
    spread = (within / n + squares / max(1, n - 1)).sqrt()
    expected = mean.exp() if logarithmic else mean
    return {"expected": expected, "expected_sd": expected * spread if logarithmic else spread, **kept}


def _seed(seed: int, member: int) -> int:
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])
