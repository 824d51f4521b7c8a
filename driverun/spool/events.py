"""What the training process tells, one JSON object a line."""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of events.jsonl."""

    kind: EventKind
    at: float  #: seconds since the epoch, by the trainer's clock
    fields: Mapping[str, Any]


class EventWriter:
    """Appends events; each is on disk, as far as the kernel goes, when the call returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, kind: EventKind, /, **fields: Any) -> None:
        line = json.dumps({"event": kind.value, "at": time.time(), **fields}, default=str)
        os.write(self._file, line.encode() + b"\n")


class EventReader:
    """Reads events from where the last call stopped; a half-written line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[Event]:
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return
        whole, newline, _ = content.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.split(b"\n") if whole else ():
            raw = json.loads(line)
            yield Event(kind=EventKind(raw.pop("event")), at=raw.pop("at"), fields=raw)
