"""The loopback archive answers as a real server did, and the real client works with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from dandi.dandiapi import DandiAPIClient
from dandi.exceptions import NotFoundError
from dandischema.digests.dandietag import PartGenerator

from tests.support.dandi.archive import Archive, etag_of

SAMPLES = Path(__file__).parents[4] / "shared" / "reference" / "dandi_rest_samples"
LABELS = sorted(path.stem.split("_", 1)[1] for path in SAMPLES.glob("*.json"))
DRAFT = "/dandisets/000001/versions/draft/"
FREE = {"instance_config", "services", "assetsSummary", "contributor", "citation", "metadata.about"}
"""What an owner or a server writes as he likes."""


class Caller:
    """Sends requests as recorded and keeps the answers."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.answers: dict[str, requests.Response] = {}

    def __call__(self, label: str, method: str, path: str, *, key: bool = True, **more: object) -> requests.Response:
        url = path if path.startswith("http") else self.archive.url + path
        headers = {"Authorization": f"token {self.archive.token}"} if key and url.startswith(self.archive.url) else {}
        headers |= more.pop("headers", {})
        answer = requests.request(method, url, headers=headers, allow_redirects=False, timeout=5, **more)
        self.answers[label] = answer
        return answer


@pytest.fixture(scope="module")
def answers() -> dict[str, requests.Response]:
    """The recorded session again, call by call, on the loopback archive."""
    content = b"abc" * 1000
    metadata = {"schemaVersion": "0.7.0", "schemaKey": "Asset", "encodingFormat": "application/x-nwb"}
    with Archive() as archive:
        call = Caller(archive)
        call("server_info", "GET", archive.url.removesuffix("api") + "server-info")
        call("info", "GET", "/info/", key=False)
        call("auth_token_noslash", "GET", "/auth/token")
        call("auth_token", "GET", "/auth/token/")
        call("auth_token_bad", "GET", "/auth/token/", headers={"Authorization": "token no"})
        call("dandiset_create_anon", "POST", "/dandisets/", key=False, json={"name": "a", "metadata": {}})
        about = {"name": "sample", "metadata": {"description": "x", "license": ["spdx:CC0-1.0"]}}
        call("dandiset_create", "POST", "/dandisets/", json=about, params={"embargo": "false"})
        call("dandisets_list", "GET", "/dandisets/", key=False)
        call("dandiset_get", "GET", "/dandisets/000001/", key=False)
        call("dandiset_404", "GET", "/dandisets/999999/", key=False)
        call("versions_list", "GET", "/dandisets/000001/versions/", key=False)
        call("version_metadata", "GET", DRAFT, key=False)
        call("version_info", "GET", f"{DRAFT}info/", key=False)
        call("assets_empty", "GET", f"{DRAFT}assets/", key=False)
        call("publish_not_valid", "POST", f"{DRAFT}publish/")
        digest = {"algorithm": "dandi:dandi-etag", "value": etag_of(content)}
        start = {"contentSize": len(content), "digest": digest, "dandiset": "000001"}
        made = call("upload_initialize", "POST", "/uploads/initialize/", json=start).json()
        part = call("s3_put_part", "PUT", made["parts"][0]["upload_url"], data=content)
        parts = [{"part_number": 1, "size": len(content), "etag": part.headers["ETag"]}]
        done = call("upload_complete", "POST", f"/uploads/{made['upload_id']}/complete/", json={"parts": parts}).json()
        call("s3_complete", "POST", done["complete_url"], data=done["body"])
        blob = call("upload_validate", "POST", f"/uploads/{made['upload_id']}/validate/").json()["blob_id"]
        call("upload_initialize_dup_409", "POST", "/uploads/initialize/", json=start)
        ids = []
        names = ["sub-J/sub-J_ecephys.nwb", *(f"sub-J/sub-J_ses-{i}_ecephys.nwb" for i in range(3))]
        for label, path in zip(["", "_0", "_1", "_2"], names, strict=True):
            body = {"metadata": {**metadata, "path": path}, "blob_id": blob}
            ids.append(call(f"asset_create{label}", "POST", f"{DRAFT}assets/", json=body).json()["asset_id"])
        body = {"metadata": {**metadata, "path": names[0]}, "blob_id": blob}
        call("asset_create_conflict", "POST", f"{DRAFT}assets/", json=body)
        for label, query in {
            "assets_page": {"page_size": 2},
            "assets_page2": {"page_size": 2, "page": 2},
            "assets_by_path": {"path": names[0]},
            "assets_by_glob": {"glob": "*ses-1*"},
            "assets_with_metadata": {"metadata": "true", "page_size": 1},
        }.items():
            call(label, "GET", f"{DRAFT}assets/", key=False, params=query)
        call("asset_metadata", "GET", f"{DRAFT}assets/{ids[0]}/", key=False)
        call("asset_info", "GET", f"/assets/{ids[0]}/info/", key=False)
        link = call("asset_download_302", "GET", f"/assets/{ids[0]}/download/", key=False).headers["Location"]
        call("asset_download_head", "HEAD", f"/assets/{ids[0]}/download/", key=False)
        call("s3_get_range", "GET", link, headers={"Range": "bytes=10-19"})
        renamed = {"metadata": {**metadata, "path": "sub-J/renamed.nwb"}, "blob_id": blob}
        call("asset_put", "PUT", f"{DRAFT}assets/{ids[0]}/", json=renamed)
        call("asset_put_stale_404", "PUT", f"{DRAFT}assets/{ids[0]}/", json=body)
        call("asset_delete", "DELETE", f"{DRAFT}assets/{ids[1]}/")
        call("blobs_digest", "POST", "/blobs/digest/", key=True, json=digest)
        call("version_info_validated", "GET", f"{DRAFT}info/", key=False)
        return call.answers


@pytest.mark.skipif(not LABELS, reason="the recorded calls (../shared/reference beside the project) are not here")
@pytest.mark.parametrize("label", [label for label in LABELS if label != "assets_paths"])
def test_an_answer_has_the_status_headers_and_keys_of_the_recorded_one(answers, label):
    path = next(path for path in SAMPLES.glob("*.json") if path.stem.split("_", 1)[1] == label)
    recorded = json.loads(path.read_text())["response"]
    ours = answers[label]
    assert ours.status_code == recorded["status"]
    for name in ("Location", "ETag", "content-range", "Accept-Ranges"):
        assert (name in ours.headers) == (name.lower() in {header.lower() for header in recorded["headers"]}), name
    if isinstance(recorded["body"], dict):
        assert _missing(ours.json(), recorded["body"]) == []
    if label.startswith("assets_"):
        assert len(ours.json()["results"]) == len(recorded["body"]["results"])
        assert (ours.json()["next"] is None) == (recorded["body"]["next"] is None)
        assert (ours.json()["count"] is None) == (recorded["body"]["count"] is None)


def _missing(ours, recorded, place=""):
    """Keys of the recorded body that ours lacks, and values of another type."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        keys = [key for key in recorded if key not in FREE]
        lacking = [f"{place}.{key}" for key in keys if key not in ours]
        return lacking + [
            text for key in keys if key in ours for text in _missing(ours[key], recorded[key], f"{place}.{key}")
        ]
    if isinstance(recorded, list) and isinstance(ours, list) and recorded and ours:
        return _missing(ours[0], recorded[0], f"{place}[0]")
    same = type(ours) is type(recorded) or None in (ours, recorded)
    return [] if same else [f"{place}: {type(ours).__name__}, recorded {type(recorded).__name__}"]


def _dandi(archive, *words, cwd):
    """The dandi command line itself."""
    environment = {**os.environ, f"{archive.name}_API_KEY": archive.token, "XDG_STATE_HOME": str(cwd / "state")}
    command = [sys.executable, "-c", "from dandi.cli.command import main; main()", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_the_dandi_program_downloads_all_pages_and_checks_digests(archive, tmp_path):
    archive.page_size = 2
    for i in range(5):
        archive.add("000140", f"sub-{i}/sub-{i}_ecephys.nwb", bytes([i]) * 1000)
    archive.publish("000140", "0.220113.0408")
    ended = _dandi(archive, "download", f"{archive.url}/dandisets/000140/", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for i in range(5):
        assert (tmp_path / f"000140/sub-{i}/sub-{i}_ecephys.nwb").read_bytes() == bytes([i]) * 1000


def test_the_dandi_client_uploads_in_parts_replaces_and_deletes(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(PartGenerator, "DEFAULT_PART_SIZE", PartGenerator.MIN_PART_SIZE)
    archive.create("000001")
    client = DandiAPIClient(archive.url, token=archive.token)
    dandiset = client.get_dandiset("000001", "draft")
    path = tmp_path / "x.nwb"
    path.write_bytes(bytes(range(256)) * 45000)
    first = dandiset.upload_raw_asset(path, {"path": "sub-x/x.nwb"})
    assert archive.count("storage PUT") == 3
    assert first.get_raw_digest() == etag_of(path.read_bytes())
    again = dandiset.upload_raw_asset(path, {"path": "sub-x/y.nwb"})
    assert (archive.count("storage PUT"), again.blob) == (3, first.blob)
    path.write_bytes(b"other")
    second = dandiset.upload_raw_asset(path, {"path": "sub-x/x.nwb"}, replace_asset=first)
    assert second.identifier != first.identifier
    with pytest.raises(NotFoundError):
        dandiset.get_asset(first.identifier)
    second.download(tmp_path / "back.nwb")
    assert (tmp_path / "back.nwb").read_bytes() == b"other"
    client.delete(again.api_path)
    assert [asset.path for asset in dandiset.get_assets()] == ["sub-x/x.nwb"]


def test_the_dandi_client_publishes_and_then_prefers_what_was_published(archive):
    archive.add("000001", "sub-x/x.nwb", b"x")
    client = DandiAPIClient(archive.url, token=archive.token)
    published = client.get_dandiset("000001", "draft").publish()
    assert client.get_dandiset("000001").version_id == published.version_id != "draft"


def test_what_was_ordered_to_go_wrong_goes_wrong(archive):
    archive.add("000001", "x", bytes(100_000))
    url = f"{archive.url}/dandisets/000001/"
    archive.fail(429, retry_after=3)
    refused = requests.get(url, timeout=5)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert requests.get(url, timeout=5).status_code == 200
    asset = next(iter(archive.dandisets["000001"].versions["draft"].assets))
    link = requests.get(f"{archive.url}/assets/{asset}/download/", timeout=5, allow_redirects=False).headers["Location"]
    archive.cut(0.3)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(link, timeout=5)
    archive.slow(1.0)
    with pytest.raises(requests.Timeout):
        requests.get(link, timeout=0.2)
    archive.expire_links()
    assert requests.get(link, timeout=5).status_code == 403
    assert requests.get(link.split("?")[0], timeout=5).content == bytes(100_000)
