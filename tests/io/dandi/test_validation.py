import json

import h5py
import pytest
from nwbinspector import available_checks

from nwb_sbtt.errors import FileError
from nwb_sbtt.io.write.hints import DEFAULT_HINT, HINTS, hint_for_check, hint_for_schema
from nwb_sbtt.io.write.validation import validate
from tests.support.commands import call
from tests.support.dandi import PATH
from tests.support.nwbfiles import new_file, write


def test_every_check_that_is_run_has_something_to_do_about_it():
    names = {check.__name__ for check in available_checks}
    assert sorted(names - set(HINTS)) == []
    assert hint_for_check("check_of_tomorrow") == DEFAULT_HINT
    assert "export" in hint_for_schema("MissingError") and "newest" in hint_for_schema("New")


def test_results_pass_what_dandi_asks_for(result):
    findings = validate(result)
    assert [finding for finding in findings if finding.blocks] == []


def test_what_dandi_refuses_comes_first_with_what_to_do_and_sets_the_exit_code(tmp_path, monkeypatch, capsys):
    path = write(new_file(), tmp_path / "x.nwb")
    with h5py.File(path, "a") as file:
        del file["general/subject"]
    findings = validate(path)
    assert (findings[0].level, findings[0].check, findings[0].blocks) == ("critical", "check_subject_exists", True)
    assert findings[0].hint.startswith("add nwbfile.subject = Subject(")
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=("error", "critical", "violation", "suggestion").index)
    assert call(monkeypatch, "validate", path) == 1
    out = capsys.readouterr().out
    assert out.count("to do: ") == len(findings)
    assert out.endswith("DANDI would refuse it\n")
    assert call(monkeypatch, "validate", path, "--json") == 1
    output = json.loads(capsys.readouterr().out)
    assert output["refused"] and output["findings"] == [finding.as_dict() for finding in findings]


def test_a_file_against_the_schema_is_an_error_with_its_place(result):
    with h5py.File(result, "a") as file:
        del file["units/id"].attrs["neurodata_type"]
        del file["session_description"]
        file["session_description"] = 3.5
    errors = [finding for finding in validate(result) if finding.level == "error"]
    assert errors and all(finding.hint and finding.location for finding in errors)


def test_half_a_file_is_one_line(result, tmp_path):
    path = tmp_path / "half.nwb"
    path.write_bytes(result.read_bytes()[: result.stat().st_size // 2])
    with pytest.raises(FileError, match=r"is damaged, incomplete or still being written .*download or copy it again"):
        validate(path)


def test_what_is_no_nwb_file_is_one_line(tmp_path):
    path = tmp_path / "x.nwb"
    path.write_bytes(b"nothing")
    with pytest.raises(FileError, match="is not an HDF5 file"):
        validate(path)
    with pytest.raises(FileError, match="there is no file"):
        validate(tmp_path / "y.nwb")
    with pytest.raises(FileError, match="Zarr store, but the validators read only"):
        validate(tmp_path)


def test_a_file_of_an_archive_is_fetched_and_checked(archive, content, monkeypatch, capsys):
    archive.add("000140", PATH, content)
    archive.publish("000140", "0.1.0")
    assert call(monkeypatch, "validate", f"DANDI:000140/{PATH}") == 0
    assert "DANDI would accept it" in capsys.readouterr().out
