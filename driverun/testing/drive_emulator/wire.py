"""HTTP/1.1 over a socket, as far as clients of Drive speak it."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from email.utils import format_datetime
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from driverun.clock import Clock
from driverun.testing.drive_emulator.blobs import PIECE_BYTES
from driverun.testing.drive_emulator.exchange import Outcome, Request
from driverun.testing.drive_emulator.pacing import Line
from driverun.testing.drive_emulator.settings import EmulatorSettings

LOOPBACK = "127.0.0.1"
LINE_LIMIT = 65536
HEADERS_LIMIT = 200
#: So much of a body that nobody wanted is read, so that the connection can be used again.
DRAIN_BYTES = 1 << 20
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    308: "Resume Incomplete",
    499: "Cancelled",
}


class _Unreadable(Exception):
    """What came is no HTTP."""


class Server(ThreadingHTTPServer):
    """Listens on loopback; a thread for every connection."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        port: int,
        *,
        handle: Callable[[Request], Outcome],
        down: Line,
        settings: EmulatorSettings,
        clock: Clock,
    ) -> None:
        self.handle_api = handle
        self.down = down
        self.settings = settings
        self.clock = clock
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._turn = threading.Lock()
        super().__init__((LOOPBACK, port), Connection)

    def server_bind(self) -> None:
        # Not HTTPServer's, which looks up a host name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def opened(self, connection: socket.socket) -> None:
        with self._turn:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._turn:
            self._connections.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to talk about; everything else is shown."""
        if not self.stopping.is_set() and not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def serve(self) -> None:
        """Take connections until `stop` is called; `serve_forever` would see that up to half a second later."""
        while not self.stopping.is_set():
            try:
                request, address = self.get_request()
            except OSError:
                continue
            self.process_request(request, address)

    def stop(self) -> None:
        """Take no more calls, and close every connection."""
        self.stopping.set()
        with contextlib.suppress(OSError):  # wakes `serve`, which waits for a connection
            socket.create_connection((LOOPBACK, self.server_port), timeout=1).close()

    def end(self) -> None:
        """Close every socket; `serve` has returned."""
        self.server_close()
        with self._turn:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class Connection(socketserver.StreamRequestHandler):
    """One connection, with one request after the other."""

    rbufsize = 256 * 1024
    wbufsize = 0
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        super().finish()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            while not self.server.stopping.is_set() and self._one():
                pass

    def _one(self) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            head = self._head()
        except _Unreadable as exc:
            self._send_raw(400, {"Connection": "close"}, str(exc).encode())
            return False
        if head is None:
            return False
        verb, target, version, headers = head
        body = _Body(self, headers)
        parts = urlsplit(target)
        request = Request(
            verb=verb,
            path=parts.path,
            query=parse_qsl(parts.query, keep_blank_values=True) if parts.query else [],
            headers=headers,
            base_url=f"http://{headers.get('host') or f'{LOOPBACK}:{self.server.server_port}'}",
            length_bytes=body.length,
            read=body.read,
            hang=self._hang,
        )
        outcome = self.server.handle_api(request)
        if outcome.answer is None:
            return False
        try:
            keep = headers.get("connection", "").lower() != "close" and version == "HTTP/1.1"
            keep = keep and outcome.cut_at is None and body.drain()
            return self._send(verb, outcome, keep=keep) and keep
        finally:
            if outcome.answer.content is not None:
                outcome.answer.content.stream.close()

    def _head(self) -> tuple[str, str, str, dict[str, str]] | None:
        line = self.rfile.readline(LINE_LIMIT)
        if line in (b"\r\n", b"\n"):
            line = self.rfile.readline(LINE_LIMIT)
        if not line:
            return None
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _Unreadable("no request line of HTTP/1.1")
        headers: dict[str, str] = {}
        while True:
            line = self.rfile.readline(LINE_LIMIT)
            if line in (b"\r\n", b"\n"):
                break
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or len(headers) > HEADERS_LIMIT:
                raise _Unreadable("unreadable headers")
            headers[name.strip().lower()] = value.strip()
        return words[0], words[1], words[2], headers

    def _hang(self, seconds: float) -> None:
        """Return after so many of the machine's seconds, or when the client or the emulator has gone."""
        left_s = seconds
        while left_s > 0 and not self.server.stopping.wait(0.05):
            left_s -= 0.05
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return

    def _send(self, verb: str, outcome: Outcome, *, keep: bool) -> bool:
        answer = outcome.answer
        assert answer is not None
        headers = {**answer.headers, "Connection": "keep-alive" if keep else "close"}
        length = answer.length_bytes
        until = length if outcome.cut_at is None else outcome.cut_at
        if verb == "HEAD":
            until = 0
        mbps = outcome.mbps or self.server.settings.bandwidth_mbps
        if answer.content is None:
            body = answer.body[:until]
            if outcome.corrupt and body:
                body = _corrupted(body)
            self.server.down.carry(len(body), mbps=mbps)
            self._send_raw(answer.status, headers, body, length=length)
            return True
        stream = answer.content.stream
        stream.seek(answer.content.start)
        self._send_raw(answer.status, headers, b"", length=length)
        if not outcome.corrupt and mbps <= 0:
            if until:
                self.connection.sendfile(stream, answer.content.start, until)
            return True
        sent = 0
        while sent < until:
            piece = stream.read(min(PIECE_BYTES, until - sent))
            if not piece:
                return False
            if outcome.corrupt and sent == 0:
                piece = _corrupted(piece)
            self.server.down.carry(len(piece), mbps=mbps)
            self.connection.sendall(piece)
            sent += len(piece)
        return True

    def _send_raw(
        self, status: int, headers: dict[str, str], body: bytes, *, length: int | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if status not in (204, 304):
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        lines.append(f"Date: {format_datetime(self.server.clock.now(), usegmt=True)}")
        lines.append("Server: driverun-dev-drive")
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace") + body)


def _corrupted(piece: bytes) -> bytes:
    middle = len(piece) // 2
    return piece[:middle] + bytes([piece[middle] ^ 0x20]) + piece[middle + 1 :]


class _Body:
    """What follows the headers of a request, by its length or in chunks."""

    def __init__(self, connection: Connection, headers: dict[str, str]) -> None:
        self._connection = connection
        self._file = connection.rfile
        self._is_chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        text = headers.get("content-length", "0")
        self.length: int | None = None if self._is_chunked else int(text) if text.isdigit() else 0
        self._left = self.length or 0
        self._is_over = not self._is_chunked and not self._left
        self._expects = headers.get("expect", "").lower() == "100-continue"

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, b"" at the end.

        Raises:
            ConnectionError: the client went away before the end.
        """
        if self._is_over:
            return b""
        if self._expects:
            self._expects = False
            self._connection.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._is_chunked and not self._left:
            self._left = int(self._file.readline(LINE_LIMIT).split(b";")[0].strip() or b"0", 16)
            if not self._left:
                while self._file.readline(LINE_LIMIT) not in (b"\r\n", b"\n", b""):
                    pass
                self._is_over = True
                return b""
        piece: bytes = self._file.read1(min(size, self._left))
        if not piece:
            raise ConnectionResetError("the client went away")
        self._left -= len(piece)
        if not self._left:
            if self._is_chunked:
                self._file.readline(LINE_LIMIT)
            else:
                self._is_over = True
        return piece

    def drain(self) -> bool:
        """Read what is left, if it is not too much; return whether the connection can be used again."""
        if self._expects and not self._is_over:
            return False
        left = DRAIN_BYTES
        while left > 0:
            piece = self.read(PIECE_BYTES)
            if not piece:
                return True
            left -= len(piece)
        return self._is_over
