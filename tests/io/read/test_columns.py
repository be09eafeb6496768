"""Columns of conditions, added to trials that were read without them."""

import numpy as np

from nwb_sbtt.config import Chop, ReadConfig, Trials
from nwb_sbtt.io.read.columns import attach_conditions
from nwb_sbtt.io.read.reader import read_nwb
from tests.support import nwbfiles


def test_columns_of_few_values_are_added_to_the_trials_of_their_rows(tmp_path):
    nwbfile = nwbfiles.new_file()
    nwbfiles.add_units(nwbfile, [np.arange(0.05, 12, 0.1)], obs_intervals=[[[0.0, 12.0]]])
    starts = np.arange(12.0)
    go = np.where(starts == 3, np.nan, starts + 0.5)
    columns = {"go": go, "side": ["left", "right"] * 6, "reward": starts / 12, "block": (starts // 6).astype(int)}
    nwbfiles.add_trials(nwbfile, starts, starts + 1, **columns)
    path = nwbfiles.write(nwbfile, tmp_path / "x.nwb")
    config = ReadConfig(bin_width=0.1, cut=Trials(event="go", start=-0.3, stop=0.3))
    ds = read_nwb(path, config)
    found = attach_conditions(path, ds, config)
    assert set(found.coords) - set(ds.coords) == {"side", "block"}, "go is a time, and reward has twelve values"
    rows = ds["trial_id"].values
    assert len(rows) == 11 and found["block"].values.tolist() == (rows // 6).tolist()
    assert found["side"].values.tolist() == [("left", "right")[row % 2] for row in rows]
    chops = ReadConfig(bin_width=0.1, cut=Chop(length=1.0))
    whole = read_nwb(path, chops)
    assert attach_conditions(path, whole, chops).identical(whole)
