"""Two reused snapshots, so that one whole snapshot always stands."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from driverun.errors import SpoolError
from driverun.spool.snapshot import HEADER, TENSORS, SnapshotHeader, read_header, write_header

SLOTS = ("0", "1")
ZEROS = bytes(1 << 20)


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
        self.sequence = _sealed_sequence(folder)  #: of the snapshot that stands here; -1: there is none
        self._lock = _lock_file(folder)
        self._map: mmap.mmap | None = None
        self._size = -1  #: of the file, -1 until this process has made it

    @property
    def is_sealed(self) -> bool:
        return self.sequence >= 0

    def try_begin(self, size_bytes: int) -> memoryview | None:
        """Unseal the slot and give its memory, `size_bytes` long; None while a reader has it pinned.

        Raises OSError where there is no room for it; then there is no snapshot in the slot.
        """
        if not _try_lock(self._lock, fcntl.LOCK_EX):
            return None
        try:
            self.sequence = -1
            (self.folder / HEADER).unlink(missing_ok=True)
            if self._size != size_bytes:
                self._allocate(size_bytes)
        except BaseException:
            self.abandon()
            raise
        return memoryview(bytearray() if self._map is None else self._map)

    def _allocate(self, size_bytes: int) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        self._size = -1
        # Fresh pages cost some twenty times a copy into pages that are there (measured: 1160 ms against 48 ms
        # for 500 MB), so the file and its map live as long as the size stays. Asked for all at once, they
        # cost half of that.
        with open(self.folder / TENSORS, "w+b") as file:
            if size_bytes:
                _take_room(file, size_bytes)
                flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
                self._map = mmap.mmap(file.fileno(), size_bytes, flags=flags)
        self._size = size_bytes

    def seal(self, header: SnapshotHeader) -> None:
        """Make the snapshot readable."""
        try:
            write_header(self.folder, header)
            self.sequence = header.sequence
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def abandon(self) -> None:
        """Leave the slot unsealed: there is no snapshot in it."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        self._lock.close()


def _sealed_sequence(folder: Path) -> int:
    try:
        header = read_header(folder)
    except SpoolError:
        return -1
    return -1 if header is None else header.sequence


def _take_room(file: IO[bytes], size_bytes: int) -> None:
    """Make the file so long for certain: a map over a hole would end the process once the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size_bytes)
        return
    left = size_bytes
    while left:
        left -= file.write(ZEROS[:left])
    file.flush()


class SnapshotWriter:
    """The trainer's side of the buffers."""

    def __init__(self, folder: Path) -> None:
        self._slots = [SnapshotSlot(folder / name) for name in SLOTS]

    def begin(self, size_bytes: int) -> tuple[SnapshotSlot, memoryview] | None:
        """The slot to write the next snapshot to and its memory; None if that has to wait for a reader.

        The newest snapshot is given up only where the older one is being read, and so stands. One that is the
        only one never is.
        """
        older, newer = sorted(self._slots, key=lambda slot: slot.sequence)
        usable = (older,) if newer.is_sealed and not older.is_sealed else (older, newer)
        for slot in usable:
            memory = slot.try_begin(size_bytes)
            if memory is not None:
                return slot, memory
        return None

    def close(self) -> None:
        for slot in self._slots:
            slot.close()


@contextmanager
def newest_snapshot(
    folder: Path, *, after_sequence: int = -1
) -> Iterator[tuple[Path, SnapshotHeader] | None]:
    """Pin the newest sealed snapshot whose sequence is above `after_sequence`, while the block runs."""
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
