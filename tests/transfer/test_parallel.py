"""The same work for many things, several at a time."""

import threading
from contextvars import ContextVar

import pytest

from driverun.testing.faulty import SimulatedDisconnect
from driverun.transfer.parallel import for_each


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_every_item_is_dealt_with_once(count: int, threads: int) -> None:
    done: list[int] = []
    for_each(range(count), done.append, threads=threads)
    assert sorted(done) == list(range(count))


def test_as_many_are_under_way_as_there_are_threads() -> None:
    together = threading.Barrier(4, timeout=10)

    def work(_: int) -> None:
        together.wait()

    for_each(range(8), work, threads=4)


@pytest.mark.parametrize("error", [ValueError, SimulatedDisconnect])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_error_ends_it_once_the_others_have_ended(error: type[BaseException], threads: int) -> None:
    begun: list[int] = []
    ended: list[int] = []
    failed = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 5:
            failed.set()
            raise error("no")
        if threads > 1 and item > 5:
            failed.wait(10)
        ended.append(item)

    with pytest.raises(error, match="no"):
        for_each(range(10_000), work, threads=threads)
    assert sorted(ended) == sorted(set(begun) - {5})
    assert len(begun) < 10_000


def test_threads_know_what_their_caller_is_at() -> None:
    at: ContextVar[str] = ContextVar("at", default="")
    at.set("data")
    seen: set[str] = set()
    for_each(range(10), lambda _: seen.add(at.get()), threads=3)
    assert seen == {"data"}
