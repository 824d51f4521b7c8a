"""A store in memory, as strict as the real ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from driverun.clock import Clock
from driverun.errors import ObjectExists, ObjectNotFound
from driverun.storage.base import FolderNews, ObjectInfo
from driverun.storage.names import portable_path
from driverun.storage.news import news_by_comparing

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    info: ObjectInfo
    content: bytes


class MemoryStore:
    """An ObjectStore that lives as long as its process; for tests and for trying things out.

    It may be used from many threads. `listing_lag_s` makes listings miss objects younger than that, as
    Drive's do; reading by path does not miss them.
    """

    def __init__(self, clock: Clock, *, listing_lag_s: float = 0.0, location: str = "memory") -> None:
        self._clock = clock
        self._listing_lag_s = listing_lag_s
        self._location = location
        self._stored: dict[str, _Stored] = {}
        self._creations = 0
        self._last_stamp: datetime | None = None
        self._turn = threading.Lock()

    @property
    def listing_lag_s(self) -> float:
        return self._listing_lag_s

    @property
    def location(self) -> str:
        return self._location

    def now(self) -> datetime:
        with self._turn:
            return self._now()

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        portable_path(path)
        whole = content if isinstance(content, bytes) else content.read_bytes()
        with self._turn:
            self._refuse_taken(path)
            stamp = self._next_stamp()
            self._creations += 1
            info = ObjectInfo(
                path=path,
                object_id=f"memory-{self._creations:08d}",
                size_bytes=len(whole),
                created_at=stamp,
                modified_at=stamp,
                sha256=hashlib.sha256(whole).hexdigest(),
                properties=dict(properties or {}),
            )
            self._stored[path] = _Stored(info=info, content=whole)
            return info

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        whole = bytes(content) if isinstance(content, bytes) else content.read_bytes()
        with self._turn:
            old = self._find(path, "replace").info
            info = replace(
                old,
                size_bytes=len(whole),
                modified_at=self._next_stamp(),
                sha256=hashlib.sha256(whole).hexdigest(),
                properties=old.properties if properties is None else dict(properties),
            )
            self._stored[path] = _Stored(info=info, content=whole)
            return info

    def read(self, path: str) -> bytes:
        with self._turn:
            return self._find(path, "read").content

    def download(self, path: str, target: Path) -> ObjectInfo:
        with self._turn:
            found = self._find(path, "download")
        part = target.with_name(f".{found.info.object_id}-{threading.get_ident()}.part")
        try:
            part.write_bytes(found.content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return found.info

    def stat(self, path: str) -> ObjectInfo:
        with self._turn:
            return self._find(path, "look at").info

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        top = f"{portable_path(folder)}/" if folder else ""
        with self._turn:
            newest = self._now() - timedelta(seconds=self._listing_lag_s)
            return [
                stored.info
                for path, stored in sorted(self._stored.items())
                if path.startswith(top + prefix)
                and (recursive or "/" not in path[len(top) :])
                and (stored.info.created_at <= newest or not self._listing_lag_s)
            ]

    def news(self, folder: str, since: object = None) -> FolderNews:
        return news_by_comparing(self.list(folder), since)

    def delete(self, path: str) -> None:
        portable_path(path)
        with self._turn:
            self._stored.pop(path, None)

    def ensure_folder(self, path: str) -> None:
        """Check the path; folders here are nothing but the beginnings of names."""
        portable_path(path)

    def _find(self, path: str, action: str) -> _Stored:
        found = self._stored.get(portable_path(path))
        if found is None:
            raise ObjectNotFound(f"cannot {action} {path} in {self._location}: nothing is there", path=path)
        return found

    def _refuse_taken(self, path: str) -> None:
        parts = path.split("/")
        taken = [
            above for end in range(1, len(parts) + 1) if (above := "/".join(parts[:end])) in self._stored
        ]
        taken += [path for below in self._stored if below.startswith(f"{path}/")]
        if taken:
            raise ObjectExists(
                f"cannot create {path} in {self._location}: {taken[0]} is there already; nothing was changed",
                path=path,
            )

    def _now(self) -> datetime:
        now = self._clock.now()
        return now if self._last_stamp is None else max(now, self._last_stamp)

    def _next_stamp(self) -> datetime:
        now = self._clock.now()
        self._last_stamp = now if self._last_stamp is None else max(now, self._last_stamp + _TICK)
        return self._last_stamp
