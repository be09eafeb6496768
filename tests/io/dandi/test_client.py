"""Keys: only where an archive asks for one, from where dandi takes it, and never to the storage."""

import socket

import keyring
import pytest
from keyring.backend import KeyringBackend

from nwb_sbtt import inspect
from nwb_sbtt.errors import ArchiveError, ConfigError
from nwb_sbtt.io.dandi import download
from nwb_sbtt.io.dandi.client import connect
from tests.support.commands import call, tree
from tests.support.dandi import PATH


@pytest.fixture
def embargoed(archive, content):
    archive.create("000400", embargoed=True)
    archive.add("000400", PATH, content)
    return f"DANDI:000400/draft/{PATH}"


class _Drawer(KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self, **keys):
        super().__init__()
        self.keys = keys

    def get_password(self, service, username):
        return self.keys.get(f"{service}/{username}")

    def set_password(self, service, username, password):
        raise AssertionError("nobody asked for that")


@pytest.fixture
def drawer(monkeypatch):
    def fill(**keys):
        monkeypatch.delenv("PYTHON_KEYRING_BACKEND")
        monkeypatch.setattr(keyring.core, "_keyring_backend", _Drawer(**keys))

    return fill


def _shown_to(archive):
    return {request.role for request in archive.requests if "Authorization" in request.headers}


def test_a_key_of_the_environment_opens_an_embargoed_dandiset(archive, embargoed, monkeypatch, tmp_path, content):
    monkeypatch.setenv(f"{archive.name}_API_KEY", archive.token)
    (path,) = download(embargoed, tmp_path)
    assert path.read_bytes() == content
    assert inspect(embargoed)[0].path == "units"
    assert _shown_to(archive) == {"api"}


def test_a_key_of_the_keyring_does_too(archive, embargoed, drawer, tmp_path, content):
    drawer(**{f"dandi-api-{archive.name}/key": archive.token})
    (path,) = download(embargoed, tmp_path)
    assert path.read_bytes() == content


def test_a_key_is_not_shown_where_none_is_asked_for(archive, monkeypatch, tmp_path, content):
    monkeypatch.setenv(f"{archive.name}_API_KEY", archive.token)
    archive.add("000140", PATH, content)
    archive.publish("000140", "0.1.0")
    download("000140", tmp_path)
    assert _shown_to(archive) == set()


def test_the_key_of_another_archive_is_not_tried(archive, embargoed, monkeypatch, tmp_path):
    monkeypatch.setenv("DANDI_API_KEY", archive.token)
    with pytest.raises(ArchiveError, match="requires your API key"):
        download(embargoed, tmp_path)
    assert _shown_to(archive) == set()


def test_a_wrong_key_is_said_to_be_wrong_and_not_said(archive, embargoed, monkeypatch, tmp_path, capsys, caplog):
    wrong = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv(f"{archive.name}_API_KEY", wrong)
    assert call(monkeypatch, "download", embargoed, "--to", tmp_path) == 2
    output = "".join(capsys.readouterr())
    assert f"does not accept the key from the environment's {archive.name}_API_KEY; get a new one" in output
    assert output.count("\n") == 1
    assert wrong not in output + caplog.text
    assert [name for name in tree(tmp_path) if wrong.encode() in (tmp_path / name).read_bytes()] == []


def test_an_archive_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"there is no archive 'nowhere'; expected a URL or one of dandi, dandi-"):
        connect("nowhere")


def test_an_archive_that_is_not_there_is_found_missing_at_once(waits):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ArchiveError, match="cannot use the archive"):
        connect(f"http://127.0.0.1:{port}")
    assert waits == []


def test_a_known_archive_that_is_not_there_is_found_missing_at_once(monkeypatch, waits):
    from dandi import consts, utils

    gone = consts.DandiInstance("mine", None, "http://127.0.0.1:9/api")
    monkeypatch.setitem(consts.known_instances, "mine", gone)
    utils._get_instance.cache_clear()
    with pytest.raises(
        ArchiveError, match=r"cannot reach the archive mine: no connection.*check the network connection"
    ):
        connect("mine")
    assert waits == []


def test_an_archive_may_be_named_by_the_address_of_its_api_or_of_its_server(archive):
    for text in (archive.url, archive.url + "/", archive.url.removesuffix("/api")):
        assert connect(text).api_url == archive.url
