"""What is fetched, where it goes, and what is known of it afterwards."""

import json

import pytest

from nwb_sbtt import read_nwb
from nwb_sbtt.errors import ArchiveError, ConfigError, FileError, SelectionError
from nwb_sbtt.io.dandi import download
from tests.support.commands import call, tree
from tests.support.dandi import PATH, VERSION


@pytest.fixture
def dandiset(archive, content):
    """Three files published, and a fourth in the draft only."""
    archive.add("000140", PATH, content)
    archive.add("000140", "sub-S1/sub-S1_ses-2_behavior.nwb", b"behaviour")
    archive.add("000140", "sub-S2/sub-S2_ecephys.nwb", b"other subject")
    archive.publish("000140", "0.200101.0000")
    archive.publish("000140", VERSION)
    archive.add("000140", "sub-S3/sub-S3_ecephys.nwb", b"draft only")
    return archive


def test_the_newest_published_version_is_taken_and_named(dandiset, monkeypatch, tmp_path, capsys):
    assert call(monkeypatch, "download", "000140", "--to", tmp_path / "data") == 0
    out = capsys.readouterr().out
    assert f"DANDI:000140/{VERSION} (the newest published version): 3 files" in out
    files = [name for name in tree(tmp_path / "data") if name.endswith(".nwb")]
    assert files == [
        f"000140/{path}" for path in sorted([PATH, "sub-S1/sub-S1_ses-2_behavior.nwb", "sub-S2/sub-S2_ecephys.nwb"])
    ]


def test_all_pages_of_a_listing_are_fetched_with_as_many_jobs_as_asked_for(dandiset, tmp_path):
    dandiset.page_size = 1
    assert len(download("DANDI:000140", tmp_path, jobs=3)) == 3


@pytest.mark.parametrize(
    ("address", "glob", "names"),
    [
        ("DANDI:000140/sub-S1", None, ["sub-S1_ses-2_behavior.nwb", "sub-S1_ses-session-1_ecephys.nwb"]),
        (f"DANDI:000140/{VERSION}/{PATH}", None, ["sub-S1_ses-session-1_ecephys.nwb"]),
        ("DANDI:000140", "*ecephys*", ["sub-S1_ses-session-1_ecephys.nwb", "sub-S2_ecephys.nwb"]),
        ("DANDI:000140/draft", "*S3*", ["sub-S3_ecephys.nwb"]),
        ("DANDI:000140/0.200101.0000", "*S2*", ["sub-S2_ecephys.nwb"]),
    ],
)
def test_files_are_chosen_by_version_path_and_glob(dandiset, tmp_path, address, glob, names):
    assert [path.name for path in download(address, tmp_path, glob=glob)] == names


def test_addresses_of_the_web_pages_and_the_api_work(dandiset, tmp_path, content):
    draft = dandiset.dandisets["000140"].versions["draft"]
    asset = next(candidate for candidate in draft.assets.values() if candidate.path == PATH)
    base = dandiset.url
    for i, address in enumerate(
        [
            f"{base}/dandisets/000140/versions/{VERSION}/assets/?path={PATH}",
            f"{base}/dandisets/000140/versions/{VERSION}/assets/{asset.id}/download/",
            f"{base}/assets/{asset.id}/download/",
            f"{base.removesuffix('/api')}/dandiset/000140/{VERSION}/files?location={PATH}",
        ]
    ):
        (path,) = download(address, tmp_path / str(i))
        assert path.read_bytes() == content


def test_a_dry_run_says_how_many_files_and_bytes_and_fetches_nothing(dandiset, monkeypatch, tmp_path, capsys):
    words = ("download", "000140", "--to", tmp_path / "data", "--asset", "sub-S2", "--dry-run")
    assert call(monkeypatch, *words) == 0
    assert "1 file, 13 bytes" in capsys.readouterr().out
    assert call(monkeypatch, *words, "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["files"], output["bytes"], output["version"], output["paths"]) == (1, 13, VERSION, [])
    assert dandiset.count("storage") == 0
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_there_is_known_by_its_digest(dandiset, tmp_path, content):
    (path,) = download(f"DANDI:000140/{PATH}", tmp_path)
    dandiset.requests.clear()
    for existing in ("error", "skip", "refresh"):
        download(f"DANDI:000140/{PATH}", tmp_path, existing=existing)
    assert dandiset.count("storage GET") == 0
    download(f"DANDI:000140/{PATH}", tmp_path, existing="overwrite")
    assert dandiset.count("storage GET") == 1
    path.write_bytes(b"mine")
    with pytest.raises(FileError, match=r"exists and is not DANDI:000140.*its size is 4.*'skip'.*'refresh'"):
        download(f"DANDI:000140/{PATH}", tmp_path)
    download(f"DANDI:000140/{PATH}", tmp_path, existing="skip")
    assert path.read_bytes() == b"mine"
    download(f"DANDI:000140/{PATH}", tmp_path, existing="refresh")
    assert path.read_bytes() == content


def test_what_was_fetched_travels_into_the_data_until_the_file_is_changed(dandiset, tmp_path):
    (path,) = download(f"DANDI:000140/{PATH}", tmp_path)
    record = json.loads(path.with_name(path.name + ".dandi.json").read_text())
    draft = dandiset.dandisets["000140"].versions["draft"]
    asset = next(candidate for candidate in draft.assets.values() if candidate.path == PATH)
    expected = {
        "dandiset": "000140",
        "version": VERSION,
        "asset_id": asset.id,
        "asset_path": PATH,
        "archive": dandiset.url,
    }
    assert {key: record[key] for key in expected} == expected
    assert record["digests"] == {"sha2-256": asset.blob.sha256, "dandi-etag": asset.blob.etag}
    data = read_nwb(path)
    source = json.loads(data.attrs["source"])
    assert {key: source[key] for key in expected} == expected
    assert json.loads(data.attrs["notes"])[0] == f"read 'units' of DANDI:000140/{VERSION}/{PATH}"
    with path.open("ab") as file:
        file.write(b"more")
    assert "dandiset" not in json.loads(read_nwb(path).attrs["source"])


def test_what_does_not_match_is_refused_with_what_there_is(dandiset, tmp_path):
    with pytest.raises(SelectionError, match=r"no file of DANDI:000140/0.2.* matches '\*lfp\*'; it has 'sub-S1/"):
        download("000140", tmp_path, glob="*lfp*")
    with pytest.raises(SelectionError, match="matches 'sub-S'"):
        download("DANDI:000140/sub-S", tmp_path)
    with pytest.raises(ArchiveError, match=r"has no version '0\.1\.2'; it has .*draft"):
        download("DANDI:000140/0.1.2", tmp_path)
    with pytest.raises(ConfigError, match="expected one of error, skip, refresh, overwrite"):
        download("000140", tmp_path, existing="force")


def test_one_file_that_fails_does_not_keep_the_others_away(dandiset, tmp_path, content):
    draft = dandiset.dandisets["000140"].versions["draft"]
    bad = next(candidate for candidate in draft.assets.values() if candidate.path == PATH)
    bad.blob.content = bytes([content[0] ^ 1]) + content[1:]
    with pytest.raises(ArchiveError, match="the bytes received for"):
        download("000140", tmp_path)
    assert [name for name in tree(tmp_path / "000140") if name.endswith(".nwb")] == [
        "sub-S1/sub-S1_ses-2_behavior.nwb",
        "sub-S2/sub-S2_ecephys.nwb",
    ]


def test_errors_on_the_command_line_are_one_line(dandiset, monkeypatch, tmp_path, capsys):
    for words in (["000999"], ["nonsense"], ["000140", "--version", "0.0.1"], ["000140", "--instance", "nowhere"]):
        assert call(monkeypatch, "download", *words, "--to", tmp_path) == 2
        output = capsys.readouterr().err
        assert output.startswith("error: ") and output.count("\n") == 1, output
    assert tree(tmp_path) == []
