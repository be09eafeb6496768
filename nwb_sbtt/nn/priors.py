"""Gaussian posteriors, the priors they are compared with, and the KL divergences between them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def kl_to_gaussian(
    mean: Float[Tensor, "trial latent"],
    log_sd: Float[Tensor, "trial latent"],
    prior_mean: Float[Tensor, "latent"],
    prior_log_sd: Float[Tensor, "latent"],
) -> Float[Tensor, "trial"]:
    """KL divergence of diagonal Gaussians from a prior.

    With the logarithm of the ratio of variances q, each latent has ``½ (e^q + (mean − prior mean)² / prior sd² − 1 − q)``.

    Parameters
    ----------
    mean, log_sd : Float[Tensor, "trial latent"]
        Of the posterior.
    prior_mean, prior_log_sd : Float[Tensor, "latent"]

    Returns
    -------
    Float[Tensor, "trial"]
        In nats, summed over latents.
    """
    ratio = 2 * (log_sd - prior_log_sd)
    return 0.5 * (ratio.exp() + ((mean - prior_mean) * (-prior_log_sd).exp()) ** 2 - 1 - ratio).sum(-1)


class InputPrior(nn.Module):
    """Prior of the inferred inputs: independent in time, or a stationary first-order autoregressive process.

    The process sd is learned and, for the autoregressive one, the time constant τ:
    ``u_t = α u_{t−1} + sd √(1 − α²) ε_t`` with ``α = exp(−1/τ)`` (Pandarinath et al. 2018).

    Parameters
    ----------
    kind : str
        "gaussian" (independent in time) or "autoregressive".
    n_inputs : int
    tau : float
        First time constant [bins].
    sd : float
        First sd.
    """

    def __init__(self, kind: str, n_inputs: int, *, tau: float, sd: float):
        super().__init__()
        self.autoregressive = kind == "autoregressive"
        self.log_sd = nn.Parameter(torch.full((n_inputs,), math.log(sd)))
        self.log_tau = nn.Parameter(torch.full((n_inputs,), math.log(tau)), requires_grad=self.autoregressive)

    def kl(
        self,
        mean: Float[Tensor, "time trial input"],
        log_sd: Float[Tensor, "time trial input"],
        sampled: Float[Tensor, "time trial input"],
    ) -> Float[Tensor, "trial"]:
        """KL divergence of the posterior from the prior.

        Each step is integrated over its own posterior in closed form and conditioned on the sample before it.

        Parameters
        ----------
        mean, log_sd : Float[Tensor, "time trial input"]
            Of the posterior.
        sampled : Float[Tensor, "time trial input"]
            Inputs as drawn.

        Returns
        -------
        Float[Tensor, "trial"]
            In nats, summed over time and inputs.
        """
        alpha = torch.exp(-torch.exp(-self.log_tau)) if self.autoregressive else torch.zeros_like(self.log_tau)
        before = torch.cat([torch.zeros_like(sampled[:1]), sampled[:-1]]) * alpha
        step_log_sd = self.log_sd + 0.5 * torch.log1p(-(alpha**2))
        steps = step_log_sd.expand(len(mean) - 1, -1)
        prior_log_sd = torch.cat([self.log_sd[None], steps])[:, None]
        ratio = 2 * (log_sd - prior_log_sd)
        return 0.5 * (ratio.exp() + ((mean - before) * (-prior_log_sd).exp()) ** 2 - 1 - ratio).sum((0, 2))
