"""How long it takes from the wish to stop until the outcome is on the root, and what is waited for meanwhile."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from driverun.errors import TransientStoreError
from driverun.execution.context import Stop
from driverun.execution.stopping import rest
from driverun.execution.tasks import NotWaitedFor, ThreadTasks
from driverun.execution.trainer import Trainer
from driverun.execution.viewing import Sending
from driverun.execution.worker import Mode, Worker
from driverun.purpose import current_purpose, on_behalf_of
from driverun.runs.record import AttemptState
from driverun.runs.state import RunState
from driverun.spool.folder import SpoolFolder
from driverun.storage.base import ObjectStore
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from driverun.testing.faulty import FaultyStore, Moment, Operation
from tests.execution.drive_world import DriveWorld
from tests.execution.watching import WatchedTrainer, once_at, watched
from tests.execution.world import Plan, ScriptedTrainer, World

LAG_S = 30.0
STATE_BYTES = 100_000_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Lagging(FaultyStore):
    """A root whose listings may lag by half a minute."""

    @property
    def listing_lag_s(self) -> float:
        return LAG_S


class Asking:
    """Asks to stop at a moment, and knows how long it took from there."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked_s: float | None = None
        self.operations_before = 0

    def ask(self, *, times: int = 1) -> None:
        if self._asked_s is None:
            self._asked_s = self._world.clock.monotonic()
            for _ in range(times):
                self._world.stop.ask(Stop.USER)

    def at(
        self, name: str, path: str, *, moment: Moment = Moment.AFTER, times: int = 1
    ) -> Callable[[Operation], None]:
        """Ask when an operation of that name, on a path that holds `path`, is there."""

        def look(operation: Operation) -> None:
            if (operation.name, operation.moment) == (name, moment) and path in operation.path:
                self.ask(times=times)

        return look

    @property
    def took_s(self) -> float:
        assert self._asked_s is not None, "nobody has asked"
        return self._world.clock.monotonic() - self._asked_s

    def again(self) -> None:
        """Take the wish back: what follows is another day."""
        self._world.stop = type(self._world.stop)()


# On Drive, with a state of 100 MB.


class LargeTrainer(ScriptedTrainer):
    def _files(self) -> Any:
        # No two chunks are equal, or most of it would not be sent.
        (self._work / "steps.txt").write_bytes(random.Random(self._step).randbytes(STATE_BYTES))
        return super()._files()


class LargeWorld(DriveWorld):
    def start(self, spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        return LargeTrainer(self.plan, spool, work, self.executed)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[LargeWorld]:
    clock = FakeClock()
    settings = EmulatorSettings(latency_ms=150.0, writes_per_second=3.0)
    with DriveEmulator(tmp_path / "drive", clock=clock, settings=settings) as emulator:
        plan = Plan(steps=1000, steps_per_poll=1, snapshot_every=3)
        yield LargeWorld(tmp_path, plan=plan, clock=clock, emulator=emulator, lag_s=LAG_S)


def test_a_hand_over_of_a_hundred_megabytes_costs_a_handful_of_requests_and_no_wait(
    drive: LargeWorld,
) -> None:
    """Between two commits, late enough that old checkpoints could be swept: that is left to the next attempt."""
    asking = Asking(drive)
    committed: list[str] = []
    marks: list[tuple[int, int]] = []
    sending: list[Sending | None] = []
    workers: list[Worker] = []

    def look(operation: Operation) -> None:
        is_manifest = operation.name == "create" and "/ckpt-" in operation.path
        if is_manifest and operation.moment is Moment.AFTER:
            committed.append(operation.path)
            if len(committed) == 5:
                marks.append((len(drive.emulator.requests), len(drive.clock.sleeps)))
                asking.ask()
        is_pack = operation.name == "create" and "/pack-" in operation.path
        if is_pack and operation.moment is Moment.BEFORE and marks:
            shown = workers[0].view().attempt
            assert shown is not None
            sending.append(shown.sending)

    run_id = drive.job()
    drive.clock.advance(seconds=LAG_S)
    drive.emulator.settings.listing_lag_s = LAG_S
    workers.append(drive.worker(FaultyStore(drive.connect(), on_operation=look)))
    workers[0].work(Mode.UNTIL_EMPTY)
    took_s = asking.took_s
    drive.emulator.settings.listing_lag_s = 0.0

    [(requests, sleeps)] = marks
    made = Counter(record.method_id for record in list(drive.emulator.requests)[requests:])
    assert made["upload"] <= 4, "the pack in pieces"
    assert made["drive.files.delete"] == 0
    assert made.total() <= 12, made
    waits = [seconds for seconds in drive.clock.sleeps[sleeps:] if seconds > 0]
    assert max(waits) <= 0.5, waits
    assert took_s <= 4.0, (took_s, waits)
    run = drive.client.run(run_id)
    assert run.state is RunState.INTERRUPTED
    assert run.committed_step == len(drive.executed)
    [shown] = sending
    assert shown is not None
    assert shown.total_bytes == pytest.approx(STATE_BYTES, rel=0.01)
    assert shown.left_s is not None, "the checkpoints before tell how quick the line is"


# At moments when something takes its time.


def interrupted_at_once(world: World, run_id: str, asking: Asking) -> None:
    assert asking.took_s <= 2.0
    assert world.client.run(run_id).state is RunState.INTERRUPTED
    asking.again()


def test_a_stop_while_a_claim_settles_lets_go_of_the_run_at_once(world: World) -> None:
    run_id = world.job()
    asking = Asking(world)
    worked = world.work(Lagging(world.store, on_operation=asking.at("create", ".claim.json")))
    assert worked.outcomes[run_id].state is AttemptState.INTERRUPTED
    assert world.executed == []
    interrupted_at_once(world, run_id, asking)
    began_s = world.clock.monotonic()
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    assert world.clock.monotonic() - began_s < 10, "nobody waits for a lease"


def test_a_stop_before_the_first_step_does_not_wait_for_it(world: World) -> None:
    world.plan = Plan(steps_per_poll=0, deaf=True)
    run_id = world.job()
    asking = Asking(world)
    looks: list[int] = []

    def before(_: WatchedTrainer) -> None:
        looks.append(1)
        if len(looks) == 20:
            asking.ask()

    world.worker(start=watched(world, before)).work(Mode.UNTIL_EMPTY)
    assert asking.took_s <= 3.0
    assert world.client.run(run_id).state is RunState.INTERRUPTED


def test_a_stop_while_a_checkpoint_is_looked_for_ends_there(world: World) -> None:
    """One that an earlier attempt has told of, and that no listing shows."""
    run_id = world.job()
    world.worker(start=watched(world, once_at(7, lambda: world.stop.ask(Stop.USER)))).work(Mode.UNTIL_EMPTY)
    world.stop = type(world.stop)()
    for info in world.store.list("runs", recursive=True):
        if "/ckpt-" in info.path:
            world.store.delete(info.path)
    asking = Asking(world)
    steps = len(world.executed)
    world.work(Lagging(world.store, on_operation=asking.at("list", f"runs/{run_id}")))
    assert len(world.executed) == steps
    interrupted_at_once(world, run_id, asking)


def test_a_stop_while_results_are_confirmed_leaves_that_to_the_next_worker(world: World) -> None:
    run_id = world.job()
    asking = Asking(world)
    worked = world.work(Lagging(world.store, on_operation=asking.at("create", "results/manifest.json")))
    assert "its results are on the root" in worked.outcomes[run_id].reason
    steps = len(world.executed)
    interrupted_at_once(world, run_id, asking)
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    assert len(world.executed) == steps


class WatchedClock(FakeClock):
    """Calls `after` each time that somebody has slept."""

    after: Callable[[], None] = staticmethod(lambda: None)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.after()


def test_a_stop_wakes_who_waits_for_a_root_that_is_out_of_reach(tmp_path: Path) -> None:
    clock = WatchedClock()
    world = World(tmp_path, clock=clock)
    world.plan = Plan(steps=20, steps_per_poll=1, snapshot_every=50)
    run_id = world.job()
    asking = Asking(world)
    back_s: list[float] = []

    def out(operation: Operation) -> None:
        is_pack = operation.name == "create" and "/pack-" in operation.path
        if is_pack and operation.moment is Moment.BEFORE and not world.stop.stop:
            back_s.append(world.clock.monotonic())
            raise TransientStoreError(f"cannot reach {operation.path}: it is busy", path=operation.path)

    def after() -> None:
        if len(back_s) >= 4 and clock.monotonic() - back_s[-1] > 1.0:
            asking.ask()

    clock.after = after
    world.work(FaultyStore(world.store, on_operation=out))
    assert asking.took_s <= 2.0
    assert max(clock.sleeps) <= 1.0, "who sleeps longer at a stretch hears nothing"
    assert world.client.run(run_id).state is RunState.SUCCEEDED


@pytest.mark.parametrize("seconds", [0.3, 1.7, 5.0, 10.0, 29.999_999_7])
def test_who_is_not_disturbed_sleeps_the_whole_time_and_no_more(seconds: float) -> None:
    """Whatever time it is: a clock has ticks, and what rounding leaves over is less than one."""
    clock = FakeClock()
    for _ in range(200):
        clock.advance(seconds=0.137_131)
        began_s = clock.monotonic()
        assert rest(clock, seconds, unless=lambda: False)
        assert seconds - 1e-5 <= clock.monotonic() - began_s <= seconds + 0.002


# Twice.


@pytest.mark.parametrize("path", ["/pack-", "/ckpt-", "/metrics-", ".record.json"])
def test_who_asks_twice_while_it_is_handed_over_is_asked_for_nothing_more(world: World, path: str) -> None:
    world.plan = Plan(steps_per_poll=1, snapshot_every=50)
    run_id = world.job()
    asking = Asking(world)
    counted: list[int] = []

    def look(operation: Operation) -> None:
        if world.stop.stop is not None and path in operation.path and not counted:
            counted.append(operation.number)
            world.stop.ask(Stop.USER)

    store = FaultyStore(world.store, on_operation=look)
    world.worker(store, start=watched(world, once_at(4, asking.ask))).work(Mode.UNTIL_EMPTY)
    assert counted == [len(store.operations)], "the operation under way was the last one"
    asking.again()
    world.power_cut()
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    assert world.executed[-1] == 12


# With threads.


def test_what_hangs_is_not_waited_for_once_there_is_no_reason_to() -> None:
    tasks = ThreadTasks()
    hanging, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        hanging.wait()

    with pytest.raises(NotWaitedFor):
        tasks.wait_for(hang, unless=begun.is_set)
    begun.clear()
    task = tasks.every(0.0, hang, name="hangs")
    task.stop(unless=begun.is_set)
    hanging.set()
    task.stop()


def test_what_is_waited_for_gives_what_it_gives_and_knows_what_it_is_for() -> None:
    tasks = ThreadTasks()
    with on_behalf_of("a test"):
        assert tasks.wait_for(current_purpose, unless=lambda: False) == "a test"

    def fail() -> None:
        raise OSError("no such disk")

    with pytest.raises(OSError, match="no such disk"):
        tasks.wait_for(fail, unless=lambda: False)


def test_a_store_that_hangs_does_not_keep_who_asks_twice(world: World) -> None:
    """With the threads of a real worker: the pack is on its way for ever."""
    world.plan = Plan(steps=10**9, steps_per_poll=1, snapshot_every=10**9)
    world.job()
    hangs, released = threading.Event(), threading.Event()

    class Hanging(FaultyStore):
        def create(self, path: str, content: bytes | Path, **more: Any) -> Any:
            if "/pack-" in path:
                hangs.set()
                world.stop.ask(Stop.USER)  # the second time
                released.wait()
            return super().create(path, content, **more)

    store: ObjectStore = Hanging(world.store)
    start = watched(world, once_at(4, lambda: world.stop.ask(Stop.USER)))
    worker = world.worker(store, start=start, tasks=ThreadTasks())
    worked = worker.work(Mode.UNTIL_EMPTY)
    released.set()
    assert hangs.is_set()
    assert [outcome.abandoned for outcome in worked.outcomes.values()] == [True]
