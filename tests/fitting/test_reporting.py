"""What a fit says of itself, and what it keeps."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest

from nwb_sbtt.errors import FileError, MismatchError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import prepare
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import population, settings


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fit of its own: scores are put into its folder."""
    ds = population(seed=5)
    return ds, fit(ds, settings(), run_dir=tmp_path_factory.mktemp("runs") / "own", tracker=Silent())


def test_a_fit_describes_itself_in_about_ten_lines(run):
    ds, fitted = run
    (fitted.run_dir / "metrics.json").unlink(missing_ok=True)
    text = repr(fitted)
    assert 6 <= len(text.splitlines()) <= 14
    for part in (
        "lfads, Poisson likelihood",
        "6 units, 24 trials",
        "train",
        "not scored yet",
        str(fitted.run_dir),
        "fitted.report()",
    ):
        assert part in text, part
    metrics = fitted.evaluate(ds)
    text, page = repr(fitted), fitted._repr_html_()
    assert metrics["headline"] in text and metrics["headline"] in page
    assert re.search(r"\d of \d good", text)
    assert page.startswith("<table>") and page.count("<tr>") == page.count("</tr>") == len(text.splitlines()) - 1


def test_names_of_files_are_text_in_notebooks(run):
    _, fitted = run
    session = next(iter(fitted.signature.sessions.values()))
    named = replace(fitted, signature=replace(fitted.signature, sessions={"<b>a</b>": session}))
    assert "<b>" not in named._repr_html_() and "&lt;b&gt;" in named._repr_html_()


def test_the_split_is_known_without_the_data(run):
    ds, fitted = run
    table = load(fitted.run_dir).split
    assert list(table.columns) == ["session", "trial", "split"]
    expected = prepare(ds, fitted.config)["split"].values
    np.testing.assert_array_equal(table["split"], expected)


def test_scores_of_the_fits_own_data_are_kept_and_no_others(run):
    ds, fitted = run
    path = fitted.run_dir / "metrics.json"
    path.unlink(missing_ok=True)
    with pytest.raises(FileError, match="has no scores of session 'session' yet"):
        _ = fitted.scores
    fitted.evaluate(ds.isel(trial=slice(12)))
    fitted.evaluate(ds, baselines=False)
    assert not path.exists()
    metrics = fitted.evaluate(ds)
    assert json.loads(path.read_text()) == {"session": metrics} and fitted.metrics() == metrics
    table = load(fitted.run_dir).scores.set_index("method")
    assert table["hidden"].dropna().to_dict() == {k: v for k, v in metrics["scores"].items() if v is not None}
    assert table.loc["model", "name"] == "this model" and set(table["metric"]) == {"bits per spike"}
    assert fitted.curves() == {fitted.run_dir.name: fitted.history}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_fit_that_may_not_be_written_is_scored_all_the_same(run):
    ds, fitted = run
    (fitted.run_dir / "metrics.json").unlink(missing_ok=True)
    fitted.run_dir.chmod(0o500)
    try:
        assert fitted.evaluate(ds)["scores"] and not (fitted.run_dir / "metrics.json").exists()
    finally:
        fitted.run_dir.chmod(0o700)


def test_scores_of_weights_that_training_replaces_are_forgotten(tmp_path):
    ds = population(seed=6)
    paused = fit(ds, settings(), run_dir=tmp_path / "run", tracker=Silent(), until=1)
    paused.evaluate(ds)
    assert (tmp_path / "run" / "metrics.json").exists()
    done = fit(ds, settings(), run_dir=tmp_path / "run", tracker=Silent())
    with pytest.raises(FileError, match="has no scores of session"):
        done.metrics()
    metrics = done.evaluate(ds)
    assert fit(ds, settings(), run_dir=tmp_path / "run", tracker=Silent()).metrics() == metrics


def test_a_report_needs_the_data_of_the_fit(run):
    ds, fitted = run
    (page,) = fitted.report(ds)
    assert page == fitted.run_dir / "report.html" and page.stat().st_size > 1000
    with pytest.raises(
        FileError, match="did not come from a file, and a run folder does not store data; pass the Dataset"
    ):
        fitted.report()
    with pytest.raises(MismatchError, match="not fitted to session 'b'"):
        fitted.data("b")
