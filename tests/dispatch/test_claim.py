from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from driverun.dispatch.claim import check_owner, claim_run, known_claims
from driverun.dispatch.results import confirmed_results, earlier_results
from driverun.errors import LostOwnership, TransientStoreError
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.record import Claim, ProcessId, ResultsRef
from driverun.storage.base import TICK_S, ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Injection, Moment, Operation

RUN = "digits-0123456789ab"
NOTHING = RunEvidence(run_id=RUN)
Claims = Callable[[AttemptKey], Claim]


def process(worker: str) -> ProcessId:
    return ProcessId(host=worker, boot_id="b1", pid=7, started="99")


def named(number: int, worker: str) -> AttemptKey:
    return AttemptKey(run_id=RUN, number=number, worker=worker)


def test_the_first_claim_wins_and_settles_before_it_is_sure(store: MemoryStore, clock: FakeClock) -> None:
    won = claim_run(store, RUN, NOTHING, "anna", process("anna"), clock, settle_s=5)
    assert won is not None
    assert won.key == named(1, "anna")
    assert [claim.key for claim in won.claims] == [won.key]
    assert Claim.from_bytes(store.read(won.key.claim_file)) == won.claim
    assert clock.sleeps == [5 + TICK_S]


def test_a_claim_settles_for_the_listing_lag_at_least(clock: FakeClock) -> None:
    claim_run(MemoryStore(clock, listing_lag_s=30), RUN, NOTHING, "anna", process("anna"), clock, settle_s=5)
    claim_run(MemoryStore(clock), RUN, NOTHING, "anna", process("anna"), clock)
    assert clock.sleeps == [30 + TICK_S, TICK_S], "a claim of the same tick may have the lesser id"


def test_the_next_attempt_has_the_next_number(
    store: MemoryStore, clock: FakeClock, new_claim: Claims
) -> None:
    new_claim(named(1, "bert"))
    new_claim(named(2, "carl"))
    new_claim(AttemptKey(run_id="other-0123456789ab", number=9, worker="carl"))
    evidence = RunEvidence(run_id=RUN, claims=known_claims(store, RUN))
    won = claim_run(store, RUN, evidence, "anna", process("anna"), clock)
    assert won is not None
    assert [claim.key for claim in won.claims] == [named(1, "bert"), named(2, "carl"), named(3, "anna")]


@pytest.mark.parametrize("rival", [named(1, "bert"), named(2, "bert")])
def test_a_rival_that_was_first_or_further_wins(
    store: MemoryStore, clock: FakeClock, new_claim: Claims, rival: AttemptKey
) -> None:
    new_claim(rival)
    assert claim_run(store, RUN, NOTHING, "anna", process("anna"), clock) is None


@pytest.mark.parametrize("lag_s", [0.0, 30.0])
def test_of_workers_that_claim_at_once_exactly_one_wins(clock: FakeClock, lag_s: float) -> None:
    """Each worker's settling lets the next one in, so all claim before any looks."""
    store = MemoryStore(clock, listing_lag_s=lag_s)
    workers = ["anna", "bert", "carl", "dora"]
    winners = []

    class Nested(FakeClock):
        """Time passes only once everybody has claimed."""

        def sleep(self, seconds: float) -> None:
            if workers:
                attempt(workers.pop(0))
            clock.sleep(seconds)

    def attempt(worker: str) -> None:
        won = claim_run(store, RUN, NOTHING, worker, process(worker), Nested())
        winners.extend([won.key] if won is not None else [])

    attempt(workers.pop(0))
    assert winners == [named(1, "anna")]


def test_a_claim_whose_answer_was_lost_is_found_again(store: MemoryStore, clock: FakeClock) -> None:
    lost = Injection(
        error=lambda path: TransientStoreError("lost", path=path),
        operations=frozenset({"create"}),
        moment=Moment.AFTER,
        times=1,
    )
    faulty = FaultyStore(store, injections=[lost])
    with pytest.raises(TransientStoreError):
        claim_run(faulty, RUN, NOTHING, "anna", process("anna"), clock)
    clock.advance(seconds=3)
    won = claim_run(faulty, RUN, NOTHING, "anna", process("anna"), clock)
    assert won is not None
    assert len(store.list("ledger")) == 1


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_worker_that_stole_our_id_keeps_its_claim(
    store: MemoryStore, clock: FakeClock, new_claim: Claims, content: bytes | None
) -> None:
    if content is None:
        new_claim(named(1, "anna"))
    else:
        store.create(named(1, "anna").claim_file, content)
    assert claim_run(store, RUN, NOTHING, "anna", process("another"), clock) is None


def test_an_owner_is_told_when_the_run_is_taken(store: MemoryStore, new_claim: Claims) -> None:
    new_claim(named(1, "anna"))
    claims = check_owner(store, named(1, "anna"))
    new_claim(named(2, "bert"))
    with pytest.raises(LostOwnership, match="attempt 2 of worker bert owns the run"):
        check_owner(store, named(1, "anna"), claims)
    assert [claim.key for claim in check_owner(store, named(2, "bert"), claims)] == [
        named(1, "anna"),
        named(2, "bert"),
    ]
    with pytest.raises(LostOwnership, match="nobody owns"):
        check_owner(store, AttemptKey(run_id="other-0123456789ab", number=1, worker="anna"))


def test_a_claim_that_was_seen_once_is_not_forgotten_by_a_lagging_listing(clock: FakeClock) -> None:
    store = MemoryStore(clock, listing_lag_s=30)
    won = claim_run(store, RUN, NOTHING, "anna", process("anna"), clock)
    assert won is not None
    store.delete(won.key.claim_file)
    assert check_owner(store, won.key, won.claims) == won.claims


def test_results_of_an_attempt_that_did_not_live_to_say_so_are_found(
    store: MemoryStore, new_claim: Claims
) -> None:
    new_claim(named(1, "anna"))
    made = store.create(named(1, "anna").results_manifest, b"{}")
    new_claim(named(2, "bert"))
    store.create(named(2, "bert").results_manifest, b"{}")
    new_claim(named(3, "carl"))
    claims = known_claims(store, RUN)
    expected = ResultsRef(path=named(1, "anna").results_folder, created_at=made.created_at)
    assert earlier_results(store, named(3, "carl"), claims) == expected
    assert earlier_results(store, named(1, "anna"), claims) is None


def test_results_that_came_too_late_are_passed_over_and_their_maker_is_told(
    store: MemoryStore, clock: FakeClock, new_claim: Claims
) -> None:
    new_claim(named(1, "anna"))
    known = known_claims(store, RUN)
    new_claim(named(2, "bert"))
    made = store.create(named(1, "anna").results_manifest, b"{}")
    assert earlier_results(store, named(2, "bert"), known_claims(store, RUN)) is None
    with pytest.raises(LostOwnership, match="will be those of the run"):
        confirmed_results(store, clock, named(1, "anna"), made.created_at, known)


def test_results_are_confirmed_once_every_older_claim_can_be_seen(clock: FakeClock) -> None:
    store = MemoryStore(clock, listing_lag_s=30)
    won = claim_run(store, RUN, NOTHING, "anna", process("anna"), clock)
    assert won is not None
    made = store.create(won.key.results_manifest, b"{}")
    results = confirmed_results(store, clock, won.key, made.created_at, won.claims)
    assert results == ResultsRef(path=won.key.results_folder, created_at=made.created_at)
    assert clock.sleeps == [30 + TICK_S] * 2


def test_at_every_interleaving_of_a_taker_and_a_finisher_both_mean_the_same_results(clock: FakeClock) -> None:
    """The first worker publishes while the second claims; whoever comes first, one set of results counts."""
    outcomes = set()
    for pause_at in itertools.count(1):
        store, seen = MemoryStore(clock), list[ResultsRef | None]()

        def take(store: ObjectStore = store, seen: list[ResultsRef | None] = seen) -> None:
            evidence = RunEvidence(run_id=RUN, claims=known_claims(store, RUN))
            won = claim_run(store, RUN, evidence, "bert", process("bert"), clock)
            assert won is not None
            seen.append(earlier_results(store, won.key, won.claims))

        first = claim_run(store, RUN, NOTHING, "anna", process("anna"), clock)
        assert first is not None
        moments = 0

        def interrupt(
            operation: Operation, pause_at: int = pause_at, take: Callable[[], None] = take
        ) -> None:
            nonlocal moments
            moments += 1
            if moments == pause_at:
                take()

        paused = FaultyStore(store, on_operation=interrupt)
        said: ResultsRef | None
        try:
            check_owner(paused, first.key, first.claims)
            made = paused.create(first.key.results_manifest, b"{}")
            said = confirmed_results(paused, clock, first.key, made.created_at, first.claims)
        except LostOwnership:
            said = None
        if not seen:
            break
        assert seen == [said]
        outcomes.add(said is None)
    assert outcomes == {True, False}
