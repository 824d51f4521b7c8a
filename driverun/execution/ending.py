"""All that may end an attempt before its job does: a person, the deadline, another worker, a limit."""

from __future__ import annotations

from driverun.execution.context import WorkerContext
from driverun.execution.limits import LimitWatch
from driverun.execution.outcome import CANCELLED, Outcome
from driverun.execution.ownership import OwnershipWatch
from driverun.execution.stopping import Abandoned


class Ended(Exception):
    """Somebody asked for the end while there was nothing yet that had to be kept."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class EndWatch:
    """Answers whether the attempt is to end. It may be used from many threads."""

    def __init__(self, context: WorkerContext, ownership: OwnershipWatch, limits: LimitWatch) -> None:
        self._stop = context.stop
        self._clock = context.clock
        self.ownership = ownership
        self.limits = limits

    def is_abandoned(self) -> bool:
        return self._stop.abandon

    def is_urgent(self) -> bool:
        """Somebody asked for the end, or the run is another's: only what has to be kept is worth waiting for."""
        return self._stop.stop is not None or self.ownership.lost is not None

    def is_wanted(self) -> bool:
        """As `is_urgent`, or the run was cancelled: nothing is worth waiting for as long as nothing was trained."""
        return self.is_urgent() or self.ownership.cancel_requested

    def raise_if_over(self) -> None:
        """Raise what ends the attempt while there is nothing yet that has to be kept.

        Raises:
            LostOwnership: the run is another's.
            Abandoned: a person has asked twice.
            Ended: for any other reason, which its outcome tells.
        """
        if self.ownership.lost is not None:
            raise self.ownership.lost
        if self.ownership.cancel_requested:
            raise Ended(CANCELLED)
        if self.is_abandoned():
            raise Abandoned
        if self._stop.stop is not None:
            raise Ended(Outcome.interrupted(self._stop.stop.value))
        timed_out = self.limits.timed_out(self._clock.monotonic())
        if timed_out is not None:
            raise Ended(Outcome.failed(timed_out))
