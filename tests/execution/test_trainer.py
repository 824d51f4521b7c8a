"""A training process as its runner sees it."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from driverun.clock import SystemClock
from driverun.execution.trainer import Exit, Trainer, process_starter
from tests.training.processes import Job

MIB = 1 << 20
Start = Callable[[str], tuple[Trainer, list[str]]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a script under the runner's own trainer; gives it with the lines that it writes."""

    def started(source: str) -> tuple[Trainer, list[str]]:
        job = Job(tmp_path / "job")
        job.write("train.py", source)
        job.request.write(job.spool.request)
        lines: list[str] = []
        starter = process_starter(python=sys.executable, environment=os.environ, clock=SystemClock())
        return starter(job.spool, work=job.work, seed=7, backend=None, on_line=lines.append), lines

    return started


def peak_of_this_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def end_of(trainer: Trainer) -> Exit:
    trainer.close()  # everything was read, so whatever wrote has ended
    while (exit_ := trainer.poll()) is None:
        os.sched_yield()
    return exit_


def test_the_peak_is_that_of_the_job_not_of_its_guardian(start: Start) -> None:
    """The process that the runner starts only stands guard.

    What a process had before its `exec` counts for its peak, so the job takes more than this process ever did.
    """
    held = peak_of_this_process() + 256 * MIB
    trainer, lines = start(
        f"held = bytearray({held})\nheld[::4096] = b'x' * len(held[::4096])\nprint('held')\n"
    )
    ended = end_of(trainer)
    assert (ended.code, lines) == (0, ["held"])
    assert held < ended.peak_bytes < held + 256 * MIB


def test_one_that_was_killed_tells_its_peak_too(start: Start) -> None:
    held = peak_of_this_process() + 256 * MIB
    trainer, _ = start(
        f"import os, signal\nheld = b'x' * {held}\nprint('held')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = end_of(trainer)
    assert ended.code == -signal.SIGKILL
    assert ended.peak_bytes > held


def test_the_end_is_told_once_and_for_all(start: Start) -> None:
    trainer, lines = start("print('a line of a job')\n")
    ended = end_of(trainer)
    trainer.kill()
    trainer.terminate()
    assert trainer.poll() == ended
    assert lines == ["a line of a job"]


def test_one_that_is_stuck_shows_where_each_of_its_threads_stands(start: Start) -> None:
    trainer, lines = start(
        "import threading\n"
        "def waits_for_ever():\n"
        "    threading.Event().wait()\n"
        "threading.Thread(target=waits_for_ever, daemon=True).start()\n"
        "print('stuck')\n"
        "lock = threading.Lock()\n"
        "lock.acquire(); lock.acquire()\n"
    )
    while "stuck" not in lines:
        os.sched_yield()
    trainer.show_stacks()
    while not any("train.py" in line and "line 7" in line for line in lines):
        os.sched_yield()
    trainer.kill()
    end_of(trainer)
    assert any("waits_for_ever" in line for line in lines)
