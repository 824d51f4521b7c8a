"""What befalls a Drive while a run trains: training goes on, the message says what to do, everything catches up."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from driverun.checkpoints.pack import PackWriter
from driverun.errors import DiskFull, StoreAccessDenied, StoreQuotaExceeded
from driverun.execution.outcome import Outcome
from driverun.execution.trainer import Exit, Trainer
from driverun.execution.worker import Mode
from driverun.runs.state import RunState
from driverun.storage.drive.opening import TOKEN_VARIABLE
from driverun.testing.clock import FakeClock
from driverun.testing.drive_audit import orphaned_manifests, untidiness
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings, Fault
from driverun.testing.drive_emulator.records import FOLDER
from driverun.testing.faulty import FaultyStore
from tests.execution.drive_world import GUEST, DriveWorld
from tests.execution.world import Plan
from tests.storage.drive.emulated import ACCOUNT, Person, id_of

MINUTE_S = 60.0
PLAN = Plan(steps=100, steps_per_poll=1, snapshot_every=2)
BEGINS = 11  #: the step at which the bad day begins
NOTHING = Fault(kind="drop", times=None)  #: no answer to anything


class SlowTrainer:
    """Trains as `inner` does, a minute a step, while things happen in the world."""

    def __init__(self, inner: Trainer, world: EventfulWorld) -> None:
        self._inner = inner
        self._world = world

    def poll(self) -> Exit | None:
        before = len(self._world.executed)
        exit_ = self._inner.poll()
        for step in self._world.executed[before:]:
            self._world.clock.advance(seconds=MINUTE_S)
            self._world.at_step(step)
        return exit_

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@dataclass
class EventfulWorld(DriveWorld):
    """A world in which something happens at a step, and is undone after some time."""

    run_id: str = field(default="", kw_only=True)
    begins_at: int = field(default=BEGINS, kw_only=True)  #: a step
    begin: Callable[[], None] = field(default=lambda: None, kw_only=True)
    end: Callable[[], None] = field(default=lambda: None, kw_only=True)
    lasts_s: float = field(default=20 * MINUTE_S, kw_only=True)
    begun_s: float | None = field(default=None, kw_only=True)
    ended_at_step: int | None = field(default=None, kw_only=True)

    def start(self, *args: Any, **kwargs: Any) -> Trainer:
        return SlowTrainer(super().start(*args, **kwargs), self)

    def at_step(self, step: int) -> None:
        now_s = self.clock.monotonic()
        if step == self.begins_at:
            self.begin()
            self.begun_s = now_s
        elif self.begun_s is not None and self.ended_at_step is None and now_s - self.begun_s >= self.lasts_s:
            self.end()
            self.ended_at_step = step

    def committed_steps(self) -> list[int]:
        """Those of all checkpoints; a job of this world keeps them all."""
        return [checkpoint.step for checkpoint in self.client.run(self.run_id).checkpoints]


class AlarmClock(FakeClock):
    """Does something when its time has come."""

    def __init__(self) -> None:
        super().__init__()
        self.alarm: tuple[float, Callable[[], None]] | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.alarm is not None and self.monotonic() >= self.alarm[0]:
            (_, act), self.alarm = self.alarm, None
            act()


@pytest.fixture
def clock() -> AlarmClock:
    return AlarmClock()


@pytest.fixture
def emulator(tmp_path: Path, clock: AlarmClock) -> Iterator[DriveEmulator]:
    settings = EmulatorSettings(latency_ms=2.0, hang_s=0.0)
    with DriveEmulator(tmp_path / "drive", clock=clock, settings=settings) as emulator:
        yield emulator


@pytest.fixture
def world(tmp_path: Path, emulator: DriveEmulator, clock: AlarmClock) -> EventfulWorld:
    world = EventfulWorld(tmp_path, plan=PLAN, clock=clock, emulator=emulator)
    world.run_id = world.job(checkpoint={"keep": 1000})
    return world


def check_all_is_well(world: EventfulWorld, *, said: str) -> None:
    run = world.client.run(world.run_id)
    assert run.state is RunState.SUCCEEDED, world.said
    assert len(run.attempts) == 1, "the worker that was there did it all"
    assert world.executed == list(range(1, PLAN.steps + 1)), "training went on, and no step was repeated"
    told = [line for line in world.said if "training goes on locally" in line]
    assert said in told[0], told
    assert len(told) <= 2 + world.lasts_s / 300, told
    assert any("the root takes checkpoints again" in line for line in world.said)
    steps, back = world.committed_steps(), world.ended_at_step
    assert back is not None
    assert back > BEGINS + 4, "training went on meanwhile"
    assert len(set(steps)) == len(steps), "nothing is committed twice"
    assert not [step for step in steps if BEGINS < step < back - 3], "nothing was committed meanwhile"
    assert max(step for step in steps if step <= BEGINS) >= BEGINS - 3, "nothing that was committed is lost"
    assert any(back - 3 <= step <= back + 4 for step in steps), steps
    check_drive(world)


def check_drive(world: EventfulWorld) -> None:
    assert untidiness(world.emulator.files()) == []
    assert orphaned_manifests(world.store) == []


def test_the_network_is_gone_for_twenty_minutes(world: EventfulWorld) -> None:
    world.begin, world.end = lambda: world.emulator.faults.add(NOTHING), world.emulator.faults.clear
    world.work()
    check_all_is_well(world, said="the connection broke")


def test_a_storm_of_refusals_lasts_an_hour(world: EventfulWorld) -> None:
    storm = Fault(kind="status:403:userRateLimitExceeded", times=None)
    world.begin, world.end = lambda: world.emulator.faults.add(storm), world.emulator.faults.clear
    world.lasts_s = 60 * MINUTE_S
    world.work()
    check_all_is_well(world, said="ask more slowly")


def test_drive_is_full(world: EventfulWorld) -> None:
    def fill(quota_gb: float) -> None:
        world.emulator.settings.quota_gb = quota_gb

    world.begin, world.end = lambda: fill(1e-9), lambda: fill(15.0)
    world.work()
    check_all_is_well(world, said="Free space")


def test_the_folder_is_renamed_and_moved(world: EventfulWorld) -> None:
    person = Person(world.emulator)

    def move() -> None:
        folder = id_of(world.emulator, "experiments")
        person.rename(folder, "old experiments")
        person.move(folder, away_from="root", into=person.make_folder("archive"))

    world.begin = move
    world.work()
    assert world.client.run(world.run_id).state is RunState.SUCCEEDED
    assert world.executed == list(range(1, PLAN.steps + 1))
    assert world.committed_steps() == [*range(2, PLAN.steps, 2), PLAN.steps], "as if nothing had happened"
    assert not [line for line in world.said if "training goes on locally" in line]
    check_drive(world)


@pytest.mark.parametrize("lag_s", [0.0, 30.0])
def test_the_folder_is_put_into_the_trash(world: EventfulWorld, lag_s: float) -> None:
    person, folder = Person(world.emulator), id_of(world.emulator, "experiments")
    world.lag_s = lag_s
    world.begin, world.end = lambda: person.trash(folder), lambda: person.untrash(folder)
    world.work()
    check_all_is_well(world, said="Take it out of the trash")


@pytest.mark.parametrize("lag_s", [0.0, 30.0])
@pytest.mark.parametrize("is_all", [True, False])
def test_what_the_attempt_committed_is_put_into_the_trash(
    world: EventfulWorld, is_all: bool, lag_s: float
) -> None:
    """The attempt's folder, or all of them: it is made anew, and what is committed from then on is whole."""
    person = Person(world.emulator)

    def trash() -> None:
        titles = {file.title: file.id for file in world.emulator.files() if file.mime_type == FOLDER}
        attempt = next(title for title in titles if title.startswith(f"{world.run_id}.0001."))
        folder = titles["runs" if is_all else attempt]
        person.trash(folder)

    world.lag_s, world.begin = lag_s, trash
    world.work()
    assert world.client.run(world.run_id).state is RunState.SUCCEEDED, world.said
    assert world.executed == list(range(1, PLAN.steps + 1))
    steps = world.committed_steps()
    assert min(steps) <= BEGINS + 3
    assert max(steps) == PLAN.steps
    assert orphaned_manifests(world.store) == []
    kept = [file for file in world.emulator.files() if not file.is_trashed]
    assert [fault for fault in untidiness(kept) if "times" in fault] == []


@pytest.mark.parametrize("lag_s", [0.0, 30.0])
def test_the_folder_is_not_shared_any_more(world: EventfulWorld, lag_s: float) -> None:
    owner, folder = Person(world.emulator), id_of(world.emulator, "experiments")
    owner.share(folder, GUEST)
    world.lag_s, world.guest = lag_s, (GUEST, folder)
    world.begin, world.end = lambda: owner.unshare(folder), lambda: owner.share(folder, GUEST)
    world.work()
    check_all_is_well(world, said="shared again")


def test_the_login_is_revoked_and_somebody_logs_in_again(world: EventfulWorld) -> None:
    def revoke() -> None:
        world.emulator.revoke(f"user:{ACCOUNT}")
        world.emulator.revoke(f"refresh:{ACCOUNT}")

    def log_in() -> None:
        world.environment[TOKEN_VARIABLE] = f"user:{ACCOUNT}/again"

    world.begin, world.end = revoke, log_in
    world.work()
    world.store = world.connect()
    check_all_is_well(world, said="driverun login")


@pytest.mark.parametrize("begins_at", [PLAN.steps - 1, PLAN.steps])
def test_the_results_wait_for_a_drive_that_comes_back(
    world: EventfulWorld, clock: AlarmClock, begins_at: int
) -> None:
    """The script ends while nothing answers; what it computed is there hours later, from this very worker."""

    def begin() -> None:
        world.emulator.faults.add(NOTHING)
        clock.alarm = (clock.monotonic() + 6 * 60 * MINUTE_S, world.emulator.faults.clear)

    world.begins_at, world.begin = begins_at, begin
    world.work()
    run = world.client.run(world.run_id)
    assert run.state is RunState.SUCCEEDED, world.said
    assert len(run.attempts) == 1
    assert world.executed == list(range(1, PLAN.steps + 1))
    assert any("this worker keeps trying" in line for line in world.said)
    assert len(world.said) < 150, "every ten minutes is often enough"
    check_drive(world)


class Closed(FaultyStore):
    """Raises `error` at the first reads of code, which is what a job begins with."""

    error: Exception
    times: int

    def read(self, path: str) -> bytes:
        if "/code/" in path and self.times > 0:
            self.times -= 1
            raise self.error
        return super().read(path)


@pytest.mark.parametrize(
    "error",
    [
        StoreAccessDenied("nobody may read that"),
        StoreQuotaExceeded("the root is full"),
        DiskFull("no room for data/big.npz"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
@pytest.mark.parametrize("times", [1, 2, 10])
def test_what_is_no_fault_of_the_job_fails_no_run(world: EventfulWorld, error: Exception, times: int) -> None:
    """The run rests, is tried again a minute later, and left to others after three times."""
    closed = Closed(world.connect())
    closed.error, closed.times = error, times
    world.begins_at = 0
    worked = world.work(closed)
    run = world.client.run(world.run_id)
    assert len(run.attempts) == min(times + 1, 3)
    if times < 3:
        assert run.state is RunState.SUCCEEDED
    else:
        assert run.state is RunState.INTERRUPTED
        assert str(error) in worked.left[world.run_id]
        world.work()
        assert world.client.run(world.run_id).state is RunState.SUCCEEDED


def test_a_disk_that_is_full_keeps_checkpoints_back_and_nothing_else(
    world: EventfulWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = PackWriter.add

    def full(writer: PackWriter, chunk: memoryview, sha256: str) -> None:
        if world.begun_s is not None and world.ended_at_step is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(writer, chunk, sha256)

    monkeypatch.setattr(PackWriter, "add", full)
    world.work()
    check_all_is_well(world, said="No space left on device")


def test_a_run_that_rested_and_was_done_by_another_worker_is_not_waited_for(world: EventfulWorld) -> None:
    closed = Closed(world.connect())
    closed.error, closed.times = DiskFull("no room"), 1
    worker = world.worker(closed)
    world.begins_at = 0
    take_up = worker._take_up

    def then_another(run_id: str) -> Outcome | None:
        outcome = take_up(run_id)
        world.work()
        return outcome

    worker._take_up = then_another  # type: ignore[method-assign]
    worked = worker.work(Mode.UNTIL_EMPTY)
    assert worked.left == {}
    assert world.client.run(world.run_id).state is RunState.SUCCEEDED
    assert len(world.client.run(world.run_id).attempts) == 2


def test_listings_that_lag_longer_than_is_counted_on_cost_no_step(world: EventfulWorld) -> None:
    """A worker dies right after its first commit; the next one waits for what the record tells of."""

    class Died(BaseException):
        pass

    def die() -> None:
        raise Died

    world.plan = Plan(steps=60, steps_per_poll=1, snapshot_every=50)
    world.lag_s, world.begins_at, world.begin = 10.0, 51, die
    world.clock.advance(seconds=100.0)
    world.emulator.settings.listing_lag_s = 100.0
    with pytest.raises(Died):
        world.worker(world.connect()).work(Mode.UNTIL_EMPTY)
    world.begins_at = 0  # the next one comes at once: it sees the claim, and not the checkpoint
    world.worker(world.connect()).work(Mode.UNTIL_EMPTY)
    world.emulator.settings.listing_lag_s = 0.0
    run = world.client.run(world.run_id)
    assert run.state is RunState.SUCCEEDED
    assert [attempt.first_step for attempt in run.attempts] == [0, 50]
