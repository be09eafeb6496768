"""`nwb-sbtt settings` prints the list of settings."""

import json
import subprocess
import sys

from nwb_sbtt.config.listing import list_settings
from nwb_sbtt.evaluate.baselines import BASELINES
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


def test_all_that_packages_can_add_is_listed_with_where_it_comes_from(monkeypatch, capsys):
    def describe_nothing(data):
        raise AssertionError("not called")

    monkeypatch.setitem(BASELINES._things, "own_baseline", describe_nothing)
    assert call(monkeypatch, "models", "--json") == 0
    rows = {(row["kind"], row["name"]): row for row in json.loads(capsys.readouterr().out)}
    for key in (("model", "lfads"), ("likelihood", "zig"), ("baseline", "mean_rate"), ("reader", "Units")):
        assert rows[key]["package"] == "nwb_sbtt" and rows[key]["description"]
    assert rows["baseline", "own_baseline"]["package"] == __name__.partition(".")[0]
    assert call(monkeypatch, "models") == 0
    table = capsys.readouterr().out
    assert all(f" {name} " in table for _, name in rows)


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
