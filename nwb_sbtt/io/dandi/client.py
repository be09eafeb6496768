"""The dandi client, and what its refusals mean in words; keys are looked for only when an archive asks for one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from nwb_sbtt.errors import ArchiveError, ConfigError
from nwb_sbtt.io.dandi.address import DEFAULT

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient

PATIENCE = 60.0
"""Seconds without an answer after which a request has failed."""
UNAUTHORISED, FORBIDDEN = 401, 403
T = TypeVar("T")


def connect(instance: str | None = None) -> DandiAPIClient:
    """Make a client for an archive: the one named, that of ``DANDI_INSTANCE``, or the public one.

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

    # Its warnings are for its own program; what they say comes as errors here.
    logger = logging.getLogger("dandi")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    name = instance or os.environ.get("DANDI_INSTANCE") or DEFAULT
    try:
        found = get_instance(_known(name))
    except KeyError:
        raise ConfigError(
            f"there is no archive {name!r}; expected a URL or one of {', '.join(sorted(known_instances))}"
        ) from None
    except (RuntimeError, ValueError, requests.RequestException) as error:
        raise ArchiveError(f"cannot use the archive {name!r}: {' '.join(str(error).split())}") from None
    client = DandiAPIClient(dandi_instance=found)
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, _patient_adapter())
    try:
        # The client itself would go on trying for a minute.
        client.session.get(f"{client.api_url.rstrip('/')}/info/")
    except requests.RequestException as error:
        raise ArchiveError(f"cannot reach {place(client)}: {reason(error)}; is there a network?") from None
    return client


def ask(client: DandiAPIClient, call: Callable[[], T], *, what: str) -> T:
    """Ask something of an archive; where that needs a key, look for one and ask again.

    Parameters
    ----------
    call : callable
        Does the asking, all of it.
    what : str
        For the error: "DANDI:000140 cannot be read".

    Raises
    ------
    ArchiveError
        With what the archive said, and what to try.
    """
    import requests
    from dandi.exceptions import HTTP404Error, NotFoundError

    try:
        return call()
    except (NotFoundError, HTTP404Error):
        raise NotThereError(f"{what}: {place(client)} has no such thing, or does not show it to you") from None
    except requests.HTTPError as error:
        status = None if error.response is None else error.response.status_code
        if status in (UNAUTHORISED, FORBIDDEN) and "Authorization" not in client.session.headers:
            authenticate(client, purpose=what)
            return ask(client, call, what=what)
        if status == FORBIDDEN:
            raise ArchiveError(
                f"{what}: the key in use may not do this on {place(client)}; ask an owner of the dandiset to add you"
            ) from None
        raise ArchiveError(f"{what}: {place(client)} answers {reason(error)}; try again later") from None
    except requests.RequestException as error:
        raise ArchiveError(f"{what}: {place(client)} does not answer ({reason(error)}); try again later") from None


class NotThereError(ArchiveError):
    """An archive knows no such dandiset, version or file."""


def authenticate(client: DandiAPIClient, *, purpose: str) -> None:
    """Put the user's key on all further requests to the archive. It comes from the environment or the keyring, as dandi's.

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
            f"{purpose}: {place(client)} asks for your key; set {variable} in the environment, or store it with "
            f"`keyring set {service} key` (it is shown on the archive's web page under your initials)"
        )
    try:
        client.authenticate(key)
    except requests.HTTPError:
        raise ArchiveError(f"{purpose}: {place(client)} does not accept the key from {origin}; get a new one") from None
    except requests.RequestException as error:
        raise ArchiveError(f"{purpose}: {place(client)} does not answer ({reason(error)})") from None


def place(client: DandiAPIClient) -> str:
    """Name of the archive, for people."""
    name = client.dandi_instance.name
    return {"dandi": "the DANDI archive"}.get(name, f"the archive {name}")


def reason(error: Exception) -> str:
    """What went wrong with a request, in words that hold no address: links to files are as good as keys."""
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


def _known(name: str) -> str:
    """The name of an archive whose web page or API has that address; anything else as it is."""
    from dandi.consts import known_instances

    host = urlsplit(name).netloc
    hosts = {urlsplit(url).netloc: each.name for each in known_instances.values() for url in each.urls()}
    return hosts.get(host, name) if host else name.lower()


def _keyring_key(service: str) -> str | None:
    import click
    from dandi.keyring_utils import keyring_lookup
    from keyring.errors import KeyringError

    try:
        key: str | None = keyring_lookup(service, "key")[1]
    except (KeyringError, click.Abort, EOFError, OSError, RuntimeError):
        return None  # there is no keyring here, or nobody to open it
    return key


def _patient_adapter() -> Any:
    """Transport whose every request has a limit of time."""
    from requests.adapters import HTTPAdapter

    class Patient(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            options["timeout"] = options.get("timeout") or PATIENCE
            return super().send(request, *args, **options)

    return Patient()
