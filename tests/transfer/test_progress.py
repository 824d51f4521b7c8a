"""How far a transfer is, at which rate, and how long it will take."""

import threading
from pathlib import Path

import pytest

from driverun.testing.clock import FakeClock
from driverun.transfer import progress
from driverun.transfer.progress import (
    LARGE_BYTES,
    Progress,
    ProgressCounter,
    progress_lines,
    written_duration,
    written_size,
)

MB = 10**6


def test_the_rate_and_the_time_left_follow_from_the_last_seconds(clock: FakeClock) -> None:
    told: list[Progress] = []
    counter = ProgressCounter(told.append, total_files=100, total_bytes=100 * MB, clock=clock)
    for _ in range(30):
        clock.advance(seconds=1)
        counter.add("a", 2 * MB)
    assert told[-1].bytes_per_s == pytest.approx(2 * MB)
    assert told[-1].left_s == pytest.approx(20)
    for _ in range(30):  # the line becomes ten times slower
        clock.advance(seconds=1)
        counter.add("a", MB // 5)
    assert told[-1].bytes_per_s == pytest.approx(0.2 * MB, rel=0.1)
    assert str(told[-1]) == "60 of 100 files, 66.0 MB of 100.0 MB, 200.0 kB/s, 3 min left"


def test_a_large_file_is_told_of_while_it_grows(clock: FakeClock, tmp_path: Path) -> None:
    told: list[Progress] = []
    counter = ProgressCounter(told.append, total_files=1, total_bytes=3 * MB, clock=clock)
    counter.look()
    assert told == []
    with counter.arriving("small", tmp_path, LARGE_BYTES - 1):
        counter.look()
    assert told == []
    with counter.arriving("a", tmp_path, LARGE_BYTES):
        (tmp_path / "part").write_bytes(b"x" * MB)
        clock.advance(seconds=1)
        counter.look()
        assert (told[-1].done_files, told[-1].done_bytes) == (0, MB)
        assert told[-1].bytes_per_s == MB
        with (tmp_path / "laid-out").open("wb") as file:
            file.truncate(100 * MB)  # a file of which nothing has arrived yet
        counter.look()
        assert told[-1].done_bytes == MB
    counter.add("a", 3 * MB)
    assert told[-1].is_done
    assert told[-1].done_bytes == 3 * MB


def test_what_turns_out_larger_than_promised_is_never_more_than_all() -> None:
    told: list[Progress] = []
    counter = ProgressCounter(told.append, total_files=1, total_bytes=0)
    counter.add("a", 7)
    assert (told[-1].done_bytes, told[-1].total_bytes, told[-1].left_s) == (7, 7, None)
    assert str(told[-1]) == "7 B of 7 B"


def test_a_ticking_thread_looks_and_ends(clock: FakeClock) -> None:
    counter = ProgressCounter(lambda _: None, total_files=1, total_bytes=1, clock=clock)
    with counter.watching():
        counter.add("a", 1)


def test_what_is_raised_while_a_file_grows_ends_the_transfer(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LOOK_EVERY_S", 0.001)
    looked = threading.Event()

    def stop(_: Progress) -> None:
        looked.set()
        raise KeyError("enough")

    counter = ProgressCounter(stop, total_files=2, total_bytes=2, clock=clock)
    with (
        pytest.raises(KeyError, match="enough"),
        counter.watching(),
        counter.arriving("a", tmp_path, LARGE_BYTES),
    ):
        assert looked.wait(10)


def test_lines_come_every_ten_seconds_and_none_for_what_is_quick(clock: FakeClock) -> None:
    said: list[str] = []
    tell = progress_lines(said.append, clock, what="data/x")
    counter = ProgressCounter(tell, total_files=2, total_bytes=2, clock=clock)
    counter.add("a", 1)
    counter.add("b", 1)
    assert said == []
    tell = progress_lines(said.append, clock, what="data/x")
    counter = ProgressCounter(tell, total_files=30, total_bytes=30 * MB, clock=clock)
    for _ in range(30):
        clock.advance(seconds=1)
        counter.add("a", MB)
    assert said == [
        "data/x: 10 of 30 files, 10.0 MB of 30.0 MB, 1.0 MB/s, 20 s left",
        "data/x: 20 of 30 files, 20.0 MB of 30.0 MB, 1.0 MB/s, 10 s left",
        "data/x: 30 of 30 files, 30.0 MB of 30.0 MB, 1.0 MB/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(6.4, "6 s"), (89, "89 s"), (120, "2 min"), (3600 * 3 + 300, "3 h 05 min")]
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert written_duration(seconds) == text


def test_sizes_are_written_for_people() -> None:
    assert [written_size(size) for size in (0, 999, 12_300_000, 5 * 10**12)] == [
        "0 B",
        "999 B",
        "12.3 MB",
        "5.0 TB",
    ]
