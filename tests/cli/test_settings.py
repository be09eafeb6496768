"""`nwb-sbtt settings` prints the list of settings."""

import json
import subprocess
import sys

from nwb_sbtt.config.listing import list_settings
from tests.support.commands import call


def test_settings_are_listed_by_section(monkeypatch, capsys):
    assert call(monkeypatch, "settings", "--model", "lfads") == 0
    table = capsys.readouterr().out
    assert "\nmasks: What the encoder may see and what is scored.\n masks.coordinated_dropout " in table
    assert "model.controller" in table and "model.max_lag" not in table
    for setting in list_settings(model="lfads"):
        assert f" {setting.name} " in table
    assert max(map(len, table.splitlines())) <= 160


def test_settings_are_searched_and_printed_for_programs(monkeypatch, capsys):
    assert call(monkeypatch, "settings", "--search", "gradient_clip", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["section"], row["name"], row["values"], row["default"]) == (
        "train",
        "train.gradient_clip",
        "number > 0",
        "1.0",
    )
    assert call(monkeypatch, "settings", "--search", "zebra") == 2


def test_listing_settings_does_not_wait_for_torch():
    code = (
        "import sys; sys.argv = ['nwb-sbtt', 'settings', '--model', 'lfads', '--likelihood', 'auto']\n"
        "from nwb_sbtt.cli.main import main\n"
        "try: main()\n"
        "finally: print([name for name in ('torch', 'matplotlib', 'pynwb') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "train.seed" in done.stdout
    assert done.stderr.strip() == "[]"
