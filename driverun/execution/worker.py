"""The worker's loop: which run is next, until there is none."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from driverun.dispatch.choose import FIRST_CHECKPOINT_S, Choice, Waiting, candidate_of, next_run, priority_of
from driverun.dispatch.lacks import Looked, lacks_of, running_by_sweep, runs_before
from driverun.dispatch.lease import LeaseWatch
from driverun.dispatch.ledger import Ledger
from driverun.dispatch.spread import Others, pick
from driverun.errors import SpecError, TransientStoreError, UnsafePath, UsageError
from driverun.execution.assignment import Assignment
from driverun.execution.claiming import Claiming
from driverun.execution.context import Stop, WorkerContext
from driverun.execution.discovering import Discovery
from driverun.execution.holding_back import HeldBack
from driverun.execution.idling import Idling
from driverun.execution.jobs import job_names
from driverun.execution.outcome import Outcome
from driverun.execution.secrets import lacking_secrets
from driverun.execution.standing import Standing
from driverun.execution.stopping import Abandoned, StoppableClock, abandonable, rest
from driverun.execution.viewing import AttemptView, RunView, WorkerView
from driverun.execution.wanted import WantedJobs
from driverun.purpose import on_behalf_of
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import JOBS, EntryKind
from driverun.runs.record import AttemptState
from driverun.runs.state import Derived, RunState, WaitingFor, derive_state
from driverun.spec.identity import spec_from_json
from driverun.spec.model import JobSpec
from driverun.storage.base import unseen_for_s
from driverun.transfer.presence import KnownSources, missing_sources

if TYPE_CHECKING:
    from driverun.execution.attempt import Attempt

SOONEST_S = 0.1  #: between two looks, however soon something is due
LOOK_S = 1.0  #: between two looks while waiting
LOOK_FOR_DATA_S = 10.0  #: between two looks for the data of a run that waits
COUNTDOWN_EVERY_S = 10.0
EARLY_SHARE = 0.25  #: of a short runtime's whole time, beyond which a run that nobody knows is not started
OUT_OF_REACH_S = 30.0  #: until a worker that watches tries again; each operation has been retried by then


class Mode(enum.Enum):
    """When a worker is done."""

    ONCE = "once"  #: after one run
    UNTIL_EMPTY = "until-empty"  #: when nothing is left that this runtime can do
    WATCH = "watch"  #: never by itself


@dataclass(slots=True, kw_only=True)
class Worked:
    """What a worker did, and what it left."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)  #: newest per run
    left: dict[str, str] = field(default_factory=dict)  #: run id -> why it is not done
    made: list[str] = field(default_factory=list)  #: runs that it made of jobs
    stop: Stop | None = None

    @property
    def any_failed(self) -> bool:
        return any(outcome.state is AttemptState.FAILED for outcome in self.outcomes.values())


class Worker:
    """Claims runs and carries them out, one after the other."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        deadline_s: float | None = None,
        by: str,
        jobs: Collection[str] = (),
        patience_s: float = math.inf,
    ) -> None:
        """Be ready.

        Args:
            deadline_s: when to hand over, by the monotonic clock.
            by: in whose name runs are made of jobs that were found.
            jobs: names of jobs, or ids of runs, to which it keeps; none: all there are.
            patience_s: for how long it waits for what may come; another worker comes later for what takes longer.
        """
        context = replace(context, store=abandonable(context.store, context.stop))
        self._context = context
        self._store = context.store
        self._clock = context.clock
        self._ledger = Ledger(self._store)
        self._watch = LeaseWatch(self._store, self._clock)
        self._wanted = WantedJobs(jobs)
        self._discovery = Discovery(
            self._store,
            quiet_s=context.settings.quiet_s,
            clock=self._clock,
            by=by,
            wants=self._wanted.wants_job,
        )
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._idling = Idling(listing_lag_s=self._store.listing_lag_s)
        self._told: dict[str, str] = {}
        self._seen_alive: set[str] = set()
        self._waited_since: dict[str, object] = {}
        self._countdown_at_s = -math.inf
        self._began_s = context.clock.monotonic()
        self._looks = 0
        self._too_late: set[str] = set()  # were not started for want of time, and that was told
        self._standing = Standing(self._ledger, spec_of=self._spec_of)
        self._claiming = Claiming(
            context=context,
            ledger=self._ledger,
            watch=self._watch,
            patient=StoppableClock(context.clock, context.stop),
            spec_of=self._spec_of,
        )
        self._sources: KnownSources | None = None  # as of the time beside
        self._sources_s = -math.inf
        self._held_back = HeldBack()
        self._others = Others(context.worker)
        self._asked = 0  # how often it has asked for a run
        # For the view: each is replaced as a whole, never changed.
        self._seen: tuple[RunView, ...] = ()
        self._attempt: Attempt | None = None
        self._finished: tuple[AttemptView, ...] = ()
        self._waiting = "looking at the queue"

    def work(self, mode: Mode) -> Worked:
        """Work until `mode` says that it is enough, or somebody asks to stop.

        Raises:
            UsageError: it was given a name that no job and no run has.
            StoreError: the root is out of reach. What was committed goes on elsewhere. A worker that watches stays
                for as long as trying again makes sense.
        """
        worked = Worked()
        if self._context.machine.no_gpu:
            self._context.say(f"no GPU is used: {self._context.machine.no_gpu}")
        self._context.workdir.sweep()
        try:
            self._require_jobs()
            self._work(mode, worked)
        except Abandoned:
            for run_id, outcome in worked.outcomes.items():
                if outcome.abandoned:
                    worked.left[run_id] = outcome.reason
            self._context.say(
                "abandoned: nothing more is sent. What was committed stands; another worker goes on from there"
                f" once {self._context.settings.lease_s:g} s have passed without a sign of life"
            )
        worked.stop = self._context.stop.stop
        self._waiting = ""
        return worked

    def _work(self, mode: Mode, worked: Worked) -> None:
        while not self._is_time_up():
            try:
                is_done = self._turn(mode, worked)
            except TransientStoreError as exc:
                if mode is not Mode.WATCH:
                    raise
                self._waiting = "the root is out of reach"
                self._context.say(f"the root is out of reach, looking again in {OUT_OF_REACH_S:g} s: {exc}")
                self._rest(OUT_OF_REACH_S)
                continue
            if is_done:
                break
        self._note_left(worked)

    def _rest(self, seconds: float) -> None:
        """Sleep so long; shorter where somebody asks to stop, or this runtime's time is up before."""
        rest(
            self._clock,
            min(seconds, max(0.0, self._left_s())),
            unless=lambda: self._context.stop.stop is not None,
        )

    def view(self) -> WorkerView:
        """What it is at; asks the root nothing, and may be called from any thread at any time."""
        attempt = self._attempt
        now = attempt.view() if attempt is not None else None
        runs = self._seen
        if now is not None:
            running = RunView(run_id=now.run_id, state=RunState.RUNNING, note=now.doing)
            runs = tuple(running if run.run_id == now.run_id else run for run in runs)
        return WorkerView(
            runs=runs,
            attempt=now,
            finished=self._finished,
            stop=self._context.stop.stop,
            waiting=self._waiting if now is None else "",
        )

    @property
    def invalid_jobs(self) -> list[str]:
        """The names of the jobs that cannot become runs, as of the last look."""
        return sorted(self._discovery.invalid)

    def _require_jobs(self) -> None:
        """Raise UsageError where there is no job and no run of a name that was given."""
        if self._wanted.are_all:
            return
        refusal = None
        for lag_s in (self._store.listing_lag_s, None):
            self._ledger.refresh()
            jobs = job_names(self._store.list(JOBS, recursive=True))
            refusal = self._wanted.refusal(jobs, self._ledger.runs.values(), location=self._store.location)
            if refusal is None or self._context.stop.stop is not None:
                return
            if lag_s is not None:
                self._rest(lag_s)  # it may have been put there a moment ago
        raise UsageError(refusal)

    def _turn(self, mode: Mode, worked: Worked) -> bool:
        """Take up one run, or wait a moment; gives whether that was enough."""
        self._looks += 1
        with on_behalf_of(f"look {self._looks} of {self._context.worker}"):
            choice, derived, soonest_s = self._look(worked)
        if choice.run_id is not None:
            try:
                outcome = self._take_up(choice.run_id)
            except UnsafePath as exc:
                # A forged claim has driven up the number: no name has room for the next.
                outcome = Outcome(
                    state=AttemptState.INTERRUPTED, reason=f"its files in the ledger make no sense: {exc}"
                )
            if outcome is not None:
                worked.outcomes[choice.run_id] = outcome
                self._hold_back(choice.run_id, outcome, mode)
            return outcome is not None and mode is Mode.ONCE
        waiting_s = self._worth_waiting(derived, soonest_s, choice)
        if mode is Mode.WATCH:
            self._rest(self._away_s(derived, waiting_s))
            return False
        if waiting_s is not None and waiting_s > self._patience_s:
            return True
        if waiting_s is None:
            waiting_s = self._unseen_s() if math.isinf(self._patience_s) else None
            if waiting_s is None:
                return True
            self._waiting = "making sure that the listings show all there is"
        self._rest(min(LOOK_S, waiting_s))
        return False

    def _away_s(self, derived: dict[str, Derived], waiting_s: float | None) -> float:
        """Until a worker that watches looks again: soon after a change, else when it knows that something comes."""
        seen = self._discovery.changes, {run_id: d.state for run_id, d in derived.items()}
        known = [wait_s for wait_s in (waiting_s, self._discovery.due_in_s) if wait_s is not None]
        return min([self._idling.pause_s(seen), *(max(wait_s, SOONEST_S) for wait_s in known)])

    def _hold_back(self, run_id: str, outcome: Outcome, mode: Mode) -> None:
        """Let a run rest that could not go on here: what kept it may still be so."""
        if self._context.stop.stop is not None:
            self._held_back.forget(run_id)
            return
        rest_s = self._held_back.note(
            run_id, outcome, now_s=self._clock.monotonic(), may_give_up=mode is not Mode.WATCH
        )
        if rest_s is not None:
            again = f"again in {rest_s:g} s" if math.isfinite(rest_s) else "this worker leaves it"
            self._context.say(f"{run_id} cannot go on here, {again}: {outcome.reason}")

    def _is_held_back(self, run_id: str) -> bool:
        return self._held_back.holds(run_id, now_s=self._clock.monotonic())

    def _unseen_s(self) -> float | None:
        """For how long listings may still miss what was there before this worker began; None: not any more."""
        unseen_s = self._began_s + unseen_for_s(self._store.listing_lag_s) - self._clock.monotonic()
        return unseen_s if unseen_s > 0 else None

    def _is_time_up(self) -> bool:
        stop = self._context.stop
        if self._deadline_s is not None and self._clock.monotonic() >= self._deadline_s:
            stop.ask(Stop.DEADLINE)
        return stop.stop is not None

    # Looking.

    def _look(self, worked: Worked) -> tuple[Choice, dict[str, Derived], float | None]:
        self._ledger.refresh()
        made, soonest_s = self._discovery.look(self._ledger)
        worked.made += made
        if made:
            self._ledger.refresh()
        self._tell_invalid()
        touched = self._standing.update()
        if touched:
            self._sources = None  # what waits for data may have come with them
        self._note_secrets(touched)
        runs = {
            run_id: evidence
            for run_id in self._standing.open
            if self._wanted.wants(evidence := self._ledger.runs[run_id])
        }
        first = {run_id: self._standing.open[run_id] for run_id in runs}
        running = [runs[run_id] for run_id, d in first.items() if d.state is RunState.RUNNING]
        stale = self._watch.stale_among(running)
        derived = {
            run_id: d
            if d.owner is None or d.owner.key not in stale
            else derive_state(runs[run_id], stale=stale, max_errors=runs[run_id].max_errors)
            for run_id, d in first.items()
        }

        def state_of(run_id: str) -> Derived | None:
            return derived.get(run_id) or self._standing.state_of(run_id)

        at_work = cache(
            lambda: running_by_sweep(
                {run_id: self._ledger.runs[run_id] for run_id in self._standing.open}, state_of
            )
        )
        candidates = []
        for run_id, d in derived.items():
            if not d.state.is_claimable or self._is_held_back(run_id):
                continue
            spec = self._standing.spec(runs[run_id])
            if spec is None:
                continue
            looked = Looked(
                evidence=runs[run_id],
                derived=d,
                spec=spec,
                missing_data=partial(self._missing_sources, spec),
                state_of=state_of,
                running_in=lambda sweep: at_work()[sweep],
                now=self._store.now,
            )
            # Secrets are asked for last: a job that may not run has no business with them.
            lacks = lacks_of(looked) or lacking_secrets(self._context.secrets, spec)
            candidate = candidate_of(runs[run_id], lacks=lacks)
            if candidate is not None:
                candidates.append(candidate)
        others = self._others.count(
            ((runs[run_id], d) for run_id, d in derived.items() if not d.state.is_over),
            now_s=self._clock.monotonic(),
        )
        choice = next_run(
            candidates,
            self._context.capabilities,
            left_s=self._left_s(),
            usual_s=self._usual_s,
            pick=partial(pick, others=others, worker=self._context.worker, turn=self._asked),
        )
        worked.left = {}
        for waiting in choice.waiting:
            text = waiting.text + self._left_to_others(waiting)
            worked.left[waiting.run_id] = text
            if waiting.waiting_for is not None or waiting.run_id not in self._too_late:
                self._tell(waiting.run_id, f"{waiting.run_id} waits: {text}")
        self._too_late = {waiting.run_id for waiting in choice.waiting if waiting.waiting_for is None}
        self._seen = self._views(derived, worked.left)
        return choice, derived, soonest_s

    def _left_to_others(self, waiting: Waiting) -> str:
        """What to add where a run comes after jobs that this worker was not told to work on; "" where it does not."""
        if self._wanted.are_all or waiting.waiting_for is not WaitingFor.AFTER:
            return ""
        before = [self._ledger.run(each) for each in runs_before(self._ledger.runs[waiting.run_id])]
        return self._wanted.left_to_others(
            each for each in before if each is not None and each.run_id in self._standing.open
        )

    def _note_secrets(self, touched: Iterable[RunEvidence]) -> None:
        """Whatever job has a secret, others do not see it, over or not."""
        having = (each for each in touched if (spec := each.spec) is not None and spec.get("secrets"))
        specs = (self._spec_of(evidence) for evidence in having)
        self._context.secrets.note(spec for spec in specs if spec is not None)

    def _left_s(self) -> float:
        """Until this runtime hands over."""
        return self._deadline_s - self._clock.monotonic() if self._deadline_s is not None else math.inf

    @property
    def _usual_s(self) -> float:
        """How long a run is expected to take to its first checkpoint, if nobody knows.

        A runtime that has not much time in all would start nothing, ever.
        """
        if self._deadline_s is None:
            return FIRST_CHECKPOINT_S
        return min(FIRST_CHECKPOINT_S, EARLY_SHARE * (self._deadline_s - self._began_s))

    def _views(self, derived: Mapping[str, Derived], lacks: Mapping[str, str]) -> tuple[RunView, ...]:
        """The runs for a display, in the order in which they will be taken up; those that ended here are last."""
        ended = {
            run_id: self._standing.state_of(run_id) for run_id in {view.run_id for view in self._finished}
        }
        shown = []
        for run_id, d in {**ended, **derived}.items():
            if d is None:
                continue
            note = lacks.get(run_id, d.reason)
            if d.state is RunState.RUNNING:
                note = "another worker is at it"
            elif self._is_held_back(run_id):
                note = f"cannot go on here for now: {self._held_back.reason(run_id)}"
            evidence = self._ledger.runs[run_id]
            order = (d.state.is_over, -priority_of(evidence), str(evidence.created_at), run_id)
            shown.append((order, RunView(run_id=run_id, state=d.state, note=note)))
        return tuple(view for _, view in sorted(shown, key=lambda each: each[0]))

    def _missing_sources(self, spec: JobSpec) -> list[str]:
        """As of now, or of a short while ago: a queue may be long, and data come in minutes."""
        now_s = self._clock.monotonic()
        if self._sources is None or now_s - self._sources_s >= LOOK_FOR_DATA_S:
            self._sources, self._sources_s = KnownSources(self._store), now_s
        return missing_sources(self._sources, spec)

    def _spec_of(self, evidence: RunEvidence) -> JobSpec | None:
        """The spec as submitted; None, said once, where this version cannot make sense of it."""
        if not evidence.is_complete or evidence.spec is None:
            return None
        whole = self._ledger.detailed(evidence.run_id, {EntryKind.WISH}) if evidence.is_cut else evidence
        if whole is None or whole.spec is None:
            return None
        try:
            return spec_from_json(whole.spec)
        except SpecError as exc:
            self._tell(evidence.run_id, f"{evidence.run_id} is left alone: {exc}")
            return None

    def _tell(self, about: str, text: str) -> None:
        if self._told.get(about) != text:
            self._told[about] = text
            self._context.say(text)

    def _tell_invalid(self) -> None:
        for name, invalid in self._discovery.invalid.items():
            faults = "\n".join(f"  {fault}" for fault in invalid.faults)
            self._tell(f"jobs/{name}", f"the job {name} is INVALID:\n{faults}")

    # Waiting.

    def _worth_waiting(
        self, derived: dict[str, Derived], soonest_s: float | None, choice: Choice
    ) -> float | None:
        """Seconds after which something may be claimable; None if nothing that this worker knows of will be.

        A run in other hands is waited for only while its worker may be dead, which is a lease at most: one sign of
        life, and it is that worker's business.
        """
        waits = [] if soonest_s is None else [soonest_s]
        self._waiting = "waiting for new jobs"
        if soonest_s is not None:
            self._waiting = "waiting for a job whose files have just changed"
        for run_id, until_s in self._held_back.ends():
            if run_id in derived and derived[run_id].state.is_claimable:
                waits.append(max(until_s - self._clock.monotonic(), 0.1))
                self._waiting = f"{run_id} goes on in {waits[-1]:.0f} s"
        for waiting in choice.waiting:
            if waiting.until is not None:
                waits.append(max((waiting.until - self._store.now()).total_seconds(), 0.1))
                self._waiting = f"{waiting.run_id} is tried again in {waits[-1]:.0f} s"
        for run_id, d in derived.items():
            if d.state is not RunState.RUNNING or d.owner is None:
                continue
            seen = (d.owner.key, d.owner.record_modified_at)
            before = self._waited_since.setdefault(run_id, seen)
            if seen != before:
                self._seen_alive.add(run_id)
                self._waited_since[run_id] = seen
            if run_id in self._seen_alive:
                continue
            left_s = self._watch.seconds_until_stale(d.owner)
            if math.isfinite(left_s):
                waits.append(max(left_s, 0.1))
                self._waiting = (
                    f"{run_id} belongs to a worker that may be dead: {left_s:.0f} s until that is clear"
                )
                self._count_down(run_id, left_s)
        return min(waits, default=None)

    def _count_down(self, run_id: str, left_s: float) -> None:
        if self._clock.monotonic() - self._countdown_at_s >= COUNTDOWN_EVERY_S:
            self._countdown_at_s = self._clock.monotonic()
            self._context.say(
                f"{run_id} belongs to a worker that may be dead; if it gives no sign of life for {left_s:.0f} s more,"
                " this worker takes it up"
            )

    def _note_left(self, worked: Worked) -> None:
        self._ledger.refresh()
        self._standing.update()
        for run_id in list(worked.left):
            if run_id not in self._standing.open:
                del worked.left[run_id]
        for run_id, d in self._standing.open.items():
            if not self._wanted.wants(self._ledger.runs[run_id]):
                continue
            if d.state is RunState.RUNNING:
                worked.left.setdefault(run_id, "another worker is at it")
            elif d.state.is_claimable:
                reason = self._held_back.reason(run_id)
                worked.left.setdefault(run_id, (d.reason if reason is None else reason) or "not taken up yet")

    # Working.

    def _take_up(self, run_id: str) -> Outcome | None:
        # A third of all that a worker loads, and one that only looks never needs it.
        from driverun.execution.attempt import Attempt

        self._waiting = f"claims {run_id}, and waits until every other worker can see that"
        self._asked += 1
        claimed = self._claiming.claim(run_id)
        if not isinstance(claimed, Assignment):
            return claimed
        attempt = Attempt(self._context, claimed)
        self._attempt = attempt
        try:
            with _Deadline(self._context, self._deadline_s):
                return attempt.run()
        finally:
            self._note_ended(attempt.view())
            self._attempt = None

    def _note_ended(self, ended: AttemptView) -> None:
        if ended.outcome is None:
            return  # the root was out of reach; the next look tells how the run stands
        now = RunView(
            run_id=ended.run_id, state=RunState[ended.outcome.state.name], note=ended.outcome.reason
        )
        self._seen = tuple(now if run.run_id == ended.run_id else run for run in self._seen)
        self._finished = (*self._finished, ended)


class _Deadline:
    """Asks to hand over when the time is up, while an attempt is at work."""

    def __init__(self, context: WorkerContext, deadline_s: float | None) -> None:
        self._context = context
        self._deadline_s = deadline_s
        self._stop: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        if self._deadline_s is not None:
            self._stop = self._context.tasks.every(1.0, self._look, name="deadline").stop

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def _look(self) -> None:
        assert self._deadline_s is not None
        if self._context.clock.monotonic() >= self._deadline_s:
            self._context.stop.ask(Stop.DEADLINE)
