from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from driverun.dispatch.heartbeat import RecordKeeper
from driverun.dispatch.lease import CLAIM_LEASE_S, LeaseWatch, lease_decision, may_be_stale, single_look
from driverun.dispatch.ledger import Ledger
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.ownership import owner_of
from driverun.runs.record import AttemptState, Claim, ProcessId, Record
from driverun.runs.state import RunState, derive_state
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Moment, Operation

LEASE_S = 60.0


def nothing_known(process: ProcessId) -> bool | None:
    return None


def dead(process: ProcessId) -> bool | None:
    return False


@pytest.mark.parametrize(
    ("unmoved_s", "watched_s", "alive", "wait_s"),
    [
        (0, 0, None, 60),
        (59, 59, None, 1),
        (60, 20, None, None),
        (3600, 0, None, 20),
        (3600, 19, None, 1),
        (3600, 20, None, None),
        (5, 0, False, None),
        (5, 0, True, 55),
        (60, 60, True, None),
        (-7200, 0, None, 7260),
    ],
)
def test_stale_is_unmoved_for_a_lease_and_watched_for_a_heartbeat_or_dead(
    unmoved_s: float, watched_s: float, alive: bool | None, wait_s: float | None
) -> None:
    decision = lease_decision(unmoved_s=unmoved_s, watched_s=watched_s, lease_s=LEASE_S, alive=alive)
    assert decision.is_stale is (wait_s is None)
    assert decision.wait_s == (wait_s or 0)


@pytest.fixture
def keeper(
    store: MemoryStore,
    clock: FakeClock,
    key: AttemptKey,
    first_record: Callable[[AttemptKey], Record],
    new_claim: Callable[[AttemptKey], Claim],
) -> RecordKeeper:
    """A worker that has claimed and begun."""
    new_claim(key)
    clock.advance(seconds=1)
    keeper = RecordKeeper(store, clock, first_record(key))
    keeper.create()
    return keeper


def owner(store: MemoryStore, key: AttemptKey) -> ClaimEvidence:
    ledger = Ledger(store)
    ledger.refresh()
    found = owner_of(ledger.runs[key.run_id].claims)
    assert found is not None
    return found


@pytest.fixture
def watch(store: MemoryStore, clock: FakeClock) -> LeaseWatch:
    return LeaseWatch(store, clock, probe=nothing_known)


def test_a_worker_that_writes_is_never_stale(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper, watch: LeaseWatch
) -> None:
    for _ in range(50):
        clock.advance(seconds=LEASE_S - 1)
        keeper.beat()
        assert not watch.is_stale(owner(store, key))


def test_a_watched_worker_is_stale_a_lease_after_its_last_word(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper, watch: LeaseWatch
) -> None:
    clock.advance(seconds=15)
    found = owner(store, key)
    assert watch.seconds_until_stale(found) == 45
    clock.advance(seconds=30)
    assert watch.seconds_until_stale(found) == 15
    assert not watch.is_stale(found)
    clock.advance(seconds=15)
    assert watch.seconds_until_stale(found) == 0
    assert watch.is_stale(found)


def test_who_woke_up_is_not_taken_for_stale_again_until_a_list_shows_it(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper, watch: LeaseWatch
) -> None:
    """Or the worker that found it silent would choose its run at every look, and every time find it moved."""
    ledger = Ledger(store)
    ledger.refresh()
    for _ in range(3):
        clock.advance(seconds=LEASE_S)
        stale = watch.stale_among(ledger.runs.values())
    assert stale == {key}
    keeper.beat()
    (found,) = ledger.runs[key.run_id].claims  # as a list that lags still shows it
    assert not watch.is_stale(found)
    assert watch.stale_among(ledger.runs.values()) == frozenset()


def test_one_look_is_not_enough_to_claim_but_enough_to_tell(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper, watch: LeaseWatch
) -> None:
    clock.advance(seconds=3600)
    found = owner(store, key)
    assert watch.observe(found).wait_s == LEASE_S / 3
    assert single_look(found, now=store.now(), listing_lag_s=0.0, probe=nothing_known).is_stale
    clock.advance(seconds=LEASE_S / 3)
    assert watch.is_stale(found)


def test_a_worker_that_woke_up_between_two_looks_is_not_stale(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper, watch: LeaseWatch
) -> None:
    clock.advance(seconds=3600)
    watch.observe(owner(store, key))
    keeper.beat()
    clock.advance(seconds=LEASE_S / 3)
    assert watch.observe(owner(store, key)).wait_s == LEASE_S - LEASE_S / 3


def test_a_nap_of_this_machine_is_not_held_against_others(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper, watch: LeaseWatch
) -> None:
    found = owner(store, key)
    watch.observe(found)
    clock.set_back(seconds=-3600)  # the wall clock went on, the monotonic one did not
    assert watch.observe(found).wait_s == LEASE_S / 3


def test_what_moved_since_it_was_read_has_to_be_read_before_it_is_judged(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper
) -> None:
    found = owner(store, key)
    clock.advance(seconds=1)
    keeper.finish(AttemptState.FAILED)
    watch = LeaseWatch(store, clock, probe=dead)
    assert not watch.is_stale(found)
    assert not may_be_stale(owner(store, key))
    assert watch.observe(owner(store, key)).wait_s == math.inf


def test_a_dead_process_of_this_machine_is_stale_at_once(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper
) -> None:
    assert LeaseWatch(store, clock, probe=dead).is_stale(owner(store, key))
    assert single_look(owner(store, key), now=store.now(), listing_lag_s=0.0, probe=dead).is_stale


def test_where_lists_lag_a_claim_is_given_time_until_its_record_can_be_seen(
    clock: FakeClock, key: AttemptKey, new_claim: Callable[[AttemptKey], Claim]
) -> None:
    """Its worker waits until the claim is listed before it writes the record, which a list shows as late."""
    store = MemoryStore(clock, listing_lag_s=30.0)
    claim = new_claim(key)
    found = ClaimEvidence(key=claim.key, created_at=clock.now(), object_id="1")
    watch = LeaseWatch(store, clock, probe=nothing_known)
    assert watch.observe(found).wait_s == CLAIM_LEASE_S + 60.0
    clock.advance(seconds=CLAIM_LEASE_S + 59.0)
    assert not watch.is_stale(found)
    assert not single_look(found, now=clock.now(), listing_lag_s=30.0, probe=nothing_known).is_stale
    clock.advance(seconds=1.0)
    assert watch.is_stale(found)


def test_one_look_does_not_take_for_dead_who_may_have_been_heard_since_the_list_was_made(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper
) -> None:
    found = owner(store, key)
    clock.advance(seconds=LEASE_S + 10)
    look = partial(single_look, found, now=clock.now(), probe=nothing_known)
    assert look(listing_lag_s=0.0).is_stale
    assert not look(listing_lag_s=11.0).is_stale


def test_a_claim_without_a_record_has_a_lease_too(
    store: MemoryStore,
    clock: FakeClock,
    key: AttemptKey,
    new_claim: Callable[[AttemptKey], Claim],
    watch: LeaseWatch,
) -> None:
    claim = new_claim(key)
    found = owner(store, key)
    assert found.worker_process == claim.process
    assert watch.observe(found).wait_s == CLAIM_LEASE_S
    assert LeaseWatch(store, clock, probe=dead).is_stale(found)
    clock.advance(seconds=CLAIM_LEASE_S)
    assert single_look(found, now=store.now(), listing_lag_s=0.0, probe=nothing_known).is_stale
    assert watch.is_stale(found)


def test_the_stale_ones_among_runs_make_them_claimable(
    store: MemoryStore,
    clock: FakeClock,
    key: AttemptKey,
    keeper: RecordKeeper,
    new_claim: Callable[[AttemptKey], Claim],
    watch: LeaseWatch,
) -> None:
    other = replace(key, run_id="other-0123456789ab")
    ledger = Ledger(store)
    ledger.refresh()
    assert watch.stale_among(ledger.runs.values()) == frozenset()
    clock.advance(seconds=LEASE_S / 2)
    assert watch.stale_among(ledger.runs.values()) == frozenset()
    clock.advance(seconds=LEASE_S / 2)
    new_claim(other)
    ledger.refresh()
    stale = watch.stale_among(ledger.runs.values())
    assert stale == {key}
    assert derive_state(ledger.runs[key.run_id], stale=stale).state is RunState.INTERRUPTED
    assert derive_state(ledger.runs[other.run_id], stale=stale).state is RunState.RUNNING
    new_claim(replace(key, number=2))
    ledger.refresh()
    assert watch.stale_among(ledger.runs.values()) == frozenset(), "a newer attempt owns the run"


def test_a_look_at_many_asks_only_about_those_that_are_quiet(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper
) -> None:
    faulty = FaultyStore(store)
    watch = LeaseWatch(faulty, clock, probe=lambda _: None)
    ledger = Ledger(store)
    ledger.refresh()

    def asked() -> int:
        before = len(faulty.operations)
        found.append(watch.stale_among(ledger.runs.values()))
        return sum(operation.name == "stat" for operation in faulty.operations[before:])

    found: list[frozenset[AttemptKey]] = []
    assert asked() == 0
    clock.advance(seconds=LEASE_S / 2)
    assert asked() == 1
    clock.advance(seconds=LEASE_S / 2)
    assert asked() == 1
    assert found[-1] == {key}
    clock.advance(seconds=LEASE_S)
    assert asked() == 0, "it was found to be stale, and nothing was heard of it since"
    assert found[-1] == {key}
    keeper.beat()
    assert found[-1] == {key}
    ledger.refresh()
    assert asked() == 0
    assert found[-1] == frozenset()


def test_a_pause_between_the_read_and_the_time_makes_nobody_dead(
    store: MemoryStore, clock: FakeClock, key: AttemptKey, keeper: RecordKeeper
) -> None:
    """Found by simulating pauses: the watcher slept with the answer in its hand, and took its sleep for the other's."""
    pause_s = 0.0

    def stand_still(operation: Operation) -> None:
        if operation.name == "stat" and operation.moment is Moment.AFTER and pause_s:
            clock.advance(seconds=pause_s)
            keeper.beat()

    watch = LeaseWatch(FaultyStore(store, on_operation=stand_still), clock, probe=nothing_known)
    assert not watch.is_stale(owner(store, key))
    clock.advance(seconds=5)
    pause_s = 10 * LEASE_S
    assert not watch.is_stale(owner(store, key))
