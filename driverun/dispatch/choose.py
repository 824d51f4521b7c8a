"""Which run a worker takes up next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from driverun.dispatch.lacks import Lack
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import WishKind
from driverun.runs.state import WaitingFor
from driverun.spec.model import Accelerator

FIRST_CHECKPOINT = (
    "first_checkpoint_s"  #: where an attempt's environment says how long its first checkpoint took
)
FIRST_CHECKPOINT_S = 120.0  #: expected of a run that no attempt has told it of
_A_YEAR_S = 366 * 86_400  # beyond it somebody else wrote the record
MOST_MEMORY_BYTES = 10**18  #: likewise of a spec; it waits all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What this runtime has to give."""

    accelerators: frozenset[Accelerator] = frozenset()  #: GPU, TPU
    allows_cpu: bool = True  #: may jobs that ask for nothing run without an accelerator?
    memory_bytes: int = 0  #: main memory in all; 0: it does not tell, and no run waits for more


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A claimable run, as far as the choice goes."""

    run_id: str
    created_at: datetime  #: of the run file, by the store's clock
    priority: int = 0  #: the higher, the earlier
    accelerator: Accelerator = Accelerator.ANY
    min_memory_bytes: int = 0  #: of main memory; 0: whatever there is
    lacks: tuple[Lack, ...] = ()  #: what keeps it waiting on every runtime, as `lacks_of` found it
    first_checkpoint_s: float | None = None  #: how long an earlier attempt took to it; None: nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a run cannot be taken up here and now."""

    run_id: str
    waiting_for: WaitingFor | None  #: None: the run lacks nothing but time on this runtime
    text: str  #: one line for people, with what to do
    until: datetime | None = None  #: when that is over, by the store's clock; None: nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The run to take up, and the reasons for those that have to wait."""

    run_id: str | None
    waiting: tuple[Waiting, ...] = ()


def candidate_of(evidence: RunEvidence, *, lacks: Iterable[Lack] = ()) -> Candidate | None:
    """The run as a candidate; None while files of its submission are still to be seen."""
    spec = evidence.spec
    if spec is None or evidence.created_at is None or not evidence.is_complete:
        return None
    wanted = spec.get("accelerator")
    return Candidate(
        run_id=evidence.run_id,
        created_at=evidence.created_at,
        priority=priority_of(evidence),
        accelerator=next((kind for kind in Accelerator if kind.value == wanted), Accelerator.ANY),
        min_memory_bytes=min(least, MOST_MEMORY_BYTES)
        if isinstance(least := spec.get("min_memory"), int)
        else 0,
        lacks=tuple(lacks),
        first_checkpoint_s=_first_checkpoint_s(evidence),
    )


def _first_checkpoint_s(evidence: RunEvidence) -> float | None:
    """What the newest attempt said that knows."""
    for claim in sorted(evidence.claims, key=lambda claim: claim.key, reverse=True):
        said = claim.record.environment.get(FIRST_CHECKPOINT) if claim.record is not None else None
        if isinstance(said, int | float) and 0 <= said <= _A_YEAR_S:
            return float(said)
    return None


def priority_of(evidence: RunEvidence) -> int:
    """The newest wish of a person for a priority, else what the spec says, else 0."""
    wish = evidence.newest_wish(WishKind.PRIORITY)
    for source in (wish.details if wish is not None else None, evidence.spec):
        if source is not None and isinstance(priority := source.get("priority"), int):
            return priority
    return 0


def waiting_for(candidate: Candidate, capabilities: Capabilities) -> Waiting | None:
    """What the run lacks on this runtime; None if it can be taken up."""
    of_runtime = (lack(candidate, capabilities) for lack in RUNTIME_REASONS)
    lack = next((lack for lack in (*of_runtime, *candidate.lacks) if lack is not None), None)
    if lack is None:
        return None
    return Waiting(run_id=candidate.run_id, waiting_for=lack.waiting_for, text=lack.text, until=lack.until)


def _accelerator(candidate: Candidate, capabilities: Capabilities) -> Lack | None:
    wanted, given = candidate.accelerator, capabilities.accelerators
    if wanted is not Accelerator.ANY and wanted not in given:
        what = " and ".join(sorted(kind.name for kind in given)) or "no accelerator"
        text = f"wants a {wanted.name}; this runtime has {what}. Start a worker on one that has it"
    elif wanted is Accelerator.ANY and not given and not capabilities.allows_cpu:
        text = "this runtime has no accelerator. Switch to one that has, or allow the CPU: --allow-cpu"
    else:
        return None
    return Lack(waiting_for=WaitingFor.ACCELERATOR, text=text)


def _memory(candidate: Candidate, capabilities: Capabilities) -> Lack | None:
    wanted, given = candidate.min_memory_bytes, capabilities.memory_bytes
    if not given or wanted <= given:
        return None
    text = (
        f"wants {_gb(wanted)} of main memory; this runtime has {_gb(given)}. Start a worker on one that has as much,"
        " or lower min_memory in the job file and submit it again"
    )
    return Lack(waiting_for=WaitingFor.MEMORY, text=text)


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


#: What a run may lack on one runtime and not on another; what it lacks everywhere is in `lacks.REASONS`.
RUNTIME_REASONS: tuple[Callable[[Candidate, Capabilities], Lack | None], ...] = (_accelerator, _memory)


def too_late(candidate: Candidate, left_s: float, *, usual_s: float = FIRST_CHECKPOINT_S) -> Waiting | None:
    """Why the run is not started now: it would come to nothing that is kept. None where there is time for it.

    Args:
        left_s: until this runtime hands over.
        usual_s: how long a run takes to its first checkpoint of which that is not known.
    """
    known_s = candidate.first_checkpoint_s
    if left_s >= (known_s if known_s is not None else usual_s):
        return None
    before = f", which took {_written(known_s)} before" if known_s is not None else ""
    text = (
        f"{_written(left_s)} are left on this runtime, too little for a first checkpoint{before};"
        " it goes on in the next"
    )
    return Waiting(run_id=candidate.run_id, waiting_for=None, text=text)


def _written(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def next_run(
    candidates: Iterable[Candidate],
    capabilities: Capabilities,
    *,
    left_s: float = math.inf,
    usual_s: float = FIRST_CHECKPOINT_S,
    pick: Callable[[Sequence[str]], str] = lambda run_ids: run_ids[0],
) -> Choice:
    """The first candidate by priority, then age, that lacks nothing and has the time for a first checkpoint.

    Args:
        left_s: until this runtime hands over.
        usual_s: as `too_late` has it.
        pick: which one to take of those that have the highest priority, in the order of their age.
    """
    ready: list[Candidate] = []
    waiting: list[Waiting] = []
    for candidate in sorted(candidates, key=lambda run: (-run.priority, run.created_at, run.run_id)):
        lack = waiting_for(candidate, capabilities) or too_late(candidate, left_s, usual_s=usual_s)
        if lack is not None:
            waiting.append(lack)
        elif not ready or candidate.priority == ready[0].priority:
            ready.append(candidate)
    chosen = pick([candidate.run_id for candidate in ready]) if ready else None
    return Choice(run_id=chosen, waiting=tuple(waiting))
