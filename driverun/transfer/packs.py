"""Many small files in a few large ones: the format of packs, and which files they stand for.

    .driverun/packs/<of which source>/<sha256>.<worker>.tar     a shard: plain tar, so that a person can open it
                                      <digest>.<worker>.json    an index, written last: where each file lies

A pack is a second copy and never the truth. A file in it stands for the one in the source as long as that one is
what it was when it was packed; a pack that is gone, damaged or out of date costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from driverun.errors import DriverunError, IntegrityError, ObjectNotFound
from driverun.runs.layout import packs_folder
from driverun.storage.base import ObjectInfo, ObjectStore, checked_path
from driverun.transfer.checksums import digest_of

SCHEMA_VERSION = 1
SMALL_BYTES = (
    4 << 20
)  #: files up to this size are packed; of larger ones the transfer itself is what takes time
FEWEST_FILES = 100  #: below, fetching one by one is over before it matters
SHARD_BYTES = 64 << 20  #: a few seconds of a line, for which a worker that is to stop may have to wait
SHARD_NAME = re.compile(r"([0-9a-f]{64})\.[a-z0-9]+\.tar")
INDEX_NAME = re.compile(r"[0-9a-f]{16}\.[a-z0-9]+\.json")

# What decides between a shard and its files: Drive answers in 150 ms and sends some 50 MB/s, and 24 files are
# fetched at a time (docs/architecture.md, "Data in").
_SECONDS_PER_FILE = 0.15 / 24
_SECONDS_PER_SHARD = 0.3
_BYTES_PER_S = 50e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file full of files."""

    name: str  #: in the folder of the source's packs
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file in a shard, with what the origin said of it when it was packed."""

    path: str  #: as in the source's listing
    size_bytes: int
    sha256: str
    object_id: str
    modified_at: str  #: ISO 8601
    shard: int  #: position of its shard in the index
    offset: int  #: of its first byte in the shard

    def stands_for(self, info: ObjectInfo) -> bool:
        """Whether the file is what it was."""
        if info.size_bytes != self.size_bytes or not info.object_id:
            return False
        if info.sha256 is not None:
            return info.sha256 == self.sha256
        return (info.object_id, info.modified_at.isoformat()) == (self.object_id, self.modified_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackIndex:
    """What one worker packed at one time."""

    source: str
    worker: str
    shards: tuple[Shard, ...]
    members: tuple[Member, ...]

    def to_bytes(self) -> bytes:
        content = {
            "schema_version": SCHEMA_VERSION,
            "source": self.source,
            "worker": self.worker,
            "shards": [asdict(shard) for shard in self.shards],
            "members": [
                [m.path, m.size_bytes, m.sha256, m.object_id, m.modified_at, m.shard, m.offset]
                for m in self.members
            ],
        }
        signed = {**content, "index_sha256": digest_of(content)}
        return json.dumps(signed, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> PackIndex:
        """Read what `to_bytes` wrote.

        Raises:
            IntegrityError: it is none, is damaged, or comes from a newer driverun.
        """
        try:
            raw = json.loads(content)
            promised = raw.pop("index_sha256")
            if digest_of(raw) != promised:
                raise ValueError("its checksum does not fit")
            if raw["schema_version"] > SCHEMA_VERSION:
                raise ValueError(
                    f"it has format {raw['schema_version']}, this driverun knows {SCHEMA_VERSION}"
                )
            shards = tuple(_shard(each) for each in raw["shards"])
            members = tuple(_member(each, len(shards)) for each in raw["members"])
            return cls(source=raw["source"], worker=raw["worker"], shards=shards, members=members)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, DriverunError) as exc:
            raise IntegrityError(f"this is no index of packs that driverun wrote: {exc}") from exc

    @property
    def name(self) -> str:
        """Of its file: the same content made by the same worker has the same name."""
        return f"{hashlib.sha256(self.to_bytes()).hexdigest()[:16]}.{self.worker}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundIndex:
    """An index on the root, with those of its shards that are there."""

    path: str
    index: PackIndex
    shards: Mapping[int, ObjectInfo]  #: by position


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """One shard that is to be fetched, and the files that are taken from it."""

    info: ObjectInfo
    sha256: str
    members: tuple[Member, ...]  #: by offset


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """How the files of a source are brought."""

    shards: tuple[ShardPlan, ...]
    single: tuple[ObjectInfo, ...]  #: each by itself
    unpacked: tuple[ObjectInfo, ...]  #: small files that no shard on the root stands for


def find_packs(store: ObjectStore, source: str) -> tuple[list[FoundIndex], list[ObjectInfo]]:
    """The indexes of a source that can be read, newest first, and everything in the folder of its packs."""
    listing = store.list(packs_folder(source))
    by_name = {info.path.rpartition("/")[2]: info for info in listing}
    found = []
    for name, info in by_name.items():
        if not INDEX_NAME.fullmatch(name):
            continue
        try:
            index = PackIndex.from_bytes(store.read(info.path))
        except (IntegrityError, ObjectNotFound):
            continue  # made by a newer driverun, damaged, or cleared away this moment
        if index.source != source:
            continue
        shards = {
            position: by_name[shard.name]
            for position, shard in enumerate(index.shards)
            if shard.name in by_name and by_name[shard.name].size_bytes == shard.size_bytes
        }
        found.append((info.created_at, name, FoundIndex(path=info.path, index=index, shards=shards)))
    return [each for _, _, each in sorted(found, key=lambda one: one[:2], reverse=True)], listing


def plan_fetch(files: Sequence[ObjectInfo], *, held: Iterable[str], found: Sequence[FoundIndex]) -> FetchPlan:
    """Decide for each file whether it comes by itself or in a shard.

    Args:
        held: paths of files that are in the cache.
        found: newest first; of several members for one file the newest is taken.
    """
    cached = set(held)
    by_path = {info.path: info for info in files}
    standing: dict[str, tuple[FoundIndex, Member]] = {}
    for each in found:
        for member in each.index.members:
            info = by_path.get(member.path)
            if info is None or member.path in standing or member.shard not in each.shards:
                continue
            if member.stands_for(info):
                standing[member.path] = (each, member)
    wanted: dict[str, list[Member]] = {}
    shards: dict[str, tuple[ObjectInfo, str]] = {}
    for path, (each, member) in standing.items():
        if path not in cached:
            info = each.shards[member.shard]
            shards[info.path] = (info, each.index.shards[member.shard].sha256)
            wanted.setdefault(info.path, []).append(member)
    plans = [
        ShardPlan(
            info=shards[path][0],
            sha256=shards[path][1],
            members=tuple(sorted(members, key=lambda member: member.offset)),
        )
        for path, members in sorted(wanted.items())
    ]
    plans = [plan for plan in plans if _is_worth_it(plan)]
    in_shards = {member.path for plan in plans for member in plan.members}
    return FetchPlan(
        shards=tuple(plans),
        single=tuple(info for info in files if info.path not in in_shards),
        unpacked=tuple(
            info for info in files if info.path not in standing and info.size_bytes <= SMALL_BYTES
        ),
    )


def superseded(
    files: Sequence[ObjectInfo], found: Sequence[FoundIndex], listing: Sequence[ObjectInfo]
) -> list[str]:
    """What may be deleted of a source's packs, in this order: indexes first, then shards that none names.

    An index goes when less than half of it stands for a file that no newer index stands for.
    """
    by_path = {info.path: info for info in files}
    standing: set[str] = set()
    gone: list[str] = []
    used: set[str] = set()
    for each in found:
        good = {
            member.path
            for member in each.index.members
            if member.path not in standing
            and member.path in by_path
            and member.shard in each.shards
            and member.stands_for(by_path[member.path])
        }
        if 2 * len(good) < len(each.index.members):
            gone.append(each.path)
        else:
            standing |= good
            used |= {info.path for info in each.shards.values()}
    return gone + [
        info.path
        for info in listing
        if info.path not in used and SHARD_NAME.fullmatch(info.path.rpartition("/")[2])
    ]


def _is_worth_it(plan: ShardPlan) -> bool:
    wanted_bytes = sum(member.size_bytes for member in plan.members)
    by_file_s = len(plan.members) * _SECONDS_PER_FILE + wanted_bytes / _BYTES_PER_S
    return _SECONDS_PER_SHARD + plan.info.size_bytes / _BYTES_PER_S <= by_file_s


def _shard(raw: Mapping[str, Any]) -> Shard:
    name, size_bytes, sha256 = raw["name"], raw["size_bytes"], raw["sha256"]
    if not (SHARD_NAME.fullmatch(name) and isinstance(size_bytes, int) and isinstance(sha256, str)):
        raise TypeError(f"{name!r} is not listed as a shard")
    return Shard(name=name, size_bytes=size_bytes, sha256=sha256)


def _member(raw: Sequence[Any], shards: int) -> Member:
    path, size_bytes, sha256, object_id, modified_at, shard, offset = raw
    texts = (path, sha256, object_id, modified_at)
    if not (all(isinstance(text, str) for text in texts) and 0 <= shard < shards and offset >= 0):
        raise TypeError(f"{path!r} is not listed as a file in a shard")
    return Member(
        path=checked_path(path),
        size_bytes=size_bytes,
        sha256=sha256,
        object_id=object_id,
        modified_at=modified_at,
        shard=shard,
        offset=offset,
    )
