"""Patience with a store: what may pass is tried again, what will not is raised at once."""

from __future__ import annotations

import hashlib
import logging
import random as random_module
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from driverun.clock import Clock
from driverun.errors import ObjectExists, ObjectNotFound, TransientStoreError
from driverun.storage.base import (
    FolderNews,
    LinkedItem,
    ObjectInfo,
    ObjectStore,
    OpensLinks,
    People,
    people_of,
)

if TYPE_CHECKING:
    import tenacity

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
WORTH_TELLING_S = 4.0  #: waits from here on are told to people, the others to whoever asks for the log
TELL_EVERY_S = 60.0  #: not more often, however many calls wait

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Telling:
    """Says that something is tried again, so that people are neither left in the dark nor flooded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told_s = float("-inf")

    def tell(self, what: str, wait_s: float, error: BaseException | None) -> None:
        now_s = self._clock.monotonic()
        is_told = wait_s >= WORTH_TELLING_S and now_s - self._told_s >= TELL_EVERY_S
        if is_told:
            self._told_s = now_s
        level = logging.WARNING if is_told else logging.INFO
        _log.log(level, "%s: again in %.1f s, because: %s", what, wait_s, error)


class RetryingStore:
    """An ObjectStore that repeats calls to `inner` which failed in passing, each within a budget of time."""

    def __init__(
        self, inner: ObjectStore, *, clock: Clock, random: random_module.Random, budget_s: float
    ) -> None:
        """Wrap `inner`.

        Args:
            random: spreads the waits, so that workers that failed together do not return together.
            budget_s: for how long one call is repeated, as `persist` has it.
        """
        self._inner = inner
        self._clock = clock
        self._random = random
        self._budget_s = budget_s
        self._telling = Telling(clock)

    @property
    def listing_lag_s(self) -> float:
        return self._inner.listing_lag_s

    @property
    def location(self) -> str:
        return self._inner.location

    def people(self) -> People | None:
        return people_of(self._inner)

    def now(self) -> datetime:
        return self._persist("now", "", self._inner.now)

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        """As the seam says; an object that an earlier try made, whose answer was lost, is success."""
        may_be_done = False

        def attempt() -> ObjectInfo:
            nonlocal may_be_done
            try:
                return self._inner.create(path, content, properties=properties)
            except TransientStoreError:
                may_be_done = True
                raise
            except ObjectExists:
                existing = self._equal_object(path, content) if may_be_done else None
                if existing is None:
                    raise
                return existing

        return self._persist("create", path, attempt)

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._persist(
            "replace", path, lambda: self._inner.replace(path, content, properties=properties)
        )

    def read(self, path: str) -> bytes:
        return self._persist("read", path, lambda: self._inner.read(path))

    def download(self, path: str, target: Path) -> ObjectInfo:
        return self._persist("download", path, lambda: self._inner.download(path, target))

    def stat(self, path: str) -> ObjectInfo:
        return self._persist("stat", path, lambda: self._inner.stat(path))

    def list(self, folder: str, *, recursive: bool = False, prefix: str = "") -> list[ObjectInfo]:
        return self._persist(
            "list", folder, lambda: self._inner.list(folder, recursive=recursive, prefix=prefix)
        )

    def news(self, folder: str, since: object = None) -> FolderNews:
        return self._persist("news", folder, lambda: self._inner.news(folder, since))

    def delete(self, path: str) -> None:
        def attempt() -> None:
            try:
                self._inner.delete(path)
            except ObjectNotFound:
                _log.debug("nothing left to delete at %s", path)

        self._persist("delete", path, attempt)

    def ensure_folder(self, path: str) -> None:
        self._persist("ensure_folder", path, lambda: self._inner.ensure_folder(path))

    def _equal_object(self, path: str, content: bytes | Path) -> ObjectInfo | None:
        """What is at `path`, if it holds exactly `content`."""
        try:
            found = self._inner.stat(path)
        except ObjectNotFound:  # it is a folder that is in the way, or an object above
            return None
        size_bytes = len(content) if isinstance(content, bytes) else content.stat().st_size
        if found.size_bytes != size_bytes:
            return None
        sha256 = found.sha256 if found.sha256 is not None else self._stored_sha256(path)
        return replace(found, sha256=sha256) if sha256 == _sha256(content) else None

    def _stored_sha256(self, path: str) -> str:
        with tempfile.TemporaryDirectory(prefix="driverun-") as folder:
            file = Path(folder, "object")
            self._inner.download(path, file)
            return _sha256(file)

    def _persist(self, name: str, path: str, attempt: Callable[[], T]) -> T:
        return persist(
            attempt,
            what=f"{name} {path}".rstrip(),
            clock=self._clock,
            random=self._random,
            budget_s=self._budget_s,
            telling=self._telling,
        )


class RetryingLinksStore(RetryingStore):
    """A RetryingStore over one that can read files outside of the root, too."""

    def open_link(self, file_id: str, *, resource_key: str | None = None) -> LinkedItem:
        inner = self._inner
        if not isinstance(inner, OpensLinks):
            raise TypeError(f"{type(inner).__name__} opens no links")
        item = self._persist("open", file_id, lambda: inner.open_link(file_id, resource_key=resource_key))
        return _RetryingItem(item, self._persist)


class _RetryingItem:
    def __init__(self, item: LinkedItem, persist_: Callable[[str, str, Callable[[], Any]], Any]) -> None:
        self._item = item
        self._persist = persist_

    @property
    def location(self) -> str:
        return self._item.location

    @property
    def name(self) -> str:
        return self._item.name

    @property
    def is_folder(self) -> bool:
        return self._item.is_folder

    def list(self) -> list[ObjectInfo]:
        found: list[ObjectInfo] = self._persist("list", self.location, self._item.list)
        return found

    def download(self, path: str, target: Path) -> ObjectInfo:
        found: ObjectInfo = self._persist("download", path, lambda: self._item.download(path, target))
        return found


def persist(
    attempt: Callable[[], T],
    *,
    what: str,
    clock: Clock,
    random: random_module.Random,
    budget_s: float,
    telling: Telling | None = None,
) -> T:
    """What `attempt` returns, which is called again when it raises a TransientStoreError.

    Args:
        what: for the log.
        random: spreads the waits.
        budget_s: for how long it is repeated after it failed first, or failed after it had come further; the last
            try begins when that is used up. Where the root asks for a longer rest, there is no further try.
        telling: shared by calls that are not to tell the same, each for itself; None: a new one.
    """
    telling = telling if telling is not None else Telling(clock)
    failing_since_s: float | None = None

    def left_s() -> float:
        return budget_s if failing_since_s is None else budget_s - (clock.monotonic() - failing_since_s)

    def asked_s(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return error.retry_after_s or 0.0 if isinstance(error, TransientStoreError) else 0.0

    def wait_s(state: tenacity.RetryCallState) -> float:
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(state.attempt_number - 1, 30))
        backoff_s = longest_s * random.uniform(0.5, 1.0)
        return max(0.0, min(max(backoff_s, asked_s(state)), left_s()))

    def should_stop(state: tenacity.RetryCallState) -> bool:
        return left_s() <= 0 or asked_s(state) > left_s()

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        telling.tell(what, state.upcoming_sleep, error)

    def watched() -> T:
        nonlocal failing_since_s
        try:
            return attempt()
        except TransientStoreError as exc:
            if failing_since_s is None or exc.made_progress:
                failing_since_s = clock.monotonic()
            raise

    try:
        return watched()
    except TransientStoreError as exc:
        failed = [exc]

    import tenacity  # brings asyncio, which costs each command a tenth of a second: only where there is need

    def next_try() -> T:
        if failed:  # the first one has been
            raise failed.pop()
        return watched()

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientStoreError),
        wait=wait_s,
        stop=should_stop,
        sleep=clock.sleep,
        before_sleep=tell,
        reraise=True,
    )
    try:
        return retrying(next_try)
    except TransientStoreError as exc:
        tries = retrying.statistics["attempt_number"]
        raise TransientStoreError(
            f"{exc} (given up after {tries} tries in {budget_s - left_s():.0f} s)",
            path=exc.path,
            retry_after_s=exc.retry_after_s,
            made_progress=exc.made_progress,
        ) from exc


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
