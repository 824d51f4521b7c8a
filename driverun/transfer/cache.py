"""Contents of objects kept on the local disk, so that the next run need not fetch them again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from driverun.clock import Clock
from driverun.errors import IntegrityError
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.transfer.checksums import copy_hashed

_LEFTOVER_AGE_S = 24 * 3600.0
_ROOM_TO_SPARE = 0.1  #: of the limit, made at each clearing, so that not every new file clears again


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    file: Path
    sha256: str
    size_bytes: int
    used_ns: int


class DataCache:
    """A folder of contents under a limit of size; what was not used for longest goes first.

        <folder>/<2 hex>/<sha256 of which object it is>-<sha256 of the content>
                 tmp/...        while they arrive; of dead processes, removed after a day

    An entry stands for one content of one object: its root, path, id, time of change and size. It appears by
    rename, whole, and its content is compared with its name each time it is used. Several processes may share
    a folder.
    """

    def __init__(self, folder: Path, limit_bytes: int, *, clock: Clock) -> None:
        """Use `folder`, which is made when something is first kept."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._numbers = itertools.count()
        self._used_bytes: int | None = None  # not looked yet
        self._sweep_leftovers()

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    def may_hold(self, info: ObjectInfo) -> bool:
        """Whether the object is small enough to be kept."""
        return info.size_bytes <= self._limit_bytes

    def holds(self, store: ObjectStore, info: ObjectInfo) -> bool:
        """Whether there is an entry for the object as it is now, by name and size."""
        return self._find(_key(store, info), info) is not None

    def bring(self, store: ObjectStore, info: ObjectInfo, target: Path) -> tuple[str, ObjectInfo]:
        """Write the object to `target`, from here if possible, else from the root, keeping a copy here.

        Returns its sha256, and what the store says of the very content that was written. `target` appears
        whole.

        Raises:
            ObjectNotFound: it is gone.
            IntegrityError: what arrived is not what the store promised.
        """
        kept_sha256 = self._place(_key(store, info), info, target)
        if kept_sha256 is not None:
            return kept_sha256, info
        arrived = self._new_file()
        try:
            fetched = store.download(info.path, arrived)
            sha256 = copy_to(arrived, target, expected=fetched.sha256, what=info.path)
            self._keep(arrived, _key(store, fetched), fetched, sha256)
        finally:
            arrived.unlink(missing_ok=True)
        return sha256, fetched

    def make_room(
        self, wanted_bytes: int, *, keep: tuple[ObjectStore, Collection[ObjectInfo]] | None = None
    ) -> int:
        """Remove entries, those not used for longest first, until that much is freed; return how much was.

        Args:
            keep: objects whose entries stay.
        """
        kept = {_key(keep[0], info) for info in keep[1]} if keep is not None else set()
        freed_bytes = 0
        entries = sorted(self._entries(), key=lambda entry: (entry.used_ns, entry.file))
        for entry in entries:
            if freed_bytes >= wanted_bytes:
                break
            if entry.file.name.partition("-")[0] not in kept:
                entry.file.unlink(missing_ok=True)
                freed_bytes += entry.size_bytes
        self._used_bytes = sum(entry.size_bytes for entry in entries) - freed_bytes
        return freed_bytes

    def _place(self, key: str, info: ObjectInfo, target: Path) -> str | None:
        """Copy the entry for `info` to `target`; None where there is none, or a damaged one, which goes."""
        entry = self._find(key, info)
        if entry is None:
            return None
        try:
            copy_to(entry.file, target, expected=entry.sha256, what=str(entry.file))
            self._touch(entry.file)
        except FileNotFoundError:  # another process made room
            return None
        except IntegrityError:
            entry.file.unlink(missing_ok=True)
            self._used_bytes = None
            return None
        return entry.sha256

    def _keep(self, arrived: Path, key: str, info: ObjectInfo, sha256: str) -> None:
        if not self.may_hold(info):
            return
        file = self._folder / key[:2] / f"{key}-{sha256}"
        file.parent.mkdir(parents=True, exist_ok=True)
        self._touch(arrived)
        used_bytes = self._used_bytes if self._used_bytes is not None else self._measured()
        if used_bytes + info.size_bytes > self._limit_bytes:
            self._used_bytes = used_bytes = self._measured()  # other processes add and remove too
        missing_bytes = used_bytes + info.size_bytes - self._limit_bytes
        if missing_bytes > 0:
            self.make_room(missing_bytes + int(self._limit_bytes * _ROOM_TO_SPARE))
            used_bytes = self._used_bytes or 0
        arrived.replace(file)
        self._used_bytes = used_bytes + info.size_bytes

    def _find(self, key: str, info: ObjectInfo) -> _Entry | None:
        for entry in self._entries_in(self._folder / key[:2], prefix=f"{key}-"):
            if entry.size_bytes == info.size_bytes and info.sha256 in (None, entry.sha256):
                return entry
            entry.file.unlink(missing_ok=True)
            self._used_bytes = None
        return None

    def _entries(self) -> Iterator[_Entry]:
        try:
            fans = sorted(each.name for each in self._folder.iterdir() if len(each.name) == 2)
        except FileNotFoundError:
            return
        for fan in fans:
            yield from self._entries_in(self._folder / fan, prefix="")

    def _entries_in(self, folder: Path, *, prefix: str) -> Iterator[_Entry]:
        try:
            names = sorted(name for name in os.listdir(folder) if name.startswith(prefix))
        except FileNotFoundError:
            return
        for name in names:
            try:
                status = (folder / name).stat()
            except FileNotFoundError:
                continue
            yield _Entry(
                file=folder / name,
                sha256=name.partition("-")[2],
                size_bytes=status.st_size,
                used_ns=status.st_mtime_ns,
            )

    def _measured(self) -> int:
        return sum(entry.size_bytes for entry in self._entries())

    def _new_file(self) -> Path:
        folder = self._folder / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{os.getpid()}-{next(self._numbers)}-{id(self):x}"

    def _touch(self, file: Path) -> None:
        now_ns = int(self._clock.now().timestamp() * 1e9)
        os.utime(file, ns=(now_ns, now_ns))

    def _sweep_leftovers(self) -> None:
        oldest = self._clock.now().timestamp() - _LEFTOVER_AGE_S
        try:
            leftovers = list((self._folder / "tmp").iterdir())
        except FileNotFoundError:
            return
        for leftover in leftovers:
            try:
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink(missing_ok=True)
            except FileNotFoundError:
                continue


def copy_to(source: Path, target: Path, *, expected: str | None, what: str) -> str:
    """Copy a file so that `target` appears whole, and only if it is what was expected; return its digest.

    Args:
        expected: the digest it has to have; None takes any.
        what: is copied, for the message.

    Raises:
        IntegrityError: it is another; `target` was not touched.
    """
    part = target.with_name(
        f".driverun-{os.getpid()}-{hashlib.sha256(target.name.encode()).hexdigest()[:16]}.part"
    )
    try:
        with source.open("rb") as from_file, part.open("wb") as into:
            sha256, _ = copy_hashed(from_file, into)
        if expected is not None and sha256 != expected:
            raise IntegrityError(
                f"cannot use {what}: its bytes are {sha256[:12]}…, {expected[:12]}… was promised. Try again."
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return sha256


def _key(store: ObjectStore, info: ObjectInfo) -> str:
    told = [store.location, info.path, info.object_id, info.modified_at.isoformat(), info.size_bytes]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
