"""What a worker does with one recording of many, done here without a worker."""

import shutil
from dataclasses import replace

import pytest

from nwb_sbtt import pipeline
from nwb_sbtt.errors import ArchiveError
from nwb_sbtt.io.dandi.address import Address
from nwb_sbtt.io.read.files import sha256
from nwb_sbtt.io.write.results import read_result
from nwb_sbtt.runs import single
from nwb_sbtt.runs.comparison import rows_of
from nwb_sbtt.runs.single import Job, Outcome, Plan, fetch_source, fit_job, read_group
from nwb_sbtt.runs.sources import Recording
from tests.support.commands import recording
from tests.test_pipeline import READ, settings


class Tell:
    """Keeps what is told, and asks to end after so many epochs."""

    def __init__(self, end_after=None):
        self.said, self.epochs, self.end_after = [], [], end_after

    def __call__(self, kind, content):
        if kind == "epoch":
            self.epochs.append(content)
        else:
            self.said.append(content)
        return self.end_after is not None and bool(self.epochs) and self.epochs[-1][0] >= self.end_after


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    return Recording("sub/lorenz", recording(folder / "lorenz.nwb"))


@pytest.fixture(scope="module")
def fitted(source, tmp_path_factory):
    """A plan, a job and how it ended."""
    plan, job = Plan(tmp_path_factory.mktemp("fits"), READ, settings()), Job("sub/lorenz", (source,))
    return plan, job, fit_job(Tell(), job, plan)


def test_a_fit_has_a_run_folder_and_a_result_named_after_its_recording(fitted):
    plan, _, outcome = fitted
    assert (outcome.name, outcome.state) == ("sub/lorenz", "fitted")
    assert outcome.cause.startswith("bits per spike on hidden entries") and outcome.seconds > 0
    assert rows_of(plan.out / "runs" / "sub" / "lorenz")[0].state == "finished"
    assert "rates" in read_result(plan.out / "results" / "sub" / "lorenz_latents.nwb")


def test_what_is_done_is_not_read_again_unless_something_else_is_asked_for(fitted, monkeypatch):
    plan, job, _ = fitted

    def not_here(*args, **options):
        raise AssertionError

    monkeypatch.setattr(pipeline, "fit_files", not_here)
    assert fit_job(Tell(), job, plan).state == "done before"
    others = [
        replace(plan, config=settings(seed=1)),
        replace(plan, read=READ.model_copy(update={"bin_width": 0.04})),
        replace(plan, name="other"),
        replace(plan, overwrite=True),
        replace(plan, offsets=("0.01",)),
    ]
    for other in others:
        with pytest.raises(AssertionError):
            fit_job(Tell(), job, other)


def test_other_settings_are_refused_as_a_fit_does(fitted):
    plan, job, _ = fitted
    outcome = fit_job(Tell(), job, replace(plan, config=settings(seed=1)))
    assert outcome.state == "failed" and "seed is 1 instead of 0" in outcome.cause


def test_a_file_that_has_changed_is_not_done(fitted, source, tmp_path):
    plan, job, _ = fitted
    other = Recording(source.name, recording(tmp_path / "lorenz.nwb", seed=1))
    outcome = fit_job(Tell(), replace(job, sources=(other,)), plan)
    assert outcome.state == "failed" and "different data" in outcome.cause


def test_an_asset_that_is_done_is_not_fetched(fitted, source, monkeypatch):
    plan, job, _ = fitted
    asset = Recording(source.name, Address(None, "000140", "draft", "sub/lorenz.nwb"), sha256(source.place))

    def not_here(address):
        raise ArchiveError("the archive cannot be reached")

    monkeypatch.setattr("nwb_sbtt.runs.sources.find_remote_file", not_here)
    assert fetch_source(Tell(), replace(job, sources=(asset,)), plan) == Outcome("sub/lorenz", "done before")
    outcome = fetch_source(tell := Tell(), replace(job, sources=(replace(asset, sha256="0" * 64),)), plan)
    assert outcome == Outcome("sub/lorenz", "failed", "the archive cannot be reached") and tell.said == ["lorenz.nwb"]


def test_results_of_earlier_fits_are_left_out(fitted, source, tmp_path):
    plan, _, _ = fitted
    result = Recording("result", plan.out / "results" / "sub" / "lorenz_latents.nwb")
    assert fit_job(Tell(), Job("result", (result,)), plan) == replace(
        Outcome("result", "left out", "it contains results ('sbtt'), but no recording"),
        seconds=pytest.approx(0, abs=60),
    )
    output = pipeline.Output(tmp_path / "copy.nwb", append=True)
    run = plan.run_dir(Job("sub/lorenz", ()))
    pipeline.infer_file(run, source.place, output=output, log=lambda text: None)
    copy = Job("copy", (Recording("copy", tmp_path / "copy.nwb"),), others=("lorenz.nwb", "other.nwb"))
    assert fit_job(Tell(), copy, plan).cause == "it is a copy of 'lorenz.nwb' with results ('sbtt')"
    assert read_group(Tell(), copy, plan, "session_id").state == "left out"
    assert isinstance(read_group(Tell(), replace(copy, others=("other.nwb",)), plan, "session_description"), str)


def test_a_training_that_is_asked_to_end_saves_its_state_and_goes_on_later(source, tmp_path, monkeypatch):
    monkeypatch.setattr(single, "EVERY", 0.0)
    plan = Plan(tmp_path, READ, settings(train={"epochs": 4, "checkpoint_every": 100}))
    job = Job("lorenz", (source,))
    assert fit_job(Tell(end_after=1), job, plan).state == "interrupted"
    (row,) = rows_of(plan.run_dir(job))
    assert row.state == "unfinished" and row.cause.startswith("saved after epoch 1")
    assert not (tmp_path / "results" / "lorenz_latents.nwb").exists()
    tell = Tell(end_after=2)
    assert fit_job(tell, job, plan).state == "interrupted" and tell.epochs[0] == (1, 4, None)


def test_a_recording_that_cannot_be_read_fails_with_its_cause(source, tmp_path):
    broken = tmp_path / "broken.nwb"
    broken.write_bytes(source.place.read_bytes()[:20_000])
    outcome = fit_job(Tell(), Job("broken", (Recording("broken", broken),)), Plan(tmp_path, READ, settings()))
    assert outcome.state == "failed" and "it is damaged, incomplete" in outcome.cause
    assert not (tmp_path / "runs" / "broken").exists()


def test_results_of_a_group_lie_in_its_folder_also_where_there_is_one(source, tmp_path):
    plan = Plan(tmp_path, READ, settings())
    assert plan.output(Job("mouse", (source, source), joint=True)).path == tmp_path / "results" / "mouse"
    alone = Job("mouse", (source,), joint=True)
    assert plan.output(alone).path == tmp_path / "results" / "mouse" / "lorenz_latents.nwb"
    shutil.rmtree(tmp_path)
