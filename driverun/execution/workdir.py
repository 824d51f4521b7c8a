"""Local folders of attempts: made, held by a lock while in use, swept when their process is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from driverun.errors import SpoolError
from driverun.runs.layout import AttemptKey
from driverun.spool.folder import SpoolFolder

SHARED_MEMORY = Path("/dev/shm")
LOCK = "in-use.lock"
LOCK_TRIES = 1000  #: against those that only look; well below a second in all


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFolders:
    """Where one attempt works on this machine."""

    spool: SpoolFolder
    work: Path  #: the job's working folder
    buffers: Path  #: for snapshots, on disk
    memory: Path | None  #: for snapshots that are small; None where the machine has no such place
    scratch: Path  #: for packs on their way

    @property
    def packages(self) -> Path:
        """Where the packages that the job asks for are installed."""
        return self.work.parent / "packages"


class Workdir:
    """The folder of local work of all workers of a person on this machine."""

    def __init__(self, path: Path, *, shared_memory: Path = SHARED_MEMORY) -> None:
        self._path = path.absolute()  # the training process starts in a folder of its own
        self._memory = shared_memory / f"driverun-{os.getuid()}"
        self._has_memory = shared_memory.is_dir() and os.access(shared_memory, os.W_OK)

    @property
    def path(self) -> Path:
        return self._path

    @property
    def cache(self) -> Path:
        return self._path / "cache"

    def sweep(self) -> list[Path]:
        """Remove what attempts of dead processes left behind; gives what was removed."""
        removed = []
        for parent in (self._path / "attempts", self._memory):
            for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
                if _sweep(folder):
                    removed.append(folder)
        return removed

    @contextmanager
    def attempt(self, key: AttemptKey) -> Iterator[AttemptFolders]:
        """Make the folders of the attempt, hold them, and remove them afterwards.

        Raises:
            SpoolError: another process holds them.
        """
        base = self._path / "attempts" / str(key)
        memory = self._memory / str(key) if self._has_memory else None
        with _held(base), _held(memory):
            folders = AttemptFolders(
                spool=SpoolFolder(path=base / "spool"),
                work=base / "work",
                buffers=base / "buffers",
                memory=memory,
                scratch=base / "scratch",
            )
            folders.spool.make()
            folders.work.mkdir(exist_ok=True)
            folders.scratch.mkdir(exist_ok=True)
            try:
                yield folders
            finally:
                for folder in (base, memory):
                    if folder is not None:
                        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path | None) -> Iterator[None]:
    """Make the folder and hold its lock.

    Somebody who sweeps may look at the lock at the same moment, or take the folder away before it is locked: all
    workers of a machine keep snapshots below one folder. So it is tried again; such a look takes no time.
    """
    if folder is None:
        yield
        return
    with _locked(folder):
        yield


def _locked(folder: Path) -> IO[bytes]:
    """The lock file of the folder, made where it is not there, and locked until it is closed."""
    for _ in range(LOCK_TRIES):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError), ExitStack() as opened:
            lock = opened.enter_context(open(folder / LOCK, "ab"))
            if _lock(lock, folder):
                opened.pop_all()
                return lock
        os.sched_yield()
    raise SpoolError(
        f"cannot use {folder}: another driverun process is at work there. Give this worker a DRIVERUN_WORKDIR"
        " of its own."
    )


def _lock(lock: IO[bytes], folder: Path) -> bool:
    """Lock the file; False: another process has it, or it is not that of the folder any more."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat())


def _sweep(folder: Path) -> bool:
    """Remove the folder unless a process is at work there; gives whether it was removed.

    It gets another name while its lock is held: whoever is about to use it finds it whole, or not at all.
    """
    swept = folder.with_name(f"{folder.name}.swept-{os.getpid()}")
    try:
        with open(folder / LOCK, "rb") as lock:
            if not _lock(lock, folder):
                return False
            folder.rename(swept)
    except OSError:
        with suppress(OSError):
            folder.rmdir()  # empty: its process died before it came to the lock, or makes it once more
        return False
    shutil.rmtree(swept, ignore_errors=True)
    return True


def is_free(folder: Path) -> bool:
    """Whether no process is at work in the folder of an attempt."""
    with suppress(OSError), open(folder / LOCK, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return folder.is_dir()
