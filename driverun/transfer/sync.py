"""A job's data brought to its working folder, verified."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from driverun.errors import IntegrityError, JobError, ObjectNotFound
from driverun.spec.model import Access, DataSource
from driverun.spec.sources import SourceKind, is_archive, kind_of, without_suffix
from driverun.storage.base import ObjectInfo, ObjectStore, checked_path
from driverun.transfer.archives import Member, unpack
from driverun.transfer.cache import DataCache
from driverun.transfer.checksums import copy_hashed, sha256_of
from driverun.transfer.mounts import MY_DRIVE, link_files, mount_fault, mounted_place
from driverun.transfer.origins import Origin, find_origin, find_source
from driverun.transfer.packing import Packable, ToPack
from driverun.transfer.packs import FEWEST_FILES, SMALL_BYTES, FetchPlan, ShardPlan, find_packs, plan_fetch
from driverun.transfer.parallel import for_each
from driverun.transfer.progress import OnProgress, ProgressCounter
from driverun.transfer.room import FreeBytes, disk_errors, free_bytes_of, require, require_room

__all__ = ["SyncedData", "find_source", "fingerprint_of", "sync_data"]

THREADS = 24  #: requests on their way at a time; each takes Drive some 150 ms, and it permits 200 a second
SHARD_THREADS = 4  #: large files at a time; more would only share the line
SLOW_FILE_S = 0.05  #: what a small file takes where packs are worth making; a local root takes a millisecond

_FOLDER = "data"  #: of the working folder

MountFault = Callable[[Mapping[Path, int]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedData:
    """One source as it lies in the working folder."""

    target: str  #: file or folder under data/ of the working folder; empty where there is none
    size_bytes: int
    fingerprint: str  #: digest of all paths and contents, however they arrived
    files: Mapping[str, str]  #: path under data/ to sha256; empty: an optional source that is not there
    notes: tuple[str, ...] = ()  #: what a person should know
    packable: Packable | None = field(
        default=None, compare=False
    )  #: what is worth packing for the next runtime


def sync_data(
    store: ObjectStore,
    source: DataSource,
    working_folder: Path,
    cache: DataCache,
    on_progress: OnProgress | None = None,
    *,
    free_bytes: FreeBytes = free_bytes_of,
    my_drive: Path = MY_DRIVE,
    fault_of_mount: MountFault = mount_fault,
) -> SyncedData:
    """Bring a source to `data/<target>` of the working folder; only what the cache has not is fetched.

    A file lands as `data/<target>`, a folder with all beneath it in that folder, an archive unpacked in that
    folder unless the source says otherwise. What lies there already under the same names is replaced. Many small
    files come in packs where there are such; the result is the same.

    The files are copies, not links to the cache: a job may write to its data, and as root, which it is on
    Colab, it could even where they were read-only; so a link would let one run spoil the next one's data. With
    `access: mount` they are links to the mount of Drive, if there is one that answers.

    Args:
        on_progress: is called from several threads, one at a time; what it raises ends the transfer.
        free_bytes: asked for the room on a folder's disk.
        my_drive: where a mount shows My Drive.
        fault_of_mount: asked whether files of the mount can be read.

    Raises:
        ObjectNotFound: the source is not there and not optional: the run waits for data.
        IntegrityError: bytes are not what was promised.
        UnsafePath: an archive holds something that would land elsewhere.
        UsageError: this root or this machine cannot open such a source.
        JobError: the disk has no room, an archive is damaged, or something lies where the source should land.
    """
    origin = find_origin(store, source.source, clock=cache.clock)
    if origin is None or not origin.files:
        return _absent(store, source)
    is_unpacked = not origin.is_folder and source.unpack is not False and is_archive(origin.name)
    data_folder = working_folder / _FOLDER
    target = _target(source, origin, data_folder, is_unpacked=is_unpacked)
    work = _Sync(origin, target, data_folder, cache, on_progress, free_bytes)
    if source.access is Access.MOUNT:
        mounted = work.mounted(store, my_drive, fault_of_mount, is_unpacked=is_unpacked)
        if mounted is not None:
            return mounted
    return work.copied(store, is_unpacked=is_unpacked)


def fingerprint_of(files: Mapping[str, str]) -> str:
    """One digest for paths with their sha256, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(files.items()), separators=(",", ":")).encode()).hexdigest()


def _absent(store: ObjectStore, source: DataSource) -> SyncedData:
    if source.optional:
        note = f"{source.source}: not there, and optional; the job runs without it"
        return SyncedData(
            target=source.target, size_bytes=0, fingerprint=fingerprint_of({}), files={}, notes=(note,)
        )
    match kind_of(source.source):
        case SourceKind.PATH:
            why = (
                f"{store.location} has no such file or folder. "
                f"Put it there: driverun upload LOCAL {source.source}"
            )
        case SourceKind.DRIVE:
            why = "Drive shows nothing there to the account of this root. Ask its owner to share it."
        case _:
            why = "nothing is there. See whether the address is right."
    raise ObjectNotFound(f"cannot bring {source.source} to the job: {why}", path=source.source)


def _target(source: DataSource, origin: Origin, data_folder: Path, *, is_unpacked: bool) -> str:
    if source.target:
        return checked_path(source.target)
    target = checked_path(without_suffix(origin.name) if is_unpacked else origin.name)
    if "/" in target or (data_folder / target).exists():
        raise JobError(
            f"cannot bring {source.source} to the job: it is called {origin.name!r} on Drive, which "
            f"{'no file here can be' if '/' in target else 'another source of the job is, too'}. Give it a "
            "target in the job file, such as target: train.csv"
        )
    return target


class _Sync:
    """One source on its way."""

    def __init__(
        self,
        origin: Origin,
        target: str,
        data_folder: Path,
        cache: DataCache,
        on_progress: OnProgress | None,
        free: FreeBytes,
    ) -> None:
        self._origin = origin
        self._target = target
        self._data_folder = data_folder
        self._cache = cache
        self._free = free
        self._notes: list[str] = []
        self._files: dict[str, str] = {}
        self._size_bytes = 0
        self._uses_cache = True
        self._held: set[str] = set()  # paths of the files in the cache
        self._lasted_s: list[float] = []  # each small file that was fetched by itself
        self._missed: list[ObjectInfo] = []  # what a shard promised and did not hold
        self._turn = threading.Lock()
        self._by_path = {info.path: info for info in origin.files}
        self._landing = {
            info.path: f"{target}/{origin.inside(info)}" if origin.is_folder else target
            for info in origin.files
        }
        self._counter = ProgressCounter(
            on_progress,
            total_files=len(origin.files),
            total_bytes=sum(info.size_bytes for info in origin.files),
            clock=cache.clock,
        )

    def mounted(
        self, store: ObjectStore, my_drive: Path, fault_of_mount: MountFault, *, is_unpacked: bool
    ) -> SyncedData | None:
        """The source as links to the mount; None, and a note why, where it has to be copied."""
        source = self._origin.source
        place = None
        if kind_of(source) is SourceKind.PATH:
            place = mounted_place(store.location, source, my_drive)
        why = None
        if place is None:
            why = "is not in a mounted Drive here"
        elif is_unpacked:
            why = "is an archive, which has to be unpacked"
        elif any(info.sha256 is None for info in self._origin.files):
            why = "has files without a checksum on Drive, of which only a copy can be verified"
        places = {
            info.path: place / self._origin.inside(info) if self._origin.is_folder else place
            for info in self._origin.files
            if place is not None
        }
        if why is None:
            fault = fault_of_mount({places[info.path]: info.size_bytes for info in self._origin.files})
            why = f"cannot be read in place ({fault})" if fault is not None else None
        if why is not None:
            self._notes.append(f"{source}: access: mount is not possible, it {why}; it is copied")
            return None
        with disk_errors(source, self._data_folder):
            link_files({self._landing[path]: at for path, at in places.items()}, self._data_folder)
        for info in self._origin.files:
            assert info.sha256 is not None, "asked above"
            self._done(info, info.sha256, info.size_bytes)
        self._notes.append(f"{source}: read in place from {place}; the job has to leave it as it is")
        return self._synced()

    def copied(self, store: ObjectStore, *, is_unpacked: bool) -> SyncedData:
        """The source as copies."""
        origin, cache = self._origin, self._cache
        with disk_errors(origin.source, self._data_folder), cache.pinned(origin.downloads, origin.files):
            self._data_folder.mkdir(parents=True, exist_ok=True)
            self._held = cache.held(origin.downloads, origin.files)
            self._uses_cache = require_room(origin, self._data_folder, cache, self._free, held=self._held)
            if not self._uses_cache:
                self._notes.append(
                    f"{origin.source}: the disk has no room for a second copy; the cache was left out"
                )
            with self._counter.watching():
                if is_unpacked:
                    self._unpack()
                    return self._synced()
                plan = self._plan(store, self._held if self._uses_cache else set())
                for_each(plan.shards, lambda shard: self._take(store, shard), threads=SHARD_THREADS)
                # The largest first, so that none of them is begun when all others are done.
                single = sorted([*plan.single, *self._missed], key=lambda info: -info.size_bytes)
                for_each(single, self._fetch, threads=THREADS)
        return self._synced(self._packable(plan))

    def _plan(self, store: ObjectStore, held: set[str]) -> FetchPlan:
        """Look for packs only where there is enough to be gained, and room for the shards."""
        files = self._origin.files
        small = [info for info in files if info.size_bytes <= SMALL_BYTES and info.path not in held]
        is_worth_looking = len(small) >= FEWEST_FILES and self._uses_cache
        found = find_packs(store, self._origin.source)[0] if is_worth_looking else []
        return plan_fetch(files, held=held, found=found)

    def _take(self, store: ObjectStore, shard: ShardPlan) -> None:
        """Bring the files of a shard; those that it does not hold as promised are left to be fetched singly."""
        taken: set[str] = set()
        try:
            with self._cache.opened(store, shard.info, shard.sha256) as content:
                for member in shard.members:
                    content.seek(member.offset)
                    whole = content.read(member.size_bytes)
                    if sha256_of(whole) != member.sha256:
                        raise IntegrityError(f"cannot use {shard.info.path}: it is damaged")
                    place = self._data_folder / self._landing[member.path]
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(whole)
                    taken.add(member.path)
                    self._done(self._by_path[member.path], member.sha256, len(whole))
        except ObjectNotFound:
            pass  # cleared away a moment ago
        except IntegrityError:  # the files themselves are the truth
            self._cache.forget(store, shard.info)
        with self._turn:
            self._missed += [
                self._by_path[member.path] for member in shard.members if member.path not in taken
            ]

    def _fetch(self, info: ObjectInfo) -> None:
        began_s = self._cache.clock.monotonic()
        sha256, size_bytes = self._bring(info, self._data_folder / self._landing[info.path])
        if info.path not in self._held and info.size_bytes <= SMALL_BYTES:
            self._lasted_s.append(self._cache.clock.monotonic() - began_s)
        self._done(info, sha256, size_bytes)

    def _bring(self, info: ObjectInfo, place: Path) -> tuple[str, int]:
        """Write the object to `place`, through the cache where one is used; return its sha256 and its size."""
        place.parent.mkdir(parents=True, exist_ok=True)
        downloads = self._origin.downloads
        if self._uses_cache and self._cache.may_hold(info):
            sha256, fetched = self._cache.bring(downloads, info, place, self._counter)
            return sha256, fetched.size_bytes
        with tempfile.TemporaryDirectory(prefix=".driverun-", dir=place.parent) as folder:
            arrived = Path(folder, "object")
            with self._counter.arriving(info.path, Path(folder), info.size_bytes):
                fetched = downloads.download(info.path, arrived)
            sha256, size_bytes = sha256_of(arrived), arrived.stat().st_size
            if fetched.sha256 not in (None, sha256):
                raise IntegrityError(
                    f"cannot use {info.path}: {sha256[:12]}… arrived, {fetched.sha256[:12]}… was promised. Try "
                    "again."
                )
            arrived.replace(place)
        return sha256, size_bytes

    def _unpack(self) -> None:
        """Bring the archive and open it in the target's folder."""
        (info,) = self._origin.files

        def take(member: Member) -> None:
            require(
                member.size_bytes,
                self._data_folder,
                self._free,
                what=f"{member.path} of {self._origin.source}",
            )
            path = f"{self._target}/{member.path}"
            place = self._data_folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as into:
                self._files[path], size_bytes = copy_hashed(member.content, into)
            self._size_bytes += size_bytes

        with tempfile.TemporaryDirectory(prefix=".driverun-", dir=self._data_folder) as folder:
            archive = Path(folder, "archive")
            _, size_bytes = self._bring(info, archive)
            unpack(archive, name=self._origin.name, take=take)
        self._counter.add(info.path, size_bytes)

    def _done(self, info: ObjectInfo, sha256: str, size_bytes: int) -> None:
        with self._turn:
            self._files[self._landing[info.path]] = sha256
            self._size_bytes += size_bytes
        self._counter.add(info.path, size_bytes)

    def _packable(self, plan: FetchPlan) -> Packable | None:
        """What the next runtime would be glad to find packed: nothing where files came quickly, or were few."""
        lasted_s = self._lasted_s
        if len(lasted_s) < FEWEST_FILES or sum(lasted_s) / len(lasted_s) < SLOW_FILE_S:
            return None
        to_pack = [
            ToPack(
                info=info,
                place=self._data_folder / self._landing[info.path],
                sha256=self._files[self._landing[info.path]],
            )
            for info in plan.unpacked
        ]
        return Packable(source=self._origin.source, files=self._origin.files, to_pack=to_pack)

    def _synced(self, packable: Packable | None = None) -> SyncedData:
        return SyncedData(
            target=self._target,
            size_bytes=self._size_bytes,
            fingerprint=fingerprint_of(self._files),
            files=dict(sorted(self._files.items())),
            notes=tuple(self._notes),
            packable=packable,
        )
