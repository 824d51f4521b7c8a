"""A child's raw output as plain lines for a log."""

from __future__ import annotations

import codecs
import re
from collections import deque

from driverun.clock import Clock

LONGEST_LINE = 8192  #: characters
REDRAW_INTERVAL_S = 30.0
_ROWS_ABOVE = 16  # how far up a drawing may go: as many bars, one below the other, are followed

# Everything that is not text, longest first. An escape sequence has bounded parts, so that where the stream
# is cut makes no difference to what is recognised (ECMA-48 §5.4; OSC as in xterm's ctlseqs).
_CSI = r"\x1b\[([0-?]{0,64})[ -/]{0,8}([@-~])"
_OSC = r"\x1b\][^\x07\x1b\n]{0,512}(?:\x07|\x1b\\)"
_SHORT = r"\x1b[ -/]{0,8}[0-Z\\^-~]"
_CONTROL = re.compile(rf"{_CSI}|{_OSC}|{_SHORT}|\x08+|\r+|[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|\][^\x07\x1b\n]{0,512}\x1b?|[ -/]{0,8})\Z")


class LineCleaner:
    """Turns what a program writes for a terminal into lines.

    A carriage return, backspaces and the cursor's way up start a new drawing of a line; of all drawings only
    the last one becomes a line, and at most every 30 s one before it, so that a log being followed moves.
    Colours and other escape sequences go. Bytes that are no UTF-8, and control characters, appear as `\\xff`.
    How the stream is cut into chunks makes no difference.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._held = ""  # an escape sequence that is not complete yet
        self._line = ""  # what stands in the line, cut at LONGEST_LINE
        self._length = 0  # what would stand there, uncut
        self._cursor = 0
        self._was_redrawn = False
        self._shown: str | None = None  # as which the line was emitted before the cursor went up to it
        self._above: deque[str] = deque(maxlen=_ROWS_ABOVE)
        self._told_at_s = clock.monotonic()
        self._out: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that are complete with `chunk`, without their ends."""
        self._take(self._held + self._decoder.decode(chunk), is_end=False)
        return self._collected()

    def close(self) -> list[str]:
        """Return what stands in the last line, which had no end."""
        self._take(self._held + self._decoder.decode(b"", final=True), is_end=True)
        if self._line and self._text() != self._shown:
            self._emit()
        self._start_line()
        return self._collected()

    def _collected(self) -> list[str]:
        out, self._out = self._out, []
        return out

    def _take(self, text: str, *, is_end: bool) -> None:
        self._held = ""
        if unfinished := _UNFINISHED.search(text):
            text = text[: unfinished.start()]
            if not is_end:
                self._held = unfinished[0]
        position = 0
        for control in _CONTROL.finditer(text):
            self._draw(text[position : control.start()])
            position = control.end()
            self._obey(control)
        self._draw(text[position:])

    def _draw(self, text: str) -> None:
        if not text:
            return
        if self._cursor < self._length:
            self._tell_if_due()
            self._line, self._length = self._line[: self._cursor], self._cursor
            self._was_redrawn = True
        if self._length < LONGEST_LINE:
            self._line += text[: LONGEST_LINE - self._length]
        self._length += len(text)
        self._cursor = self._length

    def _obey(self, control: re.Match[str]) -> None:
        characters = control[0]
        first = characters[0]
        if first == "\n":
            self._end_line()
        elif first == "\r":
            self._cursor = 0
        elif first == "\b":
            self._cursor = max(0, self._cursor - len(characters))
        elif first == "\x1b":
            if control[2] == "A":
                self._go_up(int(control[1]) if control[1].isdecimal() else 1)
            elif control[2] == "K" and control[1] in ("", "0", "2"):
                self._erase(0 if control[1] == "2" else self._cursor)
        elif first not in "\a\x0f\x0e":
            self._draw(f"\\x{ord(first):02x}")

    def _erase(self, start: int) -> None:
        if start < self._length:
            self._tell_if_due()
            self._line, self._length = self._line[:start], start
            self._cursor = min(self._cursor, start)
            self._was_redrawn = True

    def _tell_if_due(self) -> None:
        """Emit the drawing that is about to go, if nothing was emitted for long."""
        is_quiet = self._clock.monotonic() - self._told_at_s >= REDRAW_INTERVAL_S
        if is_quiet and self._text().strip() and self._text() != self._shown:
            self._emit()

    def _end_line(self) -> None:
        if self._shown is None or self._text() != self._shown:
            self._emit()
        self._above.append(self._text())
        self._start_line()

    def _go_up(self, rows: int) -> None:
        """Back to a line that was emitted; what is drawn below it is a drawing like any other."""
        self._tell_if_due()
        for _ in range(min(max(rows, 1), len(self._above))):
            self._start_line()
            self._line = self._above.pop()
            self._length = len(self._line)
            self._shown = self._line
            self._was_redrawn = True
        self._cursor = self._length

    def _text(self) -> str:
        line = self._line.rstrip(" ") if self._was_redrawn else self._line
        cut = self._length - len(self._line)
        return f"{line} … [{cut} more characters]" if cut > 0 else line

    def _emit(self) -> None:
        self._out.append(self._text())
        self._told_at_s = self._clock.monotonic()

    def _start_line(self) -> None:
        self._line, self._length, self._cursor = "", 0, 0
        self._was_redrawn = False
        self._shown = None
