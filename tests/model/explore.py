"""Every interleaving of a few workers, breadth first, each state once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations
from typing import NamedTuple

from driverun.runs.layout import AttemptKey, EntryKind, WishKind, attempt_of_path, run_file, wish_file
from driverun.runs.record import RunFile, Wish
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
from tests.model.program import RUN, Job, Looking, Snapshots, Won
from tests.model.replay import DONE, EXISTS, LOST, MISSING, Answer, Minds, Node, Op, thing_aside
from tests.model.root import EPOCH, Root, Thing, entry_kind, is_order, younger_of

OLDER = ", the older"  #: of two objects at one path
WAITS = ("sleep", "settle")  #: for the listing lag; and a tick longer
NEW_LIVES = 4  #: attempts of a worker that comes when all others are gone
MOST_STEPS_ALONE = 300
HOURS = {"a": timedelta(hours=5), "b": timedelta(hours=-7), "c": timedelta(hours=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What there is to be done, and what may go wrong."""

    name: str
    job: Job = field(default_factory=Job)
    workers: tuple[str, ...] = ("a", "b")
    lives: tuple[int, ...] = (1, 1)  #: attempts that each worker may make
    lost: int = 0  #: answers that get lost
    restarts: int = 0  #: workers that crash, and are started again as new ones
    ties: int = 0  #: claims and manifests that get the very time of what appeared before
    twins: int = 0  #: creations after a lost answer that make a second object of the same name
    wishes: tuple[str, ...] = ()  #: of a person, in this order, each at any time
    keeps_properties: bool = True  #: does the store, so that a listing tells what a record says
    skews: Mapping[str, timedelta] = field(default_factory=lambda: HOURS)


class Budget(NamedTuple):
    """What may still go wrong."""

    lost: int
    restarts: int
    ties: int
    twins: int
    wishes: int


class Proc(NamedTuple):
    """A worker, and what will be older than the listing lag when it has waited for that."""

    node: Node
    waits_for: tuple[str, ...]
    settles: int


class State(NamedTuple):
    """The whole world at one moment."""

    root: Root
    procs: tuple[Proc, ...]
    budget: Budget
    taken: Taken
    begun: frozenset[AttemptKey]


@dataclass(kw_only=True)
class Explored:
    """What an exploration came to."""

    scenario: str
    states: int
    steps: int
    replays: int
    is_complete: bool
    ends: int  #: states after which nothing can happen any more
    finished: int  #: ends with results
    rescued: int  #: roots that were left by all workers, and ended by a new one
    violation: str | None
    trace: tuple[str, ...]

    def __str__(self) -> str:
        whole = "all" if self.is_complete else "the first"
        text = (
            f"{self.scenario}: {whole} {self.states} states, {self.steps} steps, "
            f"{self.replays} points of workers, {self.ends} ends, {self.finished} with results, {self.rescued} rescued"
        )
        if self.violation is not None:
            lines = (f"  {number:3d}. {line}" for number, line in enumerate(self.trace, 1))
            text += "\n" + "\n".join([*lines, f"  => {self.violation}"])
        return text


class Explorer:
    """Explores one scenario."""

    def __init__(self, scenario: Scenario, snapshots: Snapshots) -> None:
        self.scenario = scenario
        self.minds = Minds(
            snapshots, scenario.job, scenario.skews, keeps_properties=scenario.keeps_properties
        )
        self._views: dict[frozenset[Thing], Views] = {}

    def start(self) -> State:
        scenario = self.scenario
        root = Root({}, 0, False, 0)
        run = RunFile(run_id=RUN, name="digits", code_sha256="0" * 64, computed={})
        submit = wish_bytes("submit", 0, {"job": None, "spec": {}})
        root = root.with_new(run_file(RUN), run.to_bytes(), "run")
        root = root.with_new(wish_file(RUN, WishKind.SUBMIT, "w0"), submit, "submit")
        root = root.aged(list(root.things), root.tick)
        procs = tuple(
            Proc(self.minds.at(Looking(worker=f"{worker}001", lives=lives)).node, (), 0)
            for worker, lives in zip(scenario.workers, scenario.lives, strict=True)
        )
        budget = Budget(scenario.lost, scenario.restarts, scenario.ties, scenario.twins, len(scenario.wishes))
        return State(root, procs, budget, Taken(), frozenset())

    def explore(self, *, most: int = 10_000_000, rescue_every: int = 0) -> Explored:
        """Visit every state, `most` at most; the first violation ends it, with one of the shortest ways there.

        Args:
            rescue_every: after so many roots that differ, see whether a worker that comes alone ends the run.
        """
        start = self.start()
        came_from: dict[State, tuple[State, str] | None] = {start: None}
        ahead = deque([start])
        roots: set[Root] = set()
        steps = ends = finished = rescued = 0
        violation: str | None = None
        trace: tuple[str, ...] = ()
        while ahead and violation is None and len(came_from) < most:
            state = ahead.popleft()
            is_end = True
            is_new = rescue_every and state.root not in roots
            try:
                if is_new:
                    roots.add(state.root)
                    if len(roots) % rescue_every == 0:
                        self._rescue(state.root)
                        rescued += 1
                for label, following in self.steps(state):
                    is_end = False
                    steps += 1
                    if following not in came_from:
                        came_from[following] = (state, label)
                        ahead.append(following)
            except _Broken as broken:
                violation, trace = broken.violation, (*_way(came_from, state), broken.label)
            ends += is_end
            finished += is_end and state.taken.by_whole
        return Explored(
            scenario=self.scenario.name,
            states=len(came_from),
            steps=steps,
            replays=self.minds.replays,
            is_complete=not ahead and violation is None,
            ends=ends,
            finished=finished,
            rescued=rescued,
            violation=violation,
            trace=trace,
        )

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """All that may happen next. Raises _Broken."""
        for index, proc in enumerate(state.procs):
            op = proc.node.op
            if op is None:
                continue
            worker = proc.node.phase.worker
            for what, answer, root, budget in self._outcomes(state, proc, op):
                label = f"{worker} {what}"
                yield label, self._next(state, index, answer, root, budget, label)
            if state.budget.restarts and not isinstance(proc.node.phase, Looking):
                again = Looking(worker=f"{worker[:1]}{int(worker[1:]) + 1:03d}", lives=1)
                budget = state.budget._replace(restarts=state.budget.restarts - 1)
                procs = _with(state.procs, index, Proc(self.minds.at(again).node, (), 0))
                yield (
                    f"{worker} crashes, {again.worker} is started",
                    state._replace(procs=procs, budget=budget),
                )
        if state.budget.wishes:
            yield self._wish(state)

    def _rescue(self, root: Root) -> None:
        """All workers are gone for good, and a new one comes alone. Raises _Broken where it does not end the run."""
        worker = Looking(worker="z001", lives=NEW_LIVES)
        state = State(
            root=root.aged(root.fresh(), root.tick),
            procs=(Proc(self.minds.at(worker).node, (), 0),),
            budget=Budget(0, 0, 0, 0, 0),
            taken=Taken(),
            begun=frozenset(),
        )
        for _ in range(MOST_STEPS_ALONE):
            following = next(self.steps(state), None)
            if following is None:
                break
            state = following[1]
        if not is_over(state.root):
            raise _Broken("the run is starved: it is neither done nor given up", "all die, z001 is started")

    def _wish(self, state: State) -> tuple[str, State]:
        number = len(self.scenario.wishes) - state.budget.wishes
        what = self.scenario.wishes[number]
        kind, _, rest = what.partition(" ")
        details = {"fresh": rest == "fresh", "code_sha256": None} if kind == "retry" else {}
        content = wish_bytes(kind, number + 1, details)
        root = state.root.with_new(
            wish_file(RUN, WishKind(kind), f"w{number + 1}"), content, f"wish {number}"
        )
        budget = state.budget._replace(wishes=state.budget.wishes - 1)
        return f"a person asks: {what}", state._replace(root=root, budget=budget)

    def _outcomes(self, state: State, proc: Proc, op: Op) -> Iterator[tuple[str, Answer, Root, Budget]]:
        """All that may come of the operation: what it was, the answer, the root after it, what may still happen."""
        root, budget, path = state.root, state.budget, op.path
        less = budget._replace(lost=budget.lost - 1)
        if op.name in ("read", "stat"):
            thing = root.things.get(path)
            if thing is None:
                yield f"{op.name}s {path}: nothing", MISSING, root, budget
            elif op.name == "read":
                yield f"reads {path}", Answer("bytes", content=thing.content), root, budget
            else:
                yield f"stats {path}", Answer("info", (thing,)), root, budget
        elif op.name == "list":
            for missing in self._unseen(root, proc.node, path):
                said = f", without {', '.join(missing)}" if missing else ""
                yield f"lists {path}{said}", _listing(root, proc.node, path, missing), root, budget
        elif op.name in WAITS:
            old = proc.waits_for
            if op.name == "settle":
                old += tuple(
                    thing.path
                    for thing in root.ledger
                    if is_order(thing.path) and thing.created <= proc.settles
                )
            yield "has waited for the listing lag", DONE, root.aged(old, proc.settles), budget
        elif op.name == "create":
            if path in root.things:
                yield f"creates {path}: taken", EXISTS, root, budget
                if budget.twins and not root.things[path].again:
                    made = root.with_twin(path)
                    left = budget._replace(twins=budget.twins - 1)
                    answer = Answer("info", (younger_of(made.things[path]),))
                    yield f"creates {path} once more", answer, made, left
            else:
                sound = not is_manifest(path) or owner_on(root) == attempt_of_path(path)
                for ties in (False, True) if budget.ties and _may_tie(root, path) else (False,):
                    made = root.with_new(
                        path, op.content, op.sha256, op.properties, is_sound=sound, ties=ties
                    )
                    left = budget._replace(ties=budget.ties - 1) if ties else budget
                    said = f"creates {path}" + (" at the same tick" if ties else "")
                    yield said, Answer("info", (made.things[path],)), made, left
                    if budget.lost and not ties:
                        yield f"{said}, answer lost", LOST, made, less
        elif op.name == "replace":
            if path not in root.things:
                yield f"replaces {path}: nothing", MISSING, root, budget
            else:
                made = root.with_content(path, op.content, op.sha256, op.properties)
                yield f"replaces {path}", Answer("info", (made.things[path],)), made, budget
                if budget.lost:
                    yield f"replaces {path}, answer lost", LOST, made, less
        elif op.name == "delete":
            try:
                check_delete(root, path)
            except Violation as exc:
                raise _Broken(str(exc), f"{proc.node.phase.worker} deletes {path}") from exc
            made = root.without(path)
            yield f"deletes {path}", DONE, made, budget
            if budget.lost:
                yield f"deletes {path}, answer lost", LOST, made, less
        else:
            raise AssertionError(f"the explorer does not know {op.name}")

    def _unseen(self, root: Root, node: Node, folder: str) -> Iterator[tuple[str, ...]]:
        """What a listing of the folder may miss."""
        fresh = sorted(thing.path for thing in _listed(root, node, folder) if thing.is_fresh)
        packs = tuple(path for path in fresh if "/pack-" in path)
        others = [path for path in fresh if "/pack-" not in path]
        others += [f"{path}{OLDER}" for path in others if root.things[path].again]
        for number in range(len(others) + 1):
            for missing in combinations(others, number):
                yield missing
                if packs:
                    yield (*missing, *packs)

    def _next(
        self, state: State, index: int, answer: Answer, root: Root, budget: Budget, label: str
    ) -> State:
        """The state once the worker got its answer and went on to the next point where others may come between."""
        before = state.root
        node, asides = self.minds.after(state.procs[index].node, answer)
        begun = state.begun
        try:
            while True:
                for aside in asides:
                    if aside.name == "note":
                        begun = check_note(root, aside.path, begun)
                    elif aside.name == "create":
                        root = root.with_aside(thing_aside(aside))
                op = node.op
                if op is None or op.name != "read" or not _is_write_once(op.path):
                    break
                node, asides = self.minds.after(node, Answer("bytes", content=root.things[op.path].content))
            taken = (
                taken_after(root, state.taken, self._views) if root.ledger != before.ledger else state.taken
            )
        except Violation as exc:
            raise _Broken(str(exc), label) from exc
        sleeps = node.op is not None and node.op.name in WAITS
        proc = Proc(node, root.fresh() if sleeps else (), root.tick if sleeps else 0)
        procs = _with(state.procs, index, proc)
        if root is not before:
            procs = tuple(_still_waiting(each, root) for each in procs)
        return State(root, procs, budget, taken, begun)


class _Broken(Exception):
    def __init__(self, violation: str, label: str) -> None:
        self.violation = violation
        self.label = label


def _with(procs: tuple[Proc, ...], index: int, proc: Proc) -> tuple[Proc, ...]:
    return (*procs[:index], proc, *procs[index + 1 :])


def _still_waiting(proc: Proc, root: Root) -> Proc:
    """`proc`, which need not wait for what is old by now, or gone."""
    things = root.things
    left = tuple(path for path in proc.waits_for if path in things and things[path].is_fresh)
    return proc if len(left) == len(proc.waits_for) else proc._replace(waits_for=left)


def _may_tie(root: Root, path: str) -> bool:
    """Would it make a difference if what appears now had the tick of what appeared last?"""
    if is_order(path):
        return root.can_tie()
    return root.last_was_order and is_manifest(path)


def _is_write_once(path: str) -> bool:
    """Reading it now or later is the same: it never changes, and is never deleted."""
    return entry_kind(path) in (EntryKind.CLAIM, EntryKind.WISH, EntryKind.RUN)


def _listed(root: Root, node: Node, folder: str) -> list[Thing]:
    """What a listing shows, but for what the one who asks passes over anyhow.

    Who does not read the ledger, but only wants to know whose the run is, goes by the claims and wishes; who looks
    for a checkpoint, by the manifests.
    """
    things = root.inside(folder)
    if folder == "ledger":
        reads = isinstance(node.phase, Looking)
        return [thing for thing in things if reads or is_order(thing.path)]
    return [thing for thing in things if not isinstance(node.phase, Won) or is_manifest(thing.path)]


def _listing(root: Root, node: Node, folder: str, missing: tuple[str, ...]) -> Answer:
    shown = (
        younger_of(thing) if f"{thing.path}{OLDER}" in missing else thing
        for thing in _listed(root, node, folder)
        if thing.path not in missing
    )
    return Answer("list", tuple(sorted(shown, key=lambda thing: thing.path)))


def wish_bytes(kind: str, number: int, details: Mapping[str, object]) -> bytes:
    wish = Wish(
        run_id=RUN, kind=WishKind(kind), wish_id=f"w{number}", wished_at=EPOCH, by="a person", details=details
    )
    return wish.to_bytes()


def _way(came_from: Mapping[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels: list[str] = []
    before = came_from[state]
    while before is not None:
        labels.append(before[1])
        before = came_from[before[0]]
    return tuple(reversed(labels))
