"""Text that grows, put on the root as numbered files that are written once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from driverun.clock import Clock
from driverun.errors import ObjectExists, StoreQuotaExceeded, TransientStoreError
from driverun.storage.base import ObjectStore
from driverun.transfer.checksums import sha256_of, stored_sha256
from driverun.transfer.progress import written_size

FIRST_INTERVAL_S = 2.0
LONGEST_INTERVAL_S = 30.0
FULL_BYTES = 1 << 20
MOST_KEPT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One piece of the text."""

    number: int  #: from 1, without gaps
    content: bytes


def log_line_about_dropped(dropped_bytes: int) -> str:
    """What stands in a log in place of text that was dropped."""
    return (
        f"[driverun] {written_size(dropped_bytes)} of the log are missing here: the root could not be reached"
    )


class SegmentWriter:
    """Collects text and puts it on the root from time to time.

    First after 2 s, then at intervals that double up to 30 s, or as soon as 1 MB waits.

    `append` never waits for the root, so that whoever reads a child's output is not held up; `flush_if_due`
    is called by another hand, as often as it likes. Both may come from different threads.

    A segment keeps its bytes from its first try on, so a try whose answer was lost is recognised by its
    checksum.
    """

    def __init__(
        self,
        store: ObjectStore,
        name_of: Callable[[int], str],
        clock: Clock,
        *,
        line_about_dropped: Callable[[int], str] = log_line_about_dropped,
    ) -> None:
        """Write to `name_of(1)`, `name_of(2)`, ….

        Args:
            line_about_dropped: makes the line, without its end, that stands for so many bytes that were
            dropped.
        """
        self._store = store
        self._name_of = name_of
        self._clock = clock
        self._line_about_dropped = line_about_dropped
        self._buffer = bytearray()
        self._dropped_bytes = 0  # in front of the buffer
        self._pending: bytes | None = None
        self._number = 1
        self._interval_s = FIRST_INTERVAL_S
        self._due_at_s: float | None = None  # None: nothing waits
        self._earliest_s = self._clock.monotonic()  # of the next try
        self._failed = False
        self._turn = threading.Lock()  # for all of the above
        self._flushing = threading.Lock()  # one segment at a time

    def append(self, text: str | bytes) -> None:
        """Add `text`, which ends with its line's end. What does not fit any more drops the oldest lines."""
        chunk = text.encode("utf-8", errors="backslashreplace") if isinstance(text, str) else text
        if not chunk:
            return
        with self._turn:
            self._buffer += chunk
            if self._due_at_s is None:
                self._due_at_s = max(self._clock.monotonic() + FIRST_INTERVAL_S, self._earliest_s)
            excess_bytes = len(self._buffer) + len(self._pending or b"") - MOST_KEPT_BYTES
            if excess_bytes > 0:
                self._drop(excess_bytes)

    @property
    def waiting_bytes(self) -> int:
        """How much is not on the root yet."""
        with self._turn:
            return len(self._buffer) + len(self._pending or b"")

    def flush_if_due(self) -> bool:
        """Put what waits on the root, if it is time; return whether nothing waits any more."""
        with self._turn:
            now_s = self._clock.monotonic()
            is_due = self._due_at_s is not None and now_s >= self._due_at_s
            is_full = len(self._buffer) >= FULL_BYTES and not (self._failed and now_s < self._earliest_s)
        return self.flush() if is_due or is_full else self.waiting_bytes == 0

    def flush(self) -> bool:
        """Put all that waits on the root now; return whether that succeeded.

        False means that the root was out of reach or full; the text is kept for the next call.
        """
        with self._flushing:
            wrote = False
            try:
                while (pending := self._next_pending()) is not None:
                    self._write(pending)
                    with self._turn:
                        self._pending = None
                        self._number += 1
                    wrote = True
            except (TransientStoreError, StoreQuotaExceeded):
                self._plan(failed=True)
                return False
            if wrote:
                self._plan(failed=False)
            return True

    def _plan(self, *, failed: bool) -> None:
        with self._turn:
            self._failed = failed
            self._interval_s = min(2 * self._interval_s, LONGEST_INTERVAL_S)
            self._earliest_s = self._clock.monotonic() + self._interval_s
            waits = bool(self._buffer) or self._pending is not None
            self._due_at_s = self._earliest_s if waits else None

    def _next_pending(self) -> bytes | None:
        """The segment to write now, fixed until it is written; None where nothing waits."""
        with self._turn:
            if self._pending is None and (self._buffer or self._dropped_bytes):
                note = b""
                if self._dropped_bytes:
                    note = f"{self._line_about_dropped(self._dropped_bytes)}\n".encode()
                cut = self._cut()
                self._pending = note + bytes(self._buffer[:cut])
                del self._buffer[:cut]
                self._dropped_bytes = 0
            return self._pending

    def _cut(self) -> int:
        """Where the next segment ends: after a line, unless one is longer than a segment."""
        if len(self._buffer) <= FULL_BYTES:
            return len(self._buffer)
        line_end = self._buffer.rfind(b"\n", 0, FULL_BYTES)
        return line_end + 1 if line_end >= 0 else FULL_BYTES

    def _drop(self, excess_bytes: int) -> None:
        line_end = self._buffer.find(b"\n", excess_bytes - 1)
        dropped_bytes = line_end + 1 if line_end >= 0 else excess_bytes
        del self._buffer[:dropped_bytes]
        self._dropped_bytes += dropped_bytes

    def _write(self, content: bytes) -> None:
        path = self._name_of(self._number)
        try:
            self._store.create(path, content)
        except ObjectExists:
            found = self._store.stat(path)
            if found.size_bytes != len(content) or stored_sha256(self._store, found) != sha256_of(content):
                raise  # two writers of one attempt: nothing that waiting could mend


def read_segments(store: ObjectStore, folder: str, prefix: str, after: int = 0) -> Iterator[Segment]:
    """Yield the segments `<prefix><number>.<suffix>` in `folder` whose number is above `after`, in order.

    It stops before a number that a lagging listing may still miss; the next call goes on there. One that is
    missing for longer than listings lag was removed by somebody, and is passed over.
    """
    name = re.compile(rf"{re.escape(f'{folder}/{prefix}')}([0-9]+)\.[a-z]+")
    found = sorted(
        (int(match[1]), info)
        for info in store.list(folder)
        if (match := name.fullmatch(info.path)) is not None
    )
    expected = after + 1
    for number, info in found:
        if number <= after:
            continue
        if number != expected:
            age_s = (store.now() - info.created_at).total_seconds()
            if age_s <= store.listing_lag_s:
                return
        expected = number + 1
        yield Segment(number=number, content=store.read(info.path))
