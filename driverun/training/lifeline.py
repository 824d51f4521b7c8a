"""Ends this process when the runner is gone, however it went."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

from driverun.training.descendants import kill_descendants

PR_SET_PDEATHSIG = 1  #: <linux/prctl.h>


def hold(file_descriptor: int) -> None:
    """Watch the reading end of a pipe whose writing end only the runner has; at its end, end.

    A thread waits in the kernel, which wakes it when the runner dies, SIGKILL included. Where Linux offers it, the
    kernel also kills this process by itself: a thread cannot run while a library holds the interpreter's lock.
    """
    threading.Thread(target=_watch, args=(file_descriptor,), name="driverun-lifeline", daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(file_descriptor: int) -> None:
    while True:
        try:
            if os.read(file_descriptor, 1) == b"":
                break
        except InterruptedError:
            continue
        except OSError:
            break
    kill_descendants()
    os._exit(1)
