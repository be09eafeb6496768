"""Settings of a fit: what is masked, how a model is trained, and what a fit starts from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SerializeAsAny, field_validator, model_validator

from nwb_sbtt.config.base import Config, Count, NotNegative, NotNegativeInt, Positive, Share
from nwb_sbtt.config.describe import Unit
from nwb_sbtt.config.likelihoods import LIKELIHOOD_CONFIGS, AutoConfig, LikelihoodConfig
from nwb_sbtt.config.models import MODEL_CONFIGS, ConvConfig, ModelConfig
from nwb_sbtt.config.registries import LIKELIHOODS, MODELS, named_config


class MaskConfig(Config):
    """What the encoder may see and what is scored while fitting; see ``nwb_sbtt.masks``."""

    coordinated_dropout: tuple[Share, Share] | None = Field(
        default=None,
        description="Lowest and highest fraction of the observed entries that coordinated dropout hides from the encoder; "
        "each batch draws a rate between the two. [0, 0] turns it off. Default: [0.5, 0.5]; for a convolutional model from "
        "[0.7, 0.9] (up to 64 training trials) to [0.5, 0.5] (from 1,248).",
    )
    mask_length: Annotated[Count, Unit("bins")] | None = Field(
        default=None,
        description="Number of consecutive bins of a channel that are hidden together, in training and in "
        "validation. Default: 1 for counts and events. For signals it is measured on the training trials: as long as "
        "the part of a channel that it does not share with others stays correlated, because neighbouring samples "
        "would otherwise reveal the hidden one. 1 s where rates are inferred from fluorescence.",
    )
    sample_validation: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2,
        description="Fraction of the observed entries of the validation trials that is kept from the encoder, as in "
        "AutoLFADS. Checkpoints are compared by the loss on these entries.",
    )
    held_out_channels: Share = Field(
        default=0.0,
        description="Fraction of the channels that is never shown to the encoder but scored in training "
        "(co-smoothing). Ignored if the data mark channels as held out.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.coordinated_dropout is not None and self.coordinated_dropout[0] > self.coordinated_dropout[1]:
            low, high = self.coordinated_dropout
            raise ValueError(f"coordinated_dropout is [{low:g}, {high:g}]; expected the lowest rate first")
        return self


class TrainConfig(Config):
    """Optimiser, schedules and when to stop."""

    epochs: Count | None = Field(
        default=None,
        description="Maximum number of passes over the training trials. Default: as many as give 3,000 optimiser steps; for a "
        "convolutional model 500 (up to 64 training trials) to 1,850 steps (from 1,248), or 500 if it infers spikes; "
        "at most 1,000 passes.",
    )
    batch_size: Annotated[Count, Unit("trials")] | None = Field(
        default=None,
        description="Trials in an optimiser step. Default: a twentieth of the training trials of the largest session, at least "
        "8 (16 for a convolutional model) and at most 64.",
    )
    batches_per_step: Count = Field(
        default=1,
        description="Batches whose gradients are averaged in an optimiser step; each batch has trials of one "
        "session. Processes that train together (torchrun) share the batches.",
    )
    learning_rate: Positive | None = Field(
        default=None,
        description="Highest learning rate of a one-cycle schedule: a linear rise over the first tenth of training, then half "
        "a cosine to zero. Default: 0.008; for a convolutional model 0.002 (up to 64 training trials) to 0.004 (from 1,248).",
    )
    weight_decay: NotNegative | None = Field(
        default=None,
        description="Decoupled weight decay (AdamW) of weight matrices; biases do not decay. Default: 0.0001; for a "
        "convolutional model 1 (up to 64 training trials) to 0.0001 (from 1,248).",
    )
    gradient_clip: Positive = Field(
        default=1.0,
        description="Largest norm of the gradient over all weights; a larger gradient is scaled down to it.",
    )
    ema_decay: Share = Field(
        default=0.995,
        description="Decay per optimiser step of the exponential moving average of the weights. The average is what is "
        "validated and saved; 0 uses the weights themselves.",
    )
    kl_weight: NotNegative = Field(
        default=0.1,
        description="Weight of the KL divergence of posterior from prior, reached after the ramp. 1 gives the evidence lower "
        "bound, whatever fraction of the entries is missing.",
    )
    l2_weight: NotNegative = Field(
        default=0.0,
        description="Weight of the mean squared recurrent weights of generator and controller (of the kernels, for a "
        "convolutional model), reached after the ramp.",
    )
    penalty_ramp: Share = Field(
        default=0.2,
        description="Fraction of training over which the KL and L2 weights rise linearly from zero; 0 applies them in full "
        "from the first step.",
    )
    patience: Annotated[Count, Unit("epochs")] | None = Field(
        default=None,
        description="Training stops after this many epochs without a better validation score. Default: a third of `epochs`, at "
        "least 20.",
    )
    max_minutes: Annotated[Positive, Unit("min")] | None = Field(
        default=None,
        description="Training stops at the end of the epoch in which this time is reached. Time before an interruption counts "
        "too. Default: no limit.",
    )
    checkpoint_every: Annotated[Count, Unit("epochs")] = Field(
        default=5,
        description="Epochs between saved training states; an interrupted fit resumes from the last of them.",
    )
    seed: NotNegativeInt | None = Field(
        default=None,
        description="Seed of the initial weights and of everything random in training. Default: the seed of the fit.",
    )


def _known_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ValueError(
            f"{device!r} is not a device; use auto, cpu, cuda, cuda:1 (one of several GPUs by its number) or mps"
        )
    return device


class InitConfig(Config):
    """A finished fit whose weights another fit starts from."""

    run_dir: Path = Field(description="Run folder of the finished fit.")
    channels: Literal["auto", "same", "new"] = Field(
        default="auto",
        description="Whether the data have the same channels as the initial fit. same: read-in and read-out are copied. new: "
        "read-in and read-out are initialised again. auto: same for the same recording, new for another one; an "
        "error if another recording has exactly the same channel ids. Channels that the initial fit does not have "
        "are always new.",
    )
    freeze: Literal["auto", "none", "dynamics", "generator", "decoder"] = Field(
        default="auto",
        description="Weights that are not trained. dynamics: all but read-in and read-out. generator: the generator and its "
        "map to factors. decoder: generator and read-out. auto: dynamics where channels are new, else none.",
    )
    checkpoint_sha256: str | None = Field(
        default=None,
        description="SHA-256 digest that the weights of the initial fit must have. Default: any; the fit records the digest "
        "of the weights that it used.",
    )


class SessionsConfig(Config):
    """How several sessions are fitted together, and how their factors are compared."""

    condition: str | None = Field(
        default=None,
        description="Trial column with the condition of each trial; labels must be the same in all sessions. "
        "Condition averages of the factors of each session are compared with those of the first session, and mapped to its "
        "space (`aligned_factors`); with `init`, to the space of the initial fit. The fit itself does not change. "
        "Default: none; factors of different sessions then cannot be compared.",
    )
    stitching: bool = Field(
        default=False,
        description="Initialise read-in and read-out of each session by principal component regression on the averages of "
        "`condition`, as in Pandarinath et al. 2018, so that sessions start from the same factors; with `init`, those of new "
        "channels by regression on the averages of the initial fit.",
    )
    sampling: Literal["trials", "balanced"] = Field(
        default="trials",
        description="How often sessions are drawn in an epoch. trials: each trial once, so that large sessions weigh most. "
        "balanced: as many batches of each session as the largest has; trials of the others are drawn repeatedly.",
    )

    @model_validator(mode="after")
    def _stitched_by_conditions(self) -> Self:
        if self.stitching and self.condition is None:
            raise ValueError("stitching needs the trial column of conditions: set `sessions.condition`")
        return self


class DynamicsConfig(Config):
    """A system with few dimensions that is learned from the data, takes part in what is inferred, and can be run forward."""

    dimensions: Count | None = Field(
        default=None,
        description="Dimensions of the system's state: principal components of what is inferred of the training trials. "
        "Default: 4, or 12 with known inputs, which decide where its courses go; no more than channels or factors.",
    )
    width: Count = Field(default=64, description="Units in each of the two hidden layers of the system's network.")
    window: Annotated[Count, Unit("bins")] = Field(
        default=50,
        description="Longest window of a trial over which courses of the system are weighed; longer trials are cut into "
        "such windows. They are made shorter where so much is observed that no course explains all of it.",
    )
    steps: Count | None = Field(
        default=None,
        description="Optimiser steps that learn the system. Default: 1.2 times those of the model, at most 1200.",
    )
    courses: Count = Field(
        default=4096,
        description="Most courses of each kind of start that are weighed. More make estimates more exact, and take longer.",
    )
    markov_states: NotNegativeInt = Field(
        default=256,
        description="Most states of a hidden Markov model that is learned beside the system. Any state may follow any other, "
        "as where activity turns for reasons that were not recorded. There are ten training bins for each at least. 0: none. "
        "None is learned either with known inputs, a lag, regular samples, or channels that were chosen by earlier values.",
    )
    simulated: Share = Field(
        default=0.5,
        description="Fraction of simulated trials in each batch when the model is trained further (`further_training`).",
    )
    further_training: NotNegative = Field(
        default=0.0,
        description="Epochs in which simulated trials train the model further, as a multiple of `train.epochs`. What is kept "
        "is the epoch with the best score on hidden entries, of the first training too. 0.5 suits models with a lag, in "
        "whose estimates the system takes no part.",
    )


class FitConfig(Config):
    """Everything that a fit depends on, beside the data."""

    model: SerializeAsAny[ModelConfig] = Field(
        default=ConvConfig(),
        description="Model to fit. Each model has its own settings.",
    )
    likelihood: SerializeAsAny[LikelihoodConfig] = Field(
        default=AutoConfig(),
        description="Observation model: the distribution of the data around what the model predicts.",
    )
    masks: MaskConfig = Field(default=MaskConfig(), description="What the encoder may see and what is scored.")
    train: TrainConfig = Field(default=TrainConfig(), description="Optimiser, schedules and when to stop.")
    sessions: SessionsConfig = Field(
        default=SessionsConfig(), description="How several sessions are fitted together and compared."
    )
    dynamics: DynamicsConfig | Literal["auto"] | None = Field(
        default="auto",
        description="A system that is learned from the data. It takes part in what is inferred, as far as that helps on "
        "hidden entries, and can be run forward (`Fitted.simulate`, `Fitted.forecast`). auto: one is learned of counts, "
        "signals and the spikes of a ladder, by models without a lag, if training takes 400 steps or more and the data are not "
        "very long; a printed fit shows why there is none. null: none is learned. Settings of a system demand one.",
    )
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1,
        description="Fraction of the trials kept for validation. Ignored if the data have a `split`.",
    )
    test_fraction: Share = Field(
        default=0.0,
        description="Fraction of the trials kept for the final test score. They are used neither for training nor to choose a "
        "model. If the data have a `split` without test trials, they are drawn from the training trials. `nwb-sbtt "
        "search` keeps 0.1.",
    )
    posterior_samples: Count = Field(
        default=32,
        description="Posterior samples that inference averages. Ignored by models without a posterior to sample, such as conv.",
    )
    seed: NotNegativeInt = Field(
        default=0,
        description="Seed of the split, of the hidden entries and, unless `train.seed` is set, of training.",
    )
    device: Annotated[str, AfterValidator(_known_device)] = Field(
        default="auto",
        description="Device that trains and infers: cpu, cuda, one of several GPUs by its number (cuda:1), or mps (Apple). "
        "auto: cuda where torch finds it, else the CPU.",
    )
    threads: Count = Field(
        default=1,
        description="CPU threads that torch uses. Networks of this size are rarely faster with more than one.",
    )
    seeds: Count = Field(
        default=1,
        description="Number of models in an ensemble, whose results are averaged. All have the same data, split and hidden "
        "entries; their initial weights and everything random in training differ.",
    )
    init: InitConfig | None = Field(
        default=None,
        description="Finished fit whose weights this one starts from. Default: random weights.",
    )

    @field_validator("model", mode="before")
    @classmethod
    def _model_by_name(cls, value: object) -> object:
        return named_config(value, MODELS, MODEL_CONFIGS)

    @field_validator("likelihood", mode="before")
    @classmethod
    def _likelihood_by_name(cls, value: object) -> object:
        return named_config(value, LIKELIHOODS, LIKELIHOOD_CONFIGS)

    @property
    def training_seed(self) -> int:
        """Seed of the first weights and of everything random in training."""
        return self.seed if self.train.seed is None else self.train.seed

    @property
    def system(self) -> DynamicsConfig | None:
        """Settings of the learned system; None where none is learned, or that is not decided yet (``dynamics="auto"``)."""
        return self.dynamics if isinstance(self.dynamics, DynamicsConfig) else None

    @property
    def lag(self) -> int | None:
        """Bins after its own that an estimate depends on (``model.lag``); None where it depends on the whole trial."""
        lag: int | None = getattr(self.model, "lag", None)
        return lag
