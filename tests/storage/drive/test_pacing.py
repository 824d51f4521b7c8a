from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from driverun.storage.drive.ids import IdPool
from driverun.storage.drive.pacing import TokenBucket
from driverun.testing.clock import FakeClock


def test_a_burst_passes_and_then_the_sustained_rate_holds() -> None:
    clock = FakeClock()
    bucket = TokenBucket(clock, rate_per_s=2.0, burst=5)
    for _ in range(5):
        bucket.take()
    assert clock.monotonic() == 0.0
    for _ in range(10):
        bucket.take()
    assert clock.monotonic() == 5.0


def test_a_rest_earns_a_burst_and_no_more() -> None:
    clock = FakeClock()
    bucket = TokenBucket(clock, rate_per_s=2.0, burst=5)
    for _ in range(5):
        bucket.take()
    clock.advance(seconds=3600)
    for _ in range(6):
        bucket.take()
    assert clock.monotonic() == 3600.5


def test_threads_share_one_rate() -> None:
    clock = FakeClock()
    bucket = TokenBucket(clock, rate_per_s=4.0, burst=1)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: bucket.take(), range(41)))
    assert clock.monotonic() >= 10.0


def test_a_pause_holds_for_everyone_and_uses_up_the_burst() -> None:
    clock = FakeClock()
    bucket = TokenBucket(clock, rate_per_s=2.0, burst=5)
    bucket.pause(10.0)
    bucket.take()
    assert clock.monotonic() == 10.0
    bucket.take()
    assert clock.monotonic() == 10.5


def test_ids_are_fetched_in_batches_and_given_once() -> None:
    asked: list[int] = []

    def fetch(count: int) -> list[str]:
        asked.append(count)
        return [f"id-{len(asked)}-{number}" for number in range(count)]

    pool = IdPool(fetch, batch=10)
    assert pool.take() == "id-1-0"
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: pool.take(), range(24)))
    assert len({*taken, "id-1-0"}) == 25
    assert asked == [10, 10, 10]
