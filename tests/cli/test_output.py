"""Options that every command has, help, suggestions and completion."""

import re
import subprocess
import sys
import warnings

import pytest

from nwb_sbtt.cli import main as cli
from nwb_sbtt.suggestions import nearest
from tests.support.commands import call


def groups():
    """The command line and its group nlb, as words in front of a command."""
    return [((), cli.app), (("nlb",), cli.cli_nlb.app)]


def commands():
    return [
        (*before, command.name or command.callback.__name__.replace("_", "-"))
        for before, app in groups()
        for command in app.registered_commands
    ]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself_and_has_the_shared_options(words, monkeypatch, capsys):
    assert call(monkeypatch, *words, "-h") == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--quiet", "--verbose", "--log", "-h, --help"))
    assert "--no-" not in text


@pytest.mark.parametrize("words", [[], ["nlb"]])
def test_no_command_shows_the_help_with_whole_first_sentences(words, monkeypatch, capsys):
    assert call(monkeypatch, *words) == 0
    printed = capsys.readouterr()
    assert "Commands:" in printed.out
    assert "..." not in printed.out.partition("Commands:")[2]
    assert printed.err == ""


def test_quiet_prints_results_and_errors_only(monkeypatch, capsys, tmp_path):
    out = tmp_path / "a.nwb"
    assert call(monkeypatch, "simulate", "lorenz", "--out", out, "--trials-per-condition", 2, "--quiet") == 0
    loud = capsys.readouterr()
    assert loud.out == f"wrote {out}\n"
    assert loud.err == ""
    assert call(monkeypatch, "inspect", tmp_path / "b.nwb", "--quiet") == 2
    assert capsys.readouterr().err == f"error: there is no file '{tmp_path / 'b.nwb'}'\n"


def test_verbose_shows_where_an_error_arose(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "inspect", tmp_path / "b.nwb", "--verbose") == 2
    *above, last = capsys.readouterr().err.splitlines()
    assert above[0].startswith("Traceback")
    assert last == f"error: there is no file '{tmp_path / 'b.nwb'}'"


def test_verbose_shows_warnings_of_other_packages(monkeypatch, capsys):
    @cli.app.command("warn")
    def warn() -> None:
        """Print what becomes of a warning."""
        print(warnings.filters[0][0])

    try:
        call(monkeypatch, "warn")
        call(monkeypatch, "warn", "--verbose")
        assert capsys.readouterr().out.split()[-1] == "default"
    finally:
        cli.app.registered_commands.pop()


def test_quiet_and_verbose_contradict_each_other(monkeypatch, capsys):
    assert call(monkeypatch, "models", "--quiet", "--verbose") == 2
    assert "--quiet and --verbose contradict each other" in capsys.readouterr().err


def test_the_log_holds_what_was_printed_with_times(monkeypatch, capsys, tmp_path):
    log = tmp_path / "log.txt"
    call(monkeypatch, "models", "--log", log)
    printed = capsys.readouterr().out
    call(monkeypatch, "inspect", tmp_path / "b.nwb", "--log", log)
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d( |$)", line) for line in lines)
    assert [line[26:] for line in lines] == [
        *printed.splitlines(),
        f"error: there is no file '{tmp_path / 'b.nwb'}'",
    ]


def test_a_log_that_cannot_be_written_is_one_error(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "models", "--log", tmp_path) == 2
    assert capsys.readouterr().err.startswith("error: cannot write the log ")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("factors=3", "model.factors"),
        ("train.factors=3", "model.factors"),
        ("read.band=8", "read.electrical.band"),
        ("holds=dff", "read.rois.holds"),
        ("train.Epochs=3", "train.epochs"),
    ],
)
def test_a_setting_that_lies_deeper_is_offered_with_its_path(typed, offered, monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "fit", "a.nwb", "--run-dir", tmp_path / "run", "--set", typed) == 2
    assert f"did you mean '{offered}'?" in capsys.readouterr().err


def test_a_setting_of_a_search_is_named_as_one(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "fit", "a.nwb", "--run-dir", tmp_path / "run", "--set", "search.trials=3") == 2
    assert "it with `nwb-sbtt search`" in capsys.readouterr().err


def test_the_word_itself_is_never_suggested():
    assert nearest("units", ["units", "unit"]) == ["unit"]
    assert nearest("Units", ["units"]) == ["units"]
    assert nearest("units", ["units"]) == []


def test_settings_and_models_are_completed(monkeypatch):
    def completed(words):
        environment = {
            "COMP_WORDS": f"nwb-sbtt {words}",
            "COMP_CWORD": str(len(words.split())),
            "_NWB_SBTT_COMPLETE": "complete_bash",
        }
        code = "from nwb_sbtt.cli.main import main; main()"
        answer = subprocess.run(
            [sys.executable, "-c", code], env={**environ(), **environment}, capture_output=True, text=True, check=True
        )
        return answer.stdout.split()

    def environ():
        import os

        return dict(os.environ)

    assert "train.epochs=" in completed("fit --set train.e")
    assert completed("fit --model lf") == ["lfads"]
