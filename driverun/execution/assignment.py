"""What an attempt is to carry out: the claim that was won, and all that was known of the run then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from driverun.execution.warm_start import Origin
from driverun.runs.attempts import AttemptView
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.record import RunFile
from driverun.runs.state import Derived
from driverun.spec.model import JobSpec
from driverun.transfer.given import GivenResults


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One won claim."""

    key: AttemptKey
    claims: tuple[
        ClaimEvidence, ...
    ]  #: of the run, as of the claim; newer ones are the ownership watch's to see
    run_file: RunFile
    spec: JobSpec
    derived: Derived  #: how the run stood before this attempt
    given: Sequence[GivenResults]  #: results of other runs that are among its data
    origin: Callable[[], Origin | None]  #: asks what it begins with, if it has no checkpoint yet

    @property
    def code_sha256(self) -> str:
        """Of the code that runs: that of the newest retry, else that of the submission."""
        return self.derived.code_sha256 or self.run_file.code_sha256

    @property
    def earlier(self) -> list[AttemptView]:
        """The attempts before this one whose state it may take up."""
        derived = self.derived
        return [view for view in derived.attempts if view.key.number > derived.resume_after]
