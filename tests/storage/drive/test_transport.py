from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import google.auth.credentials
import google.auth.exceptions
import pytest

from driverun.storage.drive.auth import FixedToken, SharedTokens, drive_of
from driverun.storage.drive.errors import DriveRefusal, Kind
from driverun.storage.drive.servertime import ServerTime
from driverun.storage.drive.transport import Connections, DriveTransport, is_loopback
from driverun.testing.clock import START, FakeClock
from tests.storage.drive.conftest import Asked, ScriptedServer, Told


class Renewing(google.auth.credentials.Credentials):
    """A credential whose tokens are token-1, token-2, ..."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.renewals = 0
        self.running = 0
        self.together = 0

    def refresh(self, request: object) -> None:
        self.running += 1
        self.together = max(self.together, self.running)
        threading.Event().wait(0.01)  # give others the time to come in between
        self.renewals += 1
        self.token = f"token-{self.renewals}"
        self.running -= 1


@pytest.fixture
def credentials() -> Renewing:
    return Renewing()


@pytest.fixture
def time() -> ServerTime:
    return ServerTime(FakeClock())


@pytest.fixture
def transport(credentials: Renewing, time: ServerTime) -> Iterator[DriveTransport]:
    tokens = SharedTokens(credentials, request=lambda: None)  # type: ignore[arg-type, return-value]
    transport = DriveTransport(tokens, clock=FakeClock(), time=time)
    yield transport
    transport.close()


def test_an_answer_is_given_whatever_its_status(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(418, b"teapot", {"X-Kind": "pot"})
    answer, content = transport.request(f"{server.url}/a?b=c", headers={"x-mine": "1"})
    assert (answer.status, content, answer["x-kind"]) == (418, b"teapot", "pot")
    [asked] = server.asked
    assert (asked.method, asked.path) == ("GET", "/a?b=c")
    assert (asked.headers["x-mine"], asked.headers["authorization"]) == ("1", "Bearer token-1")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_lost_answer_is_an_error_and_nothing_is_sent_again(
    transport: DriveTransport, server: ScriptedServer, method: str
) -> None:
    transport.request(server.url)  # so that a connection rests in the pool
    server.script = lambda asked: Told(is_lost=True)
    with pytest.raises(DriveRefusal) as caught:
        transport.request(server.url, method=method, body=b"once")
    assert caught.value.kind is Kind.LOST
    assert [asked.method for asked in server.asked] == ["GET", method]


def test_half_an_answer_is_none(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(body=b"0123456789", cut=4)
    with pytest.raises(DriveRefusal) as caught:
        transport.request(server.url)
    assert caught.value.kind is Kind.LOST


def test_nobody_there_is_an_error(transport: DriveTransport, server: ScriptedServer) -> None:
    server.close()
    with pytest.raises(DriveRefusal, match="no connection came about"):
        transport.request(server.url)


def test_a_body_of_any_kind_arrives_whole(transport: DriveTransport, server: ScriptedServer) -> None:
    large = bytes(range(256)) * 8192
    transport.request(server.url, method="POST", body=large)
    transport.request(server.url, method="POST", body="ümlaut")
    transport.request(server.url, method="PUT", body=io.BytesIO(large), headers={"content-length": "2097152"})
    assert [asked.body for asked in server.asked] == [large, "ümlaut".encode(), large]
    assert all("transfer-encoding" not in asked.headers for asked in server.asked)


def test_compressed_answers_are_unpacked(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(
        body=gzip.compress(b"text " * 100), headers={"Content-Encoding": "gzip"}
    )
    answer, content = transport.request(server.url, headers={"accept-encoding": "gzip"})
    assert content == b"text " * 100
    assert "content-encoding" not in answer


def test_answers_tell_the_time(transport: DriveTransport, server: ScriptedServer, time: ServerTime) -> None:
    server.script = lambda asked: Told(headers={"Date": "Fri, 02 Jan 2026 00:00:00 GMT"})
    transport.request(server.url)
    assert time.age_s is not None
    assert time.now() >= START + timedelta(days=1)


def test_a_refused_token_is_renewed_and_the_body_sent_again_whole(
    transport: DriveTransport, server: ScriptedServer
) -> None:
    def script(asked: Asked) -> Told:
        return Told() if asked.headers["authorization"] == "Bearer token-2" else Told(401)

    server.script = script
    for body in (b"first!", io.BytesIO(b"second")):
        answer, _ = transport.request(server.url, method="POST", body=body, headers={"content-length": "6"})
        assert answer.status == 200
    assert [asked.body for asked in server.asked] == [b"first!", b"first!", b"second"]
    assert [asked.headers["authorization"] for asked in server.asked] == [
        "Bearer token-1",
        "Bearer token-2",
        "Bearer token-2",
    ]


def test_a_token_that_stays_refused_is_told(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(401)
    answer, _ = transport.request(server.url)
    assert answer.status == 401
    assert len(server.asked) == 2


def test_of_many_threads_with_a_refused_token_one_renews(
    transport: DriveTransport, server: ScriptedServer, credentials: Renewing
) -> None:
    transport.request(server.url)
    start = threading.Barrier(16)
    server.script = lambda asked: Told(401 if asked.headers["authorization"] == "Bearer token-1" else 200)

    def ask(_: int) -> int:
        start.wait()
        return int(transport.request(server.url)[0].status)

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(16))) == {200}
    assert (credentials.renewals, credentials.together) == (2, 1)


def test_many_threads_that_begin_together_share_the_first_token(
    transport: DriveTransport, server: ScriptedServer, credentials: Renewing
) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: transport.request(server.url), range(32)))
    assert credentials.renewals == 1
    assert len(server.asked) == 32


def test_a_withdrawn_login_is_told(server: ScriptedServer, time: ServerTime) -> None:
    server.script = lambda asked: Told(401)
    transport = DriveTransport(SharedTokens(FixedToken("old")), clock=FakeClock(), time=time)
    with pytest.raises(DriveRefusal) as caught:
        transport.request(server.url)
    assert caught.value.kind is Kind.LOGGED_OUT
    transport.close()


def test_a_reader_is_sent_on_and_a_writer_is_not(transport: DriveTransport, server: ScriptedServer) -> None:
    def script(asked: Asked) -> Told:
        return Told(body=b"here") if asked.path == "/there" else Told(302, headers={"Location": "/there"})

    server.script = script
    assert transport.request(f"{server.url}/x")[1] == b"here"
    assert transport.request(f"{server.url}/x", method="POST", body=b"1")[0].status == 302


def test_being_sent_round_in_circles_ends(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(302, headers={"Location": "/again"})
    with pytest.raises(DriveRefusal, match="without end"):
        transport.request(server.url)


def test_a_stream_is_read_piece_by_piece(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(body=b"0123456789")
    with transport.stream(server.url, {}) as answer:
        assert answer.read(4) == b"0123"
    with transport.stream(server.url, {}) as answer:
        assert answer.read() == b"0123456789"
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_stream_that_is_refused_says_why(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(429, b"", {"Retry-After": "9"})
    with pytest.raises(DriveRefusal) as caught, transport.stream(server.url, {}):
        pass
    assert (caught.value.kind, caught.value.retry_after_s) == (Kind.BUSY, 9.0)


def test_the_token_is_for_google_and_for_this_machine() -> None:
    from driverun.storage.drive.transport import _may_see_token

    for address in (
        "https://www.googleapis.com/x",
        "https://doc-0.googleusercontent.com/",
        "http://[::1]:8/",
    ):
        assert _may_see_token(address)
    for address in ("https://googleapis.com.evil.example/", "https://evilgoogle.com/", "http://10.0.0.1/"):
        assert not _may_see_token(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8123", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("http://127.0.0.1.example.com", False),
        ("http://127.example", False),
        ("http://192.168.0.1", False),
        ("https://www.googleapis.com", False),
    ],
)
def test_loopback_is_this_machine_alone(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_certificates_are_verified() -> None:
    options = Connections()._direct.connection_pool_kw
    assert options["ssl_context"].verify_mode.name == "CERT_REQUIRED"
    assert options["ssl_context"].check_hostname
    assert (options["timeout"].connect_timeout, options["timeout"].read_timeout) == (10.0, 60.0)
    assert options["retries"].total is False


@pytest.mark.parametrize(
    ("uri", "is_proxied"),
    [
        ("https://www.googleapis.com/drive/v2/files", True),
        ("https://inside.example.com/x", False),
        ("http://127.0.0.1:8123/drive/v2/files", False),
        ("http://metadata.google.internal/computeMetadata/v1/", False),
    ],
)
def test_a_proxy_is_used_where_the_machine_says_so(
    monkeypatch: pytest.MonkeyPatch, uri: str, is_proxied: bool
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", ".example.com")
    connections = Connections()
    assert connections._for(uri) is (connections._proxied if is_proxied else connections._direct)


def test_requests_count_against_the_project_that_the_login_names(
    server: ScriptedServer, time: ServerTime, credentials: Renewing
) -> None:
    credentials._quota_project_id = "laboratory"
    transport = DriveTransport(
        SharedTokens(credentials, request=lambda: None),  # type: ignore[arg-type, return-value]
        clock=FakeClock(),
        time=time,
    )
    transport.request(server.url)
    assert server.asked[0].headers["x-goog-user-project"] == "laboratory"
    transport.close()


def test_pydrive2_speaks_through_it(transport: DriveTransport, server: ScriptedServer) -> None:
    server.script = lambda asked: Told(body=b'{"id": "abc"}', headers={"Content-Type": "application/json"})
    drive = drive_of(transport, endpoint=server.url)
    found = drive.auth.service.files().get(fileId="abc", fields="id").execute()
    assert found == {"id": "abc"}
    file = drive.CreateFile({"id": "abc"})
    file.FetchMetadata(fields="id")
    assert [asked.path.split("?")[0] for asked in server.asked] == ["/drive/v2/files/abc"] * 2
