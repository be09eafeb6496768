"""What is searched: settings with ranges or choices, as text, and as Ray and Optuna take them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from nwb_sbtt.config import FitConfig, override
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.searching.spaces import SPACES

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from ray.tune.search.sample import Domain

FIXED = {
    "model.name": "one search is for one model",
    "likelihood.name": "losses of different likelihoods cannot be compared",
    "masks.sample_validation": "trials must have the same hidden entries to be compared",
    "masks.mask_length": "trials must have the same hidden entries to be compared",
    "masks.held_out_channels": "trials must have the same hidden entries to be compared",
    "valid_fraction": "trials must have the same validation trials to be compared",
    "test_fraction": "all trials keep the same trials for the test",
    "seed": "trials must have the same validation trials to be compared; search train.seed instead",
    "seeds": "each trial is one model; --ensemble averages the best",
    "device": "it changes no result",
    "threads": "it changes no result",
    "posterior_samples": "it has no effect on training",
    "train.epochs": "trials must have equally many epochs to be compared",
    "train.max_minutes": "trials must have equally many epochs to be compared",
    "train.checkpoint_every": "it changes no result",
}
"""Settings that cannot be searched, and why."""
_PAIRS = ("masks.coordinated_dropout",)
"""Settings that are a lowest and a highest value: a single number is both."""
_SHAPES = ("train.batch_size", "train.epochs", "train.seed", "train.patience")
"""Training settings that cannot change in the middle of training."""
_RANGE = re.compile(r"(log|uniform)\(\s*([^,()]+?)\s*,\s*([^,()]+?)\s*\)")


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched.

    Parameters
    ----------
    name : str
        Dotted name.
    low, high : float
        Of a range, both included.
    log : bool
        Whether the range is searched by orders of magnitude.
    integer : bool
        Whether values are whole numbers.
    values : tuple
        Choices; empty for a range.
    explore : float
        A population multiplies a value that is taken over by up to 1 + this, or divides it by it.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    values: tuple[Any, ...] = ()
    explore: float = 0.3

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All choices, or the two ends of the range."""
        return self.values or ((int(self.low), int(self.high)) if self.integer else (self.low, self.high))

    def __str__(self) -> str:
        if self.values:
            return f"{self.name}={json.dumps(list(self.values))}"
        return f"{self.name}={'log' if self.log else 'uniform'}({self.extremes[0]:g}, {self.extremes[1]:g})"

    def domain(self) -> Domain:
        """Return the values as Ray draws them."""
        from ray import tune

        if self.values:
            return tune.choice(list(self.values))
        if self.integer:
            low, high = int(self.low), int(self.high) + 1
            return tune.lograndint(low, high) if self.log else tune.randint(low, high)
        return tune.loguniform(self.low, self.high) if self.log else tune.uniform(self.low, self.high)

    def distribution(self) -> BaseDistribution:
        """Return the values as Optuna draws them; choices that are no plain values as JSON, see `plain`."""
        from optuna import distributions

        if self.values:
            return distributions.CategoricalDistribution([plain(value) for value in self.values])
        if self.integer:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        """Return whether a value is one of those searched.

        Parameters
        ----------
        value : number or choice
        """
        if self.values:
            return value in self.values
        return isinstance(value, int | float) and self.low <= value <= self.high

    def perturbed(self, value: Any, generator: np.random.Generator) -> Any:
        """Change a value a little: log-uniform within a factor of 1 + `explore`, inside the range; a choice stays.

        Parameters
        ----------
        value : number or choice
        generator : numpy.random.Generator
        """
        if self.values:
            return value
        step = np.log1p(self.explore)
        changed = float(np.clip(value * np.exp(generator.uniform(-step, step)), self.low, self.high))
        return round(changed) if self.integer else changed


def make_space(texts: Sequence[str], fit: FitConfig, *, strategy: str) -> tuple[Dimension, ...]:
    """Read and check what is searched, before the first trial.

    Parameters
    ----------
    texts : sequence of str
        Such as ``"train.learning_rate=log(1e-4, 1e-2)"``; none for the table of the model (`nwb_sbtt.searching.spaces`).
    fit : FitConfig
        Settings that every trial starts from.
    strategy : str
        Of a population ("pbt") only settings can be searched that may change in the middle of training.

    Returns
    -------
    tuple of Dimension

    Raises
    ------
    ConfigError
        If a text cannot be read, or a setting is unknown, cannot be searched, or does not take all of its values.

    Examples
    --------
    >>> [dimension] = make_space(["train.learning_rate=log(1e-4, 1e-2)"], FitConfig(), strategy="random")
    >>> dimension.high
    0.01
    """
    given = list(texts)
    if not given:
        if fit.model.name not in SPACES:
            raise ConfigError(
                f"there is no default search space for the model {fit.model.name!r}; name settings with --space, such "
                "as 'train.learning_rate=log(1e-4, 1e-2)'"
            )
        given = [row.text for row in SPACES[fit.model.name]]
        if strategy == "pbt":
            given = [text for text in given if _may_change(_dimension(text, fit), fit)]
    explore = {row.text: row.explore for row in SPACES.get(fit.model.name, ())}
    found: dict[str, Dimension] = {}
    for text in given:
        dimension = _dimension(text, fit, explore.get(text, 0.3))
        if dimension.name in found:
            raise ConfigError(f"{dimension.name!r} is searched twice; put all its values into one --space")
        if dimension.name in FIXED:
            raise ConfigError(f"{dimension.name!r} cannot be searched: {FIXED[dimension.name]}")
        if dimension.name.startswith(("init.", "sessions.", "read.")):
            raise ConfigError(
                f"{dimension.name!r} cannot be searched: all trials must be fits of the same data with the same reading"
            )
        for value in dimension.extremes:
            settings_with(fit, {dimension.name: value})
        if strategy == "pbt" and not _may_change(dimension, fit):
            raise ConfigError(
                f"{dimension.name!r} cannot change during training, as population-based training requires; search it "
                "with --strategy optuna"
            )
        found[dimension.name] = dimension
    return tuple(found.values())


def settings_with(fit: FitConfig, point: Mapping[str, Any]) -> FitConfig:
    """Return the settings of a trial.

    Parameters
    ----------
    fit : FitConfig
        What every trial starts from.
    point : mapping of dotted name to value
        What is searched; a single number for a lowest and a highest value (``masks.coordinated_dropout``) is both.

    Returns
    -------
    FitConfig

    Raises
    ------
    ConfigError
        If a value is not allowed, alone or with the others.
    """
    values = {
        name: [value, value] if name in _PAIRS and isinstance(value, int | float) else value
        for name, value in point.items()
    }
    return override(fit, [f"{name}={json.dumps(value)}" for name, value in values.items()])


def seed_of_trial(fit: FitConfig, number: int) -> int | None:
    """Return the training seed of a trial, as `nwb_sbtt.fitting.ensemble` draws those of members.

    Parameters
    ----------
    fit : FitConfig
        What every trial starts from.
    number : int

    Returns
    -------
    int or None
        None for trial 0: that of `fit`.
    """
    if number == 0:
        return None
    return int(np.random.SeedSequence([fit.training_seed, number]).generate_state(1)[0])


def value_in(fit: FitConfig, name: str) -> Any:
    """Return the value of a setting, as a dimension has it: of a lowest and highest value that are equal, the number.

    Parameters
    ----------
    fit : FitConfig
    name : str
        Dotted.
    """
    value: Any = fit.model_dump(mode="json")
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if name in _PAIRS and isinstance(value, list) and value[0] == value[1]:
        return value[0]
    return value


def draw(space: Iterable[Dimension], seed: int, number: int) -> dict[str, Any]:
    """Draw the settings of a trial, which follow from the seed and its number.

    Parameters
    ----------
    space : iterable of Dimension
    seed, number : int

    Returns
    -------
    dict of name to value
    """
    generator = np.random.default_rng([seed, number])
    return {each.name: _python(each.domain().sample(random_state=generator)) for each in space}


def plain(value: Any) -> Any:
    """Return a choice as Optuna takes it: lists as JSON.

    Parameters
    ----------
    value : JSON value
    """
    return json.dumps(value) if isinstance(value, list | dict) else value


def choice_of(dimension: Dimension, value: Any) -> Any:
    """Return the choice that Optuna has drawn, as it was given.

    Parameters
    ----------
    dimension : Dimension
    value : plain value
    """
    return next((each for each in dimension.values if plain(each) == value), value)


def _dimension(text: str, fit: FitConfig, explore: float = 0.3) -> Dimension:
    name, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise _unreadable(text)
    if match := _RANGE.fullmatch(values):
        kind, low, high = match.group(1), _number(match.group(2), text), _number(match.group(3), text)
        if not low < high:
            raise ConfigError(f"{text!r}: expected the smaller number first")
        if kind == "log" and low <= 0:
            raise ConfigError(f"{text!r}: a logarithmic range must start above 0")
        whole = low.is_integer() and high.is_integer() and not _takes(fit, name, low + 0.5)
        return Dimension(name, low, high, kind == "log", whole, explore=explore)
    try:
        choices = yaml.safe_load(values)
    except yaml.YAMLError:
        raise _unreadable(text) from None
    if not isinstance(choices, list) or len(choices) < 2:
        raise _unreadable(text)
    if any(value in choices[:i] for i, value in enumerate(choices)):
        raise ConfigError(f"{text!r} has the same choice twice; remove one")
    return Dimension(name, values=tuple(_exact(value) for value in choices))


def _unreadable(text: str) -> ConfigError:
    return ConfigError(
        f"{text!r} should name a setting and its values: NAME=log(LOW, HIGH), NAME=uniform(LOW, HIGH) or NAME=[A, B, …]"
    )


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(f"{whole!r}: {text!r} is not a number") from None
    if not np.isfinite(number):
        raise ConfigError(f"{whole!r}: {text!r} is not a finite number")
    return number


def _exact(value: Any) -> Any:
    """What YAML reads as text though it is a number, such as 1e-3."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _takes(fit: FitConfig, name: str, value: float) -> bool:
    try:
        settings_with(fit, {name: value})
    except ConfigError:
        return False
    return True


def _may_change(dimension: Dimension, fit: FitConfig) -> bool:
    """Whether a setting may change in the middle of training: what decides on no weight's shape and on no schedule's length."""
    if dimension.name.startswith("train."):
        return dimension.name not in _SHAPES
    if dimension.name in _PAIRS:
        return True
    # Of a model's settings sizes are whole numbers.
    return dimension.name.startswith("model.") and not dimension.integer and not dimension.values


def _python(value: Any) -> Any:
    """A plain number, which JSON takes."""
    return value.item() if isinstance(value, np.generic) else value
