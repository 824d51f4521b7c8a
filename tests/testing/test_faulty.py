from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from driverun.errors import StoreQuotaExceeded, TransientStoreError
from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Injection, Moment, Operation, SimulatedDisconnect
from driverun.testing.store_conformance import ObjectStoreConformance

OPERATIONS: dict[str, Callable[[ObjectStore, Path], object]] = {
    "now": lambda store, _: store.now(),
    "create": lambda store, _: store.create("new", b"2"),
    "replace": lambda store, _: store.replace("old", b"2"),
    "read": lambda store, _: store.read("old"),
    "download": lambda store, folder: store.download("old", folder / "target"),
    "stat": lambda store, _: store.stat("old"),
    "list": lambda store, _: store.list(""),
    "delete": lambda store, _: store.delete("old"),
    "ensure_folder": lambda store, _: store.ensure_folder("folder"),
}


class TestFaultyStoreWithoutFaults(ObjectStoreConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return FaultyStore(MemoryStore(FakeClock()))


@pytest.fixture
def memory() -> MemoryStore:
    store = MemoryStore(FakeClock(), listing_lag_s=0.0, location="here")
    store.create("old", b"1")
    return store


def busy(path: str) -> TransientStoreError:
    return TransientStoreError("busy", path=path)


def test_every_operation_counts(memory: MemoryStore, tmp_path: Path) -> None:
    store = FaultyStore(memory)
    for call in OPERATIONS.values():
        call(store, tmp_path)
    assert [(each.number, each.name) for each in store.operations] == list(enumerate(OPERATIONS, 1))
    assert [each.path for each in store.operations] == ["", "new", *["old"] * 4, "", "old", "folder"]
    assert (store.location, store.listing_lag_s, len(store.operations)) == ("here", 0.0, 9)


@pytest.mark.parametrize("moment", Moment)
def test_a_crash_comes_on_the_side_of_the_work_that_was_asked_for(
    memory: MemoryStore, moment: Moment
) -> None:
    store = FaultyStore(memory, crash_at=2, crash_moment=moment)
    store.create("one", b"")
    with pytest.raises(SimulatedDisconnect):
        store.create("two", b"")
    assert store.is_dead
    assert [each.path for each in memory.list("")] == ["old", "one"] + ["two"] * (moment is Moment.AFTER)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_dead_do_nothing_more(memory: MemoryStore, tmp_path: Path, name: str) -> None:
    store = FaultyStore(memory, crash_at=1)
    with pytest.raises(SimulatedDisconnect):
        store.now()
    with pytest.raises(SimulatedDisconnect):
        OPERATIONS[name](store, tmp_path)
    assert [(each.path, each.size_bytes) for each in memory.list("")] == [("old", 1)]
    assert memory.read("old") == b"1"
    assert len(store.operations) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_handler_of_errors_outlives_a_disconnect() -> None:
    assert not issubclass(SimulatedDisconnect, Exception)


def test_an_operation_under_way_in_another_thread_does_not_return_from_a_dead_runtime() -> None:
    has_begun, is_over = threading.Event(), threading.Event()

    class SlowToRead(MemoryStore):
        def read(self, path: str) -> bytes:
            has_begun.set()
            assert is_over.wait(30)
            return super().read(path)

    inner = SlowToRead(FakeClock())
    inner.create("old", b"1")
    store = FaultyStore(inner, crash_at=2)
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.append(store.read("old"))
        except SimulatedDisconnect as exc:
            outcome.append(type(exc))

    thread = threading.Thread(target=read)
    thread.start()
    assert has_begun.wait(30)
    with pytest.raises(SimulatedDisconnect):
        store.now()
    is_over.set()
    thread.join(30)
    assert outcome == [SimulatedDisconnect]


def test_errors_come_to_the_operations_that_were_named_as_often_as_was_said(memory: MemoryStore) -> None:
    full = Injection(
        error=lambda path: StoreQuotaExceeded("full", path=path), operations=frozenset({"create"}), times=2
    )
    store = FaultyStore(memory, injections=[full])
    store.read("old")
    for _ in range(2):
        with pytest.raises(StoreQuotaExceeded) as caught:
            store.create("new", b"")
        assert caught.value.path == "new"
    store.create("new", b"")
    assert [each.path for each in memory.list("")] == ["new", "old"]


def test_an_error_after_the_work_is_a_lost_answer(memory: MemoryStore) -> None:
    store = FaultyStore(memory, injections=[Injection(error=busy, moment=Moment.AFTER, times=1)])
    with pytest.raises(TransientStoreError):
        store.create("new", b"2")
    assert memory.read("new") == b"2"


def test_a_rate_is_drawn_from_the_given_randomness(memory: MemoryStore) -> None:
    def failures(seed: int) -> list[int]:
        store = FaultyStore(memory, injections=[Injection(error=busy, rate=0.3)], random=random.Random(seed))
        failed = []
        for number in range(1000):
            try:
                store.read("old")
            except TransientStoreError:
                failed.append(number)
        return failed

    assert 200 < len(failures(1)) < 400
    assert failures(1) == failures(1)
    assert failures(1) != failures(2)


def test_each_operation_is_announced_before_and_after_its_work(memory: MemoryStore) -> None:
    seen: list[tuple[Operation, int]] = []
    store = FaultyStore(memory, on_operation=lambda operation: seen.append((operation, len(memory.list("")))))
    store.create("new", b"")
    assert seen == [
        (Operation(number=1, name="create", path="new", moment=Moment.BEFORE), 1),
        (Operation(number=1, name="create", path="new", moment=Moment.AFTER), 2),
    ]
