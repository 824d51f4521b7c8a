"""All that a person can ask of a root, as calls: the command line and scripts use the same ones."""

from __future__ import annotations

import difflib
import math
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from driverun.checkpoints.newest import find_checkpoints, load_manifest
from driverun.clock import Clock
from driverun.dispatch.choose import MOST_MEMORY_BYTES, priority_of
from driverun.dispatch.lacks import Lack, Looked, lacks_of, running_by_sweep
from driverun.dispatch.lease import single_look
from driverun.dispatch.ledger import Ledger, LedgerProblem
from driverun.dispatch.trust import approval_text
from driverun.errors import IntegrityError, ObjectNotFound, RunNotFound, SpecError, UsageError
from driverun.execution.approving import Review, refuse_other_code, review_of
from driverun.execution.comparing import choose_runs
from driverun.execution.differing import final_states, first_difference_in
from driverun.execution.discovering import Discovery, InvalidJob
from driverun.execution.finishing import checkpoint_summaries
from driverun.execution.intake import Submission, authors_of, make_wish, submit_in_order
from driverun.execution.jobs import Job, job_on_root, local_job, named_job, syntax_warning, twin_on_root
from driverun.execution.standing import state_as_alive
from driverun.execution.timetable import ScheduleSummary, Timetable
from driverun.report.compare import Compared, Comparison, compare
from driverun.report.curves import Curves, read_curves
from driverun.report.diff import Difference
from driverun.report.final_state import FinalState
from driverun.report.overview import Overview, overview_of, worth_showing
from driverun.report.page import Report, report_html
from driverun.report.summary import RunSummary, summarize
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import JOBS, AttemptKey, EntryKind, WishKind
from driverun.runs.record import Record
from driverun.runs.state import Derived, RunState, WaitingFor, derive_state, wish_refusal
from driverun.spec.identity import spec_from_json
from driverun.spec.model import Accelerator, JobSpec
from driverun.spec.order import JobHead, job_head, order_faults
from driverun.spec.sources import SourceKind, kind_of
from driverun.spec.units import format_duration, format_size
from driverun.storage.base import ObjectStore, OpensLinks, people_of
from driverun.transfer.code import capture_code
from driverun.transfer.fetch import fetch_results
from driverun.transfer.progress import OnProgress
from driverun.transfer.segments import read_segments
from driverun.transfer.sync import KnownSources, missing_sources
from driverun.transfer.upload import Uploaded, upload

FOLLOW_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """Some lines of a run's log."""

    attempt: int
    text: str


class Client:
    """One root, as its owner sees it."""

    def __init__(self, store: ObjectStore, *, clock: Clock, by: str) -> None:
        self._store = store
        self._clock = clock
        self._by = by
        self._ledger = Ledger(store)
        self._timetable = Timetable(store, self._ledger, by=by)
        self._sources: KnownSources | None = None  # during a look at all runs, many of which want the same
        self._counted: tuple[int, Counter[str]] | None = None

    @property
    def store(self) -> ObjectStore:
        return self._store

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
            heads |= _Look(self._store, quiet_s=float("inf"), clock=self._clock, by=self._by).heads()
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

    def invalid_jobs(self) -> list[InvalidJob]:
        """The jobs on the root that cannot become runs, with all their faults."""
        discovery = _Look(self._store, quiet_s=float("inf"), clock=self._clock, by=self._by)
        discovery.look(self._ledger)
        return [discovery.invalid[name] for name in sorted(discovery.invalid)]

    # Runs.

    def runs(self) -> list[RunSummary]:
        """Every run, oldest first, without its checkpoints."""
        return list(self.overview().runs)

    def overview(self, *, most: int | None = None) -> Overview:
        """The runs, oldest first, without their checkpoints; of more than `most` those that matter most."""
        self._ledger.refresh()
        now = self._store.now()
        runs = self._ledger.runs
        derived = {run_id: self._derive(evidence, now=now) for run_id, evidence in runs.items()}
        shown = worth_showing(runs, derived, most=most)
        self._sources = KnownSources(self._store)
        try:
            summaries = [
                self._summary(runs[run_id], details=False, derived=derived[run_id]) for run_id in shown
            ]
        finally:
            self._sources = None
        return overview_of(summaries, derived)

    def run(self, run: str) -> RunSummary:
        """One run with everything. `run` is its id, or so much of its beginning that it is the only one."""
        return self._summary(self._evidence(run), details=True)

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

    def problems(self) -> Collection[LedgerProblem]:
        """Files of the ledger that make no sense, as of the last look."""
        return self._ledger.problems

    def find(self, run: str) -> str:
        """The whole id of the run."""
        return self._evidence(run).run_id

    def _evidence(self, run: str) -> RunEvidence:
        """All that is known of the run, details included."""
        self._ledger.refresh()
        runs = self._ledger.runs
        matching = (
            [run] if run in runs else sorted(run_id for run_id in runs if run and run_id.startswith(run))
        )
        if len(matching) == 1:
            found = self._ledger.detailed(matching[0])
            assert found is not None, "it is among the runs"
            return found
        if matching:
            listed = "\n  ".join(matching)
            raise RunNotFound(f"{run} may be one of {len(matching)} runs; give more of its id:\n  {listed}")
        near = difflib.get_close_matches(run, list(runs), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else " See them with `driverun status`."
        raise RunNotFound(f"there is no run {run or repr(run)} on {self._store.location}.{hint}")

    def _spec(self, evidence: RunEvidence) -> JobSpec | None:
        """The spec as submitted; None where this version cannot make sense of it."""
        whole = self._ledger.detailed(evidence.run_id, {EntryKind.WISH}) if evidence.is_cut else evidence
        if whole is None or whole.spec is None:
            return None
        try:
            return spec_from_json(whole.spec)
        except SpecError:
            return None

    def _derive(self, evidence: RunEvidence, *, now: datetime | None = None) -> Derived:
        """How the run stands.

        Args:
            now: by the store's clock; None: as of this moment.
        """
        first = state_as_alive(evidence)
        if first.state is not RunState.RUNNING or first.owner is None:
            return first
        look = single_look(
            first.owner,
            now=now if now is not None else self._store.now(),
            listing_lag_s=self._store.listing_lag_s,
        )
        if not look.is_stale:
            return first
        return derive_state(evidence, stale=frozenset({first.owner.key}), max_errors=evidence.max_errors)

    def _summary(self, evidence: RunEvidence, *, details: bool, derived: Derived | None = None) -> RunSummary:
        derived = derived if derived is not None else self._derive(evidence)
        # Of ten thousand runs few may be taken up, and nobody asks what the others lack.
        spec = self._spec(evidence) if derived.state.is_claimable else None
        lack = self._lack(evidence, derived, spec) if spec is not None else None
        checkpoints = (
            checkpoint_summaries(
                self._store, evidence.run_id, claims=evidence.claims, resume_after=derived.resume_after
            )
            if details
            else ()
        )
        summary = summarize(
            evidence,
            derived,
            checkpoints=checkpoints,
            waiting_for=lack.waiting_for if lack is not None else None,
            lack=self._written(lack) if lack is not None else "",
            priority=priority_of(evidence),
        )
        if evidence.unapproved_retry is None or evidence.unapproved is not None:
            return summary
        text = approval_text(evidence.run_id, evidence.unapproved_retry)
        return replace(summary, reason=f"a retry of it brings code that was {text}")

    def _written(self, lack: Lack) -> str:
        if lack.until is None:
            return lack.text
        left_s = max(0.0, (lack.until - self._store.now()).total_seconds())
        return f"in {format_duration(math.ceil(left_s))}: {lack.text}"

    def _lack(self, evidence: RunEvidence, derived: Derived, spec: JobSpec) -> Lack | None:
        """What to mend first before a worker can take it up; the machine of this process is not asked."""
        looked = Looked(
            evidence=evidence,
            derived=derived,
            spec=spec,
            missing_data=partial(self._missing_data, spec),
            state_of=self._state_of,
            running_in=lambda sweep: self._at_work()[sweep],
            now=self._store.now,
        )
        lacks = lacks_of(looked)
        if lacks:
            return lacks[0]
        if spec.accelerator is not Accelerator.ANY:
            text = f"wants a {spec.accelerator.name}. Start a worker on a runtime that has it"
            return Lack(waiting_for=WaitingFor.ACCELERATOR, text=text)
        if spec.min_memory_bytes:
            least = format_size(min(spec.min_memory_bytes, MOST_MEMORY_BYTES))
            text = f"wants {least} of main memory. Start a worker where there is as much"
            return Lack(waiting_for=WaitingFor.MEMORY, text=text)
        if spec.secrets:
            names = ", ".join(secret.name for secret in spec.secrets)
            text = f"wants the secrets {names}. Start a worker that has them; one that has not says where to put them"
            return Lack(waiting_for=WaitingFor.SECRET, text=text)
        return None

    def _missing_data(self, spec: JobSpec) -> list[str]:
        return missing_sources(self._sources or KnownSources(self._store), spec)

    def _at_work(self) -> Counter[str]:
        """How many runs of each sweep are, as of the last look."""
        revision = self._ledger.revision
        if self._counted is None or self._counted[0] != revision:
            self._counted = (revision, running_by_sweep(self._ledger.runs, self._state_of))
        return self._counted[1]

    def _state_of(self, run_id: str) -> Derived | None:
        evidence = self._ledger.run(run_id)
        return self._derive(evidence) if evidence is not None else None

    def wait(self, run: str, *, timeout_s: float | None = None) -> RunSummary:
        """Where the run stands when it is over, or after so many seconds; None: however long it takes."""
        run_id = self.find(run)
        until_s = self._clock.monotonic() + timeout_s if timeout_s is not None else math.inf
        while True:
            summary = self._summary(self._evidence(run_id), details=True)
            left_s = until_s - self._clock.monotonic()
            if summary.state.is_over or left_s <= 0:
                return summary
            self._clock.sleep(min(FOLLOW_EVERY_S, left_s))

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


class _Look(Discovery):
    """A look at jobs that makes no runs: none is ever at rest for long enough."""

    def _loaded(self, name: str) -> Job:
        return job_on_root(self._store, name, with_code=False)
