"""HTTP to Drive, in the shape that googleapiclient expects of an httplib2.Http.

httplib2 is not thread-safe and sends a request again when the connection breaks, a POST too, which makes two
folders of one. Here one pool serves all threads, and what was sent is sent once: only a refused token is renewed
and the request repeated, since a 401 did nothing.
"""

from __future__ import annotations

import contextlib
import io
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, BinaryIO, Protocol

import httplib2
import httplib2.certs
import urllib3

from driverun.clock import Clock
from driverun.purpose import current_purpose
from driverun.storage.drive.errors import DriveRefusal, Kind, answer_of, foreign_errors, verdict
from driverun.storage.drive.servertime import ServerTime

CONNECT_TIMEOUT_S = 10.0  #: also for how long one block may take on its way out
READ_TIMEOUT_S = 60.0  #: without a single byte
POOL_SIZE = 40  #: connections that are kept; more threads than that open and close their own
_BLOCK_BYTES = 1 << 18
_REDIRECTS = 5
_GOOGLES = ("googleapis.com", "google.com", "googleusercontent.com")  # who may see the token

Body = bytes | str | BinaryIO | io.RawIOBase | None


class Tokens(Protocol):
    """Who we are to Drive. Threads share it."""

    @property
    def paying_project(self) -> str | None:
        """The Google Cloud project whose limits requests count against; None: that of the login itself."""

    def token(self) -> str:
        """A token that is valid as far as we know; it may be renewed for that."""

    def renew(self, refused: str) -> str:
        """Another token than `refused`. Raises what google-auth raises."""


class DriveTransport:
    """One pool of connections for all threads, with the token in every request."""

    def __init__(
        self, tokens: Tokens, *, clock: Clock, time: ServerTime, read_timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        """Open nothing yet.

        Args:
            tokens: who asks.
            time: is told of the Date of every answer.
        """
        self.resource_keys: dict[str, str] = {}  #: by file id, of links that were shared with one
        self._tokens = tokens
        self._clock = clock
        self._time = time
        self._connections = Connections(read_timeout_s=read_timeout_s)

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        redirections: int = _REDIRECTS,  # noqa: ARG002 - part of httplib2's shape
        connection_type: object = None,  # noqa: ARG002 - part of httplib2's shape
    ) -> tuple[httplib2.Response, bytes]:
        """Send it once, and give the answer whatever its status.

        Raises:
            DriveRefusal: LOST, no whole answer came; or there is no token to be had.
        """
        with self._answered(method, uri, body, headers) as answer, foreign_errors():
            content = answer.read()
        fields: dict[str, Any] = {name.lower(): value for name, value in answer.headers.items()}
        fields.pop("content-encoding", None)  # already undone
        return httplib2.Response({**fields, "status": str(answer.status)}), content

    @contextlib.contextmanager
    def stream(self, uri: str, headers: Mapping[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        """GET the bytes of a file, to be read in the block by `read` under `foreign_errors`.

        Raises:
            DriveRefusal: the status is not 200 or 206.
        """
        headers = {"accept-encoding": "identity", **headers}
        with self._answered("GET", uri, None, headers) as answer:
            if answer.status not in (200, 206):
                with foreign_errors():
                    content = answer.read()
                raise verdict(
                    answer_of({**answer.headers, "status": str(answer.status)}, content),
                )
            yield answer

    def close(self) -> None:
        """Close the connections that rest in the pool."""
        self._connections.clear()

    @contextlib.contextmanager
    def _answered(
        self, method: str, uri: str, body: Body, headers: Mapping[str, str] | None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        with foreign_errors():
            answer = self._send(method, uri, body, dict(headers or {}))
        try:
            yield answer
        except BaseException:
            answer.close()  # what is left of it belongs to nobody, so the connection is of no more use
            raise
        if answer.length_remaining:
            answer.close()  # given back, its rest would be taken for the next answer
        else:
            answer.drain_conn()
            answer.release_conn()

    def _send(self, method: str, uri: str, body: Body, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        if isinstance(body, str):
            body = body.encode()
        if isinstance(body, bytes):
            headers.setdefault("content-length", str(len(body)))
            body = io.BytesIO(body)  # sent block by block, so that the timeout is for a block, not the whole
        can_repeat = body is None or hasattr(body, "tell")
        start = body.tell() if body is not None and can_repeat else 0
        token = self._tokens.token()
        answer = self._send_following(method, uri, body, headers, token)
        if answer.status != 401 or not can_repeat:
            return answer
        answer.drain_conn()
        answer.release_conn()
        token = self._tokens.renew(token)
        if body is not None:
            body.seek(start)
        return self._send_following(method, uri, body, headers, token)

    def _send_following(
        self, method: str, uri: str, body: Any, headers: dict[str, str], token: str
    ) -> urllib3.BaseHTTPResponse:
        for _ in range(_REDIRECTS):
            answer = self._send_once(method, uri, body, headers, token)
            location = answer.headers.get("location")
            if method != "GET" or answer.status not in (301, 302, 303, 307) or location is None:
                return answer
            answer.drain_conn()
            answer.release_conn()
            uri = urllib.parse.urljoin(uri, location)
            if uri.startswith("http:") and not is_loopback(uri):
                raise DriveRefusal(Kind.FAULTY, f"sent on to an address without encryption, {uri}")
        raise DriveRefusal(Kind.FAILING, "sent from one address to the next without end")

    def _send_once(
        self, method: str, uri: str, body: Any, headers: dict[str, str], token: str
    ) -> urllib3.BaseHTTPResponse:
        if _may_see_token(uri):
            headers = {**headers, "authorization": f"Bearer {token}"}
            if self._tokens.paying_project is not None:
                headers["x-goog-user-project"] = self._tokens.paying_project
            if self.resource_keys:
                keys = ",".join(f"{file_id}/{key}" for file_id, key in self.resource_keys.items())
                headers["x-goog-drive-resource-keys"] = keys
        if purpose := current_purpose():
            agent = headers.get("user-agent", "")  # where googleapiclient asks for compressed answers
            headers = {**headers, "user-agent": f"driverun ({purpose}) {agent}".rstrip()}
        sent_s = self._clock.monotonic()
        answer = self._connections.urlopen(method, uri, body=body, headers=headers, preload_content=False)
        self._time.hear_date(answer.headers.get("date"), sent_s=sent_s)
        return answer


class Connections:
    """Connections that verify certificates, time out and send nothing twice; by a proxy where the machine has one."""

    def __init__(self, *, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        options: dict[str, Any] = {
            "ssl_context": _verifying(),
            "retries": False,
            "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
            "maxsize": POOL_SIZE,
            "block": False,
            "blocksize": _BLOCK_BYTES,
        }
        self._direct = urllib3.PoolManager(**options)
        address = urllib.request.getproxies().get("https")
        self._proxied = urllib3.ProxyManager(address, **options) if address else None

    def urlopen(self, method: str, uri: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """As urllib3's, without following and repeating anything."""
        return self._for(uri).urlopen(method, uri, redirect=False, retries=False, **options)

    def request(self, method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """As urllib3's; google-auth calls it."""
        return self._for(url).request(method, url, **{**options, "retries": False})

    def clear(self) -> None:
        """Close what rests."""
        for each in (self._direct, self._proxied):
            if each is not None:
                each.clear()

    def _for(self, uri: str) -> urllib3.PoolManager:
        host = urllib.parse.urlsplit(uri).hostname or ""
        # Colab's logins come from http://metadata, which no proxy reaches.
        is_near = uri.startswith("http:") or is_loopback(uri)
        if self._proxied is None or is_near or urllib.request.proxy_bypass(host):
            return self._direct
        return self._proxied


@lru_cache(maxsize=1)
def _verifying() -> ssl.SSLContext:
    """One for all connections: loading the certificates takes longer than everything else at the start."""
    context = ssl.create_default_context()
    if ssl.get_default_verify_paths().cafile is None and not context.get_ca_certs():
        context.load_verify_locations(httplib2.certs.where())  # a Python without the system's, as on macOS
    return context


def is_loopback(uri: str) -> bool:
    """Does the address lead to this very machine, by its number or as `localhost`?"""
    host = urllib.parse.urlsplit(uri).hostname or ""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def _may_see_token(uri: str) -> bool:
    host = urllib.parse.urlsplit(uri).hostname or ""
    return is_loopback(uri) or any(host == google or host.endswith(f".{google}") for google in _GOOGLES)
