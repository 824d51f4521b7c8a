"""Which run a worker takes up next."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import WishKind
from driverun.runs.state import WaitingFor
from driverun.spec.model import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What this runtime has to give."""

    accelerators: frozenset[Accelerator] = frozenset()  #: GPU, TPU
    allows_cpu: bool = True  #: may jobs that ask for nothing run without an accelerator?


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A claimable run, as far as the choice goes."""

    run_id: str
    created_at: datetime  #: of the run file, by the store's clock
    priority: int = 0  #: the higher, the earlier
    accelerator: Accelerator = Accelerator.ANY
    missing_data: tuple[str, ...] = ()  #: sources that are not on the root


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a run cannot be taken up here and now."""

    run_id: str
    waiting_for: WaitingFor
    text: str  #: one line for people, with what to do


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The run to take up, and the reasons for those that have to wait."""

    run_id: str | None
    waiting: tuple[Waiting, ...] = ()


def candidate_of(evidence: RunEvidence, *, missing_data: Collection[str] = ()) -> Candidate | None:
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
        missing_data=tuple(missing_data),
    )


def priority_of(evidence: RunEvidence) -> int:
    """The newest wish of a person for a priority, else what the spec says, else 0."""
    wish = evidence.newest_wish(WishKind.PRIORITY)
    for source in (wish.details if wish is not None else None, evidence.spec):
        if source is not None and isinstance(priority := source.get("priority"), int):
            return priority
    return 0


def waiting_for(candidate: Candidate, capabilities: Capabilities) -> Waiting | None:
    """What the run lacks on this runtime; None if it can be taken up."""
    wanted, given = candidate.accelerator, capabilities.accelerators
    if wanted is not Accelerator.ANY and wanted not in given:
        what = " and ".join(sorted(kind.name for kind in given)) or "no accelerator"
        text = f"wants a {wanted.name}; this runtime has {what}. Start a worker on one that has it"
    elif wanted is Accelerator.ANY and not given and not capabilities.allows_cpu:
        text = "this runtime has no accelerator. Switch to one that has, or allow the CPU: --allow-cpu"
    elif candidate.missing_data:
        sources = ", ".join(candidate.missing_data)
        text = f"not on the root yet: {sources}. Upload it: driverun upload FILE {candidate.missing_data[0]}"
        return Waiting(run_id=candidate.run_id, waiting_for=WaitingFor.DATA, text=text)
    else:
        return None
    return Waiting(run_id=candidate.run_id, waiting_for=WaitingFor.ACCELERATOR, text=text)


def next_run(candidates: Iterable[Candidate], capabilities: Capabilities) -> Choice:
    """The first candidate by priority, then age, that lacks nothing."""
    chosen: str | None = None
    waiting: list[Waiting] = []
    for candidate in sorted(candidates, key=lambda run: (-run.priority, run.created_at, run.run_id)):
        lack = waiting_for(candidate, capabilities)
        if lack is not None:
            waiting.append(lack)
        elif chosen is None:
            chosen = candidate.run_id
    return Choice(run_id=chosen, waiting=tuple(waiting))
