"""Ends every process that this one started, directly or not."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def descendants_of(pid: int) -> list[int]:
    """Process ids beneath `pid`, children first; empty where the system has no /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name may hold blanks and brackets; what follows the last bracket is plain.
            fields = entry.read_text().rpartition(")")[2].split()
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


def kill_descendants() -> None:
    """SIGKILL to all of them; those that are gone already are fine."""
    for pid in descendants_of(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
