"""Files of many chunks, because a root has a price per file: about three creations a second on Drive."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from driverun.errors import IntegrityError

PACK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A finished pack on local disk, named by its content."""

    file: Path
    sha256: str
    size_bytes: int
    chunks: Mapping[str, tuple[int, int]]  #: sha256 of a chunk -> (offset, size) in bytes


class PackWriter:
    """Gathers chunks in one local file; what it holds in memory does not grow with them."""

    def __init__(self, folder: Path, *, max_bytes: int = PACK_BYTES) -> None:
        descriptor, name = tempfile.mkstemp(prefix="pack-", dir=folder)
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._digest = hashlib.sha256()
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._chunks: dict[str, tuple[int, int]] = {}

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._chunks

    @property
    def is_empty(self) -> bool:
        return not self._chunks

    def has_room(self, size_bytes: int) -> bool:
        """Whether one more chunk of that size goes in; into an empty pack any chunk does."""
        return self.is_empty or self._size_bytes + size_bytes <= self._max_bytes

    def add(self, chunk: memoryview, sha256: str) -> None:
        """Append `chunk`, whose digest the caller knows; one that is here already is left out."""
        if sha256 in self._chunks:
            return
        self._append(chunk)
        self._chunks[sha256] = (self._size_bytes - len(chunk), len(chunk))

    def seal(self, *, avoid: Container[str] = ()) -> Pack:
        """Finish the pack. Its name will not be in `avoid`: a byte that no chunk uses makes another one."""
        while self._digest.hexdigest() in avoid:
            self._append(memoryview(b"\0"))
        self._file.close()
        return Pack(
            file=self._path,
            sha256=self._digest.hexdigest(),
            size_bytes=self._size_bytes,
            chunks=self._chunks,
        )

    def discard(self) -> None:
        """Remove the file, sealed or not."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _append(self, content: memoryview) -> None:
        self._file.write(content)
        self._digest.update(content)
        self._size_bytes += len(content)


class PackReader:
    """Gives chunks of a pack on local disk, none of them unverified.

    Raises:
        IntegrityError: on opening, the file is not the pack of that name; on reading, a chunk is not what
            its digest says.
    """

    def __init__(self, file: Path, *, sha256: str, size_bytes: int) -> None:
        self._name = f"pack-{sha256}"
        self._file = file.open("rb")
        try:
            actual_bytes = os.fstat(self._file.fileno()).st_size
            if actual_bytes != size_bytes:
                raise IntegrityError(f"{self._name} is damaged: it has {actual_bytes} of {size_bytes} bytes")
            if hashlib.file_digest(self._file, "sha256").hexdigest() != sha256:
                raise IntegrityError(f"{self._name} is damaged: its bytes are not those it is named after")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def chunk(self, *, offset: int, size_bytes: int, sha256: str) -> bytes:
        self._file.seek(offset)
        content = self._file.read(size_bytes)
        if len(content) != size_bytes or hashlib.sha256(content).hexdigest() != sha256:
            raise IntegrityError(f"{self._name} is damaged: {size_bytes} bytes at {offset} are not {sha256}")
        return content
