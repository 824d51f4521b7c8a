"""Which due times of a schedule get a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from driverun.spec.schedule import CatchUp, ScheduleRules

AT_MOST = 100  #: of the due times that are caught up with, at one look
FRESH = timedelta(minutes=10)  #: for so long a due time is not missed, where nothing is caught up with
_TICK = timedelta(microseconds=1)
_FIRST_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time during which nothing falls due; its end is not part of it."""

    begin: datetime
    end: datetime | None  #: None: it lasts

    def holds(self, moment: datetime) -> bool:
        return self.begin <= moment and (self.end is None or moment < self.end)


def due_times(rules: ScheduleRules, *, after: datetime) -> Iterator[datetime]:
    """The due times later than `after`, in UTC, in their order.

    Where the clock on the wall is put forward, what is skipped falls due right after; where it is put back, what comes
    twice falls due once. Schedules that name no hour (`*`, `*/2`) go by the time that passes. So does Debian's cron.
    """
    until, last = rules.until_at, after
    try:
        for moment in CronSim(rules.expression, after.astimezone(rules.zone)):
            due = moment.astimezone(UTC)
            if until is not None and due > until:
                return
            if due > last:  # it counts by the wall, which a zone may put back
                last = due
                yield due
    except OverflowError:
        return  # the calendar ends


def next_due(rules: ScheduleRules, *, after: datetime, suspended: Sequence[Span] = ()) -> datetime | None:
    """The first due time later than `after` at which it is not suspended; None: there is none."""
    while True:
        due = next(due_times(rules, after=after), None)
        span = _span_of(due, suspended) if due is not None else None
        if span is None:
            return due
        if span.end is None:
            return None
        after = span.end - _TICK


def newest_due(rules: ScheduleRules, *, after: datetime, by: datetime) -> datetime | None:
    """The last due time later than `after` and not later than `by`; None: there is none."""
    window = _FIRST_WINDOW
    while by > after:
        begin = max(after, by - window)
        newest = None
        for due in due_times(rules, after=begin):
            if due > by:
                break
            newest = due
        if newest is not None or begin == after:
            return newest
        window *= 2
        until = rules.until_at
        if until is not None and until < begin:
            by, window = until, _FIRST_WINDOW
    return None


def to_make(
    rules: ScheduleRules,
    *,
    anchor: datetime,
    suspended: Sequence[Span],
    made: Collection[datetime],
    reached: datetime | None,
    now: datetime,
) -> list[datetime]:
    """The due times that get a run now, in their order.

    Args:
        anchor: from when on the schedule counts.
        suspended: the spans during which it was; it is so now if one of them has no end.
        made: due times for which there is a run of the job, whatever schedule it had then.
        reached: the newest due time that got a run by this very schedule; all before it are dealt with.
        now: by the root's clock.
    """
    if _span_of(now, suspended) is not None:
        return []
    if rules.catch_up is CatchUp.ALL:
        return _each(rules, after=max(anchor, reached or anchor), suspended=suspended, made=made, now=now)
    after = anchor
    if rules.catch_up is CatchUp.NONE:
        after = max(anchor, now - FRESH)
    by = now
    while True:
        due = newest_due(rules, after=after, by=by)
        span = _span_of(due, suspended) if due is not None else None
        if span is None:
            return [due] if due is not None and due not in made else []
        by = span.begin - _TICK


def _each(
    rules: ScheduleRules,
    *,
    after: datetime,
    suspended: Sequence[Span],
    made: Collection[datetime],
    now: datetime,
) -> list[datetime]:
    found: list[datetime] = []
    due = next_due(rules, after=after, suspended=suspended)
    while due is not None and due <= now and len(found) < AT_MOST:
        if due not in made:
            found.append(due)
        due = next_due(rules, after=due, suspended=suspended)
    return found


def _span_of(moment: datetime, spans: Sequence[Span]) -> Span | None:
    return next((span for span in spans if span.holds(moment)), None)
