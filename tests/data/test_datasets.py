from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.data.datasets import dataset_of, whole_number, with_trials
from nwb_sbtt.errors import DataError
from nwb_sbtt.simulate.lorenz import lorenz
from tests.support.latents import make_latents

WRONG = [
    (np.zeros((2, 3, 4)), r"got a ndarray; expected a Dataset.*(from_numpy\(array|infer latents)"),
    ("file.nwb", r"got the path 'file\.nwb'; expected a Dataset.*load it first: sb\.read_"),
    (Path("file.nwb"), r"got the path"),
    (None, "got None; expected a Dataset"),
    (make_latents()["rates"], "got a DataArray; .*pass the whole Dataset"),
    ({"monday": 1}, r"got a mapping of 1 \('monday'\); .*data\['monday'\]"),
    (3, "got a int; "),
]


class Fit:
    def infer(self, ds):
        return ds


@pytest.mark.parametrize(("given", "text"), [*WRONG, (Fit(), r"got a Fit; .*fitted\.infer\(data\)")])
@pytest.mark.parametrize(
    "use",
    [
        sb.split,
        sb.data.check_dataset,
        sb.data.merge,
        lambda given: sb.data.power_saved(given, "karpowicz_2024"),
        sb.calcium.find_events,
        sb.interval,
        sb.to_pandas,
        lambda given: sb.data.split_by_label(given, "condition"),
        lambda given: sb.data.limit_bandwidth(given, sb.config.BandwidthConfig(k=1)),
        lambda given: sb.to_mat(given, "x.mat"),
        lambda given: sb.write_nwb(given, "x.nwb"),
        lambda given: sb.decode(given, given),
        lambda given: sb.evaluate.align_factors(given, given, condition="a"),
        lambda given: sb.evaluate.evaluate_latents(given, given, np.zeros(1)),
        lambda given: sb.fit({"a": given}, run_dir="x"),
    ],
)
def test_what_is_no_dataset_is_named_with_what_to_try(use, given, text):
    with pytest.raises(DataError, match=text):
        use(given)


def test_a_fit_takes_sessions_by_names_that_are_text():
    with pytest.raises(
        DataError, match=r"got a list; expected a Dataset.*, or Datasets by the names of their sessions"
    ):
        sb.fit([lorenz(conditions=2, trials_per_condition=4)], run_dir="x")
    for sessions in ({}, {3: lorenz(conditions=2, trials_per_condition=4)}):
        with pytest.raises(DataError, match=r"the sessions are named .*expected one or more names that are text"):
            sb.fit(sessions, run_dir="x")


def test_one_trial_alone_is_the_same_as_a_selection_of_one():
    latents = make_latents()
    latents["r2"] = ("column", [0.5, 0.25])
    for row in range(latents.sizes["trial"]):
        xr.testing.assert_identical(with_trials(latents.isel(trial=row)), latents.isel(trial=[row]))
    assert with_trials(latents) is latents
    with pytest.raises(DataError, match="has no trial"):
        with_trials(latents.isel(trial=[]))
    assert dataset_of(latents) is latents


def test_data_without_trials_are_told_how_one_is_chosen():
    ds = lorenz(conditions=2, trials_per_condition=4)
    with pytest.raises(DataError, match=r"no dim 'trial'; .*ds\.isel\(trial=\[0\]\)"):
        sb.data.check_dataset(ds.isel(trial=0))


def test_numbers_that_do_not_fit_into_64_bits_are_refused_with_the_range():
    assert whole_number("seed", 2**63 - 1, least=0) == 2**63 - 1
    with pytest.raises(
        DataError, match=r"^seed is 1180591620717411303424; expected a whole number from 0 to 2\*\*63 − 1$"
    ):
        whole_number("seed", 2**70, least=0)
    with pytest.raises(DataError, match="from 1 to "):
        whole_number("trials", 2**63)
