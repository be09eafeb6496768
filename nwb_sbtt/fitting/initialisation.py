"""Fits that start from the weights of another: which are copied, which are new, and which are frozen."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nwb_sbtt.config import FitConfig, InitConfig
from nwb_sbtt.data.origins import is_same_recording
from nwb_sbtt.errors import ConfigError, FileError, MismatchError, TrainingError
from nwb_sbtt.fitting.alignment import reference_of
from nwb_sbtt.fitting.ensemble import checkpoint_digest
from nwb_sbtt.fitting.runfolder import differences, member_folders, read_config, read_signature
from nwb_sbtt.fitting.signature import (
    SIGNATURE,
    SessionSignature,
    Signature,
    channel_difference,
    equal_bin_widths,
)
from nwb_sbtt.fitting.stitching import Trained, stitch_to
from nwb_sbtt.models import Model
from nwb_sbtt.nn.sessions import tensors_by_session
from nwb_sbtt.train import checkpoint
from nwb_sbtt.train.checkpoint import BEST

_TRAINING_ONLY = {"dropout", "factor_noise"}
"""Settings of a model that do not change the meaning of its weights."""


def resolve_initialisation(config: FitConfig, signature: Signature) -> tuple[FitConfig, Signature]:
    """Check the initial fit that `config.init` names, and resolve what is taken from it.

    Parameters
    ----------
    config : FitConfig
    signature : Signature
        Of the new fit.

    Returns
    -------
    FitConfig
        With the digest of the initial weights and the frozen part filled in.
    Signature
        With the session of the initial fit that each session has its channels from; None for new channels.

    Raises
    ------
    FileError
        If the folder holds no fit.
    TrainingError
        If the initial fit has not finished.
    ConfigError
        If the models differ in structure, or an ensemble starts from one of another size.
    MismatchError
        If conditions are named and the initial fit is not aligned by them; if bin width, likelihood or channels differ, or it
        is unclear whether channels are the same.
    """
    init = config.init
    if init is None:
        return config, signature
    if not (init.run_dir / SIGNATURE).exists():
        raise FileError(
            f"{str(init.run_dir)!r} has no fit to start from; expected the run folder of a finished fit (init.run_dir)"
        )
    initial, fitted = read_config(init.run_dir), read_signature(init.run_dir)
    _check_alike(config, initial, init)
    _check_finished(init, initial)
    digest = checkpoint_digest(init.run_dir, initial.seeds)
    if init.checkpoint_sha256 not in (None, digest):
        raise MismatchError(
            f"the weights in {str(init.run_dir)!r} have the digest {digest[:12]}…; expected "
            f"{str(init.checkpoint_sha256)[:12]}… (init.checkpoint_sha256). This is another fit, or it was fitted "
            "again; name the right run folder, or omit the digest"
        )
    if signature.likelihood != fitted.likelihood:
        raise MismatchError(
            f"the likelihood is {signature.likelihood}, but that of the initial fit is {fitted.likelihood}; use the "
            f"same likelihood (--likelihood {fitted.likelihood})"
        )
    if signature.inputs != fitted.inputs:
        raise MismatchError(
            f"the known inputs are {list(signature.inputs)}, but those of the initial fit are {list(fitted.inputs)}; use the "
            "same inputs (--input)"
        )
    origins = {name: _origin(name, session, fitted.sessions, init) for name, session in signature.sessions.items()}
    carried = {
        name: n
        for name, origin in origins.items()
        if origin is not None
        and (n := len(_shared(signature.sessions[name], fitted.sessions[origin])))
        < len(signature.sessions[name].channels)
    }
    any_new, frozen = None in origins.values() or bool(carried), init.freeze
    if frozen == "auto":
        frozen = "dynamics" if any_new else "none"
    if frozen == "decoder" and any_new:
        raise ConfigError(
            "init.freeze is 'decoder', but the read-out of new channels must be fitted; use 'generator' instead"
        )
    if config.sessions.condition is not None:
        reference_of(member_folders(init.run_dir, initial.seeds)[0], config.sessions.condition)
    resolved = init.model_copy(update={"checkpoint_sha256": digest, "freeze": frozen})
    return config.model_copy(update={"init": resolved}), replace(signature, origins=origins, carried=carried)


def member_initialisation(config: FitConfig, number: int) -> FitConfig:
    """Start a member of an ensemble from the member of the same number, where the initial fit is an ensemble too.

    Parameters
    ----------
    config : FitConfig
        Settings of the member.
    number : int
        Number of the member, from 0.

    Returns
    -------
    FitConfig
        With run folder and digest of the initial member.
    """
    if config.init is None or (n := read_config(config.init.run_dir).seeds) == 1:
        return config
    folder = member_folders(config.init.run_dir, n)[number]
    changes = {"run_dir": folder, "checkpoint_sha256": checkpoint_digest(folder, 1)}
    return config.model_copy(update={"init": config.init.model_copy(update=changes)})


def initialise(
    model: Model, config: FitConfig, signature: Signature, stitched: Mapping[str, Trained] | None = None
) -> Model:
    """Copy the weights of the initial fit into a model, and freeze what the settings name; without one do nothing.

    Frozen parameters do not require gradients: optimiser, weight decay and the average over steps leave them as they are.

    Parameters
    ----------
    model : Model
        Changed in place.
    config : FitConfig
        As returned by `resolve_initialisation`.
    signature : Signature
        As returned by `resolve_initialisation`.
    stitched : mapping of session to Trained, optional
        Training trials with their conditions, on which sessions of new channels are stitched to the initial fit.

    Returns
    -------
    Model
        The same object.

    Raises
    ------
    ConfigError
        If weights are missing in the initial fit or have another shape.
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
            if value is not None and value.dim():
                value = _carried_over(value, origin[1], tensor)
        if value is None or value.shape != tensor.shape:
            shape = "no such weights" if value is None else f"shape {tuple(value.shape)}"
            raise ConfigError(
                f"the weights {name!r} have shape {tuple(tensor.shape)}, but the fit in {str(init.run_dir)!r} has "
                f"{shape}: it was made by another version of the model, so no fit can start from it; fit it again "
                "first"
            )
        tensor.copy_(value)
    for name, session in (stitched or {}).items():
        if origins[name] is None:
            stitch_to(model, session, reference_of(init.run_dir, str(config.sessions.condition)).courses)
    _freeze(model, init.freeze, channels)
    return model


def describe_initialisation(signature: Signature, config: FitConfig) -> str:
    """Describe the initial fit in one line.

    Parameters
    ----------
    signature : Signature
    config : FitConfig
        Both as resolved by `resolve_initialisation`.

    Returns
    -------
    str
        Empty for a fit that starts from random weights.
    """
    if config.init is None or signature.origins is None:
        return ""
    parts = []
    for name, old in signature.origins.items():
        n_carried, n_channels = signature.carried.get(name), len(signature.sessions[name].channels)
        whole = "new channels" if old is None else f"channels of {old!r}"
        parts.append(
            f"{name}: " + (whole if n_carried is None else f"{n_carried} of {n_channels} {whole}, the others new")
        )
    return f"starts from {config.init.run_dir.name!r}, frozen: {config.init.freeze}; " + "; ".join(parts)


def _freeze(model: Model, freeze: str, channels: Container[str]) -> None:
    """Let frozen parameters require no gradient."""
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
    new, old = (
        {key: value for key, value in settings.model.model_dump(mode="json").items() if key not in _TRAINING_ONLY}
        for settings in (config, initial)
    )
    if changes := differences(new, old, "model"):
        raise ConfigError(
            f"a fit can only start from a fit of the same model, but the model in {str(init.run_dir)!r} is different: "
            f"{'; '.join(changes[:5])}. Use its model: --config {init.run_dir / 'config.yaml'}, or in Python "
            "model=load(run_dir).config.model"
        )
    if initial.seeds not in (1, config.seeds):
        first = member_folders(init.run_dir, initial.seeds)[0]
        raise ConfigError(
            f"{str(init.run_dir)!r} has an ensemble of {initial.seeds} models, but this fit has {config.seeds}; fit "
            f"equally many (--seeds {initial.seeds}), or start from one of them, such as {str(first)!r}"
        )


def _check_finished(init: InitConfig, initial: FitConfig) -> None:
    for folder in member_folders(init.run_dir, initial.seeds):
        if not (folder / BEST).exists() or not checkpoint.read_progress(folder / BEST).finished:
            raise TrainingError(
                f"the fit in {str(folder)!r} has not finished, so no fit can start from it; run it again to resume it"
            )


def _origin(
    name: str, session: SessionSignature, fitted: Mapping[str, SessionSignature], init: InitConfig
) -> str | None:
    """Session of the initial fit that has the channels of this one; None for new channels."""
    widths = sorted({old.bin_width for old in fitted.values()})
    if not any(equal_bin_widths(session.bin_width, width) for width in widths):
        raise MismatchError(
            f"session {name!r} has bins of {session.bin_width:g} s, but the initial fit has bins of "
            f"{', '.join(f'{w:g}' for w in widths)} s; use the same bin width, because learned dynamics are valid for "
            "one bin width only"
        )
    if init.channels == "new":
        return None
    overlapping = [old for old in fitted if _shared(session, fitted[old])]
    alike = [old for old in overlapping if set(fitted[old].channels) == set(session.channels)]
    if init.channels == "same" and not overlapping:
        missing = channel_difference(next(iter(fitted.values())).channels, session.channels)
        raise MismatchError(
            f"session {name!r} has no channel of the initial fit, although init.channels is 'same': {missing}"
        )
    same_recording = [old for old in overlapping if is_same_recording(fitted[old].source or {}, session.source or {})]
    if init.channels == "auto" and alike and not same_recording:
        raise MismatchError(
            f"the channels of session {name!r} have the same ids as those of {alike[0]!r} in the initial fit, but it "
            "is unknown whether they come from the same recording; set init.channels=same (--set init.channels=same) "
            "if they are the same channels, or =new if not"
        )
    candidates = same_recording or (alike or overlapping if init.channels == "same" else [])
    if not candidates:
        return None
    # Of several, those that share most channels.
    most = max(len(_shared(session, fitted[old])) for old in candidates)
    candidates = [old for old in candidates if len(_shared(session, fitted[old])) == most]
    if len(candidates) > 1 and name not in candidates:
        raise MismatchError(
            f"the channels of session {name!r} match those of {candidates} in the initial fit; use one of these names "
            "for the session"
        )
    return name if name in candidates else candidates[0]


def _shared(session: SessionSignature, old: SessionSignature) -> set[str]:
    """Ids that are in both sessions."""
    return set(session.channels) & set(old.channels)


def _carried_over(value: Tensor, rows: Tensor, initial: Tensor) -> Tensor:
    """Rows of a tensor of the initial fit where a channel has one, else those that the model was made with."""
    if value.shape[1:] != initial.shape[1:]:
        return value
    known = (rows >= 0).to(initial.device)
    taken = value.to(initial.device)[rows.clamp(min=0).to(initial.device)]
    return torch.where(known.reshape(-1, *[1] * (initial.dim() - 1)), taken, initial)


def _origins(fitted: Signature, signature: Signature) -> dict[str, tuple[str, Tensor] | None]:
    """For each session, the session of the initial fit that has its channels, and their rows in it; -1 for new channels."""
    origins: dict[str, tuple[str, Tensor] | None] = {}
    for name, origin in (signature.origins or {}).items():
        origins[name] = None
        if origin is not None:
            row = {channel: i for i, channel in enumerate(fitted.sessions[origin].channels)}
            origins[name] = (
                origin,
                torch.tensor([row.get(channel, -1) for channel in signature.sessions[name].channels]),
            )
    return origins
