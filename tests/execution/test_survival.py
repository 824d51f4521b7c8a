"""A worker crashed at every store operation of a small run, restarted, and the same results every time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from driverun.runs.state import RunState
from driverun.testing.faulty import FaultyStore, Moment, SimulatedDisconnect
from tests.execution.world import World, value_after

STEPS = 12


def clean_operations(folder: Path) -> int:
    """How many operations a worker makes on the root for the run, from its first look to its last."""
    folder.mkdir()
    world = World(folder)
    world.job()
    counting = FaultyStore(world.store, crash_at=None)
    world.work(counting)
    return len(counting.operations)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    world = World(tmp_path_factory.mktemp("clean"))
    run_id = world.job()
    world.work()
    return world.results(run_id)


def test_a_run_without_a_crash_computes_what_it_should(tmp_path: Path) -> None:
    world = World(tmp_path)
    run_id = world.job()
    worked = world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED, world.said
    assert run.state_sha256 == hashlib.sha256(str(value_after(STEPS)).encode()).hexdigest()
    assert world.results(run_id)["outputs/steps.txt"] == b"12\n"
    assert world.executed == list(range(1, STEPS + 1))
    assert worked.left == {}


@pytest.mark.parametrize("moment", list(Moment))
def test_a_crash_at_any_store_operation_is_survived(
    tmp_path: Path, moment: Moment, expected: dict[str, bytes]
) -> None:
    total = clean_operations(tmp_path / "counting")
    assert total > 40, "the run is too small to prove anything"
    for crash_at in range(1, total + 1):
        folder = tmp_path / f"crash-{crash_at}"
        folder.mkdir()
        world = World(folder)
        run_id = world.job()
        crashed = False
        try:
            world.work(FaultyStore(world.store, crash_at=crash_at, crash_moment=moment))
        except SimulatedDisconnect:
            crashed = True
        assert crashed or crash_at > total - 3, f"operation {crash_at} of {total} was never made"
        world.power_cut()
        world.work()
        run = world.client.run(run_id)
        assert run.state is RunState.SUCCEEDED, (crash_at, world.said, run)
        assert world.results(run_id) == expected, crash_at
        # Never further back than the newest checkpoint: every 3 steps, one in flight.
        assert len(world.executed) <= STEPS + 2 * 3 + world.plan.steps_per_poll, (crash_at, world.executed)


def test_two_crashes_in_a_row_are_survived(tmp_path: Path, expected: dict[str, bytes]) -> None:
    total = clean_operations(tmp_path / "counting")
    for first in range(5, total, 7):
        for second in range(5, total, 11):
            folder = tmp_path / f"crash-{first}-{second}"
            folder.mkdir()
            world = World(folder)
            run_id = world.job()
            for crash_at in (first, second):
                try:
                    world.work(FaultyStore(world.store, crash_at=crash_at))
                except SimulatedDisconnect:
                    world.power_cut()
            world.work()
            assert world.results(run_id) == expected, (first, second)
