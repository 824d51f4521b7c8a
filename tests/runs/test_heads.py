"""Heads: what a listing shows of the ledger's files."""

from __future__ import annotations

import hashlib
import json
import math
import random
import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from driverun.runs import heads
from driverun.runs.heads import PART_BYTES, PARTS, Head, head_of, read_head
from driverun.runs.layout import AttemptKey, WishKind, parse_ledger_name, wish_file
from driverun.runs.record import (
    AttemptState,
    Claim,
    Exactness,
    Failure,
    ProcessId,
    Record,
    ResultsRef,
    Wish,
)

RUN = "digits-0123456789ab"
KEY = AttemptKey(run_id=RUN, number=3, worker="wab12cd")
NOW = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
PROCESS = ProcessId(host="colab", boot_id="5b3c8b39-3b31/pid:[4026531836]", pid=321, started="98765")
SPEC = {
    "name": "digits",
    "entrypoint": "train.py",
    "params": {"epochs": 5, "wörter": "größe ✓"},
    "priority": 3,
}
SHA = hashlib.sha256(b"code").hexdigest()


def submission(**details: Any) -> Wish:
    return Wish(
        run_id=RUN,
        kind=WishKind.SUBMIT,
        wish_id="ab12",
        wished_at=NOW,
        by="me@here",
        details={"job": "jobs/digits", "job_sha256": SHA, "spec": SPEC, "code_sha256": SHA, **details},
    )


CLAIM = Claim(run_id=RUN, number=3, worker="wab12cd", process=PROCESS, claimed_at=NOW)
RECORD = Record(
    run_id=RUN,
    number=3,
    worker="wab12cd",
    process=PROCESS,
    state=AttemptState.SUCCEEDED,
    beat=7,
    started_at=NOW,
    updated_at=NOW,
    ended_at=NOW,
    reason="Pâte à modeler",
    step=1200,
    committed_step=1200,
    exactness=Exactness.APPROXIMATE,
    exactness_reasons=("the callback `Ω` cannot be read",),
    metrics={"fit.loss": 0.1234567890123},
    state_sha256=SHA,
    outputs_sha256=SHA,
    results=ResultsRef(path=KEY.results_folder, created_at=NOW),
)


def path_of(value: Claim | Record | Wish) -> str:
    match value:
        case Claim():
            return value.key.claim_file
        case Record():
            return value.key.record_file
    return wish_file(value.run_id, value.kind, value.wish_id)


def read_back(value: Claim | Record | Wish, properties: dict[str, str] | None = None) -> Head | None:
    name = parse_ledger_name(path_of(value))
    assert name is not None
    content = value.to_bytes()
    return read_head(name, head_of(value, content) if properties is None else properties, len(content))


def without_process(record: Record) -> Record:
    return replace(record, process=heads.NO_PROCESS)


def whole(value: Claim | Record | Wish) -> Claim | Record | Wish:
    head = read_back(value)
    assert head is not None
    assert not head.is_cut
    return head.value


@pytest.mark.parametrize(
    "value",
    [
        CLAIM,
        replace(RECORD, state=AttemptState.RUNNING),
        submission(),
        replace(submission(), kind=WishKind.CANCEL, details={}),
    ],
    ids=["claim", "record", "submission", "cancel"],
)
def test_a_head_gives_the_value_back(value: Claim | Record | Wish) -> None:
    assert whole(value) == value


def test_a_head_fits_the_narrowest_store_whatever_the_names() -> None:
    run_id = "n" * 63 + "-0123456789ab"
    key = AttemptKey(run_id=run_id, number=12_345, worker="w" * 32)
    results = ResultsRef(path=key.results_folder, created_at=NOW)
    record = replace(RECORD, run_id=run_id, number=12_345, worker="w" * 32, results=results, step=10**12)
    properties = head_of(record, record.to_bytes())
    assert len(properties) <= PARTS <= 30
    assert all(len(f"{name}{text}".encode()) <= 124 for name, text in properties.items())
    assert whole(record) == without_process(record)


def test_details_are_left_to_the_file() -> None:
    failure = Failure(kind="ValueError", message="m" * 5000, traceback="t" * 50_000)
    record = replace(
        RECORD,
        state=AttemptState.FAILED,
        reason="r" * 5000,
        failure=failure,
        environment={"gpu": "T4", "first_checkpoint_s": 12.5, "is_colab": True},
    )
    found = whole(record)
    assert isinstance(found, Record)
    assert found.failure is not None
    assert (found.failure.kind, found.failure.traceback) == ("ValueError", "")
    assert found.failure.message.startswith("mmm")
    assert len(found.failure.message) <= 300
    assert len(found.reason) <= 300
    assert found.environment == {"first_checkpoint_s": 12.5}
    submitted = whole(submission(computed={"params": SPEC["params"]}))
    assert submitted == submission()


def test_of_what_is_too_long_the_head_says_so() -> None:
    noise = [hashlib.sha256(bytes([number])).hexdigest() for number in range(100)]
    spec = {
        **SPEC,
        "data": [{"source": f"data/{each}"} for each in noise],
        "after": ["other"],
        "accelerator": "gpu",
    }
    head = read_back(submission(spec=spec, due_at="2026-07-01T03:00:00Z"))
    assert head is not None
    assert head.is_cut
    assert isinstance(head.value, Wish)
    assert head.value.details["spec"] == {**SPEC, "after": ["other"], "accelerator": "gpu"}
    assert head.value.details["due_at"] == "2026-07-01T03:00:00Z"
    record = replace(RECORD, metrics={f"fit.{each}": 1 / 3 for each in noise})
    cut = read_back(record)
    assert cut is not None
    assert cut.is_cut
    assert cut.value == replace(without_process(record), metrics={})


def test_where_nothing_can_be_spared_there_is_no_head() -> None:
    endless = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(200))
    value = submission(job=f"jobs/{endless}")
    assert head_of(value, value.to_bytes()) == {}


def test_a_shorter_head_is_read_where_a_longer_one_was() -> None:
    noise = {f"fit.{hashlib.sha256(bytes([n])).hexdigest()}": 1.0 for n in range(20)}
    before = replace(RECORD, metrics=noise)
    longer, shorter = head_of(before, before.to_bytes()), head_of(RECORD, RECORD.to_bytes())
    assert len(longer) > len(shorter)
    head = read_back(RECORD, {**longer, **shorter})  # Drive merges properties
    assert head is not None
    assert head.value == without_process(RECORD)


def damaged_heads() -> dict[str, dict[str, str]]:
    sound = head_of(RECORD, RECORD.to_bytes())
    assert len(sound) > 2
    first = sound["h0"]
    return {
        "none": {},
        "properties of something else": {"state": "SUCCEEDED"},
        "a part is missing": {name: text for name, text in sound.items() if name != "h1"},
        "a part is another's": {**sound, "h1": sound["h1"][::-1]},
        "not base64": {**sound, "h1": "{" + sound["h1"][1:]},
        "cut short": {**sound, "h0": first[:50]},
        "a newer format": {**sound, "h0": f"2{first[1:]}"},
        "no number of parts": {**sound, "h0": f"1xx{first[3:]}"},
        "of another length": head_of(RECORD, RECORD.to_bytes() + b" "),
        "of a claim": head_of(CLAIM, RECORD.to_bytes()),
    }


@pytest.mark.parametrize("damage", damaged_heads())
def test_a_head_that_makes_no_sense_is_none(damage: str) -> None:
    assert read_back(RECORD, damaged_heads()[damage]) is None


def packed(fields: dict[str, Any]) -> dict[str, str]:
    """The head that another version would write."""
    parts = heads._parts(json.dumps([len(RECORD.to_bytes()), False, fields]))
    assert all(len(part) <= PART_BYTES for part in parts)
    return {f"h{number}": part for number, part in enumerate(parts)}


def test_fields_of_a_newer_version_are_passed_over_and_newer_formats_refused() -> None:
    fields = {
        "schema_version": 1,
        "process": {"host": "h", "boot_id": "b", "pid": 1, "started": "s", "namespace": 7},
        "state": "RUNNING",
        "beat": 0,
        "started_at": "2026-07-01T12:00:00Z",
        "updated_at": "2026-07-01T12:00:00Z",
        "temperature": 36.6,
    }
    head = read_back(RECORD, packed(fields))
    assert head is not None
    assert isinstance(head.value, Record)
    assert head.value.state is AttemptState.RUNNING
    assert read_back(RECORD, packed({**fields, "schema_version": 2})) is None
    assert read_back(RECORD, packed({**fields, "state": "HIBERNATING"})) is None


def test_numbers_come_back_to_the_last_bit() -> None:
    rng = random.Random(0)
    numbers = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(400)]
    numbers = [*filter(math.isfinite, numbers), 5e-324, 2.2250738585072011e-308, -0.0, math.inf, 2.0**53]
    for start in range(0, len(numbers), 8):
        metrics = {f"fit.{index}": number for index, number in enumerate(numbers[start : start + 8])}
        record = replace(RECORD, metrics=metrics)
        head = read_back(record, head_of(record, record.to_bytes()))
        assert head is not None
        assert isinstance(head.value, Record)
        assert {name: one.hex() for name, one in head.value.metrics.items()} == {
            name: one.hex() for name, one in metrics.items()
        }


def test_what_many_submissions_have_in_common_is_in_memory_once() -> None:
    wish = submission()
    one, other = (read_back(wish, head_of(wish, wish.to_bytes())) for _ in range(2))
    assert one is not None
    assert other is not None
    for name in ("code_sha256", "job_sha256", "job"):
        assert one.value.details[name] is other.value.details[name]  # type: ignore[union-attr]
