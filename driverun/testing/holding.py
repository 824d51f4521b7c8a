"""A store that stops the world at one of its writes, which nobody can tell from a machine that stands still."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

from driverun.errors import UsageError
from driverun.execution.passing import PassingStore
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.testing.faulty import Moment

MARKER_VARIABLE = "DRIVERUN_HOLD_COMMIT"  #: the file that appears when the world stops
PLACE_VARIABLE = "DRIVERUN_HOLD_AT"  #: where it does, as in "after create ledger/*.claim.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """At which of a store's writes the world stops."""

    moment: Moment  #: BEFORE: nothing of it is done; AFTER: it is done, and nobody here knows
    operation: str  #: "create" or "replace"
    pattern: str  #: of the path

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError where `text` is no place."""
        words = text.split()
        moments = {moment.value: moment for moment in Moment}
        if len(words) != 3 or words[0] not in moments or words[1] not in ("create", "replace"):
            raise UsageError(
                f"{PLACE_VARIABLE}: {text!r} is no place to hold at; write one such as"
                " `before create runs/*/results/manifest.json`, with before or after, create or replace"
            )
        return cls(moment=moments[words[0]], operation=words[1], pattern=words[2])

    def fits(self, operation: str, path: str) -> bool:
        return operation == self.operation and fnmatchcase(path, self.pattern)


#: The commit of a checkpoint is then as unfinished as it can be: its packs are there, and nothing that names them.
IN_COMMIT = Place(moment=Moment.BEFORE, operation="create", pattern="runs/*/ckpt-*.json")


class HoldingStore(PassingStore):
    """Passes everything on, until it comes to its place: then it says so, and waits to be let go, once.

    The named pipe `marker` appears at that moment. A drill cuts the power when it sees it; who opens it for writing
    lets the world go on.
    """

    def __init__(self, inner: ObjectStore, *, marker: Path, place: Place = IN_COMMIT) -> None:
        super().__init__(inner)
        self._marker = marker
        self._place = place

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._held(
            "create", path, lambda: super(HoldingStore, self).create(path, content, properties=properties)
        )

    def replace(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        return self._held(
            "replace", path, lambda: super(HoldingStore, self).replace(path, content, properties=properties)
        )

    def _held(self, operation: str, path: str, act: Callable[[], ObjectInfo]) -> ObjectInfo:
        is_here = self._place.fits(operation, path)
        if is_here and self._place.moment is Moment.BEFORE:
            self._hold()
        done = act()
        if is_here and self._place.moment is Moment.AFTER:
            self._hold()
        return done

    def _hold(self) -> None:
        try:
            os.mkfifo(self._marker)
        except FileExistsError:
            return  # it was here before, and let go
        with self._marker.open("rb"):
            return  # somebody opened the other end


def let_go(marker: Path) -> None:
    """Have the world go on that stands at `marker`."""
    with marker.open("wb"):
        return


def wrap_for_drill(environment: Mapping[str, str]) -> Callable[[ObjectStore], ObjectStore]:
    """What a drill wants to be done to a worker's store; nothing, unless DRIVERUN_HOLD_COMMIT names a marker.

    Raises:
        UsageError: DRIVERUN_HOLD_AT is no place.
    """
    marker = environment.get(MARKER_VARIABLE)
    if not marker:
        return lambda store: store
    text = environment.get(PLACE_VARIABLE)
    place = Place.parse(text) if text else IN_COMMIT
    return lambda store: HoldingStore(store, marker=Path(marker), place=place)
