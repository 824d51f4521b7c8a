"""Local folders of attempts: made, held by a lock while in use, swept when their process is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from driverun.errors import SpoolError
from driverun.runs.layout import AttemptKey
from driverun.spool.folder import SpoolFolder

SHARED_MEMORY = Path("/dev/shm")
LOCK = "in-use.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFolders:
    """Where one attempt works on this machine."""

    spool: SpoolFolder
    work: Path  #: the job's working folder
    buffers: Path  #: for snapshots, on disk
    memory: Path | None  #: for snapshots that are small; None where the machine has no such place
    scratch: Path  #: for packs on their way


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
                if is_free(folder):
                    shutil.rmtree(folder, ignore_errors=True)
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
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(folder / LOCK, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise SpoolError(
                f"cannot use {folder}: another driverun process is at work there. Give this worker a DRIVERUN_WORKDIR"
                " of its own."
            ) from exc
        yield


def is_free(folder: Path) -> bool:
    """Whether no process is at work in the folder of an attempt."""
    with suppress(OSError), open(folder / LOCK, "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return folder.is_dir()
