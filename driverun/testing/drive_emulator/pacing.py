"""How fast the emulator lets calls pass: a limit of writes, and a line of so much bandwidth."""

from __future__ import annotations

import threading

from driverun.clock import Clock


class WriteLimit:
    """So many writes a second for each account, with a reserve for bursts.

    Google refuses what goes beyond about three sustained writes a second
    (https://support.google.com/a/answer/10445916).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = threading.Lock()
        self._accounts: dict[str, tuple[float, float]] = {}

    def admits(self, account: str, *, per_second: float, burst: float) -> bool:
        """Return whether one more write passes, and count it if it does; `per_second` of 0 is no limit."""
        if per_second <= 0:
            return True
        with self._turn:
            now = self._clock.monotonic()
            left, at = self._accounts.get(account, (burst, now))
            left = min(burst, left + (now - at) * per_second)
            self._accounts[account] = (left - 1 if left >= 1 else left, now)
            return left >= 1


class Line:
    """One direction of a line that all connections share."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = threading.Lock()
        self._free_at = 0.0

    def carry(self, size_bytes: int, *, mbps: float) -> None:
        """Return when so many bytes have passed at `mbps` million bits a second; 0 is no limit."""
        if mbps <= 0 or size_bytes <= 0:
            return
        with self._turn:
            now = self._clock.monotonic()
            self._free_at = max(self._free_at, now) + size_bytes * 8 / (mbps * 1e6)
            wait_s = self._free_at - now
        self._clock.sleep(wait_s)
