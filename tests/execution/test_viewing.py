"""What a display gets to see of a worker, at every moment of its life."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from driverun.execution.context import Stop
from driverun.execution.sending import SendingStore
from driverun.execution.viewing import AttemptView, Pace, Sending, WorkerView
from driverun.execution.worker import Mode, Worker
from driverun.runs.record import AttemptState
from driverun.runs.state import RunState
from driverun.storage.base import ObjectInfo
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Moment, Operation
from tests.execution.watching import WatchedTrainer, once_at, watched
from tests.execution.world import Plan, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def views_while_training(world: World, *steps: int) -> tuple[list[AttemptView], Worker]:
    """What is seen as training comes to these steps."""
    workers: list[Worker] = []
    seen: list[AttemptView] = []
    left = list(steps)

    def before(trainer: WatchedTrainer) -> None:
        if left and trainer.step >= left[0]:
            del left[0]
            found = workers[0].view().attempt
            assert found is not None
            seen.append(found)

    workers.append(world.worker(start=watched(world, before)))
    workers[0].work(Mode.UNTIL_EMPTY)
    return seen, workers[0]


def test_a_worker_that_has_not_begun_shows_nothing_and_does_not_fail(world: World) -> None:
    shown = world.worker().view()
    assert (shown.runs, shown.attempt, shown.finished, shown.stop) == ((), None, (), None)


def test_an_attempt_is_seen_to_train_and_to_end(world: World) -> None:
    world.plan = Plan(steps=200, steps_per_poll=1, snapshot_every=20)
    run_id = world.job()
    (early, late), worker = views_while_training(world, 5, 100)
    assert (early.run_id, early.number, early.doing) == (run_id, 1, "training")
    assert (early.committed_step, early.committed_age_s, early.sending) == (None, None, None)
    assert (late.step, late.total_steps, late.first_step, late.resumed_step) == (100, 200, 0, 0)
    assert late.steps_per_s == pytest.approx(10, rel=0.2), "a step takes a tenth of a second here"
    assert late.committed_step == 80 or late.committed_step == 100
    assert late.committed_age_s is not None
    assert late.committed_age_s < 3
    assert late.outcome is None

    shown = worker.view()
    assert shown.attempt is None
    (ended,) = shown.finished
    assert ended.outcome is not None
    assert ended.outcome.state is AttemptState.SUCCEEDED
    assert ended.step == 200
    assert [(run.run_id, run.state) for run in shown.runs] == [(run_id, RunState.SUCCEEDED)]
    assert shown.waiting == ""


def test_the_queue_is_seen_with_what_its_runs_wait_for(world: World) -> None:
    world.plan = Plan(steps=20, steps_per_poll=1)
    first, waits = world.job("first"), world.job("waits", data=[{"source": "data/none.csv"}])
    shown: list[WorkerView] = []
    workers: list[Worker] = []
    start = watched(world, once_at(4, lambda: shown.append(workers[0].view())))
    workers.append(world.worker(start=start))
    workers[0].work(Mode.UNTIL_EMPTY)
    notes = {run.run_id: (run.state, run.note) for run in shown[0].runs}
    assert notes[first] == (RunState.RUNNING, "training")
    assert notes[waits][0] is RunState.QUEUED
    assert "not on the root yet: data/none.csv" in notes[waits][1]


def test_a_resumed_attempt_says_where_it_comes_from(world: World) -> None:
    world.plan = Plan(steps_per_poll=1)
    world.job()
    world.worker(start=watched(world, once_at(7, lambda: world.stop.ask(Stop.USER)))).work(Mode.UNTIL_EMPTY)
    world.stop = type(world.stop)()
    (seen,), worker = views_while_training(world, 9)
    assert (seen.number, seen.resumed_from_attempt) == (2, 1)
    assert seen.resumed_step == seen.first_step == world.executed[7 - 1] + 1
    assert len(worker.view().finished) == 1


def test_a_stop_is_seen_until_the_end(world: World) -> None:
    world.plan = Plan(steps_per_poll=1)
    run_id = world.job()
    worker = world.worker(start=watched(world, once_at(4, lambda: world.stop.ask(Stop.DEADLINE))))
    worker.work(Mode.UNTIL_EMPTY)
    shown = worker.view()
    assert shown.stop is Stop.DEADLINE
    assert [(run.run_id, run.state, run.note) for run in shown.runs] == [
        (run_id, RunState.INTERRUPTED, Stop.DEADLINE.value)
    ]


def test_a_look_at_any_moment_asks_the_root_nothing_and_does_not_fail(world: World) -> None:
    """Also in the middle of each of its operations, with publishing and a second attempt among them."""
    world.plan = Plan(fails_at=7)
    world.job(retry={"max_errors": 2})
    world.job("other", seed=1)
    workers: list[Worker] = []
    doing: set[str] = set()

    def look(operation: Operation) -> None:
        before = len(store.operations)
        shown = workers[0].view()
        assert len(store.operations) == before
        if shown.attempt is not None:
            doing.add(shown.attempt.doing.partition(":")[0])
        if operation.moment is Moment.AFTER and operation.name == "create":
            world.plan = Plan(steps=12) if shown.finished else world.plan

    store = FaultyStore(world.store, on_operation=look)
    workers.append(world.worker(store))
    workers[0].work(Mode.UNTIL_EMPTY)
    assert {"preparing", "looking for a checkpoint", "training", "committing", "publishing results"} <= doing


def test_the_pace_is_that_of_late_and_gone_where_nothing_is_done() -> None:
    pace = Pace()
    pace.note(0.0, 0)
    assert pace.steps_per_s is None
    for second in range(100, 200):
        pace.note(float(second), second - 99)
    assert pace.steps_per_s == pytest.approx(1.0)
    for second in range(200, 300):
        pace.note(float(second), 100 + 5 * (second - 199))
    assert pace.steps_per_s == pytest.approx(5.0)
    for second in range(300, 400):
        pace.note(float(second), 600)
    assert pace.steps_per_s is None


def test_a_checkpoint_on_its_way_shows_bytes_and_the_time_that_is_left(tmp_path: Path) -> None:
    clock = FakeClock()
    seen: list[Sending | None] = []
    pack = tmp_path / "pack"
    pack.write_bytes(bytes(1_000_000))

    class Slow(MemoryStore):
        """Takes four seconds for a file, in four pieces."""

        def create(
            self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
        ) -> ObjectInfo:
            assert isinstance(content, Path)
            with content.open("rb") as file:
                for _ in range(4):
                    clock.advance(seconds=1.0)
                    file.read(250_000)
                    seen.append(store.sending())
            return super().create(path, content.read_bytes(), properties=properties)

    store = SendingStore(Slow(clock), clock)
    assert store.sending() is None
    with store.commit(5_000_000):
        assert store.sending() == Sending(done_bytes=0, total_bytes=5_000_000, left_s=None)
        store.create("pack-1", pack)
        assert store.sending() == Sending(done_bytes=1_000_000, total_bytes=1_000_000, left_s=0.0)
    assert store.sending() is None
    assert seen == [
        Sending(done_bytes=done, total_bytes=1_000_000, left_s=4.0 - done / 250_000)
        for done in (250_000, 500_000, 750_000, 1_000_000)
    ]
