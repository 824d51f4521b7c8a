from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from driverun.checkpoints import chunks
from driverun.checkpoints.chunks import CHUNK_BYTES, cut, cut_file

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 5]


def content(size: int) -> bytes:
    return hashlib.shake_128(b"state").digest(size)


@pytest.mark.parametrize("size", SIZES)
def test_chunks_are_the_content_in_order_each_with_its_digest(size: int) -> None:
    pieces = [(bytes(chunk), sha256) for chunk, sha256 in cut(memoryview(content(size)))]
    assert b"".join(piece for piece, _ in pieces) == content(size)
    assert all(len(piece) == CHUNK_BYTES for piece, _ in pieces[:-1])
    assert all(hashlib.sha256(piece).hexdigest() == sha256 for piece, sha256 in pieces)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_gives_the_chunks_of_its_bytes(size: int, tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(content(size))
    with (tmp_path / "output").open("rb") as file:
        found = [(bytes(chunk), sha256) for chunk, sha256 in cut_file(file)]
    assert found == [(bytes(chunk), sha256) for chunk, sha256 in cut(memoryview(content(size)))]


def test_chunks_share_the_memory_they_were_cut_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 4)
    memory = bytearray(b"12345678")
    for chunk, _ in cut(memoryview(memory)):
        chunk[0:1] = b"x"
    assert memory == b"x234x678"
