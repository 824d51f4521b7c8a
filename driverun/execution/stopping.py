"""What ends waits, and in the end requests, once somebody has asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from driverun.clock import Clock
from driverun.execution.context import StopSignal, WorkerContext
from driverun.execution.passing import PassingStore
from driverun.execution.tasks import NotWaitedFor
from driverun.storage.base import LinkedItem, ObjectStore, OpensLinks

T = TypeVar("T")

SHORT_S = 1.0  #: sleeps up to here are not worth breaking off
SHORTEST_S = 0.001  #: what is left by rounding may be less than a tick of the clock, which then stood still
SLICE_S = 0.5  #: between two looks whether somebody has asked


class StopAsked(Exception):
    """Somebody asked to stop while it was waited for something that takes its time."""


class Abandoned(Exception):
    """A person asked twice: nothing more is to be asked of the root."""


class StoppableClock:
    """A Clock whose longer sleeps end with StopAsked as soon as somebody asks to stop."""

    def __init__(self, clock: Clock, stop: StopSignal) -> None:
        self._clock = clock
        self._stop = stop

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """As Clock has it. Raises StopAsked."""
        if not rest(self._clock, seconds, unless=lambda: self._stop.stop is not None):
            raise StopAsked


def rest(clock: Clock, seconds: float, *, unless: Callable[[], bool]) -> bool:
    """Sleep so long, or until `unless` says so; gives whether it was the whole time."""
    if seconds <= SHORT_S:
        clock.sleep(seconds)
        return True
    end_s = clock.monotonic() + seconds
    while (left_s := end_s - clock.monotonic()) > 0:
        if unless():
            return False
        clock.sleep(max(SHORTEST_S, min(left_s, SLICE_S)))
    return True


def unless_abandoned(context: WorkerContext, act: Callable[[], T]) -> T:
    """What `act` gives. Raises Abandoned as soon as a person has asked twice, whatever it is waiting for."""
    try:
        return context.tasks.wait_for(act, unless=lambda: context.stop.abandon)
    except NotWaitedFor as exc:
        raise Abandoned from exc


def quietly(act: Callable[[], object]) -> Callable[[], None]:
    """For what is done beside: that the root is asked nothing more is no news there."""

    def acting() -> None:
        with suppress(Abandoned):
            act()

    return acting


class AbandonableStore(PassingStore):
    """Passes everything on until a person has asked twice to stop; then every operation raises Abandoned."""

    def __init__(self, inner: ObjectStore, stop: StopSignal) -> None:
        super().__init__(inner)
        self._stop = stop

    def _pass(self, operation: str, path: str, act: Callable[[], T]) -> T:
        if self._stop.abandon:
            raise Abandoned
        return super()._pass(operation, path, act)


class AbandonableLinksStore(AbandonableStore):
    """An AbandonableStore over one that can read files outside of the root, too."""

    def open_link(self, file_id: str, *, resource_key: str | None = None) -> LinkedItem:
        inner = self._inner
        if not isinstance(inner, OpensLinks):
            raise TypeError(f"{type(inner).__name__} opens no links")
        return self._pass("open_link", file_id, lambda: inner.open_link(file_id, resource_key=resource_key))


def abandonable(store: ObjectStore, stop: StopSignal) -> AbandonableStore:
    """The store, until a person has asked twice to stop."""
    kind = AbandonableLinksStore if isinstance(store, OpensLinks) else AbandonableStore
    return kind(store, stop)
