import json

import numpy as np
import pytest
import torch
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


def test_what_a_masked_array_masks_is_missing():
    hidden, measured = RNG.random(COUNTS.shape) < 0.3, RNG.random(COUNTS.shape) < 0.6
    for masked in (
        np.ma.masked_array(COUNTS, hidden),
        np.ma.masked_array(np.where(hidden, np.nan, COUNTS), hidden),
        [np.ma.masked_array(trial, mask) for trial, mask in zip(COUNTS, hidden, strict=True)],
        [
            [np.ma.masked_array(row, mask) for row, mask in zip(*pair, strict=True)]
            for pair in zip(COUNTS, hidden, strict=True)
        ],
    ):
        ds = sb.from_numpy(masked, bin_width=0.02)
        np.testing.assert_array_equal(ds["observed"].values, ~hidden)
        np.testing.assert_array_equal(ds["values"].values, np.where(hidden, 0, COUNTS))
        both = sb.from_numpy(masked, bin_width=0.02, observed=measured)
        np.testing.assert_array_equal(both["observed"].values, ~hidden & measured)
    flags = np.ma.masked_array(measured, hidden)
    np.testing.assert_array_equal(
        sb.from_numpy(COUNTS, bin_width=0.02, observed=flags)["observed"].values, ~hidden & measured
    )
    long = np.ma.masked_array(np.tile(COUNTS[0], (9, 1)), np.tile(hidden[0], (9, 1)))
    whole = sb.data.merge(sb.from_numpy(long, bin_width=0.02))
    np.testing.assert_array_equal(whole["observed"].values[0], ~np.ma.getmaskarray(long))


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
        (COUNTS, {"kind": "neurons"}, "^kind is 'neurons'; expected one of"),
        (COUNTS[:0], {}, r"values are empty: they have shape \(0, 30, 5\)"),
        (COUNTS * np.nan, {}, "^nothing is observed: the value is NaN or masked in all 1800 entries; (?!.*inspect)"),
        (COUNTS, {"observed": COUNTS < 0}, "^nothing is observed: `observed` is false in all 1800"),
        (COUNTS, {"channel_id": [1, 2]}, r"channel_id has shape \(2,\); expected one id for each of 5 channels"),
        (COUNTS, {"channel_id": [1, 2, 2, 3, 1]}, "channel_id repeats 1, 2; expected an id of its own"),
        (COUNTS, {"channel_id": [1, 2, None, 3, 4]}, "channel_id contains object .* expected integers or texts"),
        (COUNTS, {"trial_start": [1, 2]}, r"trial_start has shape \(2,\); expected the start of each of 12 trials"),
        (COUNTS, {"trial_start": np.ma.masked_equal(range(12), 3)}, "trial_start contains values that are not finite"),
        (COUNTS[0], {"trial_start": [1, 2]}, "expected the start of each of 1 trials"),
        (COUNTS, {"coords": {"cue": ("trial", [1, 2])}}, r"coords\['cue'\] has shape \(2,\); expected \(12,\)"),
        (COUNTS, {"coords": {"cue": ("cue", range(12))}}, "has the dim 'cue'; expected one of"),
        (COUNTS, {"coords": {"cue": list("ab")}}, r"coords\['cue'\] is a list; expected a pair \(dim, array\)"),
        (COUNTS, {"coords": [("trial", range(12))]}, "coords is a list; expected a mapping"),
        (COUNTS, {"coords": {"trial_start": ("trial", range(12))}}, "pass it as `trial_start`"),
        (
            COUNTS,
            {"coords": {"trial_id": ("trial", [0, 1] * 6)}},
            "trial_id repeats 0, 1; expected an id of its own for each tr",
        ),
        (
            COUNTS,
            {"coords": {"trial_id": ("trial", [np.nan] * 12)}},
            "trial_id contains float64 .* expected integers or",
        ),
        (
            COUNTS,
            {"coords": {"cue": ("trial", [None] * 12)}},
            r"coords\['cue'\] contains object; expected numbers, flags or",
        ),
        (
            COUNTS,
            {"coords": {"day": ("trial", np.arange(12).astype("M8[D]"))}},
            r"contains datetime64\[D\]; expected numbers",
        ),
        (
            COUNTS,
            {"coords": {"rates": ("trial", range(12))}},
            "'rates' has the name of a variable that a model infers; rename",
        ),
        (COUNTS, {"unit": 5}, "unit is 5; expected a text"),
        (np.ma.masked_array(COUNTS), {"exposure": np.ma.masked_equal(COUNTS * 0.0 + 1, 1)}, "'exposure' must lie"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(values, words, message):
    with pytest.raises(DataError, match=message) as caught:
        sb.from_numpy(values, bin_width=0.01, **words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [{"start": "a"}, {"start": np.nan}, {"start": True}, {"chop": "a"}])
def test_a_start_is_a_number_and_a_chop_is_a_chop(words):
    with pytest.raises(ConfigError, match="expected a "):
        sb.from_numpy(COUNTS, bin_width=0.01, **words)


@pytest.mark.parametrize("width", [0, -1.0, np.nan, "10ms", None, True])
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


def labelled(**coords):
    return xr.DataArray(COUNTS.astype(float), dims=("trial", "time", "channel"), coords=coords)


@pytest.mark.parametrize(("unit", "per_bin"), [("ms", 20), ("us", 20_000), ("ns", 20_000_000)])
def test_times_count_in_their_own_unit(unit, per_bin):
    steps = np.arange(30) * per_bin
    for time in (steps.astype(f"timedelta64[{unit}]"), ("time", steps, {"units": unit})):
        assert sb.from_xarray(labelled(time=time)).attrs["bin_width"] == pytest.approx(0.02, rel=1e-12)
    with pytest.raises(DataError, match="'time' is in 'frames'; expected seconds"):
        sb.from_xarray(labelled(time=("time", steps, {"units": "frames"})))
    with pytest.raises(DataError, match=r"'time' contains datetime64.*data\.time - data\.time"):
        sb.from_xarray(labelled(time=np.datetime64("2020-01-01") + steps.astype(f"timedelta64[{unit}]")))


def test_a_bin_width_must_not_contradict_the_times():
    data = labelled(time=0.01 + 0.02 * np.arange(30))
    xr.testing.assert_allclose(sb.from_xarray(data, bin_width=0.02), sb.from_xarray(data))
    rounded = data.assign_coords(time=(1000 + data.time).astype("float32"))
    assert sb.from_xarray(rounded, bin_width=0.02).attrs["bin_width"] == 0.02
    for width in (0.05, 0.0201, 20.0):
        with pytest.raises(ConfigError, match=r"but the coordinate 'time' steps by 0\.02 s"):
            sb.from_xarray(data, bin_width=width)
    with pytest.raises(ConfigError, match="a Dataset is taken as it is, so `bin_width` would change nothing"):
        sb.from_xarray(sb.from_xarray(data), bin_width=0.05)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (["trial", "time", "channel"], "dims is a?.*expected a mapping"),
        ({"neuron": "channel"}, "dims names 'neuron'; the DataArray has dims"),
        ({"channel": "neuron"}, "expected a mapping of names to roles"),
        ({"channel": "time"}, "give each role once"),
    ],
)
def test_roles_are_given_to_dimensions_that_there_are_and_once(dims, message):
    with pytest.raises(ConfigError, match=message):
        sb.from_xarray(labelled(time=0.02 * np.arange(30)), dims=dims)


def test_texts_of_any_kind_are_a_column():
    names = np.array(list("abcdefghijkl"), dtype=object)
    ds = sb.from_numpy(COUNTS, bin_width=0.01, coords={"cue": ("trial", names), "trial_id": ("trial", names)})
    assert ds["cue"].dtype.kind == "U"
    assert ds.sel(trial="c")["cue"].item() == "c"


def test_a_tensor_that_requires_a_gradient_is_refused_in_words():
    with pytest.raises(DataError, match=r"values cannot be converted into an array: .*detach"):
        sb.from_numpy(torch.ones(2, 3, 4, requires_grad=True), bin_width=0.01)


def test_a_dataset_takes_no_other_kind():
    with pytest.raises(ConfigError, match="a Dataset is taken as it is, so `kind` would change nothing"):
        sb.from_xarray(sb.from_numpy(COUNTS, bin_width=0.01), kind="rois")
    assert sb.from_xarray(labelled(time=0.02 * np.arange(30)), kind="series").attrs["kind"] == "series"


def test_labels_tell_which_channel_is_which():
    data = labelled(time=0.02 * np.arange(30), channel=list("abcde"))
    with pytest.raises(DataError, match="channel_id repeats 'a'"):
        sb.from_xarray(data.assign_coords(channel=list("abcda")))
    with pytest.raises(DataError, match="labels of 'channel' of `observed` are not those"):
        sb.from_xarray(data, observed=(data >= 0).isel(channel=[1, 0, 2, 3, 4]))
    with pytest.raises(DataError, match="`observed` has dims"):
        sb.from_xarray(data, observed=(data >= 0).isel(trial=0))
    named = data.drop_vars("channel").rename(channel="n").assign_coords(channel=("n", list("abcde")))
    assert sb.from_xarray(named, dims={"n": "channel"})["channel_id"].values.tolist() == list("abcde")
    one = data.assign_coords(trial=np.arange(12)).isel(trial=3)
    whole = sb.data.merge(sb.from_xarray(one, chop=sb.Chop(length=0.2, overlap=0.0)))
    np.testing.assert_array_equal(whole["values"].values[0], COUNTS[3])
