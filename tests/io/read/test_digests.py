"""A remembered digest is that of the bytes as they are now, whatever was done to the file."""

import hashlib
import os

import pytest

from nwb_sbtt.io.read import digests
from nwb_sbtt.io.read.digests import file_sha256

CONTENT = b"spikes" * 1000


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file whose digest is worth remembering, changed long enough ago."""
    digests.forget()
    monkeypatch.setattr(digests, "SMALLEST", 100)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    path = tmp_path / "file.nwb"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def taken(monkeypatch):
    """How often a digest was taken."""
    calls = []

    def digest(file, name):
        calls.append(name)
        return whole(file, name)

    whole = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", digest)
    return calls


def expected(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_digest_is_taken_once(file, taken):
    assert [file_sha256(file) for _ in range(3)] == [expected(file)] * 3
    assert len(taken) == 1


def test_a_change_that_hides_behind_size_and_time_is_found(file):
    before, first = file.stat(), file_sha256(file)
    with file.open("r+b") as opened:
        opened.write(b"S")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # until the clock of a coarse system ticks
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file_sha256(file) == expected(file) != first


def test_another_file_put_in_the_place_is_found(file, tmp_path):
    first = file_sha256(file)
    other = tmp_path / "other"
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert file_sha256(file) == expected(file) != first


def test_a_file_that_changed_just_now_is_not_remembered(file, taken, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", 60.0)
    assert [file_sha256(file) for _ in range(2)] == [expected(file)] * 2
    assert len(taken) == 2


def test_a_file_that_changes_meanwhile_is_not_remembered(file, monkeypatch):
    whole = hashlib.file_digest

    def digest(opened, name):
        found = whole(opened, name)
        file.write_bytes(CONTENT + b"more")
        return found

    monkeypatch.setattr(hashlib, "file_digest", digest)
    file_sha256(file)
    monkeypatch.setattr(hashlib, "file_digest", whole)
    assert file_sha256(file) == expected(file)


def test_those_of_small_files_are_taken_each_time(file, taken, monkeypatch):
    monkeypatch.setattr(digests, "SMALLEST", len(CONTENT) + 1)
    assert [file_sha256(file) for _ in range(2)] == [expected(file)] * 2
    assert len(taken) == 2


def test_a_file_that_is_gone_has_no_digest(file):
    file_sha256(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        file_sha256(file)
