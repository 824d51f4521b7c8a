"""What a root of many runs costs on Drive: requests by the emulator's log, over HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from driverun.execution.client import Client
from driverun.execution.standing import state_as_alive
from driverun.execution.worker import Worked, Worker
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import LEDGER
from driverun.runs.state import Derived, RunState
from driverun.storage.drive.opening import EMULATED_TOKEN
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator
from driverun.testing.many_runs import files_of_many_runs, put_into_drive
from tests.execution.drive_world import DriveWorld

RUNS = 300
ACCOUNT = EMULATED_TOKEN.removeprefix("user:")


class ManyRuns(DriveWorld):
    def connected(self) -> Client:
        """A client of its own, as a command has it."""
        return Client(self.connect(), clock=self.clock, by="me@here")

    def look(self, worker: Worker) -> tuple[str | None, Counter[str]]:
        """The run that the worker would take up, and what it asked for that."""
        self.emulator.requests.clear()
        choice, _, _ = worker._look(Worked())
        return choice.run_id, asked(self.emulator)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ManyRuns]:
    clock = FakeClock()
    with DriveEmulator(tmp_path / "drive", clock=clock) as emulator:
        clock.advance(seconds=86_400.0 * 40)
        world = ManyRuns(tmp_path, clock=clock, emulator=emulator, lag_s=10.0)
        files = files_of_many_runs(RUNS, now=clock.now())
        put_into_drive(emulator.state, files, account=ACCOUNT, root=world.root)
        clock.advance(seconds=2.0)
        emulator.requests.clear()
        yield world


def asked(emulator: DriveEmulator) -> Counter[str]:
    """The requests since the last call, and none for a token: those depend on who is logged in."""
    counts = Counter(emulator.requests.counts())
    emulator.requests.clear()
    counts.pop("token", None)
    return counts


def contents_read(emulator: DriveEmulator) -> list[str]:
    """The names of the files whose bytes were fetched, of those in the ledger."""
    ledger = next(each for each in emulator.files() if each.title == LEDGER and each.is_folder)
    names = {each.id: each.title for each in emulator.files() if ledger.id in each.parents}
    got = [record for record in emulator.requests if record.method_id == "drive.files.get"]
    return [name for file_id, name in names.items() if any(file_id in record.path for record in got)]


def test_the_state_of_many_runs_is_known_from_one_listing(world: ManyRuns) -> None:
    client = world.connected()
    runs = client.runs()
    assert contents_read(world.emulator) == []
    cold = asked(world.emulator)
    assert sum(cold.values()) <= 12, cold
    states = Counter(run.state for run in runs)
    assert states == {
        RunState.SUCCEEDED: 240,
        RunState.QUEUED: 30,
        RunState.FAILED: 15,
        RunState.INTERRUPTED: 12,
        RunState.RUNNING: 3,
    }
    failed = next(run for run in runs if run.state is RunState.FAILED)
    assert failed.failure is not None
    assert (failed.failure.message, failed.failure.traceback) == ("the loss is not finite", "")
    world.clock.advance(seconds=2.0)
    assert client.runs() == runs
    warm = asked(world.emulator)
    assert sum(warm.values()) == 1, warm
    whole = client.run(failed.run_id)
    assert whole.failure is not None
    assert "Traceback" in whole.failure.traceback
    read = contents_read(world.emulator)
    assert len(read) == 2, "the submission and the record of the one run"
    assert all(name.startswith(failed.run_id) for name in read)


def test_what_is_new_costs_what_is_new(world: ManyRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out: list[str] = []

    def counted(evidence: RunEvidence) -> Derived:
        worked_out.append(evidence.run_id)
        return state_as_alive(evidence)

    monkeypatch.setattr("driverun.execution.board.state_as_alive", counted)
    client = world.connected()
    queued = [run.run_id for run in client.runs() if run.state is RunState.QUEUED]
    assert len(worked_out) == RUNS
    world.connected().cancel(queued[0])
    world.clock.advance(seconds=2.0)
    asked(world.emulator)
    worked_out.clear()
    states = {run.run_id: run.state for run in client.runs()}
    assert states[queued[0]] is RunState.CANCELLED
    assert states[queued[1]] is RunState.QUEUED
    assert contents_read(world.emulator) == []
    assert sum(asked(world.emulator).values()) == 1
    assert worked_out == [queued[0]]


def test_of_many_runs_status_shows_what_is_not_over_and_the_newest(world: ManyRuns) -> None:
    found = world.connected().overview(most=60)
    assert len(found.runs) == 60
    states = Counter(run.state for run in found.runs)
    assert states[RunState.RUNNING] == 3
    assert states[RunState.INTERRUPTED] == 12
    ages = [run.created_at for run in found.runs if run.created_at is not None]
    assert ages == sorted(ages)
    assert found.text == (
        "300 runs: 30 QUEUED, 3 RUNNING, 12 INTERRUPTED, 240 SUCCEEDED, 15 FAILED. "
        "240 are left out: driverun status --all"
    )
    assert world.connected().overview(most=RUNS).text == ""


def test_a_worker_chooses_by_one_listing_and_then_by_what_changed(world: ManyRuns) -> None:
    world.emulator.settings.listing_lag_s = 10.0
    worker = world.worker(world.connect())
    chosen, cold = world.look(worker)
    assert chosen is not None
    assert sum(cold.values()) <= 12, cold
    world.clock.advance(seconds=1.5)
    again, warm = world.look(worker)
    assert again is not None
    assert sum(warm.values()) == 1, warm
    for _ in range(20):  # those at work give no sign of life any more
        world.clock.advance(seconds=10.0)
        world.look(worker)
    _, warm = world.look(worker)
    world.clock.advance(seconds=1.5)
    _, warm = world.look(worker)
    assert sum(warm.values()) == 1, "whoever was found to be dead is not asked about again"
    worker._standing.update()
    running = [d for d in worker._standing.open.values() if d.state is RunState.RUNNING]
    assert len(running) == 3, "none of them has said how it ended"
