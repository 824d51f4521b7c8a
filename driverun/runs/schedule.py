"""Since when a job's schedule counts, and when it was suspended, from the files that tell of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from driverun.runs.layout import ScheduleWish, parse_schedule_name


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ScheduleFile:
    """One file about a job's schedule; they sort as the store saw them come."""

    created_at: datetime  #: by the store's clock
    object_id: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleHistory:
    """What the root tells of one job's schedules."""

    files: tuple[ScheduleFile, ...] = ()  #: in the store's order

    def anchor(self, tag: str) -> datetime | None:
        """From when on the schedule with this tag counts; None where it has not been noted, or another came after it.

        Any number of workers may have noted it. A schedule that was changed and changed back counts from then on.
        """
        found: datetime | None = None
        for file in reversed(self.files):
            _, what = parse_schedule_name(file.path) or ("", "")
            if isinstance(what, ScheduleWish):
                continue
            if what != tag:
                break
            found = file.created_at
        return found

    def suspensions(self) -> tuple[tuple[datetime, datetime | None], ...]:
        """From when to when it was suspended; the last of them has no end if it is so now."""
        spans: list[tuple[datetime, datetime | None]] = []
        for file in self.files:
            _, what = parse_schedule_name(file.path) or ("", "")
            if not isinstance(what, ScheduleWish):
                continue
            is_suspended = bool(spans) and spans[-1][1] is None
            if what is ScheduleWish.SUSPEND and not is_suspended:
                spans.append((file.created_at, None))
            elif what is ScheduleWish.RESUME and is_suspended:
                spans[-1] = (spans[-1][0], file.created_at)
        return tuple(spans)


def histories(files: Iterable[ScheduleFile]) -> dict[str, ScheduleHistory]:
    """The history of each job that one of the files tells of."""
    by_job: dict[str, list[ScheduleFile]] = {}
    for file in files:
        named = parse_schedule_name(file.path)
        if named is not None:
            by_job.setdefault(named[0], []).append(file)
    return {job: ScheduleHistory(files=tuple(sorted(of_job))) for job, of_job in by_job.items()}
