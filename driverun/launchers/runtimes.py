"""A worker in processes of its own, with a disk of its own, whose power can be cut."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from driverun.execution.workdir import SHARED_MEMORY
from driverun.spool.boards import Progress, ProgressBoard

SAID_CHARACTERS = 4000


class Runtime:
    """The processes and the disk of one worker."""

    def __init__(self, root: str, *work: str, environment: Mapping[str, str], workdir: Path) -> None:
        """Start `driverun work` on `root`, in a session of its own: one signal reaches all of it, and nothing else.

        Args:
            work: further arguments of `driverun work`.
            workdir: its disk, which must not exist; what the worker says goes to a file beside it.
        """
        self._workdir = workdir
        self._board: ProgressBoard | None = None
        self._board_file: Path | None = None
        workdir.mkdir(parents=True)
        self._log = workdir.with_suffix(".log")
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "driverun", "--root", root, "work", "--quiet", *work],
                env={**environment, "DRIVERUN_WORKDIR": str(workdir)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it lives; negative: the signal that ended it."""
        return self._process.poll()

    def progress(self) -> Progress | None:
        """Where training stands, read from the trainer's own board; it outlives the process."""
        for found in self._workdir.glob("attempts/*/spool/progress.bin"):  # of the attempt at work
            if found != self._board_file and _size_bytes(found):
                self._board, self._board_file = ProgressBoard(found), found
        return self._board.read() if self._board is not None else None

    def power_cut(self) -> Progress | None:
        """Kill everything and delete its disk; gives where training stood."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        progress = self.progress()
        memory = SHARED_MEMORY / f"driverun-{os.getuid()}"
        for attempt in self._workdir.glob("attempts/*"):
            shutil.rmtree(memory / attempt.name, ignore_errors=True)
        shutil.rmtree(self._workdir, ignore_errors=True)
        return progress

    def pause(self) -> None:
        """Stand still, all of it, as a machine does that is put to sleep."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Wake up, and know nothing of the pause."""
        self._signal(signal.SIGCONT)

    def ask_to_end(self) -> None:
        """Have it commit and hand over."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def said(self) -> str:
        """The end of what it said."""
        return self._log.read_text(errors="replace")[-SAID_CHARACTERS:]


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # that attempt has just ended
        return 0
