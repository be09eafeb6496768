import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nwb_sbtt import masks
from nwb_sbtt.config import FitConfig, LFADSConfig, SAEConfig, SessionsConfig, TrainConfig
from nwb_sbtt.errors import FileError, TrainingError
from nwb_sbtt.models import make_model
from nwb_sbtt.nn.channels import channel_statistics
from nwb_sbtt.train.checkpoint import BEST, LAST, LOG, load
from nwb_sbtt.train.loop import _minibatches, train
from nwb_sbtt.train.schedules import plan
from nwb_sbtt.train.trackers import Lines, Silent, default_tracker
from tests.support.batches import make_batch
from tests.support.notebooks import notebook
from tests.support.processes import fill_the_disk
from tests.support.processes import run as process_of

LFADS = LFADSConfig(read_in=6, encoder=6, initial_condition=4, controller=4, generator=6, factors=2)


def settings(epochs=6, model=LFADS, **train_settings):
    return FitConfig(model=model, train=TrainConfig(epochs=epochs, batch_size=4, checkpoint_every=2, **train_settings))


def run(config, run_dir, *, tracker=None, values=None):
    batch = make_batch(n_trials=12)
    if values is not None:
        batch = replace(batch, values=values(batch))
    rows = torch.arange(12)
    hidden = masks.sample_validation(batch, 0.5, torch.Generator().manual_seed(0))
    valid = masks.score_only(masks.hide(batch, hidden), hidden)
    run_dir.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = make_model(config.model, {"session": channel_statistics(batch)}, "poisson")
    pair = batch.select(rows[:8]), valid.select(rows[8:])
    return train(
        model, [pair], config=config, run_dir=run_dir, tracker=tracker or Silent(), bin_widths={batch.session: 0.01}
    )


class StopAt(Silent):
    """Break off in the middle of training, as a kill would."""

    def __init__(self, epoch):
        self.at = epoch

    def epoch(self, record):
        if record.epoch == self.at:
            raise KeyboardInterrupt


def test_a_fit_says_that_it_goes_on_unless_it_was_done(tmp_path, capsys):
    config = settings()
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path, tracker=StopAt(3))
    for said in ("resuming after epoch 2 of 6", "epoch 6/6"), ():
        run(config, tmp_path, tracker=Lines())
        told = capsys.readouterr().err
        assert all(each in told for each in said) and bool(told) == bool(said)


def test_training_in_a_notebook_shows_one_bar(tmp_path, monkeypatch):
    shown = notebook(monkeypatch)
    tracker = default_tracker("member 1 of 2  ")
    run(settings(), tmp_path, tracker=tracker)
    assert [kind for kind, _ in shown[:2]] == ["display", "update"] and "display" not in dict(shown[1:])
    assert (
        'value="6" max="6"' in shown[-1][1] and "epoch 6/6  train" in shown[-1][1] and "member 1 of 2" in shown[-1][1]
    )


@pytest.mark.parametrize("model", [LFADS, SAEConfig(encoder=6, generator=6, factors=2)], ids=["lfads", "sae"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_an_interrupted_run_ends_in_the_same_numbers(tmp_path, model, at):
    config = settings(model=model)
    run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "cut", tracker=StopAt(at))
    run(config, tmp_path / "cut")
    for name in (BEST, LAST):
        whole, cut = load(tmp_path / "whole" / name)[0], load(tmp_path / "cut" / name)[0]
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[key], cut[key]) for key in whole)
    logs = [[json.loads(line) for line in (tmp_path / d / LOG).read_text().splitlines()] for d in ("whole", "cut")]
    assert [{**r, "seconds": 0} for r in logs[0]] == [{**r, "seconds": 0} for r in logs[1]]


def test_another_seed_gives_other_numbers(tmp_path):
    one = run(settings(), tmp_path / "a").history[-1]
    other = run(settings().model_copy(update={"seed": 1}), tmp_path / "b").history[-1]
    assert one.train_loss != other.train_loss


@pytest.mark.slow
def test_training_lowers_the_validation_score(tmp_path):
    def course(batch):
        phases = torch.arange(batch.values.shape[1])[:, None] / 1.5 + torch.arange(batch.values.shape[2])
        rates = (1.5 * torch.sin(phases)).exp().expand_as(batch.values)
        return torch.poisson(rates, generator=torch.Generator().manual_seed(5)) * batch.observed

    history = run(settings(epochs=60, learning_rate=0.02), tmp_path / "run", values=course).history
    assert min(r.valid_loss for r in history) < history[0].valid_loss - 0.1


def test_the_best_state_is_kept_not_the_last(tmp_path):
    trained = run(settings(epochs=40, learning_rate=0.3), tmp_path / "run")
    scores = [r.valid_loss for r in trained.history]
    assert trained.progress.best_score == min(scores)
    assert trained.progress.best_epoch == scores.index(min(scores)) + 1


def test_it_stops_early_and_says_why(tmp_path):
    trained = run(settings(epochs=400, learning_rate=0.5, patience=5), tmp_path / "run")
    assert len(trained.history) < 400
    assert "no better validation score for 5 epochs" in trained.progress.finished
    assert run(settings(epochs=5), tmp_path / "other").progress.finished.startswith("all 5 epochs finished")


def test_a_finished_run_is_not_trained_again(tmp_path):
    run(settings(), tmp_path / "run")
    before = (tmp_path / "run" / BEST).read_bytes()
    run(settings(), tmp_path / "run", tracker=StopAt(1))
    assert (tmp_path / "run" / BEST).read_bytes() == before


def test_a_value_that_is_not_finite_is_named_with_epoch_and_cause(tmp_path):
    with pytest.raises(TrainingError, match=r"the reconstruction term of epoch 1, batch \d+ is not finite"):
        run(settings(), tmp_path / "run", values=lambda b: torch.where(b.observed, torch.inf, 0.0))


def test_a_damaged_state_is_an_error_in_words(tmp_path):
    run(settings(), tmp_path / "run")
    path = tmp_path / "run" / LAST
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileError, match="cannot read the training state"):
        run(settings(epochs=6), tmp_path / "run")


def test_plain_lines_say_where_training_stands(tmp_path, capsys):
    run(settings(), tmp_path / "run", tracker=Lines(every_seconds=0.0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("epoch 6/6  train ")


@pytest.mark.slow
def test_a_full_disk_ends_training_at_the_next_saved_state(tmp_path):
    """The file-size limit of a process stands for a full disk."""
    run(settings(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(settings(), tmp_path / "run", tracker=StopAt(3))
    for folder, before, epoch in ((tmp_path / "new", [], 2), (tmp_path / "run", [BEST, LAST], 4)):
        states = [(folder / name).read_bytes() for name in before]
        ended = process_of(fit_on_a_full_disk, folder)
        assert ended.code == 7, ended.err
        assert ended.out.startswith(f"cannot write {str(folder / BEST)!r}: File too large")
        assert f"training ends after epoch {epoch}. Free disk space" in ended.out
        assert "run the same command to resume" in ended.out and len(ended.out.splitlines()) == 1
        assert sorted(path.name for path in folder.iterdir()) == sorted([*before, LOG])
        assert [(folder / name).read_bytes() for name in before] == states
        run(settings(), folder)
        whole, resumed = load(tmp_path / "whole" / LAST)[0], load(folder / LAST)[0]
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def fit_on_a_full_disk(words):
    run_dir = Path(words[0])
    run_dir.mkdir(exist_ok=True)
    fill_the_disk(4000)
    try:
        run(settings(), run_dir)
    except FileError as error:
        print(error)
        sys.exit(7)


def test_balanced_sampling_draws_as_many_batches_of_each_session_as_of_the_largest():
    large, small = make_batch(n_trials=23), replace(make_batch(n_trials=5), session="small")
    for balanced, of_small in ((False, 2), (True, 6)):
        pieces = _minibatches([large, small], 4, torch.Generator().manual_seed(0), balanced=balanced)
        drawn = [(large, small)[session].select(rows) for session, rows in pieces]
        trials = torch.cat([batch.trials for batch in drawn if batch.session == "session"])
        assert sorted(trials.tolist()) == list(range(23))
        assert sum(batch.session == "small" for batch in drawn) == of_small
        assert {int(i) for batch in drawn if batch.session == "small" for i in batch.trials} == set(range(5))
        sampling = SessionsConfig(sampling="balanced" if balanced else "trials")
        config = FitConfig(sessions=sampling, train=TrainConfig(batch_size=4))
        assert plan(config, [23, 5]).steps_per_epoch == len(drawn)
