"""A worker crashed at every HTTP request of a small run on Drive, restarted, and the same results every time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driverun.runs.state import RunState
from driverun.testing.clock import FakeClock
from driverun.testing.drive_audit import orphaned_manifests, untidiness
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from driverun.testing.faulty import Moment, SimulatedDisconnect
from tests.execution.drive_world import DriveWorld, Wire
from tests.execution.world import Plan

PLAN = Plan(steps=6, steps_per_poll=2, snapshot_every=3)
LAG_S = 5.0  #: of listings
#: Parts of the requests, so that a failure names where, and a run of the tests may be shared out.
PARTS = 4


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(tmp_path: Path, clock: FakeClock) -> Iterator[DriveEmulator]:
    settings = EmulatorSettings(latency_ms=2.0)  # a Drive whose time passes by two milliseconds a request
    with DriveEmulator(tmp_path / "drive", clock=clock, settings=settings) as emulator:
        yield emulator


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def new_world(folder: Path, emulator: DriveEmulator, clock: FakeClock, name: str) -> DriveWorld:
    (folder / name).mkdir()
    return DriveWorld(folder / name, plan=PLAN, clock=clock, emulator=emulator, root=name, lag_s=LAG_S)


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("part", range(PARTS))
def test_a_crash_at_any_request_is_survived(
    tmp_path: Path, emulator: DriveEmulator, clock: FakeClock, wire: Wire, part: int, moment: Moment
) -> None:
    world = new_world(tmp_path, emulator, clock, "clean")
    run_id = world.job()
    with wire.watched():
        world.work()
    total, expected = wire.requests, world.results(run_id)
    assert 40 < total < 150, "too small to prove anything, or too large for a test"
    assert expected["outputs/steps.txt"] == b"6\n"
    for crash_at in range(1 + part, total + 1, PARTS):
        world = new_world(tmp_path, emulator, clock, f"crash-{crash_at}")
        run_id = world.job()
        crashed = False
        try:
            with wire.watched(crash_at=crash_at, moment=moment):
                world.work()
        except SimulatedDisconnect:
            crashed = True
        # Polls are shared within a time, so how many there are depends on when one begins.
        assert crashed or crash_at > total - 5, f"request {crash_at} of {total} was never made"
        world.power_cut()
        checkpoints, executed = world.client.run(run_id).checkpoints, len(world.executed)
        committed = max((checkpoint.step for checkpoint in checkpoints), default=0)
        world.work()
        run = world.client.run(run_id)
        assert run.state is RunState.SUCCEEDED, (crash_at, world.said, run)
        assert world.results(run_id) == expected, crash_at
        assert len(world.executed) - executed == PLAN.steps - committed, (crash_at, world.executed)
        assert untidiness(emulator.files()) == [], crash_at
        assert orphaned_manifests(world.store) == [], crash_at
