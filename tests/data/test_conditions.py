import numpy as np
import pytest
import xarray as xr

from nwb_sbtt.data.conditions import split_by_label
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import lorenz


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return lorenz(conditions=10, trials_per_condition=6, n_channels=4).isel(trial=slice(0, 57))


@pytest.mark.parametrize("valid", [0.1, 0.2, 0.5, 0.99])
def test_no_condition_is_on_both_sides_and_labels_stay(ds: xr.Dataset, valid: float) -> None:
    parted = split_by_label(ds, "condition", valid=valid)
    xr.testing.assert_identical(parted.drop_vars("split"), ds.drop_vars("split"))
    sides = [set(ds["condition"].values[parted["split"].values == side].tolist()) for side in ("train", "valid")]
    assert not sides[0] & sides[1] and all(sides)
    assert (parted["split"].values == "valid").mean() == pytest.approx(min(valid, 0.9), abs=0.06)


def test_the_seed_decides_and_any_kind_of_label_will_do(ds: xr.Dataset) -> None:
    named = np.array([f"reach {i}" for i in ds["condition"].values], dtype=object)
    ds = ds.assign_coords(target=("trial", named))
    splits = [split_by_label(ds, "target", seed=seed)["split"].values for seed in (0, 0, 1)]
    assert np.array_equal(splits[0], splits[1]) and not np.array_equal(splits[0], splits[2])


def test_what_cannot_be_parted_is_refused(ds: xr.Dataset) -> None:
    with pytest.raises(DataError, match=r"no label 'target', but .*'condition'"):
        split_by_label(ds, "target")
    with pytest.raises(DataError, match="valid is 1"):
        split_by_label(ds, "condition", valid=1)
    with pytest.raises(DataError, match="same 'condition'"):
        split_by_label(ds.isel(trial=ds["condition"].values == 3), "condition")
    missing = np.where(ds["condition"].values == 3, np.nan, 1.0)
    with pytest.raises(DataError, match="trials have no 'target'"):
        split_by_label(ds.assign_coords(target=("trial", missing)), "target")
