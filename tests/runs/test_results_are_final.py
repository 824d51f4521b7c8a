"""Whatever workers and people do, in whatever order: the results of a run never change once it has some."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from driverun.runs.evidence import ClaimEvidence, RunEvidence, WishEvidence
from driverun.runs.layout import AttemptKey, WishKind
from driverun.runs.ownership import manifest_counts, owner_of_number
from driverun.runs.record import AttemptState, ProcessId, Record, ResultsRef
from driverun.runs.state import Derived, RunState, derive_state

RUN = "digits-0123456789ab"
START = datetime(2026, 1, 1, tzinfo=UTC)
PROCESS = ProcessId(host="lab", boot_id="b1", pid=7, started="99")


@dataclass
class World:
    """A root and its workers; one event at a time, some of them at the same tick of the store's clock."""

    dice: random.Random
    ticks: int = 0
    claims: dict[AttemptKey, ClaimEvidence] = field(default_factory=dict)
    manifests: dict[AttemptKey, datetime] = field(default_factory=dict)
    found: dict[AttemptKey, ResultsRef | None] = field(
        default_factory=dict
    )  #: what a worker saw once it settled
    wishes: list[WishEvidence] = field(default_factory=list)

    def now(self) -> datetime:
        self.ticks += self.dice.choice([0, 1, 1, 5])
        return START + timedelta(seconds=self.ticks)

    def claim(self) -> None:
        """One or two workers claim the next number, and look for results that were there before them."""
        number = max((key.number for key in self.claims), default=0) + 1
        for _ in range(self.dice.choice([1, 1, 2])):
            key = AttemptKey(run_id=RUN, number=number, worker=f"w{len(self.claims):04d}")
            object_id = f"id-{self.dice.random()}"
            self.claims[key] = ClaimEvidence(key=key, created_at=self.now(), object_id=object_id)
        self.ticks += 1  # the settle time
        for key in [key for key in self.claims if key not in self.found]:
            self.found[key] = self.finished_before(key)

    def finished_before(self, key: AttemptKey) -> ResultsRef | None:
        for lower in sorted(self.manifests):
            made_at, known = self.manifests[lower], self.claims.values()
            if lower.number < key.number and manifest_counts(key=lower, created_at=made_at, claims=known):
                return ResultsRef(path=lower.results_folder, created_at=made_at)
        return None

    def act(self) -> None:
        """Any worker that was ever there takes its next step, be it superseded or not."""
        claim = self.dice.choice(list(self.claims.values()))
        if claim.record is not None and claim.record.state.is_over:
            return
        states = [AttemptState.RUNNING] * 3 + list(AttemptState)
        state = self.dice.choice(states)
        results = None
        if state is AttemptState.SUCCEEDED:
            results = self.found[claim.key]
            if results is None and claim.key not in self.manifests:
                self.manifests[claim.key] = self.now()  # and the outcome follows when its turn comes, if ever
                return
            if results is None:
                made_at = self.manifests[claim.key]
                results = ResultsRef(path=claim.key.results_folder, created_at=made_at)
                while (
                    self.now() <= made_at
                ):  # it tells only when no claim can come at the manifest's own tick
                    pass
        self.claims[claim.key] = replace(
            claim, record=self.record(claim, state, results), record_modified_at=self.now()
        )

    def record(self, claim: ClaimEvidence, state: AttemptState, results: ResultsRef | None) -> Record:
        return Record(
            run_id=RUN,
            number=claim.key.number,
            worker=claim.key.worker,
            process=PROCESS,
            state=state,
            beat=0,
            started_at=START,
            updated_at=START,
            committed_step=self.dice.choice([None, self.ticks]),
            results=results,
        )

    def wish(self) -> None:
        kind = self.dice.choice([WishKind.CANCEL, WishKind.RETRY])
        details = {"fresh": self.dice.random() < 0.5}
        self.wishes.append(
            WishEvidence(
                kind=kind, created_at=self.now(), object_id=f"wish-{len(self.wishes)}", details=details
            )
        )

    def happen(self) -> None:
        if not self.claims:
            self.claim()
        self.dice.choice([self.claim, self.act, self.act, self.act, self.act, self.wish])()

    def look(self) -> Derived:
        claims = self.dice.sample(list(self.claims.values()), len(self.claims))
        stale = {key for key in self.claims if self.dice.random() < 0.3}
        evidence = RunEvidence(run_id=RUN, claims=tuple(claims), wishes=tuple(self.wishes))
        return derive_state(evidence, stale=stale, max_errors=self.dice.choice([1, 2, 5]))


@pytest.mark.parametrize("seed", range(40))
def test_results_never_change_once_they_count(seed: int) -> None:
    for game in range(10):
        world, taken = World(random.Random(f"{seed}-{game}")), None
        for _ in range(60):
            world.happen()
            seen = world.look()
            assert taken is None or (seen.results_key, seen.results) == taken
            assert (seen.state is RunState.SUCCEEDED) is (seen.results is not None)
            if seen.results_key is not None:
                taken = (seen.results_key, seen.results)
                assert owner_of_number(world.claims.values(), seen.results_key.number) is not None
                assert seen.results_key in world.manifests


def test_the_games_played_are_worth_playing() -> None:
    late = found = 0
    for seed in range(100):
        world = World(random.Random(seed))
        for _ in range(60):
            world.happen()
        late += any(
            not manifest_counts(key=key, created_at=made_at, claims=world.claims.values())
            for key, made_at in world.manifests.items()
        )
        found += world.look().state is RunState.SUCCEEDED
    assert late > 20, "zombies publish results too late"
    assert 30 < found < 70, "many runs come to an end, and many do not"
