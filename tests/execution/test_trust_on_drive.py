"""A folder of Drive that two accounts may write to: whose code runs, and what a stranger can bring about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driverun.cli.render import review_text
from driverun.dispatch.ledger import Ledger
from driverun.errors import IntegrityError, UsageError
from driverun.execution.client import Client
from driverun.execution.intake import submit_job
from driverun.execution.jobs import job_on_root
from driverun.execution.secrets import Answer, Secrets
from driverun.execution.trainer import Trainer
from driverun.execution.worker import Mode
from driverun.runs.heads import head_of
from driverun.runs.layout import WishKind, code_file, run_file, wish_file
from driverun.runs.record import RunFile, Wish
from driverun.runs.state import RunState, WaitingFor
from driverun.spool.folder import SpoolFolder
from driverun.storage.base import ObjectStore, people_of, read_believed
from driverun.storage.drive.opening import ENDPOINT_VARIABLE, TOKEN_VARIABLE, DriveOpening
from driverun.storage.locate import DriveFolderAddress
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings
from driverun.transfer.code import JobFile, JobFiles, capture_code, pack_code
from tests.execution.drive_world import DriveWorld
from tests.execution.watching import WatchedTrainer, once_at, watched
from tests.execution.world import Plan
from tests.storage.drive.emulated import Person, id_of

STRANGER = "stranger@example.com"
QUIET_S = 6.0  #: after this a job's files have come to rest


class Shared(DriveWorld):
    """A root of person@example.com, which a stranger may write to."""

    def share(self) -> None:
        self.root_id = id_of(self.emulator, self.root)
        Person(self.emulator).share(self.root_id, STRANGER)
        self.stranger = self.store_of(STRANGER)

    def store_of(self, account: str, *, trusted: frozenset[str] = frozenset()) -> ObjectStore:
        return DriveOpening(
            DriveFolderAddress(folder_id=self.root_id),
            environment={ENDPOINT_VARIABLE: self.emulator.url, TOKEN_VARIABLE: f"user:{account}"},
            home=Path("/nowhere"),
            clock=self.clock,
            listing_lag_s=0.0,
            trusted_authors=trusted,
        ).open()

    def drop(self, store: ObjectStore, name: str, *, code: str = "print(1)\n", **fields: Any) -> None:
        """Put a job into the folder as a person does with a browser."""
        files = {
            "train.py": code.encode(),
            "job.yaml": json.dumps({"entrypoint": "train.py", **fields}).encode(),
        }
        for file, content in files.items():
            path = f"jobs/{name}/{file}"
            known = {info.path for info in store.list(f"jobs/{name}")}
            store.replace(path, content) if path in known else store.create(path, content)
        self.clock.advance(seconds=QUIET_S)

    def states(self) -> dict[str, tuple[RunState, WaitingFor | None]]:
        return {run.name: (run.state, run.waiting_for) for run in self.client.runs()}

    def run_of(self, name: str) -> str:
        [found] = [run.run_id for run in self.client.runs() if run.name == name]
        return found

    def wish(
        self, store: ObjectStore, run_id: str, kind: WishKind, details: dict[str, Any], wish_id: str = "f0"
    ) -> None:
        """A wish as somebody writes it by hand."""
        wish = Wish(
            run_id=run_id, kind=kind, wish_id=wish_id, wished_at=self.clock.now(), by="me", details=details
        )
        store.create(wish_file(run_id, kind, wish_id), wish.to_bytes())


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    clock = FakeClock()
    with DriveEmulator(
        tmp_path / "drive", clock=clock, settings=EmulatorSettings(latency_ms=2.0)
    ) as emulator:
        world = Shared(folder=tmp_path, clock=clock, emulator=emulator, plan=Plan(steps=4))
        world.share()
        yield world


SUCCEEDED = (RunState.SUCCEEDED, None)
WAITS = (RunState.QUEUED, WaitingFor.APPROVAL)


def test_the_store_tells_who_is_who_without_asking_for_it(shared: Shared) -> None:
    shared.stranger.create("data/x", b"1")
    seen = {info.path: info.author for info in shared.store.list("", recursive=True)}
    assert seen["data/x"] == STRANGER
    assert seen[".driverun/root.json"] == "person@example.com"
    for store in (shared.store, shared.stranger):
        people = people_of(store)
        assert people is not None
        assert people.trusts("person@example.com")
        assert not people.trusts(STRANGER)
        assert not people.trusts(None)
    people = people_of(shared.stranger)
    assert people is not None
    assert people.believes(STRANGER), "what I say is true to myself"


def test_a_strangers_job_waits_and_the_owners_runs(shared: Shared) -> None:
    shared.drop(shared.stranger, "theirs", priority=5)
    shared.drop(shared.store, "mine")
    worked = shared.work()
    assert shared.states() == {"theirs": WAITS, "mine": SUCCEEDED}
    assert f"last changed by {STRANGER}" in worked.left[shared.run_of("theirs")]
    assert "driverun approve" in shared.client.run("theirs").reason


def test_one_file_of_a_stranger_in_the_owners_job_is_enough(shared: Shared) -> None:
    shared.drop(shared.store, "mine")
    shared.stranger.create("jobs/mine/helper.py", b"import os\n")
    shared.clock.advance(seconds=QUIET_S)
    shared.work()
    assert shared.states() == {"mine": WAITS}


def test_whom_the_worker_trusts_needs_no_approval(shared: Shared) -> None:
    shared.drop(shared.stranger, "theirs")
    shared.work(shared.store_of("person@example.com", trusted=frozenset({STRANGER})))
    assert shared.states()["theirs"] == SUCCEEDED


# Approval.


def test_what_is_approved_runs_and_what_is_made_of_it_later_waits_again(shared: Shared) -> None:
    shared.drop(shared.stranger, "theirs", code="print('first')\n")
    shared.work()
    run_id = shared.run_of("theirs")
    review = shared.client.review(run_id)
    assert (review.authors, review.before) == ((STRANGER,), None)
    assert review.files == {"train.py": 15}
    assert review.head == "print('first')"

    shared.client.approve(run_id, code=review.code_sha256[:12])
    shared.work()
    assert shared.states()["theirs"] == SUCCEEDED
    with pytest.raises(UsageError, match="nothing of it waits"):
        shared.client.review(run_id)

    shared.drop(shared.stranger, "theirs", code="print('second')\n")
    shared.work()
    [later] = [run for run in shared.client.runs() if run.run_id != run_id]
    assert (later.state, later.waiting_for) == WAITS
    seen = shared.client.review(later.run_id)
    assert seen.before == run_id
    assert [change.diff.splitlines()[-2:] for change in seen.changes] == [
        ["-print('first')", "+print('second')"]
    ]


def test_secrets_are_approved_with_the_code_that_gets_them(shared: Shared) -> None:
    class Shelf:
        advice = "the shelf"

        def look_up(self, name: str) -> Answer:
            asked.append(name)
            return Answer(value=f"value-of-{name}")

    asked: list[str] = []
    shared.secrets = Secrets((Shelf(),), clock=shared.clock)
    shared.drop(shared.stranger, "theirs", secrets=["FIRST"])
    shared.work()
    assert (shared.states()["theirs"], asked) == (WAITS, [])
    run_id = shared.run_of("theirs")
    review = shared.client.review(run_id)
    assert review.secrets == ("FIRST",)
    shared.client.approve(run_id)
    shared.drop(shared.stranger, "theirs", secrets=["FIRST", "SECOND"])  # the same run, as its id has it
    shared.work()
    assert shared.run_of("theirs") == run_id
    assert (shared.states()["theirs"], asked) == (SUCCEEDED, ["FIRST"])


def test_what_the_code_would_read_is_shown_to_who_approves(shared: Shared) -> None:
    source = "data/private.npz"
    shared.drop(shared.stranger, "theirs", data=[{"source": source}])
    shared.work()
    review = shared.client.review("theirs")
    assert review.reads == (source,)
    assert source in review_text(review)


def test_code_that_is_not_the_code_that_was_seen_is_not_approved(shared: Shared) -> None:
    shared.drop(shared.stranger, "theirs")
    shared.work()
    for code in ("0" * 12, "", shared.client.review("theirs").code_sha256[:7]):
        with pytest.raises(UsageError, match="Look at it again"):
            shared.client.approve("theirs", code=code)
    shared.work()
    assert shared.states()["theirs"] == WAITS


def test_a_stranger_approves_nothing(shared: Shared) -> None:
    shared.drop(shared.stranger, "theirs")
    shared.work()
    theirs = Client(shared.stranger, clock=shared.clock, by="owner@here")
    assert not theirs.may_approve()
    theirs.approve("theirs")
    shared.work()
    assert shared.states()["theirs"] == WAITS


def test_operating_settings_of_a_stranger_do_not_replace_the_owners(shared: Shared) -> None:
    shared.drop(shared.store, "mine", priority=1)
    job = job_on_root(shared.store, "mine")
    run_id = shared.client.submit(job).run_id
    theirs = Client(shared.stranger, clock=shared.clock, by="owner@here")
    shared.drop(shared.stranger, "mine", priority=99, notes="mine now")
    theirs.submit(job_on_root(shared.stranger, "mine"))
    assert shared.client.run(run_id).priority == 1
    shared.work()
    assert shared.states()["mine"] == SUCCEEDED


def test_limits_of_a_stranger_do_not_end_the_owners_attempt(shared: Shared) -> None:
    shared.plan = Plan(steps=1000, steps_per_poll=1)
    shared.drop(shared.store, "mine")
    run_id = shared.client.submit(job_on_root(shared.store, "mine")).run_id

    def submit(store: ObjectStore, timeout: str) -> Callable[[WatchedTrainer], None]:
        def submitting() -> None:
            shared.drop(store, "mine", timeout=timeout)
            client = Client(store, clock=shared.clock, by="owner@here")
            assert client.submit(job_on_root(store, "mine")).run_id == run_id

        return once_at(20 if store is shared.stranger else 400, submitting)

    acts = [submit(shared.stranger, "1s"), submit(shared.store, "90s")]

    def before(trainer: WatchedTrainer) -> None:
        for act in acts:
            act(trainer)

    shared.worker(start=watched(shared, before)).work(Mode.ONCE)
    run = shared.client.run(run_id)
    assert run.failure is not None
    assert "`timeout` allows 1m30s" in run.failure.message, "the owner's counts, and no other"
    assert run.step > 400


def test_a_strangers_edit_that_a_worker_finds_sets_no_limits_for_the_attempt_at_work(shared: Shared) -> None:
    run_id = submitted_by_owner(shared)
    shared.plan = Plan(steps=400, steps_per_poll=1, snapshot_every=1000)

    def find() -> None:
        shared.drop(shared.stranger, "mine", timeout="20s")
        assert shared.client.submit(job_on_root(shared.store, "mine")).run_id == run_id

    shared.worker(shared.connect(), start=watched(shared, once_at(20, find))).work(Mode.ONCE)
    assert shared.client.run(run_id).state is RunState.SUCCEEDED


# Forgeries: each of them would run the stranger's code if it were believed.


def evil() -> JobFiles:
    return JobFiles(files={"train.py": JobFile.of(b"print('evil')\n")})


def submitted_by_owner(shared: Shared) -> str:
    shared.drop(shared.store, "mine")
    return shared.client.submit(job_on_root(shared.store, "mine")).run_id


def forged_submission(shared: Shared) -> None:
    """As the owner's driverun writes one, but by the stranger's account."""
    job = replace(job_on_root(shared.store, "mine"), files=evil(), authors=("person@example.com",))
    ledger = Ledger(shared.stranger)
    submit_job(
        shared.stranger, ledger, job, overrides={}, again=False, clock=shared.clock, by="person@example.com"
    )


def submission_of(shared: Shared) -> tuple[str, Wish]:
    [path] = [
        info.path for info in shared.store.list("ledger") if "mine-" in info.path and ".submit." in info.path
    ]
    return path, Wish.from_bytes(shared.store.read(path))


def forged_run_file(shared: Shared) -> None:
    """Other code, in the file that older roots have for each run."""
    _, wish = submission_of(shared)
    code_sha256 = capture_code(shared.stranger, evil())
    computed = {**wish.details["computed"], "code_sha256": code_sha256}
    run = RunFile(run_id=wish.run_id, name="mine", code_sha256=code_sha256, computed=computed)
    shared.stranger.create(run_file(wish.run_id), run.to_bytes())


def forged_computation(shared: Shared) -> None:
    """The owner's code, but told to put the results of another run beside it."""
    _, wish = submission_of(shared)
    computed = {**wish.details["computed"], "after": {"..": "other-0123456789ab"}}
    wish = replace(wish, wish_id="f1", details={**wish.details, "computed": computed})
    content = wish.to_bytes()
    shared.stranger.create(
        wish_file(wish.run_id, wish.kind, "f1"), content, properties=head_of(wish, content)
    )


def forged_head(shared: Shared) -> None:
    """What listings show of the owner's submission, changed in a way that leaves no trace."""
    path, wish = submission_of(shared)
    code_sha256 = capture_code(shared.stranger, evil())
    lie = replace(wish, details={**wish.details, "code_sha256": code_sha256})
    content = wish.to_bytes()
    shared.store.replace(path, content, properties=head_of(lie, content))


def forged_code(shared: Shared) -> None:
    """Another archive under the name of the owner's code."""
    code_sha256 = job_on_root(shared.store, "mine").files.code_sha256
    shared.stranger.replace(code_file(code_sha256), pack_code(evil()))


def forged_edit_of_a_submission(shared: Shared) -> None:
    """Other code in the owner's own submission, so that its head is of the owner's making."""
    path, wish = submission_of(shared)
    code_sha256 = capture_code(shared.stranger, evil())
    other = wish.to_bytes().replace(wish.details["code_sha256"].encode(), code_sha256.encode())
    assert len(other) == len(wish.to_bytes())
    shared.stranger.replace(path, other)


@pytest.mark.parametrize(
    "forge",
    [
        forged_submission,
        forged_run_file,
        forged_computation,
        forged_head,
        forged_code,
        forged_edit_of_a_submission,
    ],
)
def test_nothing_of_a_strangers_runs_by_a_forgery(
    shared: Shared, forge: Callable[[Shared], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted_by_owner(shared)
    ran: list[str] = []

    def start(spool: SpoolFolder, *, work: Path, **options: Any) -> Trainer:
        ran.extend(path.read_text() for path in work.rglob("*.py"))
        return Shared.start(shared, spool, work=work, **options)

    shared.drop(shared.store, "last", priority=-1)  # whatever the forgery does, the queue goes on
    forge(shared)
    shared.worker(shared.connect(), start=start).work(Mode.UNTIL_EMPTY)
    assert "print('evil')\n" not in ran
    assert shared.states()["last"] == SUCCEEDED
    assert len(ran) <= 2


def test_a_retry_with_a_strangers_code_does_not_count_until_it_is_approved(shared: Shared) -> None:
    run_id = submitted_by_owner(shared)
    shared.plan = Plan(fails_at=2)
    shared.work()
    assert shared.states()["mine"] == (RunState.FAILED, None)
    code_sha256 = capture_code(shared.stranger, evil())
    shared.wish(shared.stranger, run_id, WishKind.RETRY, {"fresh": False, "code_sha256": code_sha256})
    shared.plan = Plan(steps=4)
    shared.work()
    run = shared.client.run(run_id)
    assert run.state is RunState.FAILED
    assert f"driverun approve {run_id}" in run.reason

    review = shared.client.approve(run_id)
    assert (review.code_sha256, review.before) == (code_sha256, run_id)
    shared.work()
    run = shared.client.run(run_id)
    assert (run.state, run.code_sha256) == (RunState.SUCCEEDED, code_sha256)


def test_the_owners_retry_does_not_take_a_strangers_edit_along(shared: Shared) -> None:
    run_id = submitted_by_owner(shared)
    shared.plan = Plan(fails_at=2)
    shared.work()
    shared.drop(shared.stranger, "mine", code="print('evil')\n")
    shared.client.retry(run_id)
    shared.plan = Plan(steps=4)
    shared.work()
    assert shared.client.run(run_id).state is RunState.FAILED
    assert STRANGER in shared.client.run(run_id).reason


def test_a_checkpoint_that_a_stranger_made_is_not_taken_up(shared: Shared) -> None:
    run_id = submitted_by_owner(shared)
    shared.plan = Plan(steps=12, fails_at=8)
    shared.work()
    checkpoints = [info.path for info in shared.store.list("runs", recursive=True) if "/ckpt-" in info.path]
    before = shared.client.run(run_id).checkpoints
    for path in checkpoints:
        shared.stranger.replace(path, shared.store.read(path))
    assert shared.client.run(run_id).checkpoints == ()
    assert before
    assert read_believed(shared.stranger, checkpoints[0]), "to himself it is"
    with pytest.raises(IntegrityError, match="who is not trusted"):
        read_believed(shared.store, checkpoints[0])


def test_a_strangers_submission_hides_no_job_of_the_owner(shared: Shared) -> None:
    shared.drop(shared.store, "mine")
    sha256 = job_on_root(shared.store, "mine").sha256
    shared.wish(shared.stranger, "x-0123456789ab", WishKind.RETRY, {"job_sha256": sha256})
    shared.work()
    assert shared.states()["mine"] == SUCCEEDED


@pytest.mark.parametrize(
    "details",
    [
        {"spec": {"entrypoint": []}, "job_sha256": [], "job": {}, "authors": 5, "computed_sha256": []},
        {"spec": 3, "points": "many", "sweep": {}, "code_sha256": {}},
        {},
    ],
)
@pytest.mark.parametrize("kind", [WishKind.SUBMIT, WishKind.RETRY, WishKind.APPROVE, WishKind.PRIORITY])
def test_wishes_that_make_no_sense_stop_nobody(
    shared: Shared, kind: WishKind, details: dict[str, Any]
) -> None:
    run_id = submitted_by_owner(shared)
    for number, store in enumerate((shared.store, shared.stranger)):
        for name in (run_id, "x-0123456789ab"):
            shared.wish(store, name, kind, details, wish_id=f"f{number}")
    shared.drop(shared.store, "last", priority=-1)
    shared.work()
    assert shared.states()["last"] == SUCCEEDED
