from pathlib import Path

import numpy as np
import pytest

from nwb_sbtt.config import FitConfig, LFADSConfig, build
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.searching.space import Dimension, make_space, settings_with, value_in
from nwb_sbtt.searching.spaces import SPACES


def one(text, fit=None, strategy="optuna"):
    (dimension,) = make_space([text], fit or FitConfig(), strategy=strategy)
    return dimension


def test_ranges_and_choices_are_read():
    assert one("train.learning_rate = log(1e-4, 1e-2)") == Dimension("train.learning_rate", 1e-4, 1e-2, log=True)
    assert one("model.factors=[10, 20, 40]").values == (10, 20, 40)
    assert one("train.weight_decay=[1e-3, 1]").values == (0.001, 1)
    assert one("model.dropout=uniform(0, 0.5)").high == 0.5
    whole = one("model.factors=log(4, 64)")
    assert whole.integer
    assert whole.extremes == (4, 64)
    assert str(whole) == "model.factors=log(4, 64)"
    assert str(one("model.factors=[10,20]")) == "model.factors=[10, 20]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.learning_rate", r"should name a setting and its values: NAME=log\(LOW, HIGH\)"),
        ("train.learning_rate=3", r"should name a setting and its values"),
        ("train.learning_rate=log(1e-2, 1e-4)", r"smaller number"),
        ("train.learning_rate=log(0, 1)", r"must start above 0"),
        ("train.learning_rate=log(a, 1)", r"'a' is not a number"),
        ("train.learning_rate=uniform(-1, 1)", r"'train.learning_rate' is -1"),
        ("train.learning_rat=log(1e-4, 1e-2)", r"unknown setting 'train.learning_rat'; did you mean"),
        ("model.dropout=uniform(0, 1)", r"'model.dropout' is 1"),
        ("model.factors=[10, few]", r"'model.factors' is 'few'; expected integer"),
        ("model.factors=[10, 10]", r"has the same choice twice; remove one"),
        ("model.generator=[10, 20]", r"unknown setting 'model.generator'"),
        ("model.width=[60, 64]", r"width is 60 and groups is 16; expected a width that is a multiple of groups"),
        ("model.name=[conv, lfads]", r"cannot be searched: one search is for one model"),
        ("masks.sample_validation=uniform(0.1, 0.3)", r"must have the same hidden entries"),
        ("train.epochs=[10, 20]", r"must have equally many epochs"),
    ],
)
def test_what_cannot_be_searched_is_one_clear_error(text, message):
    with pytest.raises(ConfigError, match=message):
        make_space([text], FitConfig(), strategy="optuna")


def test_a_setting_is_searched_once():
    with pytest.raises(ConfigError, match="is searched twice"):
        make_space(["model.factors=[1, 2]", "model.factors=[3, 4]"], FitConfig(), strategy="random")


def test_sizes_do_not_change_in_the_middle_of_training():
    with pytest.raises(ConfigError, match=r"'model.factors' cannot change during"):
        one("model.factors=[10, 20]", strategy="pbt")
    with pytest.raises(ConfigError, match=r"'train.batch_size' cannot change"):
        one("train.batch_size=[10, 20]", strategy="pbt")
    assert one("model.dropout=uniform(0, 0.5)", strategy="pbt")


@pytest.mark.parametrize("strategy", ["random", "optuna", "pbt"])
@pytest.mark.parametrize("model", SPACES)
def test_the_tables_of_all_models_can_be_searched(model, strategy):
    fit = build(FitConfig, {"model": model})
    space = make_space([], fit, strategy=strategy)
    assert {"train.learning_rate", "masks.coordinated_dropout", "model.dropout"} <= {each.name for each in space}
    assert all(row.source for row in SPACES[model])


def test_one_number_is_both_ends_of_a_pair():
    fit = settings_with(FitConfig(), {"masks.coordinated_dropout": 0.25, "train.weight_decay": 1e-5})
    assert fit.masks.coordinated_dropout == (0.25, 0.25)
    assert fit.train.weight_decay == 1e-5
    assert value_in(fit, "masks.coordinated_dropout") == 0.25
    assert value_in(FitConfig(), "masks.coordinated_dropout") is None


def test_a_value_is_changed_within_its_factor_and_its_range():
    dimension, generator = Dimension("x", 1.0, 2.0, explore=0.3), np.random.default_rng(0)
    changed = [dimension.perturbed(1.5, generator) for _ in range(2000)]
    assert min(changed) >= 1.5 / 1.3
    assert max(changed) <= 1.5 * 1.3
    assert np.log(changed).mean() == pytest.approx(np.log(1.5), abs=0.02)
    assert dimension.perturbed(1.9, np.random.default_rng(1)) <= 2
    assert Dimension("x", values=(1, 2)).perturbed(1, generator) == 1


def test_another_model_needs_a_space_of_its_own():
    class Other(LFADSConfig):
        name: str = "other"

    with pytest.raises(ConfigError, match=r"there is no default search space for the model 'other'; name settings"):
        make_space([], FitConfig().model_copy(update={"model": Other()}), strategy="random")


def test_the_guide_has_the_tables_as_they_are():
    guide = (Path(__file__).parents[2] / "docs" / "hyperparameter_search.md").read_text(encoding="utf-8")
    for rows in SPACES.values():
        for row in rows:
            name, _, values = row.text.partition("=")
            assert f"| `{name}` | {values} |" in guide
