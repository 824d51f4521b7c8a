"""Secrets are found in every form in which programs write them, wherever the text is cut."""

from __future__ import annotations

import base64
import html
import json
import random
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest

from driverun.spool.masking import MASK, Masker, refusal

SECRET = "s3cr3t/+\"x' &<ä"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nAASCBKcwggSj\n-----END KEY-----\n"
FORMS: dict[str, Callable[[str], str]] = {
    "value": str,
    "json": json.dumps,
    "json, not only ASCII": lambda text: json.dumps([text], ensure_ascii=False),
    "json in json": lambda text: json.dumps({"output": json.dumps({"token": text})}),
    "repr": repr,
    "repr with another quote": lambda text: repr(f"{text}'\""),
    "repr of bytes": lambda text: repr(text.encode()),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 after one": lambda text: base64.b64encode(b"x" + text.encode() + b"tail").decode(),
    "base64 after two": lambda text: base64.b64encode(b"xy" + text.encode() + b"ta").decode(),
    "basic authentication": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "quote": quote,
    "quote all": lambda text: quote(text, safe=""),
    "quote in lower case": lambda text: quote(text, safe="").lower() if text.islower() else quote(text),
    "quote_plus": quote_plus,
    "urlencode": lambda text: urlencode({"token": text}),
    "html": html.escape,
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "shell": lambda text: shlex.quote(text),
    "unicode escapes": lambda text: text.encode("unicode_escape").decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [SECRET, "hf_abcdefghijklmnopqrstuvwxyz", "sixsix"])
def test_every_form_is_masked_in_text_and_found_in_files(form: str, value: str) -> None:
    masker = Masker({"TOKEN": value})
    written = FORMS[form](value)
    text = masker.text(f"before {written} after")
    assert MASK in text
    assert value not in text
    assert len(text) - len("before  after") <= len(written) - len(value) + len(MASK) + 4, text
    assert masker.name_in(f"before {written} after".encode()) == "TOKEN"
    assert masker.name_in_text(written) == "TOKEN"


@pytest.mark.parametrize("text", ["nothing to hide", "s3cr3", "", base64.b64encode(b"another text").decode()])
def test_other_text_stays_as_it_is(text: str) -> None:
    masker = Masker({"TOKEN": SECRET, "KEY": PEM})
    assert masker.text(text) == text
    assert masker.name_in(text.encode()) is None
    stream = masker.stream()
    assert stream.feed(text.encode()) + stream.close() == text.encode()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1"])
def test_files_are_searched_for_wide_characters(encoding: str) -> None:
    assert Masker({"TOKEN": SECRET}).name_in(b"....." + SECRET.encode(encoding)) == "TOKEN"


def test_a_value_of_several_lines_is_masked_as_a_whole_and_line_by_line() -> None:
    masker = Masker({"KEY": PEM})
    assert masker.text(f"a {PEM}b") == "a ***\nb"
    assert masker.text("> MIIEvQIBADANBg\n> AASCBKcwggSj") == "> ***\n> ***"
    assert masker.text("-----BEGIN KEY-----") == "-----BEGIN KEY-----", "which every key has"


@pytest.mark.parametrize("indent", [None, 2])
def test_the_lines_of_a_key_are_masked_that_is_kept_in_json(indent: int | None) -> None:
    account = {"type": "service_account", "private_key": PEM, "client_email": "a@example.org"}
    for value in (json.dumps(account, indent=indent), PEM.replace("\n", "\\n")):
        masker = Masker({"ACCOUNT": value})
        assert masker.text(PEM).splitlines()[1:-1] == ["***"] * (len(PEM.splitlines()) - 2)
        assert not any(line in masker.text(repr(account)) for line in PEM.splitlines()[1:-1])
        assert masker.text("of a service_account, a@example.org") == "of a service_account, a@example.org"


def test_json_is_masked_at_every_depth_names_included() -> None:
    masker = Masker({"TOKEN": SECRET})
    value = {"a": [1, None, f"x{SECRET}", {SECRET: 2.5}], "b": True}
    assert masker.deep(value) == {"a": [1, None, "x***", {"***": 2.5}], "b": True}
    assert Masker().deep(value) is value


@pytest.mark.parametrize("seed", range(5))
def test_a_stream_is_masked_however_it_is_cut(seed: int) -> None:
    masker = Masker({"TOKEN": SECRET, "KEY": PEM})
    text = f"{SECRET}s3cr3t/{SECRET} MIIEvQ {PEM} x{quote(SECRET)} {SECRET[:4]}{SECRET[:8]}".encode() * 20
    whole = masker.stream()
    expected = whole.feed(text) + whole.close()
    assert SECRET.encode() not in expected
    cutter, stream, at, out = random.Random(seed), masker.stream(), 0, b""
    while at < len(text):
        size = cutter.randint(1, 9)
        out += stream.feed(text[at : at + size])
        at += size
    assert out + stream.close() == expected


def test_what_cannot_be_a_secret_is_shown_at_once() -> None:
    stream = Masker({"TOKEN": SECRET}).stream()
    assert stream.feed(b"loss: 0.5\n") == b"loss: 0.5\n"
    assert stream.feed(b"a s3c") == b"a "
    assert stream.feed(b"ond\n") == b"s3cond\n"


def test_the_better_part_of_a_secret_at_the_end_is_masked() -> None:
    stream = Masker({"TOKEN": SECRET}).stream()
    assert stream.feed(b"it is s3cr3t/+") + stream.close() == b"it is ***"


@pytest.mark.parametrize(
    ("value", "words"),
    [("short", "of 5 characters"), (" five5 \n", "5 characters"), ("six\0six", "zero byte")],
)
def test_what_cannot_be_masked_is_refused(value: str, words: str) -> None:
    assert words in (refusal(value) or "")


def test_six_characters_are_enough() -> None:
    assert refusal("sixsix") is None
