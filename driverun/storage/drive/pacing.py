"""How fast Drive may be written to."""

from __future__ import annotations

import threading

from driverun.clock import Clock

#: What an account may sustain, whatever its client; it cannot be raised (support.google.com/a/answer/10445916).
WRITES_PER_S = 3.0
BURST = 10  #: writes that may come at once after a rest; Google names no figure


class TokenBucket:
    """Lets `burst` takers through at once, then `rate_per_s` of them a second; all threads share it."""

    def __init__(self, clock: Clock, *, rate_per_s: float = WRITES_PER_S, burst: int = BURST) -> None:
        self._clock = clock
        self._interval_s = 1.0 / rate_per_s
        self._tolerance_s = (burst - 1) * self._interval_s
        self._due_s = float("-inf")  # when the next taker's turn would be, were there no bursts
        self._turn = threading.Lock()

    def take(self) -> None:
        """Return when it is the caller's turn."""
        with self._turn:
            now_s = self._clock.monotonic()
            due_s = max(self._due_s, now_s)
            self._due_s = due_s + self._interval_s
        self._clock.sleep(due_s - self._tolerance_s - now_s)

    def pause(self, seconds: float) -> None:
        """Let nobody through for `seconds`, and then one by one."""
        with self._turn:
            self._due_s = max(self._due_s, self._clock.monotonic() + seconds + self._tolerance_s)
