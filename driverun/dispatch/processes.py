"""Whether a process that a record names is still alive, as far as this machine can know.

A host's name alone proves nothing: laptops and containers share names. So a process is looked up only where
the name, the boot and the process namespace are all the same as here.
"""

from __future__ import annotations

import os
import platform
import sys
import uuid
from pathlib import Path

from driverun.runs.record import ProcessId

HOST_VARIABLE = "DRIVERUN_HOST"  #: another name for this host, so that rehearsals can play several machines

_PROC = Path("/proc")
_DEAD_STATES = ("Z", "X", "x")  # proc(5): a zombie waits for nothing but its parent


def this_process() -> ProcessId:
    """The name of the process that asks."""
    _, started = _state_and_start(os.getpid()) or ("", "")
    return ProcessId(host=_host(), boot_id=_boot_id(), pid=os.getpid(), started=started)


def is_alive(process: ProcessId) -> bool | None:
    """Does `process` still run? None: it belongs to another machine or boot, or this one does not tell."""
    if process.host != _host() or process.boot_id != _boot_id() or not process.boot_id:
        return None
    if found := _state_and_start(process.pid):
        state, started = found
        return state not in _DEAD_STATES and started == process.started
    return _answers_signals(process.pid)


def _host() -> str:
    return os.environ.get(HOST_VARIABLE) or platform.node()


def _boot_id() -> str:
    """What changes with every boot and tells process namespaces apart; "" where there is no such thing."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        # A network card's address, lest two machines of one name take each other's processes for their own.
        return f"node/{uuid.getnode():012x}"


def _state_and_start(pid: int) -> tuple[str, str] | None:
    """The state letter and the start time, in ticks since boot; None where /proc shows no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the command's name, in parentheses, may hold anything
    return fields[0], fields[19]


def _answers_signals(pid: int) -> bool | None:
    """For systems without /proc, and for a /proc that hides the processes of others (hidepid)."""
    if sys.platform == "win32":
        return None  # os.kill would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return None
    return True
