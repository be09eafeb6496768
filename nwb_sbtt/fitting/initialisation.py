"""A fit that starts from the weights of another: what is carried over, what is made afresh, and what stays frozen."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nwb_sbtt.config import FitConfig, InitConfig
from nwb_sbtt.errors import ConfigError, FileError, MismatchError, TrainingError
from nwb_sbtt.fitting.ensemble import checkpoint_digest
from nwb_sbtt.fitting.fitted import difference
from nwb_sbtt.fitting.runfolder import differences, member_folders, read_config, read_signature
from nwb_sbtt.fitting.signature import SIGNATURE, SessionSignature, Signature
from nwb_sbtt.models import Model
from nwb_sbtt.nn.sessions import tensors_by_session
from nwb_sbtt.train import checkpoint
from nwb_sbtt.train.checkpoint import BEST

_TRAINING_ONLY = {"dropout", "factor_noise"}
"""Settings of a model that do not change what its weights mean."""


def resolve_initialisation(config: FitConfig, signature: Signature) -> tuple[FitConfig, Signature]:
    """Look at the fit that `config.init` names, and say by digest what is taken from it.

    Returns
    -------
    FitConfig
        With the digest of the weights and what is frozen filled in.
    Signature
        With which session of the initial fit each session has its channels from (None: made afresh).

    Raises
    ------
    FileError
        If there is no fit in that folder.
    TrainingError
        If it has not finished.
    ConfigError
        If the models differ in structure, or an ensemble is started from one of another size.
    MismatchError
        If bins, likelihood or channels do not go together, or it is not clear whether channels are the same.
    """
    init = config.init
    if init is None:
        return config, signature
    if not (init.run_dir / SIGNATURE).exists():
        raise FileError(f"{str(init.run_dir)!r} holds no fit to start from (init.run_dir)")
    initial, fitted = read_config(init.run_dir), read_signature(init.run_dir)
    _check_alike(config, initial, init)
    _check_finished(init, initial)
    digest = checkpoint_digest(init.run_dir, initial.seeds)
    if init.checkpoint_sha256 not in (None, digest):
        raise MismatchError(
            f"the weights in {str(init.run_dir)!r} have the digest {digest[:12]}…, the settings ask for "
            f"{str(init.checkpoint_sha256)[:12]}… (init.checkpoint_sha256): it is another fit, or was fitted again"
        )
    if signature.likelihood != fitted.likelihood:
        raise MismatchError(f"the likelihood is {signature.likelihood}, that of the initial fit {fitted.likelihood}")
    origins = {name: _origin(name, session, fitted.sessions, init) for name, session in signature.sessions.items()}
    frozen = init.freeze
    if frozen == "auto":
        frozen = "dynamics" if None in origins.values() else "none"
    if frozen == "decoder" and None in origins.values():
        raise ConfigError(
            "init.freeze is 'decoder', but the read-out of new channels must be fitted; freeze 'generator'"
        )
    resolved = init.model_copy(update={"checkpoint_sha256": digest, "freeze": frozen})
    return config.model_copy(update={"init": resolved}), replace(signature, origins=origins)


def member_initialisation(config: FitConfig, number: int) -> FitConfig:
    """Let a member of an ensemble start from the member of the same number, where the initial fit is an ensemble too."""
    if config.init is None or (n := read_config(config.init.run_dir).seeds) == 1:
        return config
    folder = member_folders(config.init.run_dir, n)[number]
    changes = {"run_dir": folder, "checkpoint_sha256": checkpoint_digest(folder, 1)}
    return config.model_copy(update={"init": config.init.model_copy(update=changes)})


def initialise(model: Model, config: FitConfig, signature: Signature) -> Model:
    """Carry over what the initial fit has for this model, and freeze what the settings say; without one do nothing.

    Frozen parameters do not require gradients: the optimiser, its weight decay and the average over steps leave them alone.
    """
    init = config.init
    if init is None:
        return model
    tensors, _ = checkpoint.load(init.run_dir / BEST)
    channels = tensors_by_session(model)
    origins = _origins(read_signature(init.run_dir), signature)
    for name, tensor in model.state_dict().items():
        if name not in channels:
            value = tensors.get(name)
        elif (origin := origins[channels[name].session]) is None:
            continue
        else:
            value = tensors.get(channels[name].of(origin[0]))
            value = value if value is None or not value.dim() else value[origin[1]]
        if value is None or value.shape != tensor.shape:
            there = "nothing of that name" if value is None else str(tuple(value.shape))
            raise ConfigError(
                f"the weights {name!r} are {tuple(tensor.shape)}, and the fit in {str(init.run_dir)!r} has {there}: it was "
                "made by another version of the model and cannot be started from"
            )
        tensor.copy_(value)
    _freeze(model, init.freeze, channels)
    return model


def describe_initialisation(signature: Signature, config: FitConfig) -> str:
    """One line on what a fit starts from; empty where it starts from random weights."""
    if config.init is None or signature.origins is None:
        return ""
    parts = [
        f"{name}: " + ("new channels" if old is None else f"channels of {old!r}")
        for name, old in signature.origins.items()
    ]
    return f"starts from {config.init.run_dir.name!r}, frozen: {config.init.freeze}; " + "; ".join(parts)


def _freeze(model: Model, freeze: str, channels: Container[str]) -> None:
    """Let the parameters that stay as they are require no gradient."""
    generator = {id(parameter) for parameter in model.generator_parameters()}
    decoder = generator | {id(parameter) for parameter in model.likelihood.parameters()}
    for name, parameter in model.named_parameters():
        frozen = {
            "none": False,
            "dynamics": name not in channels,
            "generator": id(parameter) in generator,
            "decoder": id(parameter) in decoder,
        }
        parameter.requires_grad_(not frozen[freeze])


def _check_alike(config: FitConfig, initial: FitConfig, init: InitConfig) -> None:
    ours, theirs = (
        {key: value for key, value in settings.model.model_dump(mode="json").items() if key not in _TRAINING_ONLY}
        for settings in (config, initial)
    )
    if unlike := differences(ours, theirs, "model"):
        raise ConfigError(
            f"a fit can only start from one of the same model, and that in {str(init.run_dir)!r} is another: "
            f"{'; '.join(unlike[:5])}. Take its model: --config {init.run_dir / 'config.yaml'}, or in Python "
            "model=load(run_dir).config.model"
        )
    if initial.seeds not in (1, config.seeds):
        first = member_folders(init.run_dir, initial.seeds)[0]
        raise ConfigError(
            f"{str(init.run_dir)!r} holds an ensemble of {initial.seeds} models, to start {config.seeds} from; ask for as "
            f"many (--seeds {initial.seeds}), or name one of them, such as {str(first)!r}"
        )


def _check_finished(init: InitConfig, initial: FitConfig) -> None:
    for folder in member_folders(init.run_dir, initial.seeds):
        if not (folder / BEST).exists() or not checkpoint.read_progress(folder / BEST).finished:
            raise TrainingError(
                f"the fit in {str(folder)!r} has not finished, so none can start from it; give its command again to go on"
            )


def _origin(
    name: str, session: SessionSignature, fitted: Mapping[str, SessionSignature], init: InitConfig
) -> str | None:
    """Session of the initial fit that has the channels of this one, or None for channels to be made afresh."""
    widths = sorted({old.bin_width for old in fitted.values()})
    if session.bin_width not in widths:
        raise MismatchError(
            f"session {name!r} has bins of {session.bin_width:g} s, the initial fit of {', '.join(f'{w:g}' for w in widths)} "
            "s; what it learnt of the dynamics holds for its own bins only"
        )
    if init.channels == "new":
        return None
    alike = [old for old in fitted if set(fitted[old].channels) == set(session.channels)]
    sure = [old for old in alike if _recording(fitted[old]) == _recording(session) is not None]
    if init.channels == "same" and not alike:
        missing = difference(next(iter(fitted.values())).channels, session.channels)
        raise MismatchError(
            f"session {name!r} does not have the channels of the initial fit (init.channels is 'same'): {missing}"
        )
    if init.channels == "auto" and alike and not sure:
        raise MismatchError(
            f"the channels of session {name!r} have the ids of those of {alike[0]!r} in the initial fit, but are not known to "
            "come from the same recording; say whether they are the same (--set init.channels=same) or others (=new)"
        )
    candidates = sure or alike
    if len(candidates) > 1 and name not in candidates:
        raise MismatchError(
            f"the channels of session {name!r} are those of {candidates} in the initial fit; call it as one of them"
        )
    return (name if name in candidates else candidates[0]) if candidates else None


def _recording(session: SessionSignature) -> str | None:
    return (session.source or {}).get("object_id")


def _origins(fitted: Signature, signature: Signature) -> dict[str, tuple[str, Tensor] | None]:
    """For each session, the one of the initial fit that has its channels, and their order there."""
    origins: dict[str, tuple[str, Tensor] | None] = {}
    for name, origin in (signature.origins or {}).items():
        origins[name] = None
        if origin is not None:
            row = {channel: i for i, channel in enumerate(fitted.sessions[origin].channels)}
            origins[name] = origin, torch.tensor([row[channel] for channel in signature.sessions[name].channels])
    return origins
