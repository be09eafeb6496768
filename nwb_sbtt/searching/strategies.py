"""The strategies of a search, by Ray's own schedulers and searchers.

This module imports Ray and Optuna; it is imported when a search begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from nwb_sbtt.searching.record import Record, TrialRow
from nwb_sbtt.searching.space import Dimension, choice_of, draw, plain, seed_of_trial

SCORE, EPOCH = "score", "epoch"
MODE = "min"


def param_space(waiting: Sequence[TrialRow]) -> dict[str, Any]:
    """Return the trials to run, where they are known before the first: as Ray's grid of one setting, the trial.

    Parameters
    ----------
    waiting : sequence of TrialRow
    """
    return {"trial": tune.grid_search([_trial(row) for row in waiting])}


def new_rows(record: Record, start: Mapping[str, Any]) -> list[TrialRow]:
    """Draw the settings of all trials that are not there yet; they follow from the seed and their numbers.

    Parameters
    ----------
    record : Record
    start : mapping of name to value
        Settings of trial 0.
    """
    missing = [number for number in range(record.search.trials) if number not in record.rows]
    return [
        TrialRow(
            number,
            start if number == 0 else draw(record.space, record.search.seed, number),
            seed_of_trial(record.fit, number),
        )
        for number in missing
    ]


def scheduler_of(record: Record) -> TrialScheduler:
    """Make the scheduler of a strategy: none stops a random trial, ASHA those of Optuna; a population exploits and explores.

    Parameters
    ----------
    record : Record

    Returns
    -------
    TrialScheduler
    """
    search, epochs = record.search, record.fit.train.epochs
    assert epochs is not None
    if search.strategy == "optuna":
        grace = min(epochs, max(1, round(search.grace * epochs)))
        return Halving(record, max_t=epochs, grace_period=grace, reduction_factor=search.reduction)
    if search.strategy == "random":
        return FIFOScheduler()
    domains = {each.name: each.domain() for each in record.space}
    furthest = max((row.epoch for row in record.rows.values()), default=0)
    generator = np.random.default_rng([search.seed, sum(row.epoch for row in record.rows.values())])

    def explore(config: dict[str, Any]) -> dict[str, Any]:
        """Change what was taken over, as AutoLFADS does: log-uniformly, within a factor of each setting's own."""
        point = config["trial"]["point"]
        for each in record.space:
            if each.name in point:
                point[each.name] = each.perturbed(point[each.name], generator)
        return config

    return Population(
        time_attr=EPOCH,
        perturbation_interval=record.piece,
        # Members that an interruption left behind catch up first.
        burn_in_period=record.piece * (furthest // record.piece + 1),
        hyperparam_mutations={"trial": {"point": domains}},
        quantile_fraction=search.quantile,
        resample_probability=search.resample,
        perturbation_factors=(1.0, 1.0),  # `explore` does it
        custom_explore_fn=explore,
        synch=True,
        log_config=False,
    )


class Population(PopulationBasedTraining):
    """Population-based training, which goes on when a member that all others wait for breaks down."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the next member that trains; None while a generation waits for those that do.

        Parameters
        ----------
        tune_controller
            As Ray gives it.
        """
        chosen = super().choose_trial_to_run(tune_controller)
        live = tune_controller.get_live_trials()
        if chosen is None and live and all(trial.status == trial.PAUSED for trial in live):
            # A generation ends with its last result, and the last of its members has none: an earlier one ends it.
            first = min(live, key=lambda trial: trial.trial_id)
            self.on_trial_result(tune_controller, first, first.last_result)
            chosen = super().choose_trial_to_run(tune_controller)
        return chosen


class Halving(ASHAScheduler):
    """Asynchronous successive halving among all trials of a search, those of earlier processes included.

    Parameters
    ----------
    record : Record
    options : float
        Of Ray's `ASHAScheduler`.
    """

    def __init__(self, record: Record, **options: float) -> None:
        super().__init__(EPOCH, **options)
        self._rows = record.rows

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Take over what trials are compared by, and compare those that ended before this process began.

        Parameters
        ----------
        metric, mode, spec
            As Ray gives them.
        """
        is_set: bool = super().set_search_properties(metric, mode, **spec)
        for row in self._rows.values():
            if row.state in ("finished", "stopped"):
                self._replay(SimpleNamespace(trial_id=f"earlier-{row.number}"), row)
        return is_set

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take in a trial, with the pieces that it did in an earlier process.

        Parameters
        ----------
        tune_controller, trial
            As Ray gives them.
        """
        row = self._rows.get(trial.config["trial"]["number"])
        if row is None:
            super().on_trial_add(tune_controller, trial)
        else:
            self._replay(trial, row)

    def _replay(self, trial: Any, row: TrialRow) -> None:
        super().on_trial_add(None, trial)
        for step in row.steps:
            self.on_trial_result(None, trial, {EPOCH: step.epoch, SCORE: step.score})


class NumberedSearch(Searcher):
    """Optuna's suggestions, with numbers; first come the trials that an earlier process left unfinished, and the defaults.

    Parameters
    ----------
    record : Record
        Its finished trials are told to Optuna.
    waiting : sequence of TrialRow
        Trials that are known already.
    """

    def __init__(self, record: Record, waiting: Sequence[TrialRow]) -> None:
        super().__init__(metric=SCORE, mode=MODE)
        self._space = {each.name: each for each in record.space}
        self._waiting, self._next = list(waiting), 1 + max((*record.rows, *(row.number for row in waiting)), default=-1)
        self._last, self._fit = record.search.trials, record.fit
        # Another stream after each interruption, or a resumed search would draw what it has drawn before.
        seed = int(np.random.SeedSequence([record.search.seed, len(record.rows)]).generate_state(1)[0])
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8)
        self._optuna = OptunaSearch(
            {name: each.distribution() for name, each in self._space.items()}, metric=SCORE, mode=MODE, sampler=sampler
        )
        for row in record.rows.values():
            if row.steps and row.state in ("finished", "stopped"):
                self._tell(row, row.score)
        self._of_optuna: set[str] = set()
        self._known: dict[str, TrialRow] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial; Ray's word for the end after the last, and None where there is none yet.

        Parameters
        ----------
        trial_id : str
        """
        if self._waiting:
            row = self._known[trial_id] = self._waiting.pop(0)
            return {"trial": _trial(row)}
        if self._next >= self._last:
            return Searcher.FINISHED
        suggested = self._optuna.suggest(trial_id)
        if suggested is None:
            return None
        self._of_optuna.add(trial_id)
        number, self._next = self._next, self._next + 1
        point = {name: choice_of(self._space[name], value) for name, value in suggested.items()}
        return {"trial": _trial(TrialRow(number, point, seed_of_trial(self._fit, number)))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna of a piece.

        Parameters
        ----------
        trial_id : str
        result : dict
            Of `nwb_sbtt.searching.trial.FitTrial.step`.
        """
        if trial_id in self._of_optuna and math.isfinite(result[SCORE]):
            self._optuna.on_trial_result(trial_id, {**result, "training_iteration": result[EPOCH]})

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended.

        Parameters
        ----------
        trial_id : str
        result : dict, optional
            The last.
        error : bool
            Whether it broke down.
        """
        failed = error or result is None or not math.isfinite(result.get(SCORE, math.inf))
        if trial_id in self._of_optuna:
            self._optuna.on_trial_complete(trial_id, None if failed else result, error=failed)
        elif result is not None and not failed:
            self._tell(self._known[trial_id], result[SCORE])

    def _tell(self, row: TrialRow, score: float) -> None:
        """Tell Optuna of a trial that it did not suggest in this process."""
        if _is_inside(row, self._space.values()) and math.isfinite(score):
            self._optuna.add_evaluated_point(point_for_optuna(row.settings), score)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the record of the search holds all.

        Parameters
        ----------
        checkpoint_path : str
        """

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing.

        Parameters
        ----------
        checkpoint_path : str
        """


def importance(record: Record) -> dict[str, float]:
    """Compute how much of the spread of the scores each setting explains (fANOVA, by Optuna).

    Parameters
    ----------
    record : Record

    Returns
    -------
    dict of name to float
        Shares that sum to 1, the largest first; empty with fewer than four scored trials, or where all scores are equal.
    """
    scored = [row for row in record.ranked if _is_inside(row, record.space) and math.isfinite(row.score)]
    if len(scored) < 4 or len({row.score for row in scored}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="minimize")
    distributions = {each.name: each.distribution() for each in record.space}
    for row in scored:
        study.add_trial(
            optuna.trial.create_trial(
                params=point_for_optuna(row.settings), distributions=distributions, value=row.score
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def point_for_optuna(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is searched of a trial, as Optuna has it.

    Parameters
    ----------
    settings : mapping of name to value
    """
    return {name: plain(value) for name, value in settings.items()}


def _is_inside(row: TrialRow, space: Iterable[Dimension]) -> bool:
    """Whether a trial is one of those that could be drawn; the defaults need not be."""
    return all(each.name in row.settings and each.contains(row.settings[each.name]) for each in space)


def _trial(row: TrialRow) -> dict[str, Any]:
    return {"number": row.number, "seed": row.seed, "point": dict(row.settings)}
