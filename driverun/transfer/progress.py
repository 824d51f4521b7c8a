"""How far a transfer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a transfer of several files stands."""

    path: str  #: of the file that was dealt with last
    done_files: int
    total_files: int
    done_bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]


class ProgressCounter:
    """Counts files and bytes, and tells whoever wants to know."""

    def __init__(self, on_progress: OnProgress | None, *, total_files: int, total_bytes: int) -> None:
        self._on_progress = on_progress
        self._total_files = total_files
        self._total_bytes = total_bytes
        self._done_files = 0
        self._done_bytes = 0

    def add(self, path: str, size_bytes: int) -> None:
        """One more file is done."""
        self._done_files += 1
        self._done_bytes += size_bytes
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    path=path,
                    done_files=self._done_files,
                    total_files=self._total_files,
                    done_bytes=self._done_bytes,
                    total_bytes=self._total_bytes,
                )
            )


def written_size(size_bytes: float) -> str:
    """A size as a person reads it: `0 B`, `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
