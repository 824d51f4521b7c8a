"""Keeps files that hold a secret off the root: they are left out, never rewritten, and it is said which and why."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any

from driverun.errors import SpoolError
from driverun.spool.masking import Masker
from driverun.spool.snapshot import FileEntry, SnapshotHeader

BLOCK = 1 << 22
DEEPEST = 4  #: archives in archives
MOST_BYTES = 8 << 30  #: unpacked, of one file: an archive may be made to have no end
HEAD = tarfile.BLOCKSIZE  #: bytes that tell what a file is
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")  # of gzip, bzip2, xz
_ZIP_MAGIC = b"PK"
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
)

Opened = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile

MASKED_STATE = "masked_state"  #: in a checkpoint's fingerprint: a secret stood in the state itself
WITHHELD = "withheld"  #: likewise: files that are not in it


class _Unsearched(Exception):
    """An archive could not be looked through; says why."""


@dataclass(slots=True)
class _Search:
    masker: Masker
    left_bytes: int  #: that may still come out of archives

    def through(self, file: IO[bytes] | Opened, *, deep: int = 0) -> str | None:
        """Which secret is in what the file holds, unpacked where it is packed."""
        head = next(_blocks(file), b"")[:HEAD]
        file.seek(0)
        found = self._plain(file, is_unpacked=deep > 0)
        if found is not None or deep >= DEEPEST:
            return found
        file.seek(0)
        if head.startswith(_MAGIC):
            with _unpacking(file, head) as inside:
                return self._unpacked(inside, deep)
        if _is_tar(head):
            return self._tar(file, deep)
        if not zipfile.is_zipfile(file):
            return None
        file.seek(0)
        return self._archive(file, deep)

    def _tar(self, file: IO[bytes] | Opened, deep: int) -> str | None:
        """What lies in it as it is has been seen with the bytes of the whole; what is packed is still packed."""
        try:
            with tarfile.open(fileobj=_Lengthened(file), mode="r|") as archive:
                for member in archive:
                    inside = archive.extractfile(member) if member.isfile() else None
                    if inside is None or not _is_packed(_begins(inside)):
                        continue
                    with self._copied(inside) as copy:
                        found = self._unpacked(copy, deep)
                    if found is not None:
                        return found
        except _DAMAGED:
            pass  # its bytes have been looked at
        return None

    @contextmanager
    def _copied(self, packed: IO[bytes]) -> Iterator[IO[bytes]]:
        """All of it, on disk: to go back in a tar that is packed itself is to unpack that again."""
        with ExitStack() as stack:
            try:
                copy = stack.enter_context(tempfile.TemporaryFile())
                for block in _until_damage(_blocks(packed)):
                    self._count(len(block))
                    copy.write(block)
                copy.seek(0)
            except OSError as exc:
                raise _Unsearched(
                    f"there was no room to unpack it, so it was not searched for secrets: {exc}"
                ) from exc
            yield copy

    def _archive(self, file: IO[bytes] | Opened, deep: int) -> str | None:
        try:
            with zipfile.ZipFile(file) as archive:
                found = (self._member(archive, member, deep) for member in archive.infolist())
                return next((name for name in found if name is not None), None)
        except _DAMAGED:
            return None  # its bytes have been looked at, and nobody can unpack it

    def _member(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, deep: int) -> str | None:
        found = self.masker.name_in_text(member.filename)
        if found is not None:
            return found
        try:
            inside = archive.open(member)
        except _DAMAGED:
            return None  # encrypted, or packed in a way of its own; the others may well be readable
        with inside:
            return self._unpacked(inside, deep)

    def _unpacked(self, file: IO[bytes] | Opened, deep: int) -> str | None:
        try:
            return self.through(file, deep=deep + 1)
        except _DAMAGED:
            return None

    def _plain(self, file: IO[bytes] | Opened, *, is_unpacked: bool) -> str | None:
        overlap = self.masker.longest_bytes - 1
        before = b""
        for block in _blocks(file):
            self._count(len(block) if is_unpacked else 0)
            content = before + block
            if (found := self.masker.name_in(content)) is not None:
                return found
            before = content[-overlap:]
        return None

    def _count(self, size_bytes: int) -> None:
        """So much has come out of an archive. Raises _Unsearched."""
        self.left_bytes -= size_bytes
        if self.left_bytes < 0:
            raise _Unsearched(
                f"more than {MOST_BYTES >> 30} GiB come out of it, too much to be searched for secrets"
            )


def _begins(file: Any) -> bytes:
    """The first bytes of what has not been read yet, which stay unread."""
    return bytes(file.peek(HEAD)[:HEAD])


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"  # POSIX 1003.1, and GNU's


def _is_packed(head: bytes) -> bool:
    return head.startswith((*_MAGIC, _ZIP_MAGIC)) or _is_tar(head)


def _blocks(file: IO[bytes] | Opened) -> Iterator[bytes]:
    """What the file holds, in pieces of up to BLOCK bytes. What comes before damage is given before that is raised.

    An archive whose writer was never closed, or was killed, unpacks up to its end: zcat complains, and shows it.
    """
    read: Callable[[int], bytes] = getattr(
        file, "read1", file.read
    )  # `read` throws away what it had when it fails
    while True:
        block = bytearray()
        try:
            while len(block) < BLOCK and (piece := read(BLOCK - len(block))):
                block += piece
        except _DAMAGED:
            if block:
                yield bytes(block)
            raise
        if not block:
            return
        yield bytes(block)


def _until_damage(blocks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from blocks
    except _DAMAGED:
        return


class _Lengthened(io.RawIOBase):
    """A file with zeros after its end or damage: `tarfile` gives nothing of a piece that it cannot have whole."""

    def __init__(self, file: IO[bytes] | Opened) -> None:
        super().__init__()
        self._blocks = chain(_until_damage(_blocks(file)), [bytes(BLOCK)] * 2)
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._held = self._held or memoryview(next(self._blocks, b""))
        size_bytes = min(len(buffer), len(self._held))
        buffer[:size_bytes], self._held = self._held[:size_bytes], self._held[size_bytes:]
        return size_bytes


def _unpacking(file: Any, head: bytes) -> Opened:
    if head.startswith(_MAGIC[0]):
        return gzip.GzipFile(fileobj=file, mode="rb")  # it takes the mode of a GzipFile for none
    return bz2.BZ2File(file) if head.startswith(_MAGIC[1]) else lzma.LZMAFile(file)


class Withholding:
    """Decides for one attempt which files stay here. Contents are looked at once."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._known: dict[str, str | None] = {}

    def reason(self, path: str, file: Path) -> str | None:
        """Why the file, a result by the name of `path`, is not published; None if it is.

        Raises:
            OSError: it cannot be read.
        """
        if not self._masker:
            return None
        if name := self._masker.name_in_text(path):
            return f"its name holds the secret {name}"
        try:
            with file.open("rb") as content:
                name = _Search(self._masker, MOST_BYTES).through(content)
        except _Unsearched as exc:
            return str(exc)
        return f"it holds the secret {name}" if name else None

    def shown(self, path: str) -> str:
        """The path, as it may be shown."""
        return self._masker.text(path)

    def of_results(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Why which of the files are not published, by path in the results."""
        found = {path: self.reason(path, file) for path, file in files.items()} if self._masker else {}
        return {path: why for path, why in found.items() if why is not None}

    def cleared(self, header: SnapshotHeader, files: Path) -> SnapshotHeader:
        """The snapshot without what holds a secret; its fingerprint says what that was.

        Raises:
            SpoolError: a file of the snapshot cannot be read.
        """
        if not self._masker:
            return header
        held = [entry for entry in header.files if self._is_held(entry, files)]
        state, fingerprint = self._masker.deep(header.state), self._masker.deep(header.fingerprint)
        notes: dict[str, Any] = {}
        if held:
            notes[WITHHELD] = [self.shown(entry.path) for entry in held]
        if state != _plain(header.state) or fingerprint != _plain(header.fingerprint):
            notes[MASKED_STATE] = True
        return replace(
            header,
            files=tuple(entry for entry in header.files if entry not in held),
            tensors=tuple(replace(entry, path=self.shown(entry.path)) for entry in header.tensors),
            state=state if MASKED_STATE in notes else header.state,
            fingerprint={**(fingerprint if MASKED_STATE in notes else header.fingerprint), **notes},
        )

    def _is_held(self, entry: FileEntry, files: Path) -> bool:
        if self._masker.name_in_text(entry.path) is not None:
            return True
        if entry.sha256 not in self._known:
            try:
                self._known[entry.sha256] = self.reason("", files / entry.sha256)
            except OSError as exc:
                raise SpoolError(f"cannot look through {files / entry.sha256} for secrets: {exc}") from exc
        return self._known[entry.sha256] is not None


def _plain(value: Any) -> Any:
    """The JSON value as masking would give it back, had it nothing to mask."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def notes_of(header: SnapshotHeader) -> list[str]:
    """What is not in a checkpoint that was cleared, as reasons why a run that takes it up is approximate."""
    notes = []
    if paths := header.fingerprint.get(WITHHELD):
        notes.append(f"files that held a secret are not in the checkpoint: {', '.join(map(str, paths))}")
    if header.fingerprint.get(MASKED_STATE):
        notes.append("the state of the checkpoint held a secret, which is masked in it")
    return notes


__all__ = ["Withholding", "notes_of"]
