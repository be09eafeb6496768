"""Trials are cut from tables of intervals and of events, by the name under which a user knows them."""

import json

import numpy as np
import pytest

from nwb_sbtt import Trials, read_nwb
from nwb_sbtt.config import ReadConfig
from nwb_sbtt.errors import SelectionError
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
    assert any("1 rows of" in note and "have no 'timestamp'" in note for note in notes)


def test_columns_of_events_become_coordinates(licked):
    config = ReadConfig(bin_width=0.02, trial_columns=("side",))
    read = read_nwb(licked, config, trials=Trials(event="licks", start=0.0, stop=0.1))
    assert read["side"].values.tolist() == ["left", "right", "left", "right"]


def test_a_column_of_the_trials_comes_before_a_table_of_events(licked):
    read = read_nwb(licked, bin_width=0.02, trials=Trials(event="cue", start=0.0, stop=0.1))
    assert np.allclose(read["trial_start"].values, [0.5, 3.5])


def test_an_unknown_event_or_table_is_named(licked):
    with pytest.raises(SelectionError, match=r"table 'trials' has no column 'lick', it has .*'cue'"):
        read_nwb(licked, trials=Trials(event="lick", start=0.0, stop=0.1))
    with pytest.raises(
        SelectionError, match=r"no table of intervals 'licked'; it has \['events/licks', 'intervals/trials'\]"
    ):
        read_nwb(licked, trials=Trials(event="timestamp", start=0.0, stop=0.1, table="licked"))
    with pytest.raises(SelectionError, match=r"'side' of 'licks' holds str such as 'left', not times.*'timestamp'"):
        read_nwb(licked, trials=Trials(event="side", start=0.0, stop=0.1, table="licks"))
