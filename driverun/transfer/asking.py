"""Asks another program for what may never be answered, and does not wait for one that hangs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

GONE_S = 1.0  #: a process that was killed is gone by then, unless the kernel holds on to it


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the program said, and how it ended."""

    code: int
    lines: tuple[str, ...]  #: of output and complaints together, those that are not blank


def ask(
    command: Sequence[str],
    *,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
    limit_s: float,
) -> Answer:
    """The answer of the program.

    Args:
        given: what it reads.
        environment: what it is given; None: the environment of this process.

    Raises:
        TimeoutError: it did not answer within `limit_s`; it was killed, and what it had started with it.
        OSError: it cannot be started.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment) if environment is not None else None,
        start_new_session=True,  # an interrupt of the terminal is not for it
    )
    try:
        said, _ = child.communicate(given, timeout=limit_s)
    except subprocess.TimeoutExpired as exc:
        _let_go(child)
        raise TimeoutError(f"{command[0]} did not answer within {limit_s:g} s") from exc
    lines = (line.strip() for line in said.decode(errors="replace").splitlines())
    return Answer(code=child.returncode, lines=tuple(line for line in lines if line))


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """End the child, without waiting for one that the kernel holds on to: who asks a mount may be in its hands."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # what it started would hold the pipe open
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    with suppress(subprocess.TimeoutExpired):
        child.wait(timeout=GONE_S)
