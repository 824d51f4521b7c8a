"""Where a run stood when a worker took it over."""

from __future__ import annotations

from dataclasses import replace

from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.state import Derived, derive_state


def state_before(evidence: RunEvidence, key: AttemptKey, *, max_errors: int = 1) -> Derived:
    """The state of the run without the claim of `key`, all other attempts being over: `key` owns the run now.

    Args:
        evidence: read once the claim had settled, so all that is older is in it.
        key: the attempt that was won.
        max_errors: as `derive_state` has it.
    """
    others = tuple(claim for claim in evidence.claims if claim.key != key)
    return derive_state(
        replace(evidence, claims=others),
        stale=frozenset(claim.key for claim in others),
        max_errors=max_errors,
    )
