"""The same work for many things, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

_SENDERS = 4  # Drive takes about three creations a second of an account; more would only be told to wait
_FEW = 8  # up to here one after the other


def for_each(items: Iterable[T], work: Callable[[T], None], *, threads: int) -> None:
    """Call `work` with every item, in up to `threads` threads, and return when all are done.

    After the first error nothing new is begun; what is under way comes to its end, then that error is raised.
    The same goes for an interrupt of the calling thread.
    """
    waiting = list(items)
    if threads < 2 or len(waiting) < 2:
        for item in waiting:
            work(item)
        return
    pending = iter(waiting)
    turn = threading.Lock()
    errors: list[BaseException] = []
    stopped = threading.Event()

    def work_through() -> None:
        try:
            while not stopped.is_set():
                with turn:
                    mine = next(pending, _Nothing)
                if mine is _Nothing:
                    return
                work(mine)  # type: ignore[arg-type]  # it is no _Nothing
        except BaseException as exc:
            with turn:
                errors.append(exc)
            stopped.set()
            raise

    with ThreadPoolExecutor(min(threads, len(waiting)), thread_name_prefix="driverun-transfer") as pool:
        try:
            # Each in a copy of the context, so that requests of these threads are for what the caller is at.
            wait([pool.submit(copy_context().run, work_through) for _ in range(min(threads, len(waiting)))])
        finally:
            stopped.set()
    if errors:
        raise errors[0]


def send_each(items: Collection[T], send: Callable[[T], None]) -> None:
    """`for_each` for what creates files on the root: a few one after the other, in their order."""
    for_each(items, send, threads=_SENDERS if len(items) > _FEW else 1)


class _Nothing:
    """Stands for the end of the items."""
