"""One bounded pass over a root: for cron, systemd timers and CI.

What it takes to start VMs is imported where that is done: cron has passes made every few minutes that find nothing.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from driverun.assembly import Surroundings, WorkOptions, open_client, open_worker, root_address
from driverun.dispatch.lease import BEATS_PER_LEASE
from driverun.execution.context import Stop, StopSignal
from driverun.execution.worker import Mode, Worked, Worker
from driverun.runs.record import AttemptState

if TYPE_CHECKING:
    from driverun.launchers.colab_cli_launch import Launch, Launched
    from driverun.launchers.colab_cli_queue import QueueLook

MAX_RUNTIME_S = (
    3000.0  #: of one pass, where nobody says otherwise: 50 minutes, in case it is started every hour
)
SPARE_S = 2.0  #: for the looks themselves


class Result(enum.Enum):
    """What a pass came to, with the exit code that says so."""

    DONE = 0  #: all that could be done is done, or there was nothing
    FAILED = 1  #: a run failed
    LEFT = 3  #: it was stopped, and left work behind
    STOPPED = 130  #: a person stopped it


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """What a pass did."""

    result: Result
    text: str  #: one line
    is_idle: bool = False  #: there was nothing to do


@contextmanager
def only_one(workdir: Path, root: str) -> Iterator[int | None]:
    """Keep other ticks of this machine from the root within the block; gives the process that is at it already.

    The lock goes with its process, however that ends.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / f"tick-{hashlib.sha256(root.encode()).hexdigest()[:12]}.lock"
    # Not inherited by the training process, which may outlive this one by some seconds.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield int(os.pread(descriptor, 20, 0).strip() or 0)
            return
        os.pwrite(descriptor, f"{os.getpid():<20d}".encode(), 0)
        yield None
    finally:
        os.close(descriptor)


def tick(
    root: str | None,
    here: Surroundings,
    *,
    options: WorkOptions,
    stop: StopSignal,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> Ticked:
    """Make the runs that are due, take up what can be taken up, and return when there is nothing more to do.

    It does not wait for runs in other hands, but for the moment in which it turns out that their worker is dead.

    Raises:
        UsageError: it cannot work as it was called.
        StoreError: the root is out of reach.
    """
    with only_one(here.settings().workdir, str(root_address(root, here))) as other:
        if other is not None:
            return _occupied(other)
        worker = open_worker(root, here, options=options, stop=stop, say=say, show=show)
        return told(worker, worker.work(Mode.UNTIL_EMPTY))


def patience_s(here: Surroundings) -> float:
    """For how long a pass waits for what may come, in seconds. What takes longer is for the next one."""
    settings = here.settings()
    # A dead worker is known to be dead after two looks, so far apart.
    return max(settings.lease_s / BEATS_PER_LEASE, settings.quiet_s) + SPARE_S


def tick_by_launch(
    root: str | None, here: Surroundings, launch: Callable[[], Launch], *, say: Callable[[str], None]
) -> Ticked:
    """Start VMs if something is due or interrupted and nobody is at work; works nothing here.

    Args:
        launch: makes the launch, if one is called for.

    Raises:
        UsageError: it cannot be done as asked; no VM was started.
        StoreError: the root is out of reach.
    """
    from driverun.launchers.colab_cli_queue import RootQueue

    with only_one(here.settings().workdir, str(root_address(root, here))) as other:
        if other is not None:
            return _occupied(other)
        queue = RootQueue(
            open_client(root, here), clock=here.clock, quiet_s=here.settings().quiet_s, by=here.person
        )
        for name, faults in queue.settle().items():
            say(f"the job {name} is INVALID: {faults}")
        why_not = no_launch(queue.look())
        if why_not is not None:
            return Ticked(result=Result.DONE, text=f"no VM is started: {why_not}", is_idle=True)
        return _launched(launch().run())


def no_launch(look: QueueLook) -> str | None:
    """Why no VM is to be started; None if one is."""
    if not look.claimable:
        waiting = "; ".join(f"{run_id}: {why}" for run_id, why in look.left.items())
        return waiting or "nothing is due"
    if look.alive:
        at_work = ", ".join(sorted({key.run_id for key in look.alive}))
        return f"a worker is at {at_work}, and {_count(len(look.claimable), 'run')} can wait for it"
    return None


def _occupied(process: int) -> Ticked:
    return Ticked(
        result=Result.DONE, text=f"another tick is at it (process {process}); nothing done", is_idle=True
    )


def told(worker: Worker, worked: Worked) -> Ticked:
    """What a worker that has come to its end did, in one line."""
    parts = [f"made {', '.join(worked.made)}"] if worked.made else []
    for ended in worker.view().finished:
        if ended.outcome is not None:
            where = f"attempt {ended.number}"
            where += f", from step {ended.resumed_step}" if ended.resumed_step else ""
            reason = f": {ended.outcome.reason}" if ended.outcome.reason else ""
            parts.append(f"{ended.run_id} {ended.outcome.state.value} ({where}){reason}")
    left = [f"{run_id}: {why}" for run_id, why in worked.left.items()]
    parts += [f"{_count(len(left), 'run')} left ({'; '.join(left)})"] if left else []
    text = "; ".join(parts) or "nothing to do"
    if worker.invalid_jobs:
        text += f"; INVALID: {', '.join(worker.invalid_jobs)} (see: driverun status)"
    interrupted = any(each.state is AttemptState.INTERRUPTED for each in worked.outcomes.values())
    if worked.stop is Stop.USER:
        return Ticked(result=Result.STOPPED, text=text)
    if worked.any_failed:
        return Ticked(result=Result.FAILED, text=text)
    is_left = bool(worked.left) and (worked.stop is not None or interrupted)
    is_idle = not (is_left or worked.made or worked.outcomes)
    return Ticked(result=Result.LEFT if is_left else Result.DONE, text=text, is_idle=is_idle)


def _launched(launched: Launched) -> Ticked:
    from driverun.launchers.colab_cli_launch import End

    parts = [f"{launched.end.value} ({_count(launched.vms, 'VM')})"]
    parts += [f"{run_id} FAILED {why}" for run_id, why in launched.failed.items()]
    parts += [*launched.unreleased, *(f"left: {run_id}: {why}" for run_id, why in launched.left.items())]
    result = Result.DONE
    if launched.end is End.STOPPED:
        result = Result.STOPPED
    elif launched.failed or launched.unreleased:
        result = Result.FAILED
    elif launched.left and (launched.vms or launched.end is not End.DONE):
        result = Result.LEFT
    return Ticked(result=result, text="; ".join(parts))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
