from dataclasses import replace

import numpy as np
import pytest

from nwb_sbtt.errors import ConfigError, DataError, FileError
from nwb_sbtt.nlb.definitions import DEFINITIONS, SPLITS, get_definition
from nwb_sbtt.nlb.preparation import load_prepared, prepare, save_prepared
from nwb_sbtt.nlb.windows import place_windows
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set

KINDS = ("mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg")


@pytest.fixture(scope="module")
def sets():
    """One simulated set of each kind: what was drawn, and its two recordings."""
    drawn_sets = {}
    for name in KINDS:
        drawn = simulate_set(SetSettings(name, train=14, val=8, test=4, units=8, seed=1))
        drawn_sets[name] = drawn, (drawn.training, drawn.testing)
    return drawn_sets


def test_recordings_that_went_through_files_give_the_same_tensors(tmp_path):
    for name, phase in (("dmfc_rsg", "val"), ("mc_rtt", "test")):
        drawn = simulate_set(SetSettings(name, train=4, val=4, test=4, units=4, seed=2))
        files = write_set(drawn, tmp_path)
        assert [file.name.split("_")[-2] for file in files] == ["desc-train", "desc-test"]
        again = prepare(name, files, bin_width=0.02, phase=phase)
        direct = prepare(name, [drawn.testing, drawn.training], bin_width=0.02, phase=phase)
        assert set(again.inputs) == set(direct.inputs)
        for key, array in direct.inputs.items():
            np.testing.assert_array_equal(again.inputs[key], array)
        assert again.about["files"][0]["sha256"]


def test_the_recorded_test_file_gives_the_reference_tensor_bin_for_bin(realdata):
    folder = realdata / "nlb"
    file = folder / "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
    reference = np.load(folder / "mc_maze_small_test_nlb_tools_5ms.npz")["eval_spikes_heldin"]
    for compat in (None, "nlb_tools"):
        prepared = prepare("mc_maze_small", [file], phase="test", compat=compat)
        np.testing.assert_array_equal(prepared.inputs["eval_spikes_heldin"], reference)
    wide = prepare("mc_maze_small", [file], phase="test", bin_width=0.02).inputs["eval_spikes_heldin"]
    assert wide.shape == (100, 35, 107)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("bin_width", [0.005, 0.02])
def test_tensors_hold_each_trial_s_spikes_counted_one_by_one(sets, name, bin_width):
    drawn, files = sets[name]
    recorded, definition = drawn.training, DEFINITIONS[name]
    prepared = prepare(name, files, bin_width=bin_width)
    rows = np.flatnonzero(recorded.trials["split"] == "train")
    n_bins = round((definition.stop - definition.start) / bin_width)
    windows = place_windows(recorded.trials, definition, bin_width, ("train",))
    assert prepared.inputs["train_spikes_heldin"].shape[:2] == (len(rows), n_bins)
    for held_out, key in ((False, "heldin"), (True, "heldout")):
        units = np.flatnonzero(recorded.held_out == held_out)
        whole = np.concatenate([prepared.inputs[f"train_spikes_{key}{part}"] for part in ("", "_forward")], axis=1)
        assert whole.shape[1] == n_bins + round(0.2 / bin_width)
        for trial in (0, len(rows) - 1):
            event = recorded.trials[definition.event][rows[trial]] + windows.jitter[trial] * bin_width
            begin = np.ceil(round((event + definition.start) / bin_width, 6)) * bin_width
            edges = begin + np.arange(whole.shape[1] + 1) * bin_width
            slow = np.stack([np.histogram(recorded.spikes[unit], edges)[0] for unit in units], axis=1)
            np.testing.assert_array_equal(whole[trial], slow)


@pytest.mark.parametrize("name", KINDS)
def test_test_trials_show_held_in_units_alone_and_have_no_targets(sets, name):
    prepared = prepare(name, sets[name][1], phase="test", bin_width=0.02)
    assert prepared.targets is None
    assert prepared.inputs["eval_spikes_heldin"].shape == (4, *prepared.inputs["train_spikes_heldin"].shape[1:])
    assert len(prepared.inputs["train_spikes_heldin"]) == 14 + 8
    assert not any(key.startswith("eval") and key != "eval_spikes_heldin" for key in prepared.inputs)
    assert np.isfinite(prepared.inputs["eval_spikes_heldin"]).all()


def test_windows_of_mc_rtt_overlap_and_agree_where_they_do(sets):
    prepared = prepare("mc_rtt", sets["mc_rtt"][1])
    trials = np.array(prepared.about["train_trials"])
    pairs = np.flatnonzero(np.diff(trials) == 1)
    assert len(pairs)
    spikes = prepared.inputs["train_spikes_heldin"]
    np.testing.assert_array_equal(spikes[pairs, 100:], spikes[pairs + 1, :20])


def test_windows_of_dmfc_rsg_are_scored_from_set_to_go_wherever_they_were_moved(sets):
    drawn, files = sets["dmfc_rsg"]
    prepared = prepare("dmfc_rsg", files)
    trials, windows = (
        drawn.training.trials,
        place_windows(drawn.training.trials, DEFINITIONS["dmfc_rsg"], 0.005, ("val",)),
    )
    assert windows.jitter.any()
    assert prepared.targets is not None
    scored = np.isfinite(prepared.targets["eval_spikes_heldout"][..., 0])
    for row, jitter, mask in zip(windows.rows, windows.jitter, scored, strict=True):
        interval = round(trials["go_time"][row] - trials["set_time"][row], 3)
        assert abs(mask.sum() * 0.005 - interval) <= 0.005
        end = len(mask) - jitter
        assert mask[end - 1]
        assert not mask[end:].any()
        assert np.diff(np.flatnonzero(mask)).max() == 1
        assert jitter * 0.005 <= min(0.3, max(0, 1.5 - trials["tp"][row] / 1000)) + 1e-9


def test_outliers_of_dmfc_rsg_have_no_behaviour_and_are_in_no_condition(sets):
    drawn, _ = sets["dmfc_rsg"]
    trials = dict(drawn.training.trials)
    trials["is_outlier"] = (np.arange(len(trials["id"])) % 5 == 0).astype(int)
    targets = _prepared(replace(drawn.training, trials=trials), "dmfc_rsg")
    for part, split in (("train", "train"), ("eval", "val")):
        rows = np.flatnonzero(trials["split"] == split)
        outlier = trials["is_outlier"][rows] == 1
        np.testing.assert_array_equal(np.isnan(targets[f"{part}_behavior"]).all(1), outlier)
        used = np.concatenate(targets[f"{part}_cond_idx"])
        assert len(set(used)) == len(used)
        assert not outlier[used].any()


def test_area2_bump_has_a_decoder_for_each_kind_of_movement(sets):
    drawn, files = sets["area2_bump"]
    targets = prepare("area2_bump", files).targets
    assert targets is not None
    bump = drawn.training.trials["ctr_hold_bump"][drawn.training.trials["split"] == "val"]
    np.testing.assert_array_equal(targets["eval_decode_mask"], np.stack([bump == 0, bump == 1], axis=1))


def test_psths_are_means_of_smoothed_spikes_and_keep_their_number(sets):
    targets = prepare("mc_maze", sets["mc_maze"][1]).targets
    inputs = prepare("mc_maze", sets["mc_maze"][1]).inputs
    assert targets is not None
    assert targets["psth"].shape[1:] == (140, 8)
    n = [len(a) + len(b) for a, b in zip(targets["train_cond_idx"], targets["eval_cond_idx"], strict=True)]
    assert sum(n) == 14 + 8
    spikes = np.concatenate([inputs["train_spikes_heldin"].mean((1, 2)), inputs["eval_spikes_heldin"].mean((1, 2))])
    n_held_in = inputs["train_spikes_heldin"].shape[2]
    mean = np.average(targets["psth"][:, :, :n_held_in].mean((1, 2)), weights=n)
    assert mean == pytest.approx(spikes.mean(), rel=0.1)


def test_behaviour_is_what_the_latents_did_a_lag_before(sets):
    drawn, files = sets["mc_maze"]
    early = prepare("mc_maze", files).inputs["train_behavior"]
    samples, definition = drawn.training.samples["hand_vel"], DEFINITIONS["mc_maze"]
    row = np.flatnonzero(drawn.training.trials["split"] == "train")[0]
    begin = (
        np.ceil(round((drawn.training.trials["move_onset_time"][row] + definition.start + definition.lag) / 0.005, 6))
        * 0.005
    )
    near = np.stack(
        [np.interp(begin + np.arange(140) * 0.005, samples.times, column) for column in samples.values.T], axis=1
    )
    assert np.corrcoef(early[0].reshape(-1), near.reshape(-1))[0, 1] > 0.98


def test_a_pause_of_one_unit_is_its_own_and_compat_takes_the_first_unit_s_for_all(sets):
    drawn, _ = sets["mc_maze"]
    recorded = drawn.training
    row = np.flatnonzero(recorded.trials["split"] == "train")[0]
    moment = recorded.trials["move_onset_time"][row]
    begin, end = recorded.trials["start_time"][row], recorded.trials["stop_time"][row]
    others = recorded.intervals[0][recorded.intervals[0][:, 0] > end - 1e-6]
    before = recorded.intervals[0][recorded.intervals[0][:, 1] < begin + 1e-6]
    with_pause = np.concatenate([before, [[begin, moment], [moment + 0.1, end]], others])
    held_in = np.flatnonzero(~recorded.held_out)
    for number, compat, expected in (
        (1, None, {1}),
        (1, "nlb_tools", set()),
        (0, "nlb_tools", set(range(len(held_in)))),
    ):
        intervals = list(recorded.intervals)
        intervals[held_in[number]] = with_pause
        spikes = _prepared(replace(recorded, intervals=tuple(intervals)), "mc_maze", compat=compat, inputs=True)
        missing = np.isnan(spikes["train_spikes_heldin"])
        assert set(np.flatnonzero(missing.any((0, 1))).tolist()) == expected
        assert missing.sum() == len(expected) * (20 if compat else missing[0, :, 1].sum())


def test_what_was_saved_is_read_back(sets, tmp_path):
    prepared = prepare("dmfc_rsg", sets["dmfc_rsg"][1], bin_width=0.02)
    paths = save_prepared(prepared, tmp_path / "tensors")
    assert [path.name for path in paths] == ["dmfc_rsg_20.val.inputs.h5", "dmfc_rsg_20.val.targets.h5"]
    again = load_prepared(tmp_path / "tensors", "dmfc_rsg", bin_width=0.02)
    for saved, loaded in ((prepared.inputs, again.inputs), (prepared.targets, again.targets)):
        assert set(saved) == set(loaded)
        for key, array in saved.items():
            for a, b in zip(array, loaded[key], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6)
    with pytest.raises(FileError, match="exists"):
        save_prepared(prepared, tmp_path / "tensors")


def test_files_of_two_sets_and_wrong_settings_are_refused(sets):
    train = sets["mc_maze"][1][0]
    test = simulate_set(SetSettings("mc_maze", train=4, val=2, test=4, units=4, seed=2)).testing
    with pytest.raises(DataError, match="same held-in units"):
        prepare("mc_maze", [train, test], phase="test")
    with pytest.raises(DataError, match="'test'"):
        prepare("mc_maze", [train], phase="test")
    with pytest.raises(ConfigError, match=r"0\.005 or 0\.02"):
        prepare("mc_maze", [train], bin_width=0.01)
    with pytest.raises(ConfigError, match="mc_maze_small"):
        get_definition("mc_maze_smal")
    bare = {key: train.trials[key] for key in ("id", "start_time", "stop_time", "split", "move_onset_time")}
    bare["ctr_hold_bump"] = np.zeros(len(bare["id"]), int)
    with pytest.raises(DataError, match="cond_dir"):
        prepare("area2_bump", [replace(train, trials=bare)])


def test_every_definition_s_window_is_whole_bins_of_both_widths():
    for definition in DEFINITIONS.values():
        for width in (0.005, 0.02):
            assert round((definition.stop - definition.start) / width, 6) % 1 == 0
    assert set(SPLITS) == {"val", "test"}


def _prepared(recorded, name, *, compat=None, inputs=False):
    prepared = prepare(name, [recorded], compat=compat)
    return prepared.inputs if inputs else prepared.targets
