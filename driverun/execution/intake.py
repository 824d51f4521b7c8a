"""How a job becomes runs: by wishes, each of which is written down once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from driverun.clock import Clock
from driverun.dispatch.ledger import Ledger
from driverun.errors import ObjectExists, SpecError
from driverun.execution.init_from import with_run_named
from driverun.execution.jobs import Job, place_on_root
from driverun.execution.scheduling import DueRun, due_details, last_runs, whole_due_runs
from driverun.runs.heads import head_of
from driverun.runs.layout import JOBS, EntryKind, WishKind, wish_file
from driverun.runs.record import RunFile, Wish
from driverun.spec.identity import After, computed_part, run_id_of, spec_to_json
from driverun.spec.matrix import Point, sweep_id_of
from driverun.spec.model import JobSpec
from driverun.spec.order import JobHead, no_run_yet, order_of
from driverun.spec.parser import point_specs, refuse_overrides_of_matrix, with_overrides
from driverun.storage.base import ObjectStore
from driverun.transfer.code import capture_code

#: Points of a matrix, after so many of which it is asked what others have submitted meanwhile.
LOOK_AGAIN_AT = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What the submission of one run came to."""

    run_id: str
    is_new: bool
    params: Point = field(default_factory=dict)  #: those that its point of the matrix sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a submission came to: one run, or one for each point of the job's matrix."""

    runs: tuple[Submitted, ...]  #: in the order of the matrix; at least one
    sweep: str | None = None  #: None: the job has no matrix

    @property
    def run_id(self) -> str:
        """Of the first run."""
        return self.runs[0].run_id

    @property
    def is_new(self) -> bool:
        """Was there none of them before?"""
        return all(run.is_new for run in self.runs)


def submit_job(
    store: ObjectStore,
    ledger: Ledger,
    job: Job,
    *,
    overrides: Mapping[str, Any],
    again: bool,
    clock: Clock,
    by: str,
    after: After | None = None,
    due: datetime | None = None,
) -> Submission:
    """Make the runs that compute this job, or those of its schedule that are `due`. The ledger must be fresh.

    The code goes first, then each submission, which is the run, at last the job's folder for people: whatever is
    missing after a crash, calling again mends it.

    Args:
        after: the runs that the jobs which this one comes after have made.

    Raises:
        SpecError: the overrides cannot be set.
    """
    refuse_overrides_of_matrix(job.spec, overrides)
    spec = with_overrides(job.spec, overrides) if overrides else job.spec
    spec = with_run_named(spec, ledger, file=job.file)
    code_sha256 = capture_code(store, job.files)
    planned: dict[str, tuple[Point, RunFile, JobSpec]] = {}
    for point, point_spec in point_specs(spec):
        run = _run_of(point_spec, ledger, code_sha256=code_sha256, again=again, after=after, due=due)
        planned.setdefault(run.run_id, (point, run, point_spec))
    sweep = sweep_id_of(spec.name, planned) if spec.matrix is not None else None
    details: dict[str, Any] = {"job": f"{JOBS}/{job.name}", "job_sha256": job.sha256}
    details |= due_details(spec.schedule, due) | authors_of(job)
    if spec.matrix is not None:
        details |= {"sweep": sweep, "points": len(planned), "max_parallel": spec.matrix.max_parallel}
    runs = []
    for number, (run_id, (point, run, point_spec)) in enumerate(planned.items(), start=1):
        if number % LOOK_AGAIN_AT == 0:
            ledger.refresh()  # another worker may have found the same matrix, and be ahead
        told = {**details, "point": dict(point)} if sweep is not None else details
        is_new = _submit_run(store, ledger, run, point_spec, told, clock=clock, by=by)
        runs.append(Submitted(run_id=run_id, is_new=is_new, params=point))
    place_on_root(store, job)
    return Submission(runs=tuple(runs), sweep=sweep)


def submit_in_order(
    store: ObjectStore,
    ledger: Ledger,
    job: Job,
    *,
    heads: Mapping[str, JobHead],
    load: Callable[[str], Job],
    overrides: Mapping[str, Any],
    again: bool,
    clock: Clock,
    by: str,
    due: datetime | None = None,
    made: MadeBefore | None = None,
    due_before: Callable[[str], Iterable[DueRun]] | None = None,
) -> Submission:
    """As `submit_job`, with the runs of the jobs that come before it, which are made where there are none yet.

    Those of a job with a schedule are made as they fall due, and are not made here.

    Args:
        heads: all jobs of the root, this one among them under its name; `order_faults` found nothing wrong with it.
        load: gives the job at a key of `heads`, as it is on the root.
        made: what the caller has submitted so far, of which a listing may not know yet; it is added to.
        due_before: the runs that the schedule of the job of this name has made; None: those that the ledger tells of.

    Raises:
        SpecError: as `submit_job`; or a job with a schedule that comes before it has no run yet, and nothing was made.
    """
    made = made if made is not None else {}
    due_before = due_before if due_before is not None else partial(whole_due_runs, ledger)
    runs_of: dict[str, str | list[str]] = {}

    def given(spec: JobSpec) -> After:
        return {name: runs_of[name] for name in spec.after}

    all_before = {key: load(key) for key in order_of(job.name, heads)[:-1]}
    for key, before in all_before.items():
        if before.spec.schedule is not None:
            name = before.spec.name
            last = last_runs(name, ledger, due_before(name), by=due)
            if not last:
                raise SpecError([no_run_yet(heads[job.name], heads[key], folder=key)])
            runs_of[name] = last if before.spec.matrix is not None else last[0]
    for before in all_before.values():
        if before.spec.schedule is None:
            this = _as_made(before, given(before.spec))
            if this not in made:
                made[this] = _runs_made(store, ledger, before, after=given(before.spec), clock=clock, by=by)
            runs_of[before.spec.name] = made[this]
    after = given(job.spec)
    submission = submit_job(
        store, ledger, job, overrides=overrides, again=again, clock=clock, by=by, after=after, due=due
    )
    if due is None and not overrides and not again:
        made[_as_made(job, after)] = _ids_of(job, submission)
    return submission


#: A job's folder, the digest of what a person wrote, and the runs it is given -> its own runs.
MadeBefore = MutableMapping[tuple[str, str, str], str | list[str]]


def _as_made(job: Job, after: After) -> tuple[str, str, str]:
    return job.name, job.sha256, json.dumps(after, sort_keys=True)


def _ids_of(job: Job, submission: Submission) -> str | list[str]:
    return [run.run_id for run in submission.runs] if job.spec.matrix is not None else submission.run_id


def _runs_made(
    store: ObjectStore, ledger: Ledger, job: Job, *, after: After, clock: Clock, by: str
) -> str | list[str]:
    """The run of a job as it is now, made if it is not there yet; of one with a matrix, those of all points."""
    retried = _retried_with(ledger, job.sha256) if job.spec.matrix is None else None
    if retried is not None:
        return retried
    submitted = submit_job(store, ledger, job, overrides={}, again=False, clock=clock, by=by, after=after)
    return _ids_of(job, submitted)


def _retried_with(ledger: Ledger, job_sha256: str) -> str | None:
    """The run that took the job's present code over when a person asked to retry it; the newest of several."""
    found = [
        (wish.order, run_id)
        for run_id, evidence in ledger.runs.items()
        if (wish := evidence.newest_wish(WishKind.RETRY)) is not None
        and wish.is_believed
        and wish.details.get("job_sha256") == job_sha256
    ]
    return max(found)[1] if found else None


def _run_of(
    spec: JobSpec,
    ledger: Ledger,
    *,
    code_sha256: str,
    again: bool,
    after: After | None,
    due: datetime | None,
) -> RunFile:
    """The run that computes this; with `again`, the first of the same that is not there yet."""
    repeat = 0
    run_id = run_id_of(spec, code_sha256=code_sha256, repeat=repeat, after=after, due=due)
    while again and run_id in ledger.runs:
        repeat += 1
        run_id = run_id_of(spec, code_sha256=code_sha256, repeat=repeat, after=after, due=due)
    computed = computed_part(spec, code_sha256=code_sha256, repeat=repeat, after=after, due=due)
    return RunFile(run_id=run_id, name=spec.name, code_sha256=code_sha256, computed=computed)


def _submit_run(
    store: ObjectStore,
    ledger: Ledger,
    run: RunFile,
    spec: JobSpec,
    details: Mapping[str, Any],
    *,
    clock: Clock,
    by: str,
) -> bool:
    """Write the submission, unless one says the same already; gives whether the run is new."""
    known = ledger.run(run.run_id)
    if known is not None and known.is_cut:
        known = ledger.detailed(run.run_id, {EntryKind.WISH})
    is_new = known is None or not known.is_complete
    spec_json = spec_to_json(spec)
    if not is_new and known is not None and known.spec == spec_json and known.unapproved is None:
        said = known.submitted
        telling = ("sweep", "points", "max_parallel") if "sweep" in details else ("job", "job_sha256")
        if all(said.get(name) == details.get(name) for name in telling):
            return False
    told = {**details, "spec": spec_json, "code_sha256": run.code_sha256, "computed": run.computed}
    make_wish(store, run.run_id, WishKind.SUBMIT, told, clock=clock, by=by)
    return is_new


def authors_of(job: Job) -> dict[str, Any]:
    """What a wish says of who wrote the code that it brings; nothing where the person who wishes brings it along."""
    return {"authors": list(job.authors)} if job.authors else {}


def make_wish(
    store: ObjectStore, run_id: str, kind: WishKind, details: Mapping[str, Any], *, clock: Clock, by: str
) -> None:
    """Write down what a person wants of a run."""
    wish_id = uuid.uuid4().hex
    wish = Wish(run_id=run_id, kind=kind, wish_id=wish_id, wished_at=clock.now(), by=by, details=details)
    content = wish.to_bytes()
    try:
        store.create(wish_file(run_id, kind, wish_id), content, properties=head_of(wish, content))
    except ObjectExists:
        return  # the answer to this very call was lost: nobody else has the id
