from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

from driverun.storage.drive.servertime import ServerTime
from driverun.testing.clock import START, FakeClock


def date(at: datetime) -> str:
    return format_datetime(at.replace(microsecond=0), usegmt=True)


def test_time_goes_on_between_answers() -> None:
    clock = FakeClock()
    time = ServerTime(clock)
    assert time.age_s is None
    time.hear_date(date(START + timedelta(days=1)), sent_s=clock.monotonic())
    clock.advance(seconds=90)
    assert time.now() == START + timedelta(days=1, seconds=90)
    assert time.age_s == 90


def test_it_is_never_ahead_of_the_second_that_a_date_names() -> None:
    clock = FakeClock()
    time = ServerTime(clock)
    server = START + timedelta(hours=5, milliseconds=900)
    for _ in range(20):  # answers that take 0.3 s each, half of it on the way there
        sent_s = clock.monotonic()
        clock.advance(seconds=0.15)
        told = date(server + timedelta(seconds=clock.monotonic()))
        clock.advance(seconds=0.15)
        time.hear_date(told, sent_s=sent_s)
        truth = server + timedelta(seconds=clock.monotonic())
        assert timedelta(0) <= truth - time.now() <= timedelta(seconds=1.15)


def test_a_stamp_is_never_later_than_now() -> None:
    clock = FakeClock()
    time = ServerTime(clock)
    time.hear_date(date(START), sent_s=0.0)
    stamp = START + timedelta(milliseconds=730)
    time.hear_stamp(stamp)
    assert time.now() == stamp


def test_a_monotonic_clock_that_runs_fast_is_noticed_and_time_stands_still_meanwhile() -> None:
    clock = FakeClock()
    time = ServerTime(clock)
    time.hear_date(date(START), sent_s=0.0)
    clock.advance(seconds=3600)
    ahead = time.now()
    sent_s = clock.monotonic()
    time.hear_date(date(START + timedelta(seconds=3590)), sent_s=sent_s)
    assert time.now() == ahead
    clock.advance(seconds=20)
    assert time.now() == START + timedelta(seconds=3591 + 20)


def test_dates_that_make_no_sense_are_passed_over() -> None:
    clock = FakeClock()
    time = ServerTime(clock)
    for header in (None, "", "yesterday"):
        time.hear_date(header, sent_s=0.0)
    assert time.age_s is None
