"""How a job becomes a run: by a person's submission, or because a worker found it on the root."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from driverun.clock import Clock
from driverun.dispatch.ledger import Ledger
from driverun.errors import Fault, IntegrityError, ObjectExists, ObjectNotFound, SpecError, UsageError
from driverun.execution.scheduling import DueRun, Schedules, due_details, last_runs, whole_due_runs
from driverun.execution.warm_start import PLACE, fault_of, with_run_named
from driverun.runs.heads import head_of
from driverun.runs.layout import JOBS, EntryKind, WishKind, wish_file
from driverun.runs.record import RunFile, Wish
from driverun.spec.identity import After, computed_part, run_id_of, spec_to_json
from driverun.spec.matrix import Point, sweep_id_of
from driverun.spec.model import EntrypointKind, InitFrom, JobSpec
from driverun.spec.notebook import notebook_fault
from driverun.spec.order import JobHead, job_head, no_run_yet, order_faults, order_of
from driverun.spec.parser import (
    check_code,
    parse_job,
    point_specs,
    refuse_overrides_of_matrix,
    with_overrides,
)
from driverun.spec.paths import name_fault, path_faults
from driverun.spec.reader import read_yaml
from driverun.storage.base import ObjectInfo, ObjectStore, people_of
from driverun.transfer.checksums import sha256_of
from driverun.transfer.code import JobFiles, capture_code, place_job, read_job_folder, read_job_on_root

JOB_FILE = "job.yaml"
LOOK_AGAIN_AT = (
    25  #: points of a matrix, after so many of which it is asked what others have submitted meanwhile
)
_NOTEBOOK_LINE = re.compile(rb"^[ \t]*[!%]", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it lies somewhere, parsed."""

    name: str  #: of its folder or file
    spec: JobSpec
    text: bytes  #: of the job file
    files: JobFiles
    local: Path | None  #: its folder on this machine; None: it is on the root
    job_file: str  #: name of the job file in that folder
    only: tuple[str, ...] | None  #: of a lone job file: the files that are its code
    authors: tuple[str | None, ...] = ()  #: of its files on the root, where the store tells of authors

    @property
    def sha256(self) -> str:
        """Digest of all that a person wrote, operating settings included."""
        return hashlib.sha256(self.text + self.files.code_sha256.encode()).hexdigest()

    @property
    def file_on_root(self) -> str:
        """Where its job file is on the root, or will be once it is there."""
        return f"{JOBS}/{self.name}/{JOB_FILE}" if self.only is None else f"{JOBS}/{self.job_file}"

    @property
    def file(self) -> str:
        """Its job file, where it was read."""
        return self.file_on_root if self.local is None else str(self.local / self.job_file)


def local_job(path: Path) -> Job:
    """The job in the folder `path`, or in the job file `path`.

    Raises:
        SpecError: it is faulty; all faults at once.
        UsageError: there is none.
    """
    if path.is_dir():
        folder, job_file, name = path, JOB_FILE, path.resolve().name
        if not (folder / JOB_FILE).is_file():
            raise UsageError(
                f"cannot submit {path}: there is no {JOB_FILE} in it. One line will do: entrypoint: train.py"
            )
    else:
        folder, job_file, name = path.parent, path.name, path.stem
    text = (folder / job_file).read_bytes()
    shown = str(folder / job_file)
    spec = parse_job(text, file=shown, default_name=name)
    only = None if job_file == JOB_FILE else _code_of_lone(spec)
    files = read_job_folder(folder, only=only)
    _check(spec, name, shown, files, text)
    return Job(name=name, spec=spec, text=text, files=files, local=folder, job_file=job_file, only=only)


def job_on_root(store: ObjectStore, name: str, *, with_code: bool = True) -> Job:
    """The job `jobs/<name>` of the root: a folder, or a lone `jobs/<name>.yaml`.

    Args:
        with_code: whether it is to be run; to see what is wrong with it, few of its files have to be read.

    Raises:
        SpecError: it is faulty; all faults at once.
        ObjectNotFound: there is none.
    """
    path, folder, job_file = f"{JOBS}/{name}/{JOB_FILE}", f"{JOBS}/{name}", JOB_FILE
    try:
        text = store.read(path)
    except ObjectNotFound:
        path, folder, job_file = f"{JOBS}/{name}.yaml", JOBS, f"{name}.yaml"
        text = store.read(path)
    spec = parse_job(text, file=path, default_name=name)
    only = None if job_file == JOB_FILE else _code_of_lone(spec)
    files = read_job_on_root(
        store, folder, only=only, wants=lambda path: with_code or path.endswith(".ipynb")
    )
    _check(spec, name, path, files, text)
    return Job(
        name=name,
        spec=spec,
        text=text,
        files=files,
        local=None,
        job_file=job_file,
        only=only,
        authors=_authors(store, files, path, text) if with_code and people_of(store) is not None else (),
    )


def _authors(store: ObjectStore, files: JobFiles, path: str, text: bytes) -> tuple[str | None, ...]:
    """Who wrote what was read of a job on the root. Raises IntegrityError where it changed meanwhile."""
    job_file = files.seen.get(path.rpartition("/")[2]) or store.stat(path)
    if job_file.sha256 not in (None, sha256_of(text)) or job_file.size_bytes != len(text):
        raise IntegrityError(f"cannot read {path}: it changed while it was read. Try again.")
    authors = {info.author for info in (job_file, *files.seen.values())}
    return tuple(sorted(authors, key=lambda author: author or ""))


def _code_of_lone(spec: JobSpec) -> tuple[str, ...]:
    value = spec.entrypoint.value
    if spec.entrypoint.kind is EntrypointKind.FUNCTION:
        value = value.partition(":")[0].replace(".", "/") + ".py"
    return (value,) if value else ()


def _check(spec: JobSpec, name: str, file: str, files: JobFiles, text: bytes) -> None:
    faults = check_code(spec, file=file, paths=tuple(files.files), text=text)
    if (wrong := name_fault(name)) is not None:
        message = f"the job is called {name!r}, which {wrong}; rename its folder, or its file if it has none"
        faults += (Fault(file=file, line=None, field="", message=message),)
    faults += tuple(
        Fault(file=file, line=None, field="", message=message) for message in path_faults(files.files)
    )
    notebook = spec.entrypoint.value
    if not faults and spec.entrypoint.kind is EntrypointKind.NOTEBOOK:
        wrong = notebook_fault(files.files[notebook].content)
        if wrong is not None:
            line = read_yaml(text, file=file).line(("entrypoint",))
            faults = (Fault(file=file, line=line, field="entrypoint", message=f"`{notebook}` {wrong}"),)
    if faults:
        raise SpecError(faults)


def syntax_warning(job: Job) -> str | None:
    """What Python says of the script, if it does not compile here; another machine's Python may be newer."""
    entrypoint = job.spec.entrypoint
    if entrypoint.kind is not EntrypointKind.SCRIPT or entrypoint.value not in job.files.files:
        return None
    content = job.files.files[entrypoint.value].content
    if _NOTEBOOK_LINE.search(content):
        return None  # saved from a notebook: IPython makes Python of it
    try:
        compile(content, entrypoint.value, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as exc:
        return f"{entrypoint.value} does not compile with this Python: {exc}"
    return None


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
        wish = known.newest_wish(WishKind.SUBMIT)
        said = wish.details if wish is not None else {}
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


def place_on_root(store: ObjectStore, job: Job) -> None:
    """Put the job where people see and change it, unless it lies there."""
    if job.local is not None and not _is_on_root(store, job):
        place_job(store, job.local, job.name, job_file=job.job_file, only=job.only)


def _is_on_root(store: ObjectStore, job: Job) -> bool:
    """Whether the job's folder is the root's own, so that there is nothing to place."""
    assert job.local is not None
    folder = job.local.resolve()
    place = Path(store.location).expanduser().resolve() / JOBS
    return folder.is_relative_to(place)


def named_job(store: ObjectStore, name: str) -> Job:
    """The job of this name on the root. Raises UsageError with the nearest names where there is none."""
    try:
        return job_on_root(store, name)
    except (ObjectNotFound, ValueError) as exc:
        near = difflib.get_close_matches(name, job_names(store.list(JOBS, recursive=True)), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UsageError(
            f"cannot submit {name}: it is neither a folder here nor a job under {JOBS}/ of the root.{hint}"
        ) from exc


def job_names(listing: list[ObjectInfo]) -> list[str]:
    """The names of all jobs in a listing of `jobs/`."""
    return sorted(_grouped(listing))


def _grouped(listing: list[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    """The files of each job: of a folder with a job.yaml, or of a lone one, which any file beside it may concern."""
    inside = [(info, info.path.removeprefix(f"{JOBS}/")) for info in listing]
    lone = [info for info, path in inside if "/" not in path]
    jobs: dict[str, list[ObjectInfo]] = {}
    for info, path in inside:
        name, slash, rest = path.partition("/")
        if slash and rest == JOB_FILE:
            jobs.setdefault(name, []).extend(each for each, p in inside if p.startswith(f"{name}/"))
        elif not slash and name.endswith(".yaml"):
            jobs.setdefault(name.removesuffix(".yaml"), []).extend([info, *lone])
    return jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidJob:
    """A job on the root that cannot become a run as it is."""

    name: str
    faults: tuple[Fault, ...]


def _known_jobs(ledger: Ledger) -> set[tuple[object, object]]:
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
        runs.update(here.keys())
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
        #: Jobs whose runs this has made, as `_known_jobs` has them: a listing may not show them yet.
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
        jobs = _grouped(self._store.list(JOBS, recursive=True))
        read = self._read(jobs)
        self.invalid = {name: job for name, job in self._judged().items() if self._wants(name)}
        if self._scheduled:
            self._schedules.refresh()
        known = _known_jobs(ledger)
        for name in self._in_order(jobs):
            scheduled = self._scheduled.get(name)
            this = (f"{JOBS}/{name}", self._sha256[name])
            if scheduled is None and (this in known or this in self._made):
                continue
            beginning = self._beginning.get(name)
            wrong = fault_of(beginning, ledger) if beginning is not None else None
            if wrong is not None:  # later it may be sound: a run of that name may come, or succeed
                fault = Fault(file=self._heads[name].file, line=None, field=PLACE, message=wrong)
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
        self._read(_grouped(self._store.list(JOBS, recursive=True)))
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
