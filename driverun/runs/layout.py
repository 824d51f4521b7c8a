"""Every path on the root.

    jobs/<job>/...                                    people write
    data/...                                          people write
    ledger/<run_id>.<number>.<worker>.claim.json      a worker asks for an attempt; write-once
           <run_id>.<number>.<worker>.record.json     its heartbeat, then its outcome; its owner rewrites it
           <run_id>.<kind>.<id>.json                  a person's wish; write-once. The first one is the run's submission
           <run_id>.run.json                          what is to be computed; only older versions wrote it
    runs/<run_id>.<number>.<worker>/...               everything else of an attempt
    .driverun/root.json                               that this is a root, and of which version
    .driverun/code/code-<sha256>.zip                  the code of runs, content-addressed
    .driverun/wheels/driverun-<version>-0_<hex>-...   driverun itself, for machines that start on this root
    .driverun/schedules/<job>.<12 hex>.<id>.json      that this schedule of the job was seen; write-once
                        <job>.suspend.<id>.json       a person's wish, or .resume.; write-once
    .driverun/packs/<16 hex of a source>/...          small files of data once more, in a few large files
    .driverun/envs/<sha256>/...                       packages of jobs, as they were installed

Numbers of attempts have at least four digits; a worker's id is in every name that it creates.
"""

from __future__ import annotations

import enum
import hashlib
import re
import sys

from driverun.values import frozen_value

JOBS = "jobs"
DATA = "data"
LEDGER = "ledger"
RUNS = "runs"
META = ".driverun"
ROOT_FILE = f"{META}/root.json"
SCHEMA_FILE = f"{META}/job.schema.json"
WHEELS = f"{META}/wheels"
CODE = f"{META}/code"
SCHEDULES = f"{META}/schedules"

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}-[0-9a-f]{12}")
WORKER_ID = re.compile(r"[a-z0-9]{4,32}")

_NUMBER = (
    r"(?!0000\.)([0-9]{4}|[1-9][0-9]{4,})"  # one way to write each, so that a name and its parts are one
)
_ATTEMPT = re.compile(rf"{RUNS}/({RUN_ID.pattern})\.{_NUMBER}\.({WORKER_ID.pattern})(?:/.*)?")
_SCHEDULE = re.compile(
    rf"{SCHEDULES}/([A-Za-z0-9][A-Za-z0-9_-]{{0,62}})\.(suspend|resume|[0-9a-f]{{12}})\.([a-z0-9]+)\.json"
)


class WishKind(enum.Enum):
    """What a person can ask of a run by a file of their own."""

    SUBMIT = "submit"  #: compute it, with these operating settings
    CANCEL = "cancel"  #: stop it
    RETRY = "retry"  #: take it up again after it failed or was cancelled
    APPROVE = "approve"  #: let this code run
    PRIORITY = "priority"  #: put it before or behind others


class ScheduleWish(enum.Enum):
    """What a person can ask of a job's schedule by a file of their own."""

    SUSPEND = "suspend"  #: let nothing fall due from now on
    RESUME = "resume"  #: go on


class EntryKind(enum.Enum):
    """What a file in the ledger is."""

    RUN = "run"
    CLAIM = "claim"
    RECORD = "record"
    WISH = "wish"


_OF_ATTEMPT = {kind.value: kind for kind in (EntryKind.CLAIM, EntryKind.RECORD)}
_WISHES = {kind.value: kind for kind in WishKind}
_ENTRY = re.compile(
    rf"{LEDGER}/({RUN_ID.pattern})\.(?:{_NUMBER}\.({WORKER_ID.pattern})\.({'|'.join(_OF_ATTEMPT)})"
    rf"|({'|'.join(_WISHES)})\.([a-z0-9]+)|{EntryKind.RUN.value})\.json"
)


@frozen_value(frozen=True, slots=True, kw_only=True)
class LedgerName:
    """What the name of a file in the ledger says."""

    kind: EntryKind
    run_id: str
    number: int | None = None  #: of the attempt, from 1; claims and records only
    worker: str | None = None  #: claims and records only
    wish: WishKind | None = None
    wish_id: str | None = None


@frozen_value(frozen=True, slots=True, kw_only=True, order=True)
class AttemptKey:
    """Which attempt is meant: equal numbers of two workers are two attempts, one of which owns the number."""

    run_id: str
    number: int
    worker: str

    def __str__(self) -> str:
        return f"{self.run_id}.{self.number:04d}.{self.worker}"

    @property
    def folder(self) -> str:
        return f"{RUNS}/{self}"

    @property
    def claim_file(self) -> str:
        return f"{LEDGER}/{self}.claim.json"

    @property
    def record_file(self) -> str:
        return f"{LEDGER}/{self}.record.json"

    @property
    def results_folder(self) -> str:
        return f"{self.folder}/results"

    @property
    def results_manifest(self) -> str:
        return f"{self.results_folder}/manifest.json"

    def checkpoint_file(self, *, step: int, fits_finished: int) -> str:
        """The manifest of the checkpoint at `step`; one fit's end and the next one's start share a step."""
        return f"{self.folder}/ckpt-{step:010d}-{fits_finished:03d}.json"

    def fit_file(self, fit: int) -> str:
        """The manifest of the pinned end of the fit with index `fit`, from 0."""
        return f"{self.folder}/fit-{fit:03d}.json"

    def pack_file(self, sha256: str) -> str:
        return f"{self.folder}/pack-{sha256}"

    def log_segment(self, number: int) -> str:
        return f"{self.folder}/log-{number:05d}.txt"

    def metrics_segment(self, number: int) -> str:
        return f"{self.folder}/metrics-{number:05d}.jsonl"


CHECKPOINT_NAME = re.compile(r"ckpt-([0-9]{10,})-([0-9]{3,})\.json")


def entries_of(run_id: str) -> str:
    """How the names of all files begin that the ledger has of the run."""
    return f"{run_id}."


def record_beside(claim_file: str) -> str:
    """The record of the attempt whose claim this is."""
    return f"{claim_file.removesuffix('claim.json')}record.json"


def run_file(run_id: str) -> str:
    """Where older versions wrote what is to be computed; now the submission says so."""
    return f"{LEDGER}/{run_id}.run.json"


def wish_file(run_id: str, kind: WishKind, wish_id: str) -> str:
    return f"{LEDGER}/{run_id}.{kind.value}.{wish_id}.json"


def schedule_file(job: str, what: str | ScheduleWish, file_id: str) -> str:
    """Of a job's schedule: that it was seen, where `what` is its tag, or what a person wishes of it."""
    return f"{SCHEDULES}/{job}.{what.value if isinstance(what, ScheduleWish) else what}.{file_id}.json"


def parse_schedule_name(path: str) -> tuple[str, str | ScheduleWish] | None:
    """The job, and the schedule's tag or a wish; None for a name that driverun does not write."""
    found = _SCHEDULE.fullmatch(path)
    if found is None:
        return None
    wishes = {wish.value: wish for wish in ScheduleWish}
    return found[1], wishes.get(found[2], found[2])


def code_file(code_sha256: str) -> str:
    return f"{CODE}/code-{code_sha256}.zip"


def packs_folder(source: str) -> str:
    """Where the packs of a data source lie."""
    return f"{META}/packs/{hashlib.sha256(source.encode()).hexdigest()[:16]}"


def env_folder(key: str) -> str:
    """Where installed packages lie, by a digest of all that decides which they are."""
    return f"{META}/envs/{key}"


def probe_file(probe_id: str) -> str:
    """Where something is written, read and taken away again, to see whether that works."""
    return f"{META}/probe-{probe_id}.txt"


def attempt_of_path(path: str) -> AttemptKey | None:
    """Whose attempt the folder or file at `path` belongs to; None for a path outside of every attempt."""
    found = _ATTEMPT.fullmatch(path)
    return AttemptKey(run_id=sys.intern(found[1]), number=int(found[2]), worker=found[3]) if found else None


def parse_ledger_name(path: str) -> LedgerName | None:
    """What the file at `path` is, or None for a name that driverun does not write."""
    found = _ENTRY.fullmatch(path)
    if found is None:
        return None
    run_id, number, worker, of_attempt, wish, wish_id = found.groups()
    run_id = sys.intern(run_id)
    if wish is not None:
        return LedgerName(kind=EntryKind.WISH, run_id=run_id, wish=_WISHES[wish], wish_id=wish_id)
    if of_attempt is not None:
        return LedgerName(kind=_OF_ATTEMPT[of_attempt], run_id=run_id, number=int(number), worker=worker)
    return LedgerName(kind=EntryKind.RUN, run_id=run_id)
