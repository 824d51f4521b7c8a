"""The root as a value: what lies on it, what a listing may still miss, and what each operation makes of it.

Times are ticks of a millisecond. All that is created or written between two claims (or wishes) has the same tick, and
each claim a tick of its own, unless a tie is asked for: the rules ask for nothing but the order of those, and fewer
times are fewer states. Whether an object is older than the listing lag is a flag of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from driverun.runs.layout import EntryKind, parse_ledger_name
from driverun.storage.base import ObjectInfo

Properties = tuple[tuple[str, str], ...] | None  #: None: this store keeps none
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One object on the root."""

    path: str
    created: int  #: tick
    modified: int  #: tick
    content: bytes
    sha256: str
    is_fresh: bool  #: younger than the listing lag: a listing may miss it
    properties: Properties
    is_sound: bool  #: of a claim, a manifest: did its attempt own the run when it appeared?
    again: int = (
        0  #: tick of a second object at the same path, which Drive permits; the older one is what counts
    )
    is_younger: bool = False  #: it stands for that second one


@cache
def entry_kind(path: str) -> EntryKind | None:
    name = parse_ledger_name(path)
    return name.kind if name is not None else None


@cache
def is_order(path: str) -> bool:
    """Is it what the rules compare times with: a claim, or a wish?"""
    return entry_kind(path) in (EntryKind.CLAIM, EntryKind.WISH)


@cache
def time_of(tick: int) -> datetime:
    return EPOCH + timedelta(milliseconds=tick)


class Root:
    """Everything on the root at one moment. Equal roots are equal; nothing changes one."""

    __slots__ = ("_hash", "_ledger", "last_was_order", "settled", "things", "tick")

    def __init__(self, things: dict[str, Thing], tick: int, last_was_order: bool, settled: int) -> None:
        self.things = things
        self.tick = tick  #: of what appeared last
        self.last_was_order = last_was_order
        self.settled = settled  #: no claim can have this tick, or an earlier one, any more
        self._hash = hash((frozenset(things.values()), tick, last_was_order, settled))
        self._ledger: frozenset[Thing] | None = None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Root)
            and self._hash == other._hash
            and (self.tick, self.last_was_order, self.settled)
            == (other.tick, other.last_was_order, other.settled)
            and self.things == other.things
        )

    @property
    def ledger(self) -> frozenset[Thing]:
        if self._ledger is None:
            self._ledger = frozenset(self.inside("ledger"))
        return self._ledger

    def inside(self, folder: str) -> Iterator[Thing]:
        """The objects in the folder itself, in no order."""
        prefix, length = f"{folder}/", len(folder) + 1
        return (
            thing
            for path, thing in self.things.items()
            if path.startswith(prefix) and "/" not in path[length:]
        )

    def can_tie(self) -> bool:
        """May a claim that appears now get the tick of what appeared last?"""
        return bool(self.things) and self.tick > self.settled

    def next_tick(self, path: str, *, ties: bool = False) -> int:
        """The tick that an object gets which appears at `path` now, or is written again."""
        order = is_order(path)
        if order:
            return self.tick if ties else self.tick + 1
        return self.tick + 1 if self.last_was_order and not ties else self.tick

    def with_new(
        self,
        path: str,
        content: bytes,
        sha256: str,
        properties: Properties = None,
        *,
        is_sound: bool = True,
        ties: bool = False,
    ) -> Root:
        tick = self.next_tick(path, ties=ties)
        thing = Thing(
            path=path,
            created=tick,
            modified=tick,
            content=content,
            sha256=sha256,
            properties=properties,
            is_fresh=True,
            is_sound=is_sound,
        )
        return Root({**self.things, path: thing}, tick, is_order(path), self.settled)

    def with_twin(self, path: str) -> Root:
        """As it is when what lies at `path` is created once more."""
        tick = self.next_tick(path)
        return Root(
            {**self.things, path: replace(self.things[path], again=tick)}, tick, is_order(path), self.settled
        )

    def with_aside(self, thing: Thing) -> Root:
        """With an object whose time nobody looks at."""
        return Root({**self.things, thing.path: thing}, self.tick, self.last_was_order, self.settled)

    def with_content(self, path: str, content: bytes, sha256: str, properties: Properties = None) -> Root:
        tick = self.next_tick(path)
        thing = replace(
            self.things[path], modified=tick, content=content, sha256=sha256, properties=properties
        )
        return Root({**self.things, path: thing}, tick, False, self.settled)

    def without(self, path: str) -> Root:
        things = dict(self.things)
        things.pop(path, None)
        return Root(things, self.tick, self.last_was_order, self.settled)

    def aged(self, paths: Iterable[str], settled: int) -> Root:
        """As it is when what lay at `paths` is older than the listing lag."""
        things = dict(self.things)
        for path in paths:
            if path in things:
                things[path] = replace(things[path], is_fresh=False)
        return Root(things, self.tick, self.last_was_order, max(self.settled, settled))

    def fresh(self) -> tuple[str, ...]:
        return tuple(sorted(path for path, thing in self.things.items() if thing.is_fresh))


def younger_of(thing: Thing) -> Thing:
    """The second object at the path, as who sees that one alone sees it."""
    return replace(thing, created=thing.again, modified=thing.again, again=0, is_younger=True)


@cache
def info_of(thing: Thing) -> ObjectInfo:
    return ObjectInfo(
        path=thing.path,
        object_id=f"id of {thing.path}" + (" again" if thing.is_younger else ""),
        size_bytes=len(thing.content),
        created_at=time_of(thing.created),
        modified_at=time_of(thing.modified),
        sha256=thing.sha256,
        properties=dict(thing.properties) if thing.properties is not None else None,
    )
