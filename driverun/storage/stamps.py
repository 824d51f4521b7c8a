"""Times for objects in a folder, in the very order in which the objects become visible."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

from driverun.clock import Clock
from driverun.errors import TransientStoreError, UsageError

LOCK_PATIENCE_S = (
    30.0  # the lock is held for well under a millisecond; longer means that its holder stands still
)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.001, 0.05
_TICK_NS = 1_000  # a microsecond, so that stamps pass through `datetime` unchanged
_STATE_BYTES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class StampState:
    """What the lock file remembers."""

    stamp_ns: int  #: the last stamp that was given
    clock_ns: int  #: what the filesystem's clock said then

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The state in a lock file; that of a new one where the content is damaged or empty."""
        fields = content.split()
        if len(fields) < 2 or not (fields[0].isdigit() and fields[1].isdigit()):
            return cls(stamp_ns=0, clock_ns=0)
        return cls(stamp_ns=int(fields[0]), clock_ns=int(fields[1]))

    def to_bytes(self) -> bytes:
        """Always `_STATE_BYTES` long, so that one small write replaces it. The process is for people."""
        return f"{self.stamp_ns:020d} {self.clock_ns:020d} {os.getpid():017d}\n".encode()


def time_now(state: StampState, clock_ns: int) -> int:
    """The root's time when the filesystem's clock says `clock_ns`, in nanoseconds, whole microseconds.

    It never goes back. Where the filesystem's clock was put back, the root's goes on at half its pace until
    it is caught up with: a lease may last twice as long then, but it runs out, and creations stay in order.
    """
    clock_ns -= clock_ns % _TICK_NS
    if clock_ns >= state.stamp_ns:
        return clock_ns
    slowed = state.stamp_ns + max(0, clock_ns - state.clock_ns) // 2
    return slowed - slowed % _TICK_NS


def next_state(state: StampState, clock_ns: int) -> StampState:
    """The state whose stamp is the next to be given: the time now, and later than every stamp before."""
    stamp_ns = max(time_now(state, clock_ns), state.stamp_ns + _TICK_NS)
    return StampState(stamp_ns=stamp_ns, clock_ns=clock_ns)


class StampLock:
    """The file whose lock makes stamping an object and making it visible one step.

    A writer that stood still between the two would otherwise let a later creation have an earlier time, and
    the rule of ownership rests on that order. The lock goes with its process, however that ends.
    """

    def __init__(self, file: Path, *, clock: Clock, time_ns: Callable[[], int] | None) -> None:
        """Use `file`, whose folder is made when it is first needed.

        Args:
            clock: waits for the lock.
            time_ns: asked in place of the filesystem's clock.
        """
        self._file = file
        self._clock = clock
        self._time_ns = time_ns

    @contextlib.contextmanager
    def turn(self) -> Iterator[Turn]:
        """Hold the lock for the block.

        Raises:
            TransientStoreError: another process kept it for LOCK_PATIENCE_S.
            UsageError: this system has no such locks.
            OSError: the file cannot be opened or locked.
        """
        if fcntl is None:  # pragma: no cover - Windows
            raise UsageError(
                f"cannot use {self._file.parent} as a root: this system has no POSIX file locks. "
                "Use WSL on Windows, or a gdrive: root."
            )
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Opened anew each time: a descriptor that is shared with a forked child would share the lock too.
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._acquire(descriptor)
            try:
                yield Turn(descriptor, self._time_ns)
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int) -> None:
        deadline = self._clock.monotonic() + LOCK_PATIENCE_S
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                if self._clock.monotonic() >= deadline:
                    holder = (
                        os.pread(descriptor, _STATE_BYTES, 0)[42:]
                        .decode(errors="replace")
                        .strip()
                        .lstrip("0")
                    )
                    raise TransientStoreError(
                        f"cannot write to the root: {self._file} is locked, for {LOCK_PATIENCE_S:.0f} s now. "
                        f"Its last holder was process {holder or '(unknown)'}; "
                        "if that is stopped, continue it or end it."
                    ) from exc
            self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


class Turn:
    """What the holder of the lock may do."""

    def __init__(self, descriptor: int, time_ns: Callable[[], int] | None) -> None:
        self._descriptor = descriptor
        self._time_ns = time_ns

    def now_ns(self) -> int:
        """The root's time; later answers and later stamps are never earlier."""
        clock_ns = self._probe()
        state = self._state()
        now_ns = time_now(state, clock_ns)
        self._keep(StampState(stamp_ns=now_ns, clock_ns=clock_ns))
        return now_ns

    def next_stamp_ns(self) -> int:
        """The time for the object that is made visible before the lock is let go.

        It is written down before it is used: a holder killed in between leaves a gap, never a repetition.
        """
        state = next_state(self._state(), self._probe())
        self._keep(state)
        return state.stamp_ns

    def _probe(self) -> int:
        if self._time_ns is not None:
            return self._time_ns()
        os.utime(self._descriptor)
        return os.fstat(self._descriptor).st_mtime_ns

    def _state(self) -> StampState:
        return StampState.parse(os.pread(self._descriptor, _STATE_BYTES, 0))

    def _keep(self, state: StampState) -> None:
        os.pwrite(self._descriptor, state.to_bytes(), 0)
