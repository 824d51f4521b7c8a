"""Many workers on one root in continuous time, by a seed: leases, pauses, crashes, lost answers, clocks hours off.

Each worker is a thread, but only one of them moves at a time: whose turn it is follows from a queue of moments.
So a seed tells the same story each time.
"""

from __future__ import annotations

import hashlib
import heapq
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

from driverun.dispatch.lease import LeaseWatch, last_sign_of_life
from driverun.errors import ObjectExists, ObjectNotFound, StoreError, TransientStoreError
from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey, EntryKind, WishKind, attempt_of_path, run_file, wish_file
from driverun.runs.record import RunFile
from driverun.storage.base import FolderNews, ObjectInfo
from driverun.storage.news import news_by_comparing
from driverun.storage.retrying import RetryingStore
from tests.model.explore import wish_bytes
from tests.model.invariants import (
    Taken,
    Views,
    Violation,
    check_delete,
    check_note,
    is_manifest,
    is_over,
    owner_on,
    taken_after,
)
from tests.model.program import LEASE_S, RUN, Job, Looking, Over, Phase, Snapshots, Surroundings, go_on
from tests.model.root import EPOCH, Root, entry_kind, info_of

T = TypeVar("T")

HEARTBEAT_S = 15.0
LATENCY_S = 0.4  #: of an operation at most, on each of its ways
LIVES = 40
MOST_COMMITS = 6
GIVEN_UP_S = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What goes wrong, and how often."""

    lag_s: float = 10.0
    pause_rate: float = 0.02  #: of operations that are held up, for up to three leases
    crash_rate: float = 0.004
    lost_rate: float = 0.02
    skew_h: float = 12.0  #: a machine's clock may be off by so much
    wishes: int = 0  #: to start afresh


@dataclass(kw_only=True)
class Story:
    """What happened."""

    seed: int
    workers: int
    operations: int = 0
    crashes: int = 0
    pauses: int = 0
    attempts: int = 0
    overlaps: int = 0  #: attempts that went on after another had been claimed
    longest_overlap_s: float = 0.0
    took_s: float = 0.0
    violation: str | None = None
    log: deque[str] = field(default_factory=lambda: deque(maxlen=60))

    def __str__(self) -> str:
        text = (
            f"seed {self.seed}, {self.workers} workers: {self.operations} operations, {self.attempts} attempts, "
            f"{self.pauses} pauses, {self.crashes} crashes, {self.overlaps} overlaps up to "
            f"{self.longest_overlap_s:.0f} s, over after {self.took_s:.0f} s"
        )
        return text if self.violation is None else "\n".join([text, *self.log, f"  => {self.violation}"])


def tell(seed: int, snapshots: Snapshots) -> Story:
    """The story of a seed, which says how many workers there are, too, and what the weather is like."""
    random = Random(f"{seed}")
    weather = Weather(
        lag_s=random.choice((0.0, 2.0, 10.0, 30.0)),
        crash_rate=random.choice((0.0, 0.004, 0.01)),
        wishes=random.choice((0, 0, 1)),
    )
    job = Job(commits=random.randint(2, MOST_COMMITS), keep=random.randint(1, 2))
    workers = random.choice((3, 4, 8, 16, 32))
    return Simulation(snapshots, seed=seed, workers=workers, job=job, weather=weather).run()


class _Crashed(BaseException):
    """The machine is gone."""


class Simulation:
    """One story."""

    def __init__(self, snapshots: Snapshots, *, seed: int, workers: int, job: Job, weather: Weather) -> None:
        self.random = Random(seed)
        self.weather = weather
        self.job = job
        self.snapshots = snapshots
        self.story = Story(seed=seed, workers=workers)
        self.now_s = -100.0  # when the run was submitted; by the time that workers come, everyone can see it
        self.root = Root({}, 0, False, 0)
        self.taken = Taken()
        self.begun: frozenset[AttemptKey] = frozenset()
        self.computing: dict[AttemptKey, float] = {}  # when it was seen to last
        self.workers: dict[str, _Worker] = {}
        self._views: dict[frozenset[object], Views] = {}
        self._queue: list[tuple[float, int, _Worker]] = []
        self._order = 0
        self._made = 0
        self._wished = 0
        self._main = threading.Semaphore(0)
        run = RunFile(run_id=RUN, name="digits", code_sha256="0" * 64, computed={})
        self.put(run_file(RUN), run.to_bytes())
        self.put(wish_file(RUN, WishKind.SUBMIT, "w0"), wish_bytes("submit", 0, {"job": None, "spec": {}}))
        self.now_s = 0.0
        self.root = self.root.aged(self.root.fresh(), 0)
        self._wishes_s = sorted(self.random.uniform(0, 900) for _ in range(weather.wishes))

    def run(self) -> Story:
        """Let everything happen until no worker is left."""
        for _ in range(self.story.workers):
            self._start(self.random.choice((0.0, self.random.uniform(0, 5), self.random.uniform(0, 600))))
        self._hand_to(self._next())
        self._main.acquire()
        for worker in self.workers.values():
            worker.kill()
        if self.story.violation is None:
            self._judge()
        self.story.took_s = self.now_s
        return self.story

    def _next(self) -> _Worker | None:
        """Whose turn it is, at the time that it is then; None if the story is at its end."""
        if not self._queue or self.story.violation is not None:
            return None
        self.now_s, _, worker = heapq.heappop(self._queue)
        while self._wishes_s and self._wishes_s[0] <= self.now_s:
            self._wishes_s.pop(0)
            self._wished += 1
            self.say("a person asks to retry --fresh")
            content = wish_bytes("retry", self._wished, {"fresh": True})
            self.put(wish_file(RUN, WishKind.RETRY, f"w{self._wished}"), content)
        if self.now_s > GIVEN_UP_S:
            self.broken("the run is starved: it is not over after a day")
            return None
        return worker

    def _hand_to(self, worker: _Worker | None) -> None:
        if worker is None:
            self._main.release()
        else:
            worker.go_on()

    # What workers call, one at a time.

    def yield_to_others(self, worker: _Worker, seconds: float) -> None:
        """Come back `seconds` later."""
        self._order += 1
        heapq.heappush(self._queue, (self.now_s + max(0.0, seconds), self._order, worker))
        following = self._next()
        if following is not worker:
            self._hand_to(following)
            worker.wait_for_turn()

    def ended(self, *, crashed: bool) -> None:
        """A worker's thread is at its end."""
        if crashed:
            self.story.crashes += 1
            self._start(self.random.uniform(1, 100))
        self._hand_to(self._next())

    def say(self, text: str) -> None:
        self.story.log.append(f"  {self.now_s:9.2f} {text}")

    def broken(self, violation: str) -> None:
        if self.story.violation is None:
            self.story.violation = violation

    @property
    def tick(self) -> int:
        return int(self.now_s * 1000)

    def put(self, path: str, content: bytes, properties: Mapping[str, str] | None = None) -> None:
        """Create the object, or write it again."""
        sha256 = hashlib.sha256(content).hexdigest()
        before, kept = self.root, tuple(sorted((properties or {}).items()))
        root = Root(before.things, self.tick - 1, True, 0)  # so that this is the time of what appears now
        if path in root.things:
            self.root = root.with_content(path, content, sha256, kept)
        else:
            sound = not is_manifest(path) or owner_on(root) == attempt_of_path(path)
            self.root = root.with_new(path, content, sha256, kept, is_sound=sound)
        self._check(before)

    def remove(self, path: str) -> None:
        check_delete(self.root, path)
        self.root = self.root.without(path)

    def note(self, kind: str, about: str, worker: _Worker) -> None:
        self.say(f"{worker.name}: {kind} {about}")
        self.begun = check_note(self.root, f"{kind} {about}", self.begun)
        if kind == "won":
            self.story.attempts += 1
        if kind == "beat":
            _, number, name = about.rsplit(".", 2)
            key = AttemptKey(run_id=RUN, number=int(number), worker=name)
            self.computing[key] = self.now_s

    def _check(self, before: Root) -> None:
        old = [
            path
            for path, thing in self.root.things.items()
            if thing.is_fresh and thing.created <= self.tick - self.weather.lag_s * 1000
        ]
        if old:
            self.root = self.root.aged(old, 0)
        if self.root.ledger != before.ledger:
            self.taken = taken_after(self.root, self.taken, self._views)  # type: ignore[arg-type]

    def _start(self, in_s: float) -> None:
        self._made += 1
        worker = _Worker(self, f"{'abcdefgh'[self._made % 8]}{self._made:03d}")
        self.workers[worker.name] = worker
        self._order += 1
        heapq.heappush(self._queue, (self.now_s + in_s, self._order, worker))

    def _judge(self) -> None:
        """What can only be told in the end."""
        if not is_over(self.root):
            self.broken("the run is starved: all workers left, and it is not over")
        claims = [thing for thing in self.root.ledger if entry_kind(thing.path) is EntryKind.CLAIM]
        for key, last_s in self.computing.items():
            later = [
                thing.created / 1000 for thing in claims if int(thing.path.rsplit(".", 4)[1]) > key.number
            ]
            if not later or last_s <= (since_s := min(later)):
                continue
            overlap_s = last_s - since_s
            held_s = self.workers[key.worker].held_between(since_s, last_s)
            self.story.overlaps += 1
            self.story.longest_overlap_s = max(self.story.longest_overlap_s, overlap_s)
            bound_s = self.weather.lag_s + HEARTBEAT_S + held_s + 0.1
            if overlap_s > bound_s:
                self.broken(
                    f"{key} computes {overlap_s:.1f} s after it was superseded; at most {bound_s:.1f} s are right"
                )


class _Worker:
    """One machine with one worker: its thread and its clock."""

    def __init__(self, sim: Simulation, name: str) -> None:
        self.name = name
        self._held: list[tuple[float, float]] = []  # when it was paused, or waited for an answer
        self._sim = sim
        self._asleep_s = 0.0
        self._skew = timedelta(hours=sim.random.uniform(-1, 1) * sim.weather.skew_h)
        self._turn = threading.Semaphore(0)
        self._is_killed = False
        self.ages: dict[str, float] = {}  #: of what it looked at last, when it did
        self._thread: threading.Thread | None = None

    def go_on(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()
        else:
            self._turn.release()

    def kill(self) -> None:
        if self._thread is not None:
            self._is_killed = True
            self._turn.release()
            self._thread.join()

    def wait_for_turn(self) -> None:
        self._turn.acquire()
        if self._is_killed:
            raise _Crashed

    def is_held(self, seconds: float) -> None:
        self._held.append((self._sim.now_s, self._sim.now_s + seconds))

    def held_between(self, start_s: float, end_s: float) -> float:
        """For how long it was paused, or cut off from the root, in that time."""
        return sum(max(0.0, min(end, end_s) - max(start, start_s)) for start, end in self._held)

    def _work(self) -> None:
        crashed = False
        try:
            self._until_over()
        except _Crashed:
            if self._is_killed:
                return
            self._sim.say(f"{self.name} crashes")
            crashed = True
        except Violation as exc:
            self._sim.say(f"{self.name} does it")
            self._sim.broken(str(exc))
        except Exception as exc:  # a fault of the simulation, or of driverun: both end the story
            self._sim.broken(f"{self.name} falls over: {exc!r}")
        self._sim.ended(crashed=crashed)

    def _until_over(self) -> None:
        sim = self._sim
        store = RetryingStore(_Line(sim, self), clock=_CutOff(self), random=Random(1), budget_s=120.0)
        watch = LeaseWatch(store, self, probe=lambda process: None)

        def is_stale(claim: ClaimEvidence) -> bool:
            if not watch.is_stale(claim):
                return False
            since_s = sim.now_s - _seconds(last_sign_of_life(claim))
            age_s = self.ages.get(claim.key.record_file, since_s)
            if age_s + 4 * LATENCY_S < LEASE_S:
                raise Violation(f"{self.name} takes {claim.key} for dead {age_s:.1f} s after a sign of life")
            return True

        here = Surroundings(
            store=store,
            clock=self,
            job=sim.job,
            snapshots=sim.snapshots,
            stale=lambda evidence: watch.stale_among([evidence]),
            is_stale=is_stale,
            note=lambda kind, about: sim.note(kind, about, self),
            train=self._train,
        )
        phase: Phase = Looking(worker=self.name, lives=LIVES)
        while not isinstance(phase, Over):
            try:
                following = go_on(phase, here)
            except StoreError as exc:
                sim.say(f"{self.name}: {exc}")
                following = Looking(worker=self.name, lives=LIVES)
            if following == phase:
                self.sleep(5.0)
            phase = following
        sim.say(f"{self.name}: {phase.why}")

    def _train(self, beat: Callable[[], None]) -> None:
        for _ in range(self._sim.random.randint(1, 6)):
            self.sleep(HEARTBEAT_S)
            beat()

    # A clock.

    def now(self) -> datetime:
        """By this machine's own clock, which is hours off."""
        return EPOCH + self._skew + timedelta(seconds=self._sim.now_s)

    def monotonic(self) -> float:
        return self._sim.now_s - self._asleep_s

    def sleep(self, seconds: float) -> None:
        self._sim.yield_to_others(self, seconds)

    def travel(self) -> None:
        """On its way to the root or back: it may take long, or never arrive."""
        random, weather = self._sim.random, self._sim.weather
        away_s = random.uniform(0.02, LATENCY_S)
        if random.random() < weather.pause_rate / 2:
            self._sim.story.pauses += 1
            pause_s = random.uniform(0, 3 * LEASE_S)
            self._sim.say(f"{self.name} stands still for {pause_s:.0f} s")
            away_s += pause_s
            self._asleep_s += pause_s * random.choice((0, 1))
        self.is_held(away_s)
        self._sim.yield_to_others(self, away_s)
        if random.random() < weather.crash_rate / 2:
            raise _Crashed


class _CutOff:
    """The clock by which a worker waits for a root that does not answer."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    def now(self) -> datetime:
        return self._worker.now()

    def monotonic(self) -> float:
        return self._worker.monotonic()

    def sleep(self, seconds: float) -> None:
        self._worker.is_held(seconds)
        self._worker.sleep(seconds)


class _Line:
    """A worker's way to the root."""

    location = "simulated"

    def __init__(self, sim: Simulation, worker: _Worker) -> None:
        self._sim = sim
        self._worker = worker

    @property
    def listing_lag_s(self) -> float:
        return self._sim.weather.lag_s

    def now(self) -> datetime:
        return self._carried_out("", lambda: EPOCH + timedelta(milliseconds=self._sim.tick))

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        whole = content if isinstance(content, bytes) else content.read_bytes()

        def create() -> ObjectInfo:
            if path in self._sim.root.things:
                raise ObjectExists(f"{path} is taken", path=path)
            self._sim.put(path, whole, properties)
            return info_of(self._sim.root.things[path])

        return self._carried_out(f"creates {path}", create)

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        whole = content if isinstance(content, bytes) else content.read_bytes()

        def replace() -> ObjectInfo:
            self._there(path)
            self._sim.put(path, whole, properties)
            return info_of(self._sim.root.things[path])

        return self._carried_out(f"replaces {path}", replace)

    def read(self, path: str) -> bytes:
        return self._carried_out("", lambda: self._sim.root.things[self._there(path)].content)

    def download(self, path: str, target: Path) -> ObjectInfo:
        raise NotImplementedError("checksums are known")

    def stat(self, path: str) -> ObjectInfo:
        def stat() -> ObjectInfo:
            thing = self._sim.root.things[self._there(path)]
            self._worker.ages[path] = self._sim.now_s - thing.modified / 1000
            return info_of(thing)

        return self._carried_out("", stat)

    def news(self, folder: str, since: object = None) -> FolderNews:
        return news_by_comparing(self.list(folder), since)

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        def list_() -> list[ObjectInfo]:
            sim = self._sim
            old = sim.tick - sim.weather.lag_s * 1000
            shown = [
                thing
                for thing in sim.root.inside(folder)
                if thing.created <= old or sim.random.random() < 0.5
            ]
            return sorted((info_of(thing) for thing in shown), key=lambda info: info.path)

        return self._carried_out("", list_)

    def delete(self, path: str) -> None:
        self._carried_out(f"deletes {path}", lambda: self._sim.remove(path))

    def ensure_folder(self, path: str) -> None:
        """Folders are nothing but the beginnings of names."""

    def _there(self, path: str) -> str:
        if path not in self._sim.root.things:
            raise ObjectNotFound(f"nothing at {path}", path=path)
        return path

    def _carried_out(self, what: str, act: Callable[[], T]) -> T:
        """Ask the root: on the way there and back it may be held up, lose its way, or be the end."""
        self._worker.travel()
        self._sim.story.operations += 1
        random, weather = self._sim.random, self._sim.weather
        fate = random.random()
        if fate < weather.lost_rate / 2:
            raise TransientStoreError("the request is lost")
        if what:
            self._sim.say(f"{self._worker.name} {what}")
        answer = act()
        self._worker.travel()
        if fate < weather.lost_rate:
            raise TransientStoreError("the answer is lost")
        return answer


def _seconds(at: datetime) -> float:
    return (at - EPOCH).total_seconds()
