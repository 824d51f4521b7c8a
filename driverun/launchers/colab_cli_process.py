"""Programs that may hang, started and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from driverun.clock import Clock

POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a program said. Whether that is true is another matter."""

    text: str  #: of both its streams
    code: int | None = None  #: None: it did not end in time and was ended


class Call(Protocol):
    """A program that runs."""

    @property
    def is_over(self) -> bool:
        """Has it ended?"""

    def news(self) -> str:
        """What it has said since this was asked last; whole lines, unless it is over."""

    def end(self) -> None:
        """End it with all that it started; it gets no chance to tidy up. Nothing happens if it is over."""


class Commands(Protocol):
    """Calls one program with various arguments."""

    def run(self, arguments: Sequence[str], *, timeout_s: float) -> Answer:
        """What the program says until it ends, or until it is ended after `timeout_s`."""

    def start(self, arguments: Sequence[str]) -> Call:
        """The program, running."""


class ProgramCommands:
    """Calls a program of this machine, with nothing to read and a process group of its own.

    What it says goes through a file: a pipe is held open by whatever the program leaves behind.
    """

    def __init__(self, program: Path, *, environment: Mapping[str, str], clock: Clock) -> None:
        self._program = program
        self._environment = {**environment, "NO_COLOR": "1", "COLUMNS": "200"}
        self._clock = clock

    def run(self, arguments: Sequence[str], *, timeout_s: float) -> Answer:
        call = self.start(arguments)
        try:
            end_s = self._clock.monotonic() + timeout_s
            while not call.is_over and self._clock.monotonic() < end_s:
                self._clock.sleep(POLL_S)
            code = call.code
        finally:
            call.end()
        return Answer(text=call.news(), code=code)

    def start(self, arguments: Sequence[str]) -> ProgramCall:
        said = tempfile.TemporaryFile()  # noqa: SIM115 - the call closes it
        process = subprocess.Popen(
            [str(self._program), *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return ProgramCall(process, said)


class ProgramCall:
    """A program of this machine that runs."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process = process
        self._said = said
        self._read_bytes = 0
        self._rest = ""  #: what was not asked for before it was ended

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    @property
    def is_over(self) -> bool:
        return self.code is not None

    def news(self) -> str:
        if self._said.closed:
            rest, self._rest = self._rest, ""
            return rest
        is_over = self.is_over  # before reading: what it said last must not be missed
        size_bytes = os.fstat(self._said.fileno()).st_size
        content = os.pread(self._said.fileno(), size_bytes - self._read_bytes, self._read_bytes)
        whole_bytes = len(content) if is_over else content.rfind(b"\n") + 1
        self._read_bytes += whole_bytes
        return content[:whole_bytes].decode(errors="replace")

    def end(self) -> None:
        if self._said.closed:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._rest = self.news()
        self._said.close()
