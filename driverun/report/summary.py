"""Where a run stands, as one value that commands, pages and scripts read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from driverun.runs.attempts import AttemptView
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.record import AttemptState, Exactness, Failure, Record, worst
from driverun.runs.state import Derived, RunState, WaitingFor


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSummary:
    """How one attempt went, for people. Times are the store's."""

    number: int
    worker: str
    state: AttemptState
    started_at: datetime
    ended_at: datetime | None
    first_step: int | None
    last_step: int | None  #: as last heard of; a power cut may have taken some more
    committed_step: int | None = None
    reason: str = ""
    owned: bool = True  #: False: the number went to another worker, nothing of this attempt counts
    died: bool = False  #: it ended without a word
    exactness: Exactness = Exactness.EXACT

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "worker": self.worker,
            "state": self.state.value,
            "started_at": timestamp(self.started_at),
            "ended_at": timestamp(self.ended_at) if self.ended_at is not None else None,
            "first_step": self.first_step,
            "last_step": self.last_step,
            "committed_step": self.committed_step,
            "reason": self.reason,
            "owned": self.owned,
            "died": self.died,
            "exactness": self.exactness.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSummary:
    """One checkpoint that counts."""

    step: int
    attempt: int  #: number of the attempt that committed it
    size_bytes: int  #: of the whole state
    new_bytes: int  #: that had to be uploaded for it
    created_at: datetime  #: of the manifest, by the store's clock

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "attempt": self.attempt,
            "size_bytes": self.size_bytes,
            "new_bytes": self.new_bytes,
            "created_at": timestamp(self.created_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSummary:
    """Who holds the run at present, and when it was heard of."""

    worker: str
    lease_s: float
    heard_at: datetime  #: by the store's clock

    def to_json(self) -> dict[str, Any]:
        return {"worker": self.worker, "lease_s": self.lease_s, "heard_at": timestamp(self.heard_at)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Where a run stands."""

    run_id: str
    name: str
    state: RunState
    waiting_for: WaitingFor | None = None
    reason: str = ""  #: one line; "" where there is nothing to say
    exactness: Exactness = Exactness.EXACT  #: of what has been computed so far
    exactness_reasons: tuple[str, ...] = ()
    epoch: int | None = None  #: epochs finished in the fit in progress
    step: int = 0  #: optimiser updates of the whole run
    total_steps: int | None = None
    committed_step: int | None = None
    state_sha256: str | None = None
    outputs_sha256: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  #: "fit.<name>", "evaluate.<name>"
    attempts: tuple[AttemptSummary, ...] = ()
    checkpoints: tuple[CheckpointSummary, ...] = ()  #: oldest first
    results_path: str | None = None  #: folder on the root
    failure: Failure | None = None
    lease: LeaseSummary | None = None  #: only while RUNNING
    job: str | None = None  #: folder on the root it was submitted from
    priority: int | None = None
    created_at: datetime | None = None
    code_sha256: str | None = None  #: what runs: the run's own code, or what a retry asked for

    def to_json(self, details: bool = True) -> dict[str, Any]:
        """The object that scripts rely on; without `details`, attempts and checkpoints are left out.

        A metric that is not finite, which JSON cannot say, is the text "NaN", "Infinity" or "-Infinity".
        """
        shown: dict[str, Any] = {
            "run_id": self.run_id,
            "name": self.name,
            "state": self.state.value,
            "waiting_for": self.waiting_for.value if self.waiting_for is not None else None,
            "reason": self.reason,
            "exactness": self.exactness.value,
            "exactness_reasons": list(self.exactness_reasons),
            "epoch": self.epoch,
            "step": self.step,
            "total_steps": self.total_steps,
            "committed_step": self.committed_step,
            "state_sha256": self.state_sha256,
            "outputs_sha256": self.outputs_sha256,
            "metrics": {name: json_number(value) for name, value in self.metrics.items()},
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "checkpoints": [checkpoint.to_json() for checkpoint in self.checkpoints],
            "results": {"path": self.results_path} if self.results_path is not None else None,
            "error": _error_json(self.failure),
            "lease": self.lease.to_json() if self.lease is not None else None,
            "job": self.job,
            "priority": self.priority,
            "created_at": timestamp(self.created_at) if self.created_at is not None else None,
            "code_sha256": self.code_sha256,
        }
        if not details:
            del shown["attempts"], shown["checkpoints"]
        return shown


def summarize(
    evidence: RunEvidence,
    derived: Derived,
    *,
    checkpoints: Sequence[CheckpointSummary] = (),
    waiting_for: WaitingFor | None = None,
    lack: str = "",
    priority: int | None = None,
) -> RunSummary:
    """Where the run stands, for whoever wants to know.

    Args:
        evidence: all that the ledger holds about it.
        derived: what `derive_state` made of that.
        checkpoints: those that count, in any order.
        waiting_for: what keeps it from being claimed; passed over where the state is not claimable.
        lack: the same in one line, with what to do; passed over likewise.
        priority: as it stands after all wishes.
    """
    record = derived.record
    records = {claim.key: claim.record for claim in evidence.claims if claim.record is not None}
    relevant = _relevant_records(derived, records)
    committed_step = _committed_step(derived, checkpoints)
    submit = evidence.submitted
    run_file = evidence.run_file
    return RunSummary(
        run_id=derived.run_id,
        name=run_file.name if run_file is not None else derived.run_id.rpartition("-")[0],
        state=derived.state,
        waiting_for=waiting_for if derived.state.is_claimable else None,
        reason=(lack if derived.state.is_claimable else "") or derived.reason,
        exactness=worst(*(item.exactness for item in relevant)),
        exactness_reasons=tuple(
            dict.fromkeys(reason for item in relevant for reason in item.exactness_reasons)
        ),
        epoch=record.epoch if record is not None else None,
        step=_step(record, committed_step),
        total_steps=_newest_total(relevant),
        committed_step=committed_step,
        state_sha256=record.state_sha256 if record is not None else None,
        outputs_sha256=record.outputs_sha256 if record is not None else None,
        metrics=_metrics(derived, records, relevant),
        attempts=tuple(
            attempt_summary(
                view, exactness=records[view.key].exactness if view.key in records else Exactness.EXACT
            )
            for view in derived.attempts
        ),
        checkpoints=tuple(sorted(checkpoints, key=lambda item: (item.attempt, item.step, item.created_at))),
        results_path=derived.results.path if derived.results is not None else None,
        failure=_failure(derived, relevant),
        lease=_lease(derived),
        job=submit.get("job") if isinstance(submit.get("job"), str) else None,
        priority=priority,
        created_at=evidence.created_at,
        code_sha256=derived.code_sha256 or (run_file.code_sha256 if run_file is not None else None),
    )


def attempt_summary(view: AttemptView, *, exactness: Exactness = Exactness.EXACT) -> AttemptSummary:
    """What the root tells of an attempt."""
    return AttemptSummary(
        number=view.key.number,
        worker=view.key.worker,
        state=view.state,
        started_at=view.started_at,
        ended_at=view.ended_at,
        first_step=view.first_step,
        last_step=view.last_step,
        committed_step=view.committed_step,
        reason=view.reason,
        owned=view.owned,
        died=view.died,
        exactness=exactness,
    )


def timestamp(at: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and "Z"."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_number(value: float) -> float | str:
    """`value`, or the text that stands for it where JSON has no number for it."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _relevant_records(derived: Derived, records: Mapping[AttemptKey, Record]) -> list[Record]:
    """What those attempts said whose work is in the run: owners from the last fresh start to the results."""
    last = derived.results_key.number if derived.results_key is not None else None
    return [
        records[view.key]
        for view in derived.attempts
        if view.owned
        and view.key.number > derived.resume_after
        and (last is None or view.key.number <= last)
        and view.key in records
    ]


def _committed_step(derived: Derived, checkpoints: Sequence[CheckpointSummary]) -> int | None:
    steps = [item.step for item in checkpoints if item.attempt > derived.resume_after]
    for view in derived.attempts:
        if view.owned and view.key.number > derived.resume_after and view.committed_step is not None:
            steps.append(view.committed_step)
    return max(steps, default=None)


def _step(record: Record | None, committed_step: int | None) -> int:
    """How far the run has come; an attempt that has not begun to train stands where it will take up."""
    if record is None or (record.first_step is None and record.step == 0):
        return committed_step or 0
    return record.step


def _newest_total(records: Sequence[Record]) -> int | None:
    return next((item.total_steps for item in reversed(records) if item.total_steps is not None), None)


def _metrics(
    derived: Derived, records: Mapping[AttemptKey, Record], relevant: Sequence[Record]
) -> dict[str, float]:
    candidates = [derived.record] if derived.results is not None else []
    if derived.results_key is not None:
        candidates.append(records.get(derived.results_key))
    candidates += reversed(relevant)
    return next((dict(item.metrics) for item in candidates if item is not None and item.metrics), {})


def _failure(derived: Derived, relevant: Sequence[Record]) -> Failure | None:
    """Why the newest attempt that failed did so; of no interest where the run ended for another reason."""
    if derived.state is RunState.SUCCEEDED or derived.is_poisoned:
        return None
    return next((item.failure for item in reversed(relevant) if item.failure is not None), None)


def _lease(derived: Derived) -> LeaseSummary | None:
    owner = derived.owner
    if derived.state is not RunState.RUNNING or owner is None or owner.record is None:
        return None
    return LeaseSummary(
        worker=owner.key.worker,
        lease_s=owner.record.lease_s,
        heard_at=owner.record_modified_at or owner.created_at,
    )


def _error_json(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    return {"kind": failure.kind, "message": failure.message, "traceback": failure.traceback}
