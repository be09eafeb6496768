"""Fit a model to Datasets, keep it in a run folder, and apply it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwb_sbtt import masks
from nwb_sbtt.batch import Batch
from nwb_sbtt.config import FitConfig
from nwb_sbtt.data.schema import check_dataset
from nwb_sbtt.data.splits import split
from nwb_sbtt.data.tensors import to_batch, to_latents
from nwb_sbtt.errors import ConfigError, DataError, FileError, MismatchError
from nwb_sbtt.evaluate.summary import evaluate_latents
from nwb_sbtt.models import Model, make_model
from nwb_sbtt.models.posterior import posterior
from nwb_sbtt.nn.channels import ChannelStatistics, channel_statistics
from nwb_sbtt.runfolder import BEST, CONFIG, ENVIRONMENT, LAST, SIGNATURE, claim, read_config, read_json
from nwb_sbtt.train import checkpoint
from nwb_sbtt.train.loop import read_log, train
from nwb_sbtt.train.trackers import Tracker, default_tracker


def fit(
    data: xr.Dataset | Mapping[str, xr.Dataset],
    config: FitConfig | None = None,
    *,
    run_dir: Path | str,
    tracker: Tracker | None = None,
) -> Fitted:
    """Fit a model, or go on with a fit that was interrupted.

    Parameters
    ----------
    data : Dataset, or Datasets by session name
        As `read_nwb` gives them. Trials without a ``split`` are split by ``config.valid`` and ``config.seed``.
    config : FitConfig, optional
    run_dir : path
        Everything the fit keeps. A folder that holds an unfinished fit of the same data and settings is resumed and ends
        in the same numbers; a finished one is loaded.
    tracker : Tracker, optional
        Told of each epoch; a progress bar on a terminal, plain lines elsewhere.

    Raises
    ------
    DataError
        If the data do not suit the likelihood, or hold too few trials.
    TrainingError
        If the run folder belongs to other data or settings, or training breaks down.

    Examples
    --------
    >>> fitted = fit(ds, FitConfig(model=SAEConfig()), run_dir="runs/first")  # doctest: +SKIP
    """
    config = config or FitConfig()
    run_dir = Path(run_dir)
    sessions = dict(data) if isinstance(data, Mapping) and not isinstance(data, xr.Dataset) else {"session": data}
    prepared = {name: prepare(ds, config) for name, ds in sessions.items()}
    signature = _signature(prepared, config)
    device = _device(config)
    claim(run_dir, config, signature=signature, device=device)
    torch.set_num_threads(config.threads)
    batches = [to_batch(ds, f"session{i}").to(device) for i, ds in enumerate(prepared.values())]
    pairs = [_train_and_valid(ds, batch, config) for ds, batch in zip(prepared.values(), batches, strict=True)]
    statistics = {train_batch.session: channel_statistics(train_batch) for train_batch, _ in pairs}
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = make_model(config.model, statistics, signature["likelihood"]).to(device)
    tracker = tracker or default_tracker()
    try:
        trained = train(model, pairs, config=config, run_dir=run_dir, tracker=tracker)
    finally:
        tracker.stop()
    return Fitted(trained.model, config, run_dir, signature)


def prepare(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Check a Dataset against the settings, and add ``split`` and ``held_out`` where the settings ask for them.

    Raises
    ------
    DataError
        If counts are negative under a Poisson likelihood, or trials are too few.
    """
    check_dataset(ds)
    if likelihood_of(ds, config) == "poisson":
        negative = int((ds["values"].values < 0).sum())
        if negative:
            raise DataError(
                f"{negative} of {ds['values'].size} values are negative, which counts cannot be; choose "
                "likelihood='gaussian' (--set likelihood=gaussian) for signals"
            )
    return split(_hold_out(ds, config), valid=config.valid, seed=config.seed)


def likelihood_of(ds: xr.Dataset, config: FitConfig) -> str:
    """Name the likelihood: what the settings say or, under "auto", Poisson for counts and Gaussian for all else."""
    if config.likelihood != "auto":
        return config.likelihood
    return "poisson" if ds.attrs.get("unit") == "counts" else "gaussian"


def load(run_dir: Path | str) -> Fitted:
    """Load the best model of a run folder.

    Raises
    ------
    FileError
        If the folder holds no fit, or one that has not saved a state yet.
    """
    run_dir = Path(run_dir)
    if not (run_dir / CONFIG).exists() or not (run_dir / BEST).exists():
        raise FileError(
            f"{str(run_dir)!r} holds no fitted model: {CONFIG} and {BEST} were expected; fit one with `nwb-sbtt fit`"
        )
    config = read_config(run_dir)
    signature = read_json(run_dir / SIGNATURE)
    tensors, _ = checkpoint.load(run_dir / BEST)
    statistics = {}
    for i, session in enumerate(signature["sessions"].values()):
        blank = torch.ones(len(session["channels"]))
        statistics[f"session{i}"] = ChannelStatistics(blank, blank)
    model = make_model(config.model, statistics, signature["likelihood"])
    model.load_state_dict(tensors)
    return Fitted(model.to(_device(config)).eval(), config, run_dir, signature)


@dataclass(frozen=True)
class Fitted:
    """A fitted model in its run folder."""

    model: Model
    config: FitConfig
    run_dir: Path
    signature: dict[str, Any]

    @property
    def history(self) -> list[dict[str, float]]:
        """Numbers of every epoch."""
        return [asdict(record) for record in read_log(self.run_dir)]

    @property
    def finished(self) -> str:
        """Why training ended; empty while it has not."""
        return checkpoint.load(self.run_dir / LAST)[1].finished

    def infer(self, ds: xr.Dataset, *, session: str | None = None, samples: int | None = None) -> xr.Dataset:
        """Infer rates and latents of every trial from all that is observed and not held out.

        Parameters
        ----------
        ds : Dataset
            Of the channels that the model was fitted to, in any order, and of the same bin width; any trials.
        session : str, optional
            Which of several fitted sessions the channels belong to.
        samples : int, optional
            Posterior samples to average; ``config.samples`` by default.

        Returns
        -------
        Dataset
            ``rates`` [Hz] for counts or ``mean`` in the data's unit, ``factors``, ``initial_condition``, with a controller
            ``inputs``, each with its posterior ``_sd`` where the model has one, and ``observed``; labelled as `ds`.

        Raises
        ------
        MismatchError
            If channels or bin width differ, with the difference.
        """
        index, ds = self._match(ds, session)
        ds = _hold_out(ds, self.config)
        return self._infer(ds, to_batch(ds, f"session{index}"), samples)

    def evaluate(self, ds: xr.Dataset, *, session: str | None = None) -> dict[str, Any]:
        """Score the model and the baselines on the hidden entries of the validation trials.

        The entries are those that the model was selected on; neither it nor any baseline sees them.

        Returns
        -------
        dict
            JSON-safe; see `nwb_sbtt.evaluate.summary.evaluate_latents`.
        """
        index, ds = self._match(ds, session)
        ds = prepare(ds, self.config)
        batch = to_batch(ds, f"session{index}")
        hidden = _hidden(ds, batch, self.config)
        latents = self._infer(ds, masks.hide(batch, hidden), None)
        return evaluate_latents(ds, latents, hidden.numpy())

    def session_name(self, session: str | None = None) -> str:
        """Name of the one session that the model was fitted to, or of the one asked for.

        Raises
        ------
        MismatchError
            If there is none of that name, or several and none was asked for.
        """
        names = list(self.signature["sessions"])
        if session is None and len(names) > 1:
            raise MismatchError(f"the model was fitted to several sessions; name one of {names}")
        if session is not None and session not in names:
            raise MismatchError(f"the model was not fitted to session {session!r}, but to {names}")
        return str(session or names[0])

    def is_fitted_to(self, ds: xr.Dataset, *, session: str | None = None) -> bool:
        """Whether these are, entry by entry, the data that the model was fitted to."""
        expected = self.signature["sessions"][self.session_name(session)]
        return bool(_digest(prepare(ds, self.config)) == expected["data_sha256"])

    def _infer(self, ds: xr.Dataset, batch: Batch, samples: int | None) -> xr.Dataset:
        torch.set_num_threads(self.config.threads)
        device = _device(self.config)
        generator = torch.Generator().manual_seed(self.config.seed)
        arrays = posterior(self.model, batch.to(device), samples=samples or self.config.samples, generator=generator)
        return to_latents(
            ds, self._in_units(arrays, float(ds.attrs["bin_width"])), {"model": json.dumps(self.record())}
        )

    def _in_units(self, arrays: dict[str, Tensor], bin_width: float) -> dict[str, Tensor]:
        poisson = self.signature["likelihood"] == "poisson"
        name, scale = ("rates", 1 / bin_width) if poisson else ("mean", 1.0)
        renamed = {key.replace("expected", name): value for key, value in arrays.items()}
        return {key: value * scale if key.startswith(name) else value for key, value in renamed.items()}

    def record(self) -> dict[str, Any]:
        """Say how the model came about: what `write_nwb` stores beside the results."""
        return {
            "model_type": self.config.model.name,
            "run": self.run_dir.name,
            "config": self.config.model_dump(mode="json"),
            "likelihood": self.signature["likelihood"],
            "software_name": "nwb_sbtt",
            "software_version": version("nwb_sbtt"),
            "seed": self.config.seed,
            "checkpoint_sha256": hashlib.sha256((self.run_dir / BEST).read_bytes()).hexdigest(),
            "environment": read_json(self.run_dir / ENVIRONMENT),
            "finished": self.finished,
            "training": [
                {key: record[key] for key in ("epoch", "train_loss", "valid_loss")} for record in self.history
            ],
        }

    def _match(self, ds: xr.Dataset, session: str | None) -> tuple[int, xr.Dataset]:
        check_dataset(ds)
        name = self.session_name(session)
        expected = self.signature["sessions"][name]
        if not np.isclose(ds.attrs["bin_width"], expected["bin_width"], rtol=1e-9):
            raise MismatchError(
                f"the data have bins of {ds.attrs['bin_width']:g} s, the model was fitted to {expected['bin_width']:g} s"
            )
        fitted, given = expected["channels"], _channel_names(ds)
        if set(fitted) != set(given):
            missing, extra = sorted(set(fitted) - set(given)), sorted(set(given) - set(fitted))
            raise MismatchError(
                f"the model was fitted to {len(fitted)} channels, the data have {len(given)}; "
                f"missing in the data: {_few(missing)}; unknown to the model: {_few(extra)}"
            )
        place = {channel: i for i, channel in enumerate(given)}
        return list(self.signature["sessions"]).index(name), ds.isel(channel=[place[channel] for channel in fitted])


def _train_and_valid(ds: xr.Dataset, batch: Batch, config: FitConfig) -> tuple[Batch, Batch]:
    split_of = ds["split"].values
    rows = {
        part: torch.from_numpy(np.flatnonzero(split_of == part)).to(batch.trials.device) for part in ("train", "valid")
    }
    hidden = _hidden(ds, batch, config)
    never_shown = batch.observed & ~batch.shown
    valid = masks.score_only(masks.hide(batch, hidden), hidden | never_shown).select(rows["valid"])
    if not valid.scored.any():
        raise DataError(
            "the validation trials hold no observed entry to compare models on; use more trials or channels"
        )
    if likelihood_of(ds, config) == "poisson" and not valid.values[valid.scored].any():
        raise DataError(
            f"the {int(valid.scored.sum())} hidden entries of the {len(rows['valid'])} validation trials hold no spike to "
            "compare models on; hide more (--set masks.hidden=0.4), keep more trials for validation (--set valid=0.3), or "
            "take wider bins"
        )
    return batch.select(rows["train"]), valid


def _hidden(ds: xr.Dataset, batch: Batch, config: FitConfig) -> Tensor:
    """Mark the entries of the validation trials that no model sees: a fixed draw by the seed."""
    generator = torch.Generator().manual_seed(config.seed)
    cpu = batch.to("cpu")
    valid = torch.from_numpy(ds["split"].values == "valid")
    return (masks.sample_validation(cpu, config.masks.hidden, generator) & valid[:, None, None]).to(batch.values.device)


def _device(config: FitConfig) -> str:
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but this machine has no GPU that torch can use; leave it at 'auto', or install the torch "
            "build for your GPU"
        )
    return config.device


def _channel_names(ds: xr.Dataset) -> list[str]:
    ids = [str(i) for i in ds["channel_id"].values]
    if "table" not in ds.coords:
        return ids
    return [f"{table}:{i}" for table, i in zip(ds["table"].values, ids, strict=True)]


def _digest(ds: xr.Dataset) -> str:
    digest = hashlib.sha256()
    for array in (ds["values"], ds["observed"], ds["split"]):
        digest.update(
            np.ascontiguousarray(array.values.astype(str) if array.dtype == object else array.values).tobytes()
        )
    return digest.hexdigest()


def _hold_out(ds: xr.Dataset, config: FitConfig) -> xr.Dataset:
    """Mark the channels that are never shown, where the settings ask for it and the data do not say which."""
    if not config.masks.held_out_channels or "held_out" in ds.coords:
        return ds
    n_channels = ds.sizes["channel"]
    n_held_out = round(config.masks.held_out_channels * n_channels)
    if not 0 < n_held_out < n_channels:
        raise DataError(
            f"holding out {config.masks.held_out_channels:g} of {n_channels} channels leaves {n_held_out} held out; "
            "at least one must be held out and one shown"
        )
    held_out = np.zeros(n_channels, bool)
    held_out[np.random.default_rng(config.seed).permutation(n_channels)[:n_held_out]] = True
    return ds.assign_coords(held_out=("channel", held_out))


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "none"


def _signature(sessions: dict[str, xr.Dataset], config: FitConfig) -> dict[str, Any]:
    likelihoods = {likelihood_of(ds, config) for ds in sessions.values()}
    if len(likelihoods) > 1:
        raise DataError(f"the sessions want different likelihoods, {sorted(likelihoods)}; set one with `likelihood`")
    described = {}
    for name, ds in sessions.items():
        channels = _channel_names(ds)
        if len(set(channels)) < len(channels):
            raise DataError(f"channels of session {name!r} share an id; each channel needs its own")
        described[name] = {
            "channels": channels,
            "bin_width": ds.attrs["bin_width"],
            "kind": ds.attrs["kind"],
            "trials": ds.sizes["trial"],
            "bins": ds.sizes["time"],
            "data_sha256": _digest(ds),
            "source": json.loads(ds.attrs["source"]) if "source" in ds.attrs else None,
            "read_config": json.loads(ds.attrs["read_config"]) if "read_config" in ds.attrs else None,
            "offsets": json.loads(ds.attrs["offsets"]) if "offsets" in ds.attrs else None,
        }
    return {"format": checkpoint.FORMAT, "likelihood": likelihoods.pop(), "sessions": described}
