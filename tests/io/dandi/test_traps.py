"""Eight things about DANDI that one would not expect, and that we must not fall for."""

import os

import pytest
import requests
from dandi.dandiapi import DandiAPIClient
from dandi.exceptions import NotFoundError

from nwb_sbtt.errors import ArchiveError
from nwb_sbtt.io.dandi import download, upload
from nwb_sbtt.io.dandi.cache import fetch_cached
from nwb_sbtt.io.dandi.client import refuse_downgrade
from nwb_sbtt.io.dandi.transfer import find_remote_file
from tests.support.commands import tree
from tests.support.dandi import PATH, VERSION


@pytest.fixture
def asset(archive, content):
    made = archive.add("000140", PATH, content)
    archive.publish("000140", VERSION)
    return made


def _flip(blob):
    middle = len(blob.content) // 2
    blob.content = blob.content[:middle] + bytes([blob.content[middle] ^ 1]) + blob.content[middle + 1 :]


def test_1_the_client_checks_no_digest_and_we_do(archive, asset, tmp_path, content):
    _flip(asset.blob)
    client = DandiAPIClient(archive.url)
    client.get_dandiset("000140").get_asset_by_path(PATH).download(tmp_path / "theirs.nwb")
    assert (tmp_path / "theirs.nwb").read_bytes() != content
    with pytest.raises(
        ArchiveError, match=r"the bytes received for .* are wrong: its sha2-256 is .* they were removed"
    ):
        download(f"DANDI:000140/{PATH}", tmp_path / "ours")
    assert not any("nwb" in name for name in tree(tmp_path / "ours"))


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_2_a_truncated_object_leaves_no_file(archive, asset, tmp_path, share):
    asset.blob.content = asset.blob.content[: int(share * len(asset.blob.content))]
    with pytest.raises(ArchiveError, match=r"are wrong: the storage has no more than \d+ of \d+ bytes"):
        download(f"DANDI:000140/{PATH}", tmp_path)
    assert not any("_ecephys" in name for name in tree(tmp_path))


def test_3_a_fresh_draft_has_the_etag_only_and_is_checked_by_it(archive, tmp_path, content):
    archive.digests_sha256 = False
    asset = archive.add("000200", PATH, content)
    assert find_remote_file(f"DANDI:000200/draft/{PATH}").asset.sha256 is None
    (path,) = download("DANDI:000200/draft", tmp_path)
    assert path.read_bytes() == content
    path.unlink()
    _flip(asset.blob)
    with pytest.raises(ArchiveError, match="its dandi-etag is"):
        download("DANDI:000200/draft", tmp_path)


def test_4_an_asset_changes_its_id_and_the_cache_goes_by_path_and_digest(archive, asset, content):
    address = f"DANDI:000140/draft/{PATH}"
    first = fetch_cached(find_remote_file(address))
    archive.replace("000140", PATH, content)
    assert find_remote_file(address).asset.asset_id != asset.id
    archive.requests.clear()
    assert fetch_cached(find_remote_file(address)) == first
    assert archive.count("storage") == 0
    archive.replace("000140", PATH, content + b"changed")
    second = fetch_cached(find_remote_file(address))
    assert second != first
    assert second.read_bytes() == content + b"changed"


def test_5_refresh_sees_a_change_that_leaves_size_and_time_alone(archive, asset, tmp_path, content):
    (path,) = download(f"DANDI:000140/{PATH}", tmp_path)
    times = path.stat()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    download(f"DANDI:000140/{PATH}", tmp_path, existing="refresh")
    assert path.read_bytes() == content


def test_6_neither_a_draft_nor_a_published_version_is_taken_in_silence(archive, asset, tmp_path, content):
    archive.replace("000140", PATH, b"newer")
    (path,) = download("000140", tmp_path / "published")
    assert path.read_bytes() == content
    (path,) = download("DANDI:000140/draft", tmp_path / "draft")
    assert path.read_bytes() == b"newer"
    archive.add("000300", PATH, content)
    with pytest.raises(
        ArchiveError, match=r"DANDI:000300 has no published version; its draft, .* is DANDI:000300/draft"
    ):
        download("000300", tmp_path)


def test_7_an_embargoed_dandiset_asks_for_a_key_and_a_missing_one_is_said_to_be_missing(
    archive, tmp_path, monkeypatch, content
):
    archive.create("000400", embargoed=True)
    archive.add("000400", PATH, content)
    anonymous = DandiAPIClient(archive.url)
    with pytest.raises(requests.HTTPError):
        list(anonymous.get_dandiset("000400", "draft").get_assets())
    with pytest.raises(NotFoundError):
        list(anonymous.get_dandiset("000499", "draft").get_assets())
    name = f"{archive.name}_API_KEY"
    with pytest.raises(
        ArchiveError, match=f"000400/draft cannot be read: the archive .* requires your API key; set {name} in"
    ):
        download("DANDI:000400/draft", tmp_path)
    with pytest.raises(ArchiveError, match=r"DANDI:000499 cannot be read: the archive .* does not have it"):
        download("DANDI:000499/draft", tmp_path)
    monkeypatch.setenv(name, archive.token)
    (path,) = download("DANDI:000400/draft", tmp_path)
    assert path.read_bytes() == content


def test_8_a_server_with_an_older_schema_takes_uploads(archive, result, monkeypatch):
    monkeypatch.setenv(f"{archive.name}_API_KEY", archive.token)
    archive.create("000999")
    made = upload(result, "000999")
    stored = archive.find_asset(made.asset_id)[1]
    assert stored.metadata["schemaVersion"] == "0.7.0"
    assert stored.blob.content == result.read_bytes()


@pytest.mark.parametrize("digest", ["../../../etc", "0" * 63 + "/", "0" * 63, 7, "A" * 64])
def test_a_digest_that_is_no_digest_never_becomes_a_path(archive, asset, digest):
    asset.blob.sha256 = digest
    with pytest.raises(ArchiveError, match=r"has .* as dandi:sha2-256 of .*; expected hexadecimal digits"):
        find_remote_file(f"DANDI:000140/{PATH}")


@pytest.mark.parametrize(
    "target", ["http://storage.example/x?signature=1", "HTTP://other.example/", "ftp://a.example/"]
)
def test_a_redirect_never_falls_from_https(target):
    response = requests.Response()
    response.status_code, response.url = 302, "https://storage.example/blob?signature=1"
    response.headers["Location"] = target
    with pytest.raises(
        ArchiveError, match=r"storage.example redirects this request from https to .*refused"
    ) as refused:
        refuse_downgrade(response)
    assert "signature" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "target"),
    [("https://a.example/", "/b"), ("http://a.example/", "http://b.example/"), ("https://a/", "https://b/")],
)
def test_other_redirects_are_followed(url, target):
    response = requests.Response()
    response.status_code, response.url = 302, url
    response.headers["Location"] = target
    refuse_downgrade(response)


def test_both_sessions_refuse_to_fall_from_https(archive, asset, waits):
    remote = find_remote_file(f"DANDI:000140/{PATH}")
    remote.read(0, 10)
    for session in (remote.client.session, remote._session):
        assert refuse_downgrade in session.hooks["response"]
