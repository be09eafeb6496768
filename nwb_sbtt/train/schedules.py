"""How long, in how large batches, at what rate: pure functions of the settings and the size of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nwb_sbtt.config import TrainConfig
from nwb_sbtt.train.objective import Weights

STEPS = 3000
MOST_EPOCHS = 1000


@dataclass(frozen=True)
class Plan:
    """The settings with every open choice made."""

    epochs: int
    batch_size: int
    steps_per_epoch: int
    patience: int


def plan(config: TrainConfig, trials: list[int]) -> Plan:
    """Fill in what the settings leave open, from the number of training trials of each session."""
    batch_size = config.batch_size or min(64, max(8, max(trials) // 20))
    steps = sum(math.ceil(n / batch_size) for n in trials)
    epochs = config.epochs or min(MOST_EPOCHS, math.ceil(STEPS / steps))
    return Plan(epochs, batch_size, steps, config.patience or max(20, math.ceil(epochs / 3)))


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Rate at a share of training done, from 0 to 1."""
    rise = 0.1
    if progress < rise:
        return config.learning_rate * max(progress / rise, 0.01)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def weights(config: TrainConfig, progress: float) -> Weights:
    """Weights of the loss's terms at a share of training done."""
    ramp = min(1.0, progress / config.ramp) if config.ramp else 1.0
    return Weights(kl=config.kl_weight * ramp, l2=config.l2_weight * ramp)
