"""Where the root of a drill is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from driverun.runs.claim_log import RootObject
from driverun.runs.layout import CHECKPOINT_NAME, LEDGER, META, RUNS, attempt_of_path

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Audit(Protocol):
    """What a root looks like after a drill, and what the drill cost it."""

    @property
    def lines(self) -> tuple[str, ...]:
        """For people."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What should not be; empty where all is well."""

    @property
    def untidy(self) -> tuple[str, ...]:
        """Those faults that are left behind on the root ..."""

    @property
    def costly(self) -> tuple[str, ...]:
        """... and those that lie in what it cost."""


class Ground(Protocol):
    """A root of a drill's own."""

    @property
    def address(self) -> str:
        """What `--root` is to be."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a worker's environment needs beside."""

    def calm(self) -> AbstractContextManager[None]:
        """In the block nothing goes wrong on purpose, so that the drill itself can look."""

    def paths(self) -> Iterable[str]:
        """What lies there, seen without asking the root for it."""

    def objects(self) -> Iterable[RootObject]:
        """The ledger and all that attempts left, in the same way; lists that lag show nothing of that here."""

    def audit(self) -> Audit | None:
        """What is left behind, after the drill; None where there is nothing to tell."""


class LocalGround:
    """A folder of this machine."""

    environment: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def address(self) -> str:
        return str(self._folder)

    def calm(self) -> AbstractContextManager[None]:
        return nullcontext()

    def paths(self) -> Iterator[str]:
        for file in self._folder.glob("runs/*/*"):
            yield file.relative_to(self._folder).as_posix()

    def objects(self) -> Iterator[RootObject]:
        births = self._folder / META / "local" / "created"  # of what was replaced: see storage/local.py
        for file in (*self._folder.glob(f"{LEDGER}/*"), *self._folder.glob(f"{RUNS}/*/**/*")):
            path = file.relative_to(self._folder).as_posix()
            try:
                if file.is_dir():
                    continue
                written_ns = file.stat().st_mtime_ns
            except FileNotFoundError:  # it was there a moment ago
                continue
            try:
                created_ns = (births / path).stat().st_mtime_ns
            except FileNotFoundError:
                created_ns = written_ns
            yield RootObject(
                path=path, object_id=path, created_at=_time(created_ns), written_at=(_time(written_ns),)
            )

    def audit(self) -> Audit | None:
        return None


def _time(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)


def commits_by_attempt(paths: Iterable[str], run_id: str) -> dict[int, int]:
    """How many checkpoints each attempt at the run has there, by the attempt's number."""
    commits: dict[int, int] = {}
    for path in paths:
        key = attempt_of_path(path)
        if key is not None and key.run_id == run_id:
            is_checkpoint = CHECKPOINT_NAME.fullmatch(path.rpartition("/")[2]) is not None
            commits[key.number] = commits.get(key.number, 0) + is_checkpoint
    return commits
