"""What a fit is of: plain values and back, and what is said of a run folder that is another version's or damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nwb_sbtt.errors import DataError, FileError, TrainingError
from nwb_sbtt.fitting.fit import fit
from nwb_sbtt.fitting.loading import load
from nwb_sbtt.fitting.preparation import prepare, signature_of
from nwb_sbtt.fitting.runfolder import read_signature, write_json
from nwb_sbtt.fitting.signature import (
    SIGNATURE,
    SessionSignature,
    Signature,
    channel_names,
    digest_of,
    session_differences,
)
from nwb_sbtt.train.trackers import Silent
from tests.support.fits import population, settings

SESSION = SessionSignature(
    channels=("units:3", "units:1"),
    bin_width=0.01,
    kind="units",
    trials=20,
    training_trials=18,
    bins=50,
    data_sha256="ab",
    source={"path": "a.nwb", "object_id": "x"},
    read_config={"cut": {"by": "chop", "length": 1.0}},
    offsets=None,
    channel_values={"smallest_event": (0.5, 0.25)},
)
SIGNED = Signature("zig", {"sub-1_ses-2021.11.22": SESSION, "ä b": replace(SESSION, bins=40)}, {"ä b": None})


def test_a_signature_comes_back_from_its_json(tmp_path):
    text = json.dumps(SIGNED.as_dict())
    assert Signature.from_dict(json.loads(text), path=tmp_path / SIGNATURE) == SIGNED


def test_where_the_data_lie_is_not_what_a_fit_is_known_by():
    moved = replace(SESSION, source={"path": "b.nwb"}, offsets=[0.0])
    assert replace(SIGNED, sessions={"a": SESSION}).identity() == replace(SIGNED, sessions={"a": moved}).identity()
    other = replace(SESSION, data_sha256="cd")
    assert replace(SIGNED, sessions={"a": SESSION}).identity() != replace(SIGNED, sessions={"a": other}).identity()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"channels": ("units:1", "units:3")}, "session 'a' has 2 channels instead of 2 (in another order)"),
        (
            {"channels": tuple("bcdef")},
            "has 5 channels instead of 2 (without 'units:1', 'units:3', with 'b', 'c', 'd' and 2 more)",
        ),
        ({"bin_width": 0.02}, "session 'a' has bins of 0.02 s instead of 0.01 s"),
        ({"kind": "rois"}, "the channels of session 'a' are rois instead of units"),
        ({"trials": 30, "data_sha256": "cd"}, "session 'a' has 30 trials instead of 20"),
        ({"channel_values": {}}, "session 'a' has different values of smallest_event"),
        ({"data_sha256": "cd"}, "session 'a' has different data"),
    ],
)
def test_what_differs_in_a_session_is_told_in_words(change, text):
    (told,) = session_differences("a", replace(SESSION, **change), SESSION)
    assert text in told
    assert session_differences("a", SESSION, SESSION) == []


def test_a_run_folder_of_another_format_is_refused_in_one_line(tmp_path):
    (tmp_path / SIGNATURE).write_text(json.dumps({**SIGNED.as_dict(), "format": 1}))
    with pytest.raises(
        TrainingError, match=r"has format 1, but this version reads format 3; .*fit again in a new folder"
    ) as raised:
        read_signature(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"likelihood": None}, "likelihood: "),
        ({"sessions": {"a": {"channels": ["1"]}}}, r"sessions.a.bin_width: Field required"),
        ({"sessions": {"a": {**SIGNED.as_dict()["sessions"]["ä b"], "trials": "many"}}}, r"sessions.a.trials: "),
    ],
)
def test_a_damaged_signature_is_refused_with_the_place(tmp_path, change, message):
    write_json(tmp_path / SIGNATURE, {**SIGNED.as_dict(), **change})
    with pytest.raises(FileError, match=f"is damaged: {message}"):
        read_signature(tmp_path)


def test_sessions_may_have_any_name(tmp_path):
    names = ["sub-1_ses-2021.11.22", "values", "50 % of it"]
    data = {name: population(seed) for seed, name in enumerate(names)}
    fitted = fit(data, settings(), run_dir=tmp_path / "run", tracker=Silent())
    again = load(fitted.run_dir)
    for name, ds in data.items():
        assert (fitted.infer(ds, session=name)["rates"] == again.infer(ds, session=name)["rates"]).all()
    weights = fitted.model.state_dict()
    assert {name for name in weights if name.startswith("read_in.values.")} == {
        "read_in.values.@sub-1_ses-2021%2E11%2E22",
        "read_in.values.@values",
        "read_in.values.@50 %25 of it",
    }


def test_channels_of_one_id_are_told_apart_by_their_row():
    ds = population().assign_coords(channel_id=("channel", [1, 2, 3, 1, 2, 4]))
    with_rows = ds.assign_coords(channel_row=("channel", np.arange(6) + 10), table=("channel", np.full(6, "units")))
    assert channel_names(with_rows) == [
        "units:1 (row 10)",
        "units:2 (row 11)",
        "units:3",
        "units:1 (row 13)",
        "units:2 (row 14)",
        "units:4",
    ]
    config = settings()
    assert len(set(signature_of({"a": prepare(with_rows, config)}, config).sessions["a"].channels)) == 6
    with pytest.raises(DataError, match=r"set different ids in"):
        signature_of({"a": prepare(ds, config)}, config)


def test_data_whose_channels_were_chosen_by_earlier_values_are_other_data():
    ds = population()
    digests = {
        scheme: digest_of(ds.assign_attrs(bandwidth=json.dumps({"scheme": scheme})))
        for scheme in ("speckled", "scheduled")
    }
    assert digests["speckled"] == digest_of(ds) != digests["scheduled"]
