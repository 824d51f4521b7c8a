"""The language of `q`, in which files and shared drives are searched.

Terms and operators are those of https://developers.google.com/drive/api/v2/ref-search-terms. `and` and `or`
bind alike and are read from left to right, as Google says; `not` binds to the term after it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from driverun.testing.drive_emulator.refusals import Refusal

EQUALITY = frozenset({"=", "!="})
ORDER = frozenset({"=", "!=", "<", "<=", ">", ">="})
TEXT = EQUALITY | {"contains"}

#: Terms of a search for files, each with its operators.
FILE_TERMS: Mapping[str, frozenset[str]] = {
    "title": TEXT,
    "fullText": frozenset({"contains"}),
    "mimeType": TEXT,
    "modifiedDate": ORDER,
    "createdDate": ORDER,
    "lastViewedByMeDate": ORDER,
    "sharedWithMeDate": ORDER,
    "trashed": EQUALITY,
    "starred": EQUALITY,
    "sharedWithMe": EQUALITY,
    "visibility": EQUALITY,
    "shortcutDetails.targetId": EQUALITY,
    "parents": frozenset({"in"}),
    "owners": frozenset({"in"}),
    "writers": frozenset({"in"}),
    "readers": frozenset({"in"}),
    "properties": frozenset({"has"}),
}
#: Terms of a search for shared drives.
DRIVE_TERMS: Mapping[str, frozenset[str]] = {
    "name": TEXT,
    "hidden": EQUALITY,
    "memberCount": ORDER,
    "organizerCount": ORDER,
    "createdDate": ORDER,
}
DATES = frozenset({"modifiedDate", "createdDate", "lastViewedByMeDate", "sharedWithMeDate"})
BOOLEANS = frozenset({"trashed", "starred", "sharedWithMe", "hidden"})
NUMBERS = frozenset({"memberCount", "organizerCount"})


class Searchable(Protocol):
    """What a search asks of an item. Times are milliseconds since 1970, None where it never happened."""

    def text(self, term: str) -> str: ...
    def time_ms(self, term: str) -> int | None: ...
    def flag(self, term: str) -> bool: ...
    def number(self, term: str) -> int: ...
    def members(self, term: str) -> Collection[str]: ...
    def has_property(self, key: str, value: str, visibility: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """`term operator value`."""

    term: str
    operator: str
    value: str | int | bool


@dataclass(frozen=True, slots=True)
class Membership:
    """`'value' in term`."""

    value: str
    term: str


@dataclass(frozen=True, slots=True)
class Has:
    """`properties has { key='…' and value='…' and visibility='…' }`."""

    key: str
    value: str
    visibility: str


@dataclass(frozen=True, slots=True)
class Not:
    inner: Expression


@dataclass(frozen=True, slots=True)
class And:
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Or:
    left: Expression
    right: Expression


Expression = Comparison | Membership | Has | Not | And | Or

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
           |(?P<operator><=|>=|!=|=|<|>)
           |(?P<mark>[(){}])
           |(?P<word>[A-Za-z0-9_.\-]+))\s*""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "has"})


class _Reader:
    """Reads one expression; every fault is the same refusal, as Drive's is."""

    def __init__(self, text: str, terms: Mapping[str, frozenset[str]]) -> None:
        self._terms = terms
        self._tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise self.fault()
            kind, word = found.lastgroup, found[found.lastgroup]
            if kind == "string":
                word = re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)
            elif kind == "word" and word.lower() in _KEYWORDS:
                kind, word = "keyword", word.lower()
            self._tokens.append((kind, word))
            position = found.end()
        self._at = 0

    @staticmethod
    def fault() -> Refusal:
        return Refusal(400, "invalid", "Invalid Value", location="q")

    def read(self) -> Expression:
        expression = self._chain()
        if self._at != len(self._tokens):
            raise self.fault()
        return expression

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, *token: str) -> None:
        if self._take() != token:
            raise self.fault()

    def _string(self) -> str:
        kind, word = self._take()
        if kind != "string":
            raise self.fault()
        return word

    def _chain(self) -> Expression:
        left = self._negated()
        while True:
            token = self._peek()
            if token == ("keyword", "and"):
                self._at += 1
                left = And(left, self._negated())
            elif token == ("keyword", "or"):
                self._at += 1
                left = Or(left, self._negated())
            else:
                return left

    def _negated(self) -> Expression:
        if self._peek() == ("keyword", "not"):
            self._at += 1
            return Not(self._negated())
        if self._peek() == ("mark", "("):
            self._at += 1
            inner = self._chain()
            self._expect("mark", ")")
            return inner
        return self._term()

    def _term(self) -> Expression:
        kind, word = self._take()
        if kind == "string":
            self._expect("keyword", "in")
            _, term = self._take()
            if "in" not in self._terms.get(term, ()):
                raise self.fault()
            return Membership(word, term)
        if kind != "word" or word not in self._terms:
            raise self.fault()
        _, operator = self._take()
        if operator not in self._terms[word]:
            raise self.fault()
        if operator == "has":
            return self._has()
        return Comparison(word, operator, self._value(word))

    def _value(self, term: str) -> str | int | bool:
        kind, word = self._take()
        if term in BOOLEANS:
            if word.lower() not in ("true", "false") or kind not in ("word", "string"):
                raise self.fault()
            return word.lower() == "true"
        if term in NUMBERS:
            if kind != "word" or not word.isdigit():
                raise self.fault()
            return int(word)
        if kind != "string":
            raise self.fault()
        if term in DATES:
            try:
                moment = datetime.fromisoformat(word)
            except ValueError as exc:
                raise self.fault() from exc
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)  # "default time zone is UTC"
            return round(moment.timestamp() * 1000)
        return word

    def _has(self) -> Has:
        found: dict[str, str] = {"visibility": "PRIVATE"}
        self._expect("mark", "{")
        while True:
            kind, name = self._take()
            if kind != "word" or name not in ("key", "value", "visibility"):
                raise self.fault()
            self._expect("operator", "=")
            found[name] = self._string()
            if self._peek() == ("keyword", "and"):
                self._at += 1
                continue
            self._expect("mark", "}")
            break
        if "key" not in found or "value" not in found:
            raise self.fault()
        return Has(found["key"], found["value"], found["visibility"].upper())


@lru_cache(maxsize=2048)
def _parsed(text: str, search: str) -> Expression:
    return _Reader(text, FILE_TERMS if search == "files" else DRIVE_TERMS).read()


def parse_query(text: str, *, search: str = "files") -> Expression:
    """Return what `text` asks for.

    Args:
        search: `files` or `drives`; each has its own terms.

    Raises:
        Refusal: 400, a term, an operator or the syntax is none of Drive's.
    """
    return _parsed(text, search)


def matches(expression: Expression, item: Searchable) -> bool:
    """Return whether `item` is asked for."""
    match expression:
        case And(left, right):
            return matches(left, item) and matches(right, item)
        case Or(left, right):
            return matches(left, item) or matches(right, item)
        case Not(inner):
            return not matches(inner, item)
        case Membership(value, term):
            return value in item.members(term)
        case Has(key, value, visibility):
            return item.has_property(key, value, visibility)
        case Comparison(term, operator, wanted):
            return _compares(term, operator, wanted, item)


def _compares(term: str, operator: str, wanted: str | int | bool, item: Searchable) -> bool:
    if term in BOOLEANS:
        return (item.flag(term) == wanted) is (operator == "=")
    if term in DATES or term in NUMBERS:
        found = item.time_ms(term) if term in DATES else item.number(term)
        if found is None:
            return operator == "!="
        assert isinstance(wanted, int)
        match operator:
            case "=":
                return found == wanted
            case "!=":
                return found != wanted
            case "<":
                return found < wanted
            case "<=":
                return found <= wanted
            case ">":
                return found > wanted
            case _:
                return found >= wanted
    text, sought = item.text(term).casefold(), str(wanted).casefold()
    if operator == "contains":
        if term == "mimeType":
            return text.startswith(sought)
        if term == "fullText":
            return all(word in text for word in sought.strip('"').split())
        return _begins_a_word(sought, text)
    return (text == sought) is (operator == "=")


def _begins_a_word(sought: str, text: str) -> bool:
    """`contains` on a title finds the beginnings of words only: `Hello`, but not `World`, in HelloWorld."""
    return re.search(rf"(?<![^\W_]){re.escape(sought)}", text) is not None


def parents_named(expression: Expression) -> frozenset[str]:
    """Return every folder that the expression names."""
    match expression:
        case And(left, right) | Or(left, right):
            return parents_named(left) | parents_named(right)
        case Not(inner):
            return parents_named(inner)
        case Membership(value, "parents"):
            return frozenset({value})
        case _:
            return frozenset()


def parents_required(expression: Expression) -> frozenset[str] | None:
    """Return folders of which every match lies in one; None: a match may lie anywhere."""
    match expression:
        case And(left, right):
            ours, theirs = parents_required(left), parents_required(right)
            if ours is None or theirs is None:
                return theirs if ours is None else ours
            return ours if len(ours) <= len(theirs) else theirs
        case Or(left, right):
            ours, theirs = parents_required(left), parents_required(right)
            return None if ours is None or theirs is None else ours | theirs
        case Membership(value, "parents"):
            return frozenset({value})
        case _:
            return None
