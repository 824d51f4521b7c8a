"""What keeps work from the root, said without repeating it at every try."""

from __future__ import annotations

from collections.abc import Callable

from driverun.clock import Clock

REMIND_S = 600.0  #: until the same kind of trouble is told again


class Trouble:
    """One thing that may go wrong for a while. It may be used from many threads."""

    def __init__(self, say: Callable[[str], None], clock: Clock) -> None:
        self._say = say
        self._clock = clock
        self._kind: type[Exception] | None = None
        self._told_s = 0.0

    def met(self, error: Exception, text: str) -> None:
        """Say `text`, unless the same kind of error was told a short while ago: paths and times in it differ."""
        now_s = self._clock.monotonic()
        if self._kind is not type(error) or now_s - self._told_s >= REMIND_S:
            self._kind, self._told_s = type(error), now_s
            self._say(text)

    def over(self, text: str) -> None:
        """It works again: say `text`, if there was any trouble."""
        if self._kind is not None:
            self._kind = None
            self._say(text)
