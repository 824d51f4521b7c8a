from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from driverun.dispatch.heartbeat import RecordKeeper
from driverun.errors import ObjectNotFound, TransientStoreError
from driverun.runs.heads import read_head
from driverun.runs.layout import AttemptKey, parse_ledger_name
from driverun.runs.record import AttemptState, Record
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import START, FakeClock
from driverun.testing.faulty import FaultyStore, Injection, Moment

Records = Callable[[AttemptKey], Record]


@pytest.fixture
def keeper(store: MemoryStore, clock: FakeClock, key: AttemptKey, first_record: Records) -> RecordKeeper:
    keeper = RecordKeeper(store, clock, first_record(key))
    keeper.create()
    return keeper


def stored(store: MemoryStore, key: AttemptKey) -> Record:
    return Record.from_bytes(store.read(key.record_file))


def test_a_heartbeat_says_how_far_it_came(
    keeper: RecordKeeper, store: MemoryStore, clock: FakeClock, key: AttemptKey
) -> None:
    clock.advance(seconds=20)
    assert keeper.beat(step=500, reason="training")
    record = stored(store, key)
    assert (record.step, record.reason, record.beat, record.updated_at) == (500, "training", 1, clock.now())
    listed = store.stat(key.record_file)
    name = parse_ledger_name(key.record_file)
    assert name is not None
    head = read_head(name, listed.properties, listed.size_bytes)
    assert head is not None
    assert head.value == record


def test_the_outcome_is_the_last_word(keeper: RecordKeeper, store: MemoryStore, key: AttemptKey) -> None:
    keeper.beat(step=500)
    keeper.finish(AttemptState.INTERRUPTED, reason="deadline")
    said = store.read(key.record_file)
    assert keeper.beat(step=501) is False
    with pytest.raises(RuntimeError, match="INTERRUPTED"):
        keeper.finish(AttemptState.SUCCEEDED)
    assert store.read(key.record_file) == said
    record = stored(store, key)
    assert (record.state, record.step, record.ended_at) == (AttemptState.INTERRUPTED, 500, START)
    assert keeper.is_finished


def test_only_finish_ends_an_attempt(keeper: RecordKeeper) -> None:
    with pytest.raises(ValueError, match="call finish"):
        keeper.beat(state=AttemptState.FAILED)
    with pytest.raises(ValueError, match="no outcome"):
        keeper.finish(AttemptState.RUNNING)


def failing(store: MemoryStore, operation: str, moment: Moment) -> FaultyStore:
    lost = Injection(
        error=lambda path: TransientStoreError("lost", path=path),
        operations=frozenset({operation}),
        moment=moment,
        times=1,
    )
    return FaultyStore(store, injections=[lost])


def test_what_a_lost_heartbeat_had_to_say_is_said_by_the_next(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, first_record: Records
) -> None:
    keeper = RecordKeeper(failing(store, "replace", Moment.BEFORE), clock, first_record(key))
    keeper.create()
    with pytest.raises(TransientStoreError):
        keeper.beat(step=500)
    assert keeper.beat(epoch=2)
    assert (stored(store, key).step, stored(store, key).epoch) == (500, 2)


@pytest.mark.parametrize("moment", list(Moment))
def test_an_outcome_that_was_lost_can_be_given_again_but_no_heartbeat_slips_between(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, first_record: Records, moment: Moment
) -> None:
    keeper = RecordKeeper(failing(store, "replace", moment), clock, first_record(key))
    keeper.create()
    with pytest.raises(TransientStoreError):
        keeper.finish(AttemptState.FAILED)
    assert keeper.beat() is False
    assert not keeper.is_finished
    keeper.finish(AttemptState.FAILED)
    assert stored(store, key).state is AttemptState.FAILED


def test_a_record_whose_creation_was_answered_by_nobody_is_ours(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, first_record: Records
) -> None:
    keeper = RecordKeeper(failing(store, "create", Moment.AFTER), clock, first_record(key))
    with pytest.raises(TransientStoreError):
        keeper.create()
    keeper.create()
    assert stored(store, key) == keeper.record


def test_a_record_is_not_written_before_it_is_created(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, first_record: Records
) -> None:
    with pytest.raises(ObjectNotFound):
        RecordKeeper(store, clock, first_record(key)).beat()


def test_many_threads_may_write_and_every_write_counts(
    keeper: RecordKeeper, store: MemoryStore, key: AttemptKey
) -> None:
    threads = [threading.Thread(target=lambda: [keeper.beat() for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(store, key).beat == 160
