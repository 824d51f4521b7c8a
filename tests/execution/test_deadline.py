"""What a worker starts when its runtime has not long to live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driverun.dispatch.choose import FIRST_CHECKPOINT_S
from driverun.dispatch.ledger import Ledger
from driverun.execution.context import Stop
from driverun.execution.trainer import Exit, Trainer
from driverun.execution.worker import EARLY_SHARE, Mode, Worker
from driverun.runs.state import RunState
from driverun.spool.folder import SpoolFolder
from tests.execution.watching import once_at, watched
from tests.execution.world import Plan, ScriptedTrainer, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def late(world: World, *, left_s: float, **more: Any) -> Worker:
    """A worker of a runtime that has been there for hours and has so much time left."""
    worker = world.worker(deadline_s=world.clock.monotonic() + 10_000.0, **more)
    world.clock.advance(seconds=10_000.0 - left_s)
    return worker


class SlowToBegin(ScriptedTrainer):
    """Compiles for so long before its first step."""

    clock_advance: Callable[[], None]
    _has_begun = False

    def poll(self) -> Exit | None:
        if not self._has_begun:
            self._has_begun = True
            self.clock_advance()
        return super().poll()


def slow_to_begin(world: World, seconds: float) -> Callable[..., Trainer]:
    def start(spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        trainer = SlowToBegin(world.plan, spool, work, world.executed)
        trainer.clock_advance = lambda: world.clock.advance(seconds=seconds)
        return trainer

    return start


def test_nothing_is_started_that_could_not_reach_a_first_checkpoint(world: World) -> None:
    run_id = world.job()
    worker = late(world, left_s=FIRST_CHECKPOINT_S - 1)
    worked = worker.work(Mode.UNTIL_EMPTY)
    assert world.executed == []
    assert world.claims() == []
    assert worked.left == {
        run_id: "2 min are left on this runtime, too little for a first checkpoint; it goes on in the next"
    }
    (shown,) = worker.view().runs
    assert (shown.state, shown.note) == (RunState.QUEUED, worked.left[run_id])
    late(world, left_s=FIRST_CHECKPOINT_S + 1).work(Mode.UNTIL_EMPTY)
    assert world.client.run(run_id).state is RunState.SUCCEEDED


def test_a_run_that_needs_longer_is_passed_over_for_one_that_does_not(world: World) -> None:
    world.plan = Plan(steps=4000, steps_per_poll=1)
    slow = world.job("slow", priority=5)
    start = slow_to_begin(world, 600.0)
    world.worker(start=start, deadline_s=world.clock.monotonic() + 660.0).work(Mode.UNTIL_EMPTY)
    run = world.client.run(slow)
    assert run.state is RunState.INTERRUPTED
    assert run.committed_step

    world.stop = type(world.stop)()
    quick = world.job("quick", seed=1)
    world.plan = Plan()
    worked = late(world, left_s=300.0).work(Mode.UNTIL_EMPTY)
    assert world.client.run(quick).state is RunState.SUCCEEDED
    assert list(worked.left) == [slow]
    assert "too little for a first checkpoint, which took 10 min before" in worked.left[slow]


def test_a_run_that_is_quicker_than_usual_is_started_later_than_usual(world: World) -> None:
    world.plan = Plan(steps_per_poll=1)
    run_id = world.job()
    world.worker(start=watched(world, once_at(7, lambda: world.stop.ask(Stop.USER)))).work(Mode.UNTIL_EMPTY)
    world.stop = type(world.stop)()
    late(world, left_s=20.0).work(Mode.UNTIL_EMPTY)
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    ledger = Ledger(world.store)
    ledger.refresh()
    said = [c.record.environment for c in ledger.runs[run_id].claims if c.record is not None]
    assert all(0 <= each["first_checkpoint_s"] < 5 for each in said)


def test_a_runtime_that_is_short_by_nature_starts_all_the_same(world: World) -> None:
    run_id = world.job()
    worker = world.worker(deadline_s=world.clock.monotonic() + 30.0)
    world.clock.advance(seconds=30.0 * (1 - EARLY_SHARE) - 1)
    worker.work(Mode.UNTIL_EMPTY)
    assert world.client.run(run_id).state is RunState.SUCCEEDED


def test_a_worker_that_watches_says_once_that_it_is_too_late(world: World) -> None:
    run_id = world.job()
    worked = late(world, left_s=100.0).work(Mode.WATCH)
    assert worked.stop is Stop.DEADLINE
    assert [line for line in world.said if "too little" in line] == [
        f"{run_id} waits: 2 min are left on this runtime, too little for a first checkpoint;"
        " it goes on in the next"
    ]
