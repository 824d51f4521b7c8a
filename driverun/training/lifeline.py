"""Keeps a guardian between the runner and the trainer, which lets nothing of the job outlive its time.

    runner ── guardian ── trainer ── whatever the job starts

The guardian is the process that the runner started. It runs no code of the job, loads no library, and waits in the
kernel, so it can act while the trainer is stuck in a library that holds the interpreter's lock. Whatever loses its
parent beneath it becomes its child (PR_SET_CHILD_SUBREAPER), so a daemon of the job's cannot hide from it.

* The runner is gone, however it went, or closed its end of the pipe: the trainer and all beneath it are killed.
* The trainer ended: what it left behind is ended, and the guardian ends in the same way, signal included.
* The guardian is killed: the kernel kills the trainer (PR_SET_PDEATHSIG).

Without Linux the guardian sees the end of the pipe and of the trainer all the same, but not what the job started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import selectors
import signal
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

from driverun.errors import SpoolError
from driverun.spool.boards import STACKS_SIGNAL
from driverun.training.descendants import kill_descendants

PR_SET_PDEATHSIG = 1  #: <linux/prctl.h>
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = (
    1.0  #: for what the trainer leaves behind, such as Python's tracker of shared memory, to end by itself
)


def stand_guard(file_descriptor: int) -> None:
    """Return in a new process, the trainer; the calling process stays behind as its guardian.

    SIGTERM is blocked in the trainer until it unblocks it, so that none is lost before it has a handler.

    Args:
        file_descriptor: the reading end of a pipe whose writing end only the runner has.
    """
    runner = os.getppid()
    try:
        os.fstat(file_descriptor)
    except OSError as exc:
        raise SpoolError(f"cannot watch the runner: {file_descriptor} is no open file descriptor") from exc
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Jupyter sends it to the whole group; the runner decides
    signal.signal(STACKS_SIGNAL, signal.SIG_IGN)  # until the trainer can answer it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guardian = os.getpid()
    trainer = os.fork()
    if trainer:
        _Guardian(runner=runner, trainer=trainer, lifeline=file_descriptor).guard()
    os.close(file_descriptor)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:  # it was killed before the kernel knew what to do then
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


@dataclass(kw_only=True)
class _Guardian:
    runner: int
    trainer: int
    lifeline: int
    status: int | None = None  #: of the trainer, once it has ended

    def guard(self) -> NoReturn:
        self._wakes = self._waking_by_signals()
        signal.signal(signal.SIGTERM, self._forward)
        signal.signal(STACKS_SIGNAL, self._forward)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        # Not to be killed by: the kernel sends it at the end of the thread that started this process, too.
        _prctl(PR_SET_PDEATHSIG, signal.SIGCHLD)
        while self._reap() and self.status is None and os.getppid() == self.runner:
            if self._lifeline_is_cut():
                break
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        status = self.status
        if status is None:
            os.kill(self.trainer, status := signal.SIGKILL)
        self._end_what_is_left()
        _end_like(status)

    def _waking_by_signals(self) -> selectors.BaseSelector:
        """What waits until a signal arrives, one that came just before included."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(reading, selectors.EVENT_READ)
        return selector

    def _forward(self, number: int, _frame: object) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.trainer, number)

    def _lifeline_is_cut(self) -> bool:
        """Wait for something to happen; was it the end of the runner's end of the pipe?"""
        if self.lifeline not in self._wakes.get_map():
            self._wakes.register(self.lifeline, selectors.EVENT_READ)
        return any(
            os.read(key.fd, 1024) == b"" and key.fd == self.lifeline for key, _ in self._wakes.select()
        )

    def _reap(self) -> bool:
        """Take leave of all that has ended; False once there is nothing left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == self.trainer:
                self.status = status
            if pid == 0:
                return True

    def _end_what_is_left(self) -> None:
        if self.lifeline in self._wakes.get_map():
            self._wakes.unregister(self.lifeline)
        deadline_s = time.monotonic() + GRACE_S
        while self._reap():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            for key, _ in self._wakes.select(left_s):
                os.read(key.fd, 1024)
        else:
            return
        # Again after each that is gone: its children are this process's children now, and some may be new.
        while kill_descendants():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)


def _end_like(status: int) -> NoReturn:
    """End as the trainer did, so that the runner sees a signal as one."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the trainer's own image is what helps
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))
