from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from driverun.checkpoints.manifest import (
    CheckpointManifest,
    ChunkRef,
    FitRef,
    PackRef,
    StoredManifest,
    packed_header,
)
from driverun.errors import IntegrityError
from driverun.spool.snapshot import FileEntry, SnapshotHeader, SnapshotKind, TensorEntry
from tests.checkpoints.world import attempt

A, B, C = (hashlib.sha256(name).hexdigest() for name in (b"a", b"b", b"c"))


def tensor(index: int, shape: tuple[int, ...], size_bytes: int) -> TensorEntry:
    return TensorEntry(
        group="trainable",
        index=index,
        path=f"layer/{index}",
        dtype="float32",
        shape=shape,
        offset=0,
        size_bytes=size_bytes,
    )


HEADER = packed_header(
    SnapshotHeader(
        kind=SnapshotKind.CHECKPOINT,
        sequence=4,
        step=120,
        fits_finished=1,
        epoch=1,
        step_in_epoch=20,
        steps_per_epoch=100,
        total_steps=None,
        tensors=(tensor(0, (2, 3), 24), tensor(1, (), 4), tensor(2, (0, 5), 0)),
        files=(FileEntry(path="logs/a.csv", size_bytes=10, sha256=C),),
        state={"zebra": 1, "apple": [0.1, 1e-300], "deep": {"b": None, "a": "ü"}},
        monitored=0.25,
    )
)


def chunk(pack: int, offset: int, size_bytes: int, sha256: str = A) -> ChunkRef:
    return ChunkRef(pack=pack, offset=offset, size_bytes=size_bytes, sha256=sha256)


MANIFEST = CheckpointManifest(
    key=attempt(2, "bert"),
    ordinal=3,
    header=HEADER,
    packs=(PackRef(sha256=A, size_bytes=30), PackRef(sha256=B, size_bytes=8)),
    tensors=((chunk(0, 0, 20), chunk(1, 4, 4, B)), (chunk(1, 0, 4),), ()),
    files=((chunk(0, 20, 10, C),),),
    fits=(FitRef(fit=0, path=attempt(1).fit_file(0), sha256=B),),
    new_bytes=8,
    committed_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
)
CONTENT = MANIFEST.to_bytes()


def sealed(raw: dict[str, Any]) -> bytes:
    """What a writer would have written that held `raw` for a manifest."""
    body = json.dumps(raw).encode()[1:]
    return b'{"manifest_sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'",' + body


def raw_manifest() -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(CONTENT)
    del raw["manifest_sha256"]
    return raw


def test_a_manifest_comes_back_and_is_written_the_same_again() -> None:
    back = CheckpointManifest.from_bytes(CONTENT)
    assert back == MANIFEST
    assert back.to_bytes() == CONTENT
    assert back.size_bytes == 38
    assert back.path == attempt(2, "bert").checkpoint_file(step=120, fits_finished=1)


def test_a_manifest_is_json_whose_digest_covers_all_that_follows() -> None:
    assert json.loads(CONTENT)["manifest_sha256"] == hashlib.sha256(CONTENT[86:]).hexdigest()
    assert sealed(raw_manifest()) != CONTENT  # it was written without spaces
    assert CheckpointManifest.from_bytes(sealed(raw_manifest())) == MANIFEST


def test_the_order_of_a_jobs_own_state_is_kept() -> None:
    back = CheckpointManifest.from_bytes(CONTENT)
    assert list(back.header.state) == ["zebra", "apple", "deep"]
    assert list(back.header.state["deep"]) == ["b", "a"]


def test_not_a_number_survives() -> None:
    header = replace(HEADER, monitored=math.nan, state={"loss": [math.inf, math.nan]})
    back = CheckpointManifest.from_bytes(replace(MANIFEST, header=header).to_bytes())
    assert back.header.monitored is not None
    assert math.isnan(back.header.monitored)
    assert back.header.state["loss"][0] == math.inf


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_no_flipped_byte_is_accepted(flip: int) -> None:
    for at in range(len(CONTENT)):
        damaged = bytearray(CONTENT)
        damaged[at] ^= flip
        with pytest.raises(IntegrityError):
            CheckpointManifest.from_bytes(bytes(damaged))


def test_no_truncated_or_extended_manifest_is_accepted() -> None:
    for damaged in (*(CONTENT[:end] for end in range(len(CONTENT))), CONTENT + b"\n", b" " + CONTENT):
        with pytest.raises(IntegrityError):
            CheckpointManifest.from_bytes(damaged)


def test_a_newer_format_is_refused_and_an_unknown_field_is_not() -> None:
    with pytest.raises(IntegrityError, match="Install a newer one"):
        CheckpointManifest.from_bytes(sealed({**raw_manifest(), "schema_version": 2}))
    newer = sealed({**raw_manifest(), "signature": "x"})
    assert CheckpointManifest.from_bytes(newer) == MANIFEST
    assert StoredManifest.from_bytes(newer).sha256 == hashlib.sha256(newer).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"packs": [[A, 29], [B, 8]]},
        {"packs": [[A, 30]]},
        {"packs": [[A.upper(), 30], [B, 8]]},
        {"packs": [["../x", 30], [B, 8]]},
        {"packs": [[A, -30], [B, 8]]},
        {"tensors": [[[0, 0, 24, A]], [[1, 0, 4, A]]]},
        {"tensors": [[[0, 0, 23, A]], [[1, 0, 4, A]], []]},
        {"tensors": [[[0, -1, 24, A]], [[1, 0, 4, A]], []]},
        {"tensors": [[[-1, 0, 24, A]], [[1, 0, 4, A]], []]},
        {"tensors": [[[0, 0, 24, "a"]], [[1, 0, 4, A]], []]},
        {"tensors": [[[0, 0, 24, A], [0, 0, 0, A]], [[1, 0, 4, A]], []]},
        {"tensors": [[[0, 0, 24, A]], [[1, 0, 4, A]], [[0, 0, 1, A]]]},
        {"tensors": None},
        {"files": [[]]},
        {"files": []},
        {"size_bytes": 39},
        {"fits": [[1, attempt(1).fit_file(1), B]]},
        {"fits": [[0, attempt(1).fit_file(1), B]]},
        {"fits": [[0, "data/fit-000.json", B]]},
        {"fits": [[0, attempt(1).fit_file(0), "b"]]},
        {"fits": [[0, attempt(1).fit_file(0).replace("digits", "mnist"), B]]},
        {"fits": [[0, attempt(1).fit_file(0), B], [0, attempt(1).fit_file(0), B]]},
        {"run_id": "../../etc"},
        {"worker": "A B"},
        {"attempt": 0},
        {"ordinal": 0},
        {"new_bytes": -1},
        {"committed_at": "2026-01-01T12:00:00"},
        {"committed_at": "yesterday"},
        {"header": {}},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        CheckpointManifest.from_bytes(sealed({**raw_manifest(), **change}))


@pytest.mark.parametrize("path", ["../a", "/a", "a/../../b", "a//b", "", ".", "a/.", "a\0b", "logs/../../x"])
def test_a_file_outside_of_the_working_folder_is_refused(path: str) -> None:
    raw = raw_manifest()
    raw["header"]["files"][0]["path"] = path
    with pytest.raises(IntegrityError, match="leaves the working folder"):
        CheckpointManifest.from_bytes(sealed(raw))


@pytest.mark.parametrize(
    ("field", "value"),
    [("shape", [2, -3]), ("shape", [0]), ("shape", [5]), ("offset", 64), ("size_bytes", 0), ("offset", -64)],
)
def test_a_tensor_that_makes_no_sense_is_refused(field: str, value: Any) -> None:
    raw = raw_manifest()
    raw["header"]["tensors"][0][field] = value
    with pytest.raises(IntegrityError):
        CheckpointManifest.from_bytes(sealed(raw))


def test_a_files_digest_is_no_way_out_of_the_spool() -> None:
    raw = raw_manifest()
    raw["header"]["files"][0]["sha256"] = "../../x"
    with pytest.raises(IntegrityError, match="for a digest"):
        CheckpointManifest.from_bytes(sealed(raw))


def test_only_the_end_of_a_fit_can_be_stood_on() -> None:
    assert StoredManifest(manifest=MANIFEST, sha256=A).fit_ref is None
    end = replace(MANIFEST, header=replace(HEADER, kind=SnapshotKind.FIT_END), fits=())
    assert StoredManifest(manifest=end, sha256=A).fit_ref == FitRef(
        fit=0, path=attempt(2, "bert").fit_file(0), sha256=A
    )
    with pytest.raises(IntegrityError):
        replace(MANIFEST, header=replace(HEADER, kind=SnapshotKind.FIT_END))  # it stands on itself
