"""The files a script writes: captured at a snapshot, put back where training takes up."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from driverun.errors import IntegrityError
from driverun.spool.outputs import CHUNK, OutputRule, sha256_of
from driverun.spool.snapshot import FileEntry

SETTLED_S = 0.1  #: younger files may change again within one tick of the file system's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """The output files at one instant."""

    files: tuple[FileEntry, ...]
    left_out_bytes: int  #: of files that were too large to be captured; 0: all are there


class WorkingFolder:
    """A script's working folder, with a memory of what was captured before."""

    def __init__(self, folder: Path, *, store: Path, rule: OutputRule, max_bytes: int) -> None:
        self._folder = folder
        self._store = store
        self._rule = rule
        self._max_bytes = max_bytes
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    def capture(self) -> Capture:
        """Copy what is new or changed into the store, by digest, and list all that is there now."""
        found: list[FileEntry] = []
        total = 0
        for path, stat in self._rule.find(self._folder):
            total += stat.st_size
            if total > self._max_bytes:
                return Capture(
                    files=(), left_out_bytes=sum(s.st_size for _, s in self._rule.find(self._folder))
                )
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known = self._known.get(path)
            if known is not None and known[0] == signature:
                digest = known[1]
            else:
                digest = self._copy(self._folder / path)
                if time.time() - stat.st_mtime > SETTLED_S:
                    self._known[path] = (signature, digest)
            if self._rule.code_files.get(path) == digest:
                continue
            size = (self._store / digest).stat().st_size
            found.append(FileEntry(path=path, size_bytes=size, sha256=digest))
        return Capture(files=tuple(found), left_out_bytes=0)

    @property
    def folder(self) -> Path:
        return self._folder

    def restore(self, files: Sequence[FileEntry], *, keep: Iterable[str] = ()) -> None:
        """Make the outputs be `files`, and no others but `keep`; open handles stay valid.

        Code that was delivered stays as it is. Raises IntegrityError where the store does not hold what an entry
        promises.
        """
        wanted = {entry.path for entry in files} | set(keep) | set(self._rule.code_files)
        for path, _ in self._rule.find(self._folder):
            if path not in wanted:
                (self._folder / path).unlink(missing_ok=True)
        for entry in files:
            source = self._store / entry.sha256
            if not source.is_file() or sha256_of(source) != entry.sha256:
                raise IntegrityError(f"cannot bring {entry.path} back: its content {entry.sha256} is damaged")
            target = self._folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            # In place, not by rename: a callback that has the file open goes on in the very same file.
            with open(source, "rb") as read, open(target, "r+b" if target.exists() else "w+b") as write:
                while block := read.read(CHUNK):
                    write.write(block)
                write.truncate()

    def forget(self, keep: Iterable[str]) -> None:
        """Remove contents from the store that are none of `keep`, digests."""
        kept = set(keep) | {digest for _, digest in self._known.values()}
        for file in self._store.iterdir():
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def _copy(self, source: Path) -> str:
        self._store.mkdir(parents=True, exist_ok=True)
        temporary = self._store / f".new-{os.getpid()}"
        digest = hashlib.sha256()
        with open(source, "rb") as read, open(temporary, "wb") as write:
            while block := read.read(CHUNK):
                digest.update(block)
                write.write(block)
        os.replace(temporary, self._store / digest.hexdigest())
        return digest.hexdigest()
