"""A store that fails on purpose, at a chosen operation or at a chosen rate."""

from __future__ import annotations

import enum
import random as random_module
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from driverun.errors import StoreError
from driverun.execution.passing import PassingStore
from driverun.storage.base import ObjectStore

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


class FaultyStore(PassingStore):
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
        super().__init__(inner)
        self.operations: list[Operation] = []
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

    def _pass(self, operation: str, path: str, act: Callable[[], T]) -> T:
        name = "list" if operation == "news" else operation  # it is a listing: counted, and failed, as one
        with self._turn:
            self._raise_if_dead()
            before = Operation(number=len(self.operations) + 1, name=name, path=path, moment=Moment.BEFORE)
            self.operations.append(before)
        self._come_by(before)
        after = Operation(number=before.number, name=name, path=path, moment=Moment.AFTER)
        try:
            answer = act()
        except StoreError:
            self._die_at(after)  # a refusal is an answer too, and the dead do not hear it
            raise
        self._come_by(after)
        return answer

    def _come_by(self, operation: Operation) -> None:
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
