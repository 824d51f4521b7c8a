"""What every attempt of one worker shares."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from driverun.clock import Clock
from driverun.dispatch.choose import Capabilities
from driverun.execution.environment import Environments
from driverun.execution.hardware import GpuProcess, Machine
from driverun.execution.secrets import Secrets
from driverun.execution.tasks import Tasks
from driverun.execution.trainer import StartTrainer
from driverun.execution.workdir import Workdir
from driverun.runs.record import ProcessId
from driverun.settings import Settings
from driverun.storage.base import ObjectStore
from driverun.transfer.cache import DataCache
from driverun.transfer.progress import OnProgress, progress_lines


class Stop(enum.Enum):
    """Why a worker hands over."""

    USER = "stopped by a person"  #: Ctrl-C, the notebook's stop button
    TERM = "asked to end (SIGTERM)"
    DEADLINE = "this runtime's time is up"


class StopSignal:
    """Set once by a signal handler or a deadline, read by everyone."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self.abandon = False  #: a person asked twice: do not even hand over

    def ask(self, stop: Stop) -> None:
        if self.stop is not None and stop is Stop.USER:
            self.abandon = True
        self.stop = self.stop or stop


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """One worker's means."""

    store: ObjectStore
    clock: Clock
    settings: Settings
    worker: str
    process: ProcessId
    workdir: Workdir
    cache: DataCache
    capabilities: Capabilities
    start_trainer: StartTrainer
    tasks: Tasks
    stop: StopSignal
    say: Callable[[str], None]  #: one line for whoever watches the worker
    show: Callable[[str], None]  #: one line that the job wrote
    machine: Machine = field(default_factory=Machine)  #: as the worker found it
    gpu_processes: Callable[[], tuple[GpuProcess, ...]] = tuple  #: who holds memory of a GPU now
    environments: Environments | None = (
        None  #: makes the packages of jobs; None: only those without any are run
    )
    secrets: Secrets = field(default_factory=Secrets)  #: where the values of the jobs' secrets come from
    #: makes what shows how far the transfer of something named is; None: lines by `say`
    show_progress: Callable[[str], OnProgress] | None = None

    def progress_of(self, what: str) -> OnProgress:
        """What is to be told how far the transfer of `what` is."""
        if self.show_progress is not None:
            return self.show_progress(what)
        return progress_lines(self.say, self.clock, what=what)
