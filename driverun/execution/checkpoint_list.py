"""The checkpoints of a run that count, for people."""

from __future__ import annotations

from collections.abc import Iterable

from driverun.checkpoints.newest import find_checkpoints, load_manifest
from driverun.errors import IntegrityError, StoreError
from driverun.report.summary import CheckpointSummary
from driverun.runs.evidence import ClaimEvidence
from driverun.storage.base import ObjectStore


def checkpoint_summaries(
    store: ObjectStore, run_id: str, *, claims: Iterable[ClaimEvidence], resume_after: int
) -> tuple[CheckpointSummary, ...]:
    """The checkpoints that count, oldest first; what a listing does not tell is read from the manifest."""
    found = []
    for info in find_checkpoints(store, run_id, claims=tuple(claims), resume_after=resume_after):
        step, size_bytes, new_bytes = info.step, info.size_bytes, info.new_bytes
        if step is None or size_bytes is None or new_bytes is None:
            try:
                manifest = load_manifest(store, info.path).manifest
            except (IntegrityError, StoreError):
                continue
            step, size_bytes, new_bytes = manifest.header.step, manifest.size_bytes, manifest.new_bytes
        found.append(
            CheckpointSummary(
                step=step,
                attempt=info.key.number,
                size_bytes=size_bytes,
                new_bytes=new_bytes,
                created_at=info.created_at,
            )
        )
    return tuple(reversed(found))
