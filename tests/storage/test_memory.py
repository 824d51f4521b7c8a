from __future__ import annotations

from datetime import timedelta

import pytest

from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import START, FakeClock
from driverun.testing.store_conformance import ObjectStoreConformance, paths_of

MICROSECOND = timedelta(microseconds=1)


class TestMemoryStore(ObjectStoreConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore(FakeClock())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_properties_are_kept(clock: FakeClock) -> None:
    given = {"kind": "claim"}
    store = MemoryStore(clock)
    store.create("one", b"", properties=given)
    given["kind"] = "changed by the caller"
    assert store.stat("one").properties == {"kind": "claim"}
    assert store.create("two", b"").properties == {}


def test_creations_at_one_instant_have_times_of_their_own(clock: FakeClock) -> None:
    store = MemoryStore(clock)
    assert [store.create(path, b"").created_at for path in ("a", "b")] == [START, START + MICROSECOND]
    assert store.replace("a", b"").modified_at == START + 2 * MICROSECOND
    assert store.now() == START + 2 * MICROSECOND


def test_a_clock_that_is_put_back_does_not_put_the_store_back(clock: FakeClock) -> None:
    store = MemoryStore(clock)
    first = store.create("a", b"").created_at
    clock.set_back(seconds=3600)
    assert store.now() == first
    assert store.create("b", b"").created_at == first + MICROSECOND


def test_a_lagging_listing_misses_young_objects_which_reading_finds(clock: FakeClock) -> None:
    store = MemoryStore(clock, listing_lag_s=30.0)
    assert store.listing_lag_s == 30.0
    store.create("ledger/one", b"1")
    clock.advance(seconds=20)
    store.create("ledger/two", b"2")
    assert store.list("ledger") == []
    assert store.read("ledger/one") == b"1"
    assert store.stat("ledger/two").size_bytes == 1
    clock.advance(seconds=15)
    store.replace("ledger/one", b"more")
    assert paths_of(store.list("ledger")) == ["ledger/one"]
    clock.advance(seconds=20)
    assert paths_of(store.list("ledger")) == ["ledger/one", "ledger/two"]


def test_a_store_says_where_it_is(clock: FakeClock) -> None:
    store = MemoryStore(clock, location="memory of a test")
    with pytest.raises(Exception, match="cannot read none in memory of a test: nothing is there"):
        store.read("none")
