"""A job's data brought from the root to its working folder, verified."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from driverun.errors import IntegrityError, JobError, ObjectNotFound
from driverun.runs.layout import META
from driverun.spec.model import Access, DataSource, JobSpec
from driverun.storage.base import ObjectInfo, ObjectStore, checked_path
from driverun.transfer.archives import Member, is_archive, unpack
from driverun.transfer.cache import DataCache
from driverun.transfer.checksums import copy_hashed, sha256_of
from driverun.transfer.progress import OnProgress, ProgressCounter, written_size

FreeBytes = Callable[[Path], int]

_FOLDER = "data"  #: of the working folder
_SPARE_BYTES = 64_000_000  #: left free: a job on a full disk cannot even say so


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedData:
    """One source as it lies in the working folder."""

    target: str  #: file or folder under data/ of the working folder
    size_bytes: int
    fingerprint: str  #: digest of all paths and contents
    files: Mapping[str, str]  #: path under data/ to sha256; empty: an optional source that is not there
    notes: tuple[str, ...] = ()  #: what a person should know


def sync_data(
    store: ObjectStore,
    source: DataSource,
    working_folder: Path,
    cache: DataCache,
    on_progress: OnProgress | None = None,
    *,
    free_bytes: FreeBytes | None = None,
) -> SyncedData:
    """Bring a source to `data/<target>` of the working folder; only what the cache has not is fetched.

    A file lands as `data/<target>`, a folder with all beneath it in that folder. A target that ends in "/" is
    a folder for a file too: an archive is unpacked into it, any other file is put there. What lies there
    already under the same names is replaced.

    The files are copies, not links to the cache: a job may write to its data, and as root, which it is on
    Colab, it could even where they were read-only; so a link would let one run spoil the next one's data.

    Args:
        free_bytes: asked for the room on a folder's disk, in place of the operating system.

    Raises:
        ObjectNotFound: the source is not there and not optional: the run waits for data.
        IntegrityError: bytes are not what the store promised.
        UnsafePath: an archive holds something that would land elsewhere.
        JobError: the disk has no room, or an archive is damaged.
    """
    free = free_bytes if free_bytes is not None else _free_bytes
    notes = []
    if source.access is Access.MOUNT:
        notes.append(f"{source.source}: this version cannot read it in place (access: mount); it was copied")
    objects = find_source(store, source.source)
    if not objects:
        if not source.optional:
            raise ObjectNotFound(
                f"cannot bring {source.source} to the job: {store.location} has no such file or folder. "
                f"Put it there: driverun upload LOCAL {source.source}",
                path=source.source,
            )
        notes.append(f"{source.source}: not there, and optional; the job runs without it")
        return SyncedData(
            target=source.target, size_bytes=0, fingerprint=fingerprint_of({}), files={}, notes=tuple(notes)
        )
    target = checked_path(source.target.removesuffix("/").removeprefix(f"{_FOLDER}/"))
    data_folder = working_folder / _FOLDER
    with _disk_errors(source.source, data_folder):
        data_folder.mkdir(parents=True, exist_ok=True)
        uses_cache = _require_room(store, source.source, objects, data_folder, cache, free)
        if not uses_cache:
            notes.append(f"{source.source}: the disk has no room for a second copy; the cache was left out")
        fetcher = _Fetcher(store, cache if uses_cache else None)
        total_bytes = sum(info.size_bytes for info in objects)
        counter = ProgressCounter(on_progress, total_files=len(objects), total_bytes=total_bytes)
        if [info.path for info in objects] == [source.source] and source.target.endswith("/"):
            (info,) = objects
            if is_archive(info.path):
                files, size_bytes = _unpacked(fetcher, info, data_folder, target, free)
                counter.add(info.path, info.size_bytes)
            else:
                name = info.path.rpartition("/")[2]
                files, size_bytes = _fetched(fetcher, {f"{target}/{name}": info}, data_folder, counter)
        else:
            landing = {target + info.path.removeprefix(source.source): info for info in objects}
            files, size_bytes = _fetched(fetcher, landing, data_folder, counter)
    return SyncedData(
        target=target,
        size_bytes=size_bytes,
        fingerprint=fingerprint_of(files),
        files=files,
        notes=tuple(notes),
    )


def find_source(store: ObjectStore, path: str) -> list[ObjectInfo]:
    """The object at `path`, or all in the folder there, sorted by path; empty where there is neither.

    What driverun keeps beside data (`.driverun/`) is left out.
    """
    try:
        return [store.stat(path)]
    except ObjectNotFound:
        return _below(store, path)


def missing_sources(store: ObjectStore, spec: JobSpec) -> list[str]:
    """The sources that the job cannot run without and the root has not, in the order of the spec.

    One look at each file; for a folder one or two listings more, without what is deep inside it.
    """
    return [
        source.source for source in spec.data if not source.optional and not _is_there(store, source.source)
    ]


def fingerprint_of(files: Mapping[str, str]) -> str:
    """One digest for paths with their sha256, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(files.items()), separators=(",", ":")).encode()).hexdigest()


def _is_there(store: ObjectStore, path: str) -> bool:
    try:
        store.stat(path)
    except ObjectNotFound:
        return bool(store.list(path)) or bool(_below(store, path))
    return True


def _below(store: ObjectStore, folder: str) -> list[ObjectInfo]:
    return [
        info
        for info in store.list(folder, recursive=True)
        if META not in info.path.removeprefix(f"{folder}/").split("/")
    ]


class _Fetcher:
    """Brings single objects, through the cache where one is used."""

    def __init__(self, store: ObjectStore, cache: DataCache | None) -> None:
        self._store = store
        self._cache = cache

    def fetch(self, info: ObjectInfo, target: Path) -> tuple[str, int]:
        """Write the object to `target`; return its sha256 and its size."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._cache is not None and self._cache.may_hold(info):
            sha256, fetched = self._cache.bring(self._store, info, target)
            return sha256, fetched.size_bytes
        with tempfile.TemporaryDirectory(prefix=".driverun-", dir=target.parent) as folder:
            arrived = Path(folder, "object")
            fetched = self._store.download(info.path, arrived)
            sha256 = sha256_of(arrived)
            if fetched.sha256 not in (None, sha256):
                raise IntegrityError(
                    f"cannot use {info.path}: {sha256[:12]}… arrived, the root promised "
                    f"{fetched.sha256[:12]}…. Try again."
                )
            arrived.replace(target)
        return sha256, fetched.size_bytes


def _fetched(
    fetcher: _Fetcher, landing: Mapping[str, ObjectInfo], data_folder: Path, counter: ProgressCounter
) -> tuple[dict[str, str], int]:
    files: dict[str, str] = {}
    total_bytes = 0
    for path, info in landing.items():
        files[path], size_bytes = fetcher.fetch(info, data_folder / path)
        total_bytes += size_bytes
        counter.add(info.path, size_bytes)
    return files, total_bytes


def _unpacked(
    fetcher: _Fetcher, info: ObjectInfo, data_folder: Path, target: str, free: FreeBytes
) -> tuple[dict[str, str], int]:
    files: dict[str, str] = {}
    sizes_bytes: list[int] = []

    def take(member: Member) -> None:
        _require(member.size_bytes, data_folder, free, what=f"{member.path} of {info.path}")
        path = f"{target}/{member.path}"
        place = data_folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as into:
            files[path], size_bytes = copy_hashed(member.content, into)
        sizes_bytes.append(size_bytes)

    with tempfile.TemporaryDirectory(prefix=".driverun-", dir=data_folder) as folder:
        archive = Path(folder, "archive")
        fetcher.fetch(info, archive)
        unpack(archive, name=info.path, take=take)
    return files, sum(sizes_bytes)


def _require_room(
    store: ObjectStore,
    source: str,
    objects: Sequence[ObjectInfo],
    data_folder: Path,
    cache: DataCache,
    free: FreeBytes,
) -> bool:
    """Whether there is room for the cache's copies too; entries not in use are given up for it.

    Raises:
        JobError: there is not even room for the job's own files.
    """
    wanted_bytes = sum(info.size_bytes for info in objects)
    cached = [info for info in objects if cache.holds(store, info)]
    known = {info.path for info in cached}
    uncached_bytes = sum(
        info.size_bytes for info in objects if info.path not in known and cache.may_hold(info)
    )
    cache_bytes = min(uncached_bytes, cache.limit_bytes)
    cache.folder.mkdir(parents=True, exist_ok=True)
    is_one_disk = cache.folder.stat().st_dev == data_folder.stat().st_dev
    if is_one_disk:
        missing_bytes = wanted_bytes + cache_bytes + _SPARE_BYTES - free(data_folder)
        if missing_bytes > 0:
            cache.make_room(missing_bytes, keep=(store, cached))
    _require(wanted_bytes, data_folder, free, what=source)
    left_bytes = free(cache.folder) - (wanted_bytes if is_one_disk else 0)
    return cache_bytes == 0 or left_bytes >= cache_bytes + _SPARE_BYTES


def _require(wanted_bytes: int, folder: Path, free: FreeBytes, *, what: str) -> None:
    free_now_bytes = free(folder)
    missing_bytes = wanted_bytes + _SPARE_BYTES - free_now_bytes
    if missing_bytes > 0:
        raise JobError(
            f"cannot bring {what} to {folder}: it has {written_size(wanted_bytes)}, the disk has "
            f"{written_size(free_now_bytes)} free, so {written_size(missing_bytes)} are missing "
            f"({written_size(_SPARE_BYTES)} stay free). Free space there, or use a machine with a larger "
            "disk."
        )


@contextmanager
def _disk_errors(source: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise
        raise JobError(
            f"cannot bring {source} to {folder}: {exc}. Free space there if the disk is full; if a file "
            "stands in the way of a folder, give the source another target."
        ) from exc


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
