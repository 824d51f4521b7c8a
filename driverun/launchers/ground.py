"""Where the root of a drill is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from driverun.runs.layout import CHECKPOINT_NAME, attempt_of_path


class Audit(Protocol):
    """What a root looks like after a drill, and what the drill cost it."""

    @property
    def lines(self) -> tuple[str, ...]:
        """For people."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What should not be; empty where all is well."""


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

    def audit(self) -> Audit | None:
        return None


def commits_by_attempt(paths: Iterable[str], run_id: str) -> dict[int, int]:
    """How many checkpoints each attempt at the run has there, by the attempt's number."""
    commits: dict[int, int] = {}
    for path in paths:
        key = attempt_of_path(path)
        if key is not None and key.run_id == run_id:
            is_checkpoint = CHECKPOINT_NAME.fullmatch(path.rpartition("/")[2]) is not None
            commits[key.number] = commits.get(key.number, 0) + is_checkpoint
    return commits
