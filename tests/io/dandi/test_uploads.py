import json
import re

import pytest
from dandi.dandiapi import DandiAPIClient
from dandi.organize import validate_organized_path
from dandischema.models import Asset as AssetModel
from pynwb import NWBHDF5IO

from nwb_sbtt import write_nwb
from nwb_sbtt.errors import ArchiveError, ConfigError, FileError, MismatchError, SbttError, SelectionError
from nwb_sbtt.io.dandi import download, upload
from nwb_sbtt.io.dandi.uploads import UploadResult, read_upload_result
from tests.support.commands import call
from tests.support.dandi import PATH, VERSION
from tests.support.latents import latents_of

NAME = "sub-S1/sub-S1_ses-session-1_desc-sbtt_ecephys.nwb"


@pytest.fixture
def home(archive, monkeypatch):
    """A dandiset to put results into, with the key to it."""
    monkeypatch.setenv(f"{archive.name}_API_KEY", archive.token)
    archive.create("000999")
    return archive


@pytest.fixture
def unchecked(monkeypatch):
    """Validation takes seconds; two tests here and those of the round go through it."""
    monkeypatch.setattr("nwb_sbtt.io.dandi.uploads.validate", lambda path: [])


@pytest.fixture
def derived(archive, content, tmp_path):
    """Results of a recording that was fetched."""
    archive.add("000140", PATH, content)
    archive.publish("000140", VERSION)
    (recording,) = download("000140", tmp_path)
    latents = latents_of(recording, [("units", "units", [0, 1])])
    source = {**json.loads(latents.attrs["source"]), "version": VERSION}
    asset = next(iter(archive.dandisets["000140"].versions[VERSION].assets))
    source |= {"asset_id": asset, "asset_path": PATH, "archive": archive.url}
    return write_nwb(latents.assign_attrs(source=json.dumps(source)), tmp_path / "derived.nwb")


def _stored(archive):
    return {asset.path: asset for asset in archive.dandisets["000999"].versions["draft"].assets.values()}


@pytest.mark.parametrize(
    ("facts", "path"),
    [
        (("S1", "session-1", ("sbtt",), ("ecephys",)), NAME),
        (
            ("a_b/c", "2024.03.01 x", ("sbtt",), ("ecephys", "ophys")),
            "sub-a-b-c/sub-a-b-c_ses-2024-03-01-x_desc-sbtt_ecephys+ophys.nwb",
        ),
        (("S", "1", ("one", "two"), ()), "sub-S/sub-S_ses-1_desc-one+two.nwb"),
    ],
)
def test_names_are_those_that_dandi_wants(tmp_path, facts, path):
    assert UploadResult(*facts, ()).path == path
    assert validate_organized_path(path, tmp_path / path, tmp_path) == []


def test_a_result_goes_into_the_draft_with_metadata_that_the_schema_takes(home, result, tmp_path):
    questions = []
    uploaded = upload(result, "000999", confirm=lambda text: not questions.append(text))
    assert (uploaded.dandiset, uploaded.version, uploaded.path) == ("000999", "draft", NAME)
    assert re.fullmatch(
        rf"add {re.escape(NAME)} \(\d+\.\d kB\) in the draft of DANDI:000999 on the archive .*\?", questions[0]
    )
    client = DandiAPIClient(home.url)
    metadata = client.get_dandiset("000999", "draft").get_asset_by_path(NAME).get_raw_metadata()
    assert AssetModel.model_validate(metadata).contentSize == result.stat().st_size
    assert metadata["encodingFormat"] == "application/x-nwb"
    assert any(activity["name"] == "Inference of rates and latents" for activity in metadata["wasGeneratedBy"])
    (back,) = download("DANDI:000999/draft", tmp_path / "back")
    assert back.read_bytes() == result.read_bytes()


@pytest.mark.usefixtures("unchecked")
def test_a_result_is_linked_to_the_files_it_was_derived_from(home, derived):
    questions = []
    upload(derived, "DANDI:000999", confirm=lambda text: not questions.append(text))
    assert f"derived from DANDI:000140/{VERSION}" in questions[0]
    (link,) = _stored(home)[NAME].metadata["relatedResource"]
    assert (link["identifier"], link["relation"], link["name"]) == (
        f"DANDI:000140/{VERSION}",
        "dcite:IsDerivedFrom",
        PATH,
    )
    assert link["url"].startswith(home.url)


@pytest.mark.usefixtures("unchecked")
def test_results_do_not_go_into_the_dandiset_of_their_recording_unless_told_to(home, derived):
    with pytest.raises(MismatchError, match=r"the recording came from DANDI:000140; .*--into-source"):
        upload(derived, "000140")
    assert home.count("uploads") == 0
    assert upload(derived, "000140", into_source=True).path == NAME


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
def test_what_is_there_already_is_replaced_only_when_told_to(home, result, derived):
    first = upload(result, "000999")
    home.requests.clear()
    for existing in ("error", "skip", "refresh"):
        assert upload(result, "000999", existing=existing).asset_id == first.asset_id
    assert upload(derived, "000999", existing="skip").asset_id == first.asset_id
    with pytest.raises(
        ArchiveError, match=r"exists, and its content is different: .*--existing refresh. to replace it"
    ):
        upload(derived, "000999")
    assert home.count("uploads") == 0
    questions = []
    second = upload(derived, "000999", existing="refresh", confirm=lambda text: not questions.append(text))
    assert questions[0].startswith("replace ")
    assert second.asset_id != first.asset_id
    assert list(_stored(home)) == [NAME]
    assert upload(derived, "000999", existing="overwrite").asset_id != second.asset_id


@pytest.mark.usefixtures("unchecked")
def test_nothing_is_written_where_nobody_said_yes(home, result, monkeypatch, capsys):
    with pytest.raises(ArchiveError, match="nothing was uploaded"):
        upload(result, "000999", confirm=lambda text: False)
    assert call(monkeypatch, "upload", result, "--dandiset", "000999") == 2
    assert "pass --yes" in capsys.readouterr().err
    assert _stored(home) == {}
    assert call(monkeypatch, "upload", result, "--dandiset", "000999", "--yes") == 0
    assert f"DANDI:000999/draft/{NAME} (asset " in capsys.readouterr().out


def test_a_file_without_results_or_without_a_subject_is_refused(home, recording, result):
    with pytest.raises(SelectionError, match=r"has no results; expected a file"):
        upload(recording, "000999")
    with NWBHDF5IO(result, "a") as io:
        del io._file["general/subject"]
    with pytest.raises(FileError, match="has no subject_id, which DANDI needs for the name of the file"):
        read_upload_result(result)


@pytest.mark.slow
def test_a_file_that_dandi_would_refuse_is_refused_with_what_to_do_unless_told_to(home, result):
    import h5py

    with h5py.File(result, "a") as file:
        del file["general/subject/age"]
    with pytest.raises(FileError, match=r"DANDI would refuse .*age.*To do: set subject.age.*--validation ignore"):
        upload(result, "000999")
    assert home.count() == 0
    assert upload(result, "000999", validation="ignore").path == NAME


@pytest.mark.usefixtures("unchecked")
def test_without_a_key_nothing_is_tried(archive, result):
    archive.create("000999")
    with pytest.raises(ArchiveError, match=r"DANDI:000999 cannot be written: .* requires your API key"):
        upload(result, "000999")
    assert archive.count("POST") == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "where", ["uploads/initialize", "storage PUT", "/complete/", "/validate/", "POST /api/dandisets"]
)
def test_an_upload_lives_through_errors_that_pass_and_ends_in_one_line_at_those_that_stay(home, result, where):
    home.fail(500, times=3, on=where)
    upload(result, "000999")
    assert list(_stored(home)) == [NAME]
    home.dandisets["000999"].versions["draft"].assets.clear()
    home.blobs.clear()
    home.fail(500, times=1000, on=where)
    with pytest.raises(SbttError, match="cannot be uploaded") as failed:
        upload(result, "000999")
    assert "\n" not in str(failed.value) and "X-Amz" not in str(failed.value)
    assert _stored(home) == {}


@pytest.mark.usefixtures("unchecked")
def test_a_place_that_is_none_is_refused(home, result):
    for place in ("000999/0.1.2", "DANDI:000999/draft/sub-1/x.nwb", "x"):
        with pytest.raises(ConfigError):
            upload(result, place)
    with pytest.raises(ArchiveError, match=r"DANDI:000998 cannot be written: .* does not have it"):
        upload(result, "000998")
