"""Protocols that are broken on purpose, each in one place, to see that the explorer notices."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from driverun.checkpoints import newest, retention
from driverun.clock import Clock
from driverun.dispatch import claim, lease, results
from driverun.execution import ownership as watching
from driverun.runs import ownership, state
from driverun.runs.evidence import ClaimEvidence, RunEvidence, WishEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.record import ResultsRef
from driverun.storage.base import ObjectStore
from tests.model.explore import Scenario
from tests.model.program import Job, Wait

PROGRAMS = ("tests.model.program", "tests.model.replay")  #: they call what is replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """What is broken, where that shows, and by what."""

    name: str
    original: Any  #: a function of driverun, or (class, name of its method)
    replacement: Any
    scenario: Scenario = field(default_factory=lambda: Scenario(name="broken"))
    says: str = ""  #: part of the violation

    def __str__(self) -> str:
        return self.name

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let the replacement be called everywhere, for the block."""
        if isinstance(self.original, tuple):
            places = [(self.original[0], self.original[1])]
        else:
            places = [
                (module, name)
                for module_name, module in list(sys.modules.items())
                if module_name.startswith("driverun.") or module_name in PROGRAMS
                for name, value in list(vars(module).items())
                if value is self.original
            ]
        assert places, f"nothing is replaced for {self.name}"
        before = [vars(place)[name] for place, name in places]
        for place, name in places:
            setattr(place, name, self.replacement)
        try:
            yield
        finally:
            for (place, name), value in zip(places, before, strict=True):
                setattr(place, name, value)


def _owner_by_name(claims: Iterable[ClaimEvidence], number: int) -> ClaimEvidence | None:
    contenders = (each for each in claims if each.key.number == number)
    return min(contenders, key=lambda each: each.object_id, default=None)


def _counts_for_ever(*, key: AttemptKey, created_at: datetime, claims: Iterable[ClaimEvidence]) -> bool:
    owner = ownership.owner_of_number(claims, key.number)
    return owner is not None and owner.key == key


def _checked_before(self: Any, *args: Any) -> None:
    _sweep_begins(self, *args)
    self._checked = True


_sweep_begins = retention._Sweep.__init__


def _sure_at_once(
    store: ObjectStore, clock: Clock, key: AttemptKey, created_at: datetime, claims: Iterable[ClaimEvidence]
) -> ResultsRef:
    return ResultsRef(path=key.results_folder, created_at=created_at)


def _lag_alone(store: ObjectStore, settle_s: float = 0.0) -> float:
    return max(settle_s, store.listing_lag_s, 0.05)


def _second_newest(*args: Any, **more: Any) -> Any:
    return _find(*args, **more)[1:]


_find = newest.find_checkpoints


def _none_fresh(evidence: RunEvidence, retries: Sequence[WishEvidence]) -> int:
    return 0


def _never_lost(key: AttemptKey, claims: tuple[ClaimEvidence, ...]) -> tuple[ClaimEvidence, ...]:
    return claims


def _nobody_dies(claim: ClaimEvidence) -> bool:
    return False


SHORT = Scenario(name="broken", job=Job(commits=1))

MUTANTS = (
    Mutant(
        name="the owner of a number is the one of the lesser name",
        original=ownership.owner_of_number,
        replacement=_owner_by_name,
        scenario=SHORT,
        says="is begun, and so was",
    ),
    Mutant(
        name="a manifest counts whoever claimed the run before it",
        original=ownership.manifest_counts,
        replacement=_counts_for_ever,
        says="which does not count",
    ),
    Mutant(
        name="retention does not look whose the run is before it deletes",
        original=(retention._Sweep, "__init__"),
        replacement=_checked_before,
        scenario=Scenario(name="broken", job=Job(commits=3, wait=Wait.SWEEPING)),
        says="is deleted, the newest checkpoint that counts",
    ),
    Mutant(
        name="retention trusts a checkpoint that was committed a moment ago",
        original=(retention.Retention, "_is_settled"),
        replacement=lambda self, path: True,
        says="is deleted, the newest checkpoint that counts",
    ),
    Mutant(
        name="results are said to be there before that is certain",
        original=results.confirmed_results,
        replacement=_sure_at_once,
        scenario=SHORT,
        says="are taken for the run's, and do not count",
    ),
    Mutant(
        name="nobody looks for the results of an earlier attempt",
        original=results.earlier_results,
        replacement=lambda store, key, claims: None,
        scenario=SHORT,
        says="readers take different results",
    ),
    Mutant(
        name="a claim does not settle",
        original=claim.settle_seconds,
        replacement=lambda store, settle_s=0.0: 0.0,
        scenario=SHORT,
        says="",
    ),
    Mutant(
        name="a claim settles for the listing lag, and not a tick longer",
        original=claim.settle_seconds,
        replacement=_lag_alone,
        scenario=Scenario(name="broken", job=Job(commits=1), ties=1),
        says="is begun, and so was",
    ),
    Mutant(
        name="the newest checkpoint is passed over",
        original=newest.find_checkpoints,
        replacement=_second_newest,
        scenario=SHORT,
        says="is there",
    ),
    Mutant(
        name="nobody hears of the wish for a fresh start",
        original=state._resume_after,
        replacement=_none_fresh,
        scenario=Scenario(name="broken", job=Job(commits=1), wishes=("retry fresh",)),
        says="though a person asked for a fresh start",
    ),
    Mutant(
        name="a worker that is gone is never taken for gone",
        original=lease.may_be_stale,
        replacement=_nobody_dies,
        scenario=SHORT,
        says="the run is starved",
    ),
)

#: What is saved by a look before each manifest is time and space: rules, not looks, keep a run's results what they are.
BLIND = Mutant(
    name="a worker never notices that the run is another's",
    original=claim.require_owner,
    replacement=_never_lost,
    scenario=SHORT,
    says="after it was superseded",
)


def _by_the_machine(self: Any, claim: ClaimEvidence) -> Any:
    return replace(_look(self, claim), seen_at=self._clock.now())


def _a_quarter(claim: ClaimEvidence, *, listing_lag_s: float) -> float:
    return _lease_of(claim, listing_lag_s=listing_lag_s) / 4


_look, _lease_of = lease.LeaseWatch._look, lease.lease_s_of


def in_time() -> tuple[Mutant, ...]:
    """Mutants that only show where time passes."""
    too_soon = "after a sign of life"
    return (
        Mutant(
            name="a lease is judged by the machine's clock",
            original=(lease.LeaseWatch, "_look"),
            replacement=_by_the_machine,
            says=f"{too_soon}|starved",
        ),
        Mutant(
            name="a lease is over before a heartbeat is due",
            original=lease.lease_s_of,
            replacement=_a_quarter,
            says=too_soon,
        ),
    )


#: Modules whose names a mutant replaces have to be loaded first.
LOADED = (lease, watching)
