"""Trials are cut from tables of intervals and of events, by the name under which a user knows them."""

import json
import re

import h5py
import numpy as np
import pytest

from nwb_sbtt import Trials, inspect, read_nwb
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.errors import ConfigError, DataError, SelectionError
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.trials import trial_tables
from tests.support import nwbfiles

LICKS = [1.0, 2.5, 4.0, np.nan, 7.25]


@pytest.fixture
def licked(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 9.0, 0.1), [1.01, 2.51, 4.01, 7.26]], obs_intervals=[[[0, 9]]] * 2)
    nwbfiles.add_trials(nwbfile, [0.0, 3.0], [3.0, 6.0], cue=[0.5, 3.5])
    nwbfiles.add_events(nwbfile, "licks", LICKS, side=["left", "right", "left", "left", "right"])
    nwbfiles.add_invalid_times(nwbfile, [[8.0, 8.5]])
    return nwbfiles.write(nwbfile, tmp_path / "licked.nwb")


def test_tables_of_intervals_and_events_are_found(licked):
    with open_nwb(licked) as nwbfile:
        assert list(trial_tables(nwbfile)) == ["events/licks", "intervals/trials"]


@pytest.mark.parametrize(
    ("event", "table"),
    [("licks", "trials"), ("events/licks", "trials"), ("timestamp", "licks"), ("timestamp", "/events/licks")],
)
def test_trials_are_cut_around_events(licked, event, table):
    cut = Trials(event=event, start=0.0, stop=0.1, table=table)
    read = read_nwb(licked, bin_width=0.02, trials=cut)
    assert np.allclose(read["trial_start"].values, [1.0, 2.5, 4.0, 7.25])
    assert read["trial_id"].values.tolist() == [0, 1, 2, 4]
    assert read["values"].values[:, 0, 1].tolist() == [1, 1, 1, 1]
    notes = json.loads(read.attrs["notes"])
    assert any("4 trials of 5 rows of" in note and "licks', aligned to 'timestamp'" in note for note in notes)
    assert any("1 rows of" in note and "have no time in 'timestamp'" in note for note in notes)


def test_columns_of_events_become_coordinates(licked):
    config = ReadConfig(bin_width=0.02, trial_columns=("side",))
    read = read_nwb(licked, config, trials=Trials(event="licks", start=0.0, stop=0.1))
    assert read["side"].values.tolist() == ["left", "right", "left", "right"]


def test_a_column_of_the_trials_comes_before_a_table_of_events(licked):
    read = read_nwb(licked, bin_width=0.02, trials=Trials(event="cue", start=0.0, stop=0.1))
    assert np.allclose(read["trial_start"].values, [0.5, 3.5])


def test_an_unknown_event_or_table_is_named(licked):
    with pytest.raises(SelectionError, match=r"table 'trials' has no column 'lick'; it has .*'cue'"):
        read_nwb(licked, trials=Trials(event="lick", start=0.0, stop=0.1))
    with pytest.raises(
        SelectionError, match=r"no table of intervals 'licked'; it has \['events/licks', 'intervals/trials'\]"
    ):
        read_nwb(licked, trials=Trials(event="timestamp", start=0.0, stop=0.1, table="licked"))
    with pytest.raises(
        SelectionError, match=r"'side' of 'licks' has str values such as 'left'; expected times.*'timestamp'"
    ):
        read_nwb(licked, trials=Trials(event="side", start=0.0, stop=0.1, table="licks"))


STARTS = 1 + 2.9 * np.arange(20)
FROM_START = np.random.default_rng(1).uniform(0.2, 0.6, 20)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Trials of 2 s, with events as different laboratories store them."""
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 62.0, 0.1)])
    columns = {
        "cue": STARTS + FROM_START,
        "from_start": FROM_START,
        "from_start_in_ms": 1000 * FROM_START,
        "in_ms": 1000 * (STARTS + FROM_START),
        "block": np.arange(20) // 5,
        "ready": STARTS - 0.5,
        "late": STARTS + np.where(np.arange(20) < 3, 2.4, 1.0),
        "zero_if_none": np.where(np.arange(20) % 3, 0.0, STARTS + 0.5),
        "two_if_none": np.array([-1.0, 9999.0, *[-1.0] * 5, 9999.0, *STARTS[8:] + 0.5]),
        "flag": np.array([1.0, 0.0] * 10),
        "code": np.array([0, 1, 2, 1] * 5),
        "cue_in_whole_ms": np.array([200.0, 500.0] * 10),
        "twice": np.repeat(STARTS[::2], 2),
    }
    nwbfiles.add_trials(nwbfile, STARTS, STARTS + 2, **columns)
    return nwbfiles.write(nwbfile, tmp_path_factory.mktemp("trials") / "session.nwb")


def cut(path, event, **fields):
    return read_nwb(path, bin_width=0.1, trials=Trials(event=event, start=0.0, stop=0.2, **fields))


def test_events_from_the_start_of_a_trial_are_refused_until_that_is_said(session):
    with pytest.raises(
        DataError,
        match=r"20 of 20 times in 'from_start' .*\(row 19: .* s, trial from 56.1 to 58.1 s\); they look "
        r"relative to the start of the trial; pass relative=True in Trials, or --trials-relative",
    ):
        cut(session, "from_start")
    relative, absolute = cut(session, "from_start", relative=True), cut(session, "cue")
    assert relative["trial_start"].values == pytest.approx(STARTS + FROM_START)
    assert (relative["values"].values == absolute["values"].values).all()


@pytest.mark.parametrize(
    ("event", "fields", "says"),
    [
        ("in_ms", {}, "look like milliseconds"),
        ("from_start_in_ms", {}, "look like milliseconds"),
        ("block", {}, "block numbers"),
        ("flag", {}, r"flags or codes \(0 in 10 rows, 1 in 10 rows\), not times; name a column of times"),
        ("code", {}, r"flags or codes \(0 in 5 rows, 1 in 10 rows, 2 in 5 rows\), not times"),
        ("cue_in_whole_ms", {}, r"look like codes \(.*\), or milliseconds"),
        ("cue", {"relative": True}, "without `relative` they would be inside; omit it"),
        ("from_start_in_ms", {"relative": True}, "if they are relative to its start"),
    ],
)
def test_events_that_are_no_times_of_their_trial_are_refused(session, event, fields, says):
    with pytest.raises(
        DataError, match=rf"(19|20) of 20 times in '{event}' of 'trials' are outside their own trial.*{says}"
    ):
        cut(session, event, **fields)


def test_rows_that_stop_before_they_start_are_noted(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 62.0, 0.1)])
    stops = STARTS + np.where(np.arange(20) % 7 == 2, -1.5, 2)
    nwbfiles.add_trials(nwbfile, STARTS, stops, cue=STARTS + 0.5)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    told = "3 of 20 rows of 'trials' stop before they start (row 2: from 6.8 to 5.3 s)"
    assert any(note.startswith(told) for note in json.loads(cut(path, "cue").attrs["notes"]))
    assert [note.startswith(told) for note in inspect(path).tables[0].notes] == [True]


def test_times_in_coarser_steps_than_bins_are_noted(tmp_path):
    late = 40_000.0
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [late + np.arange(0.05, 62.0, 0.1)])
    nwbfiles.add_trials(nwbfile, late + STARTS, late + STARTS + 2)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    assert not any("are stored as" in note for note in json.loads(cut(path, "start_time").attrs["notes"]))
    with h5py.File(path, "a") as file:
        for name in ("units/spike_times", "intervals/trials/start_time"):
            stored, attributes = file[name][...].astype("f4"), dict(file[name].attrs)
            del file[name]
            file[name] = stored
            file[name].attrs.update(attributes)
        file["units/spike_times_index"].attrs["target"] = file["units/spike_times"].ref
    contents = inspect(path)
    for notes in (json.loads(cut(path, "start_time").attrs["notes"]), [*contents[0].notes, *contents.tables[0].notes]):
        for what in ("the spike times of 'units'", "the times in 'start_time' of 'trials'"):
            assert any(
                note.startswith(f"{what} are stored as float32 with a resolution of 0.00391 s at") for note in notes
            )


@pytest.mark.parametrize("name", ["start_time", "stop_time", "cue"])
def test_columns_that_a_fit_refuses_are_not_listed_as_events(name, tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 62.0, 0.1)])
    nwbfiles.add_trials(nwbfile, STARTS, STARTS + 2, cue=STARTS + 0.5, flag=[True, False] * 10)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        column = file[f"intervals/trials/{name}"]
        texts, attributes = [str(time) for time in column[...]], dict(column.attrs)
        del file[f"intervals/trials/{name}"]
        file["intervals/trials"].create_dataset(name, data=texts, dtype=h5py.string_dtype()).attrs.update(attributes)
    listed = {event.name for event in inspect(path).tables[0].events}
    for event in ("start_time", "stop_time", "cue", "flag"):
        if event in listed:
            assert cut(path, event).sizes["trial"] == 20
        else:
            with pytest.raises((DataError, SelectionError)):
                cut(path, event)
    assert ("cue" in listed) == (name == "cue")
    if name != "cue":
        assert any(f"'{name}' of 'trials', row 0: " in note for note in inspect(path).tables[0].notes)


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("scaled", ["series", "trials", "neither"])
def test_units_of_time_that_seem_to_differ_are_told(scaled, start, tmp_path):
    of_series, of_trials = (1000.0 if scaled == which else 1.0 for which in ("series", "trials"))
    nwbfile = nwbfiles.new_file()
    times = (start + np.arange(6000) * 0.01) * of_series
    nwbfiles.add_series(nwbfile, np.random.default_rng(0).normal(size=(6000, 2)), timestamps=times)
    nwbfiles.add_trials(nwbfile, STARTS * of_trials, (STARTS + 2) * of_trials)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    around = Trials(event="start_time", start=-0.2, stop=1.0)
    notes = list(inspect(path)[0].notes)
    if scaled == "neither":
        notes += json.loads(read_nwb(path, series="acquisition/series", trials=around).attrs["notes"])
        assert not any("units of time" in note for note in notes)
        return
    told = (
        f"units of time seem to differ: .*as if the {scaled} were in milliseconds .*divide the times of the .* by 1000"
    )
    with pytest.raises((ConfigError, DataError), match=told):
        read_nwb(path, series="acquisition/series", trials=around)
    assert any(re.match(told, note) for note in notes)


@pytest.mark.parametrize(("event", "n"), [("ready", 20), ("late", 3)])
def test_events_just_outside_their_trial_are_noted(session, event, n):
    (note,) = (note for note in json.loads(cut(session, event).attrs["notes"]) if "outside their own trial" in note)
    assert note.startswith(f"{n} of 20 times in '{event}'")


def test_what_is_on_the_session_clock_is_not_relative(session, licked):
    with pytest.raises(ConfigError, match="'start_time' of 'trials' is on the session clock; omit `relative`"):
        cut(session, "start_time", relative=True)
    with pytest.raises(ConfigError, match="'licks' is a table of events without trials"):
        cut(licked, "licks", relative=True)


def test_trials_that_are_all_the_same_data_are_refused_and_some_are_noted(session, tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 9.0, 0.1)])
    nwbfiles.add_trials(nwbfile, np.ones(20), np.ones(20))
    with pytest.raises(DataError, match=r"all 20 rows of 'trials' have the same time in 'start_time', 1 s"):
        cut(nwbfiles.write(nwbfile, tmp_path / "zero.nwb"), "start_time")
    noted = " ".join(json.loads(cut(session, "twice").attrs["notes"]))
    assert "20 of 20 trials start at the same time as another one and have the same" in noted


@pytest.mark.parametrize(
    ("event", "rows", "says"),
    [
        ("zero_if_none", range(0, 20, 3), ["13 rows of 'trials' have 0 in 'zero_if_none'"]),
        (
            "two_if_none",
            range(8, 20),
            ["6 rows of 'trials' have -1 in 'two_if_none'", "2 rows of 'trials' have 9999 in"],
        ),
    ],
)
def test_numbers_that_stand_for_no_event_leave_their_trials_out(session, event, rows, says):
    read = cut(session, event)
    assert read["trial_id"].values.tolist() == list(rows)
    assert read["trial_start"].values == pytest.approx(STARTS[rows] + 0.5)
    notes = " ".join(json.loads(read.attrs["notes"]))
    assert all(
        each in notes for each in (*says, "outside all trials; these rows are treated as trials without the event")
    )
    trials = next(table for table in inspect(session).tables if table.path == "intervals/trials")
    assert [each.missing for each in trials.events if each.name == event] == [pytest.approx(1 - len(rows) / 20)]
