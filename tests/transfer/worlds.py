"""What several tests of transfers do: look at a whole root, and crash at each of its operations."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driverun.storage.base import ObjectStore
from driverun.testing.faulty import FaultyStore, Operation, SimulatedDisconnect


def contents(store: ObjectStore, folder: str = "") -> dict[str, bytes]:
    """All objects beneath `folder`, by path."""
    return {info.path: store.read(info.path) for info in store.list(folder, recursive=True)}


def fill(folder: Path, files: dict[str, str | bytes]) -> Path:
    """`folder`, with these files in it."""
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def stores_after_each_crash(
    make_store: Callable[[], ObjectStore], work: Callable[[ObjectStore], object]
) -> Iterator[ObjectStore]:
    """Yield a root for each operation of `work`, on which it was cut off there and then repeated.

    Each operation is cut off before it is carried out, and again before its answer comes, if it has one.
    """
    moments: list[Operation] = []
    work(FaultyStore(make_store(), on_operation=moments.append))
    assert moments
    for operation in moments:
        store = make_store()
        crashing = FaultyStore(store, crash_at=operation.number, crash_moment=operation.moment)
        with pytest.raises(SimulatedDisconnect):
            work(crashing)
        work(store)
        yield store
