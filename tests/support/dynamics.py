"""The slow version of a linear dynamical system, all states of a trial at once; and data of one."""

import numpy as np

from nwb_sbtt.evaluate.baselines import MaskedData
from nwb_sbtt.evaluate.baselines.kalman import Dynamics


def joint(dynamics: Dynamics, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of all states of a trial before any observation."""
    d, means, covariances = len(dynamics.initial_mean), [dynamics.initial_mean], [dynamics.initial_covariance]
    for _ in range(n_bins - 1):
        means.append(dynamics.transition @ means[-1])
        covariances.append(dynamics.transition @ covariances[-1] @ dynamics.transition.T + dynamics.noise_covariance)
    whole = np.empty((n_bins * d, n_bins * d))
    for s in range(n_bins):
        block = covariances[s]
        for t in range(s, n_bins):
            whole[t * d : (t + 1) * d, s * d : (s + 1) * d] = block
            whole[s * d : (s + 1) * d, t * d : (t + 1) * d] = block.T
            block = dynamics.transition @ block
    return np.concatenate(means), whole


def rotation(
    *, counts: bool, shape: tuple[int, int, int] = (60, 40, 16), seed: int = 0
) -> tuple[MaskedData, np.ndarray]:
    """Channels that read out a rotation of one speed from a random phase in each trial, and the same without noise."""
    rng = np.random.default_rng(seed)
    angle = 0.3 * np.arange(shape[1]) + rng.uniform(0, 2 * np.pi, (shape[0], 1))
    state = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    clean = state @ rng.normal(size=(2, shape[2]))
    clean = 0.5 * np.exp(clean) if counts else clean
    values = rng.poisson(clean).astype(float) if counts else clean + rng.normal(size=shape)
    return MaskedData(values, rng.random(shape) < 0.5, np.arange(shape[0]) < shape[0] * 3 // 4, counts), clean
