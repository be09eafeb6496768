"""Settings of a search over the settings of a fit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nwb_sbtt.config.base import Config, Count, NotNegativeInt, Positive, Share
from nwb_sbtt.config.describe import Unit


class SearchConfig(Config):
    """Many fits of the same data, to find good settings; each trial of the search is a fit."""

    strategy: Literal["random", "optuna", "pbt"] = Field(
        default="optuna",
        description="random: settings are drawn independently, and each trial is trained to its end. optuna: settings are "
        "drawn where earlier trials did well (tree-structured Parzen estimator), and trials that fall behind are stopped "
        "(asynchronous successive halving). pbt: population-based training; all trials train side by side, and after each "
        "generation the worst take over weights and settings of the best, with small changes of the settings.",
    )
    trials: Count = Field(
        default=20,
        description="Number of fits, or members of the population. The first has the settings that the search starts from.",
    )
    space: tuple[str, ...] = Field(
        default=(),
        description="What is searched, such as 'train.kl_weight=log(1e-3, 1)', 'model.dropout=uniform(0, 0.6)' or "
        "'model.factors=[10, 20, 40]'. Default: the table of the model; `docs/hyperparameter_search.md` lists it.",
    )
    seed: NotNegativeInt = Field(default=0, description="Seed of the settings that are drawn.")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1,
        description="Fraction of the trials of the recording kept for the last score, of the winner alone. Ignored where the "
        "fit sets `test_fraction`, or the data carry test trials.",
    )
    pieces: Count = Field(
        default=20,
        description="Pieces that each fit is trained in; generations of a population. After each one its state is saved, and "
        "the trial may be stopped or changed.",
    )
    grace: Share = Field(
        default=0.15, description="Share of its epochs that every trial gets before it may be stopped (optuna)."
    )
    reduction: Annotated[float, Field(gt=1)] = Field(
        default=3.0, description="One in so many trials goes on after each comparison (optuna)."
    )
    quantile: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.25, description="Share of the population that is replaced by the best, after each generation (pbt)."
    )
    resample: Share = Field(
        default=0.0,
        description="Probability with which a setting that was taken over is drawn anew, instead of changed a little (pbt).",
    )
    cpus_per_trial: Positive = Field(
        default=1.0, description="CPU cores of a fit; torch gets as many threads as there are whole cores."
    )
    gpus_per_trial: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Share of a GPU that a fit gets; 0.25 puts four fits on one. With 0 all fits run on CPUs.",
    )
    memory_per_trial: Annotated[Positive, Unit("GB")] | None = Field(
        default=None, description="Memory that is set aside for a fit. Default: none is counted."
    )
    at_once: Count | None = Field(
        default=None,
        description="Most fits that run at the same time (not pbt). Default: as many as there is room for.",
    )
    retries: NotNegativeInt = Field(
        default=5,
        description="How often a fit whose process or machine died is taken up again, from its last saved state.",
    )
    address: str | None = Field(
        default=None,
        description="Ray cluster that is joined: auto, or HOST:PORT of its head node. Default: Ray is started on this machine.",
    )
    storage: str | None = Field(
        default=None,
        description="Path that all nodes of a cluster reach, for states on their way, such as s3://bucket/path. Default: the "
        "folder of the search, which all nodes must then see.",
    )
    ensemble: Count = Field(
        default=1, description="Number of the best fits that are averaged, in the folder `ensemble`."
    )
