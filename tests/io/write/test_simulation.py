from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from nwbinspector import Importance, inspect_nwbfile, load_config
from pynwb import NWBHDF5IO

from nwb_sbtt.config import ReadConfig, Trials
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import DataError, FileError, MismatchError, SelectionError
from nwb_sbtt.io.read.reader import read_nwb
from nwb_sbtt.io.read.truth import attach_truth, read_truth
from nwb_sbtt.io.write.simulation import write_simulation
from nwb_sbtt.simulate.lorenz import lorenz
from nwb_sbtt.simulate.tasks import Task, write_task
from tests.support import nwbfiles

WHOLE = Trials(event="start_time", start=0.0, stop=1.0)


@pytest.fixture(scope="module")
def simulated() -> xr.Dataset:
    return lorenz(conditions=5, trials_per_condition=6, n_channels=11, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulation")


@pytest.fixture(scope="module")
def full(simulated: xr.Dataset, folder: Path) -> Path:
    return write_simulation(folder / "full.nwb", simulated)


@pytest.fixture(scope="module")
def masked(simulated: xr.Dataset, folder: Path) -> Path:
    return write_simulation(folder / "masked.nwb", simulated, observed_per_bin=4)


def test_counts_labels_and_truth_come_back_exactly(simulated: xr.Dataset, full: Path) -> None:
    ds = read_truth(full, read_nwb(full, bin_width=0.02, trials=WHOLE))
    assert ds["observed"].values.all()
    for name in ("values", "channel_id", "split", "trial_start", "time"):
        np.testing.assert_array_equal(ds[name].values, simulated[name].values, err_msg=name)
    np.testing.assert_allclose(ds["true_rates"].values, simulated["true_rates"].values, rtol=1e-6)
    np.testing.assert_allclose(ds["true_latents"].values, simulated["true_latents"].values, atol=1e-6)


def test_a_masked_file_holds_only_what_was_observed(simulated: xr.Dataset, masked: Path) -> None:
    ds = read_nwb(masked, bin_width=0.02, trials=WHOLE)
    observed = ds["observed"].values
    assert (observed.sum(2) == 4).all()
    np.testing.assert_array_equal(ds["values"].values, np.where(observed, simulated["values"].values, 0))
    with NWBHDF5IO(masked, "r") as io:
        stored = sum(len(io.read().units["spike_times"][i]) for i in range(11))
    assert stored == simulated["values"].values[observed].sum()
    assert "exposure" not in ds


def test_other_cuts_see_the_same_spikes_and_the_mean_truth(simulated: xr.Dataset, full: Path) -> None:
    cut = Trials(event="go_time", start=-0.2, stop=0.4)
    ds = read_truth(full, read_nwb(full, bin_width=0.06, trials=cut))
    for name in ("values", "true_rates"):
        pieces = simulated[name].values[:, :30].reshape(30, 10, 3, 11)
        expected = pieces.sum(2) if name == "values" else pieces.mean(2)
        np.testing.assert_allclose(ds[name].values, expected, rtol=1e-5, err_msg=name)
    fine = read_truth(full, read_nwb(full, bin_width=0.005, trials=cut))
    np.testing.assert_allclose(fine["true_rates"].values[:, ::4], simulated["true_rates"].values[:, :30], rtol=1e-5)


def test_truth_follows_the_channels_that_were_read(simulated: xr.Dataset, full: Path) -> None:
    ds = read_nwb(full, bin_width=0.02, trials=WHOLE).isel(channel=[4, 1], trial=[7, 2])
    truth = read_truth(full, ds)["true_rates"].values
    np.testing.assert_allclose(truth, simulated["true_rates"].values[[7, 2]][:, :, [4, 1]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["full", "masked"])
def test_the_files_are_valid_and_fit_for_dandi(kind: str, request: pytest.FixtureRequest) -> None:
    messages = list(inspect_nwbfile(nwbfile_path=request.getfixturevalue(kind), config=load_config("dandi")))
    names = {message.check_function_name for message in messages}
    assert names <= {"check_processing_module_name"}
    assert all(message.importance is Importance.BEST_PRACTICE_SUGGESTION for message in messages)


def test_one_call_simulates_and_writes(tmp_path: Path) -> None:
    sizes = {"n_channels": 6, "conditions": 2, "trials_per_condition": 3, "seed": 5}
    path = write_task(tmp_path / "x.nwb", Task("lorenz", **sizes), observed_per_bin=2)
    ds = read_truth(path, read_nwb(path, bin_width=0.02, trials=WHOLE))
    expected = lorenz(**sizes)
    np.testing.assert_allclose(ds["true_rates"].values, expected["true_rates"].values, rtol=1e-6)
    assert (ds["observed"].values.sum(2) == 2).all()


def test_a_perturbation_comes_back_with_its_inputs_and_labels(tmp_path: Path) -> None:
    task = Task("perturbation", n_channels=6, conditions=5, trials_per_condition=4, split_by="condition")
    path = write_task(tmp_path / "x.nwb", task, observed_per_bin=3)
    config = ReadConfig(bin_width=0.02, cut=WHOLE, trial_columns=("condition", "kick_time"))
    ds, expected = read_truth(path, read_nwb(path, config)), task.simulate()
    for name in ("split", "condition", "kick_time", "trial_start"):
        np.testing.assert_array_equal(ds[name].values, expected[name].values, err_msg=name)
    for name in ("true_rates", "true_latents", "true_inputs"):
        assert ds[name].dims == expected[name].dims
        np.testing.assert_allclose(ds[name].values, expected[name].values, rtol=1e-6, atol=1e-6, err_msg=name)
    coarse = read_truth(path, read_nwb(path, bin_width=0.1, trials=WHOLE))
    moved = expected["true_inputs"].values.sum(1) * 0.02
    np.testing.assert_allclose(coarse["true_inputs"].values.sum(1) * 0.1, moved, atol=1e-5)
    messages = list(inspect_nwbfile(nwbfile_path=path, config=load_config("dandi")))
    assert all(message.importance is Importance.BEST_PRACTICE_SUGGESTION for message in messages)


def test_truth_is_attached_only_where_it_is_known(full: Path, tmp_path: Path) -> None:
    ds = read_nwb(full, bin_width=0.02, trials=WHOLE)
    xr.testing.assert_identical(attach_truth(full, ds), read_truth(full, ds))
    beyond = read_nwb(full, bin_width=0.02, trials=Trials(event="start_time", start=-0.1, stop=1.0))
    xr.testing.assert_identical(attach_truth(full, beyond), beyond)
    bare = nwbfiles.write(nwbfiles.new_file(), tmp_path / "bare.nwb")
    xr.testing.assert_identical(attach_truth(bare, ds), ds)


def test_the_units_are_the_only_candidate(full: Path) -> None:
    assert set(read_nwb(full, trials=WHOLE)["series"].values) == {"units"}


def test_an_existing_file_stays_unless_told_otherwise(simulated: xr.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "x.nwb"
    path.write_bytes(b"mine")
    with pytest.raises(FileError, match="overwrite=True"):
        write_simulation(path, simulated)
    assert path.read_bytes() == b"mine"
    write_simulation(path, simulated, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.nwb"]
    assert read_nwb(path, trials=WHOLE).sizes["trial"] == 30


def test_wrong_places_and_data_are_refused_and_leave_nothing(simulated: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"end the name in '\.nwb'"):
        write_simulation(tmp_path / "x.h5", simulated)
    with pytest.raises(DataError, match="only 11 channels"):
        write_simulation(tmp_path / "x.nwb", simulated, observed_per_bin=11)
    with pytest.raises(DataError, match="true_rates"):
        write_simulation(tmp_path / "x.nwb", simulated.drop_vars("true_rates"))
    hidden = simulated["channel"] == 16
    with pytest.raises(DataError, match=r"\[16\] are never observed"):
        write_simulation(
            tmp_path / "x.nwb",
            simulated.assign(values=simulated["values"].where(~hidden, 0), observed=simulated["observed"] & ~hidden),
        )
    assert not list(tmp_path.iterdir())


def test_truth_of_channels_whose_ids_repeat_is_neither_written_nor_read(simulated: xr.Dataset, tmp_path: Path) -> None:
    path = write_simulation(tmp_path / "x.nwb", simulated)
    ds = read_nwb(path, bin_width=0.02, trials=WHOLE)
    with h5py.File(path, "r+") as file:
        ids = file["units/id"]
        ids[3] = first = ids[0]
    with pytest.raises(MismatchError, match=rf"the ids \[{first}\] stand in several rows of the units"):
        read_truth(path, ds.isel(channel=[0, 1]))
    repeated = simulated.assign_coords(channel_id=("channel", [7, 7, *range(20, 29)]))
    with pytest.raises(DataError, match=r"the channel ids \[7\] repeat"):
        write_simulation(tmp_path / "y.nwb", repeated)


def test_the_folder_of_a_simulation_is_made(simulated: xr.Dataset, tmp_path: Path) -> None:
    assert write_simulation(tmp_path / "new" / "x.nwb", simulated).exists()


def test_truth_is_not_made_up(full: Path, tmp_path: Path) -> None:
    ds = read_nwb(full, bin_width=0.02, trials=Trials(event="start_time", start=-0.1, stop=1.0))
    with pytest.raises(MismatchError, match=r"150 of 1650 bins .* the true rates are unknown"):
        read_truth(full, ds)
    values = np.ones((1, 2, 2))
    other = make_dataset(values, values > 0, bin_width=0.02, kind="units", channel_id=[7, 8], trial_start=[0.5])
    with pytest.raises(MismatchError, match=r"channels \[8\]"):
        read_truth(full, other)
    bare = nwbfiles.write(nwbfiles.new_file(), tmp_path / "bare.nwb")
    with pytest.raises(SelectionError, match="'; expected a simulated file"):
        read_truth(bare, other)
