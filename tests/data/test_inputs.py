"""Known inputs are added to data by name, with a mask of their own."""

import numpy as np
import pytest
import torch
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.data.chops import merge
from nwb_sbtt.data.inputs import input_names, without_inputs
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import DataError

COUNTS = np.random.default_rng(0).poisson(1.0, (4, 10, 3)).astype(float)


def data():
    return sb.from_numpy(COUNTS, bin_width=0.02)


def light(value=1.0):
    array = np.zeros((4, 10))
    array[:, 3] = value
    return array


def test_inputs_are_named_and_nan_is_missing():
    array = light()
    array[0, :2] = np.nan
    ds = sb.with_inputs(data(), {"light": array})
    assert input_names(ds) == ("light",)
    assert ds["inputs"].dims == ("trial", "time", "input")
    assert not ds["inputs_observed"].values[0, :2].any() and ds["inputs_observed"].values[1:].all()
    assert (ds["inputs"].values[0, :2] == 0).all() and (ds["inputs"].sel(input="light")[:, 3] == 1).all()


def test_what_a_masked_array_masks_is_missing():
    masked = np.ma.masked_array(np.arange(40).reshape(4, 10), np.arange(40).reshape(4, 10) % 2 == 0)
    ds = sb.with_inputs(data(), {"light": masked})
    np.testing.assert_array_equal(ds["inputs_observed"].values[..., 0], ~masked.mask)


def test_more_inputs_are_added_to_those_there_are():
    ds = sb.with_inputs(sb.with_inputs(data(), {"light": light()}), {"sound": light(2.0)})
    assert input_names(ds) == ("light", "sound")
    assert (ds["inputs"].values[:, 3] == [1, 2]).all()
    assert "inputs" not in without_inputs(ds) and "input" not in without_inputs(ds).coords


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"light": np.zeros((4, 9))}, r"has the shape \(4, 9\); expected \(4, 10\)"),
        ({"light": np.full((4, 10), np.inf)}, "infinite in 40 bins"),
        ({"light": np.full((4, 10), np.nan)}, "not known in any bin"),
        ({"light": [["a"] * 10] * 4}, "is a list; expected numbers"),
        ({}, r"a mapping of \[\]"),
        (np.zeros((4, 10)), "a ndarray; expected names and arrays"),
        ({3: np.zeros((4, 10))}, r"a mapping of \[3\]"),
    ],
)
def test_what_is_no_input_is_refused(inputs, message):
    with pytest.raises(DataError, match=message):
        sb.with_inputs(data(), inputs)


def test_a_name_is_given_once():
    with pytest.raises(DataError, match="have an input 'light' already"):
        sb.with_inputs(sb.with_inputs(data(), {"light": light()}), {"light": light()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.drop_vars("inputs_observed"), "'inputs_observed' is missing"),
        (lambda ds: ds.assign(inputs=ds["inputs"].astype(float)), "'inputs' is float64"),
        (lambda ds: ds.drop_vars("input"), r"the inputs are named \[\]"),
        (lambda ds: ds.assign(inputs_observed=ds["inputs_observed"] & False), "0 where 'inputs_observed' is false"),
    ],
)
def test_the_rules_of_inputs_are_checked(change, message):
    with pytest.raises(DataError, match=message):
        to_batch(change(sb.with_inputs(data(), {"light": light()})))


def test_chops_of_a_session_are_merged_with_their_inputs():
    counts = np.random.default_rng(1).poisson(1.0, (200, 3)).astype(float)
    ds = sb.from_numpy(counts, bin_width=0.02, chop=sb.Chop(length=0.6, overlap=0.2))
    course = np.sin(np.arange(200) / 7)
    course[50:60] = np.nan
    ds = sb.with_inputs(ds, {"sound": course})
    whole = merge(ds)
    known = whole["inputs_observed"].values[0, :, 0]
    n = whole.sizes["time"]
    np.testing.assert_array_equal(known, np.isfinite(course[:n]))
    np.testing.assert_allclose(whole["inputs"].values[0, known, 0], course[:n][known], rtol=1e-6)


def test_trials_of_a_batch_keep_their_inputs():
    array = np.arange(40.0).reshape(4, 10)
    batch = to_batch(sb.with_inputs(data(), {"ramp": array})).select(torch.tensor([2, 0]))
    np.testing.assert_array_equal(batch.inputs[..., 0].numpy(), array[[2, 0]])
    assert batch.inputs_observed.all()


def test_data_without_inputs_have_none():
    batch = to_batch(data())
    assert batch.inputs is None and batch.inputs_observed is None and input_names(xr.Dataset()) == ()
