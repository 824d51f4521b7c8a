"""What a run lacks whoever asks: everything but time and the machine, which only a runtime can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from driverun.dispatch.trust import approval_text
from driverun.runs.evidence import RunEvidence
from driverun.runs.retries import tried_again_at
from driverun.runs.state import Derived, RunState, WaitingFor
from driverun.spec.model import JobSpec, StartFrom


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Something without which a run is not taken up."""

    waiting_for: WaitingFor | None  #: None: it lacks nothing but time on this runtime
    text: str  #: one line for people, with what to do
    until: datetime | None = None  #: when that is over, by the store's clock; None: nobody knows


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
    running_in: Callable[[str], int]  #: how many runs of the sweep of that id are at work
    now: Callable[[], datetime]  #: by the store's clock


def running_by_sweep(
    runs: Mapping[str, RunEvidence], state_of: Callable[[str], Derived | None]
) -> Counter[str]:
    """How many runs of each sweep are at work."""
    found: Counter[str] = Counter()
    for run_id, evidence in runs.items():
        sweep = evidence.submitted.get("sweep")
        if isinstance(sweep, str):
            derived = state_of(run_id)
            found[sweep] += derived is not None and derived.state is RunState.RUNNING
    return found


Reason = Callable[[Looked], Lack | None]


def lacks_of(looked: Looked) -> tuple[Lack, ...]:
    """All that keeps the run from being taken up on any runtime, what to mend first in front."""
    return tuple(lack for reason in REASONS if (lack := reason(looked)) is not None)


def _approval(looked: Looked) -> Lack | None:
    unapproved = looked.evidence.unapproved
    if unapproved is None:
        return None
    text = approval_text(looked.evidence.run_id, unapproved)
    return Lack(waiting_for=WaitingFor.APPROVAL, text=text)


def _data(looked: Looked) -> Lack | None:
    missing = tuple(looked.missing_data())
    if not missing:
        return None
    text = f"not on the root yet: {', '.join(missing)}. Upload it: driverun upload FILE {missing[0]}"
    return Lack(waiting_for=WaitingFor.DATA, text=text)


def _after(looked: Looked) -> Lack | None:
    open_: list[tuple[str, str]] = []  # of those that have not succeeded: run, and how it stands
    for run_id in runs_before(looked.evidence):
        derived = looked.state_of(run_id)
        if derived is None or derived.state is not RunState.SUCCEEDED:
            open_.append((run_id, derived.state.value if derived is not None else "not to be seen yet"))
    if not open_:
        return None
    ended = [each for each in open_ if each[1] in (RunState.FAILED.value, RunState.CANCELLED.value)]
    run_id, state = ended[0] if ended else open_[0]
    more = f" and {len(open_) - 1} more" if len(open_) > 1 else ""
    text = f"comes after {run_id} ({state}){more}"
    if ended:
        own_id = looked.evidence.run_id
        text += f". Mend that one: driverun retry {run_id}. Or give this one up: driverun cancel {own_id}"
    return Lack(waiting_for=WaitingFor.AFTER, text=text)


def runs_before(evidence: RunEvidence) -> tuple[str, ...]:
    """The runs that have to succeed before this one."""
    return tuple(run_id for _, run_id in results_given(evidence))


def results_given(evidence: RunEvidence) -> tuple[tuple[str, str], ...]:
    """Whose results the run is given: folder under data/ of its working folder, and the id of the run."""
    after = evidence.run_file.computed.get("after") if evidence.run_file is not None else None
    given: list[tuple[str, str]] = []
    for name, runs in after.items() if isinstance(after, Mapping) else ():
        if isinstance(runs, str):
            given.append((name, runs))
        elif isinstance(runs, list):
            given += [(f"{name}/{run_id}", run_id) for run_id in runs if isinstance(run_id, str)]
    return tuple(given)


def _origin(looked: Looked) -> Lack | None:
    """The run that this one begins with is to be at its end, or what it begins with depends on the moment."""
    begins_with = _begins_with(looked.evidence)
    if begins_with is None:
        return None
    run_id, what = begins_with
    derived = looked.state_of(run_id)
    state = derived.state if derived is not None else None
    if state is RunState.SUCCEEDED or (
        what == StartFrom.WEIGHTS.value and state is not None and state.is_over
    ):
        return None
    text = (
        f"begins with the {what} of {run_id} ({state.value if state is not None else 'not to be seen yet'})"
    )
    if state is not None and state.is_over:
        own_id = looked.evidence.run_id
        text += f". Mend that one: driverun retry {run_id}. Or give this one up: driverun cancel {own_id}"
    return Lack(waiting_for=WaitingFor.AFTER, text=text)


def _begins_with(evidence: RunEvidence) -> tuple[str, str] | None:
    """Which run, and what of it; None: with none, or it makes no sense, as the attempt will say."""
    named = evidence.run_file.computed.get("init_from") if evidence.run_file is not None else None
    if not isinstance(named, Mapping):
        return None
    run_id, what = named.get("run"), named.get("what")
    return (run_id, what) if isinstance(run_id, str) and isinstance(what, str) else None


def _sweep(looked: Looked) -> Lack | None:
    submitted = looked.evidence.submitted
    sweep, most = submitted.get("sweep"), submitted.get("max_parallel")
    if not isinstance(sweep, str) or not isinstance(most, int):
        return None
    running = looked.running_in(sweep)
    if running < most:
        return None
    text = f"the sweep {sweep} has {running} at work, and max_parallel is {most}"
    return Lack(waiting_for=WaitingFor.SWEEP, text=text)


def _backoff(looked: Looked) -> Lack | None:
    until = tried_again_at(looked.derived, first_s=looked.spec.retry.backoff_s)
    if until is None or until <= looked.now():
        return None
    errors = looked.derived.errors
    times = "once" if errors == 1 else f"{errors} times"
    text = f"failed {times} and rests until {until:%H:%M:%S} UTC: {looked.derived.reason}"
    return Lack(waiting_for=WaitingFor.BACKOFF, text=text, until=until)


#: Every reason there is, each a function of what a look found. A new one is a function and its line here.
REASONS: tuple[Reason, ...] = (_approval, _after, _origin, _data, _sweep, _backoff)
