"""Where the runs of a root stand, for whoever asks."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from functools import partial

from driverun.clock import Clock
from driverun.dispatch.choose import MOST_MEMORY_BYTES, priority_of
from driverun.dispatch.lacks import Lack, Looked, lacks_of, running_by_sweep
from driverun.dispatch.lease import single_look
from driverun.dispatch.ledger import Ledger, LedgerProblem
from driverun.dispatch.trust import approval_text
from driverun.errors import RunNotFound, SpecError
from driverun.execution.discovering import Discovery, InvalidJob
from driverun.execution.jobs import Job, job_on_root
from driverun.execution.standing import state_as_alive
from driverun.report.overview import Overview, overview_of, worth_showing
from driverun.report.summary import CheckpointSummary, RunSummary, summarize
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import EntryKind
from driverun.runs.state import Derived, RunState, WaitingFor, derive_state
from driverun.spec.identity import spec_from_json
from driverun.spec.model import Accelerator, JobSpec
from driverun.spec.units import format_duration, format_size
from driverun.storage.base import ObjectStore
from driverun.transfer.presence import KnownSources, missing_sources

FOLLOW_EVERY_S = 1.0


class Board:
    """Where the runs of one root stand."""

    def __init__(self, store: ObjectStore, *, clock: Clock, by: str) -> None:
        self._store = store
        self._clock = clock
        self._by = by
        self._ledger = Ledger(store)
        self._sources: KnownSources | None = None  # during a look at all runs, many of which want the same
        self._counted: tuple[int, Counter[str]] | None = None
        self._alive: dict[str, tuple[RunEvidence, Derived]] = {}  # what was worked out, and what from

    @property
    def store(self) -> ObjectStore:
        return self._store

    def invalid_jobs(self) -> list[InvalidJob]:
        """The jobs on the root that cannot become runs, with all their faults."""
        discovery = Look(self._store, quiet_s=float("inf"), clock=self._clock, by=self._by)
        discovery.look(self._ledger)
        return [discovery.invalid[name] for name in sorted(discovery.invalid)]

    def runs(self) -> list[RunSummary]:
        """Every run, oldest first, without its checkpoints."""
        return list(self.overview().runs)

    def overview(self, *, most: int | None = None) -> Overview:
        """The runs, oldest first, without their checkpoints; of more than `most` those that matter most."""
        self._ledger.refresh()
        now = self._store.now()
        runs = self._ledger.runs
        derived = {run_id: self._derive(evidence, now=now) for run_id, evidence in runs.items()}
        shown = worth_showing(runs, derived, most=most)
        self._sources = KnownSources(self._store)
        try:
            summaries = [
                self._summary(runs[run_id], details=False, derived=derived[run_id]) for run_id in shown
            ]
        finally:
            self._sources = None
        return overview_of(summaries, derived)

    def run(self, run: str) -> RunSummary:
        """One run with everything. `run` is its id, or so much of its beginning that it is the only one."""
        return self._summary(self._evidence(run), details=True)

    def problems(self) -> Collection[LedgerProblem]:
        """Files of the ledger that make no sense, as of the last look."""
        return self._ledger.problems

    def find(self, run: str) -> str:
        """The whole id of the run."""
        return self._evidence(run).run_id

    def wait(self, run: str, *, timeout_s: float | None = None) -> RunSummary:
        """Where the run stands when it is over, or after so many seconds; None: however long it takes."""
        run_id = self.find(run)
        until_s = self._clock.monotonic() + timeout_s if timeout_s is not None else math.inf
        while True:
            summary = self._summary(self._evidence(run_id), details=True)
            left_s = until_s - self._clock.monotonic()
            if summary.state.is_over or left_s <= 0:
                return summary
            self._clock.sleep(min(FOLLOW_EVERY_S, left_s))

    def _evidence(self, run: str) -> RunEvidence:
        """All that is known of the run, details included."""
        self._ledger.refresh()
        runs = self._ledger.runs
        matching = (
            [run] if run in runs else sorted(run_id for run_id in runs if run and run_id.startswith(run))
        )
        if len(matching) == 1:
            found = self._ledger.detailed(matching[0])
            assert found is not None, "it is among the runs"
            return found
        if matching:
            listed = "\n  ".join(matching)
            raise RunNotFound(f"{run} may be one of {len(matching)} runs; give more of its id:\n  {listed}")
        near = difflib.get_close_matches(run, list(runs), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else " See them with `driverun status`."
        raise RunNotFound(f"there is no run {run or repr(run)} on {self._store.location}.{hint}")

    def _spec(self, evidence: RunEvidence) -> JobSpec | None:
        """The spec as submitted; None where this version cannot make sense of it."""
        whole = self._ledger.detailed(evidence.run_id, {EntryKind.WISH}) if evidence.is_cut else evidence
        if whole is None or whole.spec is None:
            return None
        try:
            return spec_from_json(whole.spec)
        except SpecError:
            return None

    def _derive(self, evidence: RunEvidence, *, now: datetime | None = None) -> Derived:
        """How the run stands.

        Args:
            now: by the store's clock; None: as of this moment.
        """
        first = self._as_alive(evidence)
        if first.state is not RunState.RUNNING or first.owner is None:
            return first
        look = single_look(
            first.owner,
            now=now if now is not None else self._store.now(),
            listing_lag_s=self._store.listing_lag_s,
        )
        if not look.is_stale:
            return first
        return derive_state(evidence, stale=frozenset({first.owner.key}), max_errors=evidence.max_errors)

    def _as_alive(self, evidence: RunEvidence) -> Derived:
        """As `state_as_alive`, worked out anew only where something became known of the run."""
        known = self._alive.get(evidence.run_id)
        if known is None or known[0] is not evidence:
            known = self._alive[evidence.run_id] = (evidence, state_as_alive(evidence))
        return known[1]

    def _summary(self, evidence: RunEvidence, *, details: bool, derived: Derived | None = None) -> RunSummary:
        derived = derived if derived is not None else self._derive(evidence)
        # Of ten thousand runs few may be taken up, and nobody asks what the others lack.
        spec = self._spec(evidence) if derived.state.is_claimable else None
        lack = self._lack(evidence, derived, spec) if spec is not None else None
        checkpoints = self._checkpoints(evidence, derived) if details else ()
        summary = summarize(
            evidence,
            derived,
            checkpoints=checkpoints,
            waiting_for=lack.waiting_for if lack is not None else None,
            lack=self._written(lack) if lack is not None else "",
            priority=priority_of(evidence),
        )
        if evidence.unapproved_retry is None or evidence.unapproved is not None:
            return summary
        text = approval_text(evidence.run_id, evidence.unapproved_retry)
        return replace(summary, reason=f"a retry of it brings code that was {text}")

    def _checkpoints(self, evidence: RunEvidence, derived: Derived) -> tuple[CheckpointSummary, ...]:
        from driverun.execution.checkpoint_list import checkpoint_summaries  # the table of all runs has none

        return checkpoint_summaries(
            self._store, evidence.run_id, claims=evidence.claims, resume_after=derived.resume_after
        )

    def _written(self, lack: Lack) -> str:
        if lack.until is None:
            return lack.text
        left_s = max(0.0, (lack.until - self._store.now()).total_seconds())
        return f"in {format_duration(math.ceil(left_s))}: {lack.text}"

    def _lack(self, evidence: RunEvidence, derived: Derived, spec: JobSpec) -> Lack | None:
        """What to mend first before a worker can take it up; the machine of this process is not asked."""
        looked = Looked(
            evidence=evidence,
            derived=derived,
            spec=spec,
            missing_data=partial(self._missing_data, spec),
            state_of=self._state_of,
            running_in=lambda sweep: self._at_work()[sweep],
            now=self._store.now,
        )
        lacks = lacks_of(looked)
        if lacks:
            return lacks[0]
        if spec.accelerator is not Accelerator.ANY:
            text = f"wants a {spec.accelerator.name}. Start a worker on a runtime that has it"
            return Lack(waiting_for=WaitingFor.ACCELERATOR, text=text)
        if spec.min_memory_bytes:
            least = format_size(min(spec.min_memory_bytes, MOST_MEMORY_BYTES))
            text = f"wants {least} of main memory. Start a worker where there is as much"
            return Lack(waiting_for=WaitingFor.MEMORY, text=text)
        if spec.secrets:
            names = ", ".join(secret.name for secret in spec.secrets)
            text = f"wants the secrets {names}. Start a worker that has them; one that has not says where to put them"
            return Lack(waiting_for=WaitingFor.SECRET, text=text)
        return None

    def _missing_data(self, spec: JobSpec) -> list[str]:
        return missing_sources(self._sources or KnownSources(self._store), spec)

    def _at_work(self) -> Counter[str]:
        """How many runs of each sweep are, as of the last look."""
        revision = self._ledger.revision
        if self._counted is None or self._counted[0] != revision:
            self._counted = (revision, running_by_sweep(self._ledger.runs, self._state_of))
        return self._counted[1]

    def _state_of(self, run_id: str) -> Derived | None:
        evidence = self._ledger.run(run_id)
        return self._derive(evidence) if evidence is not None else None


class Look(Discovery):
    """A look at jobs that makes no runs: none is ever at rest for long enough."""

    def _loaded(self, name: str) -> Job:
        return job_on_root(self._store, name, with_code=False)
