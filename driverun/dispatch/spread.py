"""Which of the foremost runs a worker asks for, so that many workers do not all ask for the same one.

A claim that comes second has cost a listing lag of waiting. If all took the oldest run, a root would begin one run in
each listing lag, however many workers it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from driverun.runs.evidence import RunEvidence
from driverun.runs.state import Derived, RunState

REMEMBERED_S = 120.0  #: for a worker that was seen at a run, whatever became of that


def pick(run_ids: Sequence[str], *, others: int, worker: str, turn: int) -> str:
    """One of the first `others` + 1 of `run_ids`, another for each worker, and another at each turn.

    Alone, a worker takes the first. Among others the first may be passed over, by chance and never for long.

    Args:
        run_ids: in the order of the queue; at least one.
        others: how many workers are likely to ask at the same time.
        turn: how often the worker has asked before.
    """
    foremost = run_ids[: others + 1]
    return min(foremost, key=lambda run_id: hashlib.sha256(f"{worker} {turn} {run_id}".encode()).digest())


class Others:
    """The workers that are about, as far as claims tell."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._seen_s: dict[str, float] = {}

    def count(self, runs: Iterable[tuple[RunEvidence, Derived]], *, now_s: float) -> int:
        """How many workers beside this one have asked for a run that is RUNNING, now or a moment ago, and live.

        Args:
            runs: those that are not over.
            now_s: by the monotonic clock.
        """
        dead: set[str] = set()
        for evidence, derived in runs:
            dead.update(view.key.worker for view in derived.attempts if view.died)
            if derived.state is RunState.RUNNING:
                self._see(_askers(evidence), now_s)
        self._seen_s = {
            worker: seen_s
            for worker, seen_s in self._seen_s.items()
            if worker not in dead and now_s - seen_s < REMEMBERED_S
        }
        return len(self._seen_s)

    def _see(self, workers: Collection[str], now_s: float) -> None:
        self._seen_s.update((worker, now_s) for worker in workers if worker != self._worker)


def _askers(evidence: RunEvidence) -> set[str]:
    """Who asked for the newest number, whoever got it."""
    number = evidence.highest_number
    return {claim.key.worker for claim in evidence.claims if claim.key.number == number}
