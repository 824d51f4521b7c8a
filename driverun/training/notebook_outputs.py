"""What a notebook's cells put out, kept per cell while it streams to the job's log."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Mapping
from typing import Any, TextIO

from driverun.training.notebook_file import Notebook, Output, executed, outputs_in

#: A progress bar draws its line again and again: what a terminal shows of it in the end is kept.
_DRAWN_OVER = re.compile(r"[^\n]*\r(?=[^\n])")
_RUBBED_OUT = re.compile(r"[^\n\b]\x08")
MOST_LINES = 20_000  #: of one stream between two other outputs; the log has all of them
_OWN_LINE = "driverun: "  #: how a line of driverun's own begins, which an uninterrupted run may not have


class Recorder:
    """The outputs of every cell so far. It may be written to from any thread."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._outputs: dict[int, list[Output]] = {}
        self._index = -1
        self._is_open = False
        self._clear_next = False
        self._lock = threading.RLock()
        self.changes = 0  #: how often anything was recorded; as before: so is the document
        self._own = _OwnLines()
        self._shown: dict[str, list[Output]] = {}  # by display id, to be updated

    def begin(self, index: int) -> None:
        """From now on outputs are those of the cell `index`."""
        with self._lock:
            self._index, self._is_open = index, True
            self._clear_next = False
            self._outputs[index] = []
            self.changes += 1

    def close(self) -> None:
        """Nothing that comes later is an output of the notebook."""
        self._is_open = False

    def forget(self) -> None:
        """Record nothing any more: this is a process that the job forked, and another thread may hold the lock."""
        self._lock = threading.RLock()
        self._is_open = False

    def stream(self, name: str, text: str) -> None:
        """Text that was written to `stdout` or `stderr`."""
        with self._lock:
            if name == "stderr":
                text = self._own.without(text)
            if not text or not self._is_open:
                return
            self.changes += 1
            outputs = self._current()
            last = outputs[-1] if outputs else None
            if last is None or last["output_type"] != "stream" or last["name"] != name:
                last = {"output_type": "stream", "name": name, "text": []}
                outputs.append(last)
            lines: list[str] = last["text"]
            begun = lines.pop() if lines and not lines[-1].endswith("\n") else ""
            lines += _lines_of(_as_shown(begun + text))
            if len(lines) > MOST_LINES:
                lines[MOST_LINES:] = ["[the rest is in the log of the run]\n"]

    def display(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None,
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        """Something rich: a plot, a table; with `update` in the place of what `display_id` showed."""
        fields = {"data": _encoded(data), "metadata": dict(metadata or {})}
        with self._lock:
            self.changes += 1
            if update:
                for shown in self._shown.get(display_id or "", ()):
                    shown.update(fields)
                return
            output: Output = {"output_type": "display_data", **fields}
            self._put(output)
            if display_id:
                self._shown.setdefault(display_id, []).append(output)

    def result(self, data: Mapping[str, Any], metadata: Mapping[str, Any] | None, *, number: int) -> None:
        """The value of a cell's last line."""
        self._put(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "data": _encoded(data),
                "metadata": dict(metadata or {}),
            }
        )

    def error(self, kind: str, message: str, lines: list[str]) -> None:
        """What ended the cell."""
        self._put({"output_type": "error", "ename": kind, "evalue": message, "traceback": lines})

    def clear(self, *, wait: bool = False) -> None:
        """Drop what the cell has put out; with `wait` as soon as there is something new."""
        with self._lock:
            if wait:
                self._clear_next = True
            elif self._is_open:
                self._outputs[self._index] = []
                self.changes += 1

    def document(self) -> bytes:
        """The notebook with its outputs up to now."""
        with self._lock:
            return executed(self._notebook, self._outputs, reached=self._index)

    def take_up(self, document: bytes) -> None:
        """Go on from the outputs that stood in `document` when an earlier attempt was where this one is now."""
        with self._lock:
            self.changes += 1
            saved = outputs_in(document, self._notebook)
            for index, outputs in saved.items():
                if index > self._index:
                    continue
                before = self._outputs.get(index, [])
                self._outputs[index] = after = [_in_lines(output) for output in outputs]
                # What can be updated was shown again by now, in the same order.
                for shown in self._shown.values():
                    for at, output in enumerate(shown):
                        place = next((n for n, other in enumerate(before) if other is output), len(after))
                        if place < len(after) and after[place]["output_type"] == "display_data":
                            shown[at] = after[place]

    def _current(self) -> list[Output]:
        if self._clear_next:
            self._clear_next = False
            self._outputs[self._index] = []
        return self._outputs[self._index]

    def _put(self, output: Output) -> None:
        with self._lock:
            if self._is_open:
                self._current().append(output)
                self.changes += 1


class _OwnLines:
    """Leaves out what driverun says to the log: an uninterrupted run says less."""

    def __init__(self) -> None:
        self._at_start = True
        self._inside = False

    def without(self, text: str) -> str:
        kept = []
        for line in _lines_of(text):
            if self._at_start:
                self._inside = line.startswith(_OWN_LINE)
            if not self._inside:
                kept.append(line)
            self._at_start = line.endswith("\n")
        return "".join(kept)


class RecordingStream(io.TextIOBase):
    """A standard stream that is recorded and goes on to where it went before."""

    def __init__(self, name: str, stream: TextIO, recorder: Recorder) -> None:
        self._name = name
        self.beneath = stream
        self._recorder = recorder

    def write(self, text: str) -> int:
        self.beneath.write(text)
        self._recorder.stream(self._name, text)
        return len(text)

    def flush(self) -> None:
        self.beneath.flush()

    def fileno(self) -> int:
        return self.beneath.fileno()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    @property
    def buffer(self) -> Any:
        return self.beneath.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.beneath.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.beneath.errors


def _as_shown(text: str) -> str:
    if "\r" in text:
        text = _DRAWN_OVER.sub("", text.replace("\r\n", "\n"))
    while "\b" in text:
        shorter = _RUBBED_OUT.sub("", text)
        if shorter == text:
            return text.replace("\b", "")
        text = shorter
    return text


def _lines_of(text: str) -> list[str]:
    """Its lines, each with its end; not splitlines(), to which a form feed ends a line as well."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _in_lines(output: Output) -> Output:
    if output.get("output_type") != "stream":
        return dict(output)
    return {**output, "text": _lines_of("".join(output.get("text", "")))}


def _encoded(data: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON can hold it: images as base64."""
    encoded: dict[str, Any] = {}
    for kind, value in data.items():
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode("ascii")
        elif not isinstance(value, str):
            value = json.loads(json.dumps(value, default=str))
        encoded[kind] = value
    return encoded
