"""A store that stops the world between a checkpoint's packs and its manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from driverun.execution.passing import PassingStore
from driverun.runs.layout import CHECKPOINT_NAME
from driverun.storage.base import ObjectInfo, ObjectStore


class HoldingStore(PassingStore):
    """Passes everything on, until a checkpoint's manifest is to be created: then it says so, and waits for ever.

    The file `marker` appears at that moment; a drill cuts the power when it sees it. The commit is then as unfinished
    as a commit can be: all its packs are there, and nothing that names them.
    """

    def __init__(self, inner: ObjectStore, *, marker: Path) -> None:
        super().__init__(inner)
        self._marker = marker

    def create(
        self, path: str, content: bytes | Path, *, properties: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        if CHECKPOINT_NAME.fullmatch(path.rpartition("/")[2]):
            self._marker.touch()
            _wait_for_ever()
        return super().create(path, content, properties=properties)


def _wait_for_ever() -> None:
    reading, _ = os.pipe()
    os.read(reading, 1)


def wrap_for_drill(environment: Mapping[str, str]) -> Callable[[ObjectStore], ObjectStore]:
    """What a drill wants to be done to a worker's store; nothing, unless DRIVERUN_HOLD_COMMIT names a marker."""
    marker = environment.get("DRIVERUN_HOLD_COMMIT")
    if not marker:
        return lambda store: store
    return lambda store: HoldingStore(store, marker=Path(marker))
