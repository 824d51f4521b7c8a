"""A root in a folder of this machine.

    <root>/...                          the objects, one file each
    <root>/.driverun/local/lock         makes stamping and showing an object one step (stamps.py)
                           tmp/...      files while they are written; of dead writers, swept after a day
                           created/...  for each object that was replaced, an empty file whose mtime is when
                                        the object was created; its own mtime is when it was replaced

All times are mtimes, which `cp -a` and `rsync -a` carry over.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from driverun.clock import Clock, SystemClock
from driverun.errors import (
    DriverunError,
    IntegrityError,
    StoreAccessDenied,
    UnsafePath,
    UsageError,
)
from driverun.storage.base import FolderNews, ObjectInfo
from driverun.storage.drivefs import drivefs_root
from driverun.storage.names import portable_path
from driverun.storage.news import news_by_comparing
from driverun.storage.oserrors import store_errors
from driverun.storage.stamps import StampLock, Turn

_PRIVATE = ".driverun/local"
_CHUNK_BYTES = 1 << 20
_LEFTOVER_AGE_S = 24 * 3600.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What link(2) answers where a filesystem has no hard links: FAT says EPERM, network and FUSE mounts another.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A file under tmp/ that holds an object's whole content, on the disk."""

    file: Path
    sha256: str


class LocalStore:
    """An ObjectStore in a folder, which many threads and processes may use at once.

    Content is on the disk (fsync) when a call returns. Faults of files that are not on the root, the
    `content` of `create` and the `target` of `download`, are raised as the OSError that they are.
    """

    def __init__(
        self, root: Path, *, clock: Clock | None = None, time_ns: Callable[[], int] | None = None
    ) -> None:
        """Open the folder `root`, which is made by the first creation if it is missing.

        Args:
            clock: waits for other writers; the machine's own by default.
            time_ns: asked for the time in place of the filesystem, in nanoseconds since 1970; for tests.

        Raises:
            UsageError: `root` is a file, or lies in a mount of Google Drive.
        """
        self._location = str(root)
        self._root = Path(os.path.realpath(root))
        self._refuse_what_is_no_folder()
        self._private = self._root / _PRIVATE
        clock = clock if clock is not None else SystemClock()
        self._unasked_now = clock.now if time_ns is None else lambda: _time(time_ns())
        self._lock = StampLock(self._private / "lock", clock=clock, time_ns=time_ns)
        self._temp_numbers = itertools.count()
        self._unusable_names: set[str] = set()
        self._sweep_leftovers()

    @property
    def listing_lag_s(self) -> float:
        return 0.0

    @property
    def location(self) -> str:
        return self._location

    def now(self) -> datetime:
        """The filesystem's clock; this machine's where there is no root yet, or one that is read-only."""
        if self._root.is_dir():
            # Who cannot write to a root decides nothing on it.
            with (
                contextlib.suppress(StoreAccessDenied),
                self._errors("read the time of"),
                self._lock.turn() as turn,
            ):
                return _time(turn.now_ns())
        return self._unasked_now()

    def create(
        self,
        path: str,
        content: bytes | Path,
        *,
        properties: Mapping[str, str] | None = None,  # noqa: ARG002 - a folder keeps none
    ) -> ObjectInfo:
        final = self._place(path, follow=False)
        with self._errors("create", path):
            if os.path.lexists(final):  # asked here too, before gigabytes are copied
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            _make_folder(final.parent)
        with self._written("create", path, content) as written:
            with self._errors("create", path), self._lock.turn() as turn:
                status = _stamp(written.file, turn)
                self._forget_birth(path)  # of one that a person removed by hand
                _show(written.file, final)
            with self._errors("create", path):
                _sync_folder(final.parent)
        return _info(path, status, created_ns=None, sha256=written.sha256)

    def replace(
        self,
        path: str,
        content: bytes | Path,
        *,
        properties: Mapping[str, str] | None = None,  # noqa: ARG002 - a folder keeps none
    ) -> ObjectInfo:
        final = self._place(path, follow=False)
        with self._errors("replace", path):
            _status_of_file(final)
        with self._written("replace", path, content) as written:
            with self._errors("replace", path), self._lock.turn() as turn:
                created_ns = self._keep_birth(path, final)
                status = _stamp(written.file, turn)
                written.file.replace(final)
            with self._errors("replace", path):
                _sync_folder(final.parent)
        return _info(path, status, created_ns=created_ns, sha256=written.sha256)

    def read(self, path: str) -> bytes:
        place = self._place(path, follow=True)
        with self._errors("read", path):
            return place.read_bytes()

    def download(self, path: str, target: Path) -> ObjectInfo:
        place = self._place(path, follow=True)
        with contextlib.ExitStack() as cleanup:
            with self._errors("download", path):
                source = cleanup.enter_context(place.open("rb"))
                status = os.fstat(source.fileno())
                created_ns = self._created_ns(path)
            part, out = self._new_file(target.parent, prefix=".driverun-", suffix=".part")
            cleanup.callback(part.unlink, missing_ok=True)
            digest, size_bytes = hashlib.sha256(), 0
            with out:
                while True:
                    with self._errors("download", path):
                        chunk = source.read(_CHUNK_BYTES)
                    if not chunk:
                        break
                    digest.update(chunk)
                    _write_all(out, chunk)
                    size_bytes += len(chunk)
            if size_bytes != status.st_size or os.fstat(source.fileno()).st_mtime_ns != status.st_mtime_ns:
                raise IntegrityError(
                    f"cannot download {path} from {self._location}: it changed while it was read. "
                    "Wait until whoever writes it is done, then try again."
                )
            part.replace(target)
        return _info(path, status, created_ns=created_ns, sha256=digest.hexdigest())

    def stat(self, path: str) -> ObjectInfo:
        place = self._place(path, follow=True)
        with self._errors("look at", path):
            status = _status_of_file(place)
            return _info(path, status, created_ns=self._created_ns(path))

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        """As the seam says; a link that leaves the root is listed, so that whoever reads it is told."""
        top = self._place(folder, follow=True) if folder else self._root
        begin = f"{folder}/{prefix}" if folder else prefix
        found = self._scan(top, folder, recursive=recursive, above=frozenset(), begin=begin)
        return sorted(found, key=lambda each: each.path)

    def news(self, folder: str, since: object = None) -> FolderNews:
        return news_by_comparing(self.list(folder), since)

    def delete(self, path: str) -> None:
        final = self._place(path, follow=False)
        with self._errors("delete", path):
            if final.is_dir() and not final.is_symlink():
                return
            try:
                final.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            self._forget_birth(path)
            _sync_folder(final.parent)

    def ensure_folder(self, path: str) -> None:
        place = self._place(path, follow=True)
        with self._errors("make", path):
            _make_folder(place)

    def _errors(self, action: str, path: str = "") -> contextlib.AbstractContextManager[None]:
        return store_errors(action, path, self._location)

    def _refuse_what_is_no_folder(self) -> None:
        if form := drivefs_root(str(self._root), _mounts()):
            raise UsageError(
                f"cannot use {self._location} as a root: it lies in a mount of Google Drive, which may "
                f"upload a checkpoint's manifest before its data, or never. Use {form}"
            )
        if self._root.exists() and not self._root.is_dir():
            raise UsageError(f"cannot use {self._location} as a root: it is a file; name a folder")

    def _place(self, path: str, *, follow: bool) -> Path:
        """The file for `path`.

        Args:
            follow: whether the last part may be a symbolic link that will be followed.

        Raises:
            UnsafePath: it is, or would be, outside the root or among the store's own files.
        """
        if f"{portable_path(path)}/".startswith(f"{_PRIVATE}/"):
            raise UnsafePath(f"cannot use {path}: {_PRIVATE} is the store's own; choose another name")
        place = self._root / path
        resolved = Path(os.path.realpath(place if follow else place.parent))
        if not resolved.is_relative_to(self._root):
            raise UnsafePath(
                f"cannot use {path}: a symbolic link leads out of {self._location}, to {resolved}. "
                "Put a copy in its place, or use `driverun upload`."
            )
        return place

    def _new_file(self, folder: Path, *, prefix: str = "", suffix: str = "") -> tuple[Path, io.FileIO]:
        """A file that no other writer has, opened for writing; unbuffered, so that closing it cannot fail."""
        while True:
            file = folder / f"{prefix}{os.getpid()}-{next(self._temp_numbers)}{suffix}"
            with contextlib.suppress(FileExistsError):  # from an earlier process or another machine
                return file, file.open("xb", buffering=0)

    @contextlib.contextmanager
    def _written(self, action: str, path: str, content: bytes | Path) -> Iterator[_Written]:
        """A file with `content` in tmp/, gone after the block."""
        with contextlib.ExitStack() as cleanup:
            source: IO[bytes] = cleanup.enter_context(
                io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
            )
            with self._errors(action, path):
                _make_folder(self._private / "tmp")
                file, out = self._new_file(self._private / "tmp")
            cleanup.callback(file.unlink, missing_ok=True)
            digest = hashlib.sha256()
            with out:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    with self._errors(action, path):
                        _write_all(out, chunk)
                with self._errors(action, path):
                    os.fsync(out.fileno())
            yield _Written(file=file, sha256=digest.hexdigest())

    def _birth_file(self, path: str) -> Path:
        return self._private / "created" / path

    def _forget_birth(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._birth_file(path).unlink()

    def _created_ns(self, path: str) -> int | None:
        """When the object was created, if it was replaced since; ask only after its own mtime is known."""
        try:
            return self._birth_file(path).stat().st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _keep_birth(self, path: str, final: Path) -> int:
        """Write down when `final` was created, unless an earlier replacement did; before it is replaced."""
        known_ns = self._created_ns(path)
        if known_ns is not None:
            return known_ns
        created_ns = _status_of_file(final).st_mtime_ns
        birth = self._birth_file(path)
        _make_folder(birth.parent)
        file, out = self._new_file(self._private / "tmp")
        out.close()
        os.utime(file, ns=(created_ns, created_ns))
        file.replace(birth)
        _sync_folder(birth.parent)
        return created_ns

    def _scan(
        self,
        place: Path,
        folder: str,
        *,
        recursive: bool,
        above: frozenset[tuple[int, int]],
        begin: str,
    ) -> Iterator[ObjectInfo]:
        """The objects in `place`, which is `folder` on the root; what vanishes meanwhile is left out.

        Args:
            above: device and inode of the folders on the way here; a link back to one of them is not entered.
            begin: of the paths that are wanted.
        """
        files: dict[str, os.stat_result] = {}
        folders: dict[str, Path] = {}
        with self._errors("list", folder):
            try:
                above |= {_identity(place.stat())}
                with os.scandir(place) as scanned:
                    entries = sorted(scanned, key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                return
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not (path.startswith(begin) or begin.startswith(f"{path}/")):
                    continue
                status = self._entry_status(entry)
                if status is None or path == _PRIVATE or not self._is_usable(path):
                    continue
                if stat.S_ISDIR(status.st_mode):
                    if recursive and _identity(status) not in above:
                        folders[path] = Path(entry.path)
                elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    files[path] = status
            births = self._births(folder)  # after the files' own times, see _created_ns
        for path, status in files.items():
            yield _info(path, status, created_ns=births.get(path))
        for path, below in folders.items():
            yield from self._scan(below, path, recursive=True, above=above, begin=begin)

    def _entry_status(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Of what the entry leads to; of the link itself where that leaves the root; None for nothing."""
        try:
            if not entry.is_symlink():
                return entry.stat(follow_symlinks=False)
            resolved = Path(os.path.realpath(entry.path))
            return (
                resolved.stat() if resolved.is_relative_to(self._root) else entry.stat(follow_symlinks=False)
            )
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def _births(self, folder: str) -> dict[str, int]:
        """By path, when the replaced objects in `folder` were created."""
        births: dict[str, int] = {}
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self._birth_file(folder)) as entries,
        ):
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    births[f"{folder}/{entry.name}" if folder else entry.name] = entry.stat().st_mtime_ns
        return births

    def _is_usable(self, path: str) -> bool:
        """Whether the file can be an object; where not, a person is told once."""
        try:
            portable_path(path)
        except UnsafePath as exc:
            if path not in self._unusable_names:
                self._unusable_names.add(path)
                _log.warning("a file in %s is left out: %s", self._location, exc)
            return False
        return True

    def _sweep_leftovers(self) -> None:
        """Remove what dead writers left. It is no harm if that fails: the next opening tries again."""
        with contextlib.suppress(OSError, DriverunError):
            leftovers = list((self._private / "tmp").iterdir())
            oldest_ns = _nanoseconds(self.now() - timedelta(seconds=_LEFTOVER_AGE_S)) if leftovers else 0
            for leftover in leftovers:
                if leftover.stat().st_mtime_ns < oldest_ns:
                    leftover.unlink(missing_ok=True)


def _write_all(out: io.FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[out.write(rest) :]


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(errors="replace")
    except OSError:  # not Linux
        return ""


def _make_folder(folder: Path) -> None:
    """Make `folder` and its parents where they are missing, on the disk.

    Raises:
        FileExistsError: one of them is a file.
    """
    missing = list(itertools.takewhile(lambda each: not each.is_dir(), (folder, *folder.parents)))
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    """Put the names in `folder` on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):  # a filesystem that syncs no folders
            raise
    finally:
        os.close(descriptor)


def _stamp(file: Path, turn: Turn) -> os.stat_result:
    stamp_ns = turn.next_stamp_ns()
    os.utime(file, ns=(stamp_ns, stamp_ns))
    return file.stat()  # read back: a coarse filesystem rounds it down, which keeps the order


def _show(written: Path, final: Path) -> None:
    """Make `written` visible as `final`, whole. The caller holds the lock.

    Raises:
        FileExistsError: there is something.
    """
    try:
        os.link(written, final)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        # Every creator holds the lock, so between the question and the renaming none can come.
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from exc
        written.rename(final)


def _status_of_file(file: Path) -> os.stat_result:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "it is a folder or a device")
    return status


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _info(
    path: str, status: os.stat_result, *, created_ns: int | None, sha256: str | None = None
) -> ObjectInfo:
    return ObjectInfo(
        path=path,
        object_id=f"file:{path}",  # names are never reused
        size_bytes=status.st_size,
        created_at=_time(status.st_mtime_ns if created_ns is None else created_ns),
        modified_at=_time(status.st_mtime_ns),
        sha256=sha256,
        properties=None,
    )


def _time(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _nanoseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000
