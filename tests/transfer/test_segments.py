from pathlib import Path

import pytest

from driverun.errors import (
    ObjectExists,
    StoreAccessDenied,
    StoreError,
    StoreQuotaExceeded,
    TransientStoreError,
)
from driverun.runs.layout import AttemptKey
from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Injection, Moment, Operation
from driverun.transfer import segments
from driverun.transfer.segments import Segment, SegmentWriter, read_segments

KEY = AttemptKey(run_id="mnist-0123456789ab", number=1, worker="w0rker")


def written(store: ObjectStore, after: int = 0) -> list[bytes]:
    return [each.content for each in read_segments(store, KEY.folder, "log-", after)]


def failing(
    inner: ObjectStore, error: type[StoreError], times: int, moment: Moment = Moment.BEFORE
) -> ObjectStore:
    fault = Injection(error=error, operations=frozenset({"create"}), moment=moment, times=times)
    return FaultyStore(inner, injections=[fault])


@pytest.fixture
def memory(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock)


def test_segments_come_after_two_seconds_then_ever_more_rarely(memory: MemoryStore, clock: FakeClock) -> None:
    writer = SegmentWriter(memory, KEY.log_segment, clock)
    flushed_at_s = []
    for second in range(120):
        writer.append(f"line {second}\n")
        before = len(written(memory))
        writer.flush_if_due()
        if len(written(memory)) > before:
            flushed_at_s.append(second)
        clock.advance(seconds=1)
    assert flushed_at_s == [2, 6, 14, 30, 60, 90]
    assert writer.flush()
    assert b"".join(written(memory)) == b"".join(b"line %d\n" % second for second in range(120))


def test_nothing_is_written_where_nothing_waits(memory: MemoryStore, clock: FakeClock) -> None:
    writer = SegmentWriter(memory, KEY.log_segment, clock)
    writer.append("")
    clock.advance(seconds=100)
    assert writer.flush_if_due()
    assert writer.flush()
    assert written(memory) == []
    writer.append("late\n")
    assert not writer.flush_if_due()
    clock.advance(seconds=2)
    assert writer.flush_if_due()
    assert written(memory) == [b"late\n"]


def test_a_megabyte_does_not_wait_and_is_cut_between_lines(memory: MemoryStore, clock: FakeClock) -> None:
    writer = SegmentWriter(memory, KEY.log_segment, clock)
    line = b"x" * 99 + b"\n"
    writer.append(line * 25_000)
    assert writer.flush_if_due()
    assert [len(each) for each in written(memory)] == [1_048_500, 1_048_500, 403_000]
    writer.append(b"y" * 2_000_000)
    writer.flush()
    assert b"".join(written(memory)) == line * 25_000 + b"y" * 2_000_000


@pytest.mark.parametrize("error", [TransientStoreError, StoreQuotaExceeded])
@pytest.mark.parametrize("moment", list(Moment))
def test_what_could_not_be_written_is_kept(
    error: type[StoreError], moment: Moment, memory: MemoryStore, clock: FakeClock
) -> None:
    writer = SegmentWriter(failing(memory, error, 2, moment), KEY.log_segment, clock)
    writer.append("one\n")
    assert not writer.flush()
    writer.append("two\n")
    clock.advance(seconds=1)
    assert not writer.flush_if_due()
    assert writer.waiting_bytes == 8
    for _ in range(3):
        clock.advance(seconds=30)
        writer.flush_if_due()
    assert writer.waiting_bytes == 0
    assert b"".join(written(memory)) == b"one\ntwo\n"


def test_a_root_that_fails_is_not_hammered_however_much_waits(memory: MemoryStore, clock: FakeClock) -> None:
    store = FaultyStore(memory, injections=[Injection(error=TransientStoreError)])
    writer = SegmentWriter(store, KEY.log_segment, clock)
    for _ in range(60):
        writer.append(b"x" * 2_000_000)
        writer.flush_if_due()
        clock.advance(seconds=1)
    assert len(store.operations) == 5  # at 0 s, then 4, 8, 16 and 30 s later


def test_a_lasting_refusal_is_raised_and_nothing_is_lost(memory: MemoryStore, clock: FakeClock) -> None:
    writer = SegmentWriter(failing(memory, StoreAccessDenied, 1), KEY.log_segment, clock)
    writer.append("one\n")
    with pytest.raises(StoreAccessDenied):
        writer.flush()
    assert writer.flush()
    assert written(memory) == [b"one\n"]


def test_beyond_the_bound_the_oldest_lines_go_and_it_says_so(
    memory: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_KEPT_BYTES", 100)
    monkeypatch.setattr(segments, "FULL_BYTES", 20)
    store = failing(memory, TransientStoreError, 1)
    writer = SegmentWriter(store, KEY.log_segment, clock)
    writer.append("first, being sent\n")
    writer.flush()
    for number in range(1000):
        writer.append(f"line {number:03d}\n")
        assert writer.waiting_bytes <= 100
    assert writer.flush()
    lines = b"".join(written(memory)).decode().splitlines()
    assert lines[:2] == [
        "first, being sent",
        "[driverun] 8.9 kB of the log are missing here: the root could not be reached",
    ]
    assert lines[2:] == [f"line {number:03d}" for number in range(991, 1000)]


def test_another_line_can_stand_for_what_was_dropped(
    memory: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_KEPT_BYTES", 10)
    writer = SegmentWriter(
        memory,
        KEY.metrics_segment,
        clock,
        line_about_dropped=lambda dropped: f'{{"dropped_bytes":{dropped}}}',
    )
    writer.append(b"x" * 25)
    writer.flush()
    found = [each.content for each in read_segments(memory, KEY.folder, "metrics-")]
    assert found == [b'{"dropped_bytes":15}\n' + b"x" * 10]


def test_what_is_appended_while_the_root_is_written_to_is_neither_held_up_nor_lost(
    memory: MemoryStore, clock: FakeClock
) -> None:
    def chatter(operation: Operation) -> None:
        if operation.number == 1:
            writer.append(f"while writing, {operation.moment.value}\n")

    writer = SegmentWriter(FaultyStore(memory, on_operation=chatter), KEY.log_segment, clock)
    writer.append("one\n")
    assert writer.flush()
    assert written(memory) == [b"one\n", b"while writing, before\nwhile writing, after\n"]


def test_a_line_that_is_larger_than_the_bound_leaves_its_note(
    memory: MemoryStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_KEPT_BYTES", 10)
    writer = SegmentWriter(memory, KEY.log_segment, clock)
    writer.append("x" * 24 + "\n")
    assert writer.flush()
    (content,) = written(memory)
    assert content.startswith(b"[driverun] 25 B of the log are missing")


def test_a_second_writer_of_one_attempt_is_no_accident_to_pass_over(
    store: ObjectStore, clock: FakeClock
) -> None:
    store.create(KEY.log_segment(1), b"somebody else's")
    writer = SegmentWriter(store, KEY.log_segment, clock)
    writer.append("mine\n")
    with pytest.raises(ObjectExists):
        writer.flush()


def test_text_that_is_no_text_is_written_all_the_same(memory: MemoryStore, clock: FakeClock) -> None:
    writer = SegmentWriter(memory, KEY.log_segment, clock)
    writer.append("ü \udcff\n")
    writer.flush()
    assert written(memory) == ["ü \\udcff\n".encode()]


def test_segments_are_read_in_order_from_where_one_left_off(store: ObjectStore) -> None:
    for number in range(1, 13):
        store.create(KEY.log_segment(number), b"%d" % number)
    store.create(KEY.metrics_segment(1), b"no log")
    store.create(f"{KEY.folder}/log-notes.txt", b"no segment")
    store.create(f"{KEY.results_folder}/log-00001.txt", b"a result")
    assert written(store) == [b"%d" % number for number in range(1, 13)]
    assert list(read_segments(store, KEY.folder, "log-", 11)) == [Segment(number=12, content=b"12")]
    assert written(store, after=12) == []
    assert list(read_segments(store, "runs/none", "log-")) == []


def test_a_gap_that_a_listing_may_still_fill_is_waited_for(clock: FakeClock, tmp_path: Path) -> None:
    store = MemoryStore(clock, listing_lag_s=30)
    for number in (1, 3):
        store.create(KEY.log_segment(number), b"%d" % number)
    clock.advance(seconds=30)
    store.create(KEY.log_segment(2), b"2")
    assert written(store) == [b"1"]
    clock.advance(seconds=30)
    assert written(store) == [b"1", b"2", b"3"]
    store.delete(KEY.log_segment(2))
    assert written(store, after=1) == [b"3"]
