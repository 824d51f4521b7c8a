from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from driverun.errors import SpoolError
from driverun.spool.events import EventKind, EventReader, EventWriter
from driverun.spool.masking import Masker

PACKAGE_HOME = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def texts(reader: EventReader) -> list[str]:
    return [event.fields["text"] for event in reader.read()]


def test_events_come_once_in_order_with_their_fields(path: Path) -> None:
    reader = EventReader(path)
    assert list(reader.read()) == []
    writer = EventWriter(path)
    assert list(reader.read()) == []
    writer.write(EventKind.EPOCH_ENDED, fit=0, epoch=2, logs={"loss": 0.5, "acc": float("nan")})
    writer.write(EventKind.SAID, text="ä\n\udc80")
    first, second = reader.read()
    assert (first.kind, second.kind) == (EventKind.EPOCH_ENDED, EventKind.SAID)
    assert first.fields["logs"]["loss"] == 0.5
    assert second.fields == {"text": "ä\n\udc80"}
    assert first.at <= second.at
    assert second.line == path.read_text().splitlines()[1]
    assert list(reader.read()) == []


def test_half_a_line_waits_for_its_end(path: Path) -> None:
    writer = EventWriter(path)
    writer.write(EventKind.SAID, text="one")
    writer.write(EventKind.SAID, text="two")
    whole = path.read_bytes()
    reader = EventReader(path)
    found = []
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        found += [(event.fields["text"], end) for event in reader.read()]
    assert found == [("one", whole.index(b"\n") + 1), ("two", len(whole))]


def test_who_stops_reading_goes_on_behind_what_was_taken(path: Path) -> None:
    writer = EventWriter(path)
    for number in range(4):
        writer.write(EventKind.SAID, text=str(number))
    reader = EventReader(path)
    for event in reader.read():
        if event.fields["text"] == "1":
            break
    assert texts(reader) == ["2", "3"]


def test_a_large_event_is_one_line(path: Path) -> None:
    writer = EventWriter(path)
    text = "\r\u2028x" * 3_000_000
    writer.write(EventKind.SAID, text=text)
    writer.write(EventKind.SAID, text="next")
    assert texts(EventReader(path)) == [text, "next"]


def test_a_line_that_is_no_event_is_refused_and_passed(path: Path) -> None:
    writer = EventWriter(path)
    for line in (b"{}", b"null", b"\xff", b'{"event": "unheard", "at": 0}', b""):
        with open(path, "ab") as file:
            file.write(line + b"\n")
    writer.write(EventKind.SAID, text="fine")
    reader = EventReader(path)
    for _ in range(5):
        with pytest.raises(SpoolError, match=r"cannot read an event in .*events\.jsonl"):
            list(reader.read())
    assert texts(reader) == ["fine"]


def test_who_takes_over_does_not_write_behind_half_a_line(path: Path) -> None:
    EventWriter(path).write(EventKind.SAID, text="whole")
    with open(path, "ab") as file:
        file.write(b'{"event": "sa')
    reader = EventReader(path)
    assert texts(reader) == ["whole"]
    EventWriter(path).write(EventKind.SAID, text="taken over")
    assert texts(reader) == ["taken over"]


def test_a_killed_writer_leaves_whole_lines(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from driverun.spool.events import *\n"
        "writer = EventWriter(Path(sys.argv[1]))\n"
        "writer.write(EventKind.SAID, text='x'); print(flush=True)\n"
        "while True: writer.write(EventKind.SAID, text='x' * 100_000)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=PACKAGE_HOME, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        reader = EventReader(path)
        assert set(texts(reader)) <= {"x", "x" * 100_000}
        process.kill()
    EventWriter(path).write(EventKind.SAID, text="end")
    assert texts(reader)[-1] == "end"


def test_the_end_of_a_job_that_filled_the_disk_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EventWriter(path)
    reserve = path.with_suffix(".reserve")
    assert reserve.stat().st_blocks * 512 >= 64 * 1024
    really_write = os.write

    def write(file: int, content: bytes) -> int:
        if not reserve.exists():
            return really_write(file, content)
        if len(content) <= 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(file, bytes(content)[: len(content) // 2])  # a disk fills in the middle of a line

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        writer.write(EventKind.FAILED, text="the disk is full")
    assert texts(EventReader(path)) == ["the disk is full"]


def test_an_event_without_room_leaves_nothing_of_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = EventWriter(path)
    writer.write(EventKind.SAID, text="before")
    really_write = os.write

    def write(file: int, content: bytes) -> int:
        if len(content) <= 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(file, bytes(content)[:10])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space"):
            writer.write(EventKind.SAID, text="lost")
    writer.write(EventKind.SAID, text="after")
    assert texts(EventReader(path)) == ["before", "after"]


def test_a_masked_event_keeps_its_form_whatever_the_secret_is(path: Path) -> None:
    writer = EventWriter(path)
    writer.write(
        EventKind.SNAPSHOT, step=3, buffers="/home/snapshot/1", logs={"a snapshot": ["of snapshot", 1]}
    )
    (event,) = EventReader(path).read()
    masked = event.masked(Masker({"WEAK": "snapshot", "WEAKER": "buffers"}))
    assert masked.kind is EventKind.SNAPSHOT
    assert masked.fields == {"step": 3, "buffers": "/home/snapshot/1", "logs": {"a ***": ["of ***", 1]}}
    told = json.loads(masked.line)
    assert (told.pop("event"), told.pop("at")) == ("snapshot", event.at)
    assert told == {"step": 3, "buffers": "/home/***/1", "logs": {"a ***": ["of ***", 1]}}
    assert event.masked(Masker()) is event
