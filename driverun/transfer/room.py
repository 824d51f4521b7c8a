"""Room on the local disk, asked for before anything is fetched."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from driverun.errors import DiskFull, JobError
from driverun.transfer.cache import DataCache
from driverun.transfer.origins import Origin
from driverun.transfer.progress import written_size

FreeBytes = Callable[[Path], int]

SPARE_BYTES = 64_000_000  #: left free: a job on a full disk cannot even say so


def free_bytes_of(folder: Path) -> int:
    """What the operating system says is free on the folder's disk."""
    return shutil.disk_usage(folder).free


def require_room(
    origin: Origin, data_folder: Path, cache: DataCache, free: FreeBytes, *, held: set[str]
) -> bool:
    """Whether there is room for the cache's copies too; entries not in use are given up for it.

    Args:
        held: paths of the files that the cache has.

    Raises:
        DiskFull: there is not even room for the job's own files.
    """
    wanted_bytes = sum(info.size_bytes for info in origin.files)
    uncached_bytes = sum(
        info.size_bytes for info in origin.files if info.path not in held and cache.may_hold(info)
    )
    cache_bytes = min(uncached_bytes, cache.limit_bytes)
    cache.folder.mkdir(parents=True, exist_ok=True)
    is_one_disk = cache.folder.stat().st_dev == data_folder.stat().st_dev
    if is_one_disk:
        missing_bytes = wanted_bytes + cache_bytes + SPARE_BYTES - free(data_folder)
        if missing_bytes > 0:
            cache.make_room(missing_bytes)
    require(wanted_bytes, data_folder, free, what=origin.source)
    left_bytes = free(cache.folder) - (wanted_bytes if is_one_disk else 0)
    return cache_bytes == 0 or left_bytes >= cache_bytes + SPARE_BYTES


def require(wanted_bytes: int, folder: Path, free: FreeBytes, *, what: str) -> None:
    """See to it that the disk of `folder` takes that much and has some left. Raises DiskFull."""
    free_now_bytes = free(folder)
    missing_bytes = wanted_bytes + SPARE_BYTES - free_now_bytes
    if missing_bytes > 0:
        raise DiskFull(
            f"cannot bring {what} to {folder}: it has {written_size(wanted_bytes)}, the disk has "
            f"{written_size(free_now_bytes)} free, so {written_size(missing_bytes)} are missing "
            f"({written_size(SPARE_BYTES)} stay free). Free space there, or use a machine with a larger "
            "disk."
        )


@contextmanager
def disk_errors(source: str, folder: Path) -> Iterator[None]:
    """Says in plain words that a disk ran full, or that something stands in the way."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise
        error = DiskFull if exc.errno in (errno.ENOSPC, errno.EDQUOT) else JobError
        raise error(
            f"cannot bring {source} to {folder}: {exc}. Free space there if the disk is full; if a file "
            "stands in the way of a folder, give the source another target."
        ) from exc
