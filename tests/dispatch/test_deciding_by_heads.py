"""Whoever decides by what a listing shows comes to what the contents say, whatever they are."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from driverun.dispatch.choose import candidate_of
from driverun.dispatch.lacks import results_given
from driverun.dispatch.ledger import Ledger
from driverun.errors import RunNotFound, UsageError
from driverun.execution.comparing import choose_runs
from driverun.execution.discovering import known_jobs
from driverun.execution.passing import PassingStore
from driverun.execution.scheduling import due_runs
from driverun.report.summary import summarize
from driverun.runs.evidence import RunEvidence
from driverun.runs.heads import head_of
from driverun.runs.layout import AttemptKey, EntryKind, WishKind, wish_file
from driverun.runs.record import (
    AttemptState,
    Claim,
    Exactness,
    Failure,
    ProcessId,
    Record,
    ResultsRef,
    Wish,
)
from driverun.runs.retries import tried_again_at, worked_s
from driverun.runs.state import Derived, derive_state
from driverun.spec.identity import computed_part, computed_sha256, run_id_of, spec_from_json, spec_to_json
from driverun.spec.model import JobSpec
from driverun.storage.base import FolderNews, ObjectInfo, People
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock

PEOPLE = ("owner@here", "friend@here", "stranger@here", None)
RUNS = 100


class Shared(PassingStore):
    """A root on which several people write; without heads it shows what a folder does."""

    def __init__(self, inner: MemoryStore, authors: Mapping[str, str | None], *, has_heads: bool) -> None:
        super().__init__(inner)
        self._authors, self._has_heads = authors, has_heads

    def people(self) -> People | None:
        return People(
            owner=frozenset(PEOPLE[:1]), me=frozenset(PEOPLE[:1]), trusted=frozenset(["friend@here"])
        )

    def news(self, folder: str, since: object = None) -> FolderNews:
        news = super().news(folder, since)
        return replace(news, changed=[self._shown(info) for info in news.changed])

    def _shown(self, info: ObjectInfo) -> ObjectInfo:
        shown = replace(info, author=self._authors[info.path])
        return shown if self._has_heads else replace(shown, properties=None)


class Chance:
    """Values of all sorts, some longer than any head."""

    def __init__(self, seed: int) -> None:
        self.luck = random.Random(seed)

    def often(self) -> bool:
        return self.luck.random() < 0.7

    def seldom(self) -> bool:
        return self.luck.random() < 0.15

    def noise(self, size: int) -> str:
        return "".join(
            self.luck.choice("abcdefghijklmnopqrstuvwxyz0123456789äß✓\U0001f600 ") for _ in range(size)
        )

    def text(self) -> str:
        return self.noise(self.luck.choice((0, 5, 40, 280, 320, 4000 if self.seldom() else 20)))

    def sha256(self) -> str:
        return hashlib.sha256(self.luck.randbytes(8)).hexdigest()

    def spec(self) -> JobSpec:
        luck = self.luck
        many = 120 if self.seldom() else 3
        written: dict[str, Any] = {
            "name": luck.choice(("digits", "other")),
            "entrypoint": luck.choice(("train.py", ["python", "train.py", self.noise(30) + "x"])),
            "params": {
                f"p{n}": luck.choice((n, n / 3, True, None, self.noise(50)))
                for n in range(luck.randrange(many))
            },
            "data": [
                {"source": f"data/{self.sha256()}"}
                for _ in range(luck.randrange(many) if self.seldom() else 0)
            ],
            "seed": luck.choice((0, 7)),
            "deterministic": luck.choice((None, False, True)),
            "accelerator": luck.choice(("any", "gpu")),
            "retry": {"max_errors": luck.choice((1, 2, 5, 5)), "backoff": luck.choice(("30s", "5m"))},
            "timeout": luck.choice((None, "6h")),
            "stop_when_idle": luck.choice((None, "10m")),
            "init_from": luck.choice((None, {"run": "digits-0123456789ab", "what": "weights"})),
            "after": luck.choice(((), ("first", "second"))),
            "min_memory": luck.choice((None, "8GB")),
            "secrets": [f"T_{self.sha256()}" for _ in range(luck.choice((0, 0, 0, 2, 70)))],
            "checkpoint": {"keep": luck.choice((3, 9)), "monitor": luck.choice((None, "val_loss"))},
            "priority": luck.choice((0, 3, -1)),
            "notes": self.text(),
        }
        return spec_from_json(written)


class Root:
    """Writes runs as people and workers write them, and some as other versions do."""

    def __init__(self, seed: int) -> None:
        self.chance = Chance(seed)
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.authors: dict[str, str | None] = {}
        for _ in range(RUNS):
            self._run()

    def ledger(self, *, has_heads: bool) -> Ledger:
        ledger = Ledger(Shared(self.store, self.authors, has_heads=has_heads))
        ledger.refresh()
        return ledger

    def _put(self, path: str, value: Claim | Record | Wish) -> ObjectInfo:
        self.authors[path] = self.chance.luck.choice(PEOPLE)
        self.clock.advance(seconds=self.chance.luck.choice((0.5, 20.0, 400.0)))
        content = value.to_bytes()
        return self.store.create(path, content, properties=head_of(value, content))

    def _wish(self, run_id: str, kind: WishKind, **details: Any) -> None:
        wish_id = self.chance.sha256()[:32]
        wish = Wish(
            run_id=run_id,
            kind=kind,
            wish_id=wish_id,
            wished_at=self.clock.now(),
            by=self.chance.text(),
            details=details,
        )
        self._put(wish_file(run_id, kind, wish_id), wish)

    def _run(self) -> None:
        chance, luck = self.chance, self.chance.luck
        spec, code = chance.spec(), chance.sha256()
        after = {
            name: luck.choice(("a-0123456789ab", ["a-0123456789ab", "b-0123456789ab"])) for name in spec.after
        }
        due = self.clock.now() if chance.seldom() else None
        run_id = run_id_of(spec, code_sha256=code, after=after, due=due)
        computed = computed_part(spec, code_sha256=code, repeat=0, after=after, due=due)
        for _ in range(luck.choice((1, 1, 2))):
            self._submit(run_id, spec, code, computed, due is not None)
        if chance.often():
            self._wish(
                run_id,
                WishKind.APPROVE,
                code_sha256=code,
                computed_sha256=computed_sha256(computed),
                secrets=sorted(secret.name for secret in spec.secrets),
            )
        for number in range(1, luck.choice((1, 2, 3, 5))):
            self._attempt(AttemptKey(run_id=run_id, number=number, worker="anna"))
            if chance.seldom():
                self._wish(run_id, WishKind.PRIORITY, priority=luck.randrange(9))
            if chance.seldom():
                self._wish(run_id, WishKind.CANCEL)
            if chance.seldom():
                brings = luck.choice(({}, {"authors": [luck.choice(PEOPLE)]}))
                code_now = luck.choice((None, chance.sha256()))
                fresh = chance.seldom()
                self._wish(
                    run_id,
                    WishKind.RETRY,
                    fresh=fresh,
                    code_sha256=code_now,
                    job_sha256=chance.sha256(),
                    **brings,
                )

    def _submit(
        self, run_id: str, spec: JobSpec, code: str, computed: Mapping[str, Any], is_due: bool
    ) -> None:
        chance, luck = self.chance, self.chance.luck
        told = spec_to_json(spec.model_copy(update={"priority": luck.choice((0, 5)), "notes": chance.text()}))
        if chance.seldom():
            for name in ("secrets", "min_memory", "stop_when_idle"):
                told.pop(name, None)  # of an older version
        if chance.seldom():
            told["temperature"] = luck.choice((36.6, chance.noise(3000)))  # of a newer one
        details: dict[str, Any] = {
            "job": luck.choice((None, "jobs/digits", "jobs/other")),
            "job_sha256": chance.sha256(),
            "spec": told,
            "code_sha256": code,
            "computed": computed,
        }
        if chance.seldom():
            details.update(
                sweep="digits@12ab", points=luck.choice((2, 30)), max_parallel=luck.choice((None, 2))
            )
        if chance.often():
            details["authors"] = [
                luck.choice(PEOPLE),
                *(chance.sha256() for _ in range(luck.choice((0, 0, 70)))),
            ]
        if is_due:
            details.update(due=self.clock.now().isoformat(), schedule_tag=chance.sha256())
        self._wish(run_id, WishKind.SUBMIT, **details)

    def _attempt(self, key: AttemptKey) -> None:
        chance, luck = self.chance, self.chance.luck
        process = ProcessId(
            host=chance.noise(9), boot_id=chance.sha256(), pid=luck.randrange(9999), started="7"
        )
        claim = Claim(
            run_id=key.run_id,
            number=key.number,
            worker=key.worker,
            process=process,
            claimed_at=self.clock.now(),
        )
        claimed = self._put(key.claim_file, claim)
        if chance.seldom():
            return
        state = AttemptState.FAILED if chance.often() else luck.choice(list(AttemptState))
        first = luck.choice((0, 5)) if chance.often() else None
        message = "m" * 400 + luck.choice("xy") if chance.often() else chance.text()
        record = Record(
            run_id=key.run_id,
            number=key.number,
            worker=key.worker,
            process=process,
            state=state,
            beat=luck.randrange(9),
            started_at=self.clock.now(),
            updated_at=self.clock.now(),
            ended_at=self.clock.now() if state.is_over else None,
            reason=chance.text(),
            epoch=luck.choice((None, 0, 3)),
            step=7 if chance.often() else luck.choice((0, 9)),
            first_step=first,
            total_steps=luck.choice((None, 12)),
            committed_step=luck.choice((None, 0, 6)),
            lease_s=luck.choice((60.0, 90.0)),
            exactness=luck.choice(list(Exactness)),
            exactness_reasons=tuple(chance.text() for _ in range(luck.choice((0, 2, 20)))),
            metrics={f"fit.{chance.noise(9)}": luck.random() for _ in range(luck.choice((0, 3, 200)))},
            state_sha256=luck.choice((None, chance.sha256())),
            results=ResultsRef(
                path=key.results_folder, created_at=claimed.created_at + timedelta(microseconds=1)
            )
            if state is AttemptState.SUCCEEDED and chance.often()
            else None,
            failure=Failure(
                kind="ValueError" if chance.often() else "Timeout", message=message, traceback=chance.text()
            )
            if state is AttemptState.FAILED
            else None,
            environment={"gpu": chance.text(), "first_checkpoint_s": luck.choice((3, 4.5))},
        )
        self._put(key.record_file, record)


def decided(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """All that follows from the evidence of a run, but for texts."""
    evidence = ledger.runs[run_id]
    derived = derive_state(evidence, max_errors=evidence.max_errors)
    summary = summarize(evidence, derived)
    submitted = evidence.newest_wish(WishKind.SUBMIT)
    beside = submitted.details if submitted is not None else {}
    found: dict[str, Any] = {
        "state": without_texts(derived),
        "rests until": tried_again_at(derived, first_s=30.0),
        "worked": worked_s(derived),
        "candidate": candidate_of(evidence),
        "given": results_given(evidence),
        "origin": evidence.run_file.computed.get("init_from") if evidence.run_file is not None else None,
        "beside": {
            name: beside.get(name)
            for name in ("job", "sweep", "points", "max_parallel", "due", "schedule_tag")
        },
        "unapproved": None if evidence.unapproved is None else evidence.unapproved.authors,
        "unapproved retry": None
        if evidence.unapproved_retry is None
        else evidence.unapproved_retry.code_sha256,
        "wishes": [(wish.object_id, wish.is_believed) for wish in evidence.wishes],
        "exactness": summary.exactness,
        "steps": (summary.step, summary.total_steps, summary.committed_step, summary.epoch),
        "digests": (summary.state_sha256, summary.code_sha256, summary.results_path),
        "secrets": (evidence.spec or {}).get("secrets"),
    }
    whole = ledger.detailed(run_id, {EntryKind.WISH}) if evidence.is_cut else evidence
    found["spec"] = dict(whole.spec) if whole is not None and whole.spec is not None else None
    return found


def without_texts(derived: Derived) -> Derived:
    owner = derived.owner
    return replace(
        derived,
        reason="",
        attempts=tuple(replace(view, reason="", failure=None) for view in derived.attempts),
        owner=replace(owner, process=None, record=None) if owner is not None else None,
        record=None,
    )


@pytest.mark.parametrize("seed", range(6))
def test_heads_lead_to_the_decisions_that_contents_lead_to(seed: int) -> None:
    root = Root(seed)
    by_heads, by_contents = root.ledger(has_heads=True), root.ledger(has_heads=False)
    assert by_heads.problems == by_contents.problems == ()
    assert by_heads.runs.keys() == by_contents.runs.keys()
    assert known_jobs(by_heads) == known_jobs(by_contents)
    for name in ("digits", "other"):
        assert due_runs(by_heads, name) == due_runs(by_contents, name)
        assert chosen(by_heads.runs, name) == chosen(by_contents.runs, name)
    cut = 0
    for run_id, evidence in by_heads.runs.items():
        cut += evidence.is_cut
        assert decided(by_heads, run_id) == decided(by_contents, run_id), run_id
    assert 0 < cut < len(by_heads.runs), "some had no room for all"


def chosen(runs: Mapping[str, RunEvidence], name: str) -> list[str]:
    try:
        return [each.run_id for each in choose_runs(runs, [name], location="here")[0]]
    except (RunNotFound, UsageError) as exc:
        return [str(exc)]
