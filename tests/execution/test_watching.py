"""A worker that watches: it looks away for longer while nothing happens, and misses nothing for that."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driverun.dispatch.ledger import Ledger
from driverun.execution.context import Stop
from driverun.execution.idling import GROWTH, LONGEST_ON_FOLDER_S, LONGEST_S, SHORTEST_S, Idling
from driverun.execution.jobs import local_job
from driverun.execution.scheduling import due_runs
from driverun.execution.worker import Mode
from tests.execution.world import Plan, World


@pytest.mark.parametrize(("lag_s", "longest_s"), [(10.0, LONGEST_S), (0.0, LONGEST_ON_FOLDER_S)])
def test_the_pauses_grow_while_nothing_changes(lag_s: float, longest_s: float) -> None:
    idling = Idling(listing_lag_s=lag_s)
    pauses = [idling.pause_s("a") for _ in range(20)]
    assert pauses[0] == SHORTEST_S
    assert pauses[1] == GROWTH * SHORTEST_S
    assert pauses[-1] == longest_s
    assert idling.pause_s("b") == SHORTEST_S


def watched(world: World, end: datetime, *, then: dict[datetime, Callable[[], object]] | None = None) -> None:
    """Let a worker watch until `end`; at some moments, somebody does something."""
    plans = dict(then or {})
    sleep = world.clock.sleep

    def passing(seconds: float) -> None:
        sleep(seconds)
        for moment in [each for each in plans if each <= world.clock.now()]:
            plans.pop(moment)()
        if world.clock.now() >= end:
            world.stop.ask(Stop.TERM)

    world.clock.sleep = passing  # type: ignore[method-assign]
    world.worker().work(Mode.WATCH)


def nightly(world: World, cron: str) -> None:
    folder = world.folder / "nightly"
    folder.mkdir()
    (folder / "train.py").write_text("print(1)")
    (folder / "job.yaml").write_text(json.dumps({"entrypoint": "train.py", "schedule": {"cron": cron}}))
    world.client.schedule(local_job(folder))


def test_a_due_time_is_met_to_the_second_after_hours_of_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, plan=Plan(steps=2))
    nightly(world, "0 3 * * *")
    due = datetime(2026, 1, 1, 3, tzinfo=UTC)
    watched(world, due + timedelta(minutes=5))
    ledger = Ledger(world.store)
    ledger.refresh()
    [run] = due_runs(ledger, "nightly")
    evidence = ledger.runs[run.run_id]
    assert run.due == due
    assert evidence.created_at is not None
    assert timedelta() <= evidence.created_at - due < timedelta(seconds=1)
    assert world.client.run(run.run_id).state.value == "SUCCEEDED"


def test_a_job_that_comes_along_is_taken_up_soon(tmp_path: Path) -> None:
    world = World(tmp_path, plan=Plan(steps=2))
    comes = datetime(2026, 1, 1, 2, tzinfo=UTC)
    watched(world, comes + timedelta(minutes=1), then={comes: lambda: world.job("new")})
    [run] = world.client.runs()
    assert run.attempts
    assert (run.attempts[0].started_at - comes).total_seconds() <= LONGEST_ON_FOLDER_S + 2.0
