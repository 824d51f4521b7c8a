from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from driverun.checkpoints.manifest import CheckpointManifest, ChunkRef, PackRef
from driverun.errors import IntegrityError, ObjectNotFound
from driverun.report.diff import first_difference
from driverun.report.final_state import final_state_of
from driverun.spool.snapshot import FileEntry, SnapshotHeader, SnapshotKind, TensorEntry
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from tests.report.samples import START, key


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(clock=FakeClock())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def checkpoint(
    store: MemoryStore, number: int, values: tuple[float, float], text: bytes
) -> CheckpointManifest:
    """A checkpoint on `store` with one variable, in two chunks, and one file."""
    chunks = [struct.pack("<f", value) for value in values] + [text]
    pack = b"".join(chunks)
    store.create(key(number).pack_file(sha256(pack)), pack)
    refs = []
    for position, chunk in enumerate(chunks):
        offset = sum(map(len, chunks[:position]))
        refs.append(ChunkRef(pack=0, offset=offset, size_bytes=len(chunk), sha256=sha256(chunk)))
    entry = TensorEntry(
        group="trainable", index=0, path="dense/kernel", dtype="float32", shape=(2,), offset=0, size_bytes=8
    )
    header = SnapshotHeader(
        kind=SnapshotKind.CHECKPOINT,
        sequence=1,
        step=10,
        fits_finished=0,
        epoch=1,
        step_in_epoch=0,
        steps_per_epoch=10,
        total_steps=10,
        tensors=(entry,),
        files=(FileEntry(path="log.csv", size_bytes=len(text), sha256=sha256(text)),),
        state={"history": {"loss": [0.5]}},
    )
    return CheckpointManifest(
        key=key(number),
        ordinal=1,
        header=header,
        packs=(PackRef(sha256=sha256(pack), size_bytes=len(pack)),),
        tensors=(tuple(refs[:2]),),
        files=(tuple(refs[2:]),),
        fits=(),
        new_bytes=len(pack),
        committed_at=START,
    )


def test_equal_checkpoints_are_compared_without_fetching_a_pack(store: MemoryStore, tmp_path: Path) -> None:
    a = final_state_of(store, checkpoint(store, 1, (1.0, 2.0), b"x"), tmp_path)
    b = final_state_of(store, checkpoint(store, 2, (1.0, 2.0), b"x"), tmp_path)
    assert first_difference(a, b) is None
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_that_differ_are_read_from_their_packs(store: MemoryStore, tmp_path: Path) -> None:
    a = final_state_of(store, checkpoint(store, 1, (1.0, 2.0), b"x"), tmp_path, label="first")
    b = final_state_of(store, checkpoint(store, 2, (1.0, 2.5), b"x"), tmp_path / "new", label="second")
    found = first_difference(a, b)
    assert found is not None
    assert (found.where, found.first_index, found.max_abs_difference) == (
        "trainable[0] dense/kernel",
        (1,),
        0.5,
    )


def test_output_files_are_read_from_their_packs(store: MemoryStore, tmp_path: Path) -> None:
    a = final_state_of(store, checkpoint(store, 1, (1.0, 2.0), b"1\n2\n"), tmp_path)
    b = final_state_of(store, checkpoint(store, 2, (1.0, 2.0), b"1\n3\n"), tmp_path)
    found = first_difference(a, b)
    assert found is not None
    assert found.message == "log.csv: line 2 differs: '2' against '3'"


def test_a_damaged_pack_is_said_to_be_damaged(store: MemoryStore, tmp_path: Path) -> None:
    manifest = checkpoint(store, 1, (1.0, 2.0), b"x")
    (tmp_path / manifest.packs[0].sha256).write_bytes(b"\x00" * 9)
    with pytest.raises(IntegrityError, match="damaged at byte 4"):
        final_state_of(store, manifest, tmp_path).tensors[0].pieces[1].read()


def test_a_pack_that_is_gone_is_said_to_be_gone(store: MemoryStore, tmp_path: Path) -> None:
    manifest = checkpoint(store, 1, (1.0, 2.0), b"x")
    store.delete(key(1).pack_file(manifest.packs[0].sha256))
    with pytest.raises(ObjectNotFound):
        final_state_of(store, manifest, tmp_path).tensors[0].pieces[0].read()
