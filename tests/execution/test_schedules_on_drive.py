"""Schedules on a Drive whose listings lag: workers with connections of their own make one run for a due time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driverun.dispatch.ledger import Ledger
from driverun.execution.discovering import Discovery
from driverun.execution.jobs import local_job
from driverun.execution.scheduling import DueRun, due_runs
from driverun.runs.layout import SCHEDULES
from driverun.runs.state import RunState
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from tests.execution.drive_world import DriveWorld
from tests.execution.world import Plan

LAG_S = 10.0
DUE = datetime(2026, 1, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize("lag_s", [0.0, LAG_S])
def test_workers_that_see_a_due_time_at_once_make_one_run_and_one_carries_it_out(
    tmp_path: Path, lag_s: float
) -> None:
    clock = FakeClock()
    with DriveEmulator(tmp_path / "drive", clock=clock) as emulator:
        world = DriveWorld(tmp_path, plan=Plan(steps=2), clock=clock, emulator=emulator, lag_s=lag_s)
        folder = tmp_path / "nightly"
        folder.mkdir()
        (folder / "train.py").write_text("print(1)")
        (folder / "job.yaml").write_text(
            json.dumps({"entrypoint": "train.py", "schedule": {"cron": "0 3 * * *"}})
        )
        world.client.schedule(local_job(folder))
        clock.advance(seconds=60.0)
        emulator.settings.listing_lag_s = lag_s
        looks = []
        for number in range(3):
            store = world.connect()
            looks.append((Discovery(store, quiet_s=5.0, clock=clock, by=f"worker{number}"), Ledger(store)))
        for discovery, ledger in looks:
            ledger.refresh()
            assert discovery.look(ledger) == ([], None)
        clock.advance(seconds=(DUE - clock.now()).total_seconds())
        made = set()
        for discovery, ledger in looks:
            ledger.refresh()
            made |= set(discovery.look(ledger)[0])
        assert len(made) == 1
        for _ in range(20):
            clock.advance(seconds=1.0)
            for discovery, ledger in looks:
                ledger.refresh()
                assert discovery.look(ledger)[0] == []
        world.work()
        emulator.settings.listing_lag_s = 0.0
        [run] = world.client.runs()
        assert (run.run_id, run.state) == (made.pop(), RunState.SUCCEEDED)
        assert [each.due for each in due_runs_of(world)] == [DUE]
        assert len(world.store.list(SCHEDULES)) == 1

        world.client.suspend_schedule("nightly")
        clock.advance(seconds=timedelta(days=1).total_seconds())
        world.work()
        world.client.resume_schedule("nightly")
        clock.advance(seconds=timedelta(days=1).total_seconds())
        world.work()
        dues = sorted(each.due for each in due_runs_of(world))
        assert dues == [DUE, DUE + timedelta(days=2)], "what fell due while it was suspended is gone"


def due_runs_of(world: DriveWorld) -> list[DueRun]:
    ledger = Ledger(world.store)
    ledger.refresh()
    return due_runs(ledger, "nightly")
