import json

import numpy as np
import pytest
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.errors import ConfigError, DataError

RNG = np.random.default_rng(7)
COUNTS = RNG.poisson(0.6, (12, 30, 5))


def test_nan_is_missing_and_a_zero_is_a_measured_zero():
    values = COUNTS.astype(float)
    values[:, ::3, 1] = np.nan
    ds = sb.from_numpy(values, bin_width=0.01, channel_id=["a", "b", "c", "d", "e"])
    np.testing.assert_array_equal(ds["observed"].values, ~np.isnan(values))
    np.testing.assert_array_equal(ds["values"].values, np.nan_to_num(values))
    assert ds.sel(channel="b")["observed"].values.mean() == pytest.approx(2 / 3)
    assert json.loads(ds.attrs["notes"]) == ["created from an array; 93.3% of its entries are observed"]


def test_a_mask_says_what_was_measured_and_is_not_guessed():
    mask = RNG.random(COUNTS.shape) < 0.5
    for given in (mask, mask.astype(int)):
        np.testing.assert_array_equal(sb.from_numpy(COUNTS, bin_width=0.01, observed=given)["observed"].values, mask)
    with pytest.raises(DataError, match=r"1 values are NaN where `observed` is true"):
        values = np.where(mask, COUNTS, np.nan)
        values[tuple(np.argwhere(mask)[0])] = np.nan
        sb.from_numpy(values, bin_width=0.01, observed=mask)
    with pytest.raises(DataError, match=r"observed has shape \(12, 30\)"):
        sb.from_numpy(COUNTS, bin_width=0.01, observed=mask[:, :, 0])
    with pytest.raises(DataError, match="other than 0 and 1"):
        sb.from_numpy(COUNTS, bin_width=0.01, observed=mask * 2)


def test_one_recording_is_chopped_and_merged_back_to_the_bin():
    values = RNG.normal(size=(430, 3))
    values[100:130, 1] = np.nan
    ds = sb.from_numpy(values, bin_width=0.02, kind="series", unit="V")
    assert ds.attrs["unit"] == "V" and ds.sizes["trial"] > 4
    whole = sb.data.merge(ds)
    np.testing.assert_allclose(whole["values"].values[0], np.nan_to_num(values), rtol=1e-6)
    np.testing.assert_array_equal(whole["observed"].values[0], ~np.isnan(values))
    longer = sb.from_numpy(values, bin_width=0.02, kind="series", chop=sb.Chop(length=2.0, overlap=0.0))
    assert longer.sizes["time"] == 100
    with pytest.raises(ConfigError, match="have trials"):
        sb.from_numpy(COUNTS, bin_width=0.02, chop=sb.Chop(length=2.0))


@pytest.mark.parametrize(
    ("values", "words", "message"),
    [
        (COUNTS + 0.5, {}, r"expected whole numbers of at least 0, but 1800 are not, such as .*kind='series'"),
        (-COUNTS - 1, {}, "whole numbers of at least 0"),
        (COUNTS[0, 0], {}, r"shape \(5,\); expected \(trial, time, channel\) or \(time, channel\)"),
        (COUNTS.astype(complex), {}, "contain complex128; expected an array of real numbers"),
        ([["a"]], {}, "expected an array of real numbers"),
        ([[[1, 2]], [[1]]], {}, "cannot be converted into an"),
        (np.full((4, 5, 6), np.inf), {"kind": "series"}, "not finite"),
        (COUNTS, {"exposure": np.ones(3)}, r"exposure has shape \(3,\)"),
        (COUNTS, {"kind": "neurons"}, "expected one of"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(values, words, message):
    with pytest.raises(DataError, match=message) as caught:
        sb.from_numpy(values, bin_width=0.01, **words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [0, -1.0, np.nan, "10ms", None])
def test_a_bin_width_is_a_positive_number(width):
    with pytest.raises(ConfigError, match="expected a positive number of seconds"):
        sb.from_numpy(COUNTS, bin_width=width)


def test_xarray_keeps_its_labels_and_gives_the_bin_width():
    time = -0.3 + 0.01 * (np.arange(30) + 0.5)
    data = xr.DataArray(
        COUNTS.transpose(2, 0, 1).astype(float),
        dims=("neuron", "trial", "time"),
        coords={
            "neuron": [3, 1, 9, 4, 5],
            "time": time,
            "area": ("neuron", list("aabbb")),
            "cue": ("trial", range(12)),
        },
    )
    ds = sb.from_xarray(data, dims={"neuron": "channel"})
    np.testing.assert_array_equal(ds["values"].values, COUNTS)
    assert ds.attrs["bin_width"] == pytest.approx(0.01)
    assert ds["channel_id"].values.tolist() == [3, 1, 9, 4, 5] and ds["area"].values.tolist() == list("aabbb")
    np.testing.assert_allclose(ds["time"].values, time)
    assert ds["cue"].values.tolist() == list(range(12))
    assert sb.from_xarray(ds) is ds
    mask = (data > 0).transpose("trial", "neuron", "time")
    masked = sb.from_xarray(data, dims={"neuron": "channel"}, observed=mask)
    np.testing.assert_array_equal(masked["observed"].values, COUNTS > 0)
    with pytest.raises(DataError, match=r"dims \('neuron', 'trial', 'time'\); expected .*dims=\{'neuron': 'channel'\}"):
        sb.from_xarray(data)
    with pytest.raises(DataError, match="does not increase in equal"):
        sb.from_xarray(data.assign_coords(time=np.sort(RNG.random(30))), dims={"neuron": "channel"})
    with pytest.raises(DataError, match="not a list"):
        sb.from_xarray([1, 2])
    with pytest.raises(DataError, match="pass bin_width in seconds"):
        sb.from_xarray(data.drop_vars("time"), dims={"neuron": "channel"})


def test_a_recording_in_xarray_starts_at_its_own_time():
    data = xr.DataArray(
        RNG.normal(size=(300, 2)), dims=("time", "channel"), coords={"time": 5.01 + 0.02 * np.arange(300)}
    )
    ds = sb.from_xarray(data, kind="series")
    assert ds["trial_start"].values[0] == pytest.approx(5.0)
    assert sb.data.merge(ds).sizes["time"] == 300
