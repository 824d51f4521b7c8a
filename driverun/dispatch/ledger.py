"""What the ledger holds: learned from one listing, kept fresh by what changes.

What a listing shows of a file, its head, is enough to decide; content is read where there is no head, and where
somebody asks for the details of a run.
"""

from __future__ import annotations

import gc
import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from driverun.dispatch.trust import judged
from driverun.errors import IntegrityError, ObjectNotFound
from driverun.runs.evidence import ClaimEvidence, RunEvidence, WishEvidence
from driverun.runs.heads import read_head
from driverun.runs.layout import (
    LEDGER,
    AttemptKey,
    EntryKind,
    LedgerName,
    parse_ledger_name,
    record_beside,
)
from driverun.runs.record import Claim, Record, RunFile, Wish, run_file_of
from driverun.storage.base import ObjectInfo, ObjectStore, people_of
from driverun.values import frozen_value

#: Of one file. What driverun writes is some thousand bytes, and as much more as a job has parameters and reasons.
MOST_BYTES = 1 << 24

FROZEN_BY_PYTHON = 1000  #: objects at the most; 3.12 begins with 375, others with none

Value = Claim | Record | RunFile | Wish

_READERS: Mapping[EntryKind, Callable[[bytes], Value]] = {
    EntryKind.RUN: RunFile.from_bytes,
    EntryKind.CLAIM: Claim.from_bytes,
    EntryKind.RECORD: Record.from_bytes,
    EntryKind.WISH: Wish.from_bytes,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerProblem:
    """A file in the ledger that makes no sense; the queue goes on without it."""

    path: str
    message: str


@frozen_value(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One file of the ledger as it was last heard of."""

    info: ObjectInfo
    name: LedgerName | None
    value: Value | None = None
    problem: str = ""
    is_head: bool = False  #: the value is without details
    is_cut: bool = False  #: ... and more was left out

    @property
    def version(self) -> tuple[object, ...]:
        return _version(self.info)


class Ledger:
    """The evidence of every run on a root. It may be used from many threads.

    What was seen once is remembered: a listing that lags behind takes nothing back.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._turn = threading.Lock()
        self._mark: object = None
        self._waiting: dict[str, ObjectInfo] = {}  #: listed, but not yet made sense of
        self._doubtful: set[str] = set()  #: not listed any more, though it was there when it was asked for
        self._entries: dict[str, _Entry] = {}
        self._news: dict[str, _Entry] = {}  #: made sense of, but not yet taken over
        self._paths_of: dict[str, set[str]] = defaultdict(set)
        self._runs: dict[str, RunEvidence] = {}
        self._faulty: dict[str, str] = {}
        self._revision = 0
        self._touched: dict[str, int] = {}  #: by run, the newest come last

    @property
    def runs(self) -> Mapping[str, RunEvidence]:
        """All runs as of the last refresh, by id."""
        return self._runs

    @property
    def problems(self) -> tuple[LedgerProblem, ...]:
        """Files that were passed over at the last refresh, by path."""
        return tuple(
            LedgerProblem(path=path, message=message) for path, message in sorted(self._faulty.items())
        )

    @property
    def revision(self) -> int:
        """Grows whenever anything becomes known."""
        return self._revision

    def run(self, run_id: str) -> RunEvidence | None:
        """What the last refresh showed of the run; None if there was nothing of it."""
        return self._runs.get(run_id)

    def touched_since(self, revision: int) -> list[str]:
        """The ids of the runs of which something became known after `revision`, at a cost that goes by their number."""
        with self._turn:
            found = []
            for run_id in reversed(self._touched):
                if self._touched[run_id] <= revision:
                    break
                found.append(run_id)
            return found

    def refresh(self) -> None:
        """Ask for the news of the ledger, and read what has no head.

        If it raises a StoreError, `runs` stays as it was.
        """
        with self._turn, _collection_paused(unless=self._mark is not None):
            news = self._store.news(LEDGER, self._mark)
            gone: set[str] = set(news.gone)
            if news.is_whole and (self._entries or self._waiting):
                listed = {info.path for info in news.changed}
                gone |= (self._entries.keys() | self._waiting.keys()) - listed
            for info in news.changed:
                self._doubtful.discard(info.path)
                if self._is_news(info):
                    self._waiting[info.path] = info
            for path in gone:
                self._waiting.pop(path, None)
            self._doubtful |= gone & self._entries.keys()
            self._mark = news.mark
            for info in list(self._waiting.values()):
                self._take(info)
            lost = [path for path in self._doubtful if not self._exists(path)]
            self._keep(lost)

    def detailed(
        self, run_id: str, kinds: Collection[EntryKind] = frozenset(EntryKind)
    ) -> RunEvidence | None:
        """The run with everything that its files of these kinds say; None if there is nothing of it.

        A record that moves on meanwhile is told by its head, until the next refresh.
        """
        with self._turn:
            for path in sorted(self._paths_of.get(run_id, ())):
                entry = self._entries[path]
                if entry.is_head and entry.name is not None and entry.name.kind in kinds:
                    whole = self._read(entry.info, entry.name)
                    if whole is not None:
                        self._news[path] = whole
            self._keep(())
            return self._runs.get(run_id)

    def _is_news(self, info: ObjectInfo) -> bool:
        known = self._entries.get(info.path)
        if known is None or known.info.object_id != info.object_id:
            return True
        # An older time than the known one is a listing that lags behind.
        return known.version != _version(info) and info.modified_at >= known.info.modified_at

    def _take(self, info: ObjectInfo) -> None:
        """Put what `info` names among the news; it waits on if it is just vanishing or changing."""
        read_before = self._news.get(info.path)  # by a refresh that did not come to its end
        if read_before is not None and read_before.version == _version(info):
            return
        name = parse_ledger_name(info.path)
        if name is None:
            self._news[info.path] = _Entry(
                info=info, name=None, problem="driverun writes no file of this name"
            )
            return
        record = record_beside(info.path) if name.kind is EntryKind.CLAIM else None
        if record is not None and (record in self._waiting or record in self._entries):
            entry: _Entry | None = _Entry(info=info, name=name)  # the record tells all that it does
        elif (head := read_head(name, info.properties, info.size_bytes)) is not None:
            entry = _Entry(info=info, name=name, value=head.value, is_head=True, is_cut=head.is_cut)
        else:
            entry = self._read(info, name)
        if entry is not None:
            self._news[info.path] = entry

    def _read(self, info: ObjectInfo, name: LedgerName) -> _Entry | None:
        """What the file says; None if it is just vanishing or changing."""
        if info.size_bytes > MOST_BYTES:  # nobody's memory is for a stranger to fill
            problem = f"it has {info.size_bytes:,} bytes, more than driverun writes"
            return _Entry(info=info, name=name, problem=problem)
        value, problem = None, ""
        try:
            content = self._store.read(info.path)
            if info.author is not None and not self._is_by_author(info, content):
                return None
            value = _parsed(info.path, name, content)
            outcome = isinstance(value, Record) and value.state.is_over
            # An outcome counts by its time. One that is younger than the listing waits for the next.
            if outcome and _version(self._store.stat(info.path)) != _version(info):
                return None
        except ObjectNotFound:
            return None
        except IntegrityError as exc:
            problem = str(exc)
        return _Entry(info=info, name=name, value=value, problem=problem)

    def _is_by_author(self, info: ObjectInfo, content: bytes) -> bool:
        """Is this what the author wrote whom `info` tells of, and not what somebody wrote since?"""
        if info.sha256 is not None:
            return info.sha256 == hashlib.sha256(content).hexdigest()
        return _version(self._store.stat(info.path)) == _version(info)

    def _exists(self, path: str) -> bool:
        try:
            self._store.stat(path)
        except ObjectNotFound:
            return False
        return True

    def _keep(self, lost: Iterable[str]) -> None:
        """Take over the news, forget what is lost, and work out again what this is about."""
        touched = set()
        for path in lost:
            self._doubtful.discard(path)
            self._faulty.pop(path, None)
            entry = self._entries.pop(path)
            if entry.name is not None:
                self._paths_of[entry.name.run_id].discard(path)
                touched.add(entry.name.run_id)
        self._entries.update(self._news)
        for path, entry in self._news.items():
            self._waiting.pop(path, None)
            self._faulty.pop(path, None)
            if entry.problem:
                self._faulty[path] = entry.problem
            if entry.name is not None:
                self._paths_of[entry.name.run_id].add(path)
                touched.add(entry.name.run_id)
        self._news = {}
        if not touched:
            return
        runs = dict(self._runs)
        people = people_of(self._store)
        self._revision += 1
        for run_id in touched:
            runs.pop(run_id, None)
            if entries := {path: self._entries[path] for path in sorted(self._paths_of[run_id])}:
                runs[run_id] = judged(_evidence(run_id, entries), people)
            self._touched.pop(run_id, None)
            self._touched[run_id] = self._revision
        self._runs = runs


@contextmanager
def _collection_paused(*, unless: bool) -> Iterator[None]:
    """For a first look, which may make a million values, none of them garbage: going through them is a fifth of it.

    They count as old afterwards, so that the collector does not go through them a moment later, either.
    """
    if unless or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() < FROZEN_BY_PYTHON:  # what somebody has frozen stays so
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        gc.enable()


def _version(info: ObjectInfo) -> tuple[object, ...]:
    return (info.object_id, info.modified_at, info.size_bytes)


def _key(name: LedgerName) -> AttemptKey:
    assert name.number is not None, "claims and records have a number"
    assert name.worker is not None, "claims and records have a worker"
    return AttemptKey(run_id=name.run_id, number=name.number, worker=name.worker)


def _parsed(path: str, name: LedgerName, content: bytes) -> Value:
    """Raises IntegrityError if `content` makes no sense, or belongs under another name."""
    value = _READERS[name.kind](content)
    match value:
        case RunFile():
            fits = value.run_id == name.run_id
        case Wish():
            fits = (value.run_id, value.kind, value.wish_id) == (name.run_id, name.wish, name.wish_id)
        case _:
            fits = value.key == _key(name)
    if not fits:
        raise IntegrityError(f"{path} holds the content of another file")
    return value


def _age(described: tuple[ObjectInfo, RunFile]) -> tuple[object, ...]:
    info, _ = described
    return (info.created_at, info.object_id)


def _evidence(run_id: str, entries: Mapping[str, _Entry]) -> RunEvidence:
    described: list[tuple[ObjectInfo, RunFile]] = []
    asked: list[tuple[ObjectInfo, RunFile]] = []  # by submissions, which say the same
    claims, wishes = [], []
    for path, entry in entries.items():
        name, info, value = entry.name, entry.info, entry.value
        if isinstance(value, RunFile):
            described.append((info, value))
        elif isinstance(value, Wish):
            if (run_file := run_file_of(value)) is not None:
                asked.append((info, run_file))
            wishes.append(
                WishEvidence(
                    kind=value.kind,
                    created_at=info.created_at,
                    object_id=info.object_id,
                    details=value.details,
                    run_file=run_file,
                    author=info.author,
                    is_head=entry.is_head,
                )
            )
        elif name is not None and name.kind is EntryKind.CLAIM:
            # By its name alone: whoever reads only names has to come to the same owner.
            beside = entries.get(record_beside(path))
            record = beside.value if beside is not None and isinstance(beside.value, Record) else None
            claims.append(
                ClaimEvidence(
                    key=_key(name),
                    created_at=info.created_at,
                    object_id=info.object_id,
                    process=value.process if isinstance(value, Claim) else None,
                    record=record,
                    record_modified_at=beside.info.modified_at if beside is not None else None,
                )
            )
    first = min(described or asked, key=_age, default=None)
    return RunEvidence(
        run_id=run_id,
        run_file=first[1] if first is not None else None,
        created_at=first[0].created_at if first is not None else None,
        claims=tuple(claims),
        wishes=tuple(wishes),
        is_cut=any(entry.is_cut for entry in entries.values()),
        author=min(described, key=_age)[0].author if described else None,
    )
