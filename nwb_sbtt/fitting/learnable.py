"""Whether a fit learns a system (`FitConfig.dynamics`), from its settings and its signature."""

from __future__ import annotations

from nwb_sbtt.config import DynamicsConfig, FitConfig
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.fitting.signature import Signature
from nwb_sbtt.models import MODELS
from nwb_sbtt.models.dynamics import DIMENSIONS, OF_DRIVEN
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.train import schedules
from nwb_sbtt.train.dynamics import STEPS

MOST_WEIGHED = 10**9
"""Most entries, observed or not, of a session of which a system is learned: some seven bytes each are needed."""
LEAST_STEPS = 400
"""Optimiser steps of the model under which no system is learned by itself: shorter trainings are trials of a pipeline."""
LEAST_DIMENSIONS, LEAST_BINS = 2, 8
"""Of the state, and of a trial, under which none is learned by itself."""
MOST_BINS, MOST_DRIVEN = 500_000, 50_000
"""Most bins of all trials of a session, without and with known inputs: inference by a system takes .1 and .6 ms a bin, without
them .4 where trials begin elsewhere than those of training."""
OF_MODEL = 1.2
"""Steps that learn a system, as a multiple of those of the model; there may be fewer (`nwb_sbtt.train.dynamics.STEPS`)."""


def resolve_dynamics(config: FitConfig, signature: Signature) -> FitConfig:
    """Decide whether a system is learned, where the settings leave that open, and by how many steps.

    Parameters
    ----------
    config : FitConfig
    signature : Signature

    Returns
    -------
    FitConfig
        Its `dynamics` are complete if a system is learned, and as they were if not.

    Raises
    ------
    ConfigError
        If a system is asked for that cannot be learned.
    """
    wanted = config.dynamics
    if wanted is None:
        return config
    if isinstance(wanted, DynamicsConfig):
        wanted = wanted.model_copy(update={"dimensions": wanted.dimensions or _dimensions(config, signature)})
        if reason := _impossible(config, signature, wanted.dimensions or 0):
            raise ConfigError(f"no system can be learned here: {reason}. Change that, or leave it out (dynamics=null)")
    elif without_system(config, signature):
        return config
    else:
        wanted = DynamicsConfig(dimensions=_dimensions(config, signature))
    steps = wanted.steps or max(1, min(STEPS, round(OF_MODEL * _model_steps(config, signature))))
    return config.model_copy(update={"dynamics": wanted.model_copy(update={"steps": steps})})


def without_system(config: FitConfig, signature: Signature) -> str:
    """Say why a fit learns no system by itself.

    Parameters
    ----------
    config : FitConfig
    signature : Signature

    Returns
    -------
    str
        Empty if it learns one.
    """
    dimensions = _dimensions(config, signature)
    if reason := _impossible(config, signature, dimensions):
        return reason
    if config.lag is not None:
        return "the model has a lag, and courses of a system are weighed by whole trials"
    if dimensions < LEAST_DIMENSIONS:
        return f"a session has {dimensions} channel or factor; {LEAST_DIMENSIONS} at least are needed"
    if (steps := _model_steps(config, signature)) < LEAST_STEPS:
        return f"the model trains for {steps} steps; {LEAST_STEPS} at least are needed"
    for name, session in signature.sessions.items():
        if session.bins < LEAST_BINS:
            return f"trials of {name!r} have {session.bins} bins; {LEAST_BINS} at least are needed"
        most, which = (MOST_DRIVEN, "with known inputs, ") if signature.inputs else (MOST_BINS, "")
        if (n_bins := session.trials * session.bins) > most:
            return f"{name!r} has {n_bins} bins; {which}inference by a system takes long for more than {most}"
    return ""


def _impossible(config: FitConfig, signature: Signature, dimensions: int) -> str:
    """Why no system can be learned, asked for or not; empty if one can be."""
    infers_spikes = MODELS[config.model.name].infers_spikes
    if not LIKELIHOODS[signature.likelihood].draws and not infers_spikes:
        able = ", ".join(name for name in LIKELIHOODS.names() if LIKELIHOODS[name].draws)
        return (
            f"the model is {config.model.name!r} with the likelihood {signature.likelihood!r}; possible are the likelihoods "
            f"{able}, and models that infer spikes themselves"
        )
    if infers_spikes and isinstance(config.dynamics, DynamicsConfig) and config.dynamics.further_training:
        return (
            f"the model {config.model.name!r} infers spikes, and simulated ones cannot train it further; expected "
            "dynamics.further_training=0"
        )
    factors = _factors(config)
    if factors is not None and dimensions > factors:
        return (
            f"dynamics.dimensions is {dimensions}, and the model has {factors} factors, of which these are principal "
            "components; expected at most as many: lower dynamics.dimensions, or raise model.factors"
        )
    for name, session in signature.sessions.items():
        if session.bins < 2:
            return f"trials of {name!r} have {session.bins} bin, so there is none to go on to; expected 2 or more"
        if session.trials * session.bins * len(session.channels) > MOST_WEIGHED:
            return (
                f"all channels are weighed in all bins, and {name!r} has {session.trials} trials of {session.bins} bins and "
                f"{len(session.channels)} channels; expected at most {MOST_WEIGHED:.0e} entries"
            )
    return ""


def _dimensions(config: FitConfig, signature: Signature) -> int:
    """Dimensions of a system by default: no more than channels or factors have."""
    channels = (len(session.channels) for session in signature.sessions.values())
    most = OF_DRIVEN if signature.inputs else DIMENSIONS
    return min(most, *channels, *([] if (n := _factors(config)) is None else [n]))


def _factors(config: FitConfig) -> int | None:
    """Number of factors; models that others have registered may have no such setting."""
    factors: int | None = getattr(config.model, "factors", None)
    return factors


def _model_steps(config: FitConfig, signature: Signature) -> int:
    plan = schedules.plan(config, [session.training_trials for session in signature.sessions.values()])
    return plan.epochs * plan.steps_per_epoch
