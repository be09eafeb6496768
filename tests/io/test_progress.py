import io
import re

import pytest

from nwb_sbtt.io import progress


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
    ("n_bytes", "lines"), [(1, ["fetching x  1 byte of 2 bytes", "fetching x  2 bytes of 2 bytes"])]
)
def test_elsewhere_a_line_is_printed_now_and_then_and_at_the_end(monkeypatch, capsys, n_bytes, lines):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.show_progress(2, label="fetching x") as advance:
        advance(n_bytes)
        monkeypatch.setattr(progress, "EVERY", 1e9)
        advance(n_bytes)
    assert capsys.readouterr().err.splitlines() == lines


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
