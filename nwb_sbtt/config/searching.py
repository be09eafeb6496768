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
        description="random: settings are drawn independently, and each trial is trained to its end. optuna: "
        "settings are drawn where earlier trials did well (tree-structured Parzen estimator), and trials that fall "
        "behind are stopped (asynchronous successive halving). pbt: population-based training; all trials train at "
        "the same time, and after each generation the worst copy weights and settings of the best, with small "
        "changes to the settings.",
    )
    trials: Count = Field(
        default=20,
        description="Number of fits, or members of the population. The first has the initial settings.",
    )
    space: tuple[str, ...] = Field(
        default=(),
        description="Settings to search, such as 'train.kl_weight=log(1e-3, 1)', 'model.dropout=uniform(0, 0.6)' or "
        "'model.factors=[10, 20, 40]'. Default: the table of the model; `docs/hyperparameter_search.md` lists it.",
    )
    seed: NotNegativeInt = Field(default=0, description="Seed of the settings that are drawn.")
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1,
        description="Fraction of the trials of the recording kept for the final test score, which is computed for the winner "
        "only. Ignored if the fit sets `test_fraction`, or if the data have test trials.",
    )
    pieces: Count = Field(
        default=20,
        description="Number of parts in which each fit is trained; generations of a population. After each part the state is "
        "saved, and the trial may be stopped or changed.",
    )
    grace: Share = Field(
        default=0.15,
        description="Fraction of its epochs for which every trial is trained before it may be stopped (optuna).",
    )
    reduction: Annotated[float, Field(gt=1)] = Field(
        default=3.0, description="After each comparison, one in this many trials continues (optuna)."
    )
    quantile: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.25,
        description="Fraction of the population that is replaced by copies of the best after each generation (pbt).",
    )
    resample: Share = Field(
        default=0.0,
        description="Probability that a copied setting is drawn again at random, instead of being changed slightly (pbt).",
    )
    cpus_per_trial: Positive = Field(
        default=1.0, description="CPU cores of each fit; torch uses one thread per whole core."
    )
    gpus_per_trial: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Fraction of a GPU for each fit; with 0.25 four fits share a GPU. With 0 all fits run on CPUs.",
    )
    memory_per_trial: Annotated[Positive, Unit("GB")] | None = Field(
        default=None, description="Memory reserved for each fit. Default: memory is not counted."
    )
    at_once: Count | None = Field(
        default=None,
        description="Maximum number of fits at the same time (not pbt). Default: as many as CPUs, GPUs and memory allow.",
    )
    retries: NotNegativeInt = Field(
        default=5,
        description="How often a fit is resumed from its last saved state after its process or machine died.",
    )
    address: str | None = Field(
        default=None,
        description="Ray cluster to join: auto, or HOST:PORT of its head node. Default: Ray is started on this machine.",
    )
    storage: str | None = Field(
        default=None,
        description="Path that all nodes of a cluster can access, used to transfer training states, such as s3://bucket/path. "
        "Default: the folder of the search, which all nodes must then be able to access.",
    )
    ensemble: Count = Field(
        default=1, description="Number of the best fits that are averaged, in the folder `ensemble`."
    )
