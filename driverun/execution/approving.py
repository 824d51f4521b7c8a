"""What a person sees of code before it may run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driverun.errors import UsageError
from driverun.runs.evidence import RunEvidence, Unapproved
from driverun.spec.model import JobSpec
from driverun.storage.base import ObjectStore
from driverun.transfer.code import JobFile, JobFiles, stored_code

HEAD_LINES = 60  #: of the entrypoint, where there is nothing to compare with
LONGEST_DIFF = 2000  #: lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one file of the code differs from what ran before."""

    path: str
    diff: str  #: unified; of what is no text, a line that says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Code that waits for approval, as one look showed it."""

    run_id: str
    code_sha256: str
    computed_sha256: str
    authors: tuple[str, ...]  #: who are to answer for it, and are not trusted
    files: Mapping[str, int]  #: path -> size in bytes
    entrypoint: str
    params: Mapping[str, Any]
    requirements: tuple[str, ...]
    reads: tuple[str, ...]  #: sources of its data, and jobs and runs whose results or state it is given
    secrets: tuple[str, ...]  #: names of those that the code would get
    before: str | None  #: the run whose code it is compared with; None: no code of that job has run
    changes: tuple[Change, ...]  #: against `before`
    head: str  #: of the entrypoint; "" where there is something to compare with

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "code_sha256": self.code_sha256,
            "computed_sha256": self.computed_sha256,
            "authors": list(self.authors),
            "files": dict(self.files),
            "entrypoint": self.entrypoint,
            "params": dict(self.params),
            "requirements": list(self.requirements),
            "reads": list(self.reads),
            "secrets": list(self.secrets),
            "before": self.before,
            "changes": [{"path": change.path, "diff": change.diff} for change in self.changes],
        }

    @property
    def details(self) -> dict[str, Any]:
        """What a wish to approve says."""
        named = {"secrets": list(self.secrets)} if self.secrets else {}
        return {"code_sha256": self.code_sha256, "computed_sha256": self.computed_sha256, **named}


def waits_for_approval(evidence: RunEvidence) -> Unapproved | None:
    """What of the run waits: itself, else a retry that brings other code; None: nothing does."""
    return evidence.unapproved or evidence.unapproved_retry


def review_of(
    store: ObjectStore, evidence: RunEvidence, spec: JobSpec | None, runs: Mapping[str, RunEvidence]
) -> Review:
    """What would run.

    Args:
        runs: all of the root, of which one gives the code to compare with.

    Raises:
        UsageError: nothing of the run waits for approval, or it makes no sense.
        ObjectNotFound: the root does not hold its code.
        IntegrityError: what the root holds is not this code.
    """
    run_id = evidence.run_id
    waiting = waits_for_approval(evidence)
    if waiting is None:
        raise UsageError(
            f"cannot approve {run_id}: nothing of it waits for approval. See it with: driverun status {run_id}"
        )
    if spec is None or evidence.run_file is None or not waiting.computed_sha256:
        raise UsageError(
            f"cannot approve {run_id}: its files in the ledger make no sense, so it cannot run at all"
        )
    code = stored_code(store, waiting.code_sha256)
    before = _before(evidence, runs, waiting)
    former = stored_code(store, before[1]) if before is not None else None
    return Review(
        run_id=run_id,
        code_sha256=waiting.code_sha256,
        computed_sha256=waiting.computed_sha256,
        authors=waiting.authors,
        files={path: len(file.content) for path, file in sorted(code.files.items())},
        entrypoint=" ".join([spec.entrypoint.value, *spec.entrypoint.argv]).strip(),
        params=dict(spec.params),
        requirements=tuple(spec.requirements),
        reads=_reads(spec),
        secrets=tuple(sorted({secret.name for secret in spec.secrets})),
        before=before[0] if before is not None else None,
        changes=_changes(former, code) if former is not None else (),
        head=_head(code, spec.entrypoint.value) if former is None else "",
    )


def refuse_other_code(review: Review, seen: str) -> None:
    """Raise UsageError where the code is not the one whose digest, or its beginning, somebody has seen."""
    if len(seen) < 8 or not review.code_sha256.startswith(seen.lower()):
        raise UsageError(
            f"cannot approve {review.run_id}: its code is {review.code_sha256[:12]} now, not {seen}. "
            f"Look at it again: driverun approve {review.run_id} --show"
        )


def _reads(spec: JobSpec) -> tuple[str, ...]:
    """What it is given beside its code, of which none is in the code that is shown."""
    begins_with = (spec.init_from.run,) if spec.init_from is not None else ()
    return (*(source.source for source in spec.data), *spec.after, *begins_with)


def _before(
    evidence: RunEvidence, runs: Mapping[str, RunEvidence], waiting: Unapproved
) -> tuple[str, str] | None:
    """The newest run of the same job that may run as it is: its id, and its code."""
    if evidence.unapproved is None and evidence.run_file is not None:
        return evidence.run_id, evidence.run_file.code_sha256  # it is about a retry
    found = [
        (str(other.created_at), other.run_id, other.run_file.code_sha256)
        for other in runs.values()
        if other.unapproved is None
        and other.run_file is not None
        and other.is_complete
        and other.submitted.get("job") == evidence.submitted.get("job")
        and other.run_file.code_sha256 != waiting.code_sha256
    ]
    newest = max(found, default=None)
    return newest[1:] if newest is not None else None


def _changes(former: JobFiles, code: JobFiles) -> tuple[Change, ...]:
    paths = sorted({*former.files, *code.files})
    return tuple(
        Change(path=path, diff=_diff(path, former.files.get(path), code.files.get(path)))
        for path in paths
        if former.files.get(path) != code.files.get(path)
    )


def _diff(path: str, former: JobFile | None, now: JobFile | None) -> str:
    try:
        before = former.content.decode().splitlines() if former is not None else []
        after = now.content.decode().splitlines() if now is not None else []
    except UnicodeDecodeError:
        return f"{path}: is no text; it {'is new' if former is None else 'has changed' if now else 'is gone'}"
    found = list(
        difflib.unified_diff(
            before,
            after,
            f"before/{path}" if former is not None else "/dev/null",
            f"now/{path}" if now is not None else "/dev/null",
            lineterm="",
        )
    )
    more = [f"... and {len(found) - LONGEST_DIFF} lines more"] if len(found) > LONGEST_DIFF else []
    return "\n".join([*found[:LONGEST_DIFF], *more])


def _head(code: JobFiles, path: str) -> str:
    file = code.files.get(path)
    if file is None:
        return ""
    lines = file.content.decode(errors="backslashreplace").splitlines()
    more = [f"... and {len(lines) - HEAD_LINES} lines more"] if len(lines) > HEAD_LINES else []
    return "\n".join([*lines[:HEAD_LINES], *more])
