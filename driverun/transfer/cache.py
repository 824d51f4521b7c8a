"""Contents of objects kept on the local disk, so that the next run need not fetch them again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from driverun.clock import Clock
from driverun.errors import IntegrityError
from driverun.storage.base import Downloads, ObjectInfo
from driverun.transfer.checksums import copy_hashed
from driverun.transfer.progress import ProgressCounter

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

    An entry stands for one content of one object: where it is from, its path, id, time of change and size. It
    appears by rename, whole, and its content is compared with its name each time it is used. Several processes may
    share a folder, and many threads this object. What is taken from here is copied, so an entry that goes takes
    nothing from anybody.
    """

    def __init__(self, folder: Path, limit_bytes: int, *, clock: Clock) -> None:
        """Use `folder`, which is made when something is first kept."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._numbers = itertools.count()
        self._used_bytes: int | None = None  # not looked yet
        self._pinned: Counter[str] = Counter()
        self._turn = threading.Lock()
        self._sweep_leftovers()

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def limit_bytes(self) -> int:
        return self._limit_bytes

    @property
    def clock(self) -> Clock:
        return self._clock

    def may_hold(self, info: ObjectInfo) -> bool:
        """Whether the object is small enough to be kept, and one content of it can be told from the next."""
        return info.size_bytes <= self._limit_bytes and bool(info.object_id)

    def held(self, origin: Downloads, infos: Iterable[ObjectInfo]) -> set[str]:
        """The paths of those objects for which there is an entry, as they are now, by name and size."""
        entries = {entry.file.name.partition("-")[0]: entry for entry in self._entries()}
        held = set()
        for info in infos:
            entry = entries.get(_key(origin, info))
            if entry is not None and _fits(entry, info):
                held.add(info.path)
        return held

    @contextmanager
    def pinned(self, origin: Downloads, infos: Iterable[ObjectInfo]) -> Iterator[None]:
        """Within the block, entries of these objects make no room for others.

        Data that are larger than the limit would otherwise drive themselves out, each part just before the next run
        asks for it.
        """
        keys = [_key(origin, info) for info in infos]
        with self._turn:
            self._pinned.update(keys)
        try:
            yield
        finally:
            with self._turn:
                self._pinned.subtract(keys)
                self._pinned += Counter()  # drops those that are at zero

    def bring(
        self, origin: Downloads, info: ObjectInfo, target: Path, counter: ProgressCounter | None = None
    ) -> tuple[str, ObjectInfo]:
        """Write the object to `target`, from here if possible, else from its origin, keeping a copy here.

        Returns its sha256, and what its origin says of the very content that was written. `target` appears
        whole.

        Args:
            counter: is told what grows while it arrives.

        Raises:
            ObjectNotFound: it is gone.
            IntegrityError: what arrived is not what was promised.
        """
        kept_sha256 = self._place(_key(origin, info), info, target)
        if kept_sha256 is not None:
            return kept_sha256, info
        with self._arrived(origin, info, counter) as (arrived, fetched):
            sha256 = copy_to(arrived, target, expected=fetched.sha256, what=info.path)
            self._keep(arrived, _key(origin, fetched), fetched, sha256)
        return sha256, fetched

    @contextmanager
    def opened(
        self, origin: Downloads, info: ObjectInfo, sha256: str, counter: ProgressCounter | None = None
    ) -> Iterator[IO[bytes]]:
        """The object's content, from here if possible, else fetched and kept here. It is not compared with anything.

        Args:
            sha256: what its digest has to be; it names the entry.
        """
        entry = self._find(_key(origin, info), info)
        if entry is not None:
            try:
                kept = entry.file.open("rb")
                self._touch(entry.file)
            except FileNotFoundError:  # another process made room
                entry = None
        if entry is not None:
            with kept:
                yield kept
            return
        with self._arrived(origin, info, counter) as (arrived, fetched):
            with arrived.open("rb") as content:
                yield content
            self._keep(arrived, _key(origin, fetched), fetched, sha256)

    def forget(self, origin: Downloads, info: ObjectInfo) -> None:
        """Remove the entry of the object, whose content turned out to be wrong."""
        entry = self._find(_key(origin, info), info)
        if entry is not None:
            entry.file.unlink(missing_ok=True)
            self._used_bytes = None

    def make_room(self, wanted_bytes: int) -> int:
        """Remove entries, those not used for longest first, until that much is freed; return how much was.

        Pinned ones stay.
        """
        with self._turn:
            return self._make_room(wanted_bytes)

    def _make_room(self, wanted_bytes: int) -> int:
        freed_bytes = 0
        entries = sorted(self._entries(), key=lambda entry: (entry.used_ns, entry.file))
        for entry in entries:
            if freed_bytes >= wanted_bytes:
                break
            if entry.file.name.partition("-")[0] not in self._pinned:
                entry.file.unlink(missing_ok=True)
                freed_bytes += entry.size_bytes
        self._used_bytes = sum(entry.size_bytes for entry in entries) - freed_bytes
        return freed_bytes

    @contextmanager
    def _arrived(
        self, origin: Downloads, info: ObjectInfo, counter: ProgressCounter | None
    ) -> Iterator[tuple[Path, ObjectInfo]]:
        """The object, fetched into a file that is gone after the block unless it was moved."""
        folder = self._new_folder()
        watched: AbstractContextManager[None] = nullcontext()
        if counter is not None:
            watched = counter.arriving(info.path, folder, info.size_bytes)
        try:
            with watched:
                fetched = origin.download(info.path, folder / "object")
            yield folder / "object", fetched
        finally:
            shutil.rmtree(folder, ignore_errors=True)

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
        with self._turn:
            used_bytes = self._used_bytes if self._used_bytes is not None else self._measured()
            if used_bytes + info.size_bytes > self._limit_bytes:
                self._used_bytes = used_bytes = self._measured()  # other processes add and remove too
            missing_bytes = used_bytes + info.size_bytes - self._limit_bytes
            if missing_bytes > 0:
                if self._make_room(missing_bytes + int(self._limit_bytes * _ROOM_TO_SPARE)) < missing_bytes:
                    return  # all that is left is in use
                used_bytes = self._used_bytes or 0
            arrived.replace(file)
            self._used_bytes = used_bytes + info.size_bytes

    def _find(self, key: str, info: ObjectInfo) -> _Entry | None:
        for entry in self._entries_in(self._folder / key[:2], prefix=f"{key}-"):
            if _fits(entry, info):
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

    def _new_folder(self) -> Path:
        folder = self._folder / "tmp" / f"{os.getpid()}-{next(self._numbers)}-{id(self):x}"
        folder.mkdir(parents=True)
        return folder

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
                    shutil.rmtree(leftover, ignore_errors=True)
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


def _fits(entry: _Entry, info: ObjectInfo) -> bool:
    return entry.size_bytes == info.size_bytes and info.sha256 in (None, entry.sha256)


def _key(origin: Downloads, info: ObjectInfo) -> str:
    told = [origin.location, info.path, info.object_id, info.modified_at.isoformat(), info.size_bytes]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
