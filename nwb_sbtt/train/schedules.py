"""How long, in how large batches, at what rate: pure functions of the settings and the size of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nwb_sbtt.config import FitConfig, ModelConfig, TrainConfig
from nwb_sbtt.models import MODELS
from nwb_sbtt.train.objective import Weights

MOST_EPOCHS = 1000
FEW, MANY = 64, 1248
"""Numbers of training trials that count as few and as many; between them a default goes evenly with the logarithm of the
number, beyond them it stays."""


@dataclass(frozen=True)
class Plan:
    """The settings of training with every open choice made."""

    epochs: int
    batch_size: int
    steps_per_epoch: int
    patience: int
    learning_rate: float
    weight_decay: float
    coordinated_dropout: tuple[float, float]


def plan(config: FitConfig, trials: list[int]) -> Plan:
    """Fill in what the settings leave open, from the model and the number of training trials of each session."""
    given = config.train
    defaults = MODELS[config.model.name].defaults(_amount(trials))
    batch_size = given.batch_size or min(64, max(defaults.least_batch, max(trials) // 20))
    per_epoch = sum(math.ceil(n / batch_size) for n in trials)
    epochs = given.epochs or min(MOST_EPOCHS, math.ceil(defaults.steps / per_epoch))
    return Plan(
        epochs,
        batch_size,
        per_epoch,
        given.patience or max(20, math.ceil(epochs / 3)),
        defaults.learning_rate if given.learning_rate is None else given.learning_rate,
        defaults.weight_decay if given.weight_decay is None else given.weight_decay,
        config.masks.coordinated_dropout or defaults.coordinated_dropout,
    )


def fill(model: ModelConfig, trials: list[int]) -> ModelConfig:
    """Fill in what the settings of a model leave open, from the number of training trials of each session."""
    return MODELS[model.name].fill(model, _amount(trials))


def learning_rate(plan: Plan, progress: float) -> float:
    """Rate at a share of training done, from 0 to 1."""
    rise = 0.1
    if progress < rise:
        return plan.learning_rate * max(progress / rise, 0.01)
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def weights(config: TrainConfig, progress: float) -> Weights:
    """Weights of the loss's terms at a share of training done."""
    ramp = min(1.0, progress / config.penalty_ramp) if config.penalty_ramp else 1.0
    return Weights(kl=config.kl_weight * ramp, l2=config.l2_weight * ramp)


def _amount(trials: list[int]) -> float:
    """Where the data lie between few (0) and many (1)."""
    return min(1.0, max(0.0, math.log(sum(trials) / FEW) / math.log(MANY / FEW)))
