"""What a run lacks whoever asks: everything but time and the machine, which only a runtime can tell."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from driverun.runs.evidence import RunEvidence
from driverun.runs.state import Derived, WaitingFor
from driverun.spec.model import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Something without which a run is not taken up."""

    waiting_for: WaitingFor | None  #: None: it lacks nothing but time on this runtime
    text: str  #: one line for people, with what to do


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at the root found of one run that is claimable.

    What costs a request or a computation is asked by a call, and only by the reasons that need it.
    """

    evidence: RunEvidence
    derived: Derived
    spec: JobSpec
    missing_data: Callable[[], Collection[str]]  #: sources that are not on the root
    state_of: Callable[[str], Derived | None]  #: how another run stands; None: there is none of that id


Reason = Callable[[Looked], Lack | None]


def lacks_of(looked: Looked) -> tuple[Lack, ...]:
    """All that keeps the run from being taken up on any runtime, what to mend first in front."""
    return tuple(lack for reason in REASONS if (lack := reason(looked)) is not None)


def _data(looked: Looked) -> Lack | None:
    missing = tuple(looked.missing_data())
    if not missing:
        return None
    text = f"not on the root yet: {', '.join(missing)}. Upload it: driverun upload FILE {missing[0]}"
    return Lack(waiting_for=WaitingFor.DATA, text=text)


#: Every reason there is, each a function of what a look found. A new one is a function and its line here.
REASONS: tuple[Reason, ...] = (_data,)
