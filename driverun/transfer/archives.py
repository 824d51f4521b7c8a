"""Archives opened so that nothing in them lands outside of its folder."""

from __future__ import annotations

import contextlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from driverun.errors import JobError, UnsafePath
from driverun.storage.base import checked_path
from driverun.transfer.checksums import CHUNK_BYTES

_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,  # zipfile: a password is needed
    NotImplementedError,  # zipfile: a compression it does not know
    RecursionError,  # tarfile: links that lead to each other
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive, open for reading."""

    path: str  #: clean and relative
    size_bytes: int  #: as the archive declares it, 0 for a link
    content: IO[bytes]


def unpack(file: Path, *, name: str, take: Callable[[Member], None]) -> None:
    """Hand each file in the archive `file` to `take`, in its order; links within it as the files they lead
    to.

    Args:
        name: the archive as a person knows it, for messages; its suffix says what it is.
        take: reads the member; what it raises comes through.

    Raises:
        UnsafePath: a member would land outside, or is no plain file.
        JobError: the archive is damaged, or needs a password.
    """
    members = _zip_members if name.lower().endswith(".zip") else _tar_members
    try:
        for member in members(file, name):
            take(member)
    except _BROKEN as exc:
        raise _broken(name, exc) from exc
    except OSError as exc:
        if exc.errno is not None:  # the disk's own; gzip and bz2 raise theirs without a number
            raise
        raise _broken(name, exc) from exc


def _broken(name: str, exc: Exception) -> JobError:
    return JobError(
        f"cannot unpack {name}: it is damaged, or of a kind that driverun does not read ({exc}). "
        "Pack it again, without a password."
    )


def _zip_members(file: Path, name: str) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            path = _inside(entry.filename, name)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise UnsafePath(
                    f"cannot unpack {name}: {path} in it is a link or a device. Pack plain files."
                )
            with archive.open(entry) as content:
                yield Member(path=path, size_bytes=entry.file_size, content=content)


def _tar_members(file: Path, name: str) -> Iterator[Member]:
    with tarfile.open(file, "r:*") as archive:
        for entry in archive:
            if entry.isdir():
                continue
            path = _inside(entry.name, name)
            content: IO[bytes] | None = None
            if entry.isfile() or _is_link(entry):
                with contextlib.suppress(KeyError):
                    content = archive.extractfile(entry)  # looks a link up among the members, not on the disk
            if content is None:
                raise UnsafePath(
                    f"cannot unpack {name}: {path} in it is a device, or a link to what is no file of the "
                    "archive. Pack plain files."
                )
            with content:
                yield Member(path=path, size_bytes=entry.size, content=content)
        # tarfile stops at the last member; the checksum of what it was packed with comes after.
        while archive.fileobj is not None and archive.fileobj.read(CHUNK_BYTES):
            pass


def _is_link(entry: tarfile.TarInfo) -> bool:
    return entry.issym() or entry.islnk()


def _inside(member: str, name: str) -> str:
    """The member's path, without the `./` that tar likes to write."""
    path = member
    while path.startswith("./"):
        path = path[2:]
    try:
        return checked_path(path)
    except UnsafePath as exc:
        raise UnsafePath(f"cannot unpack {name}: {member!r} in it would land outside of its folder") from exc
