import io
import re
import time

import pytest

from nwb_sbtt.io import progress
from tests.support.notebooks import notebook


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_narrow_terminal_shortens_the_label_and_not_the_numbers(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    label = "uploading sub-Jenkins/sub-Jenkins_ses-small_desc-sbtt_ecephys.nwb"
    with progress.show_progress(300_000_000, label=label) as advance:
        advance(120_000_000)
    (*_, last) = [
        line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).splitlines() if "MB" in line
    ]
    assert "120.0/300.0 MB" in last
    assert last.startswith("uploading sub-") and "…" in last


@pytest.mark.parametrize(
    ("every", "lines"),
    [(0.0, ["fetching x  1 byte of 2 bytes", *["fetching x  2 bytes of 2 bytes"] * 2]), (1e9, [])],
)
def test_elsewhere_a_line_is_printed_now_and_then_and_at_the_end(monkeypatch, capsys, every, lines):
    monkeypatch.setattr(progress, "EVERY", every)
    with progress.show_progress(2, label="fetching x") as advance:
        advance(1)
        advance(1)
    assert capsys.readouterr().err.splitlines() == lines


def test_a_notebook_shows_one_bar_that_moves(monkeypatch):
    shown = notebook(monkeypatch)
    with progress.show_progress(3, label="events of <F>", of="ROIs") as advance:
        for _ in range(3):
            time.sleep(0.21)
            advance(1)
    assert shown[0][0] == "display" and {kind for kind, _ in shown[1:]} == {"update"}
    assert 'value="3" max="3"' in shown[-1][1] and "3 of 3 ROIs" in shown[-1][1] and "&lt;F&gt;" in shown[-1][1]


def test_other_things_than_bytes_are_counted_by_their_name(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.show_progress(3, label="events of F", of="ROIs") as advance:
        advance(1)
    assert capsys.readouterr().err.splitlines()[0] == "events of F  1 of 3 ROIs"
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.show_progress(3, label="events of F", of="ROIs") as advance:
        advance(2)
    assert "2/3 ROIs" in terminal.getvalue()
