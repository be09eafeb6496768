import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nwb_sbtt.cli.main import app
from nwb_sbtt.errors import DataError, FileError
from nwb_sbtt.io.benchmark.tensorfile import read_tensors, write_tensors
from nwb_sbtt.nlb.definitions import DEFINITIONS, FORWARD, SCALING
from nwb_sbtt.nlb.preparation import prepare, save_prepared
from nwb_sbtt.nlb.scoring import evaluate
from nwb_sbtt.nlb.submission import check_rates, expected_shapes, read_submission, write_submission
from nwb_sbtt.nlb.windows import place_windows
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set, write_set
from tests.support.commands import call

KINDS = ("mc_maze", "mc_rtt", "area2_bump", "dmfc_rsg")
WIDTH = 0.02


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    """Prepared tensors of a simulated set, and the true rates in the layout of a submission."""
    drawn = simulate_set(SetSettings(request.param, train=40, val=24, test=2, units=12, seed=3))
    prepared = prepare(request.param, [drawn.training], bin_width=WIDTH)
    return prepared, oracle(drawn, request.param)


def oracle(drawn, name):
    rates = {}
    for part, split in (("train", "train"), ("eval", "val")):
        windows = place_windows(drawn.training.trials, DEFINITIONS[name], WIDTH, (split,))
        for forward, end in ((False, ""), (True, "_forward")):
            whole = drawn.expected_counts(windows, WIDTH, forward=forward)
            for held_out, kind in ((False, "heldin"), (True, "heldout")):
                rates[f"{part}_rates_{kind}{end}"] = whole[..., drawn.training.held_out == held_out]
    return rates


def test_the_true_rates_score_well_and_mean_rates_score_nothing(case):
    prepared, rates = case
    (scores,) = evaluate({prepared.group: rates}, {prepared.group: prepared.targets}).values()
    flat = {name: np.broadcast_to(array.mean((0, 1)), array.shape).copy() for name, array in rates.items()}
    assert 0.05 < scores["co-bps"] < 1
    assert 0.05 < scores["fp-bps"] < 1
    if prepared.name == "dmfc_rsg":
        assert scores["tp corr"] < -0.3
        return
    (nothing,) = evaluate({prepared.group: flat}, {prepared.group: prepared.targets}).values()
    assert nothing["co-bps"] < 0.02
    assert scores["vel R2"] > 0.5 > 0.05 > nothing["vel R2"]
    if prepared.name != "mc_rtt":
        assert scores["psth R2"] > nothing["psth R2"] + 0.2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("eval_behavior", lambda stored: stored[:0]),
        ("eval_behavior", lambda stored: stored * np.inf),
        ("eval_behavior", lambda stored: stored[..., 0]),
        ("eval_spikes_heldout", lambda stored: stored - 5),
        ("eval_spikes_heldout", lambda stored: stored[0]),
        ("eval_spikes_heldin_forward", lambda stored: stored[:, :1]),
        ("eval_cond_idx", lambda stored: [rows + 1000 for rows in stored]),
        ("eval_cond_idx", lambda stored: list(np.arange(len(stored), dtype=np.float16))),
        ("eval_behavior", lambda stored: stored[..., :1]),
        ("eval_jitter", lambda stored: stored[:-1]),
        ("eval_decode_mask", lambda stored: stored[1:]),
    ],
)
def test_targets_that_contradict_themselves_are_refused(case, name, change):
    prepared, rates = case
    if name not in prepared.targets:
        pytest.skip(f"the targets of {prepared.name} have no {name}")
    damaged = {**prepared.targets, name: change(prepared.targets[name])}
    with pytest.raises(DataError):
        evaluate({prepared.group: rates}, {prepared.group: damaged})


def test_a_file_of_rates_scores_what_the_arrays_score(case, tmp_path):
    prepared, rates = case
    write_submission(tmp_path / "s.h5", {prepared.group: rates})
    save_prepared(prepared, tmp_path)
    result = CliRunner().invoke(app, ["nlb", "evaluate", str(tmp_path / "s.h5"), "--folder", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    (scores,) = json.loads(result.output).values()
    (expected,) = evaluate({prepared.group: rates}, {prepared.group: prepared.targets}).values()
    assert scores == pytest.approx(expected, rel=1e-4)


def test_nlb_tools_scores_the_same_file_the_same(case, tmp_path):
    theirs = pytest.importorskip("nlb_tools.evaluation", reason="nlb_tools is not installed; it is no dependency")
    prepared, rates = case
    write_submission(tmp_path / "s.h5", {prepared.group: rates})
    (_, targets) = save_prepared(prepared, tmp_path)
    (expected,) = theirs.evaluate(str(targets), str(tmp_path / "s.h5"))
    read = {group: dict(arrays) for group, arrays in read_tensors(tmp_path / "s.h5").items()}
    evaluated = evaluate(read, {prepared.group: read_tensors(targets)[prepared.group]})
    assert evaluated.keys() == expected.keys()
    for split, scores in expected.items():
        assert evaluated[split] == pytest.approx(scores, rel=1e-6)


def test_scoring_changes_nothing(case):
    prepared, rates = case
    rounded = {name: np.where(array < np.median(array), 0, array) for name, array in rates.items()}
    before = {name: array.copy() for name, array in rounded.items()}
    evaluate({prepared.group: rounded}, {prepared.group: prepared.targets})
    for name, array in before.items():
        np.testing.assert_array_equal(rounded[name], array)


def test_shapes_of_the_true_rates_are_those_expected(case):
    prepared, rates = case
    assert {name: array.shape for name, array in rates.items()} == expected_shapes(prepared)
    assert rates["eval_rates_heldin_forward"].shape[1] == round(FORWARD / WIDTH)
    check_rates(prepared.group, rates, prepared)


def _without(rates, name):
    return {key: array for key, array in rates.items() if key != name}


def _changed(rates, name, value):
    return {**rates, name: np.where(np.arange(rates[name].size).reshape(rates[name].shape) == 5, value, rates[name])}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: _without(r, "train_rates_heldin"), "train_rates_heldin"),
        (lambda r: _without(r, "eval_rates_heldin_forward"), "eval_rates_heldin_forward"),
        (lambda r: {**r, "eval_rates": r["eval_rates_heldin"]}, "unknown"),
        (lambda r: _changed(r, "eval_rates_heldout", np.nan), "1 entries are not finite"),
        (lambda r: _changed(r, "eval_rates_heldout", -0.1), "1 are negative"),
        (lambda r: {**r, "eval_rates_heldout": r["eval_rates_heldout"][:-1]}, "different numbers of trials or bins"),
        (lambda r: {name: array[:, ::2] for name, array in r.items()}, "expected"),
    ],
)
def test_what_the_benchmark_would_refuse_is_refused_before_it_is_written(case, tmp_path, spoil, message):
    prepared, rates = case
    with pytest.raises(DataError, match=message):
        check_rates(prepared.group, spoil(rates), prepared)


@pytest.mark.parametrize(
    ("name", "axis"), [("train_rates_heldin", 2), ("eval_rates_heldout_forward", 2), ("eval_rates_heldin_forward", 1)]
)
def test_rates_of_other_units_or_bins_than_their_like_are_refused(case, name, axis):
    prepared, rates = case
    other = {**rates, name: np.delete(rates[name], 0, axis)}
    with pytest.raises(DataError, match="different numbers of"):
        evaluate({prepared.group: other}, {prepared.group: prepared.targets})


def test_the_scaling_sets_are_scored_as_one_and_one_alone_is_remarked_on(case, tmp_path):
    prepared, rates = case
    if prepared.name != "mc_maze":
        pytest.skip("one kind of set is enough")
    sets = {f"{name}_20": rates for name in SCALING}
    scores = evaluate(sets, dict.fromkeys(sets, prepared.targets))
    assert list(scores) == ["mc_maze_scaling_20_split"]
    assert {key.split()[0] for key in scores["mc_maze_scaling_20_split"]} == {"[100]", "[250]", "[500]"}
    parts = []
    for group in sets:
        parts.append(str(tmp_path / f"{group}.h5"))
        write_tensors(parts[-1], {group: rates})
    out = tmp_path / "all.h5"
    result = CliRunner().invoke(app, ["nlb", "submit", *parts, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "note" not in result.output
    assert set(read_tensors(out)) == set(sets)
    assert "mc_maze_large_20" in write_submission(tmp_path / "one.h5", {"mc_maze_small_20": rates})[0]
    with pytest.raises(FileError, match="exists"):
        write_submission(out, sets)


def test_a_submission_without_targets_says_what_there_is(case):
    prepared, rates = case
    with pytest.raises(DataError, match="expected at least one set in both"):
        evaluate({prepared.group: rates}, {"mc_maze_large": prepared.targets})


def test_files_of_another_kind_are_named_for_what_they_hold(case, tmp_path):
    prepared, rates = case
    inputs, targets = save_prepared(prepared, tmp_path)
    with pytest.raises(DataError, match="without the name of a set"):
        read_submission([inputs])
    with pytest.raises(DataError, match=r"lists|missing"):
        read_submission([targets])
    with pytest.raises(DataError, match=r"lack .*eval_spikes_heldout"):
        evaluate({prepared.group: rates}, {prepared.group: rates})


def test_without_targets_of_test_trials_the_error_says_where_they_are(tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, "nlb", "evaluate", tmp_path / "s.h5", "--folder", tmp_path, "--phase", "test") == 2
    assert "eval_data_test.h5" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileError, match="cannot make the folder"):
        write_set(simulate_set(SetSettings("mc_rtt", 2, 2, 2, 4)), tmp_path / "file")


def test_no_file_and_no_hdf5_are_named(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    for name in ("text.h5", "absent.h5"):
        with pytest.raises(FileError, match=name):
            read_tensors(Path(tmp_path / name))
