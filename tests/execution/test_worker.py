"""What a worker makes of good jobs, bad jobs, people's wishes, other workers and a root that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driverun.checkpoints.newest import load_manifest
from driverun.dispatch.choose import Capabilities
from driverun.dispatch.claim import claim_run
from driverun.dispatch.ledger import Ledger
from driverun.errors import StoreError, StoreQuotaExceeded, TransientStoreError
from driverun.execution.context import Stop
from driverun.execution.supervising import HAND_OVER_S, TERMINATE_S
from driverun.execution.trainer import Trainer
from driverun.execution.worker import Mode, Worker
from driverun.runs.layout import LEDGER, RUNS, AttemptKey
from driverun.runs.record import AttemptState, Exactness, ProcessId, Record
from driverun.runs.state import RunState, WaitingFor
from driverun.spool.folder import SpoolFolder
from driverun.storage.base import ObjectStore
from driverun.testing.faulty import FaultyStore, Injection, Moment, Operation, SimulatedDisconnect
from tests.execution.watching import once_at, watched
from tests.execution.world import LEASE_S, Plan, ScriptedTrainer, World

ALL_STEPS = list(range(1, 13))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def said(world: World, text: str) -> bool:
    return any(text in line for line in world.said)


# Bad jobs.


@pytest.mark.parametrize(
    "changed",
    [
        {"computed": {"init_from": {}}},
        {"computed": {"init_from": {"run": [], "what": 3}}},
        {"computed": {"after": {"data": 5}}},
        {"computed": {"after": {"data": [{}]}}},
        {"spec": {"min_memory": 10**400}},
        {"spec": {"priority": "high", "retry": 7}},
    ],
    ids=str,
)
def test_a_submission_that_no_driverun_wrote_holds_up_nobody(world: World, changed: dict[str, Any]) -> None:
    theirs = world.job("theirs")
    (listed,) = world.store.list(LEDGER)
    written = json.loads(world.store.read(listed.path))
    for part, fields in changed.items():
        written["details"][part].update(fields)
    world.store.replace(listed.path, json.dumps(written).encode(), properties={})
    good = world.job("good", seed=1)
    worker = world.worker()
    worker._context = replace(worker._context, capabilities=Capabilities(memory_bytes=10**9))
    assert good in worker.work(Mode.UNTIL_EMPTY).outcomes
    states = {run.run_id: run.state for run in world.client.runs()}
    assert states[good] is RunState.SUCCEEDED
    assert theirs in states


def test_a_run_that_is_deleted_as_it_is_taken_up_holds_up_nobody(world: World) -> None:
    gone = world.job("gone")
    world.clock.advance(seconds=1.0)
    stays = world.job("stays", seed=1)

    def delete(operation: Operation) -> None:
        is_claimed = operation.path.startswith(f"{LEDGER}/{gone}") and operation.path.endswith("claim.json")
        if is_claimed and operation.name == "create" and operation.moment is Moment.AFTER:
            for info in world.store.list(LEDGER, prefix=gone):
                world.store.delete(info.path)

    worked = world.worker(FaultyStore(world.store, on_operation=delete)).work(Mode.UNTIL_EMPTY)
    assert list(worked.outcomes) == [stays]
    assert said(world, f"{gone}: its files were deleted as it was taken up")


def test_a_failed_job_is_told_with_its_traceback_and_the_next_run_goes_on(world: World) -> None:
    bad, good = world.job("bad"), world.job("good", seed=1)
    plans = {bad: Plan(fails_at=4), good: Plan()}

    def start(spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        run_id = json.loads(spool.request.read_text())["run_id"]
        return ScriptedTrainer(plans[run_id], spool, work, world.executed)

    worked = world.worker(start=start).work(Mode.UNTIL_EMPTY)
    failed = world.client.run(bad)
    assert failed.state is RunState.FAILED
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.message) == ("ValueError", "scripted")
    assert failed.to_json()["error"]["traceback"] == "Traceback ..."
    assert world.client.run(good).state is RunState.SUCCEEDED
    assert worked.any_failed
    assert worked.left == {}
    assert failed.committed_step == 3


def test_a_process_that_ends_without_a_word_fails_the_run_with_its_exit_code(world: World) -> None:
    world.plan = Plan(exit_code=3)
    run_id = world.job()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.FAILED
    assert run.failure is not None
    assert run.failure.kind == "exit code"
    assert "code 3" in run.failure.message


def test_a_second_try_is_given_where_the_job_asks_for_it(world: World) -> None:
    world.plan = Plan(fails_at=7)
    run_id = world.job(retry={"max_errors": 2})
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.FAILED
    assert [attempt.state for attempt in run.attempts] == [AttemptState.FAILED] * 2
    assert run.attempts[1].first_step == 6


def test_a_trainer_that_cannot_be_started_fails_its_run_alone(world: World) -> None:
    first, second = world.job("a"), world.job("b", seed=1)

    def start(spool: SpoolFolder, **more: Any) -> Trainer:
        if json.loads(spool.request.read_text())["run_id"] == first:
            raise OSError("no such interpreter")
        return world.start(spool, **more)

    world.worker(start=start).work(Mode.UNTIL_EMPTY)
    failed = world.client.run(first)
    assert failed.state is RunState.FAILED
    assert "no such interpreter" in failed.reason
    assert world.client.run(second).state is RunState.SUCCEEDED


# Order.


def order_of_attempts(world: World) -> list[str]:
    ledger = Ledger(world.store)
    ledger.refresh()
    claims = [claim for run in ledger.runs.values() for claim in run.claims]
    return [claim.key.run_id for claim in sorted(claims, key=lambda claim: claim.created_at)]


def test_runs_are_taken_up_by_priority_and_then_by_age(world: World) -> None:
    runs = []
    for number, priority in enumerate((0, 0, 5)):
        runs.append(world.job(f"job{number}", seed=number, priority=priority))
        world.clock.advance(seconds=1)
    world.work()
    assert order_of_attempts(world) == [runs[2], runs[0], runs[1]]


def test_a_worker_does_not_end_before_the_listings_can_be_trusted(world: World) -> None:
    class Lagging(FaultyStore):
        @property
        def listing_lag_s(self) -> float:
            return 10.0

    began_s = world.clock.monotonic()
    world.worker(store=Lagging(world.store)).work(Mode.UNTIL_EMPTY)
    assert 30.0 <= world.clock.monotonic() - began_s < 40.0, (
        "three times the lag, which may be longer than usual"
    )


def test_once_means_one_run(world: World) -> None:
    first, second = world.job("a"), world.job("b", seed=1)
    worked = world.work(mode=Mode.ONCE)
    assert list(worked.outcomes) == [first]
    assert list(worked.left) == [second]
    assert world.client.run(second).state is RunState.QUEUED


# Handing over.


@pytest.mark.parametrize("stop", list(Stop))
def test_a_worker_that_is_stopped_commits_and_the_next_goes_on_at_that_very_step(
    world: World, stop: Stop
) -> None:
    world.plan = Plan(steps_per_poll=1)
    run_id = world.job()
    start = watched(world, once_at(4, lambda: world.stop.ask(stop)))
    worked = world.worker(start=start).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert worked.stop is stop
    assert worked.outcomes[run_id].state is AttemptState.INTERRUPTED
    assert run.state is RunState.INTERRUPTED
    assert run.reason == stop.value
    handed_over_at = len(world.executed)
    assert handed_over_at % world.plan.snapshot_every, "no snapshot of the cadence's own"
    assert run.committed_step == handed_over_at
    assert list(worked.left) == [run_id]

    world.stop = type(world.stop)()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.attempts[1].first_step == handed_over_at
    assert world.executed == ALL_STEPS


def test_a_deadline_hands_over(world: World) -> None:
    world.plan = Plan(steps=2000, steps_per_poll=1, snapshot_every=700)
    run_id = world.job()
    worked = world.worker(deadline_s=world.clock.monotonic() + 20).work(Mode.UNTIL_EMPTY)
    assert worked.stop is Stop.DEADLINE
    run = world.client.run(run_id)
    assert run.state is RunState.INTERRUPTED
    assert run.committed_step == len(world.executed)
    assert 100 < len(world.executed) < 250


def test_a_deaf_job_is_killed_after_the_grace_and_its_newest_snapshot_is_committed(world: World) -> None:
    world.plan = Plan(steps=10**9, steps_per_poll=1, snapshot_every=100, deaf=True)
    run_id = world.job()
    asked_at_s: list[float] = []

    def ask() -> None:
        asked_at_s.append(world.clock.monotonic())
        world.stop.ask(Stop.TERM)

    world.worker(start=watched(world, once_at(50, ask))).work(Mode.UNTIL_EMPTY)
    assert world.clock.monotonic() - asked_at_s[0] == pytest.approx(HAND_OVER_S + TERMINATE_S, abs=2)
    run = world.client.run(run_id)
    assert run.state is RunState.INTERRUPTED
    newest = world.executed[-1] // 100 * 100
    assert newest >= 300
    assert run.committed_step == newest


def test_who_asks_twice_is_asked_for_nothing_more_and_the_run_goes_on_elsewhere(world: World) -> None:
    run_id = world.job()
    store = FaultyStore(world.store)
    counted: list[int] = []

    def ask() -> None:
        world.stop.ask(Stop.USER)
        world.stop.ask(Stop.USER)
        counted.append(len(store.operations))

    worked = world.worker(store, start=watched(world, once_at(4, ask))).work(Mode.UNTIL_EMPTY)
    assert [len(store.operations)] == counted
    assert worked.stop is Stop.USER
    assert worked.outcomes[run_id].abandoned
    assert worked.left == {run_id: "abandoned by a person"}
    assert said(world, "abandoned: nothing more is sent")

    world.stop = type(world.stop)()
    world.power_cut()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.attempts[1].first_step == 3


# Wishes.


def test_a_run_is_cancelled_while_it_trains(world: World) -> None:
    world.plan = Plan(steps=10**6)
    run_id, other = world.job("a"), world.job("b", seed=1)

    def start(spool: SpoolFolder, *, work: Path, **_: Any) -> Trainer:
        if json.loads(spool.request.read_text())["run_id"] == run_id:
            world.client.cancel(run_id)
            return ScriptedTrainer(world.plan, spool, work, world.executed)
        return ScriptedTrainer(Plan(), spool, work, [])

    worked = world.worker(start=start).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert run.state is RunState.CANCELLED
    assert run.attempts[0].state is AttemptState.CANCELLED
    assert worked.outcomes[run_id].state is AttemptState.CANCELLED
    assert world.client.run(other).state is RunState.SUCCEEDED
    assert worked.left == {}


def test_a_cancelled_run_is_not_taken_up_until_a_person_wants_it_again(world: World) -> None:
    run_id = world.job()
    world.client.cancel(run_id)
    world.work()
    assert world.executed == []
    world.client.retry(run_id)
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED


def test_a_retry_goes_on_from_the_checkpoint_with_the_code_as_it_is_now(world: World) -> None:
    world.plan = Plan(fails_at=7)
    run_id = world.job()
    world.work()
    world.plan = Plan()
    old = world.store.read("jobs/job/train.py")
    world.store.replace("jobs/job/train.py", old + b"print('mended')\n")
    world.clock.advance(seconds=60)
    world.client.retry(run_id)
    worked = world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.attempts[1].first_step == 6
    assert run.exactness is Exactness.APPROXIMATE
    assert any(reason.startswith("code changed") for reason in run.exactness_reasons)
    assert list(worked.outcomes) == [run_id], "the mended code is that run's, not a second run"


def test_a_retry_with_the_same_code_stays_exact(world: World) -> None:
    world.plan = Plan(fails_at=7)
    run_id = world.job()
    world.work()
    world.plan = Plan()
    world.client.retry(run_id)
    world.work()
    run = world.client.run(run_id)
    assert (run.state, run.exactness) == (RunState.SUCCEEDED, Exactness.EXACT)


def test_a_fresh_retry_starts_at_nothing(world: World) -> None:
    world.plan = Plan(fails_at=7)
    run_id = world.job()
    world.work()
    world.plan = Plan()
    world.executed.clear()
    world.client.retry(run_id, fresh=True)
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.attempts[1].first_step == 0
    assert world.executed == ALL_STEPS


# Data.


def test_a_run_without_its_data_waits_and_runs_once_they_are_there(world: World, tmp_path: Path) -> None:
    run_id = world.job(data=[{"source": "data/train.csv"}])
    other = world.job("other")
    worked = world.work()
    run = world.client.run(run_id)
    assert (run.state, run.waiting_for) == (RunState.QUEUED, WaitingFor.DATA)
    assert "driverun upload FILE data/train.csv" in worked.left[run_id]
    assert said(world, "not on the root yet: data/train.csv")
    assert world.client.run(other).state is RunState.SUCCEEDED

    (tmp_path / "train.csv").write_text("1,2\n")
    world.client.upload(tmp_path / "train.csv", "data/train.csv")
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED


def test_a_run_goes_without_data_that_are_optional(world: World) -> None:
    run_id = world.job(data=[{"source": "data/more.csv", "optional": True}])
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    assert said(world, "data/more.csv: not there, and optional")


# Other workers.


def foreign_claim(world: World, run_id: str) -> AttemptKey:
    """Another machine's worker takes the run and says no more."""
    ledger = Ledger(world.store)
    ledger.refresh()
    process = ProcessId(host="elsewhere", boot_id="x", pid=1, started="1")
    won = claim_run(world.store, run_id, ledger.runs[run_id], "foreign", process, world.clock)
    assert won is not None
    return won.key


def foreign_record(world: World, key: AttemptKey) -> Record:
    now = world.clock.now()
    record = Record(
        run_id=key.run_id,
        number=key.number,
        worker=key.worker,
        process=ProcessId(host="elsewhere", boot_id="x", pid=1, started="1"),
        state=AttemptState.RUNNING,
        beat=0,
        started_at=now,
        updated_at=now,
        lease_s=LEASE_S,
    )
    world.store.create(key.record_file, record.to_bytes())
    return record


def test_a_worker_that_lost_its_run_while_it_was_paused_changes_nothing_that_counts(world: World) -> None:
    run_id = world.job()
    before: dict[str, bytes] = {}

    def pause() -> None:
        """The machine sleeps for longer than a lease; somebody else takes the run up and finishes it."""
        world.clock.advance(seconds=LEASE_S + 1)
        asleep, world.executed = world.executed, []
        world.work()
        world.executed = asleep
        before.update({info.path: world.store.read(info.path) for info in world.store.list(LEDGER)})
        before.update(world.results(run_id))

    start = watched(world, once_at(4, pause))
    world.worker(start=start).work(Mode.UNTIL_EMPTY)
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.results_path is not None
    assert ".0002.worker2/" in run.results_path
    after = {info.path: world.store.read(info.path) for info in world.store.list(LEDGER)}
    after.update(world.results(run_id))
    assert after == before
    assert not said(world, "Traceback")


def test_a_run_of_a_live_worker_is_left_to_it(world: World) -> None:
    run_id = world.job()
    key = foreign_claim(world, run_id)
    record = foreign_record(world, key)
    begun_s = world.clock.monotonic()
    worker = world.worker(Beating(world, record))
    worked = worker.work(Mode.UNTIL_EMPTY)
    assert worked.outcomes == {}
    assert worked.left == {run_id: "another worker is at it"}
    assert world.clock.monotonic() - begun_s < LEASE_S


class Beating(FaultyStore):
    """A root on which another worker gives a sign of life every ten seconds."""

    def __init__(self, world: World, record: Record) -> None:
        self._at_s = world.clock.monotonic()

        def beat(operation: Operation) -> None:
            if world.clock.monotonic() - self._at_s >= 10:
                self._at_s = world.clock.monotonic()
                world.store.replace(record.key.record_file, replace(record, beat=record.beat + 1).to_bytes())

        super().__init__(world.store, on_operation=beat)


def test_a_run_of_a_dead_worker_is_waited_out_with_a_countdown_and_taken_up(world: World) -> None:
    run_id = world.job()
    foreign_record(world, foreign_claim(world, run_id))
    begun_s = world.clock.monotonic()
    worked = world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    assert worked.left == {}
    assert LEASE_S <= world.clock.monotonic() - begun_s < LEASE_S + 15
    countdown = [line for line in world.said if "a worker that may be dead" in line]
    assert 3 <= len(countdown) <= 8, world.said
    assert world.client.run(run_id).attempts[0].died


def test_a_claim_without_a_record_is_waited_out_as_well(world: World) -> None:
    run_id = world.job()
    foreign_claim(world, run_id)
    world.work()
    assert world.client.run(run_id).state is RunState.SUCCEEDED


# Damage.


def interrupted(world: World, run_id: str, *, at: int = 8) -> list[str]:
    """Train to step `at`, then lose the machine; gives the manifests of checkpoints, oldest first."""

    def cut() -> None:
        raise SimulatedDisconnect

    with pytest.raises(SimulatedDisconnect):
        world.worker(start=watched(world, once_at(at, cut))).work(Mode.UNTIL_EMPTY)
    world.power_cut()
    found = [
        info.path
        for info in world.store.list(RUNS, recursive=True)
        if "/ckpt-" in info.path and run_id in info.path
    ]
    return sorted(found)


def flip(store: ObjectStore, path: str) -> None:
    content = bytearray(store.read(path))
    content[len(content) // 2] ^= 1
    store.replace(path, bytes(content))


DAMAGES: dict[str, Callable[[ObjectStore, str], None]] = {
    "flipped": flip,
    "truncated": lambda store, path: void(store.replace(path, store.read(path)[:-1])),
    "missing": lambda store, path: store.delete(path),
}


def void(_: object) -> None:
    """A statement's value."""


@pytest.mark.parametrize("what", ["manifest", "pack"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_said_to_be(world: World, what: str, damage: str) -> None:
    world.plan = Plan(steps_per_poll=1)
    run_id = world.job(checkpoint={"keep": 3})
    older, newest = interrupted(world, run_id, at=8)[-2:]
    path = newest
    if what == "pack":
        manifest, before = (load_manifest(world.store, each).manifest for each in (newest, older))
        (own,) = [pack for pack in manifest.packs if pack not in before.packs]
        path = manifest.key.pack_file(own.sha256)
    DAMAGES[damage](world.store, path)
    world.said.clear()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert run.attempts[1].first_step == 3
    if (what, damage) != ("manifest", "missing"):
        assert said(world, f"passed over {newest}")


# Jobs that people drop into the root.


def drop(world: World, path: str, content: str) -> None:
    world.store.create(path, content.encode())


def test_a_job_dropped_into_the_root_becomes_one_run_once_it_is_at_rest(world: World) -> None:
    begun_s = world.clock.monotonic()
    drop(world, "jobs/mine/train.py", "print()\n")
    drop(world, "jobs/mine/job.yaml", "entrypoint: train.py\n")
    worker = world.worker()
    worked = worker.work(Mode.UNTIL_EMPTY)
    (run,) = world.client.runs()
    assert run.state is RunState.SUCCEEDED
    assert (run.name, run.job) == ("mine", "jobs/mine")
    assert list(worked.outcomes) == [run.run_id]
    assert run.created_at is not None
    assert world.clock.monotonic() - begun_s >= 5
    world.clock.advance(seconds=60)
    assert worker.work(Mode.UNTIL_EMPTY).outcomes == {}
    assert world.work().outcomes == {}
    assert len(world.client.runs()) == 1


def test_a_job_whose_files_still_arrive_is_waited_for(world: World) -> None:
    drop(world, "jobs/mine/train.py", "import helper\n")
    drop(world, "jobs/mine/job.yaml", "entrypoint: train.py\n")
    arrived: list[str] = []

    def arrive(operation: Operation) -> None:
        if world.clock.monotonic() >= 3 and not arrived:
            arrived.append("helper.py")
            drop(world, "jobs/mine/helper.py", "A = 1\n")

    world.worker(FaultyStore(world.store, on_operation=arrive)).work(Mode.UNTIL_EMPTY)
    (run,) = world.client.runs()
    assert run.state is RunState.SUCCEEDED
    assert world.clock.monotonic() >= 8


def test_a_job_submitted_with_a_parameter_does_not_become_a_second_run(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "train.py").write_text("print()\n")
    (folder / "job.yaml").write_text("entrypoint: train.py\nparams: {rate: 1}\n")
    client = world.client
    submitted = client.submit(client.load_job(str(folder)), params={"rate": 2})
    world.clock.advance(seconds=60)
    worked = world.work()
    assert list(worked.outcomes) == [submitted.run_id]
    assert [run.run_id for run in client.runs()] == [submitted.run_id]


def test_a_faulty_job_is_told_once_with_all_its_faults_and_read_again_when_it_changes(world: World) -> None:
    drop(world, "jobs/mine/train.py", "print()\n")
    drop(world, "jobs/mine/job.yaml", "entrypoint: train.py\nsede: 7\ncheckpoint: {every: often}\n")
    good = world.job()
    worker = world.worker()
    worker.work(Mode.UNTIL_EMPTY)
    worker.work(Mode.UNTIL_EMPTY)
    told = [line for line in world.said if "INVALID" in line]
    assert len(told) == 1
    assert "jobs/mine/job.yaml:2: sede" in told[0]
    assert "jobs/mine/job.yaml:3: checkpoint.every" in told[0]
    assert world.client.run(good).state is RunState.SUCCEEDED
    assert [invalid.name for invalid in world.client.invalid_jobs()] == ["mine"]

    world.store.replace("jobs/mine/job.yaml", b"entrypoint: train.py\nseed: 7\n")
    worker.work(Mode.UNTIL_EMPTY)
    assert sorted(run.name for run in world.client.runs()) == ["job", "mine"]
    assert world.client.invalid_jobs() == []


@pytest.mark.parametrize("name", ["job.yml", "Job.yaml", "job.yaml.txt"])
def test_a_job_file_by_another_name_is_told_until_it_is_renamed(world: World, name: str) -> None:
    drop(world, "jobs/mine/train.py", "print()\n")
    drop(world, f"jobs/mine/{name}", "entrypoint: train.py\n")
    drop(world, "jobs/settings/compose.yml", "no: job\n")
    worker = world.worker()
    worker.work(Mode.UNTIL_EMPTY)
    (invalid,) = world.client.invalid_jobs()
    assert (invalid.name, str(invalid.faults[0])) == (
        "mine",
        f"jobs/mine/{name}: a job file is called job.yaml; rename this one",
    )
    assert any("the job mine is INVALID" in line for line in world.said)

    world.store.delete(f"jobs/mine/{name}")
    drop(world, "jobs/mine/job.yaml", "entrypoint: train.py\n")
    world.clock.advance(seconds=60)
    worker.work(Mode.UNTIL_EMPTY)
    assert [run.name for run in world.client.runs()] == ["mine"]
    assert world.client.invalid_jobs() == []


# A root in trouble.


class FullFor(FaultyStore):
    """A root that has no room for packs for some seconds."""

    def __init__(self, world: World, seconds: float) -> None:
        self.refused = 0

        def refuse(operation: Operation) -> None:
            is_full = world.clock.monotonic() < seconds
            is_pack = operation.name == "create" and "/pack-" in operation.path
            if is_full and is_pack and operation.moment is Moment.BEFORE:
                self.refused += 1
                raise StoreQuotaExceeded(f"cannot create {operation.path}: the root is full")

        super().__init__(world.store, on_operation=refuse)


def test_training_goes_on_while_the_root_is_full_and_is_committed_later(world: World) -> None:
    world.plan = Plan(steps=1200, steps_per_poll=1, snapshot_every=50)
    run_id = world.job()
    store = FullFor(world, seconds=70)
    world.work(store)
    run = world.client.run(run_id)
    assert store.refused
    assert run.state is RunState.SUCCEEDED
    assert len(world.executed) == 1200
    assert said(world, "the root is full")
    assert len([line for line in world.said if "the root is full" in line]) <= 3


def test_a_root_that_is_full_until_after_the_end_gets_the_results_all_the_same(world: World) -> None:
    run_id = world.job()
    world.work(FullFor(world, seconds=100))
    assert world.client.run(run_id).state is RunState.SUCCEEDED
    assert world.executed == ALL_STEPS


def busy(path: str) -> StoreError:
    return TransientStoreError(f"cannot reach {path}: the root is busy", path=path)


@pytest.mark.parametrize("moment", list(Moment))
def test_a_burst_of_lost_answers_is_survived(world: World, moment: Moment) -> None:
    """The worker may end, as one does whose root is out of reach; the next one goes on."""
    run_id = world.job()
    for _ in range(40):
        store = FaultyStore(
            world.store, injections=[Injection(error=busy, moment=moment, rate=0.1, times=25)]
        )
        try:
            world.work(store)
        except TransientStoreError:
            world.power_cut()
            continue
        break
    world.power_cut()
    world.work()
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED, (run, world.said)


def test_an_outage_while_it_trains_does_not_end_the_attempt(world: World) -> None:
    world.plan = Plan(steps=2000, steps_per_poll=1, snapshot_every=50)
    run_id = world.job()

    def out(operation: Operation) -> None:
        if operation.moment is Moment.BEFORE and 20 <= world.clock.monotonic() < 45:
            raise busy(operation.path)

    world.work(FaultyStore(world.store, on_operation=out))
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert len(run.attempts) == 1
    assert len(world.executed) == 2000
    assert said(world, "no heartbeat for now")


def test_an_outage_at_the_end_is_waited_out(world: World) -> None:
    world.plan = Plan(steps=100, steps_per_poll=1, snapshot_every=50)
    run_id = world.job()

    def out(operation: Operation) -> None:
        if operation.moment is Moment.BEFORE and 9 <= world.clock.monotonic() < 60:
            raise busy(operation.path)

    world.work(FaultyStore(world.store, on_operation=out))
    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED
    assert len(run.attempts) == 1


def test_a_look_that_the_root_does_not_answer_does_not_end_a_worker_that_watches(world: World) -> None:
    run_id = world.job()
    failures: list[str] = []

    def out(operation: Operation) -> None:
        if operation.moment is Moment.BEFORE and world.clock.monotonic() < 20 and operation.name == "list":
            failures.append(operation.path)
            raise busy(operation.path)
        if world.executed == ALL_STEPS and world.client.run(run_id).state is RunState.SUCCEEDED:
            world.stop.ask(Stop.TERM)

    worker: Worker = world.worker(FaultyStore(world.store, on_operation=out))
    worker.work(Mode.WATCH)
    assert failures
    assert world.client.run(run_id).state is RunState.SUCCEEDED


def test_a_claim_whose_number_leaves_no_room_for_the_next_stops_nobody_else(world: World) -> None:
    forged = world.job("forged", priority=5)
    last = world.job("last")
    digits = 255 - len(f"{forged}..abcd.record.json")
    world.store.create(f"ledger/{forged}.{'9' * digits}.abcd.claim.json", b"{}")
    world.clock.advance(seconds=300)
    world.worker().work(Mode.UNTIL_EMPTY)
    assert world.client.run(last).state is RunState.SUCCEEDED
    assert any("make no sense" in said for said in world.said)
