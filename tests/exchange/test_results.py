import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.io import loadmat

import nwb_sbtt as sb
from nwb_sbtt.errors import DataError, FileError, SelectionError

RNG = np.random.default_rng(5)


def latents(n_trials=6, *, apart=2.0, cut=None):
    """Rates and factors of trials that start every two seconds."""
    rates = RNG.random((n_trials, 20, 4)).astype(np.float32)
    coords = {
        "time": -0.2 + 0.05 * (np.arange(20) + 0.5),
        "trial_start": ("trial", 10 + apart * np.arange(n_trials)),
        "trial_id": ("trial", np.arange(n_trials) + 100),
        "side": ("trial", ["l", "r"] * (n_trials // 2)),
        "channel_id": ("channel", [5, 2, 8, 1]),
    }
    attrs = {"bin_width": 0.05, "kind": "units"} | ({"cut": cut} if cut else {})
    factors = RNG.random((n_trials, 20, 3)).astype(np.float32)
    variables = {"rates": (("trial", "time", "channel"), rates), "factors": (("trial", "time", "factor"), factors)}
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def test_pynapple_gets_ids_conditions_and_one_support_a_trial():
    nap = pytest.importorskip("pynapple")
    ds = latents()
    frame = sb.to_pynapple(ds)
    assert isinstance(frame, nap.TsdFrame) and list(frame.columns) == [5, 2, 8, 1]
    assert len(frame.time_support) == 6 and list(frame.time_support["side"]) == ["l", "r"] * 3
    np.testing.assert_array_equal(frame.values, ds["rates"].values.reshape(-1, 4))
    np.testing.assert_allclose(frame.t[:20], 10 + 0.05 * (np.arange(20) + 0.5))
    one = frame.restrict(frame.time_support[2])
    np.testing.assert_array_equal(one.values, ds["rates"].values[2])
    assert sb.to_pynapple(ds, "factors").shape == (120, 3)
    touching = sb.to_pynapple(latents(apart=1.0))
    assert len(touching.time_support) == 6
    with pytest.raises(DataError, match="trials overlap in time"):
        sb.to_pynapple(latents(apart=0.5))
    with pytest.raises(SelectionError, match=r"no variable 'spikes' .*choose one of \['rates', 'factors'\]"):
        sb.to_pynapple(ds, "spikes")


def test_chops_are_merged_and_what_was_not_inferred_is_nan():
    chopped = latents(apart=0.8, cut='{"by": "chop"}')
    table = sb.to_pandas(chopped)
    assert len(table) == 16 * 5 + 20 and table.index.get_level_values("time")[0] == pytest.approx(0.025)
    gap = chopped.isel(trial=[0, 1, 4, 5])
    values = sb.to_pandas(gap).to_numpy()
    assert np.isnan(values).any(axis=1).sum() == 28 and not np.isnan(values[:36]).any()


def test_pandas_has_a_row_a_bin_and_a_column_a_channel():
    ds = latents()
    table = sb.to_pandas(ds)
    assert list(table.columns) == [5, 2, 8, 1] and table.index.names == ["trial", "time"]
    np.testing.assert_array_equal(table.loc[102].to_numpy(), ds["rates"].values[2])
    np.testing.assert_array_equal(table[8].to_numpy(), ds["rates"].values[..., 2].ravel())


def test_values_that_were_not_observed_are_nan_in_tables():
    counts = RNG.poisson(1, (4, 10, 2)).astype(float)
    counts[0, :5, 1] = np.nan
    table = sb.to_pandas(sb.from_numpy(counts, bin_width=0.1), "values")
    np.testing.assert_array_equal(table.to_numpy().reshape(4, 10, 2), counts)


def test_a_matlab_file_holds_variables_labels_and_dims(tmp_path):
    ds = latents()
    path = sb.to_mat(ds, tmp_path / "latents.mat")
    stored = loadmat(path, squeeze_me=True, simplify_cells=True)
    np.testing.assert_array_equal(stored["rates"], ds["rates"].values)
    assert stored["channel_id"].tolist() == [5, 2, 8, 1] and stored["side"].tolist() == ["l", "r"] * 3
    assert stored["bin_width"] == 0.05 and stored["dims"]["rates"] == "trial, time, channel"
    with pytest.raises(FileError, match="exists"):
        sb.to_mat(ds, path)
    sb.to_mat(ds, path, overwrite=True)
    with pytest.raises(FileError, match=r"does not end in \.mat"):
        sb.to_mat(ds, tmp_path / "latents.h5")
    assert [each.name for each in tmp_path.iterdir()] == ["latents.mat"]
    assert sb.to_mat(ds, tmp_path / "new" / "latents.mat").exists()


def test_one_trial_alone_is_a_table_of_one_trial(tmp_path):
    ds = latents()
    pd.testing.assert_frame_equal(sb.to_pandas(ds.isel(trial=2)), sb.to_pandas(ds.isel(trial=[2])))
    stored = loadmat(sb.to_mat(ds.isel(trial=2), tmp_path / "one.mat"))
    np.testing.assert_array_equal(stored["rates"], ds["rates"].values[[2]])
    with pytest.raises(SelectionError, match=r"the Dataset has none, but \['r2'\]"):
        sb.to_pandas(xr.Dataset({"r2": ("column", [1.0])}))
    with pytest.raises(DataError, match="has no trial"):
        sb.to_pandas(ds.isel(trial=[]))


def test_columns_with_names_of_pynapples_methods_get_a_name_of_their_own():
    pytest.importorskip("pynapple")
    ds = latents().assign_coords(split=("trial", ["train"] * 6), shape=("trial", np.arange(6)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        support = sb.to_pynapple(ds).time_support
        assert list(support["trial_split"]) == ["train"] * 6 and list(support["trial_shape"]) == list(range(6))
        assert len(sb.to_pynapple(ds.isel(trial=2)).time_support) == 1
