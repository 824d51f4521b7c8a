"""What goes on beside the attempt's own thread: heartbeats, commits, logs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from driverun.clock import Clock


class Task(Protocol):
    """Something that is done again and again."""

    def stop(self) -> None:
        """Return when it is not being done and never will be again."""


class Tasks(Protocol):
    """Does things beside."""

    def every(self, seconds: float, act: Callable[[], None], *, name: str) -> Task:
        """Call `act` at once and then each time `seconds` have passed since it returned."""

    def turn(self) -> None:
        """The attempt's own thread has a moment."""


class ThreadTasks:
    """Each task has a thread, so that a slow upload holds up no heartbeat."""

    def every(self, seconds: float, act: Callable[[], None], *, name: str) -> Task:
        return _ThreadTask(seconds, act, name)

    def turn(self) -> None:
        """Nothing: threads take their own turns."""


class _ThreadTask:
    def __init__(self, seconds: float, act: Callable[[], None], name: str) -> None:
        self._seconds = seconds
        self._act = act
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"driverun-{name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._act()
            self._stopped.wait(self._seconds)


class TurnTasks:
    """All tasks take their turn in the attempt's own thread when their time has come: one order of events."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: list[_TurnTask] = []

    def every(self, seconds: float, act: Callable[[], None], *, name: str) -> Task:
        del name
        task = _TurnTask(seconds, act, self._clock)
        self._tasks.append(task)
        return task

    def turn(self) -> None:
        for task in self._tasks:
            task.turn()


class _TurnTask:
    def __init__(self, seconds: float, act: Callable[[], None], clock: Clock) -> None:
        self._seconds = seconds
        self._act = act
        self._clock = clock
        self._due_s = clock.monotonic()
        self._stopped = False

    def turn(self) -> None:
        if not self._stopped and self._clock.monotonic() >= self._due_s:
            self._act()
            self._due_s = self._clock.monotonic() + self._seconds

    def stop(self) -> None:
        self._stopped = True
