"""Sessions whose factors are aligned by a shared column of conditions, after the fit or by stitching before it."""

import json
import shutil

import numpy as np
import pytest
import torch

from nwb_sbtt.batch import to_sparse
from nwb_sbtt.config import ConvConfig, FitConfig, InitConfig, LadderConfig, LFADSConfig, SessionsConfig, TrainConfig
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.data.tensors import to_batch
from nwb_sbtt.errors import ConfigError, DataError, FileError, MismatchError
from nwb_sbtt.evaluate.alignment import align_courses
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.stitching import Trained, read_in_courses, stitch_together
from nwb_sbtt.models import make_model
from nwb_sbtt.nn.channels import blank_statistics, channel_statistics
from nwb_sbtt.simulate.lorenz import lorenz
from nwb_sbtt.train.trackers import Silent

MODEL = ConvConfig(width=16, groups=4, layers=2, factors=6, read_in=8, max_lag=8)


def settings(**changes):
    return FitConfig(**{"model": MODEL, "train": TrainConfig(epochs=2, batch_size=8), **changes})


def days(n=2):
    """Days of the same conditions, with other neurons."""
    return {f"day{i}": day(i) for i in range(n)}


def day(number):
    ds = lorenz(n_channels=8, conditions=4, trials_per_condition=6, n_bins=16, seed=3)
    generator = np.random.default_rng(number)
    readout = generator.normal(size=(3, 8 + number))
    rates = 20 * np.exp(ds["true_latents"].values @ readout)
    counts = generator.poisson(np.minimum(rates, 200) * 0.02)
    return make_dataset(
        counts,
        np.ones(counts.shape, bool),
        bin_width=0.02,
        kind="units",
        trial_start=ds["trial_start"].values,
        coords={name: ("trial", ds[name].values) for name in ("condition", "split")},
        attrs={"unit": "counts", "session_id": f"day {number}"},
    )


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """A joint fit of two days that names the column of conditions."""
    config = settings(sessions=SessionsConfig(condition="condition"))
    return fit(days(), config, run_dir=tmp_path_factory.mktemp("runs") / "joint", tracker=Silent())


def start(initial, **changes):
    sessions = SessionsConfig(condition="condition", **changes)
    return settings(sessions=sessions, init=InitConfig(run_dir=initial.run_dir, channels="new"))


def test_a_condition_changes_no_weight_and_adds_aligned_factors(joint, tmp_path):
    plain = fit(days(), settings(), run_dir=tmp_path / "plain", tracker=Silent())
    assert plain.checkpoint_sha256 == joint.checkpoint_sha256
    assert "aligned_factors" not in plain.infer(day(1), session="day1")
    first, second = (joint.infer(day(i), session=f"day{i}") for i in range(2))
    np.testing.assert_allclose(first["aligned_factors"], first["factors"], rtol=1e-6)
    assert np.abs(second["aligned_factors"].values - second["factors"].values).max() > 1e-3
    record = json.loads(second.attrs["model"])
    assert record["alignment"] | {"aligned": 0, "as_fitted": 0, "components": 0} == {
        **{"reference": "day0", "reference_run": "joint", "condition": "condition", "conditions": 4},
        **{"aligned": 0, "as_fitted": 0, "components": 0},
    }
    aligned = plain.align(days(), condition="condition")
    np.testing.assert_array_equal(aligned.infer(day(1), session="day1")["aligned_factors"], second["aligned_factors"])


def test_results_of_a_joint_fit_name_all_its_sessions(joint):
    record = json.loads(joint.infer(day(1), session="day1").attrs["model"])
    assert record["session"] == "day1"
    assert {name: each["channels"] for name, each in record["sessions"].items()} == {"day0": 8, "day1": 9}


def test_an_alignment_is_loaded_with_its_fit_and_belongs_to_its_weights(joint, tmp_path):
    again = load(joint.run_dir).infer(day(1), session="day1")
    np.testing.assert_array_equal(again["aligned_factors"], joint.infer(day(1), session="day1")["aligned_factors"])
    copy = tmp_path / "copy"
    shutil.copytree(joint.run_dir, copy)
    content = (copy / "alignment.safetensors").read_bytes()
    (copy / "alignment.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FileError, match="digest"):
        load(copy)
    other = fit(days(), settings(seed=1), run_dir=tmp_path / "other", tracker=Silent())
    shutil.copy(joint.run_dir / "alignment.safetensors", other.run_dir)
    with pytest.raises(FileError, match="computed from different weights"):
        load(other.run_dir)


@pytest.mark.parametrize("stitching", [False, True])
def test_a_later_day_is_aligned_to_the_initial_fit(joint, tmp_path, stitching):
    few = day(2).drop_vars("split").isel(trial=slice(0, 16))
    later = fit({"day2": few}, start(joint, stitching=stitching), run_dir=tmp_path / "later", tracker=Silent())
    record = json.loads(later.infer(few).attrs["model"])["alignment"]
    assert (record["reference"], record["reference_run"]) == ("day0", "joint")
    text = [check["text"] for check in later.evaluate(few)["checks"] if check["name"] == "factors across sessions"]
    assert len(text) == 1


def test_an_initial_fit_without_alignment_is_refused_before_training(tmp_path):
    initial = fit(day(0), settings(), run_dir=tmp_path / "initial", tracker=Silent())
    with pytest.raises(MismatchError, match=r"are not aligned.*nwb-sbtt align .*initial --condition condition"):
        fit({"day1": day(1)}, start(initial), run_dir=tmp_path / "later", tracker=Silent())
    assert not (tmp_path / "later").exists()
    initial.align({"session": day(0)}, condition="condition")
    assert fit({"day1": day(1)}, start(initial), run_dir=tmp_path / "later", tracker=Silent()).alignment is not None


def test_sessions_without_common_conditions_are_refused_before_training(tmp_path):
    data = days()
    config = settings(sessions=SessionsConfig(condition="condition"))
    with pytest.raises(DataError, match="session 'day1': the trials have no 'condition'"):
        fit({**data, "day1": data["day1"].drop_vars("condition")}, config, run_dir=tmp_path / "a", tracker=Silent())
    others = data["day1"].assign_coords(condition=data["day1"]["condition"] + 100)
    with pytest.raises(MismatchError, match=r"session 'day1': .*share none"):
        fit({**data, "day1": others}, config, run_dir=tmp_path / "b", tracker=Silent())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="stitching needs the trial column"):
        SessionsConfig(stitching=True)


@pytest.mark.parametrize("form", [lambda batch: batch, to_sparse])
@pytest.mark.parametrize("model", [MODEL, LFADSConfig(read_in=6, encoder=6, generator=6, factors=4)])
def test_stitched_sessions_are_read_in_alike(model, form):
    sessions, statistics = {}, {}
    for name, ds in days().items():
        batch = form(to_batch(ds, name))
        sessions[name] = Trained(batch, ds["condition"].values.astype(str), ds["time"].values)
        statistics[name] = channel_statistics(batch)

    def similarity(model):
        """R² of the features of one session's read-in, as they are, of those of the other, by condition."""
        one, other = (read_in_courses(model, sessions[name])["read_in.values"] for name in sessions)
        return align_courses(one, other).as_fitted

    torch.manual_seed(0)
    model = make_model(model, statistics, "poisson")
    assert similarity(model) < 0.3
    stitch_together(model, sessions)
    assert similarity(model) > 0.7


def test_a_model_that_infers_spikes_is_not_stitched():
    ds = day(0)
    batch = to_batch(ds, "day0")
    model = make_model(
        LadderConfig(**MODEL.model_dump(exclude={"name", "lag"})), {"day0": blank_statistics(8)}, "gaussian"
    )
    session = Trained(batch, ds["condition"].values.astype(str), ds["time"].values)
    with pytest.raises(ConfigError, match="infers spikes from fluorescence first; turn stitching off"):
        stitch_together(model, {"day0": session})


@pytest.mark.slow
def test_stitching_starts_from_other_weights_and_resumes_to_the_same(tmp_path):
    config = settings(sessions=SessionsConfig(condition="condition", stitching=True))
    fits = [fit(days(), config, run_dir=tmp_path / name, tracker=Silent()) for name in ("a", "b")]
    assert fits[0].checkpoint_sha256 == fits[1].checkpoint_sha256
    assert fits[0].alignment is not None
