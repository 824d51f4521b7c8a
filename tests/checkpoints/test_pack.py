from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from driverun.checkpoints.pack import Pack, PackReader, PackWriter
from driverun.errors import IntegrityError

CHUNKS = [b"weights", b"moments", b"w" * 100]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(folder: Path, *, avoid: tuple[str, ...] = ()) -> Pack:
    writer = PackWriter(folder)
    for chunk in (*CHUNKS, CHUNKS[0]):
        writer.add(memoryview(chunk), digest(chunk))
    return writer.seal(avoid=avoid)


def test_a_pack_is_named_after_its_bytes_and_holds_equal_chunks_once(tmp_path: Path) -> None:
    pack = packed(tmp_path)
    content = pack.file.read_bytes()
    assert content == b"".join(CHUNKS)
    assert (pack.sha256, pack.size_bytes) == (digest(content), len(content))


def test_every_chunk_comes_back(tmp_path: Path) -> None:
    pack = packed(tmp_path)
    with PackReader(pack.file, sha256=pack.sha256, size_bytes=pack.size_bytes) as reader:
        for sha256, (offset, size_bytes) in pack.chunks.items():
            assert digest(reader.chunk(offset=offset, size_bytes=size_bytes, sha256=sha256)) == sha256


def test_a_pack_avoids_names_without_moving_its_chunks(tmp_path: Path) -> None:
    first = packed(tmp_path)
    second = packed(tmp_path, avoid=(first.sha256,))
    third = packed(tmp_path, avoid=(first.sha256, second.sha256))
    assert len({first.sha256, second.sha256, third.sha256}) == 3
    assert first.chunks == second.chunks == third.chunks
    with PackReader(third.file, sha256=third.sha256, size_bytes=third.size_bytes) as reader:
        assert reader.chunk(offset=0, size_bytes=7, sha256=digest(b"weights")) == b"weights"


def test_a_pack_has_room_up_to_its_size_and_for_one_chunk_at_least(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path, max_bytes=10)
    assert writer.has_room(1000)
    writer.add(memoryview(b"1234567"), digest(b"1234567"))
    assert writer.has_room(3)
    assert not writer.has_room(4)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", range(sum(map(len, CHUNKS))))
def test_a_flipped_byte_is_found_on_opening(at: int, tmp_path: Path) -> None:
    pack = packed(tmp_path)
    content = bytearray(pack.file.read_bytes())
    content[at] ^= 1
    pack.file.write_bytes(content)
    with pytest.raises(IntegrityError, match="not those it is named after"):
        PackReader(pack.file, sha256=pack.sha256, size_bytes=pack.size_bytes)


def test_a_truncated_pack_is_found_on_opening(tmp_path: Path) -> None:
    pack = packed(tmp_path)
    pack.file.write_bytes(pack.file.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="113 of 114 bytes"):
        PackReader(pack.file, sha256=pack.sha256, size_bytes=pack.size_bytes)


@pytest.mark.parametrize(("offset", "size_bytes"), [(1, 7), (0, 6), (110, 7), (1000, 7)])
def test_bytes_that_are_not_the_chunk_are_not_given(offset: int, size_bytes: int, tmp_path: Path) -> None:
    pack = packed(tmp_path)
    with (
        PackReader(pack.file, sha256=pack.sha256, size_bytes=pack.size_bytes) as reader,
        pytest.raises(IntegrityError),
    ):
        reader.chunk(offset=offset, size_bytes=size_bytes, sha256=digest(b"weights"))
