"""Order and sweeps on a Drive whose listings lag behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driverun.runs.layout import JOBS
from driverun.runs.state import RunState
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from tests.execution.drive_world import DriveWorld
from tests.execution.world import Plan


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DriveWorld]:
    clock = FakeClock()
    settings = EmulatorSettings(latency_ms=2.0)
    with DriveEmulator(tmp_path / "drive", clock=clock, settings=settings) as emulator:
        yield DriveWorld(tmp_path, plan=Plan(steps=4), clock=clock, emulator=emulator, lag_s=5.0)


def test_a_matrix_and_what_comes_after_it_run_once_each_though_listings_lag(world: DriveWorld) -> None:
    jobs: dict[str, dict[str, Any]] = {
        "choose": {"after": ["sweep"], "priority": 9},
        "sweep": {"matrix": {"lr": [1, 2, 3], "max_parallel": 1}},
    }
    for name, fields in jobs.items():
        world.store.create(f"{JOBS}/{name}/train.py", b"print('scripted')\n")
        content = json.dumps({"entrypoint": "train.py", **fields}).encode()
        world.store.create(f"{JOBS}/{name}/job.yaml", content)
    worked = world.work()
    assert [run_id.rpartition("-")[0] for run_id in worked.outcomes] == ["sweep", "sweep", "sweep", "choose"]
    runs = world.client.runs()
    assert [(run.state, len(run.attempts)) for run in runs] == [(RunState.SUCCEEDED, 1)] * 4
    submissions = [info.path for info in world.store.list("ledger") if ".submit." in info.path]
    assert len(submissions) == 4, "each was submitted once, before listings showed it too"
    assert len(world.client.compare(["sweep"]).runs) == 3
    assert world.work().outcomes == {}
    assert len([info for info in world.store.list("ledger") if ".submit." in info.path]) == 4
