from dataclasses import replace
from pathlib import Path

import pytest

from driverun.errors import IntegrityError, ObjectExists
from driverun.storage.base import ObjectInfo, ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.transfer.checksums import sha256_of
from driverun.transfer.put import Outcome, put


def test_bytes_and_files_are_created_then_found_equal_then_replaced(
    store: ObjectStore, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = put(store, "data/x", file)
    assert first.outcome is Outcome.CREATED
    assert first.sha256 == sha256_of(b"one")
    assert put(store, "data/x", b"one").outcome is Outcome.EQUAL
    file.write_bytes(b"two")
    assert put(store, "data/x", file).outcome is Outcome.REPLACED
    assert store.read("data/x") == b"two"
    assert store.stat("data/x").object_id == first.info.object_id


def test_what_a_listing_said_saves_the_try(store: ObjectStore) -> None:
    put(store, "data/x", b"one")
    (known,) = store.list("data")
    assert put(store, "data/x", b"one", known=known).outcome is Outcome.EQUAL
    assert put(store, "data/x", b"six", known=known).outcome is Outcome.REPLACED


def test_a_folder_is_not_replaced_by_a_file(store: ObjectStore) -> None:
    store.create("data/x/y", b"")
    with pytest.raises(ObjectExists):
        put(store, "data/x", b"file")
    assert store.read("data/x/y") == b""


class LyingStore(MemoryStore):
    """Says that it holds something else."""

    def create(self, path: str, content: bytes | Path, **more: object) -> ObjectInfo:
        return replace(super().create(path, content), sha256="0" * 64)


def test_other_bytes_on_the_root_than_meant_are_noticed() -> None:
    with pytest.raises(IntegrityError, match="cannot store data/x"):
        put(LyingStore(FakeClock()), "data/x", b"one")
