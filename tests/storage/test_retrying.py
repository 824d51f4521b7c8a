from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.errors import ObjectExists, ObjectNotFound, StoreQuotaExceeded, TransientStoreError
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.storage.local import LocalStore
from driverun.storage.memory import MemoryStore
from driverun.storage.retrying import FIRST_WAIT_S, LONGEST_WAIT_S, RetryingStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Injection, Moment
from driverun.testing.store_conformance import ObjectStoreConformance


def lost(path: str) -> TransientStoreError:
    return TransientStoreError(f"the answer about {path} was lost", path=path)


class TestRetryingStore(ObjectStoreConformance):
    @pytest.fixture(params=["memory", "local"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
        clock = FakeClock()
        inner: ObjectStore = (
            MemoryStore(clock) if request.param == "memory" else LocalStore(tmp_path / "root of test")
        )
        faulty = FaultyStore(
            inner,
            injections=[Injection(error=lost, rate=0.2, moment=moment) for moment in Moment],
            random=random.Random(7),
        )
        return RetryingStore(faulty, clock=clock, random=random.Random(7), budget_s=1e6)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def memory(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock)


Retrying = Callable[..., RetryingStore]


@pytest.fixture
def retrying(clock: FakeClock, memory: MemoryStore) -> Retrying:
    """Makes a store with a budget of 100 s over one that fails as told."""

    def make(*injections: Injection, inner: ObjectStore = memory) -> RetryingStore:
        faulty = FaultyStore(inner, injections=injections)
        return RetryingStore(faulty, clock=clock, random=random.Random(1), budget_s=100.0)

    return make


def test_waits_grow_are_spread_and_end_with_the_budget(clock: FakeClock, retrying: Retrying) -> None:
    with pytest.raises(TransientStoreError) as caught:
        retrying(Injection(error=lost)).read("ledger/one")
    longest = [min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number) for number in range(len(clock.sleeps))]
    *full, last = zip(clock.sleeps, longest, strict=True)
    assert all(most / 2 <= wait <= most for wait, most in full)
    assert last[0] <= last[1]
    assert len({wait / most for wait, most in full}) == len(full)
    assert sum(clock.sleeps) == pytest.approx(100.0)
    assert caught.value.path == "ledger/one"
    assert str(caught.value).startswith("the answer about ledger/one was lost (given up after ")
    assert f"{len(clock.sleeps) + 1} tries in 100 s" in str(caught.value)


def test_the_wait_has_a_ceiling(clock: FakeClock, memory: MemoryStore) -> None:
    faulty = FaultyStore(memory, injections=[Injection(error=lost, times=50)])
    store = RetryingStore(faulty, clock=clock, random=random.Random(1), budget_s=1e6)
    store.list("ledger")
    assert len(clock.sleeps) == 50
    assert LONGEST_WAIT_S / 2 <= max(clock.sleeps) <= LONGEST_WAIT_S


def test_each_call_has_a_budget_of_its_own(clock: FakeClock, retrying: Retrying) -> None:
    store = retrying(Injection(error=lost, times=6))
    clock.advance(seconds=1000)
    store.list("")
    clock.advance(seconds=1000)
    assert store.list("") == []
    assert len(clock.sleeps) == 6


def test_only_what_may_pass_is_tried_again(clock: FakeClock, retrying: Retrying) -> None:
    full = Injection(error=lambda path: StoreQuotaExceeded("full", path=path), times=1)
    with pytest.raises(StoreQuotaExceeded):
        retrying(full).create("one", b"1")
    with pytest.raises(ObjectNotFound):
        retrying().read("none")
    assert clock.sleeps == []


def test_each_wait_is_told(retrying: Retrying, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="driverun.storage.retrying"):
        retrying(Injection(error=lost, times=2)).list("ledger")
    assert [record.getMessage().split(" in ")[0] for record in caplog.records] == ["list ledger: again"] * 2
    assert all("the answer about ledger was lost" in record.getMessage() for record in caplog.records)


def test_people_hear_of_long_waits_and_once_a_minute(
    clock: FakeClock, retrying: Retrying, caplog: pytest.LogCaptureFixture
) -> None:
    store = retrying(Injection(error=lost, times=2), Injection(error=lost))
    began_s = clock.monotonic()
    with caplog.at_level(logging.WARNING, logger="driverun.storage.retrying"):
        for folder in ("ledger", "runs", "jobs"):
            with pytest.raises(TransientStoreError):
                store.list(folder)
    assert 3 <= len(caplog.records) <= 1 + (clock.monotonic() - began_s) / 60
    assert len(clock.sleeps) > 20


def test_a_creation_whose_answer_was_lost_is_success(memory: MemoryStore, retrying: Retrying) -> None:
    created = retrying(Injection(error=lost, moment=Moment.AFTER, times=1)).create("one", b"mine")
    assert created == memory.stat("one")


def test_a_lost_creation_from_a_file_is_compared_where_the_store_tells_no_checksum(
    tmp_path: Path, retrying: Retrying
) -> None:
    inner = LocalStore(tmp_path / "root")
    source = tmp_path / "source"
    source.write_bytes(b"mine" * 1000)
    created = retrying(Injection(error=lost, moment=Moment.AFTER, times=1), inner=inner).create("one", source)
    assert inner.stat("one").sha256 is None
    assert created == replace(inner.stat("one"), sha256=hashlib.sha256(b"mine" * 1000).hexdigest())


@pytest.mark.parametrize("theirs", [b"another's", b"her"])
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_the_object_of_another_creator_is_not_taken_for_ones_own(
    tmp_path: Path, retrying: Retrying, memory: MemoryStore, kind: str, theirs: bytes
) -> None:
    inner: ObjectStore = memory if kind == "memory" else LocalStore(tmp_path)
    inner.create("one", theirs)
    with pytest.raises(ObjectExists):
        retrying(Injection(error=lost, times=1), inner=inner).create("one", b"own")
    assert inner.read("one") == theirs


def test_a_path_taken_before_the_first_try_is_refused_though_the_content_is_equal(
    memory: MemoryStore, retrying: Retrying
) -> None:
    memory.create("one", b"equal")
    with pytest.raises(ObjectExists):
        retrying().create("one", b"equal")


def test_the_comparison_itself_is_tried_again(memory: MemoryStore, retrying: Retrying) -> None:
    store = retrying(
        Injection(error=lost, operations=frozenset({"create"}), moment=Moment.AFTER, times=1),
        Injection(error=lost, operations=frozenset({"stat"}), times=3),
    )
    assert store.create("one", b"mine") == memory.stat("one")


class StrictDeletes(MemoryStore):
    """A store whose deletes say that nothing was there, as an API would."""

    def delete(self, path: str) -> None:
        self.stat(path)
        super().delete(path)


def test_a_delete_whose_answer_was_lost_is_success(clock: FakeClock, retrying: Retrying) -> None:
    inner = StrictDeletes(clock)
    inner.create("one", b"1")
    retrying(Injection(error=lost, moment=Moment.AFTER, times=1), inner=inner).delete("one")
    assert inner.list("") == []
    assert len(clock.sleeps) == 1


def test_a_replacement_whose_answer_was_lost_is_made_again(memory: MemoryStore, retrying: Retrying) -> None:
    memory.create("one", b"old")
    replaced: ObjectInfo = retrying(Injection(error=lost, moment=Moment.AFTER, times=1)).replace(
        "one", b"new"
    )
    assert replaced == memory.stat("one")
    assert memory.read("one") == b"new"


def test_what_the_inner_store_says_of_itself_is_passed_on(clock: FakeClock) -> None:
    inner = MemoryStore(clock, listing_lag_s=12.0, location="here")
    store = RetryingStore(inner, clock=clock, random=random.Random(1), budget_s=1.0)
    assert (store.listing_lag_s, store.location) == (12.0, "here")


def resting(seconds: float) -> Callable[[str], TransientStoreError]:
    return lambda path: TransientStoreError("busy", path=path, retry_after_s=seconds)


def test_a_root_that_asks_for_a_rest_gets_it(clock: FakeClock, retrying: Retrying) -> None:
    retrying(Injection(error=resting(30.0), times=2)).list("")
    assert clock.sleeps == [30.0, 30.0]


def test_a_rest_longer_than_the_budget_is_for_the_caller_to_know(
    clock: FakeClock, retrying: Retrying
) -> None:
    with pytest.raises(TransientStoreError, match="given up after 1 tries") as caught:
        retrying(Injection(error=resting(3600.0))).read("one")
    assert caught.value.retry_after_s == 3600.0
    assert clock.sleeps == []


def test_the_budget_is_for_failing_not_for_working(clock: FakeClock) -> None:
    class Slow(MemoryStore):
        def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
            clock.advance(seconds=500)
            return super().list(folder, recursive=recursive, prefix=prefix)

    faulty = FaultyStore(Slow(clock), injections=[Injection(error=lost, moment=Moment.AFTER, times=1)])
    RetryingStore(faulty, clock=clock, random=random.Random(1), budget_s=100.0).list("")
    assert len(clock.sleeps) == 1


def test_whoever_comes_further_has_the_whole_budget_again(clock: FakeClock, retrying: Retrying) -> None:
    further = Injection(
        error=lambda path: TransientStoreError("lost", path=path, made_progress=True), times=30
    )
    retrying(further).list("")
    assert len(clock.sleeps) == 30
    assert sum(clock.sleeps) > 5 * 100.0
