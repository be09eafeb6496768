import json
import os

import pytest

from nwb_sbtt.errors import ConfigError, FileError
from nwb_sbtt.io.dandi.cache import cache_folder, cache_limit, clear_cache, fetch_cached, list_cache
from nwb_sbtt.io.dandi.locations import local_file, locate, recorded_file
from nwb_sbtt.io.dandi.transfer import find_remote_file
from tests.support.commands import call, tree
from tests.support.dandi import VERSION


@pytest.fixture
def served(archive):
    for name in "abc":
        archive.add("000140", f"sub-{name}/{name}.nwb", name.encode() * 1000)
    archive.publish("000140", VERSION)
    return archive


def _fetch(name):
    return fetch_cached(find_remote_file(f"DANDI:000140/sub-{name}/{name}.nwb"))


def test_a_file_is_fetched_once_and_cannot_be_edited_by_accident(served):
    path = _fetch("a")
    assert path.read_bytes() == b"a" * 1000
    assert path.is_relative_to(cache_folder())
    assert path.stat().st_mode & 0o222 == 0
    served.requests.clear()
    assert _fetch("a") == path == locate("DANDI:000140/sub-a/a.nwb") == local_file("DANDI:000140/sub-a/a.nwb")
    assert served.count("storage") == 0


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_who_may_read_a_cached_file_is_decided_by_the_umask(served, umask):
    before = os.umask(umask)
    try:
        path = _fetch("a")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o444 & ~umask


def test_a_file_that_was_cut_short_in_the_cache_is_fetched_again(served):
    path = _fetch("a")
    path.chmod(0o644)
    path.write_bytes(b"a")
    assert _fetch("a").read_bytes() == b"a" * 1000


def test_what_was_used_longest_ago_makes_room(served, monkeypatch):
    monkeypatch.setenv("NWB_SBTT_CACHE_LIMIT", "2500")
    first, second = _fetch("a"), _fetch("b")
    for path, moment in ((first, 100), (second, 200)):
        os.utime(path.with_name(path.name + ".dandi.json"), (moment, moment))
    _fetch("a")
    _fetch("c")
    assert [file.address for file in list_cache()] == [f"DANDI:000140/{VERSION}/sub-{n}/{n}.nwb" for n in "ac"]
    assert not second.exists()


def test_a_file_larger_than_the_cache_is_refused_with_what_to_do(served, monkeypatch):
    monkeypatch.setenv("NWB_SBTT_CACHE_LIMIT", "0.5kB")
    with pytest.raises(FileError, match="has 1000 bytes, but the cache is limited to 500 bytes; raise"):
        _fetch("a")


@pytest.mark.parametrize(("text", "limit"), [("7", 7), ("10KB", 10_000), ("1.5 GB", 1.5e9), ("2t", 2e12), ("", 5e10)])
def test_a_limit_is_a_size(monkeypatch, text, limit):
    monkeypatch.setenv("NWB_SBTT_CACHE_LIMIT", text)
    assert cache_limit() == limit
    monkeypatch.setenv("NWB_SBTT_CACHE_LIMIT", "much")
    with pytest.raises(ConfigError, match="expected a size such as 50GB"):
        cache_limit()


def test_the_cache_can_be_listed_and_cleared(served, monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "cache", "list") == 0
    assert "0 files, 0 bytes of 50.0 GB" in capsys.readouterr().out
    _fetch("a")
    assert call(monkeypatch, "cache", "list") == 0
    assert f"DANDI:000140/{VERSION}/sub-a/a.nwb" in capsys.readouterr().out
    assert call(monkeypatch, "cache", "list", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["bytes"], len(output["files"]), output["folder"]) == (1000, 1, str(cache_folder()))
    assert call(monkeypatch, "cache", "clear") == 0
    assert "freed" in capsys.readouterr().out
    assert (list_cache(), clear_cache()) == ([], 0)
    assert tree(tmp_path) == []
    assert call(monkeypatch, "cache", "empty") == 2
    assert "expected list or clear" in capsys.readouterr().err


def test_data_whose_cached_file_is_gone_are_fetched_again_in_the_very_version(served):
    path = _fetch("a")
    asset = find_remote_file("DANDI:000140/sub-a/a.nwb").asset
    source = {
        "path": str(path),
        "dandiset": "000140",
        "version": VERSION,
        "asset_path": asset.path,
        "archive": served.url,
    }
    served.replace("000140", asset.path, b"changed later")
    served.publish("000140", "0.230101.0000")
    clear_cache()
    assert recorded_file(source).read_bytes() == b"a" * 1000
    assert recorded_file({"path": "not/there.nwb"}).name == "there.nwb"
