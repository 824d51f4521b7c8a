"""What lay on a root while it was looked at, deleted since or not, made into a log of its claims."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from driverun.dispatch.ledger import Ledger
from driverun.runs.claim_log import AttemptLog, RootObject
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import CHECKPOINT_NAME, AttemptKey, attempt_of_path
from driverun.runs.record import AttemptState


@dataclass(slots=True)
class RootHistory:
    """All that was seen, look by look."""

    _objects: dict[str, RootObject] = field(default_factory=dict)
    _written: dict[str, set[datetime]] = field(default_factory=dict)

    def take(self, objects: Iterable[RootObject]) -> None:
        """Add what one look showed."""
        for each in objects:
            self._objects[each.path] = each
            self._written.setdefault(each.path, set()).update(each.written_at)

    def created_at(self, path: str) -> datetime | None:
        found = self._objects.get(path)
        return found.created_at if found is not None else None

    def written_at(self, path: str) -> tuple[datetime, ...]:
        return tuple(sorted(self._written.get(path, ())))

    def by_attempt(self) -> dict[AttemptKey, list[RootObject]]:
        """What lay in the folder of each attempt."""
        found: dict[AttemptKey, list[RootObject]] = {}
        for path, each in self._objects.items():
            key = attempt_of_path(path)
            if key is not None:
                found.setdefault(key, []).append(each)
        return found


def attempt_logs(ledger: Ledger, history: RootHistory) -> list[AttemptLog]:
    """The log of all claims: with times as the root keeps them, and contents as they are in the end.

    Every file is read, since a listing does not tell whose process it was that is over.

    Args:
        ledger: as of its last refresh.
        history: has looked at the root since.
    """
    left = history.by_attempt()
    whole = [ledger.detailed(run_id) for run_id in ledger.runs]
    return [
        _attempt_log(claim, left.get(claim.key, []), history)
        for evidence in whole
        if evidence is not None
        for claim in evidence.claims
    ]


def _attempt_log(claim: ClaimEvidence, left: list[RootObject], history: RootHistory) -> AttemptLog:
    key, record = claim.key, claim.record
    beats = history.written_at(key.record_file)
    checkpoints: dict[int, tuple[datetime, ...]] = {}
    for each in left:
        found = CHECKPOINT_NAME.fullmatch(each.path.rpartition("/")[2])
        if found is not None:
            step = int(found[1])
            checkpoints[step] = (*checkpoints.get(step, ()), each.created_at)
    claimed_at = history.created_at(key.claim_file)
    assert claimed_at is not None, f"{key.claim_file} was read, and not seen"
    times = [*beats, *(at for each in left for at in (each.created_at, *each.written_at))]
    log = AttemptLog(
        key=key,
        claimed_at=claimed_at,
        object_id=claim.object_id,
        process=claim.worker_process,
        beats=beats,
        checkpoints=checkpoints,
        results_at=history.created_at(key.results_manifest),
        last_at=max(times, default=None),
    )
    if record is None:
        return log
    return replace(
        log,
        lease_s=record.lease_s,
        is_over=record.state.is_over,
        says_succeeded=record.state is AttemptState.SUCCEEDED,
        first_step=record.first_step,
    )
