"""What a file holds never tells a terminal what to do."""

import io
import sys
import unicodedata

import numpy as np
import pytest

from nwb_sbtt.errors import FileError
from nwb_sbtt.io import progress
from nwb_sbtt.printable import Printable, printable, unfiltered
from tests.support import nwbfiles
from tests.support.commands import call

EVIL = "a\x1b[31m\x9b2J\r\x07\u202eb"


def test_every_control_character_becomes_an_escape_and_all_else_stays():
    assert printable("Grüße, µV ∆F/F 神経\t1\n") == "Grüße, µV ∆F/F 神経\t1\n"
    for code in range(0x110000):
        letter = chr(code)
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") and letter not in "\t\n":
            assert printable(letter).startswith("\\"), hex(code)


def test_an_error_is_one_line_whatever_it_repeats():
    assert str(FileError("of 'a\nb' a\n  library says\r\nthis")) == "of 'a b' a library says this"


def test_a_stream_escapes_whatever_is_written():
    buffer = io.StringIO()
    stream = Printable(Printable(buffer))
    print(EVIL, file=stream)
    stream.writelines([EVIL])
    assert buffer.getvalue() == "a\\x1b[31m\\x9b2J\\r\\x07\\u202eb\na\\x1b[31m\\x9b2J\\r\\x07\\u202eb"
    assert unfiltered(stream) is buffer
    assert not stream.isatty()


def test_errors_hold_none():
    assert str(FileError(f"no {EVIL}")) == f"no {printable(EVIL)}"


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_progress_shows_none_of_a_label(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with progress.show_progress(10, label="fetching \x1b]0;owned\x07 [red]x") as advance:
        advance(10)
    shown = sys.stderr.getvalue()
    assert "owned" in shown and "[red]x" in shown
    assert "\x1b]0;" not in shown and "\x07" not in shown


def _nasty(path):
    """A recording whose names, descriptions and ids hold control characters."""
    nwb = nwbfiles.new_file(session_id=EVIL)
    nwbfiles.add_units(nwb, [np.arange(0.05, 10, 0.1 + 0.01 * i) for i in range(3)])
    nwb.add_unit_column(EVIL, EVIL, data=[EVIL, "b", "c"])
    nwbfiles.add_trials(nwb, np.arange(0.0, 8.0), np.arange(1.0, 9.0))
    nwb.add_trial_column(f"c{EVIL}", EVIL, data=[EVIL, "x"] * 4)
    nwb.add_acquisition(nwbfiles.TimeSeries(name=f"s{EVIL}", data=np.zeros(40), unit=EVIL, rate=10.0))
    return nwbfiles.write(nwb, path)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["fit", "--run-dir", "run", "--series", "missing"],
        ["fit", "--run-dir", "run", "--series", f"acquisition/s{EVIL}", "--trials", f"{EVIL}:0:1"],
        ["fit", "--run-dir", "run", "--series", "units", "--set", f"read.where.{EVIL}=[1]"],
        ["inspect", "--nothing", EVIL],
    ],
)
def test_the_command_line_prints_none(monkeypatch, capsys, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    call(monkeypatch, words[0], _nasty(tmp_path / "nasty.nwb"), *words[1:])
    printed = "".join(capsys.readouterr())
    assert printed
    assert printable(printed) == printed
