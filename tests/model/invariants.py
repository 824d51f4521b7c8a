"""What must hold in every state, said once more and apart from the code that is checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain, combinations

from driverun.checkpoints.manifest import CheckpointManifest
from driverun.dispatch.ledger import Ledger
from driverun.errors import ObjectNotFound
from driverun.runs.layout import CHECKPOINT_NAME, AttemptKey, EntryKind, attempt_of_path, parse_ledger_name
from driverun.runs.state import Derived, derive_state
from driverun.storage.base import FolderNews, ObjectInfo
from driverun.storage.news import news_by_comparing
from tests.model.program import RUN
from tests.model.root import Root, Thing, entry_kind, info_of

MOST_WHOLE = 6  #: fresh objects, of which a reader may miss any subset

Results = tuple[AttemptKey, str]  #: whose, and where


class Violation(AssertionError):
    """Something happened that must not."""


# Whose is what.


def claims_on(things: Iterable[Thing]) -> list[tuple[AttemptKey, Thing]]:
    return [
        (key, thing)
        for thing in things
        if entry_kind(thing.path) is EntryKind.CLAIM and (key := key_of(thing.path)) is not None
    ]


@cache
def key_of(path: str) -> AttemptKey | None:
    """Of a claim or a record."""
    name = parse_ledger_name(path)
    if name is None or name.number is None or name.worker is None:
        return None
    return AttemptKey(run_id=name.run_id, number=name.number, worker=name.worker)


def owner_on(root: Root) -> AttemptKey | None:
    """Who owns the run by all that is there."""
    claims = claims_on(root.ledger)
    highest = max((key.number for key, _ in claims), default=0)
    return first_of_number(claims, highest)


def first_of_number(claims: Iterable[tuple[AttemptKey, Thing]], number: int) -> AttemptKey | None:
    contenders = [(thing.created, thing.path, key) for key, thing in claims if key.number == number]
    return min(contenders)[2] if contenders else None


def does_count(root: Root, manifest: Thing) -> bool:
    """By all that is there: did its attempt own its number, and is it older than every higher claim?"""
    key = attempt_of_path(manifest.path)
    if key is None:
        return False
    claims = claims_on(root.ledger)
    if first_of_number(claims, key.number) != key:
        return False
    return all(manifest.created < thing.created for other, thing in claims if other.number > key.number)


def is_manifest(path: str) -> bool:
    name = path.rpartition("/")[2]
    return path.startswith("runs/") and (
        CHECKPOINT_NAME.fullmatch(name) is not None or path.endswith("/results/manifest.json")
    )


def newest_checkpoint(root: Root, *, after: int = 0) -> Thing | None:
    """The one a new attempt would have to go on from, its packs being there."""
    found = [
        (_step(path), key.number, path)
        for path, thing in root.things.items()
        if _step(path) >= 0
        and (key := attempt_of_path(path)) is not None
        and key.number > after
        and does_count(root, thing)
        and all(pack in root.things for pack in packs_of(thing))
    ]
    return root.things[max(found)[2]] if found else None


@cache
def _step(path: str) -> int:
    match = CHECKPOINT_NAME.fullmatch(path.rpartition("/")[2])
    return int(match[1]) if match else -1


@cache
def packs_of(manifest: Thing) -> tuple[str, ...]:
    read = CheckpointManifest.from_bytes(manifest.content)
    return tuple(read.key.pack_file(pack.sha256) for pack in read.packs)


def fresh_start_after(root: Root, *, before: int | None = None) -> int:
    """Attempts up to this number are not to be resumed from, by the wishes older than the tick `before`."""
    asked = [
        thing.created
        for thing in root.ledger
        if entry_kind(thing.path) is EntryKind.WISH
        and json.loads(thing.content)["details"].get("fresh")
        and (before is None or thing.created < before)
    ]
    if not asked:
        return 0
    return max(
        (key.number for key, thing in claims_on(root.ledger) if thing.created <= max(asked)), default=0
    )


# What readers see.


class _Seen:
    """A store that shows a few things to a reader."""

    listing_lag_s = 0.0
    location = "what a reader sees"

    def __init__(self, root: Root, missing: frozenset[Thing]) -> None:
        self._root = root
        self._missing = missing

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        shown = (thing for thing in self._root.inside(folder) if thing not in self._missing)
        found = sorted((info_of(thing) for thing in shown), key=lambda info: info.path)
        return [info for info in found if info.path.startswith(f"{folder}/{prefix}")]

    def news(self, folder: str, since: object = None) -> FolderNews:
        return news_by_comparing(self.list(folder), since)

    def stat(self, path: str) -> ObjectInfo:
        if path not in self._root.things:
            raise ObjectNotFound(path, path=path)
        return info_of(self._root.things[path])

    def read(self, path: str) -> bytes:
        return self._root.things[path].content

    def now(self) -> datetime:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Views:
    """What readers may take for the results of the run."""

    whole: Results | None  #: who sees all that is there
    any: frozenset[Results]  #: who misses some of what a listing may miss


def views_of(root: Root, known: dict[frozenset[Thing], Views]) -> Views:
    ledger = root.ledger
    found = known.get(ledger)
    if found is None:
        found = known[ledger] = _views(root)
    return found


def _views(root: Root) -> Views:
    fresh = [
        thing
        for thing in root.ledger
        if thing.is_fresh and entry_kind(thing.path) in (EntryKind.CLAIM, EntryKind.RECORD)
    ]
    if not any(b'"SUCCEEDED"' in thing.content for thing in root.ledger):
        return Views(None, frozenset())
    seen = {missing: _results(root, missing) for missing in _subsets(fresh)}
    return Views(seen[frozenset()], frozenset(each for each in seen.values() if each is not None))


def _subsets(things: list[Thing]) -> Iterator[frozenset[Thing]]:
    """All of them; of many things, those that leave out few or keep few."""
    numbers = [n for n in range(len(things) + 1) if len(things) <= MOST_WHOLE or n < 2 or n > len(things) - 2]
    return (frozenset(each) for each in chain.from_iterable(combinations(things, n) for n in numbers))


def is_over(root: Root) -> bool:
    """Is the run done or given up, by all that is there, when nobody is at work any more?"""
    derived = _derived(root, frozenset(), all_gone=True)
    return derived is not None and derived.state.is_over


def _results(root: Root, missing: frozenset[Thing]) -> Results | None:
    derived = _derived(root, missing)
    if derived is None or derived.results_key is None or derived.results is None:
        return None
    return (derived.results_key, derived.results.path)


def _derived(root: Root, missing: frozenset[Thing], *, all_gone: bool = False) -> Derived | None:
    ledger = Ledger(_Seen(root, missing))  # type: ignore[arg-type]
    ledger.refresh()
    evidence = ledger.run(RUN)
    if evidence is None:
        return None
    return derive_state(evidence, stale=frozenset(claim.key for claim in evidence.claims if all_gone))


# What is checked when.


@dataclass(frozen=True, slots=True)
class Taken:
    """What readers have taken so far."""

    by_any: Results | None = None
    by_whole: bool = False


def taken_after(root: Root, taken: Taken, known: dict[frozenset[Thing], Views]) -> Taken:
    """What readers have taken once the root is as it is. Raises Violation where they differ, or change."""
    views = views_of(root, known)
    everything = views.any | ({taken.by_any} if taken.by_any is not None else frozenset())
    if len(everything) > 1:
        raise Violation(f"readers take different results for the run's: {_said(everything)}")
    if taken.by_whole and views.whole is None:
        raise Violation(f"the results of the run are gone: {_said(everything)}")
    if not everything:
        return taken
    (results,) = everything
    manifest = root.things.get(results[0].results_manifest)
    if manifest is None or not manifest.is_sound or not does_count(root, manifest):
        raise Violation(f"{_said(everything)} are taken for the run's, and do not count")
    return Taken(results, taken.by_whole or views.whole is not None)


def check_note(root: Root, what: str, begun: frozenset[AttemptKey]) -> frozenset[AttemptKey]:
    """What a worker has just concluded. Gives all attempts that were begun. Raises Violation."""
    kind, _, about = what.partition(" ")
    if kind == "won":
        _, number, worker = about.rsplit(".", 2)
        key = AttemptKey(run_id=RUN, number=int(number), worker=worker)
        if twins := [str(other) for other in begun if other.number == key.number]:
            raise Violation(f"{key} is begun, and so was {twins[0]}")
        return begun | {key}
    if kind == "resumed":
        by, _, path = about.partition(" ")
        own = root.things[f"ledger/{by}.claim.json"]
        after = fresh_start_after(root, before=own.created)
        manifest = root.things.get(path)
        if manifest is not None:  # it may have been read, and be deleted by now
            if not manifest.is_sound or not does_count(root, manifest):
                raise Violation(f"{by} resumes from {path}, which does not count")
            resumed = attempt_of_path(path)
            assert resumed is not None
            if resumed.number <= after:
                raise Violation(f"{by} resumes from {path}, though a person asked for a fresh start")
        newest = newest_checkpoint(root, after=max(after, fresh_start_after(root)))
        owner = owner_on(root)
        if newest is not None and str(owner) == by and (manifest is None or _step(path) < _step(newest.path)):
            raise Violation(f"{by} goes on from {path or 'the beginning'}, and {newest.path} is there")
    return begun


def check_delete(root: Root, path: str) -> None:
    """The object at `path` is about to be deleted. Raises Violation where that takes what a run goes on from."""
    newest = newest_checkpoint(root, after=fresh_start_after(root))
    if newest is not None and (path == newest.path or path in packs_of(newest)):
        raise Violation(f"{path} is deleted, the newest checkpoint that counts (or of it)")


def _said(results: Iterable[Results]) -> str:
    return " and ".join(sorted(f"those of {key}" for key, _ in results))
