"""A clock that moves only when it is told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A Clock for tests: sleeping moves it on at once, and so does `advance`.

    Attributes:
        sleeps: every sleep that was asked for, in seconds, in order.
    """

    def __init__(self, start: datetime = START) -> None:
        if start.tzinfo is None:
            raise ValueError(
                f"cannot start a clock at {start}: the time needs its zone, as in datetime(..., tzinfo=UTC)"
            )
        self.sleeps: list[float] = []
        self._start = start.astimezone(UTC)
        self._elapsed = timedelta()
        self._turn = threading.Lock()

    def now(self) -> datetime:
        with self._turn:
            return self._start + self._elapsed

    def monotonic(self) -> float:
        with self._turn:
            return self._elapsed.total_seconds()

    def sleep(self, seconds: float) -> None:
        """Return at once, `seconds` later; zero or less changes nothing."""
        with self._turn:
            self.sleeps.append(seconds)
            self._elapsed += timedelta(seconds=max(0.0, seconds))

    def advance(self, *, seconds: float) -> None:
        """Let `seconds` pass; they cannot be negative, because `monotonic` never goes back."""
        if seconds < 0:
            raise ValueError(
                f"cannot advance a clock by {seconds} s: use set_back for a wall clock that was mended"
            )
        with self._turn:
            self._elapsed += timedelta(seconds=seconds)

    def set_back(self, *, seconds: float) -> None:
        """Put the wall clock back, as a machine does that has learned the right time; `monotonic` stays."""
        with self._turn:
            self._start -= timedelta(seconds=seconds)
