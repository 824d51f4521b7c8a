"""How far a transfer is, at which rate, and how long it will take."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from driverun.clock import Clock

_RATE_OVER_S = 20.0  #: what the rate is an average of; longer would hide that the line has become slow
_LINE_EVERY_S = 10.0
_LOOK_EVERY_S = 0.5
LARGE_BYTES = 8_000_000  #: files from this size on are looked at while they grow


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a transfer of several files stands."""

    path: str  #: of the file that was dealt with last
    done_files: int
    total_files: int
    done_bytes: int
    total_bytes: int
    bytes_per_s: float | None = None  #: of late; None where it cannot be told yet

    @property
    def left_s(self) -> float | None:
        """How long the rest takes at the present rate, in seconds; None where that cannot be told."""
        if not self.bytes_per_s:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.bytes_per_s

    @property
    def is_done(self) -> bool:
        return self.done_files == self.total_files

    def __str__(self) -> str:
        """As a person reads it: `1200 of 5000 files, 24.0 MB of 100.0 MB, 12.3 MB/s, 6 s left`."""
        told = []
        if self.total_files > 1:
            told.append(f"{self.done_files} of {self.total_files} files")
        told.append(f"{written_size(self.done_bytes)} of {written_size(self.total_bytes)}")
        if self.bytes_per_s is not None:
            told.append(f"{written_size(self.bytes_per_s)}/s")
        if self.left_s is not None and not self.is_done:
            told.append(f"{written_duration(self.left_s)} left")
        return ", ".join(told)


OnProgress = Callable[[Progress], None]


class ProgressCounter:
    """Counts files and bytes, and tells whoever wants to know. It may be used from many threads."""

    def __init__(
        self,
        on_progress: OnProgress | None,
        *,
        total_files: int,
        total_bytes: int,
        clock: Clock | None = None,
    ) -> None:
        """Count towards these totals.

        Args:
            clock: for the rate; None: there is none.
        """
        self._on_progress = on_progress
        self._total_files = total_files
        self._total_bytes = total_bytes
        self._clock = clock
        self._done_files = 0
        self._done_bytes = 0
        self._path = ""
        self._arriving: dict[str, Path] = {}  # file to the folder that it grows in
        self._samples: deque[tuple[float, int]] = deque()
        self._turn = threading.Lock()
        self._looking: Future[None] | None = None
        self._sample(0)

    def add(self, path: str, size_bytes: int) -> None:
        """One more file is done."""
        if self._looking is not None and self._looking.done():
            self._looking.result()
        with self._turn:
            self._done_files += 1
            self._done_bytes += size_bytes
            self._path = path
            self._tell()

    @contextlib.contextmanager
    def arriving(self, path: str, folder: Path, size_bytes: int) -> Iterator[None]:
        """The file grows inside of `folder`, which is its alone, until the end of the block.

        Small ones are there before it could be told.
        """
        if size_bytes < LARGE_BYTES:
            yield
            return
        with self._turn:
            self._arriving[path] = folder
        try:
            yield
        finally:
            with self._turn:
                self._arriving.pop(path, None)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, tell of files that are on their way, too, about twice a second.

        What the one who is told raises then is raised when the next file is done, or at the end of the block.
        """
        if self._on_progress is None:
            yield
            return
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK_EVERY_S):
                self.look()

        with ThreadPoolExecutor(1, thread_name_prefix="driverun-progress") as pool:
            self._looking = pool.submit(look)
            try:
                yield
            finally:
                ended.set()
        self._looking.result()

    def look(self) -> None:
        """Tell how far the files on their way are."""
        with self._turn:
            if self._arriving:
                self._tell()

    def _tell(self) -> None:
        if self._on_progress is None:
            return
        done_bytes = self._done_bytes + sum(_grown_bytes(folder) for folder in self._arriving.values())
        self._sample(done_bytes)
        self._on_progress(
            Progress(
                path=self._path,
                done_files=self._done_files,
                total_files=self._total_files,
                done_bytes=min(done_bytes, max(self._total_bytes, self._done_bytes)),
                total_bytes=max(self._total_bytes, self._done_bytes),
                bytes_per_s=self._rate(),
            )
        )

    def _sample(self, done_bytes: int) -> None:
        if self._clock is None:
            return
        now_s = self._clock.monotonic()
        if len(self._samples) > 1 and now_s - self._samples[-2][0] < _LOOK_EVERY_S:
            self._samples[-1] = (now_s, done_bytes)
        else:
            self._samples.append((now_s, done_bytes))
        while len(self._samples) > 2 and now_s - self._samples[1][0] > _RATE_OVER_S:
            self._samples.popleft()

    def _rate(self) -> float | None:
        if len(self._samples) < 2:
            return None
        (began_s, began_bytes), (now_s, done_bytes) = self._samples[0], self._samples[-1]
        return max(0, done_bytes - began_bytes) / (now_s - began_s) if now_s > began_s else None


def progress_lines(say: Callable[[str], None], clock: Clock, *, what: str) -> OnProgress:
    """Tell of a transfer in lines: none for what is done within seconds, then one every ten.

    Args:
        what: is transferred, for the head of each line.
    """
    said_s = clock.monotonic()
    has_said = False

    def tell(progress: Progress) -> None:
        nonlocal said_s, has_said
        now_s = clock.monotonic()
        if now_s - said_s >= _LINE_EVERY_S or (has_said and progress.is_done):
            said_s, has_said = now_s, not progress.is_done
            say(f"{what}: {progress}")

    return tell


def written_size(size_bytes: float) -> str:
    """A size as a person reads it: `0 B`, `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def written_duration(seconds: float) -> str:
    """A duration as a person reads it: `6 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _grown_bytes(folder: Path) -> int:
    """What has arrived in the folder; of a file that was laid out in advance, what is on the disk."""
    grown_bytes = 0
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            status = file.stat()
            grown_bytes += min(status.st_size, status.st_blocks * 512)
    return grown_bytes
