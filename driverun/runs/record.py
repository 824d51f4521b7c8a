"""What workers and people write into the ledger, as values.

Each value has `to_bytes` and `from_bytes`. A reader ignores fields that it does not know and refuses a newer
major version.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar, cast

from pydantic import AwareDatetime, TypeAdapter

from driverun.errors import IntegrityError
from driverun.runs.layout import AttemptKey, WishKind
from driverun.values import frozen_value

SCHEMA_VERSION = 1
LONGEST_TEXT = 300  #: characters of a text for people that is there wherever its record is known

T = TypeVar("T")


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}  # building one costs milliseconds


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_fields(value: object) -> dict[str, Any]:
    """What a file or a head holds of one of these values, ready for JSON."""
    return {"schema_version": SCHEMA_VERSION, **_adapter(type(value)).dump_python(value, mode="json")}


def _dump(value: object) -> bytes:
    text = json.dumps(to_fields(value), sort_keys=True, indent=1)
    return f"{text}\n".encode()


def _load(kind: type[T], content: bytes) -> T:
    """Raises IntegrityError where `content` is no such value, or of a newer format."""
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise IntegrityError(f"this is no {kind.__name__} that driverun wrote: {exc}") from exc
    return from_fields(kind, raw)


def from_fields(kind: type[T], raw: Any) -> T:
    """Raises IntegrityError where the fields are of no such value, or of a newer format."""
    try:
        version = raw["schema_version"]
        if version > SCHEMA_VERSION:
            raise IntegrityError(
                f"cannot read a {kind.__name__} of format {version}: this driverun knows {SCHEMA_VERSION}. "
                "Install a newer one."
            )
        return cast(T, _adapter(kind).validate_python(raw))
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise IntegrityError(f"this is no {kind.__name__} that driverun wrote: {exc}") from exc


def brief(text: str) -> str:
    """So much of the text as is there wherever its record is known; what is decided by a text is decided by this."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


class AttemptState(enum.Enum):
    """How an attempt stands, as its own record says."""

    RUNNING = "RUNNING"  #: at work when the record was last written
    INTERRUPTED = "INTERRUPTED"  #: handed over in order: deadline, stop button, SIGTERM
    SUCCEEDED = "SUCCEEDED"  #: results of the run are committed
    FAILED = "FAILED"  #: the job's own code, its memory or its environment failed
    CANCELLED = "CANCELLED"  #: stopped because a person asked

    @property
    def is_over(self) -> bool:
        return self is not AttemptState.RUNNING


class Exactness(enum.Enum):
    """What a run's result can claim against one that was never interrupted."""

    EXACT = "exact"  #: the same bits
    STEP_EXACT = "step_exact"  #: no step lost or repeated, the same data order; other bits
    APPROXIMATE = "approximate"  #: something is missing or changed, with the reasons

    @property
    def rank(self) -> int:
        return list(Exactness).index(self)


def worst(*levels: Exactness) -> Exactness:
    """The weakest claim among `levels`; of none, EXACT."""
    return max(levels, key=lambda level: level.rank, default=Exactness.EXACT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """Which process on which machine, so that a neighbour can see at once that it is dead."""

    host: str
    boot_id: str  #: changes with every boot; "" where the system does not tell
    pid: int
    started: str  #: tells two processes of one pid apart; "" where the system does not tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The write-once file by which a worker asks for an attempt."""

    run_id: str
    number: int
    worker: str
    process: ProcessId
    claimed_at: AwareDatetime  #: by the worker's own clock, for people; the rule reads the store's time

    def to_bytes(self) -> bytes:
        return _dump(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        return _load(cls, content)

    @property
    def key(self) -> AttemptKey:
        return AttemptKey(run_id=self.run_id, number=self.number, worker=self.worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the job's own code ended badly."""

    kind: str  #: exception class, "exit code", "signal", "memory"
    message: str  #: one line, with what to do next
    traceback: str  #: "" where there is none


@frozen_value(frozen=True, slots=True, kw_only=True)
class ResultsRef:
    """Where an attempt found or put the results of the run."""

    path: str  #: the folder on the root
    created_at: AwareDatetime  #: of their manifest, by the store's clock


@frozen_value(frozen=True, slots=True, kw_only=True)
class Record:
    """An attempt's second file: heartbeat while it runs, outcome once it is over."""

    run_id: str
    number: int
    worker: str
    process: ProcessId
    state: AttemptState
    beat: int  #: counts the writes, so that two reads show whether it moved
    started_at: AwareDatetime
    updated_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    reason: str = ""  #: one line for people: why it ended, or what it is doing
    fit: int | None = None
    epoch: int | None = None  #: epochs finished in that fit
    step: int = 0  #: optimiser updates of the whole run so far
    first_step: int | None = None  #: the step this attempt took up from; None until training began
    total_steps: int | None = None  #: None where it cannot be known
    committed_step: int | None = None  #: of the newest checkpoint this attempt committed
    lease_s: float = 60.0  #: how long the record may stand still
    exactness: Exactness = Exactness.EXACT
    exactness_reasons: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)  #: "fit.<name>", "evaluate.<name>"
    state_sha256: str | None = None
    outputs_sha256: str | None = None
    results: ResultsRef | None = None
    failure: Failure | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)  #: versions, devices, host

    def to_bytes(self) -> bytes:
        return _dump(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        return _load(cls, content)

    @property
    def key(self) -> AttemptKey:
        return AttemptKey(run_id=self.run_id, number=self.number, worker=self.worker)

    def moved(self, **changes: Any) -> Self:
        """The next write of this record."""
        return replace(self, beat=self.beat + 1, **changes)


@frozen_value(frozen=True, slots=True, kw_only=True)
class RunFile:
    """What is to be computed: a function of the run's id alone. Submissions hold it; on older roots it is a file."""

    run_id: str
    name: str
    code_sha256: str
    computed: Mapping[str, Any]  #: what `spec.identity.computed_part` gave; its digest is in the id

    def to_bytes(self) -> bytes:
        return _dump(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        return _load(cls, content)


@frozen_value(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person asked of a run, once."""

    run_id: str
    kind: WishKind
    wish_id: str
    wished_at: AwareDatetime  #: by the person's own clock; order among wishes is the store's
    by: str  #: user@host, for people
    details: Mapping[str, Any] = field(default_factory=dict)
    #: SUBMIT: {"job": folder on the root or null, "job_sha256": of its files, "spec": the resolved spec,
    #:     "code_sha256", "computed": as a RunFile has them (on older roots they are in one),
    #:     "authors": of the job's files, where they are on the root}
    #: RETRY: {"fresh": bool, "code_sha256": what to run from now on, or null for the same, "authors": as above}
    #: APPROVE: {"code_sha256": of the code, "computed_sha256": whole digest of `computed`}

    def to_bytes(self) -> bytes:
        return _dump(self)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        return _load(cls, content)


def run_file_of(wish: Wish) -> RunFile | None:
    """What the submission says is to be computed; None for other wishes, and where a file of its own says so.

    Of a submission that is known by its head, `computed` is empty.
    """
    code_sha256 = wish.details.get("code_sha256")
    if wish.kind is not WishKind.SUBMIT or not isinstance(code_sha256, str):
        return None
    computed = wish.details.get("computed")
    return RunFile(
        run_id=wish.run_id,
        name=wish.run_id.rpartition("-")[0],
        code_sha256=code_sha256,
        computed=computed if isinstance(computed, Mapping) else {},
    )
