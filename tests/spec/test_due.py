"""When a schedule falls due, held against the time that passes and the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from driverun.spec.due import AT_MOST, Span, due_times, newest_due, next_due, to_make
from driverun.spec.schedule import ScheduleRules

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def rules(cron: str = "0 3 * * *", **fields: Any) -> ScheduleRules:
    return ScheduleRules.model_validate({"cron": cron, **fields})


def first(cron: str, count: int, *, after: str, zone: str = "Europe/Berlin") -> list[str]:
    schedule = rules(cron, timezone=zone)
    begin = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone))
    found = islice(due_times(schedule, after=begin), count)
    return [f"{due.astimezone(ZoneInfo(zone)):%m-%d %H:%M%z}" for due in found]


def test_an_hour_that_the_spring_takes_away_falls_due_when_it_is_over() -> None:
    assert first("30 2 * * *", 3, after="2026-03-28 00:00") == [
        "03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200",
    ]  # fmt: skip


def test_an_hour_that_the_autumn_gives_twice_falls_due_once() -> None:
    assert first("30 2 * * *", 3, after="2026-10-24 00:00") == [
        "10-24 02:30+0200", "10-25 02:30+0200", "10-26 02:30+0100",
    ]  # fmt: skip


def test_what_names_no_hour_goes_by_the_time_that_passes() -> None:
    assert first("30 * * * *", 3, after="2026-10-25 01:45") == [
        "10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100",
    ]  # fmt: skip
    assert first("30 * * * *", 2, after="2026-03-29 01:00") == ["03-29 01:30+0100", "03-29 03:30+0200"]


@pytest.mark.parametrize("cron", ["30 2 * * *", "0,30 2,3 * * *", "*/20 * * * *", "5 */2 * * *", "0 0 * * *"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana", "Asia/Kolkata"])
def test_the_due_times_are_the_same_wherever_one_begins_to_count(cron: str, zone: str) -> None:
    """Every worker begins at another moment, and all have to see the same."""
    schedule = rules(cron, timezone=zone)
    for change in (datetime(2026, 3, 7, tzinfo=UTC), datetime(2026, 3, 28, tzinfo=UTC),
                   datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC),
                   datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 31, tzinfo=UTC)):  # fmt: skip
        end = change + 3 * DAY
        whole: list[datetime] = []
        for due in due_times(schedule, after=change):
            if due > end:
                break
            whole.append(due)
        assert whole == sorted(set(whole))
        moment = change
        while moment < end:
            later = [due for due in whole if due > moment]
            if later:
                assert next_due(schedule, after=moment) == later[0], moment
            assert newest_due(schedule, after=change, by=moment) == next(
                (due for due in reversed(whole) if due <= moment), None
            ), moment
            moment += timedelta(minutes=37, seconds=13)


def made_of(schedule: ScheduleRules, **changes: Any) -> list[datetime]:
    arguments: dict[str, Any] = {
        "anchor": NEW_YEAR, "suspended": (), "made": (), "reached": None, "now": NEW_YEAR + 7 * DAY,
    }  # fmt: skip
    return to_make(schedule, **{**arguments, **changes})


def at(day: int, hour: int = 3, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def test_latest_makes_the_newest_that_was_missed_and_no_other() -> None:
    assert made_of(rules()) == [at(7)]
    assert made_of(rules(), made={at(7)}) == []
    assert made_of(rules(), now=at(1, 2)) == []


def test_all_makes_each_the_oldest_first_and_goes_on_where_it_stopped() -> None:
    schedule = rules(catch_up="all")
    assert made_of(schedule) == [at(day) for day in range(1, 8)]
    assert made_of(schedule, reached=at(5)) == [at(6), at(7)]
    assert made_of(schedule, made={at(3)}) == [at(day) for day in (1, 2, 4, 5, 6, 7)]
    many = made_of(rules("* * * * *", catch_up="all"))
    assert len(many) == AT_MOST
    assert many[0] == NEW_YEAR + timedelta(minutes=1)


def test_none_makes_what_fell_due_within_ten_minutes() -> None:
    schedule = rules(catch_up="none")
    assert made_of(schedule, now=at(5, 3, 9)) == [at(5)]
    assert made_of(schedule, now=at(5, 3, 11)) == []


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_what_falls_due_while_it_is_suspended_is_never_made(catch_up: str) -> None:
    schedule = rules(catch_up=catch_up)
    span = Span(begin=at(4, 2), end=at(6, 3, 1))
    assert made_of(schedule, now=at(5), suspended=[Span(begin=at(4, 2), end=None)]) == []
    expected = {"latest": [at(3)], "all": [at(1), at(2), at(3)], "none": []}[catch_up]
    assert made_of(schedule, now=at(6, 3, 1), suspended=[span]) == expected
    assert made_of(schedule, now=at(7), suspended=[span], reached=at(3), made={at(3)}) == [at(7)]
    assert next_due(schedule, after=at(4), suspended=[span]) == at(7)
    assert next_due(schedule, after=at(4), suspended=[Span(begin=at(4), end=None)]) is None


def test_until_is_the_last_day_or_moment_in_its_zone() -> None:
    day = rules("0 0,23 * * *", timezone="America/New_York", until="2026-01-02")
    *_, last = due_times(day, after=NEW_YEAR)
    assert last == datetime(2026, 1, 2, 23, tzinfo=ZoneInfo("America/New_York"))
    moment = rules(until="2026-01-04T03:00")
    assert newest_due(moment, after=NEW_YEAR, by=NEW_YEAR + 900 * DAY) == at(4)
    assert next_due(moment, after=at(4)) is None
    assert rules(until="2026-01-04T04:00+01:00").until_at == at(4)


def test_a_machine_without_time_zones_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driverun.spec.schedule.zoneinfo.available_timezones", set)
    with pytest.raises(ValueError, match="pip install tzdata, or write UTC"):
        rules(timezone="Nowhere/At_All")
    assert rules(timezone="UTC").zone is UTC
