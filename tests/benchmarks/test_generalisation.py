import h5py
import numpy as np
import pytest

import nwb_sbtt as sb
from nwb_sbtt.data.schema import check_dataset
from tests.support.processes import rows_of


@pytest.fixture
def generalisation(script):
    return script("generalisation")


@pytest.mark.slow
def test_every_task_and_model_is_in_table_and_figure(tmp_path):
    rows = {(row["task"], row["model"]): row for row in rows_of(tmp_path, "generalisation.py", "--small")}
    models = ("default", "LFADS, inputs 2", "LFADS, inputs 0")
    assert list(rows) == [("new", "default"), *(("perturbation", model) for model in models)]
    assert rows["perturbation", "default"]["R2"] > 0.1
    for (_, model), row in rows.items():
        assert row["Wiener"] > row["smoothing"]
        assert isinstance(row["timing error"], float) == (model == "LFADS, inputs 2")


def test_tasks_are_what_they_are_called(generalisation):
    sizes = {"seed": 1, "conditions": 5}
    same, new, fast = (generalisation.data_of(task, **sizes) for task in ("same", "new", "speed 4"))
    np.testing.assert_array_equal(same["true_rates"], new["true_rates"])
    for ds, shared in ((same, True), (new, False), (fast, True)):
        parts = [set(ds["condition"].values[ds["split"].values == part].tolist()) for part in ("train", "valid")]
        assert bool(parts[0] & parts[1]) == shared
    moved = [np.abs(np.diff(ds["true_latents"], axis=1)).mean() for ds in (same, fast)]
    assert moved[1] > 2 * moved[0]


def test_spikes_simulated_elsewhere_are_binned_with_their_truth(generalisation, tmp_path):
    generator = np.random.default_rng(0)
    rate = generator.uniform(0, 0.3, (5, 1000, 4))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["rate"], file["y"], file["x"] = rate, generator.poisson(rate), generator.normal(size=(5, 1000, 3))
    ds = check_dataset(generalisation.read_vlgp(tmp_path / "v.h5", seed=0))
    assert dict(ds.sizes) == {"trial": 10, "time": 50, "channel": 4, "latent": 3}
    np.testing.assert_allclose(ds["true_rates"].values[1, 3] * 0.01, rate[0, 530:540].sum(0), rtol=1e-5)
    held = set(ds["condition"].values[ds["split"].values == "valid"].tolist())
    assert len(held) == 1 and (ds["split"].values == "valid").sum() == 2


def test_true_inputs_tell_the_time_of_the_kick_and_noise_does_not(generalisation):
    ds = sb.simulate.perturbation(conditions=10, trials_per_condition=20)
    true = ds["true_inputs"].values
    late = np.roll(true, 3, axis=1)
    assert generalisation.timing_error(ds, true) < 15
    assert generalisation.timing_error(ds, late) < 15
    shuffled = np.random.default_rng(0).permutation(200)
    noise = np.random.default_rng(1).normal(size=true.shape)
    for chance in (generalisation.timing_error(ds, true, order=shuffled), generalisation.timing_error(ds, noise)):
        assert chance > 80
    assert generalisation.kicks_r2(ds, np.roll(true, 1, axis=1) @ np.array([[1.0, 2.0], [0.5, -1.0]])) > 0.999
    assert abs(generalisation.kicks_r2(ds, noise)) < 0.05


def test_real_vlgp_file_is_read(generalisation, realdata):
    ds = check_dataset(generalisation.read_vlgp(realdata / "latents" / "vlgp_lorenz1.h5", seed=0))
    assert dict(ds.sizes) == {"trial": 20, "time": 50, "channel": 50, "latent": 3}
    assert ds["values"].values.sum() == pytest.approx(ds["true_rates"].values.sum() * 0.01, rel=0.05)
