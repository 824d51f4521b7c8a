"""The state of another run as the beginning of a new one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driverun.checkpoints.manifest import StoredManifest
from driverun.checkpoints.newest import CheckpointInfo, find_checkpoints, load_manifest, walk_back
from driverun.checkpoints.restore import Restored, restore
from driverun.dispatch.ledger import Ledger
from driverun.errors import IntegrityError, JobError, ObjectNotFound
from driverun.execution.standing import state_as_alive
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.record import Exactness, RunFile
from driverun.runs.state import Derived, RunState
from driverun.spec.model import StartFrom
from driverun.spool.folder import SpoolFolder
from driverun.spool.snapshot import SnapshotKind
from driverun.storage.base import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The run that a new one begins with."""

    run_id: str
    what: StartFrom
    claims: tuple[ClaimEvidence, ...]
    resume_after: int
    computed: Mapping[str, Any]
    step: int  #: as its newest record tells: of its end where it has succeeded, else of its newest checkpoint
    state_sha256: str | None  #: None: it is not finished, or trained nothing
    approximate_for: tuple[str, ...]  #: why it is approximate itself

    def told(self, step: int) -> str:
        """One line for the record."""
        state = f", state {self.state_sha256[:12]}" if self.state_sha256 is not None else ""
        return f"{self.what.value} of {self.run_id} at step {step}{state}"


def origin_of(run_file: RunFile, ledger: Ledger) -> Origin | None:
    """What the run begins with; None where it begins with nothing.

    Raises:
        JobError: that run is not there any more.
    """
    named = run_file.computed.get("init_from")
    if not isinstance(named, Mapping):
        return None
    run_id = str(named["run"])
    evidence = ledger.detailed(run_id)
    if evidence is None:
        raise JobError(
            f"cannot begin with {run_id}: it is not on the root any more. Submit the job with another init_from"
        )
    derived = state_as_alive(evidence)
    records = [claim.record for claim in evidence.claims if claim.record is not None]
    reasons = [
        reason
        for record in records
        if record.exactness is Exactness.APPROXIMATE and record.number > derived.resume_after
        for reason in record.exactness_reasons
    ]
    return Origin(
        run_id=run_id,
        what=StartFrom(named["what"]),
        claims=evidence.claims,
        resume_after=derived.resume_after,
        computed=evidence.run_file.computed if evidence.run_file is not None else {},
        step=_step_of(derived),
        state_sha256=derived.record.state_sha256 if derived.record is not None else None,
        approximate_for=tuple(dict.fromkeys(reasons)),
    )


def _step_of(derived: Derived) -> int:
    if derived.state is RunState.SUCCEEDED:
        return derived.record.step if derived.record is not None else 0
    counting = (view for view in derived.attempts if view.key.number > derived.resume_after)
    return max((view.committed_step or 0 for view in counting), default=0)


def bring_state(
    store: ObjectStore, origin: Origin, *, into: SpoolFolder, cache: Path, say: Callable[[str], None]
) -> Restored | None:
    """Put the newest state in the middle of a fit into the spool, to be gone on from; None where there is none.

    The end of a fit is of no use: callbacks have changed the model there, as EarlyStopping does with the best weights.
    The finished fits before it lie in the spool as if this attempt had trained them, so that its own checkpoints do
    not stand on files of another run.
    """
    found = find_checkpoints(store, origin.run_id, claims=origin.claims, resume_after=origin.resume_after)
    for info in found:
        if info.kind is not SnapshotKind.CHECKPOINT:
            continue
        try:
            restored = restore(
                store, load_manifest(store, info.path, is_for_use=True), into=into, cache=cache
            )
        except (IntegrityError, ObjectNotFound) as exc:
            say(f"passed over {info.path}: {exc}")
            continue
        for ref in restored.fits:
            shutil.copytree(into.restored_fit(ref.fit), into.fit(ref.fit))
        return restored
    return None


def bring_weights(
    store: ObjectStore, origin: Origin, *, into: SpoolFolder, cache: Path, say: Callable[[str], None]
) -> int:
    """Put the newest state of the run where the first fit takes its weights from; gives its step.

    Raises:
        JobError: there is none that verifies.
    """
    aside = SpoolFolder(path=cache / "weights")

    def take(_: CheckpointInfo, stored: StoredManifest) -> Restored:
        if stored.manifest.header.state.get("variables_left_out"):
            raise IntegrityError("the variables at the end of that fit were not kept")
        return restore(store, stored, into=aside, cache=cache)

    restored = walk_back(
        store,
        origin.run_id,
        claims=origin.claims,
        take=take,
        resume_after=origin.resume_after,
        skipped=say,
    )
    if restored is None:
        raise JobError(
            f"cannot start from the weights of {origin.run_id}: it has no checkpoint that verifies."
            " Submit the job with another init_from"
        )
    last = aside.restored_checkpoint if restored.has_checkpoint else aside.restored_fit(restored.fits[-1].fit)
    shutil.rmtree(into.initial_weights, ignore_errors=True)
    into.initial_weights.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(last, into.initial_weights)
    shutil.rmtree(aside.path, ignore_errors=True)
    return restored.header.step


def why_not_exact(origin: Origin, run_file: RunFile) -> tuple[str, ...]:
    """Why continuing that run gives another result than training for so long at once; not for its code."""
    there, here = origin.computed, run_file.computed
    reasons = [
        f"{origin.run_id}, which is continued, is approximate: {each}" for each in origin.approximate_for
    ]
    for name in ("seed", "deterministic", "backend", "requirements", "entrypoint"):
        if there.get(name) != here.get(name):
            reasons.append(f"{name} is {here.get(name)}, and was {there.get(name)} in {origin.run_id}")
    before, now = there.get("params", {}), here.get("params", {})
    differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    others = [name for name in differing if "epoch" not in name.lower()]
    if others:
        told = ", ".join(f"{name} ({before.get(name)}, now {now.get(name)})" for name in others)
        reasons.append(f"params differ from those of {origin.run_id} in more than epochs: {told}")
    return tuple(reasons)
