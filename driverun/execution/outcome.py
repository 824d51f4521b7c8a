"""How an attempt ended, for its record, for the worker and for whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from driverun.runs.record import AttemptState, Failure, ResultsRef
from driverun.spool.masking import Masker


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended."""

    state: AttemptState
    reason: str
    superseded: bool = False  #: another worker owns the run; nothing more was written
    abandoned: bool = False  #: a person asked twice; nothing more was written
    moved_on: bool = False  #: it committed a checkpoint
    failure: Failure | None = None  #: what went wrong, of one that is FAILED
    results: ResultsRef | None = None  #: where they are, of one that is SUCCEEDED
    outputs_sha256: str | None = None  #: likewise: of what the script wrote

    @classmethod
    def failed(cls, failure: Failure) -> Self:
        return cls(state=AttemptState.FAILED, reason=failure.message, failure=failure)

    @classmethod
    def interrupted(cls, reason: str) -> Self:
        return cls(state=AttemptState.INTERRUPTED, reason=reason)

    def masked(self, masker: Masker) -> Self:
        """The outcome with no secret in any of its texts."""
        mask, failure = masker.text, self.failure
        if failure is not None:
            failure = replace(
                failure,
                kind=mask(failure.kind),
                message=mask(failure.message),
                traceback=mask(failure.traceback),
            )
        return replace(self, reason=mask(self.reason), failure=failure)


CANCELLED = Outcome(state=AttemptState.CANCELLED, reason="cancelled by a person")
ABANDONED = Outcome(state=AttemptState.INTERRUPTED, reason="abandoned by a person", abandoned=True)
