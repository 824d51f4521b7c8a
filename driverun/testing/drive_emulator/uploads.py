"""Content on its way in: multipart bodies, and resumable sessions.

The protocols are those of https://developers.google.com/drive/api/guides/manage-uploads. A session's bytes
lie in a file from the moment they arrive; how many there are is read from that file, so that a session
outlives the process.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from driverun.testing.drive_emulator.blobs import PIECE_BYTES, Blobs, Hashing, Sums, sums_of
from driverun.testing.drive_emulator.refusals import Refusal
from driverun.testing.drive_emulator.state import State

#: Every chunk but the last is a multiple of this.
GRANULE_BYTES = 256 * 1024

Read = Callable[[int], bytes]


def read_multipart(read: Read, content_type: str, write: Callable[[bytes], None]) -> tuple[bytes, str]:
    """Read a `multipart/related` body: return its metadata, and the type of the content it wrote.

    Args:
        read: gives up to that many bytes, b"" at the end.
        write: takes the content, piece by piece.

    Raises:
        Refusal: 400, the body is not two parts.
    """
    boundary = _boundary(content_type)
    source = _Delimited(read, b"--" + boundary)
    headers = source.headers()
    if not headers.get_content_type().endswith("json"):
        raise _malformed("The first part is not JSON.")
    metadata: list[bytes] = []
    source.body(metadata.append)
    headers = source.headers()
    if headers.get("Content-Transfer-Encoding", "").lower() == "base64":
        encoded: list[bytes] = []
        source.body(encoded.append)
        write(base64.b64decode(b"".join(encoded)))
    else:
        source.body(write)
    return b"".join(metadata), headers.get("Content-Type", "application/octet-stream")


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if not content_type.lower().startswith("multipart/") or not isinstance(boundary, str):
        raise _malformed("Missing end boundary in multipart body.")
    return boundary.encode()


def _malformed(message: str) -> Refusal:
    return Refusal(400, "badContent", f"Malformed multipart body. {message}")


class _Delimited:
    """Parts of a stream with a delimiter between them; never more than a piece of it in memory.

    Lines end as the first one does: clients made of Python's email package end theirs with a mere line feed.
    """

    def __init__(self, read: Read, delimiter: bytes) -> None:
        self._read = read
        self._held = b""
        while (at := self._held.find(delimiter)) < 0 or b"\n" not in self._held[at:]:
            self._more()
        first_line = self._held[at : self._held.index(b"\n", at) + 1]
        self._newline = b"\r\n" if first_line.endswith(b"\r\n") else b"\n"
        self._mark = self._newline + delimiter
        self._held = self._held[at + len(delimiter) :]

    def _more(self) -> None:
        piece = self._read(PIECE_BYTES)
        if not piece:
            raise _malformed("Missing end boundary.")
        self._held += piece

    def headers(self) -> Message:
        """Return the headers of the part that begins here."""
        end = self._newline * 2
        while end not in self._held:
            if self._held.startswith(b"--"):
                raise _malformed("A part is missing.")
            self._more()
        head, _, self._held = self._held.partition(end)
        return BytesParser().parsebytes(head.lstrip(b"\r\n") + end)

    def body(self, write: Callable[[bytes], None]) -> None:
        """Write everything before the next delimiter, and stand behind it."""
        while (at := self._held.find(self._mark)) < 0:
            safe = len(self._held) - len(self._mark)
            if safe > 0:
                write(self._held[:safe])
                self._held = self._held[safe:]
            self._more()
        if at:
            write(self._held[:at])
        self._held = self._held[at + len(self._mark) :]
        while len(self._held) < 2:
            self._more()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A resumable upload."""

    id: str
    method_id: str
    parameters: Mapping[str, Any]
    body: Mapping[str, Any]
    account: str
    client: str
    if_match: str
    mime_type: str
    size_bytes: int | None  #: as announced; None: it was not
    started_at: int  #: in milliseconds
    result: str = ""  #: the id of the file that it became


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Where a session stands after a request."""

    received_bytes: int
    path: Path | None = None  #: all of it has arrived, and lies there
    sums: Sums | None = None


_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Sessions:
    """All resumable uploads that are under way."""

    def __init__(self, folder: Path, state: State, lifetime_s: Callable[[], float]) -> None:
        self._folder = folder
        self._state = state
        self._lifetime_s = lifetime_s
        self._hashings: dict[str, Hashing] = {}
        self._turns: dict[str, threading.Lock] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, **about: Any) -> Session:
        session_id = "AEnB2U" + self._state.new_word(50)
        session = Session(id=session_id, started_at=self._state.now_ms(), **about)
        self._path(session.id).touch()
        self._save(session)
        return session

    def find(self, session_id: str) -> Session:
        """Return a session.

        Raises:
            Refusal: 404, there is none, or it has expired; its client has to start again.
        """
        found = self._state.entry("session", session_id)
        if found is None:
            raise Refusal(404, "notFound", "Upload session not found.", location="upload_id")
        session = Session(**found)
        if self._state.now_ms() - session.started_at > self._lifetime_s() * 1000:
            self.forget(session)
            raise Refusal(404, "notFound", "Upload session has expired.", location="upload_id")
        return session

    def finish(self, session: Session, file_id: str) -> None:
        """Remember what a session became, for a client that lost the answer and asks again."""
        self._hashings.pop(session.id, None)
        self._path(session.id).unlink(missing_ok=True)
        self._state.set_entry("session", session.id, {**_as_dict(session), "body": {}, "result": file_id})

    def forget(self, session: Session) -> None:
        self._hashings.pop(session.id, None)
        self._path(session.id).unlink(missing_ok=True)
        self._state.set_entry("session", session.id, None)

    def expire(self) -> None:
        """Let every session be expired."""
        for found in self._state.entries("session").values():
            self.forget(Session(**found))

    def turn(self, session_id: str) -> threading.Lock:
        with self._state.lock:
            return self._turns.setdefault(session_id, threading.Lock())

    def receive(self, session: Session, content_range: str | None, length: int | None, read: Read) -> Arrived:
        """Take what one request brings; hold the session's turn.

        Raises:
            Refusal: 400, the request does not continue what is there.
            ConnectionError: the client went away; what had come stays, down to a granule.
        """
        path = self._path(session.id)
        path.touch()  # a process that was killed between two lines may have lost it; then all comes again
        received, hashing = self._resume(session, path)
        if content_range is None:
            start, end, total = 0, None, length if length is not None else session.size_bytes
        else:
            start, end, total = _parse_range(content_range)
            total = total if total is not None else session.size_bytes if end is None else None
            if end is None:  # a question
                return self._standing(path, received, hashing, total)
        if start > received or (end is not None and total is not None and end >= total):
            raise Refusal(
                400,
                "invalid",
                f"The chunk starts at {start}, but {received} bytes are here.",
                location="Content-Range",
                location_type="header",
            )
        received = self._write(session, path, hashing, read, skip=received - start, received=received)
        if content_range is None or (end is not None and total is None and session.size_bytes == received):
            total = received
        if total is None or received < total:
            received = self._cut(session, path, received)
        return self._standing(path, received, self._hashings.get(session.id), total)

    def _write(
        self, session: Session, path: Path, hashing: Hashing, read: Read, *, skip: int, received: int
    ) -> int:
        with path.open("r+b", buffering=0) as file:
            file.seek(received)
            try:
                while piece := read(PIECE_BYTES):
                    if skip:
                        skip, piece = max(0, skip - len(piece)), piece[skip:]
                    file.write(piece)
                    hashing.update(piece)
                    received += len(piece)
            except ConnectionError:
                self._cut(session, path, received)
                raise
        return received

    def _resume(self, session: Session, path: Path) -> tuple[int, Hashing]:
        hashing = self._hashings.get(session.id)
        if hashing is None:
            received = path.stat().st_size // GRANULE_BYTES * GRANULE_BYTES
            if session.size_bytes is not None and path.stat().st_size == session.size_bytes:
                received = session.size_bytes
            with path.open("r+b") as file:
                file.truncate(received)
            hashing = self._hashings[session.id] = sums_of(path)
        return hashing.size_bytes, hashing

    def _cut(self, session: Session, path: Path, received: int) -> int:
        """Keep whole granules only, as Drive does with what is not the end."""
        kept = received // GRANULE_BYTES * GRANULE_BYTES
        if kept != received:
            with path.open("r+b") as file:
                file.truncate(kept)
            self._hashings[session.id] = sums_of(path)
        return kept

    def _standing(self, path: Path, received: int, hashing: Hashing | None, total: int | None) -> Arrived:
        if total is not None and received >= total:
            assert hashing is not None
            return Arrived(received_bytes=received, path=path, sums=hashing.sums())
        return Arrived(received_bytes=received)

    def _save(self, session: Session) -> None:
        self._state.set_entry("session", session.id, _as_dict(session))

    def _path(self, session_id: str) -> Path:
        return self._folder / session_id


def _as_dict(session: Session) -> dict[str, Any]:
    return {name: getattr(session, name) for name in Session.__dataclass_fields__}


def _parse_range(text: str) -> tuple[int, int | None, int | None]:
    """Return start, end and total of a Content-Range; end is None in a question."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise Refusal(
            400,
            "invalid",
            "Failed to parse Content-Range header.",
            location="Content-Range",
            location_type="header",
        )
    total = None if found[3] == "*" else int(found[3])
    if found[1] is None:
        return 0, None, total
    return int(found[1]), int(found[2]), total


def receive_whole(blobs: Blobs, read: Read) -> tuple[Path, Sums]:
    """Take a body that is nothing but content."""
    incoming = blobs.receive()
    try:
        while piece := read(PIECE_BYTES):
            incoming.write(piece)
    except BaseException:
        incoming.discard()
        raise
    return incoming.path, incoming.finish()
