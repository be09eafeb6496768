"""The two servers of the loopback archive: faults that were ordered, and the requests as they came."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from tests.support.dandi.archive import Archive

BLOCK = 1 << 16


@dataclass
class Request:
    """One request as it came, and how many bytes of a body went back."""

    role: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int = 0
    sent: int = 0

    def __str__(self) -> str:
        return f"{self.role} {self.method} {self.path}"


@dataclass
class Fault:
    """What is to go wrong with the next requests that match, after the first few of them."""

    on: str
    times: int
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: float | None = None
    wait: float = 0.0
    skip: int = 0


@dataclass
class Answer:
    """Status, headers and body; a body of text or bytes is sent as it is, anything else as JSON."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if isinstance(self.body, str) and self.body.startswith("<"):
            return self.body.encode(), "application/xml"
        return json.dumps(self.body).encode(), "application/json"


class Servers:
    """The API and the storage, each a server with a thread for each connection."""

    def __init__(self, archive: Archive) -> None:
        self._servers = [_server(archive, role) for role in ("api", "storage")]

    @property
    def api_port(self) -> int:
        return int(self._servers[0].server_address[1])

    @property
    def storage_port(self) -> int:
        return int(self._servers[1].server_address[1])

    def start(self) -> None:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _server(archive: Archive, role: str) -> ThreadingHTTPServer:
    from tests.support.dandi.api import answer_api
    from tests.support.dandi.storage import answer_storage

    answer = answer_api if role == "api" else answer_storage

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path), dict(parse_qsl(parts.query))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(role, self.command, path, query, dict(self.headers.items()))
            with archive.lock:
                archive.requests.append(request)
                fault = next(
                    (candidate for candidate in archive.faults if candidate.times > 0 and candidate.on in str(request)),
                    None,
                )
                if fault is not None and fault.skip > 0:
                    fault.skip, fault = fault.skip - 1, None
                if fault is not None:
                    fault.times -= 1
            if fault is not None:
                sleep(fault.wait)
            if fault is not None and fault.status is not None:
                response = Answer(fault.status, {"detail": "as ordered"}, fault.headers)
            else:
                with archive.lock:
                    response = answer(archive, request, body)
            self._send(response, request, fault)

        def _send(self, response: Answer, request: Request, fault: Fault | None) -> None:
            content, kind = response.encoded()
            request.status = response.status
            self.send_response(response.status)
            headers = {"Content-Type": kind, "Content-Length": str(len(content)), **response.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            stop = len(content) if fault is None or fault.cut is None else int(len(content) * fault.cut)
            for first in range(0, stop, BLOCK):
                block = content[first : min(first + BLOCK, stop)]
                try:
                    self.wfile.write(block)
                except OSError:  # the client has gone
                    self.close_connection = True
                    return
                request.sent += len(block)
            if stop < len(content):
                self.close_connection = True
                self.connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815  (names of the standard library)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that closes early is no news
    return server
