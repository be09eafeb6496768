"""The dandi client, with its errors in plain words; an API key is looked up only when an archive requires one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from nwb_sbtt.errors import ArchiveError, ConfigError
from nwb_sbtt.io.dandi.address import DEFAULT_ARCHIVE

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient
    from requests import Response

TIMEOUT = 60.0
"""Seconds without an answer after which a request fails."""
UNAUTHORISED, FORBIDDEN = 401, 403
_T = TypeVar("_T")


def connect(instance: str | None = None) -> DandiAPIClient:
    """Make a client for an archive: the one named, that of ``DANDI_INSTANCE``, or the public one.

    Parameters
    ----------
    instance : str, optional
        Name or URL.

    Returns
    -------
    DandiAPIClient

    Raises
    ------
    ConfigError
        If there is no archive of that name.
    ArchiveError
        If the dandi client is not installed, or the archive cannot be reached.
    """
    try:
        from dandi.consts import known_instances
        from dandi.dandiapi import DandiAPIClient
        from dandi.utils import get_instance
    except ModuleNotFoundError:
        raise ArchiveError('files on DANDI need the dandi client: pip install "nwb_sbtt[dandi]"') from None
    import requests

    # Its warnings are for its own program; here they are raised as errors.
    logger = logging.getLogger("dandi")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    name = instance or os.environ.get("DANDI_INSTANCE") or DEFAULT_ARCHIVE
    try:
        archive = get_instance(_instance_name(name))
    except KeyError:
        raise ConfigError(
            f"there is no archive {name!r}; expected a URL or one of {', '.join(sorted(known_instances))}"
        ) from None
    except (RuntimeError, ValueError, requests.RequestException) as error:
        raise ArchiveError(f"cannot use the archive {name!r}: {' '.join(str(error).split())}") from None
    client = DandiAPIClient(dandi_instance=archive)
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, _adapter_with_timeout())
    client.session.hooks["response"].append(refuse_downgrade)
    try:
        # The client itself would retry for a minute.
        client.session.get(f"{client.api_url.rstrip('/')}/info/")
    except requests.RequestException as error:
        raise ArchiveError(
            f"cannot reach {archive_name(client)}: {error_text(error)}; check the network connection"
        ) from None
    return client


def call_archive(client: DandiAPIClient, call: Callable[[], _T], *, message: str) -> _T:
    """Send a request to an archive; if it requires a key, look the key up and send it again.

    Parameters
    ----------
    client : DandiAPIClient
    call : callable
        Sends the request and reads the whole answer.
    message : str
        Start of an error: "DANDI:000140 cannot be read".

    Returns
    -------
    object
        What `call` returns.

    Raises
    ------
    ArchiveError
        With the archive's answer, and what to try.
    """
    import requests
    from dandi.exceptions import HTTP404Error, NotFoundError

    try:
        return call()
    except (NotFoundError, HTTP404Error):
        raise NoSuchItemError(
            f"{message}: {archive_name(client)} does not have it, or you have no permission to see it; check the "
            "address, or use your API key"
        ) from None
    except requests.HTTPError as error:
        status = None if error.response is None else error.response.status_code
        if status in (UNAUTHORISED, FORBIDDEN) and "Authorization" not in client.session.headers:
            authenticate(client, message=message)
            return call_archive(client, call, message=message)
        if status == FORBIDDEN:
            raise ArchiveError(
                f"{message}: your API key has no permission for this on {archive_name(client)}; ask an owner of the "
                "dandiset to add you as an owner"
            ) from None
        raise ArchiveError(f"{message}: {archive_name(client)} answers {error_text(error)}; try again later") from None
    except requests.RequestException as error:
        raise ArchiveError(
            f"{message}: {archive_name(client)} does not answer ({error_text(error)}); try again later"
        ) from None


class NoSuchItemError(ArchiveError):
    """An archive has no such dandiset, version or file."""


def authenticate(client: DandiAPIClient, *, message: str) -> None:
    """Add the user's key to all further requests to the archive; it comes from the environment or the keyring, as dandi's.

    Parameters
    ----------
    client : DandiAPIClient
    message : str
        Start of an error: "DANDI:000140 cannot be written".

    Raises
    ------
    ArchiveError
        If there is none, or the archive does not accept it.
    """
    import requests

    variable = client.api_key_env_var
    key, origin = os.environ.get(variable), f"the environment's {variable}"
    service = f"dandi-api-{client.dandi_instance.name}"
    if not key:
        key, origin = _keyring_key(service), f"the keyring ({service})"
    if not key:
        raise ArchiveError(
            f"{message}: {archive_name(client)} requires your API key; set {variable} in the environment, or store it with "
            f"`keyring set {service} key` (it is shown on the archive's web page under your initials)"
        )
    try:
        client.authenticate(key)
    except requests.HTTPError:
        raise ArchiveError(
            f"{message}: {archive_name(client)} does not accept the key from {origin}; get a new one"
        ) from None
    except requests.RequestException as error:
        raise ArchiveError(f"{message}: {archive_name(client)} does not answer ({error_text(error)})") from None


def refuse_downgrade(response: Response, **_options: Any) -> None:
    """Refuse a redirect from https to http, which anybody on the way could read and change; a hook of `requests`.

    Parameters
    ----------
    response : Response

    Raises
    ------
    ArchiveError
        If it leads to an address that is not https though its own is.
    """
    target = response.headers.get("Location")
    if response.is_redirect and target is not None:
        check_encrypted(response.url, urljoin(response.url, target))


def check_encrypted(url: str, target: str) -> None:
    """Raise if an https address leads to one that is not.

    Parameters
    ----------
    url, target : str
        Where the archive was asked, and where it sends the request.

    Raises
    ------
    ArchiveError
        The message names the host alone: signed links to files are as good as keys.
    """
    scheme = urlsplit(target).scheme.lower()
    if urlsplit(url).scheme.lower() == "https" and scheme != "https":
        raise ArchiveError(
            f"{urlsplit(url).hostname} redirects this request from https to {scheme}, where others could read or "
            "change it, so it was refused; report this to the archive"
        )


def archive_name(client: DandiAPIClient) -> str:
    """Return the name of the archive as it stands in messages.

    Parameters
    ----------
    client : DandiAPIClient
    """
    name = client.dandi_instance.name
    return {"dandi": "the DANDI archive"}.get(name, f"the archive {name}")


def error_text(error: Exception) -> str:
    """Return the reason of a failed request, without its URL: signed links to files are as good as keys.

    Parameters
    ----------
    error : Exception
    """
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}".strip()
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be checked"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or it was cut"
    return type(error).__name__


def _instance_name(name: str) -> str:
    """Name of the archive whose web page or API has that address; anything else as it is."""
    from dandi.consts import known_instances

    host = urlsplit(name).netloc
    hosts = {urlsplit(url).netloc: archive.name for archive in known_instances.values() for url in archive.urls()}
    return hosts.get(host, name) if host else name.lower()


def _keyring_key(service: str) -> str | None:
    import click
    from dandi.keyring_utils import keyring_lookup
    from keyring.errors import KeyringError

    try:
        key: str | None = keyring_lookup(service, "key")[1]
    except (KeyringError, click.Abort, EOFError, OSError, RuntimeError):
        return None  # there is no keyring, or nobody to unlock it
    return key


def _adapter_with_timeout() -> Any:
    """Transport whose requests all have a timeout."""
    from requests.adapters import HTTPAdapter

    class WithTimeout(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            options["timeout"] = options.get("timeout") or TIMEOUT
            return super().send(request, *args, **options)

    return WithTimeout()
