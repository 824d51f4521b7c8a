"""What is new in a folder, for stores that can only list it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from driverun.storage.base import FolderNews, ObjectInfo


@dataclass(frozen=True, slots=True)
class _Mark:
    seen: dict[str, ObjectInfo]


def news_by_comparing(listing: Sequence[ObjectInfo], since: object) -> FolderNews:
    """What differs between a listing and the one that gave the mark `since`."""
    seen = {info.path: info for info in listing}
    mark = _Mark(seen)
    if not isinstance(since, _Mark):
        return FolderNews(changed=listing, gone=frozenset(), is_whole=True, mark=mark)
    return FolderNews(
        changed=[info for info in listing if since.seen.get(info.path) != info],
        gone=frozenset(since.seen.keys() - seen.keys()),
        is_whole=False,
        mark=mark,
    )
