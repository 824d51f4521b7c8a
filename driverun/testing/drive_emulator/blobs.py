"""The bytes of files, on disk under names of the emulator's own.

Nothing here holds a file's bytes in memory: they pass through in pieces.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Bytes that are read, written and hashed at a time.
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Length and checksums of some bytes, in lower-case hexadecimal."""

    size_bytes: int
    md5: str
    sha1: str
    sha256: str


class Hashing:
    """Checksums of a stream, as it goes by."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._all: tuple[Any, ...] = (
            hashlib.md5(usedforsecurity=False),
            hashlib.sha1(usedforsecurity=False),
            hashlib.sha256(),
        )

    def update(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        for one in self._all:
            one.update(piece)

    def sums(self) -> Sums:
        md5, sha1, sha256 = (one.hexdigest() for one in self._all)
        return Sums(size_bytes=self.size_bytes, md5=md5, sha1=sha1, sha256=sha256)


class Incoming:
    """Bytes that arrive, hashed on the way; they become a blob when they are kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hashing = Hashing()
        self._file = path.open("wb")

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._hashing.update(piece)

    def finish(self) -> Sums:
        self._file.close()
        return self._hashing.sums()

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class Blobs:
    """A folder of blobs."""

    def __init__(self, folder: Path, new_name: Callable[[], str]) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)
        self._new_name = new_name

    def receive(self) -> Incoming:
        return Incoming(self.incoming / self._new_name())

    def keep(self, path: Path) -> str:
        """Make the file at `path`, which has arrived whole, a blob; return its name."""
        name = self._new_name()
        target = self.path_of(name)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
        return name

    def path_of(self, name: str) -> Path:
        return self.folder / name[-2:] / name

    def delete(self, name: str) -> None:
        self.path_of(name).unlink(missing_ok=True)

    def sweep(self, named: Collection[str]) -> None:
        """Remove what no file names and what never arrived whole; for the start, while nothing arrives."""
        for path in self.incoming.iterdir():
            path.unlink()
        for path in self.folder.glob("??/*"):
            if path.name not in named:
                path.unlink()


def sums_of(path: Path, *, length: int | None = None) -> Hashing:
    """Return the checksums of the first `length` bytes of a file; None: of all."""
    hashing = Hashing()
    left = path.stat().st_size if length is None else length
    with path.open("rb") as stream:
        while left > 0 and (piece := stream.read(min(PIECE_BYTES, left))):
            hashing.update(piece)
            left -= len(piece)
    return hashing
