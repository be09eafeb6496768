"""The slow version of a linear dynamical system: all states of a trial at once."""

import numpy as np

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
