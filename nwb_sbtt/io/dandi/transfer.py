"""Bytes of one asset: asked for in ranges, asked for again when something goes wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

from nwb_sbtt.errors import ArchiveError
from nwb_sbtt.io.dandi.assets import Asset
from nwb_sbtt.io.dandi.client import FORBIDDEN, PATIENCE, ask, reason

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient
    from requests import Response, Session

ATTEMPTS = 8
"""Times that a request is made before it has failed; each piece of a file that arrives starts the count again."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
MOST_ASKED = 600.0
"""Seconds that an archive may ask us to wait."""
SPENT = 0.8
"""Share of its lifetime after which a link is not used any more."""
PARTIAL, UNSATISFIABLE, MISSING = 206, 416, 404
PASSING = (429, 500, 502, 503, 504)


class EndedEarlyError(ArchiveError):
    """The storage has fewer bytes than the archive said."""


@dataclass
class Source:
    """One asset, the way to its bytes, and how many requests and bytes that took so far.

    Parameters
    ----------
    client : DandiAPIClient
    asset : Asset
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
        """Ask for the bytes from `start` to `stop`, or to the end; the answer's body is still to be read.

        Raises
        ------
        ArchiveError
            If the storage refuses, or has failed `ATTEMPTS` times.
        EndedEarlyError
            If there are no bytes from `start`.
        """
        trial = Trial(f"cannot fetch {self.asset}")
        while True:
            found = self._try(start, stop)
            if isinstance(found, str):
                trial.failed(found)
                continue
            problem = self._examine(found, start)
            if problem is None:
                return found
            found.close()
            trial.failed(problem, found)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`, all of them.

        Raises
        ------
        ArchiveError
            If they do not come.
        """
        trial = Trial(f"cannot read {self.asset}")
        while True:
            content = bytearray()
            with closing(self.open(start, stop)) as response:
                for piece in received(response):
                    content += piece
                    # A server without ranges goes on to the end of the file.
                    if len(content) >= stop - start:
                        break
            self.received += len(content)
            if len(content) >= stop - start:
                return bytes(content[: stop - start])
            trial.failed(f"{len(content)} of {stop - start} bytes came")

    def _try(self, start: int, stop: int | None) -> Response | str:
        import requests

        wanted = f"bytes={start}-{'' if stop is None else stop - 1}"
        link = self._current_link()
        with self._lock:
            self.requests += 1
            if self._session is None:
                self._session = requests.Session()
        # Without this the storage may compress on the way, and a range would mean something else.
        headers = {"Range": wanted, "Accept-Encoding": "identity"}
        try:
            return self._session.get(link, headers=headers, stream=True, timeout=PATIENCE)
        except requests.RequestException as error:
            return reason(error)

    def _examine(self, response: Response, start: int) -> str | None:
        """None where the body is what was asked for, otherwise why another try is needed."""
        status = response.status_code
        if status == PARTIAL:
            first = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
            return None if first == str(start) else f"the storage sent other bytes than from {start}"
        if status == UNSATISFIABLE:
            raise EndedEarlyError(f"the storage has no more than {start} of {self.asset.size} bytes of {self.asset}")
        if status in PASSING:
            return reason_of(response)
        if status == FORBIDDEN:
            self._link = None
            return "the link is not valid any more"
        if response.ok:
            # A server without ranges sends everything; what was not asked for is read over.
            skip(response, start)
            return None
        raise ArchiveError(f"cannot fetch {self.asset}: the storage answers {reason_of(response)}")

    def _current_link(self) -> str:
        with self._lock:
            if self._link is None or time.monotonic() > self._renew_at:
                began = time.monotonic()
                self._link = self._new_link()
                lifetime = parse_qs(urlsplit(self._link).query).get("X-Amz-Expires", ["3600"])[0]
                self._renew_at = began + SPENT * (float(lifetime) if lifetime.isdigit() else 3600.0)
            return self._link

    def _new_link(self) -> str:
        self.requests += 1
        path = f"/assets/{self.asset.asset_id}/download/"

        def call() -> Any:
            return self.client.get(path, json_resp=False, allow_redirects=False, stream=True)

        with closing(ask(self.client, call, what=f"{self.asset} cannot be fetched")) as answer:
            url = self.client.get_url(path)
            return str(urljoin(url, answer.headers.get("Location", url)))


@dataclass
class Trial:
    """Counts failures, and waits longer after each; `progress` forgives those so far."""

    purpose: str
    failures: int = 0

    def failed(self, why: str, response: Response | None = None) -> None:
        """Wait before the next attempt.

        Raises
        ------
        ArchiveError
            If there were enough, or the archive asks to wait for too long.
        """
        from dandi.utils import get_retry_after

        self.failures += 1
        if self.failures >= ATTEMPTS:
            raise ArchiveError(f"{self.purpose}: {why}, {self.failures} times in a row; the same command goes on later")
        asked = None if response is None else get_retry_after(response)
        if asked is not None and asked > MOST_ASKED:
            raise ArchiveError(f"{self.purpose}: {why}; the archive asks to come back in {asked} s")
        sleep(min(FIRST_WAIT * 2 ** (self.failures - 1), LONGEST_WAIT) if asked is None else float(asked))

    def progress(self) -> None:
        """Start counting again."""
        self.failures = 0


def received(response: Response, block: int = 1 << 18) -> Iterator[bytes]:
    """Pieces of a body as they come, to the last byte before a connection was cut; then it simply ends."""
    from urllib3.exceptions import HTTPError

    try:
        while piece := response.raw.read1(block):
            yield piece
    except (HTTPError, OSError):
        return


def skip(response: Response, n_bytes: int) -> None:
    """Read over the beginning of a body."""
    while n_bytes > 0 and (piece := response.raw.read(min(n_bytes, 1 << 18))):
        n_bytes -= len(piece)


def reason_of(response: Response) -> str:
    """Status of an answer, in words."""
    return f"{response.status_code} {response.reason}".strip()
