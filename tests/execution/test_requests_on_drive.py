"""What a worker on Drive costs in requests: a checkpoint of 50 MB, a heartbeat, an idle look."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driverun.execution.context import Stop
from driverun.execution.jobs import local_job
from driverun.execution.trainer import Trainer
from driverun.execution.worker import Mode
from driverun.runs.state import RunState
from driverun.spool.folder import SpoolFolder
from driverun.testing.clock import FakeClock
from driverun.testing.drive_audit import Work, costs_of
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from tests.execution.drive_world import DriveWorld
from tests.execution.world import Plan, ScriptedTrainer

STATE_BYTES = 50_000_000
LAG_S = 10.0
CHUNK_BYTES = 4 << 20


class LargeTrainer(ScriptedTrainer):
    """Its state has 50 MB, all of it changed at every snapshot; a step takes five seconds."""

    clock: FakeClock

    def _turn(self) -> Any:
        self.clock.advance(seconds=5.0)
        return super()._turn()

    def _files(self) -> Any:
        (self._work / "steps.txt").write_bytes(self._step.to_bytes(4, "big") * (STATE_BYTES // 4))
        return super()._files()


class LargeWorld(DriveWorld):
    def start(self, spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        trainer = LargeTrainer(self.plan, spool, work, self.executed)
        trainer.clock = self.clock
        return trainer


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LargeWorld]:
    clock = FakeClock()
    settings = EmulatorSettings(latency_ms=150.0, writes_per_second=3.0)
    with DriveEmulator(tmp_path / "drive", clock=clock, settings=settings) as emulator:
        plan = Plan(steps=12, steps_per_poll=1, snapshot_every=1)
        yield LargeWorld(tmp_path, plan=plan, clock=clock, emulator=emulator, lag_s=LAG_S)


def test_a_checkpoint_of_fifty_megabytes_and_a_heartbeat_stay_within_their_budgets(world: LargeWorld) -> None:
    run_id = world.job()
    world.emulator.requests.clear()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED, world.said
    costs = {cost.work: cost for cost in costs_of(world.emulator.requests)}
    checkpoints = costs[Work.CHECKPOINT]
    assert len(checkpoints.totals) >= 9
    assert checkpoints.most <= 6, checkpoints
    assert len(costs[Work.HEARTBEAT].totals) >= 8
    assert costs[Work.HEARTBEAT].most <= 2, costs[Work.HEARTBEAT]
    chunks = world.emulator.requests.count("upload") / len(checkpoints.totals)
    assert chunks <= STATE_BYTES / CHUNK_BYTES + 2
    assert not [record for record in world.emulator.requests if record.status == 403], "writes are paced"


def test_every_checkpoint_with_its_sweep_stays_within_the_budget(world: LargeWorld) -> None:
    """Not on the average alone: each takes away what the one before the last three left."""
    world.job()
    world.emulator.requests.clear()
    world.work()
    units: dict[str, Counter[str]] = defaultdict(Counter)
    for record in world.emulator.requests:
        for work in ("(checkpoint ", "(sweep "):
            if work in record.agent and record.method_id != "upload":
                units[record.agent.split(work)[1].split(")")[0]][record.method_id] += 1
    assert len(units) >= 9
    assert max(sum(unit.values()) for unit in units.values()) <= 6, units


def test_an_idle_hour_of_a_worker_that_watches_costs_a_request_every_quarter_of_a_minute(
    world: LargeWorld,
) -> None:
    """With runs that are done, jobs that were taken, one that waits for its data and one with a schedule."""
    world.plan = Plan(steps=2)
    for number in range(3):
        world.job(f"job{number}", seed=number)
    world.work()
    waiting = world.job("waits", data=[{"source": "data/none.npz"}])
    nightly = world.folder / "nightly"
    nightly.mkdir()
    (nightly / "train.py").write_text("print(1)")
    (nightly / "job.yaml").write_text('{"entrypoint": "train.py", "schedule": {"cron": "0 3 * * *"}}')
    world.client.schedule(local_job(nightly))
    worker = world.worker(world.connect())
    world.clock.advance(seconds=60.0)
    began_s = world.clock.monotonic()
    counts_from_s = began_s + 600.0

    def look_away(seconds: float, sleep: Any = world.clock.sleep) -> None:
        now_s = world.clock.monotonic()
        sleep(seconds)
        if now_s < counts_from_s <= world.clock.monotonic():
            world.emulator.requests.clear()
        elif world.clock.monotonic() >= counts_from_s + 3600.0:
            world.stop.abandon = True
            world.stop.ask(world.stop.stop or Stop.TERM)

    world.clock.sleep = look_away  # type: ignore[method-assign]
    worker.work(Mode.WATCH)
    assert world.client.run(waiting).state is RunState.QUEUED
    costs = costs_of(world.emulator.requests)
    requests = sum(sum(cost.totals) for cost in costs)
    assert [cost.work for cost in costs] == [Work.LOOK]
    assert 200 <= requests <= 300
