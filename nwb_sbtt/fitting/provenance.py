"""What a result says of the fit that it comes from."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nwb_sbtt.fitting.ensemble import AVERAGED
from nwb_sbtt.fitting.runfolder import ENVIRONMENT, read_json
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.models.markov import HiddenMarkov
from nwb_sbtt.nn.sessions import SessionTables
from nwb_sbtt.train import schedules
from nwb_sbtt.train.checkpoint import digest

if TYPE_CHECKING:
    from nwb_sbtt.fitting.fitted import Fitted


def record_of(fitted: Fitted, *, expected: str) -> dict[str, Any]:
    """Describe a fit for a result's provenance; see `Fitted.record`.

    Parameters
    ----------
    fitted : Fitted
    expected : str
        What the expected values of the model are called: "rates" or "mean".

    Returns
    -------
    dict
        JSON-safe.
    """
    config = fitted.config.model_dump(mode="json")
    inputs = fitted.signature.inputs
    if fitted.config.init is not None:
        config["init"]["run_dir"] = fitted.config.init.run_dir.name
    return {
        "model_type": fitted.config.model.name,
        "run": fitted.run_dir.name,
        "config": config,
        "filled_in": _filled_in(fitted),
        "likelihood": fitted.signature.likelihood,
        "software_name": "nwb_sbtt",
        "software_version": version("nwb_sbtt"),
        "seed": fitted.config.seed,
        "checkpoint_sha256": fitted.checkpoint_sha256,
        "environment": read_json(fitted.run_dir / ENVIRONMENT),
        "finished": fitted.finished,
        "training": _training(fitted),
        "calibration": {name: calibration.summary() for name, calibration in fitted.calibrations.items()},
        **({"known_inputs": list(inputs)} if inputs else {}),
        **({"learned_systems": systems} if (systems := _systems(fitted)) else {}),
        **({"sessions": fitted.signature.recordings()} if len(fitted.signature.sessions) > 1 else {}),
        **({} if fitted.signature.origins is None else {"init": _initial(fitted)}),
        **({"ensemble": _ensemble(fitted, expected)} if len(fitted.members) > 1 else {}),
    }


def _systems(fitted: Fitted) -> list[dict[str, Any]]:
    """What part the system of each member has in estimates, by session."""
    return [
        {
            "run": member.run_dir.name,
            "sha256": digest(member.dynamics.state_dict()),
            "window": int(member.dynamics.window),
            "shares": _rounded(member.dynamics, member.dynamics.shares),
            **({} if (markov := member.dynamics.markov) is None else _of_markov(member.dynamics, markov)),
        }
        for member in fitted.members
        if member.dynamics is not None
    ]


def _of_markov(dynamics: Dynamics, markov: HiddenMarkov) -> dict[str, Any]:
    return {"markov_states": markov.n_states, "markov_shares": _rounded(dynamics, markov.shares)}


def _rounded(dynamics: Dynamics, shares: SessionTables) -> dict[str, float]:
    return {name: round(float(shares[name]), 3) for name in dynamics.sessions}


def _initial(fitted: Fitted) -> dict[str, Any]:
    """Which channels the fit has from its initial one."""
    carried = fitted.signature.carried
    return {"sessions": fitted.signature.origins, **({"carried_channels": carried} if carried else {})}


def _filled_in(fitted: Fitted) -> dict[str, Any]:
    """Resolved values of settings that were left open."""
    trials = fitted.signature.training_trials
    return {
        "model": schedules.fill(fitted.config.model, trials).model_dump(mode="json"),
        "train": asdict(schedules.plan(fitted.config, trials)),
    }


def _training(fitted: Fitted) -> list[dict[str, Any]]:
    names = ("epoch", "train_loss", "valid_loss")
    return [
        {**({"member": i} if len(fitted.members) > 1 else {}), **{name: epoch[name] for name in names}}
        for i, member in enumerate(fitted.members)
        for epoch in member.history
    ]


def _ensemble(fitted: Fitted, expected: str) -> dict[str, Any]:
    averaged = {expected, *(("rates", "kinetics") if fitted.model.infers_rates else ())}
    averaged |= {"events"} if fitted.model.infers_spikes else set()
    return {
        "estimates": {name: AVERAGED[name] for name in sorted(averaged)},
        "latents_of": fitted.best.run_dir.name,
        "members": [member.record() for member in fitted.members],
    }
