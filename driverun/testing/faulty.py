"""A store that fails on purpose, at a chosen operation or at a chosen rate."""

from __future__ import annotations

import enum
import random as random_module
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from driverun.errors import StoreError
from driverun.storage.base import FolderNews, ObjectInfo, ObjectStore, People, people_of

T = TypeVar("T")


class SimulatedDisconnect(BaseException):
    """The runtime is gone. Not an Exception, so that nothing which handles errors can outlive it."""


class Moment(enum.Enum):
    """On which side of an operation's work something happens."""

    BEFORE = "before"  #: nothing was done
    AFTER = "after"  #: the work is done, but the caller never hears of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of a store's method, as it passes one of its two moments."""

    number: int  #: from 1, in the order in which the calls came
    name: str  #: of the method
    path: str  #: "" where the method takes none
    moment: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """An error to be raised by some of the operations.

    Each operation that fits draws once; operations that do not fit draw nothing, so that a seed means the
    same whatever else happens.
    """

    error: Callable[[str], Exception]  #: makes the error from the operation's path
    operations: frozenset[str] | None = None  #: names of methods; None: all
    moment: Moment = Moment.BEFORE
    rate: float = 1.0  #: the probability that an operation which fits fails
    times: int | None = None  #: not more often than this; None: without end

    def fits(self, operation: Operation) -> bool:
        return self.moment is operation.moment and (
            self.operations is None or operation.name in self.operations
        )


class FaultyStore:
    """An ObjectStore that passes everything on to `inner`, until it is told to fail.

    Attributes:
        operations: every call so far, in the order in which they began; `crash_at` counts these.
    """

    def __init__(
        self,
        inner: ObjectStore,
        *,
        crash_at: int | None = None,
        crash_moment: Moment = Moment.BEFORE,
        injections: Sequence[Injection] = (),
        random: random_module.Random | None = None,
        on_operation: Callable[[Operation], None] | None = None,
    ) -> None:
        """Wrap `inner`.

        Args:
            crash_at: the number, from 1, of the operation that raises SimulatedDisconnect; every later one,
                and every one then under way in another thread, raises it too: the dead do nothing more.
            crash_moment: whether the operation `crash_at` is still carried out.
            injections: errors to raise; the first one that fits and whose draw succeeds is raised.
            random: for the draws of the injections; the default is seeded with 0.
            on_operation: called at both moments of every operation; it may kill the process.
        """
        self.operations: list[Operation] = []
        self._inner = inner
        self._crash_at = crash_at
        self._crash_moment = crash_moment
        self._injections = tuple(injections)
        self._injected = [0] * len(self._injections)
        self._random = random if random is not None else random_module.Random(0)
        self._on_operation = on_operation
        self._is_dead = False
        self._turn = threading.Lock()

    @property
    def is_dead(self) -> bool:
        return self._is_dead

    @property
    def listing_lag_s(self) -> float:
        return self._inner.listing_lag_s

    @property
    def location(self) -> str:
        return self._inner.location

    def people(self) -> People | None:
        return people_of(self._inner)

    def now(self) -> datetime:
        return self._run("now", "", self._inner.now)

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._run("create", path, lambda: self._inner.create(path, content, properties=properties))

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._run("replace", path, lambda: self._inner.replace(path, content, properties=properties))

    def read(self, path: str) -> bytes:
        return self._run("read", path, lambda: self._inner.read(path))

    def download(self, path: str, target: Path) -> ObjectInfo:
        return self._run("download", path, lambda: self._inner.download(path, target))

    def stat(self, path: str) -> ObjectInfo:
        return self._run("stat", path, lambda: self._inner.stat(path))

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        return self._run("list", folder, lambda: self._inner.list(folder, recursive=recursive, prefix=prefix))

    def news(self, folder: str, since: object = None) -> FolderNews:
        """Counted, and failed, as a listing: it is one."""
        return self._run("list", folder, lambda: self._inner.news(folder, since))

    def delete(self, path: str) -> None:
        return self._run("delete", path, lambda: self._inner.delete(path))

    def ensure_folder(self, path: str) -> None:
        return self._run("ensure_folder", path, lambda: self._inner.ensure_folder(path))

    def _run(self, name: str, path: str, work: Callable[[], T]) -> T:
        with self._turn:
            self._raise_if_dead()
            before = Operation(number=len(self.operations) + 1, name=name, path=path, moment=Moment.BEFORE)
            self.operations.append(before)
        self._pass(before)
        after = Operation(number=before.number, name=name, path=path, moment=Moment.AFTER)
        try:
            answer = work()
        except StoreError:
            self._die_at(after)  # a refusal is an answer too, and the dead do not hear it
            raise
        self._pass(after)
        return answer

    def _pass(self, operation: Operation) -> None:
        if self._on_operation is not None:
            self._on_operation(operation)
        self._die_at(operation)
        with self._turn:
            for index, injection in enumerate(self._injections):
                if not injection.fits(operation) or self._injected[index] == injection.times:
                    continue
                if self._random.random() < injection.rate:
                    self._injected[index] += 1
                    raise injection.error(operation.path)

    def _die_at(self, operation: Operation) -> None:
        with self._turn:
            if operation.number == self._crash_at and operation.moment is self._crash_moment:
                self._is_dead = True
            self._raise_if_dead()

    def _raise_if_dead(self) -> None:
        if self._is_dead:
            raise SimulatedDisconnect(f"the runtime is gone since store operation {self._crash_at}")
