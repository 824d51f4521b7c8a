import random
from pathlib import Path

import pytest

from driverun.testing.clock import FakeClock
from driverun.transfer.linelog import LONGEST_LINE, LineCleaner

#: What `model.fit` of Keras 3.15 wrote to a pipe in two epochs of ten steps, byte for byte.
KERAS = Path(__file__).with_name("keras_progbar.txt").read_bytes()
KERAS_LINES = [
    "Epoch 1/2",
    "10/10 ━━━━━━━━━━━━━━━━━━━━ 1s 64ms/step - accuracy: 0.3281 - loss: 1.1625",
    "Epoch 2/2",
    "10/10 ━━━━━━━━━━━━━━━━━━━━ 1s 64ms/step - accuracy: 0.3313 - loss: 1.1586",
]
TQDM = b"".join(
    f"\r{done:3d}%|{'█' * (done // 10):10}| {done}/100 [00:{done:02d}<00:{100 - done:02d},  "
    "1.00it/s]".encode()
    for done in range(101)
)
TQDM_LAST = "100%|██████████| 100/100 [00:100<00:00,  1.00it/s]"
BINARY = random.Random(7).randbytes(5000)
MIXED = (
    KERAS
    + TQDM
    + b"\n"
    + BINARY
    + b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07text\r\n\xe2\x82 cut \xe2\x82\xac\x1b["
)


def cleaned(*chunks: bytes, clock: FakeClock | None = None) -> list[str]:
    cleaner = LineCleaner(clock if clock is not None else FakeClock())
    return [line for chunk in chunks for line in cleaner.feed(chunk)] + cleaner.close()


def split(stream: bytes, draws: random.Random) -> list[bytes]:
    cuts = sorted(draws.randrange(len(stream) + 1) for _ in range(draws.randrange(60)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"no end", ["no end"]),
        (b"dos\r\nline  \r\n", ["dos", "line  "]),
        (b"kept  \n", ["kept  "]),
        (b"tab\there\a\n", ["tab\there"]),
        (b"10%\r100%\rdone\n", ["done"]),
        (b"long drawing\rshort\n", ["short"]),
        (b"shown\r\n", ["shown"]),
        (b"bar   \rpadded    \n", ["padded"]),
        (b"gone\r    \rtext\n", ["text"]),
        (b"spin |\b/\b-\b\\\n", ["spin \\"]),
        (b"typo\b\bre\n", ["tyre"]),
        (b"stays\b\b\b\n", ["stays"]),
        (b"\b\b\bstart\n", ["start"]),
        (b"\x1b[1m\x1b[32mgreen\x1b[0m\n", ["green"]),
        (b"old text\r\x1b[Knew\n", ["new"]),
        (b"old\x1b[2Knew\n", ["new"]),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x1b(B\x1b7\n", ["link "]),
        (b"\x1bM\x1b[?25lhidden cursor\x1b[?25h\n", ["hidden cursor"]),
        (b"lone \x1b\nescape \x1b[\n", ["lone ", "escape ["]),
        (b"unfinished \x1b[3", ["unfinished "]),
        (b"\xff\xfe \x00\x7f\n", ["\\xff\\xfe \\x00\\x7f"]),
        ("näive €\n".encode(), ["näive €"]),
        (b"\xe2\x82", ["\\xe2\\x82"]),
        (b"c1 \xc2\x85 next\n", ["c1 \\x85 next"]),
        (KERAS, KERAS_LINES),
        (TQDM + b"\n", [TQDM_LAST]),
        (TQDM, [TQDM_LAST]),
    ],
)
def test_of_all_drawings_the_last_one_is_the_line(stream: bytes, lines: list[str]) -> None:
    assert cleaned(stream) == lines
    assert cleaned(*(stream[at : at + 1] for at in range(len(stream)))) == lines


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("already_quiet_s", [0, 31])
def test_how_the_stream_is_cut_makes_no_difference(seed: int, already_quiet_s: float) -> None:
    def lines(chunks: list[bytes]) -> list[str]:
        clock = FakeClock()
        cleaner = LineCleaner(clock)
        clock.advance(seconds=already_quiet_s)
        return [line for chunk in chunks for line in cleaner.feed(chunk)] + cleaner.close()

    draws = random.Random(seed)
    nothing_drawn = LineCleaner(FakeClock()).feed(b"")
    assert nothing_drawn == []
    alphabet = [
        b"a",
        b"\xe2",
        b"\x82",
        b"\xac",
        b"\r",
        b"\b",
        b"\n",
        b"\x1b",
        b"[",
        b"]",
        b"1",
        b";",
        b"A",
        b"K",
        b"\a",
    ]
    noise = b"".join(draws.choice(alphabet) for _ in range(400))
    for stream in (MIXED, noise):
        assert lines(split(stream, draws)) == lines([stream])


def test_a_drawing_that_goes_on_for_long_shows_itself_every_half_minute() -> None:
    clock = FakeClock()
    cleaner = LineCleaner(clock)
    lines = []
    for done in range(101):
        lines += [(done, line) for line in cleaner.feed(b"\r%d%%" % done)]
        clock.advance(seconds=1)
    lines += [(101, line) for line in cleaner.feed(b"\n")]
    assert lines == [(30, "29%"), (60, "59%"), (90, "89%"), (101, "100%")]


def test_a_line_that_takes_long_to_end_is_not_told_twice() -> None:
    clock = FakeClock()
    cleaner = LineCleaner(clock)
    assert cleaner.feed(b"slow") == []
    clock.advance(seconds=100)
    assert cleaner.feed(b"ly\r") == []
    clock.advance(seconds=100)
    assert cleaner.feed(b"\n") == ["slowly"]


def test_bars_one_below_the_other_do_not_fill_the_log() -> None:
    stream = b""
    for epoch in range(3):
        stream += b"\repochs %d/2" % epoch
        for step in range(100):
            stream += b"\n\rsteps %d/99\x1b[A" % step
    stream += b"\n\n"
    assert cleaned(stream) == ["epochs 0/2", "epochs 1/2", "epochs 2/2", ""]
    assert cleaned(*(stream[at : at + 1] for at in range(len(stream)))) == cleaned(stream)


def test_going_up_further_than_there_are_lines_is_harmless() -> None:
    assert cleaned(b"one\ntwo\x1b[99Aone\nmore\x1b[0A\x1b[xA\n")[0] == "one"


def test_a_line_without_measure_is_cut_and_says_so() -> None:
    stream = b"x" * (LONGEST_LINE + 10) + b"\nnext\n"
    assert cleaned(stream) == ["x" * LONGEST_LINE + " … [10 more characters]", "next"]
    assert cleaned(*(stream[at : at + 1000] for at in range(0, len(stream), 1000))) == cleaned(stream)
    redrawn = b"x" * (LONGEST_LINE + 10) + b"\b" * 9 + b"y\rshort\n"
    assert cleaned(redrawn) == ["short"]
    cleaner = LineCleaner(FakeClock())
    for _ in range(100):
        assert cleaner.feed(b"z" * 100_000) == []
    assert cleaner.close() == ["z" * LONGEST_LINE + f" … [{10_000_000 - LONGEST_LINE} more characters]"]


def test_an_escape_sequence_without_end_does_not_swallow_the_log() -> None:
    stream = b"\x1b[" + b"1" * 200 + b" text\n\x1b]0;" + b"t" * 2000 + b"\nlast\n"
    lines = cleaned(stream)
    assert lines[-1] == "last"
    assert "text" in lines[0]
    assert cleaned(*(stream[at : at + 1] for at in range(len(stream)))) == lines
