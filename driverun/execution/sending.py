"""How far files are that are on their way to the root, seen by how far they have been read."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PosixPath
from typing import IO, Any

from driverun.checkpoints.pack import PACK_BYTES
from driverun.clock import Clock
from driverun.execution.passing import PassingStore
from driverun.execution.viewing import Sending
from driverun.storage.base import ObjectInfo, ObjectStore

RATE_FROM_S = 0.5  #: a shorter time tells nothing about the rate
_LAST_PACK = 0.9 * PACK_BYTES  #: a pack below this size is the last one of its checkpoint


class _Sent(PosixPath):
    """A file that knows how far its reader is."""

    def open(self, *arguments: Any, **more: Any) -> IO[Any]:  # type: ignore[override]
        reader: IO[Any] = super().open(*arguments, **more)
        self.reader = reader
        return reader

    @property
    def position(self) -> int:
        """Up to which byte it has been read; 0 where nobody reads it in pieces."""
        reader = getattr(self, "reader", None)
        try:
            return reader.tell() if isinstance(reader, io.BufferedReader) else 0
        except (ValueError, OSError, RuntimeError):  # it was closed a moment ago, or is just being read
            return 0


class SendingStore(PassingStore):
    """Passes everything on to `inner`, and knows how far the files of one commit are."""

    def __init__(self, inner: ObjectStore, clock: Clock) -> None:
        super().__init__(inner)
        self._clock = clock
        self._turn = threading.Lock()
        self._expected_bytes: int | None = None  # None: no commit is on its way
        self._done_bytes = 0
        self._file: tuple[_Sent, int, float] | None = None  # on its way: its size, since when
        self._bytes_per_s: float | None = None  # of the files before

    @contextmanager
    def commit(self, expected_bytes: int) -> Iterator[None]:
        """What is created in the block belongs to one commit, of so many bytes if none of them are there yet."""
        with self._turn:
            self._expected_bytes, self._done_bytes, self._file = expected_bytes, 0, None
        try:
            yield
        finally:
            with self._turn:
                self._expected_bytes = None

    def sending(self) -> Sending | None:
        """How far the commit is that is on its way; None where there is none."""
        with self._turn:
            if self._expected_bytes is None:
                return None
            done_bytes, total_bytes, rate = self._done_bytes, self._expected_bytes, self._bytes_per_s
            if self._file is not None:
                file, size_bytes, since_s = self._file
                position = min(file.position, size_bytes)
                is_last = size_bytes < _LAST_PACK
                rest_bytes = done_bytes + size_bytes
                total_bytes = rest_bytes if is_last else max(total_bytes, rest_bytes)
                done_bytes += position
                took_s = self._clock.monotonic() - since_s
                if position and took_s >= RATE_FROM_S:
                    rate = position / took_s
            total_bytes = max(total_bytes, done_bytes)
            left_s = (total_bytes - done_bytes) / rate if rate else None
            return Sending(done_bytes=done_bytes, total_bytes=total_bytes, left_s=left_s)

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        if isinstance(content, bytes):
            return self._inner.create(path, content, properties=properties)
        file, size_bytes, since_s = _Sent(content), content.stat().st_size, self._clock.monotonic()
        with self._turn:
            self._file = (file, size_bytes, since_s)
        try:
            info = self._inner.create(path, file, properties=properties)
        finally:
            with self._turn:
                self._file = None
        with self._turn:
            self._done_bytes += size_bytes
            if size_bytes < _LAST_PACK:
                self._expected_bytes = self._done_bytes
            took_s = self._clock.monotonic() - since_s
            if took_s > 0:
                self._bytes_per_s = size_bytes / took_s
        return info
