import json
from collections import Counter

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.data.splits import split, split_by_label
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import lorenz


def trials(n: int, *, step: float = 2.0, cut: str = "trials", labels: list[str] | None = None) -> xr.Dataset:
    """`n` trials of ten bins of 0.1 s, one every `step` seconds."""
    values = np.ones((n, 10, 2))
    coords = {} if labels is None else {"split": ("trial", labels)}
    return make_dataset(
        values,
        values > 0,
        bin_width=0.1,
        kind="units",
        trial_start=100 + step * np.arange(n),
        coords=coords,
        attrs={"cut": json.dumps({"by": cut})},
    )


def count(ds: xr.Dataset) -> dict[str, int]:
    return dict(Counter(ds["split"].values.tolist()))


@given(n=st.integers(3, 300), valid=st.floats(0.01, 0.9), seed=st.integers(0, 99))
def test_separate_trials_give_the_share_asked_for(n: int, valid: float, seed: int) -> None:
    counts = count(split(trials(n), valid=valid, seed=seed))
    assert counts["valid"] == min(max(1, round(valid * n)), n - 2)
    assert counts["train"] == n - counts["valid"]


@given(n=st.integers(5, 200), step=st.sampled_from([0.25, 0.5, 0.8, 0.9, 1.0]), seed=st.integers(0, 99), data=st.data())
def test_no_sample_of_a_chopped_session_is_in_both_parts(n: int, step: float, seed: int, data: st.DataObject) -> None:
    ds = trials(n, step=step, cut="chop")
    ds = ds.isel(trial=data.draw(st.permutations(range(n))))
    try:
        labels = split(ds, seed=seed)["split"].values
    except DataError:
        assert n < 3 + 1 / step
        return
    moments = ds["trial_start"].values[:, None] + ds["time"].values
    parts = {label: np.unique(np.round(moments[labels == label] / 0.05)) for label in ("train", "valid")}
    assert not np.isin(parts["valid"], parts["train"]).any()
    assert len(parts["valid"]) and (labels == "train").sum() >= 2
    if step == 1.0:
        assert not (labels == "gap").any()


def test_validation_pieces_of_a_long_session_lie_in_several_parts_of_it() -> None:
    labels = split(trials(200, step=0.8, cut="chop"))["split"].values
    assert Counter(labels.tolist()) == {"train": 150, "valid": 40, "gap": 10}
    thirds = [set(part.tolist()) for part in np.array_split(labels, 3)]
    assert all("valid" in part for part in thirds)


def test_trials_that_overlap_are_treated_like_pieces() -> None:
    labels = split(trials(50, step=0.7))["split"].values
    assert (labels == "gap").any()


def test_the_seed_decides() -> None:
    first, same, other = (split(trials(100), seed=seed)["split"].values.tolist() for seed in (3, 3, 4))
    assert first == same
    assert first != other


def test_labels_of_the_file_are_kept_under_our_names() -> None:
    ds = split(trials(6, labels=["train", "Val", "test", "none", "train", "validation"]))
    assert ds["split"].values.tolist() == ["train", "valid", "test", "none", "train", "valid"]


def test_splitting_twice_changes_nothing() -> None:
    once = split(trials(40, step=0.8, cut="chop"), seed=1)
    xr.testing.assert_identical(split(once, valid=0.5, seed=2), once)


def test_validation_trials_are_drawn_from_training_trials_and_never_from_test_trials() -> None:
    ds = split(trials(20, labels=["train"] * 10 + ["test"] * 5 + ["none"] * 5))
    assert ds["split"].values[10:].tolist() == ["test"] * 5 + ["none"] * 5
    assert count(ds)["valid"] == 2


def test_a_file_of_test_trials_alone_can_be_fitted() -> None:
    assert count(split(trials(10, labels=["test"] * 10))) == {"train": 8, "valid": 2}


def test_data_without_a_clock_are_split_trial_by_trial() -> None:
    values = np.ones((10, 4, 2))
    assert count(split(make_dataset(values, values > 0, bin_width=0.1, kind="units"))) == {"train": 8, "valid": 2}


@given(copies=st.lists(st.integers(1, 3), min_size=4, max_size=30), seed=st.integers(0, 99), data=st.data())
def test_trials_of_one_start_are_never_parted(copies: list[int], seed: int, data: st.DataObject) -> None:
    starts = 100 + 2.0 * np.repeat(np.arange(len(copies)), copies)
    order = data.draw(st.permutations(range(len(starts))))
    ds = trials(len(starts)).assign_coords(trial_start=("trial", starts[order]))
    labels = split(ds, seed=seed)["split"].values
    sides = {side: set(starts[order][labels == side].tolist()) for side in ("train", "valid")}
    assert sides["train"] and sides["valid"] and not sides["train"] & sides["valid"]
    assert not (labels == "gap").any()
    if max(copies) == 1:
        assert (labels == split(trials(len(starts)), seed=seed)["split"].values).all()


def test_copies_of_a_trial_that_validates_or_tests_do_not_train() -> None:
    ds = trials(7, labels=["train", "train", "val", "train", "test", "train", "train"])
    ds = ds.assign_coords(trial_start=("trial", [0.0, 2.0, 2.0, 4.0, 4.0, 6.0, 8.0]))
    assert split(ds)["split"].values.tolist() == ["train", "gap", "valid", "gap", "test", "train", "train"]
    conditions = ds.assign_coords(target=("trial", [0, 0, 1, 1, 2, 2, 3]))
    labels = split_by_label(conditions, "target", valid=0.3)["split"].values
    for start in (2.0, 4.0):
        assert set(labels[ds["trial_start"] == start].tolist()) != {"train", "valid"}


def test_trials_that_are_two_starts_alone_cannot_be_split() -> None:
    ds = trials(4).assign_coords(trial_start=("trial", [0.0, 0.0, 0.0, 8.0]))
    assert split(ds)["split"].values.tolist() == ["train", "train", "train", "valid"]


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_trials_are_refused_with_what_to_try(n: int) -> None:
    with pytest.raises(DataError, match=rf"{n} trials? to fit; at least 2 to train and 1 to validate.*Chop"):
        split(trials(n))


def test_too_few_overlapping_pieces_are_refused_with_a_length_that_works() -> None:
    with pytest.raises(DataError, match=r"3 overlapping trials .*Chop\(length=0.2, overlap=0\)"):
        split(trials(3, step=0.8, cut="chop"))


def test_labels_that_leave_too_few_to_train_are_refused() -> None:
    with pytest.raises(DataError, match="1 to train"):
        split(trials(4, labels=["train", "val", "val", "test"]))


def test_an_unknown_label_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="fold3"):
        split(trials(4, labels=["train", "val", "fold3", "test"]))


@pytest.mark.parametrize("valid", [0, 1, -0.2, float("nan")])
def test_an_impossible_share_is_refused(valid: float) -> None:
    with pytest.raises(DataError, match="fraction between 0 and 1"):
        split(trials(9), valid=valid)


@pytest.fixture(scope="module")
def repeats() -> xr.Dataset:
    return lorenz(conditions=10, trials_per_condition=6, n_channels=4).isel(trial=slice(0, 57))


@pytest.mark.parametrize("valid", [0.1, 0.2, 0.5, 0.99])
def test_no_condition_is_on_both_sides_and_labels_stay(repeats: xr.Dataset, valid: float) -> None:
    labelled = split_by_label(repeats, "condition", valid=valid)
    xr.testing.assert_identical(labelled.drop_vars("split"), repeats.drop_vars("split"))
    sides = [set(repeats["condition"].values[labelled["split"].values == side].tolist()) for side in ("train", "valid")]
    assert not sides[0] & sides[1] and all(sides)
    assert (labelled["split"].values == "valid").mean() == pytest.approx(min(valid, 0.9), abs=0.06)


def test_the_seed_decides_and_any_kind_of_label_will_do(repeats: xr.Dataset) -> None:
    named = np.array([f"reach {i}" for i in repeats["condition"].values], dtype=object)
    repeats = repeats.assign_coords(target=("trial", named))
    splits = [split_by_label(repeats, "target", seed=seed)["split"].values for seed in (0, 0, 1)]
    assert np.array_equal(splits[0], splits[1]) and not np.array_equal(splits[0], splits[2])


def test_labels_that_make_no_two_conditions_are_refused(repeats: xr.Dataset) -> None:
    with pytest.raises(DataError, match=r"no label 'target', but .*'condition'"):
        split_by_label(repeats, "target")
    with pytest.raises(DataError, match="valid is 1"):
        split_by_label(repeats, "condition", valid=1)
    with pytest.raises(DataError, match="same 'condition'"):
        split_by_label(repeats.isel(trial=repeats["condition"].values == 3), "condition")
    missing = np.where(repeats["condition"].values == 3, np.nan, 1.0)
    with pytest.raises(DataError, match="trials have no 'target'"):
        split_by_label(repeats.assign_coords(target=("trial", missing)), "target")


def test_test_trials_are_drawn_before_the_others_and_leave_these_alone():
    ds = lorenz(conditions=2, trials_per_condition=20).drop_vars("split")
    labels = split(ds, valid=0.1, test=0.2)["split"].values
    assert Counter(labels.tolist()) == {"train": 29, "valid": 3, "test": 8}
    assert (split(ds, valid=0.1, test=0.2)["split"].values == labels).all()
    marked = ds.assign_coords(split=("trial", ["test"] * 4 + ["train"] * 36))
    assert (np.flatnonzero(split(marked, test=0.2)["split"].values == "test") == np.arange(4)).all()


def test_shares_that_leave_no_trial_to_train_on_are_refused():
    with pytest.raises(DataError, match=r"valid is 0.5 and test is 0.5; expected fractions that leave"):
        split(lorenz(conditions=1, trials_per_condition=10), valid=0.5, test=0.5)
