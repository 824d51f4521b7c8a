from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from driverun.errors import SpoolError
from driverun.spool.snapshot import (
    ALIGNMENT,
    HEADER,
    SCHEMA_VERSION,
    TENSORS,
    SnapshotHeader,
    SnapshotKind,
    aligned,
    mapped_tensors,
    read_header,
    write_header,
)
from tests.spool.headers import header_of


@pytest.mark.parametrize(
    "header",
    [
        header_of(3, size_bytes=12),
        header_of(
            0, kind=SnapshotKind.FIT_END, steps_per_epoch=None, monitored=None, files=(), total_steps=9
        ),
        header_of(1, state={"ä": ["\udc80", {"a": 1e-320}]}),
    ],
)
def test_a_header_comes_back_as_it_was(tmp_path: Path, header: SnapshotHeader) -> None:
    write_header(tmp_path, header)
    assert read_header(tmp_path) == header


def test_where_nothing_is_sealed_there_is_no_header(tmp_path: Path) -> None:
    assert read_header(tmp_path) is None
    assert read_header(tmp_path / "nowhere") is None
    (tmp_path / f"{HEADER}.new").write_text("{")  # a writer was killed at it
    assert read_header(tmp_path) is None


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    header = header_of(1, size_bytes=3)
    raw = header.to_json()
    raw["mood"] = raw["tensors"][0]["mood"] = raw["files"][0]["mood"] = "new"
    assert SnapshotHeader.from_json(raw) == header


def test_a_newer_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    raw = {**header_of(1).to_json(), "schema_version": SCHEMA_VERSION + 1}
    (tmp_path / HEADER).write_text(json.dumps(raw))
    with pytest.raises(SpoolError, match=r"format 2: install a newer driverun"):
        read_header(tmp_path)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_header_that_was_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    write_header(tmp_path, header_of(1))
    whole = (tmp_path / HEADER).read_bytes()
    (tmp_path / HEADER).write_bytes(whole[:cut])
    with pytest.raises(SpoolError, match=r"header\.json"):
        read_header(tmp_path)


@pytest.mark.parametrize("content", [b"null", b"[]", b"3", b"{}", b"\xff\xfe", b'{"schema_version": "x"}'])
def test_what_is_no_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HEADER).write_bytes(content)
    with pytest.raises(SpoolError):
        read_header(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "half"),
        ("tensors", None),
        ("tensors", [3]),
        ("tensors", [{"group": "trainable"}]),
        ("files", [{"path": "x"}]),
        ("step", ...),  # missing
    ],
)
def test_a_header_with_a_field_that_is_none_is_refused(field: str, value: Any) -> None:
    raw = header_of(1).to_json()
    if value is ...:
        del raw[field]
    else:
        raw[field] = value
    with pytest.raises(SpoolError):
        SnapshotHeader.from_json(raw)


def test_snapshots_are_ordered_by_progress() -> None:
    early, late = header_of(5, step=90), header_of(2, step=10, fits_finished=1)
    assert sorted([late, early], key=lambda header: header.order) == [early, late]
    assert header_of(1, size_bytes=12).tensor_bytes == 12


def test_arrays_are_mapped_and_may_be_none_at_all(tmp_path: Path) -> None:
    (tmp_path / TENSORS).write_bytes(b"")
    with mapped_tensors(tmp_path) as view:
        assert bytes(view) == b""
    (tmp_path / TENSORS).write_bytes(b"abc")
    with mapped_tensors(tmp_path) as view:
        assert bytes(view) == b"abc"
        assert view.readonly


def test_arrays_begin_where_processors_like_it() -> None:
    assert [aligned(at) for at in (0, 1, ALIGNMENT, ALIGNMENT + 1)] == [
        0,
        ALIGNMENT,
        ALIGNMENT,
        2 * ALIGNMENT,
    ]
