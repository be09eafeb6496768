"""Schedules of training: numbers of epochs and steps, batch size, learning rate and weights, from settings and data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nwb_sbtt.config import FitConfig, ModelConfig, TrainConfig
from nwb_sbtt.models import MODELS
from nwb_sbtt.train.objective import Weights

MOST_EPOCHS = 1000
"""Largest default number of epochs."""
FEW, MANY = 64, 1248
"""Numbers of training trials that count as few and as many. Defaults are interpolated between them, linearly in the
logarithm of the number, and constant beyond."""


@dataclass(frozen=True)
class Plan:
    """Resolved settings of training.

    Parameters
    ----------
    epochs, batch_size, steps_per_epoch : int
        Batches are in trials.
    batches_per_step : int
        Batches whose gradients are averaged in a step.
    patience : int
        Epochs without a better validation loss after which training ends.
    learning_rate, weight_decay : float
        Peak learning rate, and weight decay of AdamW.
    coordinated_dropout : tuple of two floats
        Lowest and highest share of the observed entries that are hidden.
    further_epochs : int
        Epochs after these in which simulated trials are mixed in (`FitConfig.dynamics`).
    """

    epochs: int
    batch_size: int
    steps_per_epoch: int
    batches_per_step: int
    patience: int
    learning_rate: float
    weight_decay: float
    coordinated_dropout: tuple[float, float]
    further_epochs: int = 0


def plan(config: FitConfig, trials: list[int]) -> Plan:
    """Resolve the settings of training.

    Parameters
    ----------
    config : FitConfig
    trials : list of int
        Number of training trials of each session.

    Returns
    -------
    Plan
    """
    settings = config.train
    defaults = MODELS[config.model.name].defaults(_amount(trials))
    batch_size = settings.batch_size or min(64, max(defaults.least_batch, max(trials) // 20))
    batches = [math.ceil(n / batch_size) for n in trials]
    n_batches = max(batches) * len(batches) if config.sessions.sampling == "balanced" else sum(batches)
    steps_per_epoch = math.ceil(n_batches / settings.batches_per_step)
    epochs = settings.epochs or min(MOST_EPOCHS, math.ceil(defaults.steps / steps_per_epoch))
    system = config.system
    return Plan(
        epochs,
        batch_size,
        steps_per_epoch,
        settings.batches_per_step,
        settings.patience or max(20, math.ceil(epochs / 3)),
        defaults.learning_rate if settings.learning_rate is None else settings.learning_rate,
        defaults.weight_decay if settings.weight_decay is None else settings.weight_decay,
        config.masks.coordinated_dropout or defaults.coordinated_dropout,
        round(system.further_training * epochs) if system is not None and system.simulated else 0,
    )


def fill(model: ModelConfig, trials: list[int]) -> ModelConfig:
    """Resolve the settings of a model that are left open.

    Parameters
    ----------
    model : ModelConfig
    trials : list of int
        Number of training trials of each session.

    Returns
    -------
    ModelConfig
    """
    return MODELS[model.name].fill(model, _amount(trials))


def learning_rate(plan: Plan, progress: float) -> float:
    """Compute the learning rate: linear warm-up over the first tenth of training, then cosine decay to 0.

    Parameters
    ----------
    plan : Plan
    progress : float
        Share of the steps done, from 0 to 1; in further training, of the steps of that.

    Returns
    -------
    float
    """
    warmup = 0.1
    if progress < warmup:
        return plan.learning_rate * max(progress / warmup, 0.01)
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def annealed(progress: float) -> float:
    """Give the share of a learning rate that is left: cosine decay from all of it to a fiftieth, without warm-up.

    Parameters
    ----------
    progress : float
        Share of the steps done, from 0 to 1.

    Returns
    -------
    float
    """
    return 0.5 * (1 + math.cos(math.pi * progress)) + 0.02


def weights(config: TrainConfig, progress: float) -> Weights:
    """Compute the weights of the loss's terms, which rise linearly over ``penalty_ramp``.

    Parameters
    ----------
    config : TrainConfig
    progress : float
        Share of the steps done, from 0 to 1.

    Returns
    -------
    Weights
    """
    ramp = min(1.0, progress / config.penalty_ramp) if config.penalty_ramp else 1.0
    return Weights(kl=config.kl_weight * ramp, l2=config.l2_weight * ramp)


def _amount(trials: list[int]) -> float:
    """Amount of data, from 0 (few training trials) to 1 (many)."""
    return min(1.0, max(0.0, math.log(sum(trials) / FEW) / math.log(MANY / FEW)))
