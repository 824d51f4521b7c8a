"""Ends every process that this one started, directly or not."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def descendants_of(pid: int) -> list[int]:
    """Process ids beneath `pid`, nearest first; empty where the system has no /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name may hold blanks, brackets and any byte; what follows the last bracket is plain.
            fields = entry.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    wanted = [pid]
    while wanted:
        below = children.get(wanted.pop(0), [])
        found += below
        wanted += below
    return found


def kill_descendants() -> int:
    """SIGKILL to all of them; gives how many there were. Those that are gone already are fine."""
    killed = 0
    for pid in descendants_of(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # the latter: it runs as another user
        killed += 1
    return killed
