"""A store that passes everything on, for those that change one thing about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from driverun.storage.base import FolderNews, ObjectInfo, ObjectStore, People, people_of

T = TypeVar("T")


class PassingStore:
    """An ObjectStore that does what `inner` does."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    def _pass(self, operation: str, path: str, act: Callable[[], T]) -> T:
        """What `act` gives. Every operation comes by here, and may be kept from being done.

        Args:
            operation: the name of the method.
            path: what it is about; "" where the method takes none.
        """
        del operation, path
        return act()

    @property
    def listing_lag_s(self) -> float:
        return self._inner.listing_lag_s

    @property
    def location(self) -> str:
        return self._inner.location

    def people(self) -> People | None:
        return people_of(self._inner)

    def now(self) -> datetime:
        return self._pass("now", "", self._inner.now)

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._pass("create", path, lambda: self._inner.create(path, content, properties=properties))

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._pass("replace", path, lambda: self._inner.replace(path, content, properties=properties))

    def read(self, path: str) -> bytes:
        return self._pass("read", path, lambda: self._inner.read(path))

    def download(self, path: str, target: Path) -> ObjectInfo:
        return self._pass("download", path, lambda: self._inner.download(path, target))

    def stat(self, path: str) -> ObjectInfo:
        return self._pass("stat", path, lambda: self._inner.stat(path))

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        return self._pass(
            "list", folder, lambda: self._inner.list(folder, recursive=recursive, prefix=prefix)
        )

    def news(self, folder: str, since: object = None) -> FolderNews:
        return self._pass("news", folder, lambda: self._inner.news(folder, since))

    def delete(self, path: str) -> None:
        self._pass("delete", path, lambda: self._inner.delete(path))

    def ensure_folder(self, path: str) -> None:
        self._pass("ensure_folder", path, lambda: self._inner.ensure_folder(path))
