"""Local files on their way to Drive and back, whose faults are not the network's."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from driverun.errors import IntegrityError

LocalBytes = io.BufferedRandom | io.BufferedReader | io.BytesIO

_numbers = itertools.count()


class LocalFault(Exception):
    """Carries an error about a local file through code that takes every OSError for the network's."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def local_faults() -> Iterator[None]:
    """Raise the cause of a LocalFault in the block as what it is."""
    try:
        yield
    except LocalFault as exc:
        raise exc.cause from exc


class Window(io.RawIOBase):
    """A part of an open file, as a body that is read once from its beginning; nothing of it is kept."""

    def __init__(self, file: LocalBytes, start: int, length: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET, "a body is only ever rewound"
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        left = self._length - self._position
        wanted = left if size < 0 else min(size, left)
        if not wanted:
            return b""
        try:
            self._file.seek(self._start + self._position)
            block = self._file.read(wanted)
        except OSError as exc:
            raise LocalFault(exc) from exc
        if not block:
            raise LocalFault(
                IntegrityError(
                    f"cannot upload {getattr(self._file, 'name', 'the file')}: it became shorter while it was "
                    "sent. Wait until whoever writes it is done, then try again."
                )
            )
        self._position += len(block)
        return block


@contextlib.contextmanager
def part_of(target: Path) -> Iterator[tuple[Path, io.BufferedRandom]]:
    """A new file beside `target`, open for reading and writing, which is gone after the block unless renamed.

    Raises:
        FileNotFoundError: the folder of `target` does not exist.
    """
    part = target.with_name(f".driverun-{os.getpid()}-{next(_numbers)}.part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "w+b") as file:
            yield part, file
    finally:
        part.unlink(missing_ok=True)
