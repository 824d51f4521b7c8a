"""Finds jobs that people dropped into the root, and makes their runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from driverun.clock import Clock
from driverun.dispatch.ledger import Ledger
from driverun.errors import Fault, IntegrityError, ObjectNotFound, SpecError, UsageError
from driverun.execution.init_from import PLACE, fault_of
from driverun.execution.intake import Submission, submit_in_order
from driverun.execution.jobs import JOB_FILE, Job, files_by_job, job_on_root, misnamed_jobs
from driverun.execution.scheduling import DueRun, Schedules, last_runs
from driverun.runs.layout import JOBS, WishKind
from driverun.spec.model import InitFrom
from driverun.spec.order import JobHead, job_head, no_run_yet, order_faults, order_of
from driverun.storage.base import ObjectInfo, ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidJob:
    """A job on the root that cannot become a run as it is."""

    name: str
    faults: tuple[Fault, ...]


def known_jobs(ledger: Ledger) -> set[tuple[object, object]]:
    """The jobs of which all runs are there, or whose code a retry has taken: folder on the root, and digest."""
    known: set[tuple[object, object]] = set()
    points: dict[tuple[object, object], int] = {}
    runs: Counter[tuple[object, object]] = Counter()
    for evidence in ledger.runs.values():
        here: dict[tuple[object, object], int] = {}
        for wish in evidence.wishes:
            sha256 = wish.details.get("job_sha256")
            folder = wish.details.get("job")
            if not wish.is_believed or not isinstance(sha256, str) or not isinstance(folder, str | None):
                continue  # a stranger's word keeps no job from being found
            if wish.kind is WishKind.RETRY:  # mended code is the retried run's
                folders = (each.details.get("job") for each in evidence.wishes)
                known |= {(each, sha256) for each in folders if isinstance(each, str)}
            elif wish.kind is WishKind.SUBMIT:
                number = wish.details.get("points")
                here[folder, sha256] = number if isinstance(number, int) else 1
        points |= here
        for job in here:
            runs[job] += 1
    return known | {job for job, number in points.items() if runs[job] >= number}


class Discovery:
    """Finds jobs that people dropped into the root, once their files have come to rest."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        quiet_s: float,
        clock: Clock,
        by: str,
        wants: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Look after the jobs whose name `wants` says yes to."""
        self._store = store
        self._quiet_s = quiet_s
        self._clock = clock
        self._by = by
        self._wants = wants
        self._looks: dict[str, object] = {}  # name -> what its files looked like when they were read
        self._heads: dict[str, JobHead] = {}
        self._sha256: dict[str, str] = {}  # of the jobs that are sound by themselves
        self._faulty: dict[str, InvalidJob] = {}  # those that are not
        #: Jobs whose runs this has made, as `known_jobs` has them: a listing may not show them yet.
        self._made: set[tuple[object, object]] = set()
        self._made_before: dict[tuple[str, str, str], str | list[str]] = {}
        self._schedules = Schedules(store, by=by)
        self._beginning: dict[str, InitFrom] = {}  # what those of the sound ones begin with that name a run
        self._scheduled: dict[str, Job] = {}  # those of the sound ones that have a schedule
        self.invalid: dict[str, InvalidJob] = {}  #: by name, as of the last look
        self.changes = 0  #: how many changes of jobs were seen

    def look(self, ledger: Ledger) -> tuple[list[str], float | None]:
        """Make runs of new jobs; gives their ids, and in how many seconds the next job may be at rest."""
        made: list[str] = []
        soonest: float | None = None
        now = self._store.now()
        listing = self._store.list(JOBS, recursive=True)
        jobs = files_by_job(listing)
        read = self._read(jobs)
        invalid = self._judged()
        for name, wrong in misnamed_jobs(listing).items():
            invalid[name] = InvalidJob(name=name, faults=(wrong,))
        self.invalid = {name: job for name, job in invalid.items() if self._wants(name)}
        if self._scheduled:
            self._schedules.refresh()
        known = known_jobs(ledger)
        for name in self._in_order(jobs):
            scheduled = self._scheduled.get(name)
            this = (f"{JOBS}/{name}", self._sha256[name])
            if scheduled is None and (this in known or this in self._made):
                continue
            beginning = self._beginning.get(name)
            message = fault_of(beginning, ledger) if beginning is not None else None
            if message is not None:  # later it may be sound: a run of that name may come, or succeed
                fault = Fault(file=self._heads[name].file, line=None, field=PLACE, message=message)
                self.invalid[name] = InvalidJob(name=name, faults=(fault,))
                continue
            early = self._no_run_yet(name, ledger) if scheduled is None else None
            if early is not None:
                self.invalid[name] = InvalidJob(name=name, faults=(early,))
                continue
            files = [info for each in order_of(name, self._heads) for info in jobs[each]]
            rest_s = self._quiet_s - (now - max(info.modified_at for info in files)).total_seconds()
            if rest_s > 0:
                soonest = rest_s if soonest is None else min(soonest, rest_s)
                continue
            try:
                made += self._made_of(name, ledger, read)
            except SpecError as exc:  # one before it has just changed
                self.invalid[name] = InvalidJob(name=name, faults=exc.faults)
            except (ObjectNotFound, IntegrityError):
                continue  # likewise; the next look tells
        return made, soonest

    def _made_of(self, name: str, ledger: Ledger, read: Mapping[str, Job]) -> list[str]:
        """Make the runs of a job that is sound and at rest; gives their ids."""
        scheduled = self._scheduled.get(name)
        if scheduled is not None:
            return self._made_due(scheduled, ledger, read)
        job = read.get(name) or self._parsed(name)
        if job is None:
            return []  # it has just changed
        return [run.run_id for run in self._submitted(job, ledger, read).runs]

    def _in_order(self, jobs: Iterable[str]) -> list[str]:
        """The sound jobs that are wanted, each behind those before it: what fell due of these comes first.

        Those before it that nobody named are there for their due times alone.
        """
        wanted = [name for name in sorted(jobs) if self._wants(name) and name not in self.invalid]
        in_order = dict.fromkeys(each for name in wanted for each in order_of(name, self._heads))
        return [name for name in in_order if self._wants(name) or name in self._scheduled]

    def _no_run_yet(self, name: str, ledger: Ledger) -> Fault | None:
        """What a job has to wait for that comes after one with a schedule, until that one has a run."""
        for key in order_of(name, self._heads)[:-1]:
            before = self._scheduled.get(key)
            if before is None:
                continue
            called = before.spec.name
            if not last_runs(called, ledger, self._schedules.runs(called, ledger), by=None):
                return no_run_yet(self._heads[name], self._heads[key], folder=key)
        return None

    def heads(self) -> Mapping[str, JobHead]:
        """Every job of the root as other jobs see it, by the name of its folder or file."""
        self._read(files_by_job(self._store.list(JOBS, recursive=True)))
        return self._heads

    def _read(self, jobs: Mapping[str, list[ObjectInfo]]) -> dict[str, Job]:
        """Parse what is new or has changed; gives those that are sound by themselves."""
        for name in self._looks.keys() - jobs.keys():
            self._forget(name)
        read: dict[str, Job] = {}
        for name, files in sorted(jobs.items()):
            looks = tuple(sorted((info.path, info.modified_at, info.size_bytes) for info in files))
            if self._looks.get(name) == looks:
                continue
            self._forget(name)
            self.changes += 1
            job = self._parsed(name)
            self._looks[name] = looks
            if job is not None:
                read[name] = job
                if job.spec.init_from is not None:
                    self._beginning[name] = job.spec.init_from
                if job.spec.schedule is not None:
                    self._scheduled[name] = job
            if {f"{JOBS}/{name}/{JOB_FILE}", f"{JOBS}/{name}.yaml"} <= {info.path for info in files}:
                beside = JobHead(file=f"{JOBS}/{name}.yaml", name=self._heads[name].name)
                self._heads[f"{name}.yaml"] = beside
        return read

    def _forget(self, name: str) -> None:
        for kept in (
            self._looks,
            self._sha256,
            self._faulty,
            self._heads,
            self._scheduled,
            self._beginning,
        ):
            kept.pop(name, None)
        self._heads.pop(f"{name}.yaml", None)

    def _judged(self) -> dict[str, InvalidJob]:
        """The jobs that cannot become runs: by themselves, or beside the others."""
        invalid = dict(self._faulty)
        for name, faults in order_faults(self._heads).items():
            own = invalid[name].faults if name in invalid else ()
            invalid[name] = InvalidJob(name=name, faults=(*own, *faults))
        return invalid

    @property
    def due_in_s(self) -> float | None:
        """Until the next due time of a schedule, as of the last look; None: none is known."""
        waits = [
            self._schedules.seconds_until_due(job.spec.name, job.spec.schedule)
            for name, job in self._scheduled.items()
            if job.spec.schedule is not None and self._wants(name) and name not in self.invalid
        ]
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    def _submitted(
        self, job: Job, ledger: Ledger, read: Mapping[str, Job], due: datetime | None = None
    ) -> Submission:
        submission = submit_in_order(
            self._store,
            ledger,
            job,
            heads=self._heads,
            load=lambda other: read.get(other) or job_on_root(self._store, other),
            overrides={},
            again=False,
            clock=self._clock,
            by=self._by,
            due=due,
            made=self._made_before,
            due_before=partial(self._schedules.runs, ledger=ledger),
        )
        self._made |= {(f"{JOBS}/{name}", sha256) for name, sha256, _ in self._made_before}
        return submission

    def _made_due(self, job: Job, ledger: Ledger, read: Mapping[str, Job]) -> list[str]:
        """Make the runs of the job that are due now."""
        rules, name = job.spec.schedule, job.spec.name
        assert rules is not None, "only such jobs are kept"
        made: list[str] = []
        for due in self._schedules.due(name, rules, ledger):
            if self._no_run_yet(job.name, ledger) is not None:
                break  # it falls due, and waits for what comes before it
            submission = self._submitted(job, ledger, read, due)
            ids = [run.run_id for run in submission.runs]
            sweep, points = submission.sweep or "", len(ids)
            self._schedules.made(
                name,
                [DueRun(run_id=each, due=due, tag=rules.tag, sweep=sweep, points=points) for each in ids],
            )
            made += ids
        return made

    def _loaded(self, name: str) -> Job:
        return job_on_root(self._store, name)

    def _parsed(self, name: str) -> Job | None:
        try:
            job = self._loaded(name)
            self._refuse_never(job)
        except SpecError as exc:
            faults = exc.faults
        except (UsageError, IntegrityError, ObjectNotFound) as exc:
            faults = (Fault(file=f"{JOBS}/{name}", line=None, field="", message=str(exc)),)
        else:
            self._heads[name] = job_head(job.spec, file=job.file_on_root, text=job.text)
            self._sha256[name] = job.sha256
            return job
        self._faulty[name] = InvalidJob(name=name, faults=faults)
        file = faults[0].file if faults else f"{JOBS}/{name}"
        self._heads[name] = JobHead(file=file, name=name, is_sound=False)
        return None

    def _refuse_never(self, job: Job) -> None:
        """Raise SpecError for a schedule that is new here and has no due time before it."""
        if job.spec.schedule is None:
            return
        self._schedules.refresh()
        fault = self._schedules.fault(job.spec.name, job.spec.schedule, file=job.file_on_root, text=job.text)
        if fault is not None:
            raise SpecError([fault])
