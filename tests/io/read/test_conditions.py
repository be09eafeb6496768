"""Of a table of trials its events, its conditions and what is missing are listed, as numbers and as text."""

import json

import numpy as np
import pytest

from nwb_sbtt import inspect
from nwb_sbtt.io.read.listing import listing_of_contents
from tests.support import nwbfiles

NAN = np.nan


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.5, 40.0, 0.5)])
    nwbfiles.add_trials(
        nwbfile,
        np.arange(4) * 10.0,
        np.arange(4) * 10.0 + 8,
        cue_time=[1.0, 12.0, NAN, 33.0],
        text_time=["1.5", "13", "N/A", "N/A"],
        reaction=[0.3, 0.2, 0.45, NAN],
        outcome=["hit", "miss", "hit", "N/A"],
        contrast=[0.25, 0.5, 0.25, 0.5],
        rewarded=[True, False, True, True],
        number=[0, 1, 2, 3],
    )
    nwbfiles.add_events(nwbfile, "licks", [1.0, NAN, 2.0], side=["left", "right", "left"])
    return inspect(nwbfiles.write(nwbfile, tmp_path_factory.mktemp("trials") / "x.nwb"))


def test_events_conditions_and_missing_values_are_told_apart(contents):
    licks, trials = contents.tables
    assert (trials.path, trials.type, trials.rows, trials.start, trials.stop) == (
        "intervals/trials",
        "TimeIntervals",
        4,
        0.0,
        38.0,
    )
    events = {event.name: (event.start, event.stop, event.missing) for event in trials.events}
    assert events == {
        "start_time": (0.0, 30.0, 0.0),
        "stop_time": (8.0, 38.0, 0.0),
        "cue_time": (1.0, 33.0, 0.25),
        "text_time": (1.5, 13.0, 0.5),
    }
    conditions = {column.name: (column.counts, column.missing) for column in trials.conditions}
    assert conditions == {
        "outcome": ({"hit": 2, "miss": 1}, 0.25),
        "contrast": ({"0.25": 2, "0.5": 2}, 0.0),
        "rewarded": ({"True": 3, "False": 1}, 0.0),
    }
    assert trials.others == {"reaction": 0.25, "number": 0.0}
    assert (licks.path, licks.type, licks.rows, licks.start, licks.stop) == ("events/licks", "EventsTable", 3, 1.0, 2.0)
    assert [(event.name, event.missing) for event in licks.events] == [("timestamp", pytest.approx(1 / 3))]
    assert licks.conditions[0].counts == {"left": 2, "right": 1}


def test_they_are_printed_and_can_be_written_as_json(contents, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    text = listing_of_contents("x.nwb", contents.as_dict())
    for line in (
        "  intervals/trials (TimeIntervals): 4 rows, 0–38 s",
        "    events: start_time, stop_time, cue_time [25.0% missing], text_time [50.0% missing]",
        "    outcome [25.0% missing]: hit (2), miss (1)",
        "    other columns: reaction [25.0% missing], number",
        "    events: timestamp [33.3% missing]",
    ):
        assert line in text.splitlines()
    written = json.loads(json.dumps(contents.as_dict(), allow_nan=False))
    assert written["tables"][1]["conditions"][0]["counts"] == {"hit": 2, "miss": 1}


def test_a_column_that_cannot_be_read_hides_no_other(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_trials(nwbfile, [0.0, 1.0], [1.0, 2.0], side=["left", "left"], depth=[1.0, 1.0])
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    nwbfiles.compress(path, "intervals/trials/depth", filter_number=305)
    (table,) = inspect(path).tables
    assert [column.name for column in table.conditions] == ["side"]
    assert "'intervals/trials/depth': it is compressed with the HDF5 filter" in table.notes[0]


def test_columns_with_several_values_and_empty_tables_are_left_out(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfile.add_epoch(start_time=0.0, stop_time=2.0, tags=["a", "b"])
    nwbfile.add_trial_column("side", "generated")
    nwbfile.add_trial(start_time=0.0, stop_time=1.0, side="left")
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    epochs, trials = inspect(path).tables
    assert [event.name for event in epochs.events] == ["start_time", "stop_time"]
    assert epochs.conditions == ()
    assert trials.conditions[0].counts == {"left": 1}
