import json

import numpy as np
import pytest
from typer.testing import CliRunner

from nwb_sbtt.cli.main import app
from nwb_sbtt.config import ConvConfig, FitConfig, TrainConfig
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.nlb.modelling import infer_rates, predict, trials_dataset
from nwb_sbtt.nlb.preparation import prepare, save_prepared
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set

SMALL = FitConfig(model=ConvConfig(width=16, groups=4, layers=2, factors=6, read_in=8), train=TrainConfig(epochs=40))


@pytest.fixture(scope="module")
def prepared():
    drawn = simulate_set(SetSettings("mc_maze_small", train=60, val=20, test=2, units=16, seed=4))
    return prepare("mc_maze_small", [drawn.training], bin_width=0.02)


def test_no_encoder_sees_held_out_units_or_bins_to_predict(prepared):
    for part in ("train", "eval"):
        ds = trials_dataset(prepared, part)
        batch = to_batch(ds)
        held_out, ahead = ds["held_out"].values, ds["forecast"].values
        assert not batch.shown.numpy()[:, :, held_out].any()
        assert not batch.shown.numpy()[:, ahead].any()
        assert batch.shown.numpy()[:, ~ahead][:, :, ~held_out].all()
        assert bool(batch.observed.all()) == (part == "train")


def test_what_is_to_be_predicted_of_evaluated_trials_is_not_in_the_data(prepared):
    ds = trials_dataset(prepared, "eval")
    np.testing.assert_array_equal(
        ds["observed"].values,
        ~(ds["held_out"].values[None, None, :] | ds["forecast"].values[None, :, None])
        | np.zeros(ds["values"].shape, bool),
    )
    assert ds["values"].values[:, ds["forecast"].values].sum() == 0


@pytest.mark.slow
def test_files_alone_lead_to_rates_a_submission_and_its_scores(prepared, tmp_path):
    """The whole way, each step a command; the last one scores better than mean rates would."""
    save_prepared(prepared, tmp_path / "nlb")
    common = ["mc_maze_small", "--bin-width", "0.02", "--folder", str(tmp_path / "nlb")]
    settings = ["model.width=16", "model.groups=4", "model.layers=2", "model.factors=6", "train.epochs=20"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    fitted = _run("nlb", "fit", *common, "--run-dir", str(tmp_path / "run"), "--seed", "1", *chosen)
    assert "mc_maze_small_20.val.rates.h5" in fitted
    rates, out = tmp_path / "run" / "mc_maze_small_20.val.rates.h5", tmp_path / "submission.h5"
    assert "wrote" in _run("nlb", "submit", str(rates), "--out", str(out), "--folder", str(tmp_path / "nlb"))
    scores = json.loads(_run("nlb", "evaluate", str(out), "--folder", str(tmp_path / "nlb"), "--json"))
    split_scores = scores["mc_maze_scaling_20_split"]
    assert set(split_scores) == {"[100] co-bps", "[100] vel R2", "[100] psth R2", "[100] fp-bps"}
    assert split_scores["[100] co-bps"] > 0.02
    assert split_scores["[100] vel R2"] > 0.2


def test_rates_of_evaluated_trials_do_not_depend_on_what_is_to_be_predicted(prepared, tmp_path):
    """Targets are no input: with other ones the same rates come out."""
    rates = predict(prepared, SMALL.model_copy(update={"train": TrainConfig(epochs=2)}), run_dir=tmp_path / "a")
    other = {**prepared.targets, "eval_spikes_heldout": np.full_like(prepared.targets["eval_spikes_heldout"], 9)}
    changed = type(prepared)(prepared.name, prepared.phase, prepared.bin_width, prepared.inputs, other, prepared.about)
    again = predict(changed, SMALL.model_copy(update={"train": TrainConfig(epochs=2)}), run_dir=tmp_path / "b")
    loaded = infer_rates(prepared, load(tmp_path / "a"))
    for name, array in rates.items():
        np.testing.assert_array_equal(array, again[name])
        np.testing.assert_array_equal(array, loaded[name])


def test_evaluated_trials_do_not_enter_the_fit(prepared, tmp_path):
    """With others the same model comes out; which of its states is kept is decided on a draw from the training trials."""
    config = SMALL.model_copy(update={"train": TrainConfig(epochs=2)})
    rates = predict(prepared, config, run_dir=tmp_path / "a")
    spikes = prepared.inputs["eval_spikes_heldin"]
    inputs = {**prepared.inputs, "eval_spikes_heldin": np.zeros_like(spikes[:3])}
    changed = type(prepared)(prepared.name, prepared.phase, prepared.bin_width, inputs, None, prepared.about)
    again = predict(changed, config, run_dir=tmp_path / "b")
    assert len(again["eval_rates_heldin"]) == 3
    for name, array in rates.items():
        if name.startswith("train"):
            np.testing.assert_array_equal(array, again[name])
    assert (tmp_path / "a" / "signature.json").read_bytes() == (tmp_path / "b" / "signature.json").read_bytes()
    trials = json.loads((tmp_path / "a" / "signature.json").read_text())["sessions"]["session"]
    assert trials["trials"] == len(prepared.inputs["train_spikes_heldin"]) == 60
    assert trials["training_trials"] == 54


def test_without_training_trials_nothing_can_be_fitted(prepared, tmp_path):
    inputs = {"eval_spikes_heldin": prepared.inputs["eval_spikes_heldin"]}
    bare = type(prepared)(prepared.name, "test", prepared.bin_width, inputs, None, prepared.about)
    with pytest.raises(DataError, match="no training trials"):
        predict(bare, SMALL, run_dir=tmp_path / "run")


def _run(*words):
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout
