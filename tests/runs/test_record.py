from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from driverun.errors import IntegrityError
from driverun.runs.layout import WishKind
from driverun.runs.record import (
    AttemptState,
    Claim,
    Exactness,
    Failure,
    ProcessId,
    Record,
    ResultsRef,
    RunFile,
    Wish,
    worst,
)

RUN = "digits-0123456789ab"
NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
PROCESS = ProcessId(host="lab", boot_id="b1", pid=7, started="99")
RECORD = Record(
    run_id=RUN,
    number=2,
    worker="anna",
    process=PROCESS,
    state=AttemptState.FAILED,
    beat=4,
    started_at=NOW,
    updated_at=NOW,
    ended_at=NOW,
    exactness=Exactness.STEP_EXACT,
    exactness_reasons=("kernels",),
    metrics={"fit.loss": 0.5, "fit.acc": float("inf")},
    results=ResultsRef(path="runs/x", created_at=NOW),
    failure=Failure(kind="ValueError", message="no ünicode", traceback=""),
    environment={"gpu": None, "versions": {"keras": "3.8"}},
)
VALUES = [
    RECORD,
    Claim(run_id=RUN, number=1, worker="anna", process=PROCESS, claimed_at=NOW),
    RunFile(run_id=RUN, name="digits", code_sha256="ab", computed={"params": {"epochs": 5}}),
    Wish(run_id=RUN, kind=WishKind.RETRY, wish_id="w1", wished_at=NOW, by="me@lab", details={"fresh": True}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was_written(value: Any) -> None:
    assert type(value).from_bytes(value.to_bytes()) == value


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_fields_of_a_later_version_are_ignored(value: Any) -> None:
    content = json.dumps({**json.loads(value.to_bytes()), "mood": "good"}).encode()
    assert type(value).from_bytes(content) == value


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    content = json.dumps({**json.loads(RECORD.to_bytes()), "schema_version": 2}).encode()
    with pytest.raises(IntegrityError, match="Install a newer one"):
        Record.from_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"{}",
        b'{"schema_version": 1}',
        b'{"schema_version": "new"}',
        b"[" * 200_000,
        RECORD.to_bytes()[:-10],
        RECORD.to_bytes().replace(b"FAILED", b"BORED"),
        RECORD.to_bytes().replace(b"123456Z", b"123456"),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_driverun_did_not_write_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        Record.from_bytes(content)


def test_equal_values_are_equal_bytes_whoever_writes_them() -> None:
    first = RunFile(run_id=RUN, name="digits", code_sha256="ab", computed={"a": 1, "b": 2})
    second = replace(first, computed={"b": 2, "a": 1})
    assert first.to_bytes() == second.to_bytes()


def test_each_write_of_a_record_counts_one_beat_more() -> None:
    later = NOW + timedelta(seconds=20)
    assert RECORD.moved(updated_at=later) == replace(RECORD, beat=5, updated_at=later)


def test_the_weakest_claim_wins() -> None:
    assert worst() is Exactness.EXACT
    assert worst(Exactness.EXACT, Exactness.STEP_EXACT) is Exactness.STEP_EXACT
    assert worst(Exactness.APPROXIMATE, Exactness.EXACT) is Exactness.APPROXIMATE
