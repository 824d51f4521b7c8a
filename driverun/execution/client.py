"""All that a person can ask of a root, as calls: the command line and scripts use the same ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driverun.checkpoints.newest import find_checkpoints, load_manifest
from driverun.clock import Clock
from driverun.errors import IntegrityError, ObjectNotFound, SpecError, UsageError
from driverun.execution.approving import Review, refuse_other_code, review_of
from driverun.execution.board import FOLLOW_EVERY_S, Board, Look
from driverun.execution.comparing import choose_runs
from driverun.execution.differing import final_states, first_difference_in
from driverun.execution.intake import Submission, authors_of, make_wish, submit_in_order
from driverun.execution.jobs import Job, job_on_root, local_job, named_job, syntax_warning, twin_on_root
from driverun.execution.timetable import ScheduleSummary, Timetable
from driverun.report.compare import Compared, Comparison, compare
from driverun.report.curves import Curves, read_curves
from driverun.report.diff import Difference
from driverun.report.final_state import FinalState
from driverun.report.page import Report, report_html
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import JOBS, AttemptKey, WishKind
from driverun.runs.record import Record
from driverun.runs.state import RunState, wish_refusal
from driverun.spec.order import JobHead, job_head, order_faults
from driverun.spec.sources import SourceKind, kind_of
from driverun.storage.base import ObjectStore, OpensLinks, people_of
from driverun.transfer.code import capture_code
from driverun.transfer.fetch import fetch_results
from driverun.transfer.presence import KnownSources, missing_sources
from driverun.transfer.progress import OnProgress
from driverun.transfer.segments import read_segments
from driverun.transfer.upload import Uploaded, upload


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """Some lines of a run's log."""

    attempt: int
    text: str


class Client(Board):
    """One root, as its owner sees it."""

    def __init__(self, store: ObjectStore, *, clock: Clock, by: str) -> None:
        super().__init__(store, clock=clock, by=by)
        self._timetable = Timetable(store, self._ledger, by=by)

    # Jobs.

    def load_job(self, job: str) -> Job:
        """The job at the local path `job`, else the job of that name on the root.

        Raises:
            SpecError: it is faulty; all faults at once.
            UsageError: there is none.
        """
        try:
            path = Path(job).expanduser()
            is_here = path.is_dir() or path.is_file()
        except (OSError, ValueError, RuntimeError):
            is_here = False  # no file of this machine can be called so
        if is_here:
            return local_job(path)
        return named_job(self._store, job.removeprefix(f"{JOBS}/"))

    def submit(self, job: Job, *, params: Mapping[str, Any] | None = None, again: bool = False) -> Submission:
        """Make the runs that compute the job, one for each point of its matrix.

        A run that is there already is the answer, unless `again`.

        Raises:
            SpecError: the params cannot be set, or the job cannot be beside the others of the root.
        """
        return submit_in_order(
            self._store,
            self._ledger,
            job,
            heads=self._heads_around(job),
            load=lambda name: job_on_root(self._store, name),
            overrides=params or {},
            again=again,
            clock=self._clock,
            by=self._by,
        )

    def _heads_around(self, job: Job) -> Mapping[str, JobHead]:
        """The job and those of the root that matter to it, as of now.

        Raises:
            SpecError: it cannot be beside them.
        """
        self._ledger.refresh()
        heads: dict[str, JobHead] = {}
        if job.spec.after:
            heads |= Look(self._store, quiet_s=float("inf"), clock=self._clock, by=self._by).heads()
        else:  # of a large root no more is read than has to be
            folders = {job.spec.name, *(folder.removeprefix(f"{JOBS}/") for folder in self._namesakes(job))}
            for name in sorted(folders - {job.name}):
                try:
                    other = job_on_root(self._store, name, with_code=False)
                except (UsageError, ObjectNotFound, IntegrityError, ValueError):
                    continue  # gone, or INVALID: `driverun status` tells of it
                heads[name] = job_head(other.spec, file=other.file, text=other.text)
        heads[job.name] = job_head(job.spec, file=job.file, text=job.text)
        if (twin := twin_on_root(self._store, job)) is not None:
            heads[twin] = JobHead(file=twin, name=job.spec.name)
        faults = order_faults(heads).get(job.name)
        if faults:
            raise SpecError(faults)
        return heads

    # Schedules.

    def schedule(self, job: Job) -> ScheduleSummary:
        """Put a job with a schedule in its place on the root; its runs are made as they fall due.

        Raises:
            SpecError: it would never fall due, or cannot be beside the others of the root.
        """
        self._heads_around(job)
        return self._timetable.put(job)

    def schedules(self) -> list[ScheduleSummary]:
        """Every job that has a schedule, by its name."""
        return self._timetable.summaries()

    def suspend_schedule(self, job: str) -> ScheduleSummary:
        """Let nothing of the job fall due from now on. Raises UsageError: it has no schedule."""
        return self._timetable.suspend(job)

    def resume_schedule(self, job: str) -> ScheduleSummary:
        """Let the job fall due again; what would have been due meanwhile is gone."""
        return self._timetable.resume(job)

    def job_warnings(self, job: Job) -> list[str]:
        """What will keep the job from running, as far as it can be known now."""
        warning = syntax_warning(job)
        missing = missing_sources(KnownSources(self._store), job.spec)
        found = [] if warning is None else [warning]
        found += [
            f"runs of {folder} are called {job.spec.name} as well, so that `after`, `compare` and `--job` cannot tell"
            " them apart: give one of the jobs another name"
            for folder in self._namesakes(job)
        ]
        found += [
            f"{source} is not on the root: the run waits until somebody does `driverun upload FILE {source}`"
            for source in missing
        ]
        if not isinstance(self._store, OpensLinks):
            found += [
                f"{source.source} is on Drive, outside of this root, which is not on Drive and cannot open it"
                for source in job.spec.data
                if kind_of(source.source) is SourceKind.DRIVE
            ]
        return found

    def _namesakes(self, job: Job) -> list[str]:
        """The folders of other jobs with runs of the same name, as of the last look."""
        folders: set[object] = set()
        for evidence in self._ledger.runs.values():
            if evidence.run_file is not None and evidence.run_file.name == job.spec.name:
                folders.add(evidence.submitted.get("job"))
        return sorted(each for each in folders - {f"{JOBS}/{job.name}"} if isinstance(each, str))

    # Comparing.

    def compare(
        self, of: Sequence[str] = (), *, metric: str | None = None, mode: str | None = None
    ) -> Comparison:
        """Runs beside each other, the best first.

        Args:
            of: sweeps, jobs, or ids of runs, all of which are compared; none: the newest sweep, else every run.
            metric: by which; None: that of the job's checkpoints, else a usual one.
            mode: "min" or "max"; None: by the metric's name.

        Raises:
            RunNotFound: there is none of a name that was given.
            UsageError: no run has the metric, or a name is that of two jobs.
        """
        self._ledger.refresh()
        chosen, title = choose_runs(self._ledger.runs, of, location=self._store.location)
        detailed = [(self._ledger.detailed(each.run_id) or each) if each.is_cut else each for each in chosen]
        return compare([self._compared(each) for each in detailed], metric=metric, mode=mode, of=title)

    def _compared(self, evidence: RunEvidence) -> Compared:
        spec = self._spec(evidence)
        summary = self._summary(evidence, details=False)
        return Compared(
            run_id=evidence.run_id,
            state=summary.state,
            params=spec.params if spec is not None else {},
            metrics=summary.metrics,
            seed=spec.seed if spec is not None else 0,
            code_sha256=summary.code_sha256 or "",
            monitor=spec.checkpoint.monitor if spec is not None else None,
            mode=spec.checkpoint.mode if spec is not None else "auto",
        )

    # Wishes.

    def cancel(self, run: str) -> str:
        """Ask for the run to be stopped; gives its id. A worker that is at it sees this at its next heartbeat."""
        evidence = self._evidence(run)
        self._refuse(WishKind.CANCEL, evidence)
        make_wish(self._store, evidence.run_id, WishKind.CANCEL, {}, clock=self._clock, by=self._by)
        return evidence.run_id

    def retry(self, run: str, *, fresh: bool = False) -> str:
        """Ask for the run to be taken up again with its job's code as it is now; gives its id."""
        evidence = self._evidence(run)
        self._refuse(WishKind.RETRY, evidence)
        details: dict[str, Any] = {"fresh": fresh, "code_sha256": None}
        job = self._job_of(evidence)
        if job is not None and evidence.run_file is not None:
            code_sha256 = capture_code(self._store, job.files)
            before = self._derive(evidence).code_sha256 or evidence.run_file.code_sha256
            if code_sha256 != before:
                details.update(code_sha256=code_sha256)
            details.update(job_sha256=job.sha256, **authors_of(job))
        make_wish(self._store, evidence.run_id, WishKind.RETRY, details, clock=self._clock, by=self._by)
        return evidence.run_id

    def prioritize(self, run: str, priority: int) -> str:
        """Put the run before those of a lower priority, behind those of a higher one; gives its id."""
        if not isinstance(priority, int):
            raise UsageError(
                f"cannot move {run}: a priority is a whole number, such as 10 or -5, not {priority!r}"
            )
        evidence = self._evidence(run)
        self._refuse(WishKind.PRIORITY, evidence)
        details = {"priority": priority}
        make_wish(self._store, evidence.run_id, WishKind.PRIORITY, details, clock=self._clock, by=self._by)
        return evidence.run_id

    def takes_up(self, run: str) -> str:
        """From where the next attempt at the run goes on, in one line for people."""
        evidence = self._evidence(run)
        derived = self._derive(evidence)
        found = find_checkpoints(
            self._store, evidence.run_id, claims=evidence.claims, resume_after=derived.resume_after
        )
        if found:
            newest = found[0]
            step = (
                newest.step
                if newest.step is not None
                else load_manifest(self._store, newest.path).manifest.header.step
            )
            return f"{evidence.run_id} goes on at step {step}, from the checkpoint of attempt {newest.key.number}"
        why = ": a fresh start was asked for" if derived.starts_over else ", as there is no checkpoint of it"
        origin = evidence.run_file.computed.get("init_from") if evidence.run_file is not None else None
        if isinstance(origin, Mapping):
            return f"{evidence.run_id} begins once more with the {origin['what']} of {origin['run']}{why}"
        return f"{evidence.run_id} starts over at step 0{why}"

    def review(self, run: str) -> Review:
        """What would run if the run were approved. Raises UsageError where nothing of it waits for that."""
        evidence = self._evidence(run)
        return review_of(self._store, evidence, self._spec(evidence), self._ledger.runs)

    def approve(self, run: str, *, code: str | None = None) -> Review:
        """Let the code of a run be run that waits for it; gives what was approved, which is read once.

        Args:
            code: the digest of the code that the person has seen, or at least eight digits of its beginning; other
                code is refused.
        """
        review = self.review(run)
        if code is not None:
            refuse_other_code(review, code)
        make_wish(
            self._store, review.run_id, WishKind.APPROVE, review.details, clock=self._clock, by=self._by
        )
        return review

    def may_approve(self) -> bool:
        """Does the approval of this process's account count to itself? Each worker has its own list of the trusted."""
        people = people_of(self._store)
        return people is None or any(people.trusts(name) for name in people.me)

    def _refuse(self, kind: WishKind, evidence: RunEvidence) -> None:
        refusal = wish_refusal(kind, self._derive(evidence))
        if refusal is not None:
            raise UsageError(refusal)

    def _job_of(self, evidence: RunEvidence) -> Job | None:
        """The job that the run was submitted from, as it is on the root now; None if it is gone."""
        folder = evidence.submitted.get("job")
        if not isinstance(folder, str):
            return None
        try:
            return job_on_root(self._store, folder.removeprefix(f"{JOBS}/"))
        except ObjectNotFound:
            return None

    # What a run left.

    def logs(self, run: str, *, follow: bool = False) -> Iterator[LogPiece]:
        """The log of every attempt, in order; with `follow`, as it grows until the run is over."""
        run_id = self.find(run)
        seen: dict[AttemptKey, int] = {}
        while True:
            evidence = self._evidence(run_id)
            is_over = self._derive(evidence).state.is_over
            for view in self._derive(evidence).attempts:
                for segment in read_segments(self._store, view.key.folder, "log-", seen.get(view.key, 0)):
                    seen[view.key] = segment.number
                    yield LogPiece(
                        attempt=view.key.number, text=segment.content.decode(errors="backslashreplace")
                    )
            if not follow or is_over:
                return
            self._clock.sleep(FOLLOW_EVERY_S)

    def fetch(self, run: str, dest: Path, on_progress: OnProgress | None = None) -> list[Path]:
        """Write the results of the run to the local folder `dest`, verified."""
        summary = self.run(run)
        if summary.results_path is None:
            raise UsageError(
                f"cannot fetch {summary.run_id}: it is {summary.state.value} and has no results yet."
                f" See where it stands with `driverun status {summary.run_id}`."
            )
        return fetch_results(self._store, summary.results_path, dest, on_progress, clock=self._clock)

    def upload(self, local: Path, target: str, on_progress: OnProgress | None = None) -> Uploaded:
        """Put a file or folder of this machine at `target` on the root."""
        return upload(self._store, local, target, on_progress, clock=self._clock)

    def curves(self, run: str) -> Curves:
        """Every metric of the run, over all its attempts."""
        return read_curves(
            (view.key.number, segment.content)
            for view in self._derive(self._evidence(run)).attempts
            for segment in read_segments(self._store, view.key.folder, "metrics-")
        )

    def report(self, run: str) -> str:
        """The run as one HTML page."""
        evidence = self._evidence(run)
        derived = self._derive(evidence)
        segments: list[tuple[int, bytes]] = []
        log = b""
        for view in derived.attempts:
            segments += [
                (view.key.number, s.content) for s in read_segments(self._store, view.key.folder, "metrics-")
            ]
            log = b"".join(s.content for s in read_segments(self._store, view.key.folder, "log-")) or log
        record: Record | None = derived.record
        return report_html(
            Report(
                summary=self._summary(evidence, details=True),
                curves=read_curves(segments),
                run_file=evidence.run_file,
                environment=record.environment if record is not None else {},
                log_tail="\n".join(log.decode(errors="replace").splitlines()[-40:]),
                as_of=self._store.now() if derived.state is RunState.RUNNING else None,
            )
        )

    def diff(self, run_a: str, run_b: str, *, other: Client | None = None) -> Difference | None:
        """The first variable, value or output in which the two runs differ; None if they are the same.

        Args:
            other: the root that `run_b` is on; None: this one.
        """
        with tempfile.TemporaryDirectory(prefix="driverun-diff-") as folder:
            first = self._final_states(run_a, Path(folder))
            second = (other or self)._final_states(run_b, Path(folder))
            return first_difference_in(run_a, first, run_b, second)

    def _final_states(self, run: str, scratch: Path) -> list[FinalState]:
        evidence = self._evidence(run)
        return final_states(self._store, evidence, self._derive(evidence), scratch)
