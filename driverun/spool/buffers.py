"""Two reused snapshots, so that one whole snapshot always stands."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from driverun.spool.snapshot import HEADER, TENSORS, SnapshotHeader, read_header, write_header

SLOTS = ("0", "1")


def _lock_file(slot: Path) -> IO[bytes]:
    slot.mkdir(parents=True, exist_ok=True)
    return open(slot / "lock", "ab")


def _try_lock(file: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class SnapshotSlot:
    """A writable snapshot; nobody reads it until it is sealed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = _lock_file(folder)
        self._map: mmap.mmap | None = None
        self._size = 0

    def try_begin(self, size_bytes: int) -> memoryview | None:
        """Unseal the slot and give its memory, at least `size_bytes`; None while a reader has it pinned."""
        if not _try_lock(self._lock, fcntl.LOCK_EX):
            return None
        (self.folder / HEADER).unlink(missing_ok=True)
        if self._map is None or self._size != size_bytes:
            self._allocate(size_bytes)
        return memoryview(self._map) if self._map is not None else memoryview(bytearray())

    def _allocate(self, size_bytes: int) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        self._size = size_bytes
        # Fresh pages cost some twenty times a copy into pages that are there (measured: 1160 ms against 48 ms for
        # 500 MB), so the file and its map live as long as the size stays.
        with open(self.folder / TENSORS, "w+b") as file:
            if size_bytes:
                os.posix_fallocate(file.fileno(), 0, size_bytes)
                self._map = mmap.mmap(file.fileno(), size_bytes)

    def seal(self, header: SnapshotHeader) -> None:
        """Make the snapshot readable."""
        write_header(self.folder, header)
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def abandon(self) -> None:
        """Leave the slot unsealed: there is no snapshot in it."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        self._lock.close()


class SnapshotWriter:
    """The trainer's side of the buffers."""

    def __init__(self, folder: Path) -> None:
        self._slots = [SnapshotSlot(folder / name) for name in SLOTS]
        self._next = 0

    def begin(self, size_bytes: int) -> tuple[SnapshotSlot, memoryview] | None:
        """The slot to write the next snapshot to and its memory; None if both are being read."""
        for turn in (self._next, 1 - self._next):
            memory = self._slots[turn].try_begin(size_bytes)
            if memory is not None:
                self._next = 1 - turn
                return self._slots[turn], memory
        return None

    def close(self) -> None:
        for slot in self._slots:
            slot.close()


@contextmanager
def newest_snapshot(
    folder: Path, *, after_sequence: int = -1
) -> Iterator[tuple[Path, SnapshotHeader] | None]:
    """Pin the newest sealed snapshot whose sequence is above `after_sequence`, for as long as the block runs."""
    found: list[tuple[int, str]] = []
    for name in SLOTS:
        header = read_header(folder / name)
        if header is not None and header.sequence > after_sequence:
            found.append((header.sequence, name))
    for _, name in sorted(found, reverse=True):
        with _lock_file(folder / name) as lock:
            if not _try_lock(lock, fcntl.LOCK_SH):
                continue
            # The writer may have come between the look and the pin.
            header = read_header(folder / name)
            if header is not None and header.sequence > after_sequence:
                yield folder / name, header
                return
    yield None
