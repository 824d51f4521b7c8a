"""The schedules of a root as a person sees and changes them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import islice
from typing import Any

from driverun.dispatch.ledger import Ledger
from driverun.errors import DriverunError, ObjectNotFound, SpecError, UsageError
from driverun.execution.jobs import Job, job_names, job_on_root, place_on_root
from driverun.execution.scheduling import Schedules, due_runs
from driverun.runs.layout import JOBS, ScheduleWish
from driverun.spec.due import Span, next_due
from driverun.spec.schedule import CatchUp, ScheduleRules
from driverun.storage.base import ObjectStore

SHOWN = 5  #: of the due times to come


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSummary:
    """A job's schedule, and where it stands."""

    job: str
    cron: str
    timezone: str
    catch_up: CatchUp
    until: str | None
    is_suspended: bool
    coming: tuple[datetime, ...]  #: the next due times, in the schedule's zone; none while it is suspended
    last_due: datetime | None  #: the newest due time that has a run, in the schedule's zone
    last_run: str | None  #: that run

    def to_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "cron": self.cron,
            "timezone": self.timezone,
            "catch_up": self.catch_up.value,
            "until": self.until,
            "suspended": self.is_suspended,
            "next": [due.isoformat() for due in self.coming],
            "last_due": self.last_due.isoformat() if self.last_due is not None else None,
            "last_run": self.last_run,
        }


class Timetable:
    """The schedules of one root."""

    def __init__(self, store: ObjectStore, ledger: Ledger, *, by: str) -> None:
        self._store = store
        self._ledger = ledger
        self._by = by

    def summaries(self) -> list[ScheduleSummary]:
        """Every job that has a schedule and no fault, by its name."""
        self._ledger.refresh()
        schedules = self._schedules()
        return [self._summary(job, schedules) for job in self._jobs()]

    def put(self, job: Job) -> ScheduleSummary:
        """Have the job on the root, and its schedule count from now on.

        Raises:
            SpecError: it would never fall due.
            UsageError: the job has none.
        """
        rules = job.spec.schedule
        if rules is None:
            raise UsageError(f"cannot schedule {job.name}: its job file has no schedule")
        schedules = self._schedules()
        fault = schedules.fault(job.spec.name, rules, file=job.file, text=job.text)
        if fault is not None:
            raise SpecError([fault])
        place_on_root(
            self._store, job
        )  # first: who sees the old schedule after the new one notes it once more
        schedules.note(job.spec.name, rules)
        self._ledger.refresh()
        return self._summary(job, schedules)

    def suspend(self, job: str) -> ScheduleSummary:
        """Let nothing of the job fall due from now on. Raises UsageError: it has no schedule."""
        return self._wish(job, ScheduleWish.SUSPEND)

    def resume(self, job: str) -> ScheduleSummary:
        """Let the job fall due again; what would have been due meanwhile is gone. Raises UsageError."""
        return self._wish(job, ScheduleWish.RESUME)

    def _wish(self, name: str, wish: ScheduleWish) -> ScheduleSummary:
        name = name.removeprefix(f"{JOBS}/").rstrip("/")
        jobs = list(self._jobs())
        found = [job for job in jobs if name in (job.name, job.spec.name)]
        if not found:
            names = [job.spec.name for job in jobs]
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names) or 'none'}."
            raise UsageError(
                f"cannot {wish.value} {name}: no job of that name on the root has a schedule. {hint}"
            )
        schedules = self._schedules()
        if schedules.is_suspended(found[0].spec.name) is not (wish is ScheduleWish.SUSPEND):
            schedules.wish(found[0].spec.name, wish)
        self._ledger.refresh()
        return self._summary(found[0], schedules)

    def _schedules(self) -> Schedules:
        schedules = Schedules(self._store, by=self._by)
        schedules.refresh()
        return schedules

    def _jobs(self) -> Iterator[Job]:
        for name in job_names(self._store.list(JOBS, recursive=True)):
            try:
                job = job_on_root(self._store, name)
            except (DriverunError, ObjectNotFound):
                continue  # `driverun status` tells of it
            if job.spec.schedule is not None:
                yield job

    def _summary(self, job: Job, schedules: Schedules) -> ScheduleSummary:
        rules = job.spec.schedule
        assert rules is not None, "only such jobs are asked for"
        last = max(due_runs(self._ledger, job.spec.name), key=lambda run: run.due, default=None)
        suspended = schedules.suspended(job.spec.name)
        return ScheduleSummary(
            job=job.spec.name,
            cron=rules.cron,
            timezone=rules.timezone,
            catch_up=rules.catch_up,
            until=rules.until,
            is_suspended=schedules.is_suspended(job.spec.name),
            coming=tuple(_coming(rules, self._store.now(), suspended, rules.zone)),
            last_due=last.due.astimezone(rules.zone) if last is not None else None,
            last_run=last.run_id if last is not None else None,
        )


def _coming(
    rules: ScheduleRules, after: datetime, suspended: tuple[Span, ...], zone: tzinfo
) -> Iterator[datetime]:
    def each() -> Iterator[datetime]:
        due = next_due(rules, after=after, suspended=suspended)
        while due is not None:
            yield due.astimezone(zone)
            due = next_due(rules, after=due, suspended=suspended)

    return islice(each(), SHOWN)
