"""What follows from a run's errors: how long it rests, and which of them no further try would mend."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from driverun.runs.attempts import AttemptView
from driverun.runs.record import AttemptState, brief

if TYPE_CHECKING:
    from driverun.runs.state import Derived

MEMORY = "memory"  #: the kind of a failure: the system killed the training process for its memory
TIMEOUT = "Timeout"  #: the kind of a failure: the run has worked for as long as its job allows
REQUIREMENTS = (
    "RequirementsError"  #: the kind of a failure: what packages a job asks for cannot be had together
)
LASTING = frozenset(
    {MEMORY, TIMEOUT, REQUIREMENTS}
)  #: kinds that end a run at once, however many errors are forgiven
LONGEST_BACKOFF_S = 3600.0


def lasting_reason(recent: Sequence[AttemptView]) -> str | None:
    """Why the run is not tried again although errors are left to be forgiven; None where it is.

    Args:
        recent: its attempts that owned their numbers, since the last retry that a person asked for, by number.
    """
    failed = [view for view in recent if view.state is AttemptState.FAILED]
    if not failed:
        return None
    last = failed[-1]
    if last.failure is not None and last.failure.kind in LASTING:
        return last.reason
    if len(failed) > 1 and recent[-1] is last and _is_the_same(failed[-2], last):
        return f"{last.reason} (the same error twice in a row at step {last.last_step}: a third try would meet it too)"
    return None


def _is_the_same(before: AttemptView, last: AttemptView) -> bool:
    """Did both trip over one thing in the middle of training? Before a first step it may be a network's mood."""
    if before.failure is None or last.failure is None or last.first_step is None or last.last_step is None:
        return False
    has_trained = last.first_step < last.last_step
    same_place = before.last_step == last.last_step
    return (
        has_trained
        and same_place
        and before.failure.kind == last.failure.kind
        and brief(before.failure.message) == brief(last.failure.message)
    )


def backoff_s(errors: int, *, first_s: float) -> float:
    """How long a run rests after so many errors: `first_s`, doubled with each further one, an hour at most."""
    doublings = min(max(errors - 1, 0), 64)
    return min(first_s * 2.0**doublings, LONGEST_BACKOFF_S)


def tried_again_at(derived: Derived, *, first_s: float) -> datetime | None:
    """When the run may be taken up again after its last error, by the store's clock; None: it need not rest."""
    owned = [view for view in derived.attempts if view.owned]
    if not derived.state.is_claimable or not derived.errors or not owned:
        return None
    newest = owned[-1]
    if newest.state is not AttemptState.FAILED or newest.ended_at is None:
        return None  # another attempt has come since, so it has rested
    return newest.ended_at + timedelta(seconds=backoff_s(derived.errors, first_s=first_s))


def worked_s(derived: Derived) -> float:
    """For how long attempts have worked on the run since the last retry that a person asked for, by the store's clock.

    Of one that is at work nothing is counted, of one that died the time until its last sign of life.
    """
    since = derived.retried_at
    return sum(
        (view.ended_at - view.started_at).total_seconds()
        for view in derived.attempts
        if view.owned and view.ended_at is not None and (since is None or view.started_at > since)
    )
