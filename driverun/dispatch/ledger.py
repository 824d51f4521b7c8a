"""What the ledger holds, read once and kept fresh by one listing."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from driverun.errors import IntegrityError, ObjectNotFound
from driverun.runs.evidence import ClaimEvidence, RunEvidence, WishEvidence
from driverun.runs.layout import LEDGER, AttemptKey, EntryKind, LedgerName, parse_ledger_name
from driverun.runs.record import Claim, Record, RunFile, Wish
from driverun.storage.base import ObjectInfo, ObjectStore

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One file of the ledger as it was last read."""

    info: ObjectInfo
    name: LedgerName | None
    value: Value | None = None
    problem: str = ""

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
        self._entries: dict[str, _Entry] = {}
        self._news: dict[str, _Entry] = {}  #: read, but not yet taken over
        self._paths_of: dict[str, set[str]] = defaultdict(set)
        self._runs: dict[str, RunEvidence] = {}
        self._problems: tuple[LedgerProblem, ...] = ()

    @property
    def runs(self) -> Mapping[str, RunEvidence]:
        """All runs as of the last refresh, by id."""
        return self._runs

    @property
    def problems(self) -> tuple[LedgerProblem, ...]:
        """Files that were passed over at the last refresh, by path."""
        return self._problems

    def run(self, run_id: str) -> RunEvidence | None:
        """What the last refresh showed of the run; None if there was nothing of it."""
        return self._runs.get(run_id)

    def refresh(self) -> None:
        """List the ledger once, and read what is new or has changed.

        If it raises a StoreError, `runs` stays as it was.
        """
        with self._turn:
            listed = {info.path: info for info in self._store.list(LEDGER)}
            news = [info for info in listed.values() if self._is_news(info)]
            for info in news:
                self._read(info, listed)
            gone = [path for path in self._entries.keys() - listed.keys() if not self._exists(path)]
            touched = self._keep(gone)
            runs = dict(self._runs)
            for run_id in touched:
                runs.pop(run_id, None)
                if entries := {path: self._entries[path] for path in sorted(self._paths_of[run_id])}:
                    runs[run_id] = _evidence(run_id, entries)
            self._runs = runs

    def _is_news(self, info: ObjectInfo) -> bool:
        known = self._entries.get(info.path)
        if known is None or known.info.object_id != info.object_id:
            return True
        # An older time than the known one is a listing that lags behind.
        return known.version != _version(info) and info.modified_at >= known.info.modified_at

    def _read(self, info: ObjectInfo, listed: Mapping[str, ObjectInfo]) -> None:
        """Put what `info` names among the news; leave it out if it is just vanishing or changing."""
        read_before = self._news.get(info.path)  # by a refresh that did not come to its end
        if read_before is not None and read_before.version == _version(info):
            return
        name = parse_ledger_name(info.path)
        if name is None:
            self._news[info.path] = _Entry(
                info=info, name=None, problem="driverun writes no file of this name"
            )
            return
        value, problem = None, ""
        told_by_record = name.kind is EntryKind.CLAIM and _key(name).record_file in listed
        if not told_by_record:
            try:
                value = _parsed(info.path, name, self._store.read(info.path))
                outcome = isinstance(value, Record) and value.state.is_over
                # An outcome counts by its time. One that is younger than the listing waits for the next.
                if outcome and _version(self._store.stat(info.path)) != _version(info):
                    return
            except ObjectNotFound:
                return
            except IntegrityError as exc:
                problem = str(exc)
        self._news[info.path] = _Entry(info=info, name=name, value=value, problem=problem)

    def _exists(self, path: str) -> bool:
        try:
            self._store.stat(path)
        except ObjectNotFound:
            return False
        return True

    def _keep(self, gone: Iterable[str]) -> set[str]:
        """Take over the news, forget what is gone; returns the runs that this is about."""
        touched = set()
        for path in gone:
            entry = self._entries.pop(path)
            if entry.name is not None:
                self._paths_of[entry.name.run_id].discard(path)
                touched.add(entry.name.run_id)
        for path, entry in self._news.items():
            self._entries[path] = entry
            if entry.name is not None:
                self._paths_of[entry.name.run_id].add(path)
                touched.add(entry.name.run_id)
        self._problems = tuple(
            LedgerProblem(path=path, message=entry.problem)
            for path, entry in sorted(self._entries.items())
            if entry.problem
        )
        self._news = {}
        return touched


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


def _evidence(run_id: str, entries: Mapping[str, _Entry]) -> RunEvidence:
    run_file, created_at = None, None
    claims, wishes = [], []
    for entry in entries.values():
        name, info = entry.name, entry.info
        if isinstance(entry.value, RunFile):
            run_file, created_at = entry.value, info.created_at
        elif isinstance(entry.value, Wish):
            wishes.append(
                WishEvidence(
                    kind=entry.value.kind,
                    created_at=info.created_at,
                    object_id=info.object_id,
                    details=entry.value.details,
                )
            )
        elif name is not None and name.kind is EntryKind.CLAIM:
            # By its name alone: whoever reads only names has to come to the same owner.
            key = _key(name)
            beside = entries.get(key.record_file)
            record = beside.value if beside is not None and isinstance(beside.value, Record) else None
            claims.append(
                ClaimEvidence(
                    key=key,
                    created_at=info.created_at,
                    object_id=info.object_id,
                    process=entry.value.process if isinstance(entry.value, Claim) else None,
                    record=record,
                    record_modified_at=beside.info.modified_at if beside is not None else None,
                )
            )
    return RunEvidence(
        run_id=run_id,
        run_file=run_file,
        created_at=created_at,
        claims=tuple(claims),
        wishes=tuple(wishes),
    )
