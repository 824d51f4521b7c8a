from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from driverun.errors import TransientStoreError
from driverun.storage.stamps import LOCK_PATIENCE_S, StampLock, StampState, next_state, time_now
from driverun.testing.clock import FakeClock

SECOND = 10**9
MICROSECOND = 10**3


def state(stamp_s: float, clock_s: float) -> StampState:
    return StampState(stamp_ns=round(stamp_s * SECOND), clock_ns=round(clock_s * SECOND))


@pytest.mark.parametrize(
    ("before", "clock_s", "now_s"),
    [
        (state(0, 0), 100, 100),
        (state(100, 100), 101, 101),
        (state(100, 100), 100, 100),
        (state(100, 100), 40, 100),  # put back by a minute: it stands for now
        (state(100, 40), 50, 105),  # and goes on at half the pace
        (state(105, 50), 60, 110),
        (state(100, 40), 160, 160),  # until it is caught up with
        (state(100, 40), 30, 100),  # put back again
    ],
)
def test_the_roots_time_never_goes_back_and_never_stands_for_long(
    before: StampState, clock_s: float, now_s: float
) -> None:
    assert time_now(before, round(clock_s * SECOND)) == round(now_s * SECOND)


def test_time_is_in_whole_microseconds() -> None:
    assert time_now(state(0, 0), 1_234_567) == 1_234_000
    assert time_now(StampState(stamp_ns=5_000_000, clock_ns=0), 3_000) == 5_001_000
    assert next_state(state(0, 0), 1_234_567).stamp_ns == 1_234_000


def test_a_stamp_is_later_than_the_one_before_even_at_the_same_instant() -> None:
    first = next_state(state(0, 0), 100 * SECOND)
    second = next_state(first, 100 * SECOND)
    assert (first.stamp_ns, second.stamp_ns) == (100 * SECOND, 100 * SECOND + MICROSECOND)


def test_a_state_survives_being_written() -> None:
    written = state(1_767_225_600.5, 1_767_225_599.25).to_bytes()
    assert StampState.parse(written) == state(1_767_225_600.5, 1_767_225_599.25)
    assert len(written) == len(state(0, 0).to_bytes())


@pytest.mark.parametrize("content", [b"", b"12", b"soon 12", b"-5 12", b"\xff\xfe \x00"])
def test_a_damaged_state_is_that_of_a_new_root(content: bytes) -> None:
    assert StampState.parse(content) == state(0, 0)


@pytest.fixture
def times() -> list[int]:
    return []


@pytest.fixture
def lock(tmp_path: Path, times: list[int]) -> StampLock:
    """A lock whose filesystem says the last of `times`."""
    return StampLock(tmp_path / "local" / "lock", clock=FakeClock(), time_ns=lambda: times[-1])


def test_stamps_go_on_where_the_last_process_left_them(lock: StampLock, times: list[int]) -> None:
    times.append(100 * SECOND)
    with lock.turn() as turn:
        assert turn.next_stamp_ns() == 100 * SECOND
        assert turn.now_ns() == 100 * SECOND
        assert turn.next_stamp_ns() == 100 * SECOND + MICROSECOND
    times.append(90 * SECOND)
    with lock.turn() as turn:
        assert turn.next_stamp_ns() == 100 * SECOND + 2 * MICROSECOND


def test_a_time_that_was_told_is_not_gone_back_behind(lock: StampLock, times: list[int]) -> None:
    times.append(100 * SECOND)
    with lock.turn() as turn:
        assert turn.now_ns() == 100 * SECOND
    times.append(90 * SECOND)
    with lock.turn() as turn:
        assert turn.now_ns() == 100 * SECOND
        assert turn.next_stamp_ns() > 100 * SECOND


def test_the_filesystems_own_clock_is_asked_by_a_probe(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with StampLock(file, clock=FakeClock(), time_ns=None).turn() as turn:
        now_ns = turn.now_ns()
        assert (
            now_ns == file.stat().st_mtime_ns // MICROSECOND * MICROSECOND or file.stat().st_mtime_ns > now_ns
        )
    os.utime(file, (0, 0))
    with StampLock(file, clock=FakeClock(), time_ns=None).turn() as turn:
        assert turn.now_ns() >= now_ns


def test_nobody_else_has_a_turn_meanwhile(lock: StampLock, times: list[int], tmp_path: Path) -> None:
    times.append(SECOND)
    with lock.turn(), (tmp_path / "local" / "lock").open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "local" / "lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_turn_that_failed_is_over(lock: StampLock, times: list[int]) -> None:
    times.append(SECOND)
    with pytest.raises(ZeroDivisionError), lock.turn():
        raise ZeroDivisionError
    with lock.turn() as turn:
        assert turn.now_ns() == SECOND


def test_a_holder_that_stands_still_is_named_and_not_waited_for_without_end(tmp_path: Path) -> None:
    clock = FakeClock()
    lock = StampLock(tmp_path / "lock", clock=clock, time_ns=lambda: SECOND)
    with lock.turn() as turn:
        turn.now_ns()
        with pytest.raises(TransientStoreError, match=rf"process {os.getpid()};"), lock.turn():
            pass
    assert LOCK_PATIENCE_S <= sum(clock.sleeps) < LOCK_PATIENCE_S + 1
    assert max(clock.sleeps) < 0.1
