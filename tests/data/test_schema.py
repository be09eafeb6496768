"""Channels and trials of a Dataset are chosen by their ids, before and after it is cut, fitted or written."""

import numpy as np
import pytest

from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.schema import check_dataset, make_dataset
from nwb_sbtt.data.tensors import to_latents
from nwb_sbtt.errors import DataError


def small(**coords):
    values = np.arange(3 * 4 * 3).reshape(3, 4, 3)
    return make_dataset(
        values,
        np.ones(values.shape, bool),
        bin_width=0.1,
        kind="units",
        channel_id=[12, 7, 0],
        trial_start=[0.0, 0.3, 0.6],
        coords=coords,
        attrs={"unit": "counts"},
    )


def test_channels_and_trials_are_chosen_by_their_ids():
    ds = small(trial_id=("trial", [30, 10, 20]))
    np.testing.assert_array_equal(ds.sel(channel=7)["values"], ds.isel(channel=1)["values"])
    np.testing.assert_array_equal(ds.sel(trial=[20, 30])["values"], ds.isel(trial=[2, 0])["values"])
    part = ds.isel(channel=[2, 0], trial=slice(1, None))
    np.testing.assert_array_equal(part.sel(channel=12, trial=20)["values"], ds["values"].values[2, :, 0])
    latents = to_latents(part, {}, {})
    assert latents.sel(channel=0, trial=10)["observed"].all()


def test_pieces_of_a_session_have_no_ids_and_keep_those_of_channels_when_merged():
    ds = small()
    assert "trial" not in ds.coords
    np.testing.assert_array_equal(merge(ds).sel(channel=7)["values"].values[0, :3], ds["values"].values[0, :3, 1])
    assert merge(ds).sel(channel=7)["channel_id"] == 7


def test_two_channels_of_one_id_are_both_chosen():
    ds = small().assign_coords(table=("channel", ["a", "b", "b"]))
    twice = make_dataset(
        ds["values"], ds["observed"], bin_width=0.1, kind="rois", channel_id=[0, 1, 0], attrs={"unit": "a.u."}
    )
    assert twice.sel(channel=0).sizes["channel"] == 2
    assert (twice["values"].where(twice["observed"]) == twice["values"]).all()


@pytest.mark.parametrize(
    ("name", "dim", "flags", "said"),
    [
        ("held_out", "channel", ["no", "yes", "no"], "expected a flag for each channel"),
        ("held_out", "channel", [0.0, np.nan, 1.0], "expected a flag for each channel"),
        ("held_out", "channel", [1, 1, 1], "marks every channel"),
        ("held_out", "trial", [True, False], "has dims"),
        ("forecast", "time", [True] * 4, "marks every time"),
        ("forecast", "time", [0, 2, 0, 0], "expected a flag for each time"),
    ],
)
def test_what_is_never_shown_is_told_by_flags(name, dim, flags, said):
    ds = make_dataset(np.zeros((2, 4, 3)), np.ones((2, 4, 3), bool), bin_width=0.1, kind="units")
    with pytest.raises(DataError, match=said):
        check_dataset(ds.assign_coords({name: (dim, flags)}))
    check_dataset(ds.assign_coords(held_out=("channel", [0, 1, 0]), forecast=("time", [False, False, True, True])))
