"""What the root shows of one run, as values: the input of every rule in `state` and `ownership`.

All times are the store's own: those of two machines are never compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from driverun.runs.layout import AttemptKey, WishKind
from driverun.runs.record import ProcessId, Record, RunFile
from driverun.values import frozen_value


@frozen_value(frozen=True, slots=True, kw_only=True)
class ClaimEvidence:
    """One claim file that exists, with the record beside it."""

    key: AttemptKey
    created_at: datetime  #: of the claim
    object_id: str  #: of the claim
    process: ProcessId | None = None  #: who claimed; None where the content was not read or makes no sense
    record: Record | None = None  #: None: not there yet, or it makes no sense
    record_modified_at: datetime | None = None  #: of the record; never earlier than what `record` holds

    @property
    def worker_process(self) -> ProcessId | None:
        return self.record.process if self.record is not None else self.process


@frozen_value(frozen=True, slots=True, kw_only=True)
class WishEvidence:
    """One wish of a person."""

    kind: WishKind
    created_at: datetime
    object_id: str
    details: Mapping[str, Any]
    run_file: RunFile | None = None  #: what it asks to be computed; None where a file of its own says so
    author: str | None = None  #: who changed the file last; None: the store does not tell
    is_believed: bool = True  #: its author is somebody whose word about others counts
    is_head: bool = False  #: it is known by what a listing shows, from which details are missing

    @property
    def order(self) -> tuple[datetime, str]:
        """Sorts wishes as the store saw them come."""
        return (self.created_at, self.object_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unapproved:
    """Code that nobody has approved whose approval counts."""

    code_sha256: str
    computed_sha256: str  #: digest of what the run computes; its beginning, where the details are not known
    authors: tuple[str, ...]  #: who are to answer for it, and are not trusted


@frozen_value(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """Everything that the ledger holds about one run."""

    run_id: str
    #: What a submission said, or a file of its own on older roots; None: neither has been seen.
    run_file: RunFile | None = None
    created_at: datetime | None = None  #: of the run file, or of the first submission
    claims: tuple[ClaimEvidence, ...] = ()  #: in any order
    wishes: tuple[WishEvidence, ...] = ()  #: in any order
    is_cut: bool = False  #: a file of it is known by its head alone, which had no room for all
    author: str | None = None  #: of the run's own file, where there is one: who changed it last
    unapproved: Unapproved | None = None  #: what keeps the run from being taken up
    unapproved_retry: Unapproved | None = None  #: of a retry that does not count yet

    def newest_wish(self, *kinds: WishKind) -> WishEvidence | None:
        """The wish of these kinds that the store saw last."""
        if len(self.wishes) == 1:  # nearly always, and asked many times of each run
            return self.wishes[0] if self.wishes[0].kind in kinds else None
        wishes = (wish for wish in self.wishes if wish.kind in kinds)
        return max(wishes, key=lambda wish: wish.order, default=None)

    @property
    def submitted(self) -> Mapping[str, Any]:
        """All that the newest submission says; empty where none has been seen."""
        wish = self.newest_wish(WishKind.SUBMIT)
        return wish.details if wish is not None else {}

    @property
    def spec(self) -> Mapping[str, Any] | None:
        """The resolved spec as it was submitted last; None where no submission has been seen."""
        spec = self.submitted.get("spec")
        return spec if isinstance(spec, Mapping) else None

    @property
    def max_errors(self) -> int:
        """So many failed attempts make the run FAILED; 1 where no submission says."""
        spec = self.spec
        rules = spec.get("retry") if spec is not None else None
        said = rules.get("max_errors") if isinstance(rules, Mapping) else None
        return said if isinstance(said, int) else 1

    @property
    def is_complete(self) -> bool:
        """Is all there that a worker needs?"""
        return self.run_file is not None and self.spec is not None

    @property
    def is_read(self) -> bool:
        """Has every wish been read, so that nothing of them is known by a listing alone?"""
        return not any(wish.is_head for wish in self.wishes)

    @property
    def highest_number(self) -> int:
        """Of all claims; 0 where there is none."""
        return max((claim.key.number for claim in self.claims), default=0)
