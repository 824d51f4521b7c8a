"""Real workers on machines of their own: processes that are killed, disks that are deleted.

Kills come at events (a step, a commit), never at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driverun.clock import SystemClock
from driverun.execution.workdir import SHARED_MEMORY
from driverun.spool.boards import Progress, ProgressBoard

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 300.0


def driverun(*arguments: str, root: Path, expect: int = 0) -> str:
    """What the command prints. Its exit code has to be `expect`."""
    done = subprocess.run(
        [sys.executable, "-m", "driverun", "--root", str(root), *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIVERUN_")}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), kept.get("PYTHONPATH")]))
    return {**kept, **more}


@dataclass
class Runtime:
    """One worker's machine."""

    root: Path
    disk: Path
    process: subprocess.Popen[bytes]
    _board: ProgressBoard | None = field(default=None)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def progress(self) -> Progress:
        if self._board is None:
            found = list(self.disk.glob("attempts/*/spool/progress.bin"))
            if not found or not found[0].stat().st_size:
                return Progress()
            self._board = ProgressBoard(found[0])
        return self._board.read()

    def trainer_pid(self) -> int | None:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if b"driverun.training" in words and any(str(self.disk).encode() in word for word in words):
                    return int(entry.parent.name)
        return None

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Return when it has happened. The worker must live until then."""
        clock = SystemClock()
        end_s = clock.monotonic() + PATIENCE_S
        while not happened():
            assert self.is_alive, f"the worker ended too early:\n{self.log()}"
            assert clock.monotonic() < end_s, f"it never happened:\n{self.log()}"
            clock.sleep(0.01)

    def commits(self) -> int:
        """Checkpoints that the newest attempt has committed."""
        return len(list(newest_attempt(self.root).glob("ckpt-*"))) if attempts(self.root) else 0

    def power_cut(self) -> Progress:
        """SIGKILL to everything, the disk deleted; gives where training stood."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        progress = self.progress()
        shutil.rmtree(self.disk, ignore_errors=True)
        for memory in (SHARED_MEMORY / f"driverun-{os.getuid()}").glob("*"):
            if any(memory.name == attempt.name for attempt in attempts(self.root)):
                shutil.rmtree(memory, ignore_errors=True)
        return progress

    def log(self) -> str:
        return self.disk.with_suffix(".log").read_text(errors="replace")[-6000:]


def attempts(root: Path) -> list[Path]:
    return sorted((root / "runs").glob("*.*.*"))


def newest_attempt(root: Path) -> Path:
    return attempts(root)[-1]


@contextmanager
def runtime(
    root: Path, name: str, *arguments: str, address: str | None = None, **environment: str
) -> Iterator[Runtime]:
    """A worker at work, whose machine is gone when the block ends.

    Args:
        root: the folder that the worker's disk is beside, and the root itself unless `address` is another.
    """
    disk = root.parent / f"{root.name}-{name}"
    disk.mkdir()
    with open(disk.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "driverun",
                "--root",
                address or str(root),
                "work",
                *(arguments or ("--until-empty",)),
            ],
            env=clean_environment(DRIVERUN_WORKDIR=str(disk), **environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    machine = Runtime(root, disk, process)
    try:
        yield machine
    finally:
        machine.power_cut()


def work_to_end(root: Path, name: str = "last") -> int:
    """Let a worker do all there is; gives how many steps it executed."""
    with runtime(root, name) as machine:
        clock = SystemClock()
        executed = 0
        while machine.is_alive:
            executed = max(executed, machine.progress().executed)
            clock.sleep(0.05)
        assert machine.process.returncode == 0, machine.log()
    return executed


def status(root: Path, run_id: str) -> dict[str, Any]:
    found = json.loads(driverun("status", run_id, "--json", root=root))
    assert isinstance(found, dict)
    return found


def history(root: Path, run_id: str) -> str:
    path = root / str(status(root, run_id)["results"]["path"])
    return (path / "history.csv").read_text()
