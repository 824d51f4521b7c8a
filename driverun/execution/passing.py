"""A store that passes everything on, for those that change one thing about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from driverun.storage.base import FolderNews, ObjectInfo, ObjectStore, People, people_of


class PassingStore:
    """An ObjectStore that does what `inner` does."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    def _before(self) -> None:
        """Is called before each operation, and may raise instead of it."""

    @property
    def listing_lag_s(self) -> float:
        return self._inner.listing_lag_s

    @property
    def location(self) -> str:
        return self._inner.location

    def people(self) -> People | None:
        return people_of(self._inner)

    def now(self) -> datetime:
        self._before()
        return self._inner.now()

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        self._before()
        return self._inner.create(path, content, properties=properties)

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        self._before()
        return self._inner.replace(path, content, properties=properties)

    def read(self, path: str) -> bytes:
        self._before()
        return self._inner.read(path)

    def download(self, path: str, target: Path) -> ObjectInfo:
        self._before()
        return self._inner.download(path, target)

    def stat(self, path: str) -> ObjectInfo:
        self._before()
        return self._inner.stat(path)

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        self._before()
        return self._inner.list(folder, recursive=recursive, prefix=prefix)

    def news(self, folder: str, since: object = None) -> FolderNews:
        self._before()
        return self._inner.news(folder, since)

    def delete(self, path: str) -> None:
        self._before()
        self._inner.delete(path)

    def ensure_folder(self, path: str) -> None:
        self._before()
        self._inner.ensure_folder(path)
