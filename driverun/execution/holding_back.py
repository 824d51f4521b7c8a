"""Runs that could not go on at a worker, for no fault of their own: what kept them may still be so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from driverun.execution.outcome import Outcome
from driverun.runs.record import AttemptState

REST_S = 60.0  #: for a run that could not go on here; doubled each time
LONGEST_REST_S = 600.0
TRIES = 3  #: after these in a row, a worker that is to end leaves the run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    until_s: float  # inf: this worker has given up
    tries: int
    reason: str


class HeldBack:
    """Remembers for one worker which runs are to rest. All moments are of the monotonic clock."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}

    def forget(self, run_id: str) -> None:
        """Whatever kept it before, the run is not held back."""
        self._rests.pop(run_id, None)

    def note(self, run_id: str, outcome: Outcome, *, now_s: float, may_give_up: bool) -> float | None:
        """Take note of how an attempt ended; gives for how long its run rests now, or None where it does not.

        Args:
            may_give_up: whether the run is left for good, which is inf, after TRIES attempts that did not move it on.
        """
        before = self._rests.pop(run_id, None)
        if outcome.state is not AttemptState.INTERRUPTED or outcome.superseded:
            return None
        tries = before.tries + 1 if before is not None and not outcome.moved_on else 1
        rest_s = min(REST_S * 2.0 ** (tries - 1), LONGEST_REST_S)
        if tries >= TRIES and may_give_up:
            rest_s = math.inf
        self._rests[run_id] = _Rest(until_s=now_s + rest_s, tries=tries, reason=outcome.reason)
        return rest_s

    def holds(self, run_id: str, *, now_s: float) -> bool:
        """Is the run still to rest?"""
        known = self._rests.get(run_id)
        return known is not None and known.until_s > now_s

    def reason(self, run_id: str) -> str | None:
        """What kept the run when it was tried last, whether it still rests or not; None: nothing did."""
        known = self._rests.get(run_id)
        return known.reason if known is not None else None

    def ends(self) -> Iterator[tuple[str, float]]:
        """The runs that were not given up, each with the moment from which on it may be tried again."""
        for run_id, known in self._rests.items():
            if math.isfinite(known.until_s):
                yield run_id, known.until_s
