"""A run that begins with another one: which that is, when it may begin, and what it is handed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driverun.errors import SpecError
from driverun.execution.trainer import Trainer
from driverun.execution.worker import Mode
from driverun.runs.layout import JOBS
from driverun.runs.record import Exactness
from driverun.runs.state import RunState, WaitingFor
from driverun.spool.folder import SpoolFolder
from driverun.spool.request import TrainingRequest
from driverun.spool.snapshot import FileEntry, SnapshotHeader, SnapshotKind, mapped_tensors, read_header
from driverun.storage.base import ObjectInfo
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from driverun.testing.faulty import FaultyStore, SimulatedDisconnect
from tests.execution.drive_world import DriveWorld
from tests.execution.watching import once_at, watched
from tests.execution.world import Plan, ScriptedTrainer, World, value_after


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def finished(world: World, name: str = "base", *, steps: int = 6, **fields: Any) -> str:
    """A run that has succeeded; its newest state in the middle of its fit is that of step 3."""
    world.plan = Plan(steps=steps)
    run_id = world.job(name, **fields)
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    world.plan = Plan()
    return run_id


def digest_after(steps: int) -> str:
    return hashlib.sha256(str(value_after(steps)).encode()).hexdigest()


def test_a_finished_run_goes_on_from_the_middle_of_its_fit(world: World) -> None:
    base = finished(world, params={"epochs": 1, "lr": 0.1})
    run_id = world.job("more", init_from={"run": base, "what": "state"}, params={"epochs": 2, "lr": 0.1})
    assert run_id != base
    world.executed.clear()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert (run.exactness, run.exactness_reasons) == (Exactness.EXACT, ())
    assert run.state_sha256 == digest_after(12)
    assert world.executed == list(range(4, 13)), "what the other run had trained is not trained again"
    assert run.attempts[0].first_step == 3


def test_what_is_continued_survives_power_cuts_by_its_own_checkpoints(world: World) -> None:
    base = finished(world)
    run_id = world.job("more", init_from={"run": base, "what": "state"})

    class Cut(BaseException):
        pass

    def cut() -> None:
        raise Cut

    for step in (4, 8):
        with pytest.raises(Cut):
            world.worker(start=watched(world, once_at(step, cut))).work(Mode.UNTIL_EMPTY)
        world.power_cut()
    world.work()
    run = world.client.run(run_id)
    assert run.state_sha256 == digest_after(12)
    assert run.exactness is Exactness.EXACT
    assert [attempt.first_step for attempt in run.attempts][::2] == [3, 6]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"params": {"epochs": 2, "lr": 0.2}}, "params differ from those of base-.* in more than epochs: lr"),
        ({"params": {"epochs": 2, "lr": 0.1}, "seed": 3}, "seed is 3, and was 0 in base-"),
    ],
)
def test_what_else_differs_makes_it_approximate(world: World, fields: dict[str, Any], reason: str) -> None:
    base = finished(world, params={"epochs": 1, "lr": 0.1})
    run_id = world.job("more", init_from={"run": base, "what": "state"}, **fields)
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.exactness is Exactness.APPROXIMATE
    assert len(run.exactness_reasons) == 1
    assert re.search(reason, run.exactness_reasons[0])


def test_a_run_that_left_no_state_is_begun_anew_and_that_is_told(world: World) -> None:
    world.plan = Plan(steps=2)  # no snapshot is due so soon
    base = world.job("base")
    world.work()
    world.plan = Plan()
    run_id = world.job("more", init_from={"run": base, "what": "state"})
    world.work()
    run = world.client.run(run_id)
    assert run.state_sha256 == digest_after(12)
    assert run.exactness_reasons == (f"{base} has left no state to go on from, so this run begins at step 0",)


def test_a_fresh_start_begins_with_the_other_run_again(world: World) -> None:
    base = finished(world)
    world.plan = Plan(fails_at=8)
    run_id = world.job("more", init_from={"run": base, "what": "state"})
    world.work()
    world.client.retry(run_id, fresh=True)
    assert f"begins once more with the state of {base}: a fresh start" in world.client.takes_up(run_id)
    world.plan = Plan()
    world.work()
    run = world.client.run(run_id)
    assert [attempt.first_step for attempt in run.attempts] == [3, 3]
    assert run.state_sha256 == digest_after(12)
    assert f"state of {base} at step 3" in world.client.report(run_id)


def test_what_a_fresh_start_gave_up_is_not_waited_for(world: World) -> None:
    world.plan = Plan(fails_at=8)
    base = world.job("base")
    world.work()
    world.client.retry(base, fresh=True)
    world.plan = Plan(fails_at=4)
    world.work()
    assert world.client.run(base).committed_step == 3
    world.plan = Plan()
    run_id = world.job("more", init_from={"run": base, "what": "weights"})
    began_s = world.clock.monotonic()
    world.work()
    assert world.client.run(run_id).exactness_reasons == ()
    assert world.clock.monotonic() - began_s < 5.0, "nor for the checkpoint of step 6"


# Which run.


def test_the_name_of_a_job_means_its_newest_run_that_has_succeeded(world: World) -> None:
    finished(world, seed=1)
    newest = finished(world, seed=2)
    world.plan = Plan(fails_at=2)
    world.job("base", seed=3)
    world.work()
    world.plan = Plan()
    run_id = world.job("more", init_from={"run": "base", "what": "weights"})
    assert json.loads(submission(world, run_id))["details"]["computed"]["init_from"] == {
        "run": newest,
        "what": "weights",
    }
    assert world.job("more", init_from={"run": newest, "what": "weights"}) == run_id


def submission(world: World, run_id: str) -> bytes:
    (path,) = [info.path for info in world.store.list("ledger") if f"{run_id}.submit." in info.path]
    return world.store.read(path)


def test_an_unknown_name_is_refused_with_near_ones(world: World) -> None:
    finished(world)
    with pytest.raises(SpecError, match=r"called bas; did you mean base"):
        world.job("more", init_from={"run": "bas", "what": "weights"})
    with pytest.raises(SpecError, match=r"called base-000000000000"):
        world.job("more", init_from={"run": "base-000000000000", "what": "state"})


def test_a_job_whose_runs_have_not_succeeded_is_refused(world: World) -> None:
    world.job("base")
    with pytest.raises(SpecError, match=r"no run of the job base has succeeded yet \(1 there: QUEUED\)"):
        world.job("more", init_from={"run": "base", "what": "state"})


def test_a_job_on_the_root_is_invalid_until_there_is_such_a_run(world: World) -> None:
    world.store.create(f"{JOBS}/more/train.py", b"print('scripted')\n")
    world.store.create(
        f"{JOBS}/more/job.yaml", b"entrypoint: train.py\ninit_from: {run: base, what: weights}\n"
    )
    world.clock.advance(seconds=100)
    world.work()
    (invalid,) = world.client.invalid_jobs()
    assert "no job with runs called base" in invalid.faults[0].message
    assert world.client.runs() == []
    finished(world)
    world.work()
    assert {run.name: run.state for run in world.client.runs()} == {
        "base": RunState.SUCCEEDED,
        "more": RunState.SUCCEEDED,
    }


# When.


@pytest.mark.parametrize("what", ["weights", "state"])
def test_it_waits_until_the_other_run_is_at_its_end(world: World, what: str) -> None:
    base = world.job("base")
    run_id = world.job("more", priority=9, init_from={"run": base, "what": what})
    waiting = world.client.run(run_id)
    assert (waiting.state, waiting.waiting_for) == (RunState.QUEUED, WaitingFor.AFTER)
    assert f"begins with the {what} of {base} (QUEUED)" in waiting.reason
    worked = world.work()
    assert list(worked.outcomes) == [base, run_id]
    assert world.client.run(run_id).state is RunState.SUCCEEDED


# Weights.


def seen_weights(world: World) -> tuple[list[tuple[str | None, int, int]], Callable[..., Trainer]]:
    """What each trainer finds to start from: whose, of which step, of which value."""
    found: list[tuple[str | None, int, int]] = []

    def start(spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        request = TrainingRequest.read(spool.request)
        header = read_header(spool.initial_weights)
        if header is not None:
            with mapped_tensors(spool.initial_weights) as view:
                value = int.from_bytes(view[:8], "little")
            found.append((request.weights_of, header.step, value))
        return ScriptedTrainer(world.plan, spool, work, world.executed)

    return found, start


def test_weights_are_those_of_the_end_and_the_run_counts_its_own_steps(world: World) -> None:
    base = finished(world)
    run_id = world.job("more", init_from={"run": base, "what": "weights"})
    found, start = seen_weights(world)
    world.worker(start=start).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert found == [(base, 6, value_after(6))]
    assert run.attempts[0].first_step == 0
    assert run.exactness is Exactness.EXACT


def test_weights_of_a_run_that_failed_are_those_of_its_newest_checkpoint(world: World) -> None:
    world.plan = Plan(fails_at=5)
    base = world.job("base")
    world.work()
    world.plan = Plan()
    world.job("more", init_from={"run": base, "what": "weights"})
    waits = world.job("other", init_from={"run": base, "what": "state"})
    found, start = seen_weights(world)
    worked = world.worker(start=start).work(Mode.UNTIL_EMPTY)
    assert found == [(base, 3, value_after(3))]
    assert f"driverun retry {base}" in worked.left[waits]


def test_a_run_without_a_checkpoint_has_no_weights_to_give(world: World) -> None:
    world.plan = Plan(fails_at=1)
    base = world.job("base")
    world.work()
    world.plan = Plan()
    run_id = world.job("more", init_from={"run": base, "what": "weights"})
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.FAILED
    assert f"cannot start from the weights of {base}: it has no checkpoint" in run.reason


# What is kept for it, and faults.


class KeepsTheLast(ScriptedTrainer):
    """Puts its state down after its last epoch as well, as a training process does, before the end of the fit."""

    _is_last = False

    def _header(self, kind: SnapshotKind, files: tuple[FileEntry, ...]) -> SnapshotHeader:
        header = super()._header(kind, files)
        return replace(header, epoch=1, step_in_epoch=0) if self._is_last else header

    def _fit_end(self) -> None:
        self._is_last = True
        self._snapshot()
        self._is_last = False
        super()._fit_end()


def keeping(world: World) -> Callable[..., Trainer]:
    def start(spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        return KeepsTheLast(world.plan, spool, work, world.executed)

    return start


def test_the_state_after_the_last_epoch_is_kept_beside_the_end_of_the_fit(world: World) -> None:
    world.plan = Plan(steps=7)
    base = world.job("base")
    world.worker(start=keeping(world)).work(Mode.UNTIL_EMPTY)
    run = world.client.run(base)
    assert [checkpoint.step for checkpoint in run.checkpoints if checkpoint.step == 7] == [7, 7]
    assert run.checkpoints[-1].new_bytes == 0, "its bytes are those of the fit's end"
    world.plan = Plan()
    run_id = world.job("more", init_from={"run": base, "what": "state"})
    world.work()
    more = world.client.run(run_id)
    assert more.attempts[0].first_step == 7
    assert more.state_sha256 == digest_after(12)
    assert world.executed == list(range(1, 13))


@pytest.mark.parametrize("part", range(2))
def test_wherever_the_other_run_or_this_one_crashed_the_end_is_the_same(tmp_path: Path, part: int) -> None:
    counting = World(tmp_path)
    base, run_id = submitted_both(counting)
    store = FaultyStore(counting.store, crash_at=None)
    counting.worker(store, start=growing(counting, base)).work(Mode.UNTIL_EMPTY)
    total = len(store.operations)
    for crash_at in range(20 + part, total, 4):
        folder = tmp_path / f"crash-{crash_at}"
        folder.mkdir()
        world = World(folder)
        base, run_id = submitted_both(world)
        with suppress(SimulatedDisconnect):
            crashing = FaultyStore(world.store, crash_at=crash_at)
            world.worker(crashing, start=growing(world, base)).work(Mode.UNTIL_EMPTY)
        world.power_cut()
        world.worker(start=growing(world, base)).work(Mode.UNTIL_EMPTY)
        run = world.client.run(run_id)
        assert run.state is RunState.SUCCEEDED, (crash_at, world.said)
        assert run.state_sha256 == digest_after(12), crash_at
        assert run.exactness is Exactness.EXACT, (crash_at, run.exactness_reasons)


def submitted_both(world: World) -> tuple[str, str]:
    base = world.job("base")
    return base, world.job("more", init_from={"run": base, "what": "state"})


def growing(world: World, base: str) -> Callable[..., Trainer]:
    """Six steps for the run that is continued, twelve for the one that continues it."""

    def start(spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        run_id = TrainingRequest.read(spool.request).run_id
        return KeepsTheLast(Plan(steps=6 if run_id == base else 12), spool, work, world.executed)

    return start


class Late(FaultyStore):
    """Does not list the ends of fits before a time has come."""

    clock: FakeClock
    until_s: float

    @property
    def listing_lag_s(self) -> float:
        return 10.0

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        found = super().list(folder, recursive=recursive, prefix=prefix)
        is_late = self.clock.monotonic() < self.until_s
        return [info for info in found if not is_late or "/fit-" not in info.path]


def test_weights_are_those_of_the_end_although_listings_lag(world: World) -> None:
    base = finished(world)
    run_id = world.job("more", init_from={"run": base, "what": "weights"})
    store = Late(world.store)
    store.clock, store.until_s = world.clock, world.clock.monotonic() + 25.0
    found, start = seen_weights(world)
    world.worker(store, start=start).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert found == [(base, 6, value_after(6))]
    assert run.exactness is Exactness.EXACT


def test_weights_of_an_earlier_step_are_told(world: World) -> None:
    """Somebody removed the end of the fit."""
    base = finished(world)
    for info in world.store.list("runs", recursive=True):
        if "/fit-" in info.path:
            world.store.delete(info.path)
    run_id = world.job("more", init_from={"run": base, "what": "weights"})
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.exactness_reasons == (
        f"the weights of {base} are those of its step 3: of step 6 no checkpoint is there",
    )


def test_it_works_on_drive(tmp_path: Path) -> None:
    clock = FakeClock()
    with DriveEmulator(
        tmp_path / "drive", clock=clock, settings=EmulatorSettings(latency_ms=2.0)
    ) as emulator:
        world = DriveWorld(tmp_path, clock=clock, emulator=emulator, root="lagging", lag_s=5.0)
        world.plan = Plan(steps=6)
        base = world.job("base")
        run_id = world.job("more", init_from={"run": base, "what": "state"})
        world.work()
        run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED, world.said
    assert run.attempts[0].first_step == 3
    assert run.exactness is Exactness.EXACT, run.exactness_reasons
