"""A worker, its root and its machines, in one process, with a trainer that is scripted to the step.

The trainer is a stand-in for a training process: it speaks the spool's language, and its "training" is a number that
every step changes by a rule, so that a lost or repeated step shows.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driverun.dispatch.choose import Capabilities
from driverun.dispatch.ledger import Ledger
from driverun.execution.client import Client
from driverun.execution.context import StopSignal, WorkerContext
from driverun.execution.jobs import local_job
from driverun.execution.secrets import Secrets
from driverun.execution.tasks import Tasks, TurnTasks
from driverun.execution.trainer import Exit, Trainer
from driverun.execution.workdir import Workdir
from driverun.execution.worker import Mode, Worked, Worker
from driverun.runs.layout import RUNS
from driverun.runs.record import ProcessId
from driverun.settings import Settings
from driverun.spool.boards import Control, ControlBoard, Progress, ProgressBoard
from driverun.spool.buffers import SnapshotWriter
from driverun.spool.events import EventKind, EventWriter
from driverun.spool.folder import SpoolFolder
from driverun.spool.request import TrainingRequest
from driverun.spool.snapshot import (
    TENSORS,
    FileEntry,
    SnapshotHeader,
    SnapshotKind,
    TensorEntry,
    mapped_tensors,
    read_header,
    write_header,
)
from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.transfer.cache import DataCache

LEASE_S = 60.0


@dataclass(frozen=True)
class Plan:
    """What the scripted job does."""

    steps: int = 12
    steps_per_poll: int = 2
    snapshot_every: int = 3
    fails_at: int | None = None  #: raises there, always
    exit_code: int | None = None  #: ends so, without a word, at its first step
    deaf: bool = False  #: does not hand over
    prints: bytes = b""


def value_after(steps: int) -> int:
    """The "weights" after so many steps."""
    value = 1
    for step in range(1, steps + 1):
        value = (value * 6364136223846793005 + step) % 2**64
    return value


class ScriptedTrainer:
    """Trains `plan.steps_per_poll` steps each time it is looked at."""

    def __init__(self, plan: Plan, spool: SpoolFolder, work: Path, executed: list[int]) -> None:
        self._plan = plan
        self._spool = spool
        self._work = work
        self._executed = executed
        self._request = TrainingRequest.read(spool.request)
        self._events = EventWriter(spool.events)
        self._control = ControlBoard(spool.control)
        self._board = ProgressBoard(spool.progress)
        self._buffers: SnapshotWriter | None = None
        self._sequence = 0
        self._exit: Exit | None = None
        self._killed = False
        self._begin()

    def _begin(self) -> None:
        self._step, self._value = 0, 1
        self._finished = self._request.restore_fits > 0
        self._events.write(EventKind.STARTED, environment={"keras": "scripted"})
        for reason in self._request.notes:
            self._events.write(EventKind.APPROXIMATE, reason=reason)
        source = None
        if self._finished:
            source = self._spool.restored_fit(0)
        elif self._request.restore_checkpoint:
            source = self._spool.restored_checkpoint
        if source is None:
            self._events.write(
                EventKind.FIT_BEGUN, fit=0, step=0, epochs=1, steps_per_epoch=self._plan.steps,
                total_steps=self._plan.steps, taken_up=False,
            )  # fmt: skip
            return
        header = read_header(source)
        assert header is not None
        with mapped_tensors(source) as view:
            self._value = int.from_bytes(view[:8], "little")
        self._step = header.step
        for entry in header.files:
            (self._work / entry.path).write_bytes(self._spool.file(entry.sha256).read_bytes())
        if self._finished:
            self._tell_end(replayed=True)
        else:
            self._events.write(EventKind.RESUMED, fit=0, step=self._step, epoch=0, step_in_epoch=self._step)

    def poll(self) -> Exit | None:
        if self._exit is None:
            self._exit = self._turn()
            if self._exit is not None:
                self._let_go()
        return self._exit

    def _let_go(self) -> None:
        """What the kernel does for a process that ends."""
        self._events.close()
        if self._buffers is not None:
            self._buffers.close()

    def _turn(self) -> Exit | None:
        plan = self._plan
        if self._control.read() is Control.HAND_OVER and not plan.deaf:
            self._snapshot()
            self._events.write(EventKind.HANDED_OVER, step=self._step)
            return _exit(0)
        if self._finished:
            return self._end()
        for _ in range(plan.steps_per_poll):
            if plan.exit_code is not None:
                return _exit(plan.exit_code)
            if plan.fails_at is not None and self._step >= plan.fails_at:
                self._events.write(
                    EventKind.FAILED, kind="ValueError", message="scripted", traceback="Traceback ..."
                )
                return _exit(1)
            self._step += 1
            self._value = (self._value * 6364136223846793005 + self._step) % 2**64
            self._executed.append(self._step)
            self._board.write(Progress(fit=0, epoch=0, step=self._step, executed=len(self._executed)))
            (self._work / "steps.txt").write_text(f"{self._step}\n")
            if self._step == plan.steps:
                self._fit_end()
                return None
            if self._step % plan.snapshot_every == 0:
                self._snapshot()
        return None

    def _end(self) -> Exit:
        self._events.write(EventKind.EVALUATED, logs={"accuracy": 0.5})
        digest = hashlib.sha256(str(self._value).encode()).hexdigest()
        self._events.write(EventKind.FINISHED, state_sha256=digest, step=self._step)
        (self._spool.models / "model.keras").write_bytes(b"model %d" % self._value)
        return _exit(0)

    def _header(self, kind: SnapshotKind, files: tuple[FileEntry, ...]) -> SnapshotHeader:
        self._sequence += 1
        done = kind is SnapshotKind.FIT_END
        return SnapshotHeader(
            kind=kind,
            sequence=self._sequence,
            step=self._step,
            fits_finished=1 if done else 0,
            epoch=1 if done else 0,
            step_in_epoch=0 if done else self._step,
            steps_per_epoch=self._plan.steps,
            total_steps=self._plan.steps,
            tensors=(
                TensorEntry(
                    group="trainable", index=0, path="w", dtype="uint64", shape=(1,), offset=0, size_bytes=8
                ),
            ),
            files=files,
            fingerprint={
                "code_sha256": self._request.code_sha256,
                "data_sha256": self._request.data_sha256,
            },
        )

    def _files(self) -> tuple[FileEntry, ...]:
        file = self._work / "steps.txt"
        if not file.exists():
            return ()
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        self._spool.file(digest).write_bytes(content)
        return (FileEntry(path="steps.txt", size_bytes=len(content), sha256=digest),)

    def _snapshot(self) -> None:
        if self._buffers is None:
            self._buffers = SnapshotWriter(Path(self._request.buffers))
        begun = self._buffers.begin(8)
        assert begun is not None
        slot, memory = begun
        memory[:8] = self._value.to_bytes(8, "little")
        memory.release()
        slot.seal(self._header(SnapshotKind.CHECKPOINT, self._files()))
        self._events.write(
            EventKind.SNAPSHOT, step=self._step, capture_s=0.0, size_bytes=8, buffers=self._request.buffers
        )

    def _fit_end(self) -> None:
        folder = self._spool.fit(0)
        folder.mkdir(parents=True)
        (folder / TENSORS).write_bytes(self._value.to_bytes(8, "little"))
        write_header(folder, self._header(SnapshotKind.FIT_END, self._files()))
        self._finished = True
        self._tell_end(replayed=False)

    def _tell_end(self, *, replayed: bool) -> None:
        self._events.write(
            EventKind.FIT_ENDED,
            fit=0,
            step=self._step,
            history={"loss": [0.25]},
            epochs=[0],
            replayed=replayed,
        )

    def hand_over(self) -> None:
        self._control.write(Control.HAND_OVER)

    def show_stacks(self) -> None:
        """Nobody would read them."""

    def terminate(self) -> None:
        """A scripted job ignores SIGTERM."""

    def kill(self) -> None:
        if self._exit is None:
            self._exit = _exit(-9)
            self._let_go()

    def close(self) -> None:
        """Nothing is read from it."""


def _exit(code: int) -> Exit:
    return Exit(code=code, peak_bytes=123_000_000, killed_by_kernel=False)


@dataclass
class World:
    """One root and any number of machines, each of which lives for one worker."""

    folder: Path
    plan: Plan = field(default_factory=Plan)
    clock: FakeClock = field(default_factory=FakeClock)
    executed: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    machines: int = 0
    dead: set[int] = field(default_factory=set)
    store: ObjectStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.stop = StopSignal()
        self.secrets = Secrets()

    @property
    def client(self) -> Client:
        return Client(self.store, clock=self.clock, by="tester@here")

    def job(self, name: str = "job", /, **fields: Any) -> str:
        """Submit a job; gives the run's id."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text("print('scripted')\n")
        (folder / "job.yaml").write_text(json.dumps({"entrypoint": "train.py", **fields}))
        return self.client.submit(local_job(folder)).run_id

    def worker(
        self,
        store: ObjectStore | None = None,
        *,
        start: Callable[..., Trainer] | None = None,
        deadline_s: float | None = None,
        jobs: Collection[str] = (),
        tasks: Tasks | None = None,
        patience_s: float = math.inf,
    ) -> Worker:
        """A worker on a new machine, with a disk of its own."""
        self.machines += 1
        disk = self.folder / f"machine-{self.machines}"
        context = WorkerContext(
            store=store or self.store,
            clock=self.clock,
            settings=Settings(workdir=disk, heartbeat_s=10.0, lease_s=LEASE_S),
            worker=f"worker{self.machines}",
            process=ProcessId(host=f"machine-{self.machines}", boot_id="b", pid=1, started="1"),
            workdir=Workdir(disk, shared_memory=self.folder / "no-such-memory"),
            cache=DataCache(disk / "cache", 10**9, clock=self.clock),
            capabilities=Capabilities(),
            start_trainer=start or self.start,
            tasks=tasks if tasks is not None else TurnTasks(self.clock),
            stop=self.stop,
            say=self.said.append,
            show=lambda _: None,
            secrets=self.secrets,
        )
        return Worker(context, deadline_s=deadline_s, by="tester@here", jobs=jobs, patience_s=patience_s)

    def start(self, spool: SpoolFolder, *, work: Path, on_line: Callable[[str], None], **_: Any) -> Trainer:
        for line in self.plan.prints.decode().splitlines():
            on_line(line)
        return ScriptedTrainer(self.plan, spool, work, self.executed)

    def work(self, store: ObjectStore | None = None, *, mode: Mode = Mode.UNTIL_EMPTY) -> Worked:
        return self.worker(store).work(mode)

    def power_cut(self) -> None:
        """The newest machine's disk is gone, and so much time passes that everyone can know it is dead."""
        shutil.rmtree(self.folder / f"machine-{self.machines}", ignore_errors=True)
        self.clock.advance(seconds=LEASE_S + 1)

    def results(self, run_id: str) -> dict[str, bytes]:
        """What a person gets: path -> content; the report tells of times and is left out."""
        path = self.client.run(run_id).results_path
        assert path is not None, self.client.run(run_id)
        return {
            info.path.removeprefix(f"{path}/"): self.store.read(info.path)
            for info in self.store.list(path, recursive=True)
            if not info.path.endswith(("report.html", "manifest.json"))
        }

    def claims(self) -> list[str]:
        ledger = Ledger(self.store)
        ledger.refresh()
        return [str(claim.key) for run in ledger.runs.values() for claim in run.claims]

    def attempt_folders(self) -> set[str]:
        return {info.path.split("/")[1] for info in self.store.list(RUNS, recursive=True)}
