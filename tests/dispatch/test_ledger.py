from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.dispatch.heartbeat import RecordKeeper
from driverun.dispatch.ledger import MOST_BYTES, Ledger
from driverun.errors import TransientStoreError
from driverun.execution.passing import PassingStore
from driverun.runs.heads import head_of
from driverun.runs.layout import AttemptKey, WishKind, run_file, wish_file
from driverun.runs.record import AttemptState, Claim, Record, RunFile, Wish
from driverun.runs.state import RunState, derive_state
from driverun.storage.base import FolderNews
from driverun.storage.local import LocalStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Moment, Operation

RUN = "digits-0123456789ab"
OTHER = "other-0123456789ab"


class Plain(PassingStore):
    """A store that keeps no properties, as a folder."""

    def news(self, folder: str, since: object = None) -> FolderNews:
        news = super().news(folder, since)
        return replace(news, changed=[replace(info, properties=None) for info in news.changed])


class World:
    """A root, what is written to it, and a ledger that counts what it reads, since no listing shows it heads."""

    def __init__(self, store: MemoryStore, clock: FakeClock, make: Callable[[AttemptKey], Record]) -> None:
        self.store, self.clock, self.make = store, clock, make
        self.operations = Counter[str]()
        self.ledger = Ledger(FaultyStore(Plain(store), on_operation=self.count))

    def show_heads(self) -> None:
        """From now on it is a ledger that begins anew, on a store that keeps properties."""
        self.ledger = Ledger(FaultyStore(self.store, on_operation=self.count))

    def count(self, operation: Operation) -> None:
        if operation.moment is Moment.BEFORE:
            self.operations[operation.name] += 1

    def submit(self, run_id: str = RUN, *, seed: int = 1) -> None:
        described = RunFile(run_id=run_id, name="digits", code_sha256="ab", computed={})
        self.store.create(run_file(run_id), described.to_bytes())
        self.wish(run_id, WishKind.SUBMIT, "s1", spec={"seed": seed})

    def wish(self, run_id: str, kind: WishKind, wish_id: str, **details: object) -> None:
        wished = Wish(
            run_id=run_id, kind=kind, wish_id=wish_id, wished_at=self.clock.now(), by="me", details=details
        )
        content = wished.to_bytes()
        self.store.create(wish_file(run_id, kind, wish_id), content, properties=head_of(wished, content))

    def keeper(self, key: AttemptKey) -> RecordKeeper:
        keeper = RecordKeeper(self.store, self.clock, self.make(key))
        keeper.create()
        return keeper

    def refresh(self) -> Counter[str]:
        """Refresh the ledger; returns what it asked of the store."""
        self.operations.clear()
        self.ledger.refresh()
        return Counter(self.operations)

    def state(self, run_id: str = RUN) -> RunState:
        return derive_state(self.ledger.runs[run_id]).state

    def broken(self) -> list[str]:
        return [problem.path for problem in self.ledger.problems]


@pytest.fixture
def world(store: MemoryStore, clock: FakeClock, first_record: Callable[[AttemptKey], Record]) -> World:
    return World(store, clock, first_record)


def test_an_empty_root_has_no_runs(world: World) -> None:
    world.refresh()
    assert world.ledger.runs == {}
    assert world.ledger.run(RUN) is None
    assert world.ledger.problems == ()


def test_everything_of_a_run_is_brought_together(
    world: World, key: AttemptKey, new_claim: Callable[[AttemptKey], Claim]
) -> None:
    world.submit()
    world.submit(OTHER)
    new_claim(key)
    keeper = world.keeper(key)
    world.wish(RUN, WishKind.CANCEL, "c1")
    world.refresh()
    run = world.ledger.runs[RUN]
    assert run.is_complete
    assert run.spec == {"seed": 1}
    assert run.created_at == world.store.stat(run_file(RUN)).created_at
    (claim,) = run.claims
    assert (claim.key, claim.record) == (key, keeper.record)
    assert claim.created_at == world.store.stat(key.claim_file).created_at
    assert claim.record_modified_at == world.store.stat(key.record_file).modified_at
    assert {wish.kind for wish in run.wishes} == {WishKind.SUBMIT, WishKind.CANCEL}
    assert (world.state(), world.state(OTHER)) == (RunState.RUNNING, RunState.QUEUED)


def test_only_what_is_new_or_has_changed_is_read(
    world: World, key: AttemptKey, new_claim: Callable[[AttemptKey], Claim]
) -> None:
    world.submit()
    new_claim(key)
    assert world.refresh() == {"list": 1, "read": 3}
    assert world.refresh() == {"list": 1}
    keeper = world.keeper(key)
    assert world.refresh() == {"list": 1, "read": 1}
    world.clock.advance(seconds=20)
    keeper.beat(step=5)
    assert world.refresh() == {"list": 1, "read": 1}
    world.clock.advance(seconds=20)
    keeper.finish(AttemptState.FAILED)
    assert world.refresh() == {"list": 1, "read": 1, "stat": 1}
    assert world.state() is RunState.FAILED
    assert world.refresh() == {"list": 1}


def test_a_claim_with_a_record_is_not_read(
    world: World, key: AttemptKey, new_claim: Callable[[AttemptKey], Claim]
) -> None:
    new_claim(key)
    world.keeper(key)
    assert world.refresh() == {"list": 1, "read": 1}
    assert world.ledger.runs[RUN].claims[0].worker_process is not None


def test_a_claim_of_a_run_that_is_not_there_yet_is_borne(
    world: World, key: AttemptKey, new_claim: Callable[[AttemptKey], Claim]
) -> None:
    new_claim(key)
    world.refresh()
    run = world.ledger.runs[RUN]
    assert not run.is_complete
    assert (run.created_at, run.spec, world.state()) == (None, None, RunState.RUNNING)


def test_files_that_make_no_sense_are_named_and_stop_nothing(world: World, key: AttemptKey) -> None:
    world.submit()
    world.submit(OTHER)
    right = RunFile(run_id=RUN, name="digits", code_sha256="ab", computed={}).to_bytes()
    strange = {
        "ledger/desktop.ini": b"[x]",
        run_file("copy-0123456789ab"): right,
        wish_file(RUN, WishKind.CANCEL, "c1"): b"\xff\x00",
        wish_file(RUN, WishKind.RETRY, "r1"): world.store.read(wish_file(RUN, WishKind.SUBMIT, "s1")),
        replace(key, run_id=OTHER).record_file: world.make(key).to_bytes(),
        replace(key, run_id=OTHER).claim_file: b"",
    }
    for path, content in strange.items():
        world.store.create(path, content)
    world.refresh()
    assert world.broken() == sorted(strange.keys() - {replace(key, run_id=OTHER).claim_file})
    assert world.state() is RunState.QUEUED
    assert world.state(OTHER) is RunState.RUNNING, "a claim counts by its name"
    assert world.refresh() == {"list": 1}, "nothing is read twice because it is broken"
    world.store.delete("ledger/desktop.ini")
    world.refresh()
    assert "ledger/desktop.ini" not in world.broken()


def test_what_is_larger_than_anything_of_driverun_is_not_read(world: World) -> None:
    world.submit()
    cancel = Wish(
        run_id=RUN, kind=WishKind.CANCEL, wish_id="c1", wished_at=world.clock.now(), by="me", details={}
    )
    large = cancel.to_bytes() + b" " * MOST_BYTES
    world.store.create(wish_file(RUN, WishKind.CANCEL, "c1"), large)
    assert world.refresh()["read"] == 2, "the run and its submission"
    (problem,) = world.ledger.problems
    assert "more than driverun writes" in problem.message
    assert world.state() is RunState.QUEUED


def test_a_listing_that_lags_takes_nothing_back(
    clock: FakeClock, first_record: Callable[[AttemptKey], Record]
) -> None:
    store = MemoryStore(clock)
    world = World(store, clock, first_record)
    world.submit()
    world.refresh()
    store._listing_lag_s = 30.0  # from now on, the store's listing forgets for a while what it has shown
    assert store.list("ledger") == []
    assert world.refresh() == {"list": 1, "stat": 2}
    assert world.state() is RunState.QUEUED


def test_what_is_really_gone_is_forgotten(world: World) -> None:
    world.submit()
    world.submit(OTHER)
    world.refresh()
    for info in world.store.list("ledger"):
        if RUN in info.path:
            world.store.delete(info.path)
    world.refresh()
    assert list(world.ledger.runs) == [OTHER]
    assert world.refresh() == {"list": 1}


def test_an_outcome_younger_than_the_listing_waits_for_the_next_one(
    world: World, key: AttemptKey, new_claim: Callable[[AttemptKey], Claim]
) -> None:
    """Else a zombie's outcome would be dated before the claim that made it one."""
    new_claim(key)
    keeper = world.keeper(key)
    world.refresh()

    class Late(FaultyStore):
        def read(self, path: str) -> bytes:
            if path == key.record_file and not keeper.is_finished:
                world.clock.advance(seconds=100)
                new_claim(replace(key, number=2, worker="bert"))
                keeper.finish(AttemptState.FAILED)
            return super().read(path)

    ledger = Ledger(Late(Plain(world.store)))
    ledger.refresh()
    (claim,) = ledger.runs[RUN].claims
    assert claim.record is None
    ledger.refresh()
    assert len(ledger.runs[RUN].claims) == 2
    derived = derive_state(ledger.runs[RUN])
    assert (derived.state, derived.errors) == (RunState.RUNNING, 0)


def test_a_refresh_that_fails_leaves_what_was_known_and_reads_nothing_twice(world: World) -> None:
    world.submit()
    reads: list[str] = []

    class Shaky(FaultyStore):
        def read(self, path: str) -> bytes:
            reads.append(path)
            if len(reads) == 6:
                raise TransientStoreError("lost", path=path)
            return super().read(path)

    ledger = Ledger(Shaky(world.store))
    ledger.refresh()
    for number in range(5):
        world.submit(f"more{number}-0123456789ab")
    with pytest.raises(TransientStoreError):
        ledger.refresh()
    assert list(ledger.runs) == [RUN]
    ledger.refresh()
    assert len(ledger.runs) == 6
    assert Counter(reads).most_common(2) == [(reads[5], 2), (reads[0], 1)], "only the lost one is read again"


def test_a_folder_serves_as_a_ledger_too(
    tmp_path: Path, clock: FakeClock, first_record: Callable[[AttemptKey], Record], key: AttemptKey
) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store)
    claim = Claim(
        run_id=RUN, number=1, worker="anna", process=first_record(key).process, claimed_at=clock.now()
    )
    store.create(key.claim_file, claim.to_bytes())
    keeper = RecordKeeper(store, clock, first_record(key))
    keeper.create()
    ledger.refresh()
    assert derive_state(ledger.runs[RUN]).state is RunState.RUNNING
    keeper.beat(step=123456789)
    keeper.finish(AttemptState.INTERRUPTED)
    ledger.refresh()
    assert derive_state(ledger.runs[RUN]).state is RunState.INTERRUPTED


def test_a_submission_alone_is_a_run(world: World) -> None:
    described = {"spec": {"seed": 1}, "code_sha256": "ab", "computed": {"seed": 1}}
    world.wish(RUN, WishKind.SUBMIT, "s2", **described)
    world.clock.advance(seconds=5)
    world.wish(RUN, WishKind.SUBMIT, "s1", **{**described, "spec": {"seed": 1, "priority": 3}})
    for _ in range(2):
        world.refresh()
        run = world.ledger.runs[RUN]
        assert run.is_complete
        assert run.created_at == world.store.stat(wish_file(RUN, WishKind.SUBMIT, "s2")).created_at
        assert run.spec == {"seed": 1, "priority": 3}
        assert run.run_file is not None
        assert (run.run_file.name, run.run_file.code_sha256) == ("digits", "ab")
        world.show_heads()
    world.refresh()
    detailed = world.ledger.detailed(RUN)
    assert detailed is not None
    assert detailed.run_file is not None
    assert detailed.run_file.computed == {"seed": 1}


def test_where_listings_show_heads_no_content_is_read(
    world: World, key: AttemptKey, new_claim: Callable[[AttemptKey], Claim]
) -> None:
    world.show_heads()
    world.wish(RUN, WishKind.SUBMIT, "s1", spec={"seed": 1}, code_sha256="ab")
    new_claim(key)
    keeper = world.keeper(key)
    assert world.refresh() == {"list": 1}
    keeper.beat(step=7, environment={"gpu": "T4", "cores_s": 2.5})
    assert world.refresh() == {"list": 1}
    (claim,) = world.ledger.runs[RUN].claims
    assert claim.record is not None
    assert (claim.record.step, claim.record.environment) == (7, {"cores_s": 2.5})
    world.operations.clear()
    detailed = world.ledger.detailed(RUN)
    assert detailed is not None
    assert detailed.claims[0].record == keeper.record
    assert world.operations == {"read": 2}
    assert world.ledger.run(RUN) == detailed
    world.ledger.detailed(RUN)
    assert world.operations == {"read": 2}
    keeper.finish(AttemptState.FAILED, reason="it broke")
    assert world.refresh() == {"list": 1}
    assert world.state() is RunState.FAILED


def test_content_is_read_where_the_head_is_damaged(world: World) -> None:
    world.wish(RUN, WishKind.SUBMIT, "s1", spec={"seed": 1}, code_sha256="ab")
    path = wish_file(RUN, WishKind.SUBMIT, "s1")
    world.store.replace(path, world.store.read(path), properties={"h0": "102rubbish"})
    world.show_heads()
    assert world.refresh() == {"list": 1, "read": 1}
    assert world.ledger.runs[RUN].spec == {"seed": 1}


def test_what_was_touched_is_told_by_revision(world: World) -> None:
    world.submit()
    world.refresh()
    before = world.ledger.revision
    assert world.ledger.touched_since(0) == [RUN]
    assert world.ledger.touched_since(before) == []
    world.submit(OTHER)
    world.refresh()
    assert world.ledger.touched_since(before) == [OTHER]
    world.refresh()
    assert world.ledger.touched_since(before) == [OTHER]
    assert set(world.ledger.touched_since(0)) == {RUN, OTHER}


def test_what_a_first_look_has_found_counts_as_old_to_the_collector(world: World) -> None:
    world.submit()
    gc.collect()
    world.ledger.refresh()
    young = {id(each) for each in gc.get_objects(generation=0)}
    assert id(world.ledger.runs) not in young
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
