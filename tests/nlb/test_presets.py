import pytest
import yaml
from typer.testing import CliRunner

from nwb_sbtt.cli.main import app
from nwb_sbtt.config import FitConfig, LFADSConfig, override
from nwb_sbtt.errors import ConfigError
from nwb_sbtt.nlb.definitions import BIN_WIDTHS, DEFINITIONS
from nwb_sbtt.nlb.preparation import prepare, save_prepared
from nwb_sbtt.nlb.presets import PRESETS, list_presets, starting_config
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("bin_width", BIN_WIDTHS)
def test_what_is_listed_of_a_preset_makes_its_settings_from_the_defaults(name, bin_width):
    config = starting_config(name, bin_width, model="lfads")
    assert isinstance(config.model, LFADSConfig)
    listed = list_presets(name)[name + BIN_WIDTHS[bin_width]]
    assert override(FitConfig(model=LFADSConfig()), listed) == config


def test_every_preset_belongs_to_a_set():
    assert set(PRESETS) <= set(list_presets())
    assert set(DEFINITIONS) <= set(PRESETS)


def test_conv_starts_from_the_defaults_whatever_the_set():
    for name in DEFINITIONS:
        assert starting_config(name, 0.02) == starting_config(name, 0.005, model="conv") == FitConfig()


def test_settings_take_the_place_of_a_preset_s_part_by_part():
    changes = {"seeds": 3, "model": {"factors": 7}, "train": {"epochs": 2}}
    config = starting_config("mc_maze", 0.02, model="lfads", settings=changes)
    assert (config.seeds, config.model.factors, config.train.epochs) == (3, 7, 2)
    assert (config.model.generator, config.train.patience) == (200, 200)
    assert changes == {"seeds": 3, "model": {"factors": 7}, "train": {"epochs": 2}}


def test_settings_of_a_whole_fit_are_taken_as_they_stand():
    whole = FitConfig(model=LFADSConfig(factors=3))
    settings = whole.model_dump(mode="json")
    assert starting_config("mc_maze", 0.02, settings=settings) == whole
    assert starting_config("mc_maze", 0.02, model="lfads", settings=settings) == whole


def test_two_models_and_an_unknown_set_or_bin_are_refused():
    with pytest.raises(ConfigError, match="'sae', but --model is 'lfads'"):
        starting_config("mc_maze", 0.02, model="lfads", settings={"model": {"name": "sae"}})
    with pytest.raises(ConfigError, match="mc_maze_small"):
        starting_config("mc_maze_smal", 0.02, model="lfads")
    with pytest.raises(ConfigError, match=r"0\.005 or 0\.02"):
        starting_config("mc_maze", 0.01, model="lfads")


def test_the_command_line_fits_the_preset_with_what_was_set_in_its_place(tmp_path):
    drawn = simulate_set(SetSettings("mc_rtt", train=8, val=4, test=2, units=6))
    save_prepared(prepare("mc_rtt", [drawn.training], bin_width=0.02), tmp_path)
    words = ["mc_rtt", "--bin-width", "0.02", "--folder", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    changes = ["train.epochs=1", "model.generator=12", "posterior_samples=2"]
    (tmp_path / "own.yaml").write_text("train: {learning_rate: 0.001}\nseeds: 5\n")
    options = ["--model", "lfads", "--config", str(tmp_path / "own.yaml"), "--seeds", "1"]
    result = CliRunner().invoke(
        app, ["nlb", "fit", *words, *options, *(word for change in changes for word in ("--set", change))]
    )
    assert result.exit_code == 0, (result.output, result.exception)
    used = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (used["model"]["name"], used["model"]["encoder"], used["model"]["generator"]) == ("lfads", 100, 12)
    assert (used["train"]["batch_size"], used["train"]["learning_rate"], used["seeds"]) == (256, 0.001, 1)


def test_presets_are_listed_as_they_are_set():
    result = CliRunner().invoke(app, ["nlb", "presets", "dmfc_rsg"])
    assert result.exit_code == 0
    assert "dmfc_rsg_20" in result.stdout
    assert "  train.l2_weight=0.0015\n" in result.stdout
