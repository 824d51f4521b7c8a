"""One whole snapshot always stands, whatever interrupts the one that writes the next."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from driverun.spool.buffers import SLOTS, SnapshotWriter, newest_snapshot
from driverun.spool.snapshot import HEADER, TENSORS, mapped_tensors
from tests.spool.headers import header_of

PACKAGE_HOME = Path(__file__).parents[2]
PATIENCE_S = 60.0

Writers = Callable[[Path], SnapshotWriter]


@pytest.fixture
def writer_of() -> Iterator[Writers]:
    """Makes writers, and closes them in the end."""
    with ExitStack() as writers:

        def make(folder: Path) -> SnapshotWriter:
            writer = SnapshotWriter(folder)
            writers.callback(writer.close)
            return writer

        yield make


def put(writer: SnapshotWriter, sequence: int, size_bytes: int = 4096) -> Path | None:
    """A snapshot filled with its own sequence; gives the slot it went to."""
    begun = writer.begin(size_bytes)
    if begun is None:
        return None
    slot, memory = begun
    assert len(memory) == size_bytes
    memory[:] = bytes([sequence % 256]) * size_bytes
    memory.release()
    slot.seal(header_of(sequence, size_bytes=size_bytes))
    return slot.folder


def newest(folder: Path) -> int | None:
    """The sequence of the newest snapshot, after a look at every byte of it."""
    with newest_snapshot(folder) as found:
        if found is None:
            return None
        where, header = found
        with mapped_tensors(where) as view:
            assert bytes(view) == bytes([header.sequence % 256]) * header.tensor_bytes
        return header.sequence


def test_nothing_stands_before_the_first(tmp_path: Path, writer_of: Writers) -> None:
    with newest_snapshot(tmp_path / "nowhere") as found:
        assert found is None
    writer = writer_of(tmp_path)
    assert newest(tmp_path) is None
    begun = writer.begin(10)
    assert begun is not None
    assert newest(tmp_path) is None


def test_slots_take_turns_and_the_newest_is_found(tmp_path: Path, writer_of: Writers) -> None:
    writer = writer_of(tmp_path)
    used = []
    for sequence in range(1, 5):
        used.append(put(writer, sequence))
        assert newest(tmp_path) == sequence
    assert used == [tmp_path / SLOTS[0], tmp_path / SLOTS[1]] * 2


def test_only_what_is_newer_than_asked_for_is_found(tmp_path: Path, writer_of: Writers) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)
    put(writer, 2)
    with newest_snapshot(tmp_path, after_sequence=1) as found:
        assert found is not None
        assert found[1].sequence == 2
    with newest_snapshot(tmp_path, after_sequence=2) as found:
        assert found is None


def test_what_is_being_read_is_never_overwritten(tmp_path: Path, writer_of: Writers) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)
    with newest_snapshot(tmp_path) as found:
        assert found is not None
        where, _ = found
        for sequence in (2, 3, 4):  # all into the other slot
            assert put(writer, sequence) == tmp_path / SLOTS[1]
            with mapped_tensors(where) as view:
                assert set(view) == {1}
    assert newest(tmp_path) == 4
    assert put(writer, 5) == where


def test_where_both_are_being_read_the_writer_waits(tmp_path: Path, writer_of: Writers) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)
    with newest_snapshot(tmp_path):
        put(writer, 2)
        with newest_snapshot(tmp_path) as found:
            assert found is not None
            assert found[1].sequence == 2
            assert writer.begin(4096) is None
        assert newest(tmp_path) == 2
        assert put(writer, 3) is not None


def test_an_abandoned_snapshot_costs_no_other(tmp_path: Path, writer_of: Writers) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)
    put(writer, 2)
    for _ in range(3):
        begun = writer.begin(4096)
        assert begun is not None
        begun[0].abandon()
        assert newest(tmp_path) == 2
    assert put(writer, 3) == tmp_path / SLOTS[0]
    assert newest(tmp_path) == 3


def test_the_only_one_that_stands_is_not_given_up_for_a_reader_in_the_way(
    tmp_path: Path, writer_of: Writers
) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)
    put(writer, 2)
    with newest_snapshot(tmp_path, after_sequence=1):  # pins 2
        begun = writer.begin(4096)
        assert begun is not None
        begun[0].abandon()

    with open(tmp_path / SLOTS[0] / "lock", "ab") as reader:  # one that came late to what was there
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert writer.begin(4096) is None
        assert newest(tmp_path) == 2


def test_a_new_writer_begins_with_the_older_slot(tmp_path: Path, writer_of: Writers) -> None:
    first = writer_of(tmp_path)
    for sequence in (1, 2, 3):
        put(first, sequence)
    first.close()
    second = writer_of(tmp_path)
    begun = second.begin(4096)
    assert begun is not None
    assert begun[0].folder == tmp_path / SLOTS[1]
    assert newest(tmp_path) == 3


def test_a_damaged_header_is_written_over_first(tmp_path: Path, writer_of: Writers) -> None:
    first = writer_of(tmp_path)
    put(first, 1)
    put(first, 2)
    first.close()
    (tmp_path / SLOTS[1] / HEADER).write_text("{")
    assert put(writer_of(tmp_path), 3) == tmp_path / SLOTS[1]


def test_memory_is_used_again_while_the_size_stays(tmp_path: Path, writer_of: Writers) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)
    put(writer, 2)
    files = [os.stat(tmp_path / slot / TENSORS) for slot in SLOTS]
    blocks = [writer.begin(4096)]
    assert blocks[0] is not None
    slot, memory = blocks[0]
    assert set(memory) == {1}  # the very pages, with what was in them
    memory.release()
    slot.abandon()
    put(writer, 3)
    after = [os.stat(tmp_path / slot / TENSORS) for slot in SLOTS]
    assert [stat.st_ino for stat in after] == [stat.st_ino for stat in files]


@pytest.mark.parametrize("sizes", [(100, 5000, 20, 0, 9000, 0, 1), (0, 0, 1)])
def test_a_state_may_grow_and_shrink_and_be_nothing(
    tmp_path: Path, writer_of: Writers, sizes: tuple[int, ...]
) -> None:
    writer = writer_of(tmp_path)
    for sequence, size in enumerate(sizes, start=1):
        folder = put(writer, sequence, size)
        assert folder is not None
        assert (folder / TENSORS).stat().st_size == size
        assert newest(tmp_path) == sequence


def test_room_that_is_not_there_costs_only_the_older_snapshot(
    tmp_path: Path, writer_of: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)
    put(writer, 2)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                writer.begin(10**6)
            assert newest(tmp_path) == 2
    assert put(writer, 3, 10**6) == tmp_path / SLOTS[0]
    assert newest(tmp_path) == 3


def test_a_seal_that_fails_leaves_the_slot_free(
    tmp_path: Path, writer_of: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(tmp_path)
    put(writer, 1)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("driverun.spool.buffers.write_header", full)
        with pytest.raises(OSError, match="No space"):
            put(writer, 2)
    assert newest(tmp_path) == 1
    assert put(writer, 3) == tmp_path / SLOTS[1]


def test_a_system_without_fallocate_makes_sure_of_its_room_too(
    tmp_path: Path, writer_of: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    writer = writer_of(tmp_path)
    folder = put(writer, 1, 3_000_000)
    assert folder is not None
    stat = (folder / TENSORS).stat()
    assert stat.st_size == 3_000_000
    assert stat.st_blocks * 512 >= stat.st_size


WRITER = """
import hashlib, sys
from pathlib import Path
from driverun.spool.buffers import SnapshotWriter
from tests.spool.headers import header_of

writer = SnapshotWriter(Path(sys.argv[1]))
sequence = int(sys.argv[2])
while True:
    sequence += 1
    size = 100_000 + sequence % 3 * 1000 if len(sys.argv) > 3 else 100_000
    begun = writer.begin(size)
    if begun is None:
        continue
    slot, memory = begun
    memory[:] = hashlib.shake_128(str(sequence).encode()).digest(size)
    memory.release()
    slot.seal(header_of(sequence, size_bytes=size))
    print(sequence, flush=True)
"""


@pytest.mark.parametrize("growing", [(), ("growing",)], ids=["same size", "other sizes"])
def test_a_killed_writer_leaves_a_whole_snapshot_behind(tmp_path: Path, growing: tuple[str, ...]) -> None:
    known = seen = 0
    for lines in range(2, 14):  # how far a writer comes before it is killed, wherever that is
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(known), *growing],
            cwd=PACKAGE_HOME,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(lines):
            known = int(process.stdout.readline())
            seen = _verified(tmp_path) or seen  # while it writes on
        process.kill()
        process.stdout.read()
        process.stdout.close()
        process.wait(PATIENCE_S)
        left = _verified(tmp_path)
        assert left is not None
        assert left >= seen


def _verified(folder: Path) -> int | None:
    with newest_snapshot(folder) as found:
        if found is None:  # the writer has been faster than the look, twice
            return None
        where, header = found
        with mapped_tensors(where) as view:
            expected = hashlib.shake_128(str(header.sequence).encode()).digest(header.tensor_bytes)
            assert bytes(view) == expected
        return header.sequence
