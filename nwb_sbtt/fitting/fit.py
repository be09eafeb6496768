"""Fit models to Datasets, in a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from nwb_sbtt.batch import Batch
from nwb_sbtt.config import FitConfig, config_of
from nwb_sbtt.data.bandwidth import was_chosen
from nwb_sbtt.data.datasets import MAKERS, dataset_of
from nwb_sbtt.data.memory import FITTING, FITTING_OBSERVED
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError, TrainingError
from nwb_sbtt.evaluate.calibration import Calibration, calibrate_counts, calibrate_signals
from nwb_sbtt.fileerrors import path_of
from nwb_sbtt.fitting.alignment import check_conditions
from nwb_sbtt.fitting.calibrations import write_calibrations
from nwb_sbtt.fitting.device import device_of, torch_threads
from nwb_sbtt.fitting.ensemble import member_configs
from nwb_sbtt.fitting.fitted import Fitted
from nwb_sbtt.fitting.forward import has_learned, write_widths
from nwb_sbtt.fitting.initialisation import initialise, member_initialisation, resolve_initialisation
from nwb_sbtt.fitting.learnable import resolve_dynamics
from nwb_sbtt.fitting.member import Member
from nwb_sbtt.fitting.memory import memory_errors
from nwb_sbtt.fitting.preparation import (
    check_fits_memory,
    likelihood_settings,
    naming_session,
    prepare,
    signature_of,
    train_and_valid,
)
from nwb_sbtt.fitting.runfolder import (
    CALIBRATION,
    FORECAST,
    Watched,
    clear_failure,
    hold_run_folder,
    member_folders,
    open_run_folder,
    record_failure,
)
from nwb_sbtt.fitting.scores import forget_metrics
from nwb_sbtt.fitting.signature import Signature, session_name
from nwb_sbtt.fitting.stitching import Trained, stitch_together, trained_trials
from nwb_sbtt.models import MODELS, Model, make_model
from nwb_sbtt.nn.inputs import InputStatistics
from nwb_sbtt.nn.likelihoods import LIKELIHOODS
from nwb_sbtt.train.group import join_group
from nwb_sbtt.train.loop import train
from nwb_sbtt.train.schedules import fill
from nwb_sbtt.train.trackers import Silent, Tracker, default_tracker

_SMALLER_DATA = "the data of all trials must fit into memory; use fewer trials or channels, or wider bins"
_SMALLER_STEPS = (
    "lower train.batch_size (--set train.batch_size=16; the run folder may be the same), or use shorter trials, "
    "wider bins or a smaller model"
)


def fit(
    data: xr.Dataset | Mapping[str, xr.Dataset],
    config: FitConfig | Mapping[str, object] | None = None,
    *,
    run_dir: Path | str,
    tracker: Tracker | None = None,
    until: int | None = None,
) -> Fitted:
    """Fit a model or an ensemble; an interrupted fit is resumed.

    Parameters
    ----------
    data : Dataset, or Datasets by session name
        As returned by `read_nwb`; a single Dataset is named after its file. Trials without a ``split`` are split by
        ``config.valid_fraction`` and ``config.seed``. Several sessions share all weights except read-in and read-out; their
        order has no effect. Fully and sparsely observed trials may be mixed.
    config : FitConfig, or mapping of its settings, optional
        With ``seeds`` above 1, an ensemble is fitted, one member after another. Each member has its own run folder
        ``member-0``, … inside `run_dir`. ``init`` is a finished fit whose weights this fit starts from.
    run_dir : path
        Run folder. An unfinished fit of the same data and settings is resumed and ends with the same numbers; a finished fit is
        loaded. Processes started by torchrun that train one model together need the same folder, on a disk that all can access.
    tracker : Tracker, optional
        Receives the numbers of each epoch; by default a progress bar on a terminal, plain lines elsewhere.
    until : int, optional
        Epoch after which training pauses. A later call resumes from there and ends with the same numbers as a fit without a
        pause. Learning rate and ramps depend on ``train.epochs`` only.

    Returns
    -------
    Fitted
        The fitted model or ensemble, calibrated; not calibrated while it is unfinished.

    Raises
    ------
    DataError
        If the data do not match the likelihood, have too few trials, or two sessions have the same data. With several
        sessions, the message names the session.
    TrainingError
        If the run folder belongs to different data or settings, a loss is not finite, or there is not enough memory.
    FileError
        If another process uses the run folder, or if the folder cannot be written or is damaged.
    ConfigError, MismatchError, FileError
        If the fit cannot start from the initial fit; see `nwb_sbtt.fitting.initialisation.resolve_initialisation`.

    Examples
    --------
    >>> fitted = fit(ds, FitConfig(model=SAEConfig()), run_dir="runs/first")  # doctest: +SKIP
    """
    config, run_dir = config_of(FitConfig, config), path_of(run_dir, "the run folder")
    sessions = named_sessions(data)
    check_fits_memory(list(sessions.values()), FITTING, FITTING_OBSERVED, what="the fit")
    prepared = {}
    for name, ds in sessions.items():
        with naming_session(name, of=len(sessions)):
            prepared[name] = prepare(ds, config)
    config, signature = resolve_initialisation(config, signature_of(prepared, config))
    config = resolve_dynamics(config, signature)
    check_conditions(prepared, config)
    device = device_of(config)
    processes = join_group(gpu=device.startswith("cuda"))
    processes.check_batches(config.train.batches_per_step)
    with hold_run_folder(run_dir) if processes.leads else nullcontext(), torch_threads(config.threads):
        if processes.leads:
            open_run_folder(run_dir, config, signature=signature, device=device)
            if not (run_dir / CALIBRATION).exists():
                forget_metrics(run_dir)  # Training goes on, and replaces the weights that were scored.
        pairs = {}
        with memory_errors(TrainingError, device=device, advice=_SMALLER_DATA):
            for name, ds in prepared.items():
                with naming_session(name, of=len(prepared)):
                    length = signature.sessions[name].mask_length
                    pairs[name] = train_and_valid(ds, to_batch(ds, name).to(device), config, mask_length=length)
        members = []
        for i, folder in enumerate(folders := member_folders(run_dir, config.seeds)):
            label = f"member {i + 1} of {len(folders)}  " if len(folders) > 1 else ""
            member_config = member_initialisation(member_configs(config)[i], i)
            with hold_run_folder(folder) if processes.leads else nullcontext():
                if folder != run_dir and processes.leads:
                    open_run_folder(folder, member_config, signature=signature, device=device)
                # The others resume from what the leader has found in the folder.
                processes.wait()
                shown = tracker or default_tracker(label) if processes.leads else Silent()
                tracked = Watched(shown, tuple(dict.fromkeys([run_dir, folder])))
                try:
                    with memory_errors(TrainingError, device=device, advice=_SMALLER_STEPS):
                        members.append(
                            _train(pairs, member_config, folder, signature, tracker=tracked, data=prepared, until=until)
                        )
                except TrainingError as error:
                    reason = f"{label.strip()}: {error}".removeprefix(": ")
                    if processes.leads:
                        record_failure(run_dir, reason)
                    raise TrainingError(reason) from None
        fitted = Fitted(tuple(members), config, run_dir, signature)
        if not processes.leads:
            processes.wait()
            return fitted.calibrated().aligned()
        clear_failure(run_dir)
        if fitted.finished:
            fitted = _completed(fitted, prepared)
        processes.wait()
        return fitted


def _completed(fitted: Fitted, prepared: Mapping[str, xr.Dataset]) -> Fitted:
    """Align and calibrate a finished fit, as far as its folder does not hold that yet."""
    fitted = fitted.aligned()
    condition = fitted.config.sessions.condition
    if condition is not None and fitted.alignment is None:
        fitted = fitted.align(prepared, condition=condition)
    if not (fitted.run_dir / CALIBRATION).exists():
        write_calibrations(calibrate(fitted, prepared), fitted.run_dir, checkpoint=fitted.checkpoint_sha256)
    fitted = fitted.calibrated()
    if has_learned(fitted) and not (fitted.run_dir / FORECAST).exists():
        write_widths(fitted, prepared)
    return fitted


def named_sessions(data: xr.Dataset | Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Name the sessions of a fit.

    Parameters
    ----------
    data : Dataset, or Datasets by session name
        A single one is named by its file.

    Returns
    -------
    dict of name to Dataset
        Sorted by name.

    Raises
    ------
    DataError
        If it is neither.
    """
    if not isinstance(data, Mapping):
        data = dataset_of(data, expected=f"{MAKERS['data']}, or Datasets by the names of their sessions")
    if isinstance(data, xr.Dataset):
        # As the command line names it, so that both make the same model, to the names of its weights.
        data = {session_name(json.loads(data.attrs.get("source", "{}")).get("name")): data}
    if not data or not all(isinstance(name, str) for name in data):
        raise DataError(
            f"the sessions are named {list(data)}; expected one or more names that are text: {{'monday': ds}}"
        )
    return {name: dataset_of(data[name]) for name in sorted(data)}


def calibrate(fitted: Fitted, prepared: Mapping[str, xr.Dataset]) -> dict[str, Calibration]:
    """Calibrate the sd of rates or means on entries of each session's validation trials, each hidden once.

    Parameters
    ----------
    fitted : Fitted
    prepared : mapping of session to Dataset
        As returned by `nwb_sbtt.fitting.preparation.prepare`.

    Returns
    -------
    dict of session to Calibration
        Without sessions that have too few entries.
    """
    calibrations: dict[str, Calibration] = {}
    for name, ds in prepared.items():
        hidden = fitted.hide_in_turn(ds.isel(trial=np.flatnonzero(ds["split"].values == "valid")), session=name)
        if LIKELIHOODS[fitted.signature.likelihood].expects_counts:
            calibration: Calibration | None = calibrate_counts(hidden)
        else:
            # A ladder's mean follows each channel's own samples.
            calibration = calibrate_signals(hidden, shared=not fitted.model.infers_spikes)
        if calibration is not None:
            calibrations[name] = calibration
    return calibrations


def _train(
    pairs: Mapping[str, tuple[Batch, Batch]],
    config: FitConfig,
    run_dir: Path,
    signature: Signature,
    *,
    tracker: Tracker,
    data: Mapping[str, xr.Dataset],
    until: int | None,
) -> Member:
    """Train one model, or resume it."""
    # A resumed fit takes its weights from the checkpoint.
    stitched = trained_trials(data, pairs, config.sessions.condition) if config.sessions.stitching else None
    model = _untrained_model(config, signature, pairs, stitched).to(device_of(config))
    bin_widths = {name: session.bin_width for name, session in signature.sessions.items()}
    try:
        trained = train(
            model,
            list(pairs.values()),
            config=config,
            run_dir=run_dir,
            tracker=tracker,
            mask_length=max(session.mask_length or 1 for session in signature.sessions.values()),
            bin_widths=bin_widths,
            chosen=any(map(was_chosen, data.values())),
            until=until,
        )
    finally:
        tracker.stop()
    return Member(trained.model, config, run_dir, trained.progress, trained.dynamics)


def _untrained_model(
    config: FitConfig,
    signature: Signature,
    pairs: Mapping[str, tuple[Batch, Batch]],
    stitched: Mapping[str, Trained] | None,
) -> Model:
    """Make the model before its first step."""
    likelihood = likelihood_settings(config, signature.likelihood)
    statistics = {}
    for name, (training, _) in pairs.items():
        with naming_session(name, of=len(pairs)):
            of_channels = MODELS[config.model.name].measure(
                training,
                config=config.model,
                likelihood=likelihood,
                bin_width=signature.sessions[name].bin_width,
                channel_values=signature.sessions[name].channel_values,
            )
            statistics[name] = replace(of_channels, inputs=InputStatistics.measured(training))
    with torch.random.fork_rng():
        torch.manual_seed(config.training_seed)
        settings = fill(config.model, [len(training.trials) for training, _ in pairs.values()])
        model = make_model(settings, statistics, likelihood)
        if stitched is not None and config.init is None:
            stitch_together(model, stitched)
    return initialise(model, config, signature, stitched)
