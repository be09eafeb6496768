"""What goes wrong on the way, and what is there afterwards: the right file under its name, or none."""

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from nwb_sbtt.errors import ArchiveError, FileError
from nwb_sbtt.io.dandi import download, downloads, transfer
from nwb_sbtt.io.dandi.assets import digests_of
from nwb_sbtt.io.dandi.transfer import find_remote_file
from tests.support.commands import tree
from tests.support.dandi import VERSION
from tests.support.dandi.archive import etag_of

PATH = "sub-S1/sub-S1_ecephys.nwb"
ADDRESS = f"DANDI:000140/{PATH}"
CONTENT = os.urandom(3_000_000)


@pytest.fixture
def asset(archive):
    made = archive.add("000140", PATH, CONTENT)
    archive.publish("000140", VERSION)
    return made


def _kept(folder):
    """Names of files, without those of folders."""
    return [name for name in tree(folder) if (folder / name).is_file()]


def test_a_connection_cut_at_30_per_cent_goes_on_where_it_was_cut(archive, asset, tmp_path):
    archive.cut(0.3)
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT
    ranges = [request.headers["Range"] for request in archive.requests if request.role == "storage"]
    assert ranges[0] == "bytes=0-"
    assert 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 0.3 * len(CONTENT)
    assert archive.sent() < 1.01 * len(CONTENT)


def test_a_connection_that_is_cut_again_and_again_still_gets_there(archive, asset, tmp_path, waits):
    archive.cut(0.3, times=25)
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT
    assert max(waits) <= transfer.FIRST_WAIT


def test_a_connection_that_brings_nothing_ends_in_one_clear_line_and_the_next_call_goes_on(archive, asset, tmp_path):
    archive.cut(0.5)
    archive.cut(0.0, times=transfer.ATTEMPTS)
    with pytest.raises(ArchiveError, match="times in a row; the same command resumes it later"):
        download(ADDRESS, tmp_path)
    (part,) = _kept(tmp_path)
    assert part.split("/")[-1].startswith(".sub-S1_ecephys.nwb.") and part.endswith(".part")
    archive.faults.clear()
    archive.requests.clear()
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT
    assert archive.sent() < 0.6 * len(CONTENT)
    assert len(_kept(tmp_path)) == 2


def test_what_is_left_of_another_content_is_not_gone_on_with(archive, asset, tmp_path):
    archive.cut(0.5)
    archive.cut(0.0, times=transfer.ATTEMPTS)
    with pytest.raises(ArchiveError):
        download(ADDRESS, tmp_path)
    archive.faults.clear()
    archive.replace("000140", PATH, CONTENT[::-1])
    (path,) = download(f"DANDI:000140/draft/{PATH}", tmp_path)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_byte_flipped_on_the_way_is_fetched_again(archive, asset, tmp_path):
    wrong = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    asset.blob.content = wrong
    archive.faults.clear()

    def mend(path, digests_of=downloads.digests_of):
        digests = digests_of(path)
        asset.blob.content = CONTENT
        return digests

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloads, "digests_of", mend)
        (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT


def test_429_is_waited_for_as_long_as_it_says(archive, asset, tmp_path, waits):
    archive.fail(429, on="storage GET", retry_after=7)
    archive.fail(429, on="/download/", retry_after=3)
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT
    assert 7 in waits and 3 in waits


def test_429_for_too_long_is_said(archive, asset, tmp_path):
    archive.fail(429, on="storage GET", retry_after=7200)
    with pytest.raises(ArchiveError, match=r"429 .*the archive asks to wait for 7200 s"):
        download(ADDRESS, tmp_path)


@pytest.mark.parametrize("where", ["storage GET", "/download/", "/assets/", "api GET /api/dandisets/000140/"])
def test_500_five_times_is_lived_through(archive, asset, tmp_path, where):
    archive.fail(500, times=5, on=where)
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("where", ["storage GET", "/download/", "api GET /api/dandisets/000140/"])
def test_500_for_ever_is_one_line_without_an_address(archive, asset, tmp_path, where):
    archive.fail(500, times=1000, on=where)
    with pytest.raises(ArchiveError) as failed:
        download(ADDRESS, tmp_path)
    assert "500" in str(failed.value)
    assert "http" not in str(failed.value) and "\n" not in str(failed.value)


def test_an_answer_that_does_not_come_is_asked_for_again(archive, asset, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    archive.slow(1.0)
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_link_that_expired_is_renewed(archive, asset, tmp_path):
    source = find_remote_file(ADDRESS)
    assert source.read(0, 10) == CONTENT[:10]
    assert source.read(10, 20) == CONTENT[10:20]
    assert archive.count("/download/") == 1
    archive.expire_links()
    assert source.read(20, 30) == CONTENT[20:30]
    assert archive.count("/download/") == 2
    archive.link_seconds = 0
    archive.expire_links()
    assert source.read(30, 40) == CONTENT[30:40]
    assert source.read(40, 50) == CONTENT[40:50]


def test_a_storage_that_refuses_is_one_line(archive, asset, tmp_path):
    archive.fail(404, times=100, on="storage GET")
    with pytest.raises(ArchiveError, match="the storage answers 404"):
        download(ADDRESS, tmp_path)


def test_a_storage_that_knows_no_ranges_still_gives_the_file(archive, asset, tmp_path, monkeypatch):
    from tests.support.dandi import storage

    serve = storage._serve
    monkeypatch.setattr(storage, "_serve", lambda archive, key, byte_range: serve(archive, key, None))
    archive.cut(0.3)
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT
    assert find_remote_file(ADDRESS).read(1000, 2000) == CONTENT[1000:2000]


def test_a_disk_without_space_is_found_before_the_first_byte(archive, asset, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(FileError, match=f"{os.strerror(errno.ENOSPC)}: 3000000 bytes needed, 1000 free"):
        download(ADDRESS, tmp_path)
    assert archive.count("storage") == 0


def test_files_that_fit_one_by_one_and_not_together_are_refused_before_the_first_byte(
    archive, asset, tmp_path, monkeypatch
):
    archive.add("000140", "sub-S2/sub-S2_ecephys.nwb", CONTENT[::-1])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 4_000_000))
    with pytest.raises(FileError, match="6000000 bytes needed, 4000000 free"):
        download("DANDI:000140/draft", tmp_path)
    assert archive.count("storage") == 0


FILL = """
mount -t tmpfs -o size=2m none "$1" || exit 42
"$2" -c "$3" "$1"; echo "ended $?"; find "$1" -type f
mount -o remount,size=9m "$1"
"$2" -c "$3" "$1"; echo "ended $?"; cat "$1"/*/*/*.nwb | sha256sum
"""
FETCH = f"""
import shutil, sys
from nwb_sbtt.io.dandi import download
from nwb_sbtt.errors import FileError
shutil.disk_usage = lambda _: shutil._ntuple_diskusage(10**9, 0, 10**9)  # as it was before others filled the disk
try:
    download({ADDRESS!r}, sys.argv[1])
except FileError as error:
    sys.exit(str(error))
"""


def test_a_file_system_that_really_is_full_has_no_file_and_goes_on_when_there_is_room(archive, asset, tmp_path):
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", FILL, "sh", tmp_path, sys.executable, FETCH]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (1, 42) and "ended" not in done.stdout:
        pytest.skip(f"no file system of one's own here: {done.stderr.strip()}")
    failed, part, went_on, digest = done.stdout.splitlines()
    assert (failed, went_on) == ("ended 1", "ended 0"), done.stderr
    assert "No space left on device; the bytes downloaded so far are kept" in done.stderr
    assert part.endswith(".part")
    assert digest.split()[0] == hashlib.sha256(CONTENT).hexdigest()
    assert archive.sent() < 1.5 * len(CONTENT)


def test_a_disk_that_fills_up_leaves_no_file_and_the_next_call_goes_on(archive, asset, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(FileError, match=r"cannot write .*: File too large; the bytes downloaded so far are kept"):
            download(ADDRESS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not (tmp_path / "000140" / PATH).exists()
    archive.requests.clear()
    (path,) = download(ADDRESS, tmp_path)
    assert path.read_bytes() == CONTENT
    assert archive.sent() <= 2_100_000


def test_two_processes_do_not_write_one_file(archive, asset, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    part = tmp_path / "000140" / "sub-S1" / f".sub-S1_ecephys.nwb.{asset.blob.sha256[:8]}.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FileError, match="another process is downloading"):
            download(ADDRESS, tmp_path)
    download(ADDRESS, tmp_path)


@pytest.mark.parametrize("size", [0, 1, 1000, 2**20, 2**26, 2**26 + 1])
def test_digests_are_those_of_dandi(tmp_path, size):
    from dandi.support.digests import get_digest

    path = tmp_path / "x"
    path.write_bytes(bytes(size))
    digests = digests_of(path)
    assert digests.etag == etag_of(bytes(size)) == get_digest(path, "dandi-etag")
    assert digests.sha256 == get_digest(path, "sha256")


def test_digests_of_a_recording_are_those_that_the_public_archive_gives(realdata):
    import json

    listed = json.loads((realdata / "dandi_metadata" / "assets.json").read_text())[0]
    digests = digests_of(realdata / "nlb" / listed["path"].split("/")[-1])
    expected = listed["metadata"]["digest"]
    assert (digests.size, digests.etag, digests.sha256) == (
        listed["size"],
        *(expected[f"dandi:{n}"] for n in ("dandi-etag", "sha2-256")),
    )
