"""A worker as a function of the answers it was given: real code, stopped before each operation on the root.

Threads cannot be copied, so a worker that is to be continued in two ways is run again, from the beginning of its
phase, with the answers of before. The code is deterministic, so it comes to the very same point; and what it did
with an answer once is remembered, so that each sequence of answers is run once only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

from driverun.dispatch.lease import may_be_stale
from driverun.errors import ObjectExists, ObjectNotFound, TransientStoreError
from driverun.runs.evidence import RunEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.ownership import owner_of
from driverun.storage.base import FolderNews, ObjectInfo
from driverun.storage.news import news_by_comparing
from driverun.storage.retrying import RetryingStore
from tests.model.program import Job, Over, Phase, Snapshots, Surroundings, go_on
from tests.model.root import EPOCH, Properties, Thing, info_of

LAG_S = 10.0
TRAINING_S = 300.0  #: from one snapshot to the next: longer than any lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """What a worker is about to do."""

    name: str  #: of the store's method, or "settle", "sleep", "nap", "note"
    path: str = ""
    content: bytes = b""
    sha256: str = ""
    properties: Properties = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an operation."""

    kind: str  #: "info", "list", "bytes", "done", "missing", "exists", "lost"
    things: tuple[Thing, ...] = ()
    content: bytes = b""


DONE, MISSING, EXISTS, LOST = Answer("done"), Answer("missing"), Answer("exists"), Answer("lost")


class _Stopped(BaseException):
    """The answers are used up; not an Exception, so that nothing which handles errors outlives it."""

    def __init__(self, op: Op) -> None:
        self.op = op


class _Answers:
    """The answers in their order; then the worker is stopped, but for what nobody else can come between."""

    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self.asides: list[Op] = []  #: since the last answer
        self._answers = answers
        self._next = 0

    def to(self, op: Op) -> Answer:
        aside = _aside(op)
        if aside is not None:
            if self._next == len(self._answers):
                self.asides.append(op)
            return aside
        if self._next == len(self._answers):
            raise _Stopped(op)
        self._next += 1
        return self._answers[self._next - 1]


def _aside(op: Op) -> Answer | None:
    """The answer to an operation that commutes with whatever others do; None for one that does not.

    A pack is named by its content and nobody looks at its time, nor at files of results without their manifest;
    they are there before anything refers to them.
    """
    name = op.path.rpartition("/")[2]
    if op.name in ("note", "nap"):
        return DONE
    if (
        op.name == "create"
        and (name.startswith("pack-") or "/results/" in op.path)
        and name != "manifest.json"
    ):
        return Answer("info", (thing_aside(op),))
    return None


def thing_aside(op: Op) -> Thing:
    return Thing(
        path=op.path,
        created=0,
        modified=0,
        content=op.content,
        sha256=op.sha256,
        properties=None,
        is_fresh=True,
        is_sound=True,
    )


class _Clock:
    """A machine's own clock, which may be hours off; to wait for the listing lag is an operation."""

    def __init__(self, answers: _Answers | None, skew: timedelta) -> None:
        self._answers = answers
        self._skew = skew
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return EPOCH + self._skew + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    def sleep(self, seconds: float) -> None:
        self._elapsed_s += max(0.0, seconds)
        if self._answers is not None:
            if seconds > LAG_S:
                self._answers.to(Op(name="settle"))
            else:
                self._answers.to(Op(name="sleep" if seconds == LAG_S else "nap"))

    def train(self, beat: Callable[[], None]) -> None:
        """Longer than the lag. Heartbeats are explored by themselves: one that finds nothing changes nothing."""
        self.sleep(TRAINING_S)


class _Store:
    """An ObjectStore that knows nothing but the answers."""

    listing_lag_s = LAG_S
    location = "model"

    def __init__(self, answers: _Answers, *, keeps_properties: bool) -> None:
        self._answers = answers
        self._keeps_properties = keeps_properties

    def now(self) -> datetime:
        raise NotImplementedError("no decision but that about a lease asks for the store's time")

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._changed("create", path, content, properties)

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._changed("replace", path, content, properties)

    def read(self, path: str) -> bytes:
        return self._found(self._answers.to(Op(name="read", path=path)), path).content

    def download(self, path: str, target: Path) -> ObjectInfo:
        raise NotImplementedError("checksums are known")

    def stat(self, path: str) -> ObjectInfo:
        return info_of(self._found(self._answers.to(Op(name="stat", path=path)), path).things[0])

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        answer = self._found(self._answers.to(Op(name="list", path=folder)), folder)
        found = [info_of(thing) for thing in answer.things]
        return [info for info in found if info.path.startswith(f"{folder}/{prefix}")]

    def news(self, folder: str, since: object = None) -> FolderNews:
        return news_by_comparing(self.list(folder), since)

    def delete(self, path: str) -> None:
        self._found(self._answers.to(Op(name="delete", path=path)), path)

    def ensure_folder(self, path: str) -> None:
        """Folders are nothing but the beginnings of names."""

    def _changed(
        self, name: str, path: str, content: bytes | Path, properties: Mapping[str, str] | None
    ) -> ObjectInfo:
        whole = content if isinstance(content, bytes) else content.read_bytes()
        op = Op(
            name=name,
            path=path,
            content=whole,
            sha256=hashlib.sha256(whole).hexdigest(),
            properties=tuple(sorted((properties or {}).items())) if self._keeps_properties else None,
        )
        return info_of(self._found(self._answers.to(op), path).things[0])

    def _found(self, answer: Answer, path: str) -> Answer:
        if answer is MISSING:
            raise ObjectNotFound(f"nothing at {path}", path=path)
        if answer is EXISTS:
            raise ObjectExists(f"{path} is taken", path=path)
        if answer is LOST:
            raise TransientStoreError(f"no answer about {path}", path=path)
        return answer


class Node:
    """A worker at one point: before an operation, or at its end."""

    __slots__ = ("_next", "answers", "op", "phase")

    def __init__(self, phase: Phase, answers: tuple[Answer, ...], op: Op | None) -> None:
        self.phase = phase
        self.answers = answers
        self.op = op  #: None: it is over
        self._next: dict[Answer, Came] = {}


class Came(NamedTuple):
    """Where a worker came to, and what it did on its way there that nobody can come between."""

    node: Node
    asides: tuple[Op, ...]


class Minds:
    """All points that workers have come to so far; equal ones are one."""

    def __init__(
        self,
        snapshots: Snapshots,
        job: Job,
        skews: Mapping[str, timedelta],
        *,
        keeps_properties: bool = True,
    ) -> None:
        self._keeps_properties = keeps_properties
        self._snapshots = snapshots
        self._job = job
        self._skews = skews
        self._roots: dict[Phase, Came] = {}
        self.replays = 0

    def at(self, phase: Phase) -> Came:
        """A worker at the beginning of a phase."""
        found = self._roots.get(phase)
        if found is None:
            found = self._roots[phase] = self._run(phase, ())
        return found

    def after(self, node: Node, answer: Answer) -> Came:
        """The worker once it got that answer."""
        found = node._next.get(answer)
        if found is None:
            found = node._next[answer] = self._run(node.phase, (*node.answers, answer))
        return found

    def _run(self, phase: Phase, given: tuple[Answer, ...]) -> Came:
        if isinstance(phase, Over):
            return Came(Node(phase, (), None), ())
        self.replays += 1
        answers = _Answers(given)
        skew = self._skews.get(phase.worker[:1], timedelta())
        clock = _Clock(answers, skew)
        inner = _Store(answers, keeps_properties=self._keeps_properties)
        store = RetryingStore(inner, clock=_Clock(None, skew), random=Random(0), budget_s=600.0)
        here = Surroundings(
            store=store,
            clock=clock,
            job=self._job,
            snapshots=self._snapshots,
            stale=may_all_be_stale,
            is_stale=lambda claim: True,
            note=lambda what, about: _ignore(answers.to(Op(name="note", path=f"{what} {about}"))),
            train=clock.train,
        )
        try:
            following = go_on(phase, here)
        except _Stopped as stopped:
            return Came(Node(phase, given, stopped.op), tuple(answers.asides))
        came = self.at(following)
        return Came(came.node, (*answers.asides, *came.asides))


def may_all_be_stale(evidence: RunEvidence) -> frozenset[AttemptKey]:
    """Whoever has not said how it ended may have been silent for a lease: the worst that a lease can say."""
    owner = owner_of(evidence.claims)
    return frozenset({owner.key} if owner is not None and may_be_stale(owner) else ())


def _ignore(answer: Answer) -> None:
    return None
