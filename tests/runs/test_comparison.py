"""One table of many run folders."""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

import nwb_sbtt as sb
from nwb_sbtt import pipeline
from nwb_sbtt.errors import FileError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.report.comparison import page_of_runs, shown_seconds
from nwb_sbtt.report.listing import MOST_SETTINGS, table_of_runs
from nwb_sbtt.runs.comparison import compare_runs, comparison, find_runs, rows_of
from nwb_sbtt.train.trackers import Silent
from tests.support.commands import call, recording
from tests.support.fits import Stopping, population, settings
from tests.support.shortcuts import with_figures
from tests.test_pipeline import READ
from tests.test_pipeline import settings as of_files


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs: one scored, a joint ensemble that is not, one stopped, one broken down, and two damaged."""
    folder = tmp_path_factory.mktemp("compare")
    words = {"run_dir": folder / "scored", "log": lambda text: None}
    pipeline.fit_files([recording(folder / "lorenz.nwb")], READ, of_files(), **words)
    joint = {"one": population(), "two": population(1)}
    fit(joint, settings(seed=3, seeds=2), run_dir=folder / "other" / "joint", tracker=Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(population(), settings(), run_dir=folder / "stopped", tracker=Stopping(2))
    for name in ("damaged", "broken", "misread"):
        shutil.copytree(folder / "scored", folder / name)
    (folder / "damaged" / "signature.json").write_text("{")
    (folder / "broken" / "failed.txt").write_text("the loss of epoch 2\nis nan\n")
    (folder / "misread" / "metrics.json").write_text('{"lorenz": {"scores": {}}}')
    return folder


def test_a_folder_stands_for_the_run_folders_in_it_but_not_for_members_of_ensembles(runs):
    names = ["broken", "damaged", "misread", "other/joint", "scored", "stopped"]
    assert [str(path.relative_to(runs)) for path in find_runs(runs)] == names
    assert find_runs(runs / "scored") == [runs / "scored"]


def test_one_folder_may_come_alone_and_none_is_an_error(runs):
    pd.testing.assert_frame_equal(sb.compare(str(runs / "scored")), sb.compare([runs / "scored"]))
    pd.testing.assert_frame_equal(sb.compare(runs / "scored"), sb.compare([runs / "scored"]))
    with pytest.raises(FileError, match=r"^'nowhere': not a run folder"):
        sb.compare("nowhere")
    with pytest.raises(FileError, match="got no path; expected one, or a list"):
        sb.compare([])


def test_each_state_is_told_with_its_cause(runs):
    found = {row.run: (row.state, row.cause) for row in compare_runs([runs]).rows}
    found = {name.removeprefix(f"{runs}/"): each for name, each in found.items()}
    state, cause = found["scored"]
    assert state == "finished"
    assert cause.startswith("all 2 epochs finished; best at epoch ")
    assert found["other/joint"][0] == "finished" and found["other/joint"][1].endswith("; not scored yet")
    assert found["stopped"] == ("unfinished", "saved after epoch 1; the same command resumes it")
    assert found["damaged"][0] == "damaged" and "signature.json' is damaged" in found["damaged"][1].replace(": it", "")
    assert found["broken"] == ("failed", "the loss of epoch 2 is nan")
    assert found["misread"][0] == "damaged" and "nwb-sbtt evaluate" in found["misread"][1]


def test_the_frame_has_scores_data_checks_and_only_settings_that_differ(runs):
    metrics = json.loads((runs / "scored" / "metrics.json").read_text())["lorenz"]
    frame = sb.compare([runs / "scored", runs / "other" / "joint"])
    assert frame["session"].tolist() == ["lorenz", "one", "two"]
    first = frame.iloc[0]
    for method, score in metrics["scores"].items():
        assert first[f"hidden.{method}"] == score
    assert first["rates_r2.model"] == metrics["truth"]["rates_r2"]["model"]
    assert {name.removeprefix("check."): level for name, level in first.items() if name.startswith("check.")} == {
        check["name"]: check["level"] for check in metrics["checks"]
    }
    assert (first["trials"], first["bins"], first["channels"], first["bin_width"]) == (24, 50, 6, 0.02)
    assert frame["trials"].dtype == "Int64" and frame["epochs"].tolist() == [2, 2, 2]
    assert frame["set.seed"].tolist() == [0, 3, 3] and frame["set.seeds"].tolist() == [1, 2, 2]
    assert "set.posterior_samples" in frame and "set.train.epochs" not in frame and "set.read.bin_width" not in frame
    assert (
        frame["best_baseline"][0] in metrics["names"].values()
        and frame["hidden.model"].isna().tolist()[1:] == [True] * 2
    )


def test_a_fit_without_a_system_differs_from_one_with_it(runs):
    (row,) = rows_of(runs / "scored")
    without = {name: value for name, value in row.settings.items() if not name.startswith("dynamics")}
    learned = {"dynamics.dimensions": 4, "dynamics.steps": 900}
    found = comparison(
        [replace(row, settings={**without, **of}) for of in (learned, {"dynamics": None}, {"dynamics": "auto"})]
    )
    assert found.differing == ("dynamics",)
    assert found.frame()["set.dynamics"].tolist() == ["set", None, "auto"]


def test_of_one_run_no_setting_differs(runs):
    assert not [name for name in sb.compare([runs / "scored"]) if name.startswith("set.")]


def test_an_interrupted_ensemble_says_which_member_it_is_at(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(population(), settings(seeds=2), run_dir=tmp_path / "run", tracker=Stopping(4))
    (row,) = rows_of(tmp_path / "run", name="mine")
    assert (row.run, row.state) == ("mine", "unfinished") and row.cause.startswith("member 2 of 2, saved after epoch 1")


def test_folders_without_a_fit_are_rows_beside_others_and_an_error_alone(runs, tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "file").write_text("text")
    rows = compare_runs([runs / "scored", tmp_path / "foreign", tmp_path / "gone", tmp_path / "file"]).rows
    assert [row.state for row in rows] == ["finished", *["no run folder"] * 3]
    assert rows[2].cause == "there is no such folder"
    with pytest.raises(
        FileError, match=r"not a run folder of a fit; expected folders written by `nwb-sbtt fit --run-dir`"
    ):
        compare_runs([tmp_path / "foreign", tmp_path / "gone"])


def test_the_command_prints_a_table_or_json_and_writes_files(runs, tmp_path, monkeypatch, capsys):
    words = ["compare", runs, "--csv", tmp_path / "table.csv", "--html", tmp_path / "table.html"]
    assert call(monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    assert "6 runs: 2 finished, 1 unfinished, 1 failed, 2 damaged" in printed
    assert f"failed: {runs / 'broken'}: the loss of epoch 2 is nan" in printed
    assert "24 × 50 × 6" in printed and "rates (R²)" in printed
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 7 and table["trials"].dropna().tolist()[0] == 24
    assert call(monkeypatch, "compare", runs, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["rows"]) == 7 and "seed" in content["settings"]
    assert call(monkeypatch, "compare", tmp_path / "gone") == 2
    assert "not a run folder" in capsys.readouterr().err


class Page(HTMLParser):
    """Text, links and open tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.links = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert not {name for name, _ in attrs} & {"src", "onload", "onclick"}
        self.links += [value for name, value in attrs if name == "href"]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_needs_nothing_else_and_leads_to_the_reports_of_the_fits(runs, tmp_path):
    with with_figures():
        compare_runs([runs]).write_html(tmp_path / "page.html", title="these <runs>")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert "http" not in text and "<script" not in text and "these <runs>" in page.text
    reports = {(tmp_path / link).resolve() for link in page.links}
    assert reports == {runs / name / "report.html" for name in ("scored", "broken")}
    for words in ("Not finished", "Scores", "Data and training", "the loss of epoch 2 is nan"):
        assert words in page.text


def test_what_runs_are_called_is_text_and_no_markup(runs):
    row = rows_of(runs / "scored", name="<b>&")[0].as_dict(())
    text = page_of_runs({"rows": [row], "settings": []}, title="x")
    assert "<b>&" in Page(text).text and "<b>" not in text


def test_more_settings_than_columns_are_named_below_the_table(runs):
    content = compare_runs([runs / "scored"]).as_dict()
    names = [f"part.number_{i}" for i in range(MOST_SETTINGS + 2)]
    text = table_of_runs({**content, "settings": names})
    assert f"differ too (--csv and --html have their values): {names[-2]}, {names[-1]}" in text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99.4, "99 s"), (120, "2 min"), (7200, "2.0 h")])
def test_times_are_in_units_that_are_read_at_once(seconds, text):
    assert shown_seconds(seconds) == text


def test_data_that_came_from_no_file_have_no_source(runs):
    assert rows_of(runs / "other" / "joint")[0].data["source"] is None
