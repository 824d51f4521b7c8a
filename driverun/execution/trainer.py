"""The training process as the runner sees it: started, watched, asked, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from driverun.clock import Clock
from driverun.spool.boards import STACKS_SIGNAL, Control, ControlBoard
from driverun.spool.folder import SpoolFolder
from driverun.spool.masking import Masker
from driverun.transfer.linelog import LineCleaner

NO_SECRETS: Mapping[str, str] = MappingProxyType({})
READ_BYTES = 1 << 16
GATHER_BELOW_BYTES = 4096
GATHER_S = 0.1  #: a progress bar writes all the time, little at a time; nobody needs each of its drawings


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a training process ended."""

    code: int  #: negative: the signal that ended it
    peak_bytes: int  #: of memory, of the largest process of the job
    killed_by_kernel: bool  #: for its memory


class Trainer(Protocol):
    """A running training process."""

    def poll(self) -> Exit | None:
        """How it ended; None while it runs."""

    def hand_over(self) -> None:
        """Ask it to take a snapshot at the next step and end."""

    def show_stacks(self) -> None:
        """Have it write into its log where each of its threads stands."""

    def terminate(self) -> None:
        """SIGTERM: for a script that is not at a step."""

    def kill(self) -> None:
        """End it now; returns when it is gone."""

    def close(self) -> None:
        """Wait until all it wrote was read."""


class StartTrainer(Protocol):
    """Starts a training process on a spool whose request is written."""

    def __call__(
        self,
        spool: SpoolFolder,
        *,
        work: Path,
        seed: int,
        backend: str | None,
        on_line: Callable[[str], None],
        secrets: Mapping[str, str] = NO_SECRETS,
        withheld: Collection[str] = (),
        packages: Path | None = None,
    ) -> Trainer:
        """The process, running; `on_line` is called from another thread with each line it writes.

        Args:
            secrets: variables of the job alone, masked in what it writes.
            withheld: variables of the runner that the job must not see.
            packages: a folder of packages that go before those of the interpreter.
        """


class ProcessTrainer:
    """A training process of this machine.

    It is started from the runner's main thread, shares its process group, and holds the reading end of a pipe whose
    other end dies with the runner.
    """

    def __init__(
        self,
        spool: SpoolFolder,
        *,
        work: Path,
        python: str,
        environment: Mapping[str, str],
        clock: Clock,
        on_line: Callable[[str], None],
        masker: Masker | None = None,
    ) -> None:
        self._masked = (masker or Masker()).stream()
        self._control = ControlBoard(spool.control)
        self._oom_kills = _oom_kills()
        self._clock = clock
        self._exit: Exit | None = None
        reading, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                # -P: the working folder holds the job's code, which may well have a module called `random`
                [python, "-P", "-m", "driverun.training", str(spool.path), str(reading)],
                cwd=work,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(reading,),
            )
        finally:
            os.close(reading)
        self._reader = threading.Thread(
            target=self._read, args=(LineCleaner(clock), on_line), name="driverun-log", daemon=True
        )
        self._reader.start()

    def poll(self) -> Exit | None:
        if self._exit is None:
            self._reap(os.WNOHANG)
        return self._exit

    def hand_over(self) -> None:
        self._control.write(Control.HAND_OVER)

    def show_stacks(self) -> None:
        if self.poll() is None:
            self._process.send_signal(STACKS_SIGNAL)

    def terminate(self) -> None:
        if self.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        if self.poll() is None:
            for pid in (*_descendants(self._process.pid), self._process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._reap(0)

    def close(self) -> None:
        # What the job started may hold the pipe open for ever; what it writes after its parent is no log of the run.
        self._reader.join(timeout=5.0)

    def _reap(self, options: int) -> None:
        """Take leave of the process if it has ended; with it comes what it, and all it waited for, used (wait4(2))."""
        pid, status, used = os.wait4(self._process.pid, options)
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code  # or Popen would wait for whoever has this number next
        self._exit = Exit(
            code=code,
            peak_bytes=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            killed_by_kernel=code == -signal.SIGKILL and _oom_kills() > self._oom_kills,
        )
        os.close(self._lifeline)

    def _read(self, cleaner: LineCleaner, on_line: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            while chunk := os.read(output.fileno(), READ_BYTES):
                for line in cleaner.feed(self._masked.feed(chunk)):
                    on_line(line)
                if len(chunk) < GATHER_BELOW_BYTES and self._exit is None:
                    self._clock.sleep(GATHER_S)
        for line in (*cleaner.feed(self._masked.close()), *cleaner.close()):
            on_line(line)


def trainer_environment(
    base: Mapping[str, str],
    *,
    seed: int,
    backend: str | None,
    secrets: Mapping[str, str] = NO_SECRETS,
    withheld: Collection[str] = (),
    packages: Path | None = None,
) -> dict[str, str]:
    """The environment of a job: the runner's, less what concerns driverun or other jobs alone, and its secrets."""
    environment = {
        name: value
        for name, value in base.items()
        if not name.startswith("DRIVERUN_") and name not in withheld
    }
    environment.update(secrets)
    package = str(Path(__file__).parents[2])
    own = str(packages) if packages is not None else None
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [own, base.get("PYTHONPATH"), package]))
    if packages is not None:
        environment["PATH"] = os.pathsep.join([str(packages / "bin"), base.get("PATH") or os.defpath])
    environment["PYTHONHASHSEED"] = str(seed % 2**32)
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    return environment


def process_starter(*, python: str, environment: Mapping[str, str], clock: Clock) -> StartTrainer:
    """Starts real training processes with this interpreter."""

    def start(
        spool: SpoolFolder,
        *,
        work: Path,
        seed: int,
        backend: str | None,
        on_line: Callable[[str], None],
        secrets: Mapping[str, str] = NO_SECRETS,
        withheld: Collection[str] = (),
        packages: Path | None = None,
    ) -> Trainer:
        return ProcessTrainer(
            spool,
            work=work,
            python=python,
            environment=trainer_environment(
                environment, seed=seed, backend=backend, secrets=secrets, withheld=withheld, packages=packages
            ),
            clock=clock,
            on_line=on_line,
            masker=Masker(secrets),
        )

    return start


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since boot; 0 where it does not tell."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def _descendants(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, ValueError):
        return []
    return [found for child in children for found in (*_descendants(child), child)]
