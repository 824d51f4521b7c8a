"""Finds the values of secrets in what a job puts out, in every form in which they usually appear there.

Both processes use it: the runner for all text on its way to the root or the screen, the training process for the
outputs of a notebook's cells. What somebody encrypts, compresses by hand or spells backwards is not found.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
LEAST_CHARACTERS = 6  #: of a secret: whatever is shorter is in every text
_LEAST_FORM = 6
_LEAST_IN_FOURS = 12


class Masker:
    """Knows the values of a run's secrets. An empty one changes nothing and costs nothing."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        """Know these secrets, by the variable as which the job sees each."""
        self._names: dict[str, str] = {}
        for name, value in (values or {}).items():
            for form in forms_of(value):
                self._names.setdefault(form, name)
        longest_first = sorted(self._names, key=lambda form: (-len(form), form))
        self._text = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._bytes = {
            content: name
            for form, name in self._names.items()
            for content in _encoded(form)
            if len(content) > 3
        }

    def __bool__(self) -> bool:
        return self._text is not None

    @property
    def longest_bytes(self) -> int:
        """Of all forms in a file; a piece of it that overlaps the next by so much misses none."""
        return max(map(len, self._bytes), default=0)

    def text(self, text: str) -> str:
        """The text, with `***` in the place of each secret."""
        return self._text.sub(MASK, text) if self._text is not None else text

    def deep(self, value: Any) -> Any:
        """The JSON value with all its texts masked, names of fields included."""
        if self._text is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.deep(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.deep(item) for item in value]
        return value

    def name_in_text(self, text: str) -> str | None:
        """Which secret the text holds, by its variable; None: none."""
        found = self._text.search(text) if self._text is not None else None
        return self._names[found[0]] if found is not None else None

    def name_in(self, content: bytes | memoryview) -> str | None:
        """Which secret the bytes hold, by its variable; None: none."""
        whole = bytes(content)
        return next((name for form, name in self._bytes.items() if form in whole), None)

    def stream(self) -> MaskedStream:
        """Masks the output of one process."""
        return MaskedStream(self)

    @property
    def utf8_forms(self) -> list[bytes]:
        """All forms as a program writes them, the longest first."""
        forms = {form.encode("utf-8", "surrogateescape") for form in self._names}
        return sorted(forms, key=lambda form: (-len(form), form))


class MaskedStream:
    """Masks bytes that come in pieces, wherever they are cut, also secrets with line ends in them.

    What may be the beginning of a secret is held back until more comes.
    """

    def __init__(self, masker: Masker) -> None:
        self._forms = masker.utf8_forms
        self._search = re.compile(b"|".join(map(re.escape, self._forms))) if self._forms else None
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be shown now."""
        if self._search is None:
            return chunk
        content = self._held + chunk
        end = len(content) - self._begun(content)
        shown, at = [], 0
        for found in self._search.finditer(content):
            if found.start() >= end:
                break
            shown += [content[at : found.start()], MASK.encode()]
            at = found.end()
        end = max(end, at)
        self._held = content[end:]
        return b"".join([*shown, content[at:end]])

    def close(self) -> bytes:
        """The rest. The better part of a secret that was cut off is masked like a whole one."""
        held, self._held = self._held, b""
        if self._search is None:
            return held
        masked = self._search.sub(MASK.encode(), held)
        begun = self._begun(masked)
        return masked[:-begun] + MASK.encode() if begun >= _LEAST_FORM else masked

    def _begun(self, content: bytes) -> int:
        """How many of the last bytes may be the beginning of a form."""
        longest = 0
        for form in self._forms:
            first = form[:1]
            at = content.find(first, max(0, len(content) - len(form) + 1))
            while at >= 0 and len(content) - at > longest:
                if form.startswith(content[at:]):
                    longest = len(content) - at
                    break
                at = content.find(first, at + 1)
        return longest


def refusal(value: str) -> str | None:
    """Why the value cannot be kept secret, as in "it ..."; None if it can."""
    if len(value.strip()) < LEAST_CHARACTERS:
        return (
            f"has a value of {len(value.strip())} characters, and to mask so few would mask half of every log:"
            f" use one of at least {LEAST_CHARACTERS}"
        )
    if "\0" in value:
        return "has a value with a zero byte, which no environment variable can"
    return None


def forms_of(value: str) -> set[str]:
    """The value, each of its lines, and what encoders make of them."""
    value = value.strip()
    lines = [line.strip() for line in value.splitlines()]
    if "-----BEGIN" in value:  # a key may be kept on one line, or in JSON; who uses it has the lines
        lines += [line.strip() for line in value.replace("\\r", "").replace("\\n", "\n").splitlines()]
    whole = [value, *(line for line in lines if not line.startswith("-----"))]
    forms = {form for part in whole if len(part) >= LEAST_CHARACTERS for form in _forms(part)}
    return {form for form in forms if len(form) >= _LEAST_FORM}


def _forms(value: str) -> Iterator[str]:
    content = value.encode("utf-8", "surrogateescape")
    yield value
    yield from _json(value)
    yield from (repr(value)[1:-1], repr(f"{value}'")[1:-2], repr(content)[2:-1], _escaped(value))
    yield from (html.escape(value), html.escape(value, quote=False))
    yield from (value.replace("'", "'\"'\"'"), value.replace("'", "'\\''"))
    for quoted in (quote(content), quote(content, safe=""), quote_plus(content), _percent(content)):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)
    yield from (content.hex(), content.hex().upper())
    for core in _base64(content):
        yield core
        yield core.replace("+", "-").replace("/", "_")
        yield quote(core, safe="")


def _json(value: str) -> Iterator[str]:
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]  # a notebook's output that holds JSON
    yield json.dumps(value)[1:-1].replace("/", "\\/")


def _escaped(value: str) -> str:
    return value.encode("unicode_escape").decode("ascii")


def _percent(content: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in content)


def _base64(content: bytes) -> Iterator[str]:
    """What of the base64 of a longer text depends on nothing but `content`, wherever it stands in it."""
    for before in range(3):
        padded = bytes(before) + content + bytes(-(before + len(content)) % 3)
        whole = base64.b64encode(padded).decode("ascii")
        end = (before + len(content)) * 8 // 6
        yield whole[-(-before * 8 // 6) : end]
        in_fours = whole[4 if before else 0 : end - end % 4]  # where lines begin and end, in what is wrapped
        if len(in_fours) >= _LEAST_IN_FOURS:
            yield in_fours
    # As mail and PEM have it, in lines.
    yield from (line for line in base64.encodebytes(content).decode("ascii").splitlines() if len(line) == 76)


def _encoded(form: str) -> Iterator[bytes]:
    yield form.encode("utf-8", "surrogateescape")
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1"):
        try:
            yield form.encode(encoding)
        except UnicodeEncodeError:
            continue
