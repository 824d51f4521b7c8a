"""How a transfer is shown on a terminal and elsewhere."""

import io
import sys

import pytest

from driverun.cli.bars import bar_text, show_progress
from driverun.testing.clock import FakeClock
from driverun.transfer.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at(done: int) -> Progress:
    return Progress(
        path="x",
        done_files=done,
        total_files=4,
        done_bytes=done * 10**6,
        total_bytes=4 * 10**6,
        bytes_per_s=1e6,
    )


def test_a_bar_has_the_numbers_beside_it() -> None:
    assert bar_text("data", at(3)) == (
        "data [##################......] 3 of 4 files, 3.0 MB of 4.0 MB, 1.0 MB/s, 1 s left"
    )
    empty = Progress(path="x", done_files=0, total_files=1, done_bytes=0, total_bytes=0)
    assert "[########################]" in bar_text("x", empty)


def test_a_terminal_sees_one_line_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, clock = Terminal(), FakeClock()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    show = show_progress("data", clock)
    show(at(0))
    assert terminal.getvalue() == ""
    for done in (1, 2, 3, 4):
        clock.advance(seconds=1)
        show(at(done))
        show(at(done))  # too soon to be drawn again
    drawn = terminal.getvalue().split("\r")[1:]
    assert len(drawn) == 4
    assert all(len(line) <= 39 + len("\x1b[K\n") for line in drawn)
    assert terminal.getvalue().count("\n") == 1


def test_what_is_over_at_once_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    show_progress("data", FakeClock())(at(4))
    assert terminal.getvalue() == ""


def test_elsewhere_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    show = show_progress("data", clock)
    clock.advance(seconds=11)
    show(at(1))
    assert capsys.readouterr().err == "data: 1 of 4 files, 1.0 MB of 4.0 MB, 1.0 MB/s, 3 s left\n"
