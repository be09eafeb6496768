import json
import re

import numpy as np
import pytest
import xarray as xr

from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import DataError, MismatchError
from nwb_sbtt.evaluate import align_factors
from nwb_sbtt.evaluate.alignment import check_alignment, condition_labels

RNG = np.random.default_rng(5)
COURSES = np.cumsum(RNG.normal(size=(6, 20, 3)), 1)
"""Latents of six conditions."""
MIXED = RNG.normal(size=(3, 5))


def session(seed, *, mixing=None, noise=0.3, conditions=range(6), start=0.0, names=str):
    """Factors of trials that follow the latents of their conditions, mixed."""
    generator = np.random.default_rng(seed)
    condition = generator.permutation(np.repeat(list(conditions), 8))
    mixing = generator.normal(size=(3, 5)) if mixing is None else mixing
    factors = COURSES[condition] @ mixing
    factors = (factors + noise * generator.normal(size=factors.shape)).astype(np.float32)
    n_trials, n_bins = factors.shape[:2]
    ds = make_dataset(
        np.zeros((n_trials, n_bins, 1)),
        np.ones((n_trials, n_bins, 1), bool),
        bin_width=0.02,
        kind="units",
        channel_id=np.array([1]),
        trial_start=np.arange(n_trials, dtype=float),
        start=start,
        coords={"target": ("trial", np.array([names(c) for c in condition]))},
        attrs={"unit": "counts", "session_id": f"session {seed}"},
    )
    dims = ("trial", "time", "factor")
    return ds.drop_vars("values").assign(factors=(dims, factors), factors_sd=(dims, np.ones_like(factors)))


def decode(train, test, variable="factors"):
    """R² of a decoder of the latents, fitted to the factors of one session and applied to those of another."""

    def design(latents, name):
        flat = latents[name].values.reshape(-1, latents[name].shape[2]).astype(float)
        return np.column_stack([flat, np.ones(len(flat))])

    def latents(ds):
        return COURSES[ds["target"].values.astype(int)].reshape(-1, 3)

    weights = np.linalg.lstsq(design(train, "factors"), latents(train), rcond=None)[0]
    error = latents(test) - design(test, variable) @ weights
    return 1 - (error**2).sum() / ((latents(test) - latents(test).mean(0)) ** 2).sum()


def test_a_decoder_of_one_session_works_on_aligned_factors_of_another():
    reference, other = session(0), session(1)
    assert decode(reference, other) < 0.5
    aligned = align_factors(other, reference, condition="target")
    assert decode(reference, aligned, "aligned_factors") > 0.95
    scores = aligned["aligned_factors"].attrs
    assert scores["as_fitted"] < 0.5
    assert scores["aligned"] > 0.95
    assert scores["conditions"] == 6
    assert json.loads(aligned.attrs["model"])["alignment"]["reference"] == "session 0"
    np.testing.assert_array_equal(aligned["factors"], other["factors"])
    assert (aligned["aligned_factors_sd"].values > 0).all()


def test_equal_factors_stay_as_they_are():
    aligned = align_factors(session(1, mixing=MIXED), session(0, mixing=MIXED), condition="target")
    assert aligned["aligned_factors"].attrs["as_fitted"] > 0.95
    assert decode(session(0, mixing=MIXED), aligned, "aligned_factors") > 0.95


def test_factors_with_nothing_in_common_score_badly_in_conditions_left_out():
    reference = session(0)
    shuffled = reference.assign_coords(
        target=("trial", np.random.default_rng(0).permutation(reference["target"].values))
    )
    assert align_factors(shuffled, session(1), condition="target")["aligned_factors"].attrs["aligned"] < 0.3


def test_another_number_of_factors_and_other_conditions_and_bins_are_no_obstacle():
    few = session(1, mixing=RNG.normal(size=(3, 3)), conditions=[0, 2, 3, 5], names=float)
    few["target"][0] = np.nan
    later = few.isel(time=slice(4, None))
    aligned = align_factors(later, session(0), condition="target")
    assert aligned["aligned_factors"].shape == (32, 16, 5)
    assert "as_fitted" not in aligned["aligned_factors"].attrs
    assert aligned["aligned_factors"].attrs["conditions"] == 4
    whole = session(1).sel(trial=session(1)["target"].values != "1")
    assert decode(session(0), align_factors(whole, session(0), condition="target"), "aligned_factors") > 0.95


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 10], ["1", "10"]),
        ([1.0, np.nan], ["1", ""]),
        (["left", ""], ["left", ""]),
        ([True, False], ["True", "False"]),
    ],
)
def test_conditions_are_compared_as_text_whatever_their_type(values, expected):
    ds = xr.Dataset(coords={"target": ("trial", np.array(values))})
    assert condition_labels(ds, "target").tolist() == expected


def test_what_cannot_be_aligned_is_refused_in_words():
    reference = session(0)
    with pytest.raises(DataError, match=r"no 'side' \(sessions.condition\), but \[.*'target'.*trial_columns=\[side\]"):
        align_factors(session(1), reference, condition="side")
    with pytest.raises(MismatchError, match=r"two conditions must be the same in both; these share"):
        align_factors(session(1, conditions=[5]), reference, condition="target")
    with pytest.raises(MismatchError, match="no bin of the session"):
        align_factors(session(1, start=9.0), reference, condition="target")
    with pytest.raises(DataError, match="no 'factors'"):
        align_factors(session(1).drop_vars("factors"), reference, condition="target")


@pytest.mark.parametrize(
    ("record", "level", "words"),
    [
        (None, "warn", "It is unknown whether the factors of this session and of"),
        ({"reference": "a", "as_fitted": 1.0, "aligned": 1.0}, "ok", "are the reference of 'b'"),
        ({"reference": "b", "as_fitted": 0.97, "aligned": 0.98}, "ok", "comparable with those of the reference"),
        ({"reference": "b", "as_fitted": -0.42, "aligned": 0.97}, "warn", "R² -0.42 .*decode `aligned_factors`"),
        ({"reference": "b", "as_fitted": None, "aligned": 0.2}, "bad", "Do not decode across"),
    ],
)
def test_the_report_says_whether_factors_mean_the_same(record, level, words):
    record = record and {"conditions": 4, **record}
    check = check_alignment(record, session="a", others="'b'")
    assert check["level"] == level
    assert re.search(words, check["text"])
