from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from driverun.clock import Clock
from driverun.testing.clock import START, FakeClock


def test_sleeping_takes_no_time_and_moves_the_clock() -> None:
    clock: Clock = FakeClock()
    clock.sleep(90.5)
    assert clock.now() == START + timedelta(seconds=90.5)
    assert clock.monotonic() == 90.5


def test_sleeps_are_remembered_and_idle_ones_change_nothing() -> None:
    clock = FakeClock()
    for seconds in (1, 0, -5):
        clock.sleep(seconds)
    assert clock.sleeps == [1, 0, -5]
    assert clock.monotonic() == 1


def test_a_wall_clock_can_be_put_back_but_monotonic_time_cannot() -> None:
    clock = FakeClock()
    clock.advance(seconds=10)
    clock.set_back(seconds=60)
    assert (clock.now(), clock.monotonic()) == (START - timedelta(seconds=50), 10)
    with pytest.raises(ValueError, match="set_back"):
        clock.advance(seconds=-1)


def test_a_start_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="needs its zone"):
        FakeClock(datetime(2026, 1, 1))


def test_no_sleep_of_many_threads_is_lost() -> None:
    clock = FakeClock()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(clock.sleep, [0.25] * 1000))
    assert clock.monotonic() == 250
