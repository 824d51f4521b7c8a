"""What a command or a cell does when it is asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_stop(
    handler: Callable[[int, object], None], *, also: Collection[signal.Signals] = ()
) -> Iterator[None]:
    """Within the block, SIGINT, SIGTERM and `also` call `handler`; after it they do what they did before.

    A handler left behind would be inherited by every process that is forked later.
    """
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM, *also)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
