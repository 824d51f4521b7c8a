"""Content on its way in: multipart and resumable."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import Fault
from driverun.testing.drive_emulator.refusals import Refusal
from driverun.testing.drive_emulator.uploads import read_multipart
from tests.drive_emulator.conftest import CheckedEmulator
from tests.drive_emulator.speaking import Speaker, Spoken

KIB = 1024
GRANULE = 256 * KIB
CONTENT = bytes(range(256)) * 4 * KIB  # 1 MiB


def reader(body: bytes, piece: int) -> Callable[[int], bytes]:
    position = 0

    def read(size: int) -> bytes:
        nonlocal position
        found = body[position : position + min(size, piece)]
        position += len(found)
        return found

    return read


def multipart(metadata: bytes, content: bytes, newline: bytes, preamble: bytes = b"") -> bytes:
    return preamble + newline.join(
        [
            b"--xx",
            b"Content-Type: application/json",
            b"",
            metadata,
            b"--xx",
            b"Content-Type: image/png",
            b"",
            content,
            b"--xx--",
            b"",
        ]
    )


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("content", [b"", b"x", b"a\r\n--x\r\n--xy\nb\n", b"\n\r\n" * 50, b"-" * 99])
def test_a_multipart_body_is_read_in_whatever_pieces_it_comes(
    piece: int, newline: bytes, content: bytes
) -> None:
    written: list[bytes] = []
    body = multipart(b'{"title": "a"}', content, newline)
    found = read_multipart(reader(body, piece), 'multipart/related; boundary="xx"', written.append)
    assert found == (b'{"title": "a"}', "image/png")
    assert b"".join(written) == content


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/related", multipart(b"{}", b"x", b"\r\n")),
        ("application/json; boundary=xx", multipart(b"{}", b"x", b"\r\n")),
        ("multipart/related; boundary=yy", multipart(b"{}", b"x", b"\r\n")),
        ("multipart/related; boundary=xx", multipart(b"{}", b"x", b"\r\n")[:-10]),
        ("multipart/related; boundary=xx", b"--xx\r\nContent-Type: application/json\r\n\r\n{}\r\n--xx--\r\n"),
        ("multipart/related; boundary=xx", b"--xx\r\nContent-Type: image/png\r\n\r\n{}\r\n--xx--\r\n"),
        ("multipart/related; boundary=xx", b""),
    ],
)
def test_a_multipart_body_that_is_not_two_parts_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(Refusal):
        read_multipart(reader(body, 100), kind, lambda piece: None)


def test_base64_is_decoded(alice: Speaker) -> None:
    body = multipart(b'{"title": "a"}', b"aGVsbG8=", b"\r\n").replace(
        b"image/png", b"image/png\r\nContent-Transfer-Encoding: base64"
    )
    kind = {"Content-Type": "multipart/related; boundary=xx"}
    made = alice.request("POST", "/upload/drive/v2/files?uploadType=multipart", body, kind).json
    assert made["md5Checksum"] == hashlib.md5(b"hello").hexdigest()


def test_content_alone_makes_an_untitled_file(alice: Speaker) -> None:
    path = "/upload/drive/v2/files?uploadType=media"
    made = alice.request("POST", path, b"x", {"Content-Type": "text/csv"}).json
    assert (made["title"], made["mimeType"], made["fileSize"]) == ("Untitled", "text/csv", "1")
    changed = alice.request("PUT", f"/upload/drive/v2/files/{made['id']}?uploadType=media", b"xy").json
    assert (changed["id"], changed["fileSize"]) == (made["id"], "2")
    assert alice.request("POST", path.replace("media", "carrier"), b"x").status == 400


class Session:
    """A resumable upload."""

    def __init__(
        self, speaker: Speaker, metadata: Any = None, *, size: int | None = len(CONTENT), **more: Any
    ) -> None:
        self.speaker = speaker
        headers = {"Content-Type": "application/json", "X-Upload-Content-Type": "text/plain"}
        if size is not None:
            headers["X-Upload-Content-Length"] = str(size)
        verb, path = more.get("verb", "POST"), more.get("path", "files")
        body = json.dumps(metadata or {"title": "big"}).encode()
        self.started = speaker.request(
            verb,
            f"/upload/drive/v2/{path}?uploadType=resumable{more.get('query', '')}",
            body,
            {**headers, **more.get("headers", {})},
        )
        self.address = self.started.headers.get("location", "")

    def put(self, start: int, end: int, total: int | str = len(CONTENT), content: bytes = CONTENT) -> Spoken:
        return self.send(content[start:end], f"bytes {start}-{end - 1}/{total}")

    def send(self, body: bytes, content_range: str | None = None) -> Spoken:
        parts = urlsplit(self.address)
        headers = {} if content_range is None else {"Content-Range": content_range}
        return self.speaker.request("PUT", f"{parts.path}?{parts.query}", body, headers)

    def ask(self, total: int | str = len(CONTENT)) -> Spoken:
        return self.send(b"", f"bytes */{total}")


def test_a_file_arrives_in_chunks(alice: Speaker) -> None:
    session = Session(alice, {"title": "big", "mimeType": "image/png"})
    assert session.started.status == 200
    assert session.address.startswith(alice.url)
    first = session.put(0, GRANULE)
    assert (first.status, first.headers["range"]) == (308, f"bytes=0-{GRANULE - 1}")
    assert session.ask().headers["range"] == f"bytes=0-{GRANULE - 1}"
    last = session.put(GRANULE, len(CONTENT))
    assert (last.status, last.json["title"], last.json["mimeType"]) == (200, "big", "image/png")
    assert last.json["sha1Checksum"] == hashlib.sha1(CONTENT).hexdigest()
    again = session.ask()  # for whoever lost the answer
    assert (again.status, again.json["id"]) == (200, last.json["id"])
    assert len(alice.call("GET", "files").json["items"]) == 1


def test_nothing_that_has_arrived_has_no_range(alice: Speaker) -> None:
    asked = Session(alice).ask()
    assert asked.status == 308
    assert "range" not in asked.headers


def test_one_request_may_bring_it_all(alice: Speaker) -> None:
    assert Session(alice).send(CONTENT).json["fileSize"] == str(len(CONTENT))
    assert Session(alice, size=None).send(b"").json["fileSize"] == "0"


def test_the_length_may_come_with_the_last_chunk(alice: Speaker) -> None:
    session = Session(alice, size=None)
    assert session.put(0, GRANULE, "*").status == 308
    end = GRANULE + 5
    assert session.put(GRANULE, end, end).json["fileSize"] == str(end)


def test_what_is_sent_twice_counts_once(alice: Speaker) -> None:
    session = Session(alice)
    session.put(0, 2 * GRANULE)
    assert session.put(GRANULE, 3 * GRANULE).headers["range"] == f"bytes=0-{3 * GRANULE - 1}"
    assert session.put(0, len(CONTENT)).json["md5Checksum"] == hashlib.md5(CONTENT).hexdigest()


def test_of_a_broken_chunk_whole_granules_stay(alice: Speaker, emulator: CheckedEmulator) -> None:
    session = Session(alice)
    emulator.faults.add(Fault(kind="drop", method="upload", after_bytes=GRANULE + 1000))
    with pytest.raises(ConnectionError):
        session.put(0, len(CONTENT))
    assert session.ask().headers["range"] == f"bytes=0-{GRANULE - 1}"
    assert session.put(GRANULE, len(CONTENT)).json["md5Checksum"] == hashlib.md5(CONTENT).hexdigest()
    assert session.put(0, 100, 100).status == 200  # it is over; what comes now is not looked at


def test_a_chunk_that_is_no_multiple_is_kept_down_to_one(alice: Speaker) -> None:
    session = Session(alice)
    assert session.put(0, GRANULE + 5).headers["range"] == f"bytes=0-{GRANULE - 1}"


@pytest.mark.parametrize(
    "content_range", ["bytes 524288-1048575/1048576", "bytes 0-9", "lines 0-9/10", "bytes 0-1048576/1048576"]
)
def test_a_chunk_that_does_not_continue_is_refused(alice: Speaker, content_range: str) -> None:
    session = Session(alice)
    assert session.send(b"x" * 10, content_range).status == 400
    assert session.ask().status == 308


def test_a_session_ends_after_a_week_or_when_it_is_cancelled(alice: Speaker, clock: FakeClock) -> None:
    session, other = Session(alice), Session(alice)
    session.put(0, GRANULE)
    clock.advance(seconds=7 * 24 * 3600 + 1)
    assert session.ask().status == 404
    other = Session(alice)
    parts = urlsplit(other.address)
    assert alice.request("DELETE", f"{parts.path}?{parts.query}").status == 499
    assert other.ask().status == 404
    assert Session(alice).address != other.address


def test_sessions_expire_on_order(alice: Speaker, emulator: CheckedEmulator) -> None:
    session = Session(alice)
    emulator.expire_uploads()
    assert session.put(0, GRANULE).status == 404


def test_a_session_survives_a_restart(start: Callable[..., CheckedEmulator]) -> None:
    first = start()
    session = Session(Speaker(first.url))
    session.put(0, 2 * GRANULE)
    session.speaker.close()
    first.close()
    second = start()
    session.speaker = Speaker(second.url)
    assert session.ask().headers["range"] == f"bytes=0-{2 * GRANULE - 1}"
    assert session.put(2 * GRANULE, len(CONTENT)).json["md5Checksum"] == hashlib.md5(CONTENT).hexdigest()
    session.speaker.close()


def test_a_session_replaces_content_if_nobody_was_quicker(alice: Speaker) -> None:
    made = alice.insert()
    path = f"files/{made['id']}"
    more: dict[str, Any] = {"verb": "PUT", "path": path, "headers": {"If-Match": made["etag"]}}
    assert Session(alice, {}, **more).send(CONTENT).json["fileSize"] == str(len(CONTENT))
    assert Session(alice, {}, **more).started.status == 412
    current = alice.call("GET", path).json["etag"]
    late = Session(alice, {}, verb="PUT", path=path, headers={"If-Match": current})
    alice.call("PATCH", path, {"title": "b"})
    assert late.send(CONTENT).status == 412


def test_what_cannot_be_is_refused_before_the_content_comes(
    alice: Speaker, bob: Speaker, emulator: CheckedEmulator
) -> None:
    made = alice.insert()
    assert Session(alice, {"id": made["id"]}).started.status == 409
    assert Session(bob, {}, verb="PUT", path=f"files/{made['id']}").started.status == 404
    assert Session(alice, {"parents": [{"id": "nowhere"}]}).started.status == 404
    emulator.settings.quota_gb = 0.001
    assert Session(alice, size=2_000_000).started.reason == "storageQuotaExceeded"
    assert Session(alice, {"titel": "x"}).started.status == 400


def test_only_the_fields_that_are_asked_for_come_back(alice: Speaker) -> None:
    assert Session(alice, query="&fields=title").send(b"x").json == {"title": "big"}
    assert Session(alice, query="&fields=name").started.status == 400


def test_a_body_in_chunks_of_http_is_taken(alice: Speaker) -> None:
    connection = http.client.HTTPConnection(urlsplit(alice.url).netloc, timeout=10)
    connection.request(
        "POST",
        "/upload/drive/v2/files?uploadType=media",
        iter([b"one ", b"two"]),
        {"Authorization": f"Bearer {alice.token}", "Content-Type": "text/plain"},
        encode_chunked=True,
    )
    answer = connection.getresponse()
    assert answer.status == 200
    assert b'"fileSize":"7"' in answer.read()
    connection.close()
