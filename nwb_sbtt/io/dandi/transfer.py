"""Bytes of one asset: requested in ranges, and again after a failure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

from nwb_sbtt.errors import ArchiveError, ConfigError
from nwb_sbtt.io.dandi.address import Address, parse_address
from nwb_sbtt.io.dandi.assets import Asset, find_assets
from nwb_sbtt.io.dandi.client import FORBIDDEN, TIMEOUT, call_archive, check_encrypted, error_text, refuse_downgrade

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient
    from requests import Response, Session

ATTEMPTS = 8
"""Times that a request is sent before it fails; each part of a file that arrives resets the count."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds between attempts; doubled after each."""
MAX_RETRY_AFTER = 600.0
"""Longest wait, in seconds, that an archive may ask for."""
USABLE_SHARE = 0.8
"""Share of its lifetime after which a signed link is renewed."""
PARTIAL, UNSATISFIABLE = 206, 416
TRANSIENT = (429, 500, 502, 503, 504)
"""Status codes after which another attempt may succeed."""


class TruncatedError(ArchiveError):
    """The storage has fewer bytes than the archive's size of the file."""


@dataclass
class RemoteFile:
    """Access to the bytes of one asset, from several threads; the signed link to them is renewed before it expires.

    Parameters
    ----------
    client : DandiAPIClient
    asset : Asset
    requests : int
        Sent so far.
    received : int
        Bytes received so far.
    """

    client: DandiAPIClient
    asset: Asset
    requests: int = 0
    received: int = 0
    _session: Session | None = None
    _link: str | None = None
    _renew_at: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.asset.name

    def __str__(self) -> str:
        return str(self.asset)

    def open(self, start: int, stop: int | None = None) -> Response:
        """Request a range of bytes; the body of the response is still to be read.

        Parameters
        ----------
        start : int
        stop : int, optional
            Exclusive; None means the end of the file.

        Returns
        -------
        Response
            To be closed by the caller.

        Raises
        ------
        ArchiveError
            If the storage refuses, or has failed `ATTEMPTS` times.
        TruncatedError
            If the file has no bytes from `start` on.
        """
        retries = Retries(f"cannot download {self.asset}")
        while True:
            response = self._request(start, stop)
            if isinstance(response, str):
                retries.failed(response)
                continue
            problem = self._check_response(response, start)
            if problem is None:
                return response
            response.close()
            retries.failed(problem, response)

    def read(self, start: int, stop: int) -> bytes:
        """Read a range of bytes.

        Parameters
        ----------
        start, stop : int
            `stop` is exclusive.

        Returns
        -------
        bytes
            Exactly ``stop - start``.

        Raises
        ------
        ArchiveError
            If they cannot be read in `ATTEMPTS` attempts.
        """
        retries = Retries(f"cannot read {self.asset}")
        while True:
            content = bytearray()
            with closing(self.open(start, stop)) as response:
                for block in response_bytes(response):
                    content += block
                    # A server without ranges goes on to the end of the file.
                    if len(content) >= stop - start:
                        break
            self.received += len(content)
            if len(content) >= stop - start:
                return bytes(content[: stop - start])
            retries.failed(f"only {len(content)} of {stop - start} bytes arrived")

    def _request(self, start: int, stop: int | None) -> Response | str:
        import requests

        byte_range = f"bytes={start}-{'' if stop is None else stop - 1}"
        link = self._current_link()
        with self._lock:
            self.requests += 1
            if self._session is None:
                self._session = requests.Session()
                self._session.hooks["response"].append(refuse_downgrade)
        # Otherwise the storage may compress the body, and a range would count compressed bytes.
        headers = {"Range": byte_range, "Accept-Encoding": "identity"}
        try:
            return self._session.get(link, headers=headers, stream=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            return error_text(error)

    def _check_response(self, response: Response, start: int) -> str | None:
        """Why another attempt is needed; None if the body is the range requested."""
        status = response.status_code
        if status == PARTIAL:
            first = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
            return None if first == str(start) else f"the storage sent a different range than the one from byte {start}"
        if status == UNSATISFIABLE:
            raise TruncatedError(f"the storage has no more than {start} of {self.asset.size} bytes of {self.asset}")
        if status in TRANSIENT:
            return status_text(response)
        if status == FORBIDDEN:
            self._link = None
            return "the link has expired"
        if response.ok:
            # A server without ranges sends the whole file.
            skip_bytes(response, start)
            return None
        raise ArchiveError(f"cannot download {self.asset}: the storage answers {status_text(response)}")

    def _current_link(self) -> str:
        with self._lock:
            if self._link is None or time.monotonic() > self._renew_at:
                began = time.monotonic()
                self._link = self._new_link()
                lifetime = parse_qs(urlsplit(self._link).query).get("X-Amz-Expires", ["3600"])[0]
                self._renew_at = began + USABLE_SHARE * (float(lifetime) if lifetime.isdigit() else 3600.0)
            return self._link

    def _new_link(self) -> str:
        self.requests += 1
        path = f"/assets/{self.asset.asset_id}/download/"

        def call() -> Any:
            return self.client.get(path, json_resp=False, allow_redirects=False, stream=True)

        with closing(call_archive(self.client, call, message=f"{self.asset} cannot be downloaded")) as response:
            url = self.client.get_url(path)
            link = str(urljoin(url, response.headers.get("Location", url)))
            check_encrypted(url, link)
            return link


def find_remote_file(address: str | Path | Address) -> RemoteFile:
    """Find the one file that an address names.

    Parameters
    ----------
    address : str, Path or Address

    Returns
    -------
    RemoteFile

    Raises
    ------
    ConfigError
        If it is not an address, or names several files.
    ArchiveError, SelectionError
        As `find_assets`.
    """
    selection = find_assets(address if isinstance(address, Address) else parse_address(address))
    if len(selection.assets) > 1:
        names = ", ".join(repr(str(asset)) for asset in selection.assets[:5])
        raise ConfigError(f"{str(address)!r} names {len(selection.assets)} files; choose one of them: {names}")
    return RemoteFile(selection.client, selection.assets[0])


@dataclass
class Retries:
    """Counts failures in a row, and waits longer after each.

    Parameters
    ----------
    message : str
        Start of an error: "cannot fetch …".
    failures : int
        So far.
    """

    message: str
    failures: int = 0

    def failed(self, reason: str, response: Response | None = None) -> None:
        """Count a failure and wait before the next attempt.

        Parameters
        ----------
        reason : str
            In words.
        response : Response, optional
            May name a time to wait.

        Raises
        ------
        ArchiveError
            After `ATTEMPTS` failures, or if the archive asks for a longer wait than `MAX_RETRY_AFTER`.
        """
        from dandi.utils import get_retry_after

        self.failures += 1
        if self.failures >= ATTEMPTS:
            raise ArchiveError(
                f"{self.message}: {reason}, {self.failures} times in a row; the same command resumes it later"
            )
        retry_after = None if response is None else get_retry_after(response)
        if retry_after is not None and retry_after > MAX_RETRY_AFTER:
            raise ArchiveError(f"{self.message}: {reason}; the archive asks to wait for {retry_after} s")
        sleep(min(FIRST_WAIT * 2 ** (self.failures - 1), LONGEST_WAIT) if retry_after is None else float(retry_after))

    def progress(self) -> None:
        """Reset the count."""
        self.failures = 0


def response_bytes(response: Response, block: int = 1 << 18) -> Iterator[bytes]:
    """Yield the body in blocks as they arrive; ends without an error where the connection is cut.

    Parameters
    ----------
    response : Response
    block : int
        Bytes at most.

    Yields
    ------
    bytes
    """
    from urllib3.exceptions import HTTPError

    try:
        while content := response.raw.read1(block):
            yield content
    except (HTTPError, OSError):
        return


def skip_bytes(response: Response, n_bytes: int) -> None:
    """Discard the first bytes of a body.

    Parameters
    ----------
    response : Response
    n_bytes : int
    """
    while n_bytes > 0 and (content := response.raw.read(min(n_bytes, 1 << 18))):
        n_bytes -= len(content)


def status_text(response: Response) -> str:
    """Return the status of a response, in words.

    Parameters
    ----------
    response : Response
    """
    return f"{response.status_code} {response.reason}".strip()
