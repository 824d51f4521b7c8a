"""What goes on beside the attempt's own thread: heartbeats, commits, logs."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from driverun.clock import Clock

LOOK_S = 0.05  #: between two looks whether there is still a reason to wait

T = TypeVar("T")


class NotWaitedFor(Exception):
    """There is no reason any more to wait for something; it is left to itself."""


class Task(Protocol):
    """Something that is done again and again."""

    def stop(self, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Return when it is not being done and never will be again; or as soon as `unless` says so.

        It is left to itself then: what is being done may still come to its end.
        """


class Tasks(Protocol):
    """Does things beside."""

    def every(self, seconds: float, act: Callable[[], None], *, name: str, at_once: bool = True) -> Task:
        """Call `act` at once, or after so many `seconds`, and then each time they have passed since it returned."""

    def wait_for(self, act: Callable[[], T], *, unless: Callable[[], bool]) -> T:
        """What `act` gives. It may be called from another thread.

        Raises:
            NotWaitedFor: `unless` said so first; what is being done is left to itself.
        """

    def turn(self) -> None:
        """The attempt's own thread has a moment."""


class ThreadTasks:
    """Each task has a thread, so that a slow upload holds up no heartbeat."""

    def every(self, seconds: float, act: Callable[[], None], *, name: str, at_once: bool = True) -> Task:
        return _ThreadTask(seconds, act, name, at_once=at_once)

    def wait_for(self, act: Callable[[], T], *, unless: Callable[[], bool]) -> T:
        ended = threading.Event()
        given: list[T] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                given.append(act())
            except Exception as exc:  # whatever it is, it is raised in the thread that waits
                failed.append(exc)
            finally:
                ended.set()

        run = contextvars.copy_context().run
        threading.Thread(target=lambda: run(work), name="driverun-waited-for", daemon=True).start()
        while not ended.wait(LOOK_S):
            if unless():
                raise NotWaitedFor
        if failed:
            raise failed[0]
        if not given:
            raise RuntimeError("a thread of this worker ended before it was done")
        return given[0]

    def turn(self) -> None:
        """Nothing: threads take their own turns."""


class _ThreadTask:
    def __init__(self, seconds: float, act: Callable[[], None], name: str, *, at_once: bool) -> None:
        self._seconds = seconds
        self._act = act
        self._at_once = at_once
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"driverun-{name}", daemon=True)
        self._thread.start()

    def stop(self, *, unless: Callable[[], bool] = lambda: False) -> None:
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            while self._thread.is_alive() and not unless():
                self._thread.join(LOOK_S)

    def _work(self) -> None:
        if not self._at_once:
            self._stopped.wait(self._seconds)
        while not self._stopped.is_set():
            self._act()
            self._stopped.wait(self._seconds)


class TurnTasks:
    """All tasks take their turn in the attempt's own thread when their time has come: one order of events."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: list[_TurnTask] = []

    def every(self, seconds: float, act: Callable[[], None], *, name: str, at_once: bool = True) -> Task:
        del name
        task = _TurnTask(seconds, act, self._clock, at_once=at_once)
        self._tasks.append(task)
        return task

    def wait_for(self, act: Callable[[], T], *, unless: Callable[[], bool]) -> T:
        if unless():
            raise NotWaitedFor
        return act()

    def turn(self) -> None:
        for task in self._tasks:
            task.turn()


class _TurnTask:
    def __init__(self, seconds: float, act: Callable[[], None], clock: Clock, *, at_once: bool) -> None:
        self._seconds = seconds
        self._act = act
        self._clock = clock
        self._due_s = clock.monotonic() + (0.0 if at_once else seconds)
        self._stopped = False

    def turn(self) -> None:
        if not self._stopped and self._clock.monotonic() >= self._due_s:
            self._act()
            self._due_s = self._clock.monotonic() + self._seconds

    def stop(self, *, unless: Callable[[], bool] = lambda: False) -> None:
        del unless  # nobody else is at it
        self._stopped = True
