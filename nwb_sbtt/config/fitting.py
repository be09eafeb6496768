"""Settings of a fit: what is masked, how a model is trained, and what a fit starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nwb_sbtt.config.base import Config, Count, NotNegative, NotNegativeInt, Positive, Share
from nwb_sbtt.config.models import ConvConfig, ModelConfig


class MaskConfig(Config):
    """What the encoder may see and what is scored while fitting; see ``nwb_sbtt.masks``."""

    coordinated_dropout: tuple[Share, Share] | None = None
    """Lowest and highest share of the observed entries hidden from the encoder; drawn anew for each batch. None takes half;
    for a convolutional model .7 to .9 where 64 trials train, or fewer, half where 1248 do, and in between what lies between."""
    stretch: Count | None = None
    """Bins of a channel that are hidden together. None takes single entries, and a second for a ladder and where moments follow
    from rates: what is hidden of fluorescence shows in the samples after it."""
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the observed entries of the validation trials kept from the encoder; models are compared on these."""
    held_out_channels: Share = 0.0
    """Share of the channels that are never shown to the encoder but scored in training (co-smoothing)."""


class TrainConfig(Config):
    """Optimiser, schedules and when to stop."""

    epochs: Count | None = None
    """None takes as many as make 3000 optimiser steps, at most 1000; for a convolutional model 500 to 1850 steps,
    for a ladder 500."""
    batch_size: Count | None = None
    """Trials; None takes a twentieth of the training trials, between 8 (convolutional: 16) and 64."""
    learning_rate: Positive | None = None
    """Peak of a one-cycle schedule: a linear rise over the first tenth of training, then half a cosine to zero. None takes
    .008; for a convolutional model .002 to .004."""
    weight_decay: NotNegative | None = None
    """Of weights, not of offsets. None takes .0001; for a convolutional model 1 (few trials) to .0001."""
    gradient_clip: Positive = 1.0
    averaging: Share = 0.995
    """Decay per step of the moving average of the weights, which is what is validated and kept."""
    kl_weight: NotNegative = 0.1
    """Weight of the KL divergence; 1 is the evidence lower bound at every missing fraction."""
    l2_weight: NotNegative = 0.0
    """Weight of the mean squared recurrent weight of generator and controller."""
    ramp: Share = 0.2
    """Share of training over which the KL and L2 weights rise linearly from zero."""
    patience: Count | None = None
    """Epochs without a better validation score after which training stops; None takes a third of them, 20 at least."""
    minutes: Positive | None = None
    """Stop after this many minutes."""
    checkpoint_every: Count = 5
    """Epochs between saved states; an interrupted run goes on from the last of them."""
    seed: NotNegativeInt | None = None
    """Of the first weights and of everything random in training; None takes the fit's seed."""


class InitConfig(Config):
    """A finished fit whose weights another one starts from.

    ``channels`` says whether the data have the channels of that fit: "same" carries their read-in and read-out over, "new"
    makes these afresh, and "auto" takes channels of the same ids for the same if they come from the same recording.
    ``freeze`` says what is left as it is: "none"; "dynamics" (all but read-in and read-out); "generator" (with what turns its
    state into factors); "decoder" (generator and read-out); "auto" is "dynamics" where channels are new, else "none".
    """

    run_dir: Path
    channels: Literal["auto", "same", "new"] = "auto"
    freeze: Literal["auto", "none", "dynamics", "generator", "decoder"] = "auto"
    checkpoint_sha256: str | None = None
    """Filled in by `fit`; where it is given, the weights must have it."""


class FitConfig(Config):
    """All that a fit depends on, beside the data."""

    model: ModelConfig = ConvConfig()
    likelihood: Literal["auto", "poisson", "gaussian", "gamma", "zig", "gaussian_moments", "edgeworth"] = "auto"
    """Poisson for counts, gamma for positive signals, zig (zero-inflated gamma) for sizes of events, gaussian for all else;
    gaussian_moments and edgeworth for fluorescence whose moments follow from rates of spikes, two of them or four."""
    smallest_event: NotNegative | None = None
    """Size that every event exceeds, under zig, in the data's unit; None takes the coordinate `smallest_event` of the data's
    channels, and 0 where there is none."""
    masks: MaskConfig = MaskConfig()
    train: TrainConfig = TrainConfig()
    valid: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the trials kept for validation, where the data carry no `split`."""
    samples: Count = 32
    """Posterior samples averaged by `infer`."""
    seed: NotNegativeInt = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """CPU threads; on networks of this size a second one costs more than it gives."""
    seeds: Count = 1
    """Models that share data, split and hidden entries, differ in all that is random in training, and are averaged."""
    init: InitConfig | None = None

    @property
    def training_seed(self) -> int:
        """Seed of the first weights and of everything random in training."""
        return self.seed if self.train.seed is None else self.train.seed
