"""What the training process tells, one JSON object a line."""

from __future__ import annotations

import enum
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driverun.errors import SpoolError
from driverun.spool.masking import Masker


class EventKind(enum.Enum):
    """What happened; the comment names the fields."""

    STARTED = "started"  #: environment
    SAID = "said"  #: text: one line for the log
    APPROXIMATE = "approximate"  #: reason
    STEP_EXACT = "step_exact"  #: reason
    FIT_BEGUN = "fit_begun"  #: fit, step, epochs, steps_per_epoch, total_steps
    RESUMED = "resumed"  #: fit, step, epoch, step_in_epoch
    EPOCH_ENDED = "epoch_ended"  #: fit, epoch (from 0), step, logs
    PROGRESS = "progress"  #: fit, epoch, step, logs: a sample in the middle of a long epoch
    FIT_ENDED = "fit_ended"  #: fit, step, history {name: [values]}, epochs [numbers], replayed
    EVALUATED = "evaluated"  #: logs
    SNAPSHOT = "snapshot"  #: step, capture_s, size_bytes
    MODEL_SAVED = "model_saved"  #: name: a file in the spool's models/
    FINISHED = "finished"  #: state_sha256 or null
    FAILED = "failed"  #: kind, message, traceback
    HANDED_OVER = "handed_over"  #: step


_PLACES = frozenset({"buffers"})  # of this machine, for the runner to find


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of events.jsonl."""

    kind: EventKind
    at: float  #: seconds since the epoch, by the trainer's clock
    fields: Mapping[str, Any]
    line: str  #: as it was written

    def masked(self, masker: Masker) -> Event:
        """The event without secrets; what it is made of stays, should a secret be as weak as a name of its fields."""
        if not masker:
            return self
        shown = {name: masker.deep(value) for name, value in self.fields.items()}
        line = json.dumps({"event": self.kind.value, "at": self.at, **shown})
        places = {name: value for name, value in self.fields.items() if name in _PLACES}
        return Event(kind=self.kind, at=self.at, fields={**shown, **places}, line=line)


RESERVE_BYTES = 64 * 1024


class EventWriter:
    """Appends events; each is on disk, as far as the kernel goes, when the call returns.

    Beside them lies a reserve that is given up where the disk is full, so that the end of a job that filled
    it can still be told.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._reserve = path.with_suffix(".reserve")
        self._reserve.write_bytes(bytes(RESERVE_BYTES))
        self._cut_half_a_line()

    def write(self, kind: EventKind, /, **fields: Any) -> None:
        """Raises OSError where there is no room; nothing of the event stays then."""
        event = {"event": kind.value, "at": time.time(), **fields}
        line = json.dumps(event, default=str).encode() + b"\n"
        try:
            self._append(line)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            self._append(line)

    def close(self) -> None:
        os.close(self._file)

    def _append(self, line: bytes) -> None:
        end = os.fstat(self._file).st_size
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, end)
            raise

    def _cut_half_a_line(self) -> None:
        """Whoever wrote here before may have been killed at it; nothing may be appended to its beginning."""
        end = os.fstat(self._file).st_size
        whole = os.pread(self._file, end, 0).rfind(b"\n") + 1
        if whole < end:
            os.ftruncate(self._file, whole)


class EventReader:
    """Reads events from where the last one was taken; a half-written line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[Event]:
        """Raises SpoolError at a line that is no event; the next call goes on after it."""
        try:
            if os.stat(self._path).st_size <= self._offset:
                return
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        for line in io.BytesIO(content):
            if not line.endswith(b"\n"):
                return
            self._offset += len(line)
            yield _event(line, self._path)


def _event(line: bytes, path: Path) -> Event:
    try:
        text = line.decode().rstrip("\n")
        raw = json.loads(text)
        return Event(kind=EventKind(raw.pop("event")), at=raw.pop("at"), fields=raw, line=text)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise SpoolError(f"cannot read an event in {path}: {line[:100]!r} is none ({exc!r})") from exc
