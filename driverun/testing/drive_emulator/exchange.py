"""One request as it came, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from driverun.testing.drive_emulator.calls import Answer
from driverun.testing.drive_emulator.refusals import Refusal
from driverun.testing.drive_emulator.uploads import Read

JSON_TYPE = "application/json; charset=UTF-8"
#: Bytes of JSON that one call may carry.
BODY_LIMIT = 4 << 20


@dataclass(slots=True, kw_only=True)
class Request:
    """A request as it came over the wire; the names of headers are in lower case."""

    verb: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    base_url: str
    length_bytes: int | None  #: of the body; None: it comes in pieces
    read: Read
    hang: Callable[[float], None]
    read_bytes: int = 0
    stale_s: float = 0.0  #: how far back a listing looks, on order

    def parameter(self, name: str) -> str | None:
        for key, value in self.query:
            if key == name:
                return value
        return None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a request ends: with an answer, whole or cut short, or with a closed connection."""

    answer: Answer | None  #: None: the connection is closed without one
    cut_at: int | None = None  #: so many bytes of the body are sent, and the connection is closed
    corrupt: bool = False  #: one byte of the body is another one
    mbps: float = 0.0  #: at which it is sent beyond the settings'; 0: as they say


def apply_override(request: Request) -> None:
    """Make a request what it stands for: clients send a GET whose address is too long as a POST.

    Its query is then the body (googleapiclient's `HttpRequest.execute`, beyond 2048 characters).
    """
    verb = request.headers.get("x-http-method-override", "").upper()
    if not verb or request.verb != "POST":
        return
    request.verb = verb
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = read_all(request.read)
        request.read_bytes += len(body)
        request.query += parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True)


def refused(refusal: Refusal) -> Answer:
    """Return the answer that says no."""
    headers = {"Content-Type": JSON_TYPE}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
    return Answer(status=refusal.status, headers=headers, body=refusal.body())


def read_all(read: Read) -> bytes:
    """Return a body that is expected to be small.

    Raises:
        Refusal: 413, it is not.
        ConnectionError: the client went away.
    """
    pieces, size = [], 0
    while piece := read(64 * 1024):
        size += len(piece)
        if size > BODY_LIMIT:
            raise Refusal(413, "uploadTooLarge", "The request is too large.")
        pieces.append(piece)
    return b"".join(pieces)
