"""Many workers on one root, killed and put to sleep at random: every run has to end as with one worker alone."""

from __future__ import annotations

import platform
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from driverun.assembly import Surroundings, make_root, open_client, open_store
from driverun.clock import Clock
from driverun.dispatch.ledger import Ledger
from driverun.errors import JobError, StoreError, UsageError
from driverun.execution.client import Client
from driverun.launchers.ground import Audit, Ground, LocalGround
from driverun.launchers.results_watch import ResultsWatch
from driverun.launchers.root_history import RootHistory, attempt_logs
from driverun.launchers.runtimes import Runtime
from driverun.launchers.soak_jobs import STEP_VARIABLE, STEPS, write_jobs
from driverun.report.summary import RunSummary
from driverun.runs.claim_log import (
    Allowance,
    ClaimAudit,
    Span,
    WorkerLife,
    audit_claims,
)
from driverun.runs.state import RunState

HEARTBEAT_S = 3.0
TICK_S = 0.2
SAMPLE_S = 3.0  #: between two looks at the status of every run
FRESH_SAMPLES = 5  #: each such look by somebody who has not looked before
LOOK_SHARE = 10.0  #: a look at all there is takes at most one part in so many of the time
EARLY_SHARE = 0.5  #: of the runs are there from the beginning; the others come one by one
END_S = 60.0  #: for a worker to hand over
SLACK_S = 15.0  #: for a machine with more workers than cores


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakPlan:
    """How much of everything."""

    workers: int = 12
    runs: int = 60
    fits: int = 6  #: so many of the runs train something with Keras, which takes memory
    run_s: float = 15.0  #: how long a run takes at least; one that trains, four times that
    minutes: float = 5.0  #: of kills and pauses
    every_s: float = 5.0  #: between two of them, on average
    pauses: float = 0.25  #: the share of them that are pauses
    lease_s: float = 12.0  #: of every worker; longer than lists lag, lest a look take the living for dead
    patience_minutes: float = 20.0  #: for the rest, afterwards

    def __post_init__(self) -> None:
        if self.workers < 1 or self.runs < 1:
            raise UsageError("cannot soak without a worker or a run: --workers and --runs are at least 1")
        if not 0 <= self.fits <= self.runs:
            raise UsageError(f"cannot have {self.fits} of {self.runs} runs train something")


@dataclass(slots=True, kw_only=True)
class RunRow:
    """What became of one run."""

    run_id: str
    state: RunState
    attempts: int
    is_same: bool  #: as with one worker alone


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakResult:
    """What a soak showed."""

    seed: int
    rows: tuple[RunRow, ...]
    faults: tuple[str, ...]
    claims: ClaimAudit
    kills: int
    pauses: int
    samples: int
    lasted_s: float  #: from the first worker to the last result
    audit: Audit | None

    @property
    def is_ok(self) -> bool:
        return not self.faults

    @property
    def lines(self) -> tuple[str, ...]:
        """For people."""
        states = Counter(row.state.value for row in self.rows)
        attempts = sorted(row.attempts for row in self.rows)
        same = sum(row.is_same for row in self.rows)
        found = [
            f"{len(self.rows)} runs: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}",
            f"{same} with the very results of a single worker",
            f"{self.kills} workers killed, {self.pauses} put to sleep for longer than a lease; {self.lasted_s:.0f} s",
            f"{sum(attempts)} attempts, at most {attempts[-1]} at a run",
            f"{self.claims.resumed} of them took up from a checkpoint",
            f"{self.claims.contested} numbers were asked for by more than one worker",
            f"results were looked at {self.samples} times",
        ]
        for overlap in self.claims.overlaps[:1]:
            found.append(
                f"{len(self.claims.overlaps)} workers went on after they were superseded, at most for"
                f" {overlap.overlap_s:.1f} s (allowed: {overlap.allowed_s:.1f} s)"
            )
        return tuple(found)


def run_soak(
    plan: SoakPlan,
    *,
    seed: int,
    keep: Path | None,
    here: Surroundings,
    say: Callable[[str], None],
    on: Callable[[Path], AbstractContextManager[Ground]] | None = None,
) -> SoakResult:
    """Run the same runs twice: by one worker in peace, and by many that are killed and put to sleep.

    A kill is SIGKILL to every process of a worker, and its disk deleted; another worker starts at once. A pause is
    SIGSTOP to all of them for longer than a lease. Every second worker says that it is on a host of its own, so that
    its death can be told by its lease alone.

    Args:
        seed: of what happens when.
        keep: a folder for both roots and what the workers said; it must be empty or not exist. None: they are removed.
        on: makes, in a folder, the root for the many; None: it is local.

    Raises:
        UsageError: `keep` is taken.
        JobError: the runs do not succeed even with one worker in peace.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise UsageError(f"cannot keep the soak in {keep}: the folder is not empty. Name a new one.")
    with ExitStack() as stack:
        base = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="driverun-soak-")))
        base = base.absolute()
        base.mkdir(parents=True, exist_ok=True)
        orders = _orders(plan, *write_jobs(base / "jobs"))
        expected = _alone(base / "alone", orders, here=here, say=say)
        ground = stack.enter_context(
            on(base / "many") if on is not None else nullcontext(LocalGround(base / "many" / "root"))
        )
        soak = _Soak(plan, ground, base / "many", random.Random(seed), here=here, say=say)
        try:
            lasted_s = soak.run(orders)
        finally:
            soak.end()
        return soak.result(expected, seed=seed, lasted_s=lasted_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """One run to be submitted."""

    job: Path
    number: int

    def give_to(self, client: Client) -> str:
        return client.submit(client.load_job(str(self.job)), params={"number": self.number}).run_id


def _orders(plan: SoakPlan, plain: Path, fit: Path) -> list[_Order]:
    """The fits are spread evenly among the others."""
    fits = {index * plan.runs // plan.fits for index in range(plan.fits)} if plan.fits else set()
    return [_Order(job=fit if number in fits else plain, number=number) for number in range(plan.runs)]


def _environment(here: Surroundings, ground: Ground) -> dict[str, str]:
    own = {name: value for name, value in here.environment.items() if not name.startswith("DRIVERUN_")}
    return {**own, **ground.environment}


def _alone(
    folder: Path, orders: Iterable[_Order], *, here: Surroundings, say: Callable[[str], None]
) -> dict[str, RunSummary]:
    """What the runs are when one worker does them all in peace, by id."""
    ground = LocalGround(folder / "root")
    environment = _environment(here, ground)
    store, _ = make_root(ground.address, replace(here, environment=environment))
    client = Client(store, clock=here.clock, by=here.person)
    for order in orders:
        order.give_to(client)
    say("one worker does them all in peace")
    worker = Runtime(ground.address, "--until-empty", environment=environment, workdir=folder / "worker")
    try:
        while worker.is_alive:
            here.clock.sleep(TICK_S)
    finally:
        worker.power_cut()
    found = {run.run_id: run for run in client.runs()}
    for run in found.values():
        if run.state is not RunState.SUCCEEDED:
            raise JobError(
                f"cannot soak: {run.run_id} ended {run.state.value} in peace: {run.reason}\n{worker.said()}"
            )
    return found


@dataclass(slots=True, kw_only=True)
class _Worker:
    """A worker at work."""

    name: str
    host: str
    runtime: Runtime
    asleep_since: datetime | None = None
    wakes_s: float = 0.0  #: by the monotonic clock
    pauses: list[Span] = field(default_factory=list)

    def life(self, ended_at: datetime | None = None) -> WorkerLife:
        return WorkerLife(host=self.host, pid=self.runtime.pid, ended_at=ended_at, pauses=tuple(self.pauses))


class _Soak:
    """Workers on one root, and what befalls them."""

    def __init__(
        self,
        plan: SoakPlan,
        ground: Ground,
        folder: Path,
        chosen: random.Random,
        *,
        here: Surroundings,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._ground = ground
        self._folder = folder
        self._chosen = chosen
        self._here = here
        self._clock: Clock = here.clock
        self._say = say
        self._environment = {
            **_environment(here, ground),
            "DRIVERUN_LEASE": f"{plan.lease_s:g}s",
            "DRIVERUN_HEARTBEAT": f"{HEARTBEAT_S:g}s",
            STEP_VARIABLE: f"{plan.run_s / STEPS:g}",
        }
        self._workers: list[_Worker] = []
        self._started = 0
        self._lives: list[WorkerLife] = []
        self._history = RootHistory()
        self._watch = ResultsWatch()
        self._faults: list[str] = []
        self._kills = self._pauses = self._samples = 0
        self._watcher: Client | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def _now_s(self) -> float:
        return self._clock.monotonic()

    def run(self, orders: list[_Order]) -> float:
        """Go through with it; gives how long it took until all runs were over, in seconds."""
        early = orders[: max(1, round(EARLY_SHARE * len(orders)))]
        late = orders[len(early) :]
        with self._ground.calm():
            client = self._client(lag_s=0.0)
            ordered = {order.give_to(client) for order in early}
        began_s = self._now_s
        kills_until_s = began_s + 60 * self._plan.minutes
        ends_s = kills_until_s + 60 * self._plan.patience_minutes
        apart_s = 0.8 * 60 * self._plan.minutes / max(1, len(late))
        next_order_s, next_blow_s = began_s + apart_s, began_s + self._next_blow_s()
        next_look_s = next_sample_s = began_s
        for _ in range(self._plan.workers):
            self._start()
        self._say(f"{self._plan.workers} workers; {len(early)} runs are there, {len(late)} come by and by")
        while True:
            now_s = self._now_s
            self._replace_the_dead()
            self._wake()
            if now_s < kills_until_s and now_s >= next_blow_s:
                self._strike()
                next_blow_s = now_s + self._next_blow_s()
            if late and now_s >= next_order_s:
                ordered.add(late.pop(0).give_to(self._watching()))
                next_order_s += apart_s
            if now_s >= next_look_s:
                self._history.take(self._ground.objects())
                next_look_s = self._now_s + LOOK_SHARE * (self._now_s - now_s)
            if now_s >= next_sample_s:
                self._sample()
                next_sample_s = self._now_s + SAMPLE_S
                if not late and now_s >= kills_until_s and ordered <= self._watch.over():
                    return self._now_s - began_s
            if now_s >= ends_s:
                left = sorted(ordered - self._watch.over())
                self._faults.append(f"not over after all this time: {', '.join(left)}")
                return self._now_s - began_s
            self._clock.sleep(TICK_S)

    def end(self) -> None:
        """Have every worker end."""
        for worker in self._workers:
            self._wake_one(worker)
            worker.runtime.ask_to_end()
        ends_s = self._now_s + END_S
        while any(worker.runtime.is_alive for worker in self._workers) and self._now_s < ends_s:
            self._clock.sleep(TICK_S)
        for worker in self._workers:
            if worker.runtime.is_alive:
                self._faults.append(
                    f"{worker.name} did not end when it was asked to:\n{worker.runtime.said()}"
                )
            worker.runtime.power_cut()
            self._lives.append(worker.life(self._clock.now()))
        self._workers = []

    # What befalls them.

    def _next_blow_s(self) -> float:
        return self._chosen.uniform(0.0, 2 * self._plan.every_s)

    def _start(self) -> None:
        self._started += 1
        environment = dict(self._environment)
        host = platform.node()
        if self._started % 2:
            host = environment["DRIVERUN_HOST"] = f"soak-{self._started}"
        name = f"worker-{self._started}"
        runtime = Runtime(
            self._ground.address, "--watch", environment=environment, workdir=self._folder / name
        )
        self._workers.append(_Worker(name=name, host=host, runtime=runtime))

    def _strike(self) -> None:
        awake = [worker for worker in self._workers if worker.asleep_since is None]
        if not awake:
            return
        worker = self._chosen.choice(awake)
        if self._chosen.random() < self._plan.pauses:
            worker.asleep_since = self._clock.now()
            worker.wakes_s = self._now_s + self._plan.lease_s * self._chosen.uniform(1.2, 2.0)
            worker.runtime.pause()
            self._pauses += 1
            return
        self._bury(worker)
        self._kills += 1
        self._start()

    def _bury(self, worker: _Worker) -> None:
        ended_at = self._clock.now()  # a neighbour may see it before its disk is gone
        worker.runtime.power_cut()
        self._workers.remove(worker)
        self._lives.append(worker.life(ended_at))

    def _wake(self) -> None:
        for worker in self._workers:
            if worker.asleep_since is not None and self._now_s >= worker.wakes_s:
                self._wake_one(worker)

    def _wake_one(self, worker: _Worker) -> None:
        if worker.asleep_since is not None:
            worker.pauses.append((worker.asleep_since, self._clock.now()))
            worker.asleep_since = None
            worker.runtime.go_on()

    def _replace_the_dead(self) -> None:
        """A worker that watches ends only when it is told to."""
        for worker in list(self._workers):
            if not worker.runtime.is_alive:
                self._faults.append(
                    f"{worker.name} ended by itself, with code {worker.runtime.exit_code}:\n{worker.runtime.said()}"
                )
                self._bury(worker)
                self._start()

    # Looking.

    def _client(self, *, lag_s: float | None = None) -> Client:
        """Somebody who looks at the root; None: for whom lists lag as they do."""
        environment = dict(self._environment)
        if lag_s is not None:
            environment["DRIVERUN_LISTING_LAG"] = f"{lag_s:g}s"
        there = replace(self._here, environment=environment)
        if lag_s is not None and self._watcher is None:
            make_root(self._ground.address, there)
        return open_client(self._ground.address, there)

    def _watching(self) -> Client:
        if self._watcher is None:
            self._watcher = self._client()
        return self._watcher

    def _sample(self) -> None:
        """See that what once was a run's result still is, to who watches all the time and to who comes anew."""
        self._samples += 1
        if self._samples % FRESH_SAMPLES == 0:
            self._watcher = None
        try:
            runs = self._watching().runs()
        except StoreError as exc:
            self._say(f"the root does not answer: {exc}")
            return
        for run in runs:
            self._watch.take(run)
        if self._samples % 10 == 0:
            self._say(f"{self._kills} killed, {self._pauses} put to sleep: {self._watch}")

    # The end.

    def result(self, expected: Mapping[str, RunSummary], *, seed: int, lasted_s: float) -> SoakResult:
        """What it all came to."""
        with self._ground.calm():
            environment = {**self._environment, "DRIVERUN_LISTING_LAG": "0s"}
            there = replace(self._here, environment=environment)
            client = open_client(self._ground.address, there)
            runs = client.runs()
            for run in runs:
                self._watch.take(run)
            ledger = Ledger(open_store(self._ground.address, there))
            ledger.refresh()
            self._history.take(self._ground.objects())
            attempts = attempt_logs(ledger, self._history)
        claims = audit_claims(
            attempts,
            self._lives,
            Allowance(listing_lag_s=self._lag_s(), heartbeat_s=HEARTBEAT_S, slack_s=SLACK_S),
        )
        rows = []
        for run in runs:
            alone = expected.get(run.run_id)
            is_same = alone is not None and _digests(alone) == _digests(run)
            rows.append(
                RunRow(run_id=run.run_id, state=run.state, attempts=len(run.attempts), is_same=is_same)
            )
            if run.state is not RunState.SUCCEEDED:
                self._faults.append(f"{run.run_id} ended {run.state.value}: {run.reason}")
            elif not is_same:
                self._faults.append(f"{run.run_id} has other results than with one worker alone")
        audit = self._ground.audit()
        missing = sorted(set(expected) - {run.run_id for run in runs})
        self._faults += [f"{run_id} is not there" for run_id in missing]
        return SoakResult(
            seed=seed,
            rows=tuple(rows),
            faults=(
                *self._faults,
                *self._watch.faults,
                *claims.faults,
                *(audit.untidy if audit is not None else ()),
            ),
            claims=claims,
            kills=self._kills,
            pauses=self._pauses,
            samples=self._samples,
            lasted_s=lasted_s,
            audit=audit,
        )

    def _lag_s(self) -> float:
        return self._watching().store.listing_lag_s


def _digests(run: RunSummary) -> tuple[str | None, str | None]:
    return (run.state_sha256, run.outputs_sha256)
