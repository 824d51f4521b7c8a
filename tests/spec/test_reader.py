"""YAML is read by strict rules, with lines, and nothing in it can use up time or memory."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest

from driverun.errors import SpecError
from driverun.spec.reader import MAX_BYTES, read_yaml
from driverun.spec.scalars import plain_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("+7", 7),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("y", "y"),
        ("=", "="),
        ("e3", "e3"),
        ("None", "None"),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    found = plain_scalar(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["yes", "No", "ON", "off", ".nan", "-.inf", "1e999", "9" * 500])
def test_a_scalar_that_readers_disagree_on_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quotes"):
        plain_scalar(text)


def test_quoted_text_is_text_whatever_it_says() -> None:
    document = read_yaml(b'a: "yes"\nb: \'1e-3\'\nc: |\n  no\nd: "\\ud83d\\ude00"\n', file="job.yaml")
    assert document.value == {"a": "yes", "b": "1e-3", "c": "no\n", "d": "😀"}
    assert not document.faults


def test_every_place_knows_its_line() -> None:
    document = read_yaml(b"a: 1\nb:\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n", file="job.yaml")
    assert document.line(("a",)) == 1
    assert document.line(("b",)) == 2
    assert document.line(("b", "c", 1)) == 5
    assert document.line(("b", "c", 1, "e")) == 6
    assert document.line(("b", "c", 0, "nowhere")) == 4
    assert document.line(("nowhere",)) is None


def test_an_alias_stands_for_what_it_refers_to_and_has_its_own_line() -> None:
    document = read_yaml(b"a: &x [1, {b: 2}]\nc: *x\n", file="job.yaml")
    assert document.value == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}
    assert document.line(("c", 1, "b")) == 2


@pytest.mark.parametrize(
    ("text", "line", "field", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a", "given twice, first on line 1"),
        ("p:\n  x: 1\n  x: 1", 3, "p.x", "given twice, first on line 2"),
        ("p: {3: x}", 1, "p", '3 is not text, .* write "3"'),
        ("p: {true: x}", 1, "p", "true is not text"),
        ("p: {no: x}", 1, "p", "no is not text"),
        ("p: {? [a, b] : x}", 1, "p", "plain text, not a list"),
        ("p: {<<: {a: 1}}", 1, "p", "merging"),
        ("a: 1\nb: *x", 2, "b", r"no &x stands above"),
        (
            "a: !!python/object/apply:os.system [ls]",
            1,
            "a",
            "tag !!python/object/apply:os.system is not allowed",
        ),
        ("a: !!binary aGk=", 1, "a", "tag !!binary"),
        ("a: [1,\n.nan]", 2, "a[1]", "no number that JSON can say"),
        ("a: yes", 1, "a", 'write true, or "yes" in quotes'),
        ('a: "\\ud800"', 1, "a", "half a character"),
    ],
)
def test_a_fault_that_leaves_the_rest_readable_is_kept(text: str, line: int, field: str, words: str) -> None:
    document = read_yaml(f"{text}\nrest: 1\n".encode(), file="job.yaml")
    (fault,) = document.faults
    assert (fault.file, fault.line, fault.field) == ("job.yaml", line, field)
    assert isinstance(document.value, dict)
    assert document.value["rest"] == 1
    assert re.search(words, fault.message)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"a:\n\tb: 1", 2, "a tab stands"),
        (b"a: 1\nb: c: d", 2, "second `: `"),
        (b"a: 1\nb\nc: 1", 2, "a line without `: `"),
        (b"a: 'x\nb: 1\n", 3, r"quote is opened .*line 1"),
        (b"a: [x, y\nb: 1", 2, r"list opened with \[ .*line 1"),
        (b"a: {x: 1\n", 2, "mapping opened with {"),
        (b"a: [\n", 2, r"a \[ or { is never closed"),
        (b"a: [1, , 2]", 1, "a value is missing"),
        (b"a: - b\n", 1, "item of a list"),
        (b"a: |b\n c", 1, r"begins with \|"),
        (b"a:\n  b: 1\n c: 2\n", 3, "indentation"),
        (b"a: b\n- c\n", 2, "indentation"),
        (b"a: @x", 1, "begins with @"),
        (b"a: *.png", 1, r"begins with \*"),
        (b'a: "C:\\data"', 1, "backslash"),
        (b"a: 1\n...\nb", 3, "follows the end"),
        (b"a: 1\n---\nb: 1", 2, "second document"),
        (b"a: 1\nb: \0", 2, r"U\+0000"),
        (b"a: 1\nb: \xe9", 2, "not UTF-8"),
        ("a: 1".encode("utf-16"), 1, "not UTF-8"),
        (b"a: &x {b: *x}", 1, "a part of"),
        (b"[" * 100, 1, "deeper than 50"),
    ],
)
def test_what_cannot_be_read_says_why_and_where(text: bytes, line: int, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        read_yaml(text, file="job.yaml")
    (fault,) = caught.value.faults
    assert (fault.file, fault.line) == ("job.yaml", line)


def test_a_byte_order_mark_is_no_fault() -> None:
    assert read_yaml("\ufeffa: 1".encode(), file="job.yaml").value == {"a": 1}


def laughs(levels: int) -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


BOMBS = {
    "ten megabytes": b"a: " + b"x" * 10_000_000,
    "a billion laughs": laughs(12),
    "deep lists": b"[" * (MAX_BYTES - 1),
    "deep blocks": b"\n".join(b" " * depth + b"a:" for depth in range(1000)),
    "a long list": b"- a\n" * 200_000,
    "long anchors": b"a: [" + b"&a 1," * 150_000,
}


@pytest.mark.parametrize("bomb", list(BOMBS.values()), ids=list(BOMBS))
def test_a_bomb_is_refused_at_once_and_takes_no_memory(bomb: bytes) -> None:
    before_s = time.process_time()  # of this process alone: a busy machine does not count
    with pytest.raises(SpecError, match=r"at most 1 MB|more than 10,000 values|deeper than 50 levels"):
        read_yaml(bomb, file="job.yaml")
    assert time.process_time() - before_s < 1.0

    tracemalloc.start()
    try:
        with pytest.raises(SpecError):
            read_yaml(bomb, file="job.yaml")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_message_stays_short_however_long_the_text_it_quotes() -> None:
    (fault,) = read_yaml(b"a: !" + b"x" * 100_000 + b" 1", file="job.yaml").faults
    assert len(fault.message) < 500
