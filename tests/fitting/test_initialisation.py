import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nwb_sbtt.config import BandwidthConfig, InitConfig, SAEConfig, TrainConfig
from nwb_sbtt.data.bandwidth import limit_bandwidth
from nwb_sbtt.errors import ConfigError, FileError, MismatchError, TrainingError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.initialisation import describe_initialisation
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.train.checkpoint import BEST, LAST
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import MODEL, Stopping, population, settings

CHANNELS = ("read_in.values", "read_in.masks", "read_in.mean", "read_in.sd", "likelihood")
"""How the names of weights and statistics begin that belong to a session's channels."""


@pytest.fixture(scope="module")
def other():
    """Another session, of four channels."""
    return population(1).isel(channel=slice(0, 4))


@pytest.fixture(scope="module")
def initial(fitted):
    """What others start from."""
    return fitted


@pytest.fixture(scope="module")
def initial_fits(ds, initial, tmp_path_factory):
    """One of each model."""
    config = settings(model=SAEConfig(encoder=4, generator=4, factors=2))
    sae = fit(ds, config, run_dir=tmp_path_factory.mktemp("runs") / "initial", tracker=Silent())
    return {fitted.config.model.name: fitted for fitted in (initial, sae)}


@pytest.fixture(scope="module")
def pair(ds, tmp_path_factory):
    """An ensemble of two."""
    return fit(ds, settings(seeds=2), run_dir=tmp_path_factory.mktemp("runs") / "pair", tracker=Silent())


def start(initial, **changes):
    words = {"run_dir": initial.run_dir, "channels": "same", **changes}
    return InitConfig(**words)


def still(**changes):
    """Settings under which training takes one step of next to nothing in each batch."""
    return settings(train=TrainConfig(epochs=1, batch_size=8, learning_rate=1e-12), **changes)


def weights(fitted, name=BEST):
    return load_file(fitted.members[0].run_dir / name)


def test_a_fit_that_hardly_moves_says_what_the_initial_one_says(ds, initial, tmp_path):
    fitted = fit(ds, still(init=start(initial)), run_dir=tmp_path / "run", tracker=Silent())
    one, two = fitted.infer(ds), initial.infer(ds)
    for name in ("rates", "rates_sd", "factors", "inputs"):
        np.testing.assert_allclose(one[name].values, two[name].values, rtol=1e-4, atol=1e-6, err_msg=name)


def test_channels_in_another_order_keep_their_own_weights(ds, initial, tmp_path):
    order = [3, 0, 5, 1, 2, 4]
    shuffled = ds.isel(channel=order)
    fitted = fit(shuffled, still(init=start(initial)), run_dir=tmp_path / "run", tracker=Silent())
    expected = initial.infer(ds)["rates"].values[..., order]
    np.testing.assert_allclose(fitted.infer(shuffled)["rates"].values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["lfads", "sae"])
@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        ("none", lambda name: False),
        ("dynamics", lambda name: not name.startswith(CHANNELS)),
        ("generator", lambda name: name.startswith(("generator", "to_factors"))),
        ("decoder", lambda name: name.startswith(("generator", "to_factors", "likelihood"))),
    ],
)
def test_what_is_frozen_stays_to_the_last_bit_and_all_else_moves(ds, initial_fits, tmp_path, model, freeze, frozen):
    initial = initial_fits[model]
    train = TrainConfig(epochs=2, batch_size=8, weight_decay=0.1, learning_rate=0.1)
    config = settings(model=initial.config.model, train=train, init=start(initial, freeze=freeze))
    fitted = fit(limit_bandwidth(ds, BandwidthConfig(k=3)), config, run_dir=tmp_path / "run", tracker=Silent())
    before, last = weights(initial), weights(fitted, LAST)
    parameters = dict(initial.model.named_parameters())
    for name, tensor in before.items():
        same = frozen(name) or name not in parameters
        for part in ("model", "average", "best"):
            assert torch.equal(last[f"{part}.{name}"], tensor) == same, (part, name)
        assert (f"optimizer.exp_avg.{name}" in last) != same


def test_new_channels_are_fitted_to_dynamics_that_stay(initial, other, tmp_path):
    config = settings(init=InitConfig(run_dir=initial.run_dir))
    fitted = fit(other, config, run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.config.init.freeze == "dynamics"
    assert describe_initialisation(fitted.signature, fitted.config) == (
        "starts from 'initial', frozen: dynamics; session: new channels"
    )
    one, two = weights(initial), weights(fitted)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if name.startswith(CHANNELS):
            assert (len(tensor), len(two[name])) == (6, 4)
        else:
            assert torch.equal(tensor, two[name]), name
    np.testing.assert_array_equal(fitted.infer(other)["rates"], load(tmp_path / "run").infer(other)["rates"])


def test_it_is_asked_whether_channels_of_the_same_ids_are_the_same(ds, initial, tmp_path):
    asked = settings(init=InitConfig(run_dir=initial.run_dir))
    with pytest.raises(MismatchError, match=r"--set init\.channels=same.*or =new if not"):
        fit(ds, asked, run_dir=tmp_path / "run", tracker=Silent())
    assert not (tmp_path / "run").exists()
    config = still(init=start(initial, channels="new"))
    fitted = fit(ds, config, run_dir=tmp_path / "new", tracker=Silent())
    assert not torch.equal(weights(fitted)["read_in.values.@session"], weights(initial)["read_in.values.@session"])


def test_channels_of_the_same_recording_are_known_to_be_the_same(ds, tmp_path):
    recorded = ds.assign_attrs(source='{"object_id": "a", "path": "a.nwb"}')
    initial = fit(recorded, settings(), run_dir=tmp_path / "initial", tracker=Silent())
    config = settings(init=InitConfig(run_dir=initial.run_dir))
    sparse = limit_bandwidth(recorded, BandwidthConfig(k=3))
    fitted = fit(sparse, config, run_dir=tmp_path / "same", tracker=Silent())
    assert fitted.signature.origins == {"session": "session"}
    assert fitted.config.init.freeze == "none"
    elsewhere = ds.assign_attrs(source='{"object_id": "b", "path": "b.nwb"}')
    with pytest.raises(MismatchError, match="it is unknown whether they come from the same"):
        fit(elsewhere, config, run_dir=tmp_path / "other", tracker=Silent())


def test_a_joint_fit_is_adapted_to_a_session_it_has_and_one_it_has_not(ds, other, tmp_path):
    sessions = {"monday": ds, "tuesday": population(2).isel(channel=slice(0, 5))}
    joint = fit(sessions, settings(), run_dir=tmp_path / "joint", tracker=Silent())
    later = {"wednesday": other, "tuesday again": sessions["tuesday"]}
    strange = other.assign_coords(channel_id=("channel", [100, 101, 102, 103]))
    with pytest.raises(MismatchError, match="session 'wednesday' has no channel of the initial fit"):
        fit({**later, "wednesday": strange}, settings(init=start(joint)), run_dir=tmp_path / "run", tracker=Silent())
    recorded = {name: one.assign_attrs(source=f'{{"object_id": "{one.sizes}"}}') for name, one in sessions.items()}
    joint = fit(recorded, settings(), run_dir=tmp_path / "recorded", tracker=Silent())
    later["tuesday again"] = recorded["tuesday"]
    config = settings(init=InitConfig(run_dir=joint.run_dir))
    fitted = fit(later, config, run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.signature.origins == {"wednesday": None, "tuesday again": "tuesday"}
    one, two = weights(joint), weights(fitted)
    assert torch.equal(one["read_in.means.@tuesday"], two["read_in.means.@tuesday again"])
    assert torch.equal(one["encoder.weight_ih_l0"], two["encoder.weight_ih_l0"])
    assert len(two["likelihood.biases.@wednesday"]) == 4
    assert fitted.infer(other, session="wednesday").sizes["channel"] == 4


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"model": MODEL.model_copy(update={"factors": 3})}, ConfigError, r"model\.factors is 3 instead of 2"),
        ({"model": SAEConfig()}, ConfigError, "a fit of the same"),
        ({"likelihood": "gaussian"}, MismatchError, "likelihood is gaussian, but that of the initial fit is poisson"),
    ],
)
def test_models_of_another_structure_are_refused_with_the_setting(ds, initial, tmp_path, change, kind, message):
    with pytest.raises(kind, match=message):
        fit(ds, settings(init=start(initial), **change), run_dir=tmp_path / "run", tracker=Silent())
    assert not (tmp_path / "run").exists()


def test_dropout_may_differ(ds, initial, tmp_path):
    config = still(model=MODEL.model_copy(update={"dropout": 0.5}), init=start(initial))
    fit(ds, config, run_dir=tmp_path / "run", tracker=Silent())


def test_data_that_do_not_go_with_the_initial_fit_are_refused(ds, other, initial, tmp_path):
    with pytest.raises(MismatchError, match=r"bins of 0.01 s, but the initial fit has bins of"):
        fit(ds.assign_attrs(bin_width=0.01), settings(init=start(initial)), run_dir=tmp_path / "run")
    strange = other.assign_coords(channel_id=("channel", [100, 101, 102, 103]))
    with pytest.raises(MismatchError, match=r"has no channel of the initial fit.* missing in the data"):
        fit(strange, settings(init=start(initial)), run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match="the read-out of new channels must be fitted"):
        fit(other, settings(init=start(initial, channels="auto", freeze="decoder")), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_a_finished_fit_can_be_started_from(ds, tmp_path):
    with pytest.raises(FileError, match="has no fit to start from; expected the run folder of a finished fit"):
        fit(ds, settings(init=InitConfig(run_dir=tmp_path)), run_dir=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit(ds, settings(), run_dir=tmp_path / "initial", tracker=Stopping(2))
    with pytest.raises(TrainingError, match="has not finished"):
        fit(ds, settings(init=InitConfig(run_dir=tmp_path / "initial", channels="same")), run_dir=tmp_path / "run")


def test_channels_that_both_have_are_carried_over_where_one_is_lost_and_one_is_new(ds, initial, tmp_path):
    later = ds.isel(channel=[4, 0, 1, 2, 3]).assign_coords(
        channel_id=("channel", [*ds["channel_id"].values[[4, 0, 1, 2]], 99])
    )
    with pytest.raises(ConfigError, match="the read-out of new channels must be fitted"):
        fit(later, still(init=start(initial, freeze="decoder")), run_dir=tmp_path / "run", tracker=Silent())
    fitted = fit(later, still(init=start(initial)), run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.config.init.freeze == "dynamics"
    assert describe_initialisation(fitted.signature, fitted.config) == (
        "starts from 'initial', frozen: dynamics; session: 4 of 5 channels of 'session', the others new"
    )
    assert fitted.record()["init"] == {"sessions": {"session": "session"}, "carried_channels": {"session": 4}}
    one, two = weights(initial), weights(fitted)
    for name in (name for name in one if name.startswith(CHANNELS) and one[name].dim()):
        torch.testing.assert_close(two[name][:4], one[name][[4, 0, 1, 2]], msg=name)
    expected = initial.model.likelihood.weights["session"][3]
    assert not torch.equal(fitted.model.likelihood.weights["session"][4], expected)
    assert load(tmp_path / "run").signature == fitted.signature


def test_a_bin_width_may_be_computed_in_two_ways(ds, initial, tmp_path):
    nearly = ds.assign_attrs(bin_width=np.nextafter(0.02, 1))
    fit(nearly, still(init=start(initial)), run_dir=tmp_path / "run", tracker=Silent())


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_stopped_adaptation_goes_on_to_the_same_numbers(initial, other, tmp_path, seeds):
    config = settings(init=InitConfig(run_dir=initial.run_dir), seeds=seeds)
    undisturbed = fit(other, config, run_dir=tmp_path / "undisturbed", tracker=Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(other, config, run_dir=tmp_path / "stopped", tracker=Stopping(2 * seeds))
    fitted = fit(other, config, run_dir=tmp_path / "stopped", tracker=Silent())
    for one, two in zip(undisturbed.members, fitted.members, strict=True):
        a, b = load_file(one.run_dir / LAST), load_file(two.run_dir / LAST)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_fit_knows_the_weights_it_started_from_wherever_they_lie(ds, initial, tmp_path):
    moved = shutil.copytree(initial.run_dir, tmp_path / "moved")
    fitted = fit(ds, settings(init=start(initial)), run_dir=tmp_path / "run", tracker=Silent())
    assert fitted.config.init.checkpoint_sha256 == initial.checkpoint_sha256
    record = fitted.record()
    assert record["config"]["init"]["run_dir"] == "initial"
    assert record["init"] == {"sessions": {"session": "session"}}
    again = settings(init=start(initial, run_dir=moved))
    assert fit(ds, again, run_dir=tmp_path / "run", tracker=Silent()).checkpoint_sha256 == fitted.checkpoint_sha256
    fit(ds, load(tmp_path / "run").config, run_dir=tmp_path / "run", tracker=Silent())
    shutil.rmtree(moved)
    fit(ds, settings(seed=5), run_dir=moved, tracker=Silent())
    with pytest.raises(TrainingError, match=r"init\.checkpoint_sha256 is .* instead of "):
        fit(ds, again, run_dir=tmp_path / "run", tracker=Silent())
    with pytest.raises(
        MismatchError,
        match="another fit, or it was fitted again; name the right run folder",
    ):
        asked = again.init.model_copy(update={"checkpoint_sha256": initial.checkpoint_sha256})
        fit(ds, settings(init=asked), run_dir=tmp_path / "fresh", tracker=Silent())


def test_members_start_from_one_fit_or_from_the_member_of_their_number(ds, initial, pair, tmp_path):
    def first(fitted, i):
        return load_file(fitted.members[i].run_dir / BEST)["encoder.weight_ih_l0"]

    one = fit(ds, still(init=start(initial), seeds=2), run_dir=tmp_path / "one", tracker=Silent())
    two = fit(ds, still(init=start(pair), seeds=2), run_dir=tmp_path / "two", tracker=Silent())
    for i in range(2):
        torch.testing.assert_close(first(one, i), first(initial, 0))
        torch.testing.assert_close(first(two, i), first(pair, i))
        assert load(tmp_path / "two" / f"member-{i}").config.init.run_dir == pair.run_dir / f"member-{i}"
    for seeds in (1, 3):
        with pytest.raises(ConfigError, match=r"an ensemble of 2 .*or start from one of them, such as .*member-0"):
            fit(ds, settings(init=start(pair), seeds=seeds), run_dir=tmp_path / "run", tracker=Silent())
