"""The training loop. All its random numbers follow from (seed, epoch), so a resumed fit equals an undisturbed one."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from nwb_sbtt import stopping
from nwb_sbtt.atomic import write_text
from nwb_sbtt.batch import Batch, generator_on, precise_dtype
from nwb_sbtt.config import FitConfig
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.fileerrors import FileErrors, check_is_file
from nwb_sbtt.masks import coordinated_dropout
from nwb_sbtt.models.base import Model
from nwb_sbtt.models.dynamics import Dynamics
from nwb_sbtt.train import checkpoint, schedules
from nwb_sbtt.train.checkpoint import BEST, DYNAMICS, LAST, LOG, Progress
from nwb_sbtt.train.dynamics import is_regular, learn, load_dynamics, save_dynamics, simulated
from nwb_sbtt.train.group import Group, group
from nwb_sbtt.train.objective import Loss, Weights, objective, validation_score
from nwb_sbtt.train.shares import weigh_against
from nwb_sbtt.train.trackers import EpochRecord, Tracker

_ADVICE = (
    "try a lower learning rate (--set train.learning_rate={}; the run folder may be the same), and check the data for "
    "outliers"
)

_RECORD = TypeAdapter(EpochRecord)
VALIDATED_AT_ONCE = 256
"""Trials of a piece (`Batch.pieces`)."""
REFITS = (0.1, 0.25, 0.5)
"""Shares of training after which kinetics are refitted."""
_LEARNING = 2**31
"""In place of the number of a batch, where a system is learned after an epoch."""


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Parameters
    ----------
    model : Model
        With the weights of the best epoch, in evaluation mode.
    history : list of EpochRecord
    progress : Progress
    dynamics : Dynamics or None
        The system that was learned, if one was.
    """

    model: Model
    history: list[EpochRecord]
    progress: Progress
    dynamics: Dynamics | None


def train(
    model: Model,
    sessions: list[tuple[Batch, Batch]],
    *,
    config: FitConfig,
    run_dir: Path,
    tracker: Tracker,
    mask_length: int = 1,
    bin_widths: Mapping[str, float],
    chosen: bool = False,
    until: int | None = None,
) -> Trained:
    """Train a model, or resume from the checkpoint of the run folder.

    Parameters
    ----------
    model : Model
        Changed in place.
    sessions : list of (training batch, validation batch)
        All trials of each session. Coordinated dropout masks the training batch anew at every step; the masks of the
        validation batch are fixed.
    config : FitConfig
    run_dir : Path
        Gets ``last.safetensors``, ``best.safetensors`` and ``log.jsonl``; where a system is learned, ``dynamics.safetensors``.
    tracker : Tracker
        Receives the numbers of each epoch, and how far a system is learned.
    mask_length : int
        Bins of a channel that coordinated dropout hides together.
    bin_widths : mapping of session to float
        Seconds. A model that infers rates from fluorescence refits the kinetics a few times in training.
    chosen : bool
        Whether channels were chosen by earlier values, so that masks tell a model of hidden entries.
    until : int, optional
        Epoch after which this call saves the state and returns; schedules stay those of the whole training.

    Returns
    -------
    Trained

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite; the message names epoch, batch and term.
    FileError
        If a state cannot be saved, as on a full disk: training ends there, and the same call resumes it.
    Stopped
        If that was requested (`nwb_sbtt.stopping`), after the state was saved; the same call resumes it.
    """
    plan = schedules.plan(config, [len(batch.trials) for batch, _ in sessions])
    balanced = config.sessions.sampling == "balanced"
    run = _Run(model, config, run_dir, plan, mask_length, chosen)
    refits = {max(1, round(share * plan.epochs)) for share in REFITS} if model.infers_rates else set()
    started = time.monotonic() - run.progress.seconds
    if not run.progress.finished:
        tracker.start(plan.epochs + plan.further_epochs, run.progress.epoch)
    while not run.progress.finished:
        if run.is_to_learn():
            run.learn(sessions, tracker)
            continue
        if until is not None and run.progress.epoch >= until:
            break
        earlier = run.progress.first_epochs
        total_steps = (plan.further_epochs if earlier else plan.epochs) * plan.steps_per_epoch
        epoch = run.progress.epoch + 1
        generator = _generator(config.training_seed, epoch, sessions[0][0].device)
        step_terms: list[Tensor] = []
        model.train()
        pieces = _minibatches([batch for batch, _ in sessions], plan.batch_size, generator, balanced=balanced)
        for i, first in enumerate(range(0, len(pieces), plan.batches_per_step)):
            step = (epoch - 1 - earlier) * plan.steps_per_epoch + i
            numbers = range(first, min(first + plan.batches_per_step, len(pieces)))
            drawn = [
                (sessions[pieces[j][0]][0].select(pieces[j][1]), run.generator_of(epoch, j, generator))
                for j in run.group.share(numbers)
            ]
            step_terms.append(run.step(drawn, len(numbers), step, total_steps=total_steps))
        terms = torch.stack(step_terms).cpu().double()
        _raise_unless_finite(terms, epoch, plan)
        if epoch in refits:
            for batch, _ in sessions:
                run.refit(run.mask(batch, generator), bin_width=bin_widths[batch.session])
        score = run.validate([batch for _, batch in sessions])
        if not math.isfinite(score):
            raise TrainingError(
                f"the validation score of epoch {epoch} is {score}; {_ADVICE.format(_lower_rate(plan))}"
            )
        better = score < run.progress.best_score
        run.progress = replace(
            run.progress,
            epoch=epoch,
            step=epoch * plan.steps_per_epoch,
            best_epoch=epoch if better else run.progress.best_epoch,
            best_score=score if better else run.progress.best_score,
            seconds=time.monotonic() - started,
        )
        if better:
            run.keep_best()
        train_loss, kl, gradient_norm = terms[:, 1:].mean(0).tolist()
        rate = schedules.learning_rate(plan, (epoch - earlier) * plan.steps_per_epoch / total_steps)
        run.history.append(
            EpochRecord(
                epoch,
                train_loss,
                kl,
                score,
                run.progress.best_epoch,
                rate,
                gradient_norm,
                round(run.progress.seconds, 3),
            )
        )
        tracker.epoch(run.history[-1])
        run.progress = replace(run.progress, finished="" if run.is_to_learn() else run.reason_to_end())
        if run.progress.finished:
            run.weigh(sessions)
        is_last, is_asked = bool(run.progress.finished) or epoch == until, stopping.is_requested()
        if is_last or is_asked or run.is_to_learn() or epoch % config.train.checkpoint_every == 0:
            run.save()
        if is_asked and not is_last:
            raise stopping.Stopped
    model.load_state_dict(run.best)
    return Trained(model.eval(), run.history, run.progress, run.dynamics)


class _Run:
    """State of training: what changes in its course is saved together."""

    def __init__(
        self,
        model: Model,
        config: FitConfig,
        run_dir: Path,
        plan: schedules.Plan,
        mask_length: int,
        chosen: bool = False,
    ):
        self.model, self.config, self.run_dir, self.plan, self.mask_length = model, config, run_dir, plan, mask_length
        self.chosen = chosen
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        tables = {name: p for name, p in trained.items() if p.dim() > 1}
        self.parameters = tables | trained
        self.averages = [dict(self.average.named_parameters())[name] for name in self.parameters]
        self.optimizer = self._new_optimizer()
        self.progress, self.history = Progress(), list[EpochRecord]()
        self.dynamics: Dynamics | None = None
        self.best = _copy(self.average)
        self.group: Group = group()
        if (run_dir / LAST).exists():
            self._restore()

    def _new_optimizer(self) -> torch.optim.AdamW:
        tables = [p for p in self.parameters.values() if p.dim() > 1]
        vectors = [p for p in self.parameters.values() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [{"params": tables}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(
            groups,
            self.plan.learning_rate,
            weight_decay=self.plan.weight_decay,
            fused=self.averages[0].device.type != "meta",
        )

    def is_to_learn(self) -> bool:
        """Whether training is over but for the system that is to be learned."""
        over = _over(self.progress, self.plan)
        return self.config.system is not None and self.dynamics is None and bool(over)

    def learn(self, sessions: Sequence[tuple[Batch, Batch]], tracker: Tracker) -> None:
        """Learn a system from what the best weights infer; further training starts from these."""
        assert self.config.system is not None
        for model in (self.model, self.average):
            model.load_state_dict(self.best)
        batches = [batch for batch, _ in sessions]
        generator = _generator(self.config.training_seed, self.progress.epoch, batches[0].device, _LEARNING)
        try:
            self.dynamics = learn(
                self.average,
                batches,
                self.config.system,
                generator,
                with_markov=not self.chosen and self.config.lag is None,
                tracker=tracker,
            )
        except TrainingError as error:
            # The model is as good as without a system, and took most of the time.
            self.progress = replace(self.progress, finished=f"{_over(self.progress, self.plan)}; {error}")
            self.save()
            return
        # Machines of other kinds may round otherwise.
        self.group.take_from_leader(list(self.dynamics.state_dict().values()))
        self.optimizer = self._new_optimizer()
        self.progress = replace(self.progress, first_epochs=self.progress.epoch)
        self.progress = replace(self.progress, finished=self.reason_to_end())
        if self.progress.finished:
            self.weigh(sessions)
        elif self.group.leads:
            save_dynamics(self.dynamics, self.run_dir / DYNAMICS)
        self.save()

    def weigh(self, sessions: Sequence[tuple[Batch, Batch]]) -> None:
        """Decide how much the system is worth beside the best weights, and store it with that; a model with a lag goes without.

        A lag bounds what an estimate may depend on, and courses are weighed by all of a trial.
        """
        if self.dynamics is None:
            return
        if self.config.lag is None:
            self.average.load_state_dict(self.best)
            training, validation = zip(*sessions, strict=True)
            weigh_against(
                self.dynamics, self.average, validation, biased=self.chosen or is_regular(self.model, training)
            )
        if self.group.leads:
            save_dynamics(self.dynamics, self.run_dir / DYNAMICS, of=checkpoint.digest(self.best))

    def generator_of(self, epoch: int, number: int, generator: torch.Generator) -> torch.Generator:
        """Return the source of a batch's random numbers: its own where a step has several, whoever computes it."""
        if self.plan.batches_per_step == 1:
            return generator
        return _generator(self.config.training_seed, epoch, generator.device, number)

    def step(
        self, drawn: Sequence[tuple[Batch, torch.Generator]], n_batches: int, number: int, *, total_steps: int
    ) -> Tensor:
        """Take one optimiser step by the mean gradient of its batches, of which these are computed here.

        Returns means of total, reconstruction and KL, and the norm of the gradient.
        """
        settings, share = self.config.train, number / total_steps
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = schedules.learning_rate(self.plan, share)
        self.optimizer.zero_grad()
        weights = schedules.weights(settings, share if self.dynamics is None else 1.0)
        terms = torch.zeros(3, device=self.averages[0].device)
        for batch, generator in drawn:
            for part, loss in self._losses(batch, generator, weights):
                weight = part / n_batches
                (loss.total * weight).backward()  # type: ignore[no-untyped-call]
                terms += torch.stack([loss.total.detach(), loss.reconstruction, loss.kl]) * weight
        self.group.add_up_gradients(list(self.parameters.values()))
        terms = self.group.add_up(terms)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), settings.gradient_clip)
        self.optimizer.step()
        decay = min(settings.ema_decay, (1 + number) / (10 + number))
        with torch.no_grad():
            for average, parameter in zip(self.averages, self.parameters.values(), strict=True):
                average.lerp_(parameter, 1 - decay)
        return torch.cat([terms, norm.detach().reshape(1)])

    def _losses(self, batch: Batch, generator: torch.Generator, weights: Weights) -> Iterator[tuple[float, Loss]]:
        """Losses of a batch, each with its weight: of the batch itself or, once there is a system, of what it simulates too."""
        n_trials = len(batch.trials)
        n_simulated = 0 if self.dynamics is None else round(self.dynamics.config.simulated * n_trials)
        if self.dynamics is not None and n_simulated:
            simulated_batch, target = simulated(self.dynamics, batch.select(torch.arange(n_simulated)), generator)
            loss = objective(self.model, simulated_batch, generator, weights, target=target)
            yield n_simulated / n_trials, loss
            batch = batch.select(torch.arange(n_simulated, n_trials))
        if n_simulated < n_trials:
            yield 1 - n_simulated / n_trials, objective(self.model, self.mask(batch, generator), generator, weights)

    def mask(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Draw the hidden and scored entries of a step."""
        low, high = self.plan.coordinated_dropout
        # In double precision, as Python's numbers are, and left on the device, so that no step waits for it.
        position = torch.rand((), generator=generator, device=batch.device).to(precise_dtype(batch.device))
        rate = low + (high - low) * position
        return coordinated_dropout(batch, rate, generator, mask_length=self.mask_length) if high else batch

    def refit(self, batch: Batch, *, bin_width: float) -> None:
        """Refit the kinetics of a session with the averaged weights, for the model and its average."""
        statistics = self.average.refit(batch, bin_width=bin_width)
        if statistics is not None:
            for model in (self.model, self.average):
                model.set_statistics(batch.session, statistics)
                # Machines of other kinds may round otherwise.
                self.group.take_from_leader(list(model.state_dict().values()))

    def validate(self, batches: list[Batch]) -> float:
        """Compute the held-out negative log-likelihood of the averaged weights, in nats per scored entry."""
        with torch.no_grad():
            pieces = [(batch, rows) for batch in batches for rows in batch.pieces(VALIDATED_AT_ONCE)]
            scores = [
                validation_score(self.average, batch.select(rows))
                for batch, rows in (pieces[i] for i in self.group.share(range(len(pieces))))
            ]
        if self.group.size == 1:
            return float(sum(total for total, _ in scores)) / max(1, sum(n for _, n in scores))
        total, n = sum(float(each) for each, _ in scores), sum(n for _, n in scores)
        device = batches[0].device
        added = self.group.add_up(torch.tensor([total, n], dtype=precise_dtype(device), device=device)).tolist()
        return float(added[0]) / max(1.0, float(added[1]))

    def reason_to_end(self) -> str:
        """Why training ends here, or an empty text; clocks differ, so that the leader's decides."""
        minutes = self.config.train.max_minutes
        if minutes is not None and self.group.size > 1:
            seconds = torch.tensor([self.progress.seconds], device=self.averages[0].device)
            self.group.take_from_leader([seconds])
            self.progress = replace(self.progress, seconds=float(seconds))
        return _reason(self.progress, self.plan, minutes)

    def keep_best(self) -> None:
        """Copy the averaged weights as the best ones."""
        self.best = _copy(self.average)

    def save(self) -> None:
        """Write log, best and last checkpoint, in this order; the last one holds the best weights too, for a resumed run."""
        if not self.group.leads:
            return
        try:
            self._write()
        except FileError as error:
            raise FileError(
                f"{error}; training ends after epoch {self.progress.epoch}. Free disk space, or make the folder "
                "writable, and run the same command to resume from the last saved state"
            ) from error

    def _write(self) -> None:
        write_text(self.run_dir / LOG, "".join(json.dumps(asdict(record)) + "\n" for record in self.history))
        self.progress = replace(self.progress, log_sha256=log_digest(self.history))
        checkpoint.save(self.run_dir / BEST, self.best, self.progress)
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best.items()}
        tensors |= checkpoint.pack_optimizer(self.optimizer, list(self.parameters))
        checkpoint.save(self.run_dir / LAST, tensors, self.progress)

    def _restore(self) -> None:
        path = self.run_dir / LAST
        tensors, self.progress = checkpoint.load(path)
        for prefix, module in (("model.", self.model), ("average.", self.average)):
            weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            checkpoint.load_weights(module, weights, path)
        device = next(self.model.parameters()).device
        self.best = {n.removeprefix("best."): t.to(device) for n, t in tensors.items() if n.startswith("best.")}
        if self.progress.first_epochs and self.config.system is not None:
            self.dynamics = load_dynamics(self.run_dir / DYNAMICS, self.model, self.config.system)
        checkpoint.unpack_optimizer(self.optimizer, list(self.parameters), tensors)
        self.history = read_log(self.run_dir, self.progress)


def read_log(run_dir: Path, progress: Progress) -> list[EpochRecord]:
    """Read the numbers of every epoch of a run folder, as far as a checkpoint of it goes.

    Parameters
    ----------
    run_dir : Path
    progress : Progress
        Of the checkpoint, with the digest of these numbers.

    Returns
    -------
    list of EpochRecord

    Raises
    ------
    FileError
        If the file is missing, damaged, or does not have that digest.
    """
    path = run_dir / LOG
    with FileErrors(path, what="the log", hint="restore it from a copy, or fit again in a new folder"):
        check_is_file(path)
        lines = path.read_text(encoding="utf-8").splitlines()[: progress.epoch]
    try:
        records = [_RECORD.validate_json(line) for line in lines]
    except ValueError as error:
        raise _damaged_log(path, f"line {str(error).splitlines()[0]}") from None
    if len(records) != progress.epoch or log_digest(records) != progress.log_sha256:
        raise _damaged_log(path, f"its digest does not match the {progress.epoch} epochs of the training state")
    return records


def log_digest(history: Sequence[EpochRecord]) -> str:
    """Compute the SHA-256 of the numbers of epochs, but for their seconds: a fit resumed after a kill has other seconds.

    Parameters
    ----------
    history : sequence of EpochRecord

    Returns
    -------
    str
        Hexadecimal digest.
    """
    numbers = [{name: value for name, value in asdict(record).items() if name != "seconds"} for record in history]
    return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()


def _damaged_log(path: Path, reason: str) -> FileError:
    return FileError(
        f"{str(path)!r} of the run folder is damaged: {reason}; restore it from a copy, or fit again in a new folder"
    )


def _copy(model: Model) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _generator(seed: int, epoch: int, device: torch.device, *batch: int) -> torch.Generator:
    """Make the generator of all random numbers of an epoch, or of one batch in it, on the device of the data."""
    state = np.random.SeedSequence([seed, epoch, *batch]).generate_state(2)
    return generator_on(device, (int(state[0]) << 31) ^ int(state[1]))


def _minibatches(
    batches: list[Batch], size: int, generator: torch.Generator, *, balanced: bool
) -> list[tuple[int, Tensor]]:
    """Session and rows of each batch: every trial once, shuffled; balanced, as many of each session as of the largest."""
    most = max(math.ceil(len(batch.trials) / size) for batch in batches)
    pieces = [(i, rows) for i, batch in enumerate(batches) for rows in _split(batch, size, generator, most * balanced)]
    return [pieces[j] for j in _shuffled(len(pieces), generator).tolist()]


def _split(batch: Batch, size: int, generator: torch.Generator, least: int) -> list[Tensor]:
    """Rows of a session's trials in batches: each trial once, and then again until there are so many batches."""
    parts: list[Tensor] = []
    while len(parts) < max(least, 1):
        parts += torch.split(_shuffled(len(batch.trials), generator), size)
    return parts[:least] if least else parts


def _shuffled(n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator, device=generator.device).cpu()


def _raise_unless_finite(terms: Tensor, epoch: int, plan: schedules.Plan) -> None:
    invalid = ~terms.isfinite()
    if not invalid.any():
        return
    batch = int(invalid.any(1).nonzero()[0])
    names = ("loss", "reconstruction term", "KL term", "gradient")
    cause = names[next(i for i in (1, 2, 3, 0) if invalid[batch, i])]
    raise TrainingError(
        f"the {cause} of epoch {epoch}, batch {batch + 1} is not finite; {_ADVICE.format(_lower_rate(plan))}"
    )


def _lower_rate(plan: schedules.Plan) -> str:
    return f"{plan.learning_rate / 4:g}"


def _over(progress: Progress, plan: schedules.Plan) -> str:
    """Why the first training or, after it, the further one is over; an empty text while it is not."""
    if progress.first_epochs:
        total = progress.first_epochs + plan.further_epochs
        return f"all {total} epochs finished; best at epoch {progress.best_epoch}" if progress.epoch >= total else ""
    if progress.epoch >= plan.epochs:
        return f"all {plan.epochs} epochs finished; best at epoch {progress.best_epoch}"
    if progress.epoch - progress.best_epoch >= plan.patience:
        return f"no better validation score for {plan.patience} epochs; best at epoch {progress.best_epoch}"
    return ""


def _reason(progress: Progress, plan: schedules.Plan, minutes: float | None) -> str:
    if over := _over(progress, plan):
        return over
    if minutes is not None and progress.seconds > 60 * minutes:
        return (
            f"time limit of {minutes:g} min reached after epoch {progress.epoch}; best at epoch {progress.best_epoch}"
        )
    return ""
