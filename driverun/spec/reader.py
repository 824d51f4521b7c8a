"""YAML text read into plain values that remember their lines, with strict rules and tight bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml
from pydantic import JsonValue

from driverun.errors import Fault, SpecError
from driverun.spec.scalars import plain_scalar, well_formed

MAX_BYTES = 1_000_000
MAX_NODES = 10_000  # after aliases are expanded; a hand-written job has a few dozen
MAX_DEPTH = 50
_MAX_MESSAGE = 400

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a YAML text says, and where."""

    value: JsonValue
    lines: Mapping[Place, int]
    faults: tuple[Fault, ...]  #: what is wrong with the text as YAML; the value has None in those places
    unreadable: frozenset[Place]  #: where those None stand, so that nobody complains about them again

    def line(self, place: Place) -> int | None:
        """The line of `place`, or of the nearest thing around it; None for the document as a whole."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place) if place else None


def dotted(place: Place) -> str:
    """`place` as a person reads it: `data[0].source`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def fault_at(place: Place, message: str, *, file: str, line: int | None) -> Fault:
    """Return a fault whose message stays readable however long the text that it quotes is."""
    if len(message) > _MAX_MESSAGE:
        message = f"{message[: _MAX_MESSAGE - 100]} ... {message[-95:]}"
    return Fault(file=file, line=line, field=dotted(place)[:_MAX_MESSAGE], message=message)


def read_yaml(text: bytes, *, file: str) -> Document:
    """Return what `text` says, with every fault that does not keep the rest from being read.

    Nothing but text, numbers, truth values, null, lists and mappings is ever made.

    Raises:
        SpecError: too large, not UTF-8, not YAML, or built to use up memory.
    """
    if len(text) > MAX_BYTES:
        raise _fatal(file, None, f"the file has {len(text):,} bytes; a job file is at most 1 MB")
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise _fatal(file, line, "this is not UTF-8 text; save the file with the encoding UTF-8") from error
    try:
        return _Composer(decoded, file).document()
    except yaml.reader.ReaderError as error:
        line = decoded.count("\n", 0, error.position) + 1
        character = f"U+{ord(decoded[error.position]):04X}"
        raise _fatal(file, line, f"the character {character} is not allowed in YAML; remove it") from error
    except yaml.MarkedYAMLError as error:
        # A line without a colon is noticed on the one after it; its own is where the scan began.
        is_late = "could not find expected ':'" in (error.problem or "")
        mark = (error.context_mark if is_late else None) or error.problem_mark or error.context_mark
        raise _fatal(file, mark.line + 1 if mark else None, _plain_words(error)) from error


def _fatal(file: str, line: int | None, message: str, place: Place = ()) -> SpecError:
    return SpecError([fault_at(place, message, file=file, line=line)])


@dataclass(slots=True)
class _Anchor:
    value: JsonValue = None
    size: int = 0
    is_complete: bool = False


@dataclass(slots=True)
class _Composer:
    """Builds values from parse events; stops at the first event that breaks a bound."""

    text: str
    file: str
    nodes: int = 0
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unreadable: set[Place] = field(default_factory=set)
    anchors: dict[str, _Anchor] = field(default_factory=dict)
    events: Iterator[yaml.Event] = field(init=False)

    def __post_init__(self) -> None:
        self.events = yaml.parse(self.text, Loader=yaml.SafeLoader)

    def document(self) -> Document:
        value: JsonValue = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _fatal(
                        self.file, _line(event), "a second document begins here; a job file holds one"
                    )
                value = self.node(next(self.events), ())
        return Document(
            value=value, lines=self.lines, faults=tuple(self.faults), unreadable=frozenset(self.unreadable)
        )

    def node(self, event: yaml.Event, place: Place) -> JsonValue:
        self.lines.setdefault(place, _line(event))
        self.count(1, event, place)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, place)
        if len(place) > MAX_DEPTH:
            raise _fatal(self.file, _line(event), f"nested deeper than {MAX_DEPTH} levels", place[:1])
        assert isinstance(event, yaml.NodeEvent)
        anchor, size_before = _Anchor(), self.nodes - 1
        if event.anchor:
            self.anchors[event.anchor] = anchor
        if getattr(event, "tag", None) not in (None, "!"):
            tag = str(getattr(event, "tag", "")).replace("tag:yaml.org,2002:", "!!")
            self.fault(
                place, _line(event), f"the tag {tag} is not allowed; write the plain value, text in quotes"
            )
        if isinstance(event, yaml.ScalarEvent):
            anchor.value = self.scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            anchor.value = self.sequence(place)
        else:
            anchor.value = self.mapping(place)
        anchor.size, anchor.is_complete = self.nodes - size_before, True
        return anchor.value

    def alias(self, event: yaml.AliasEvent, place: Place) -> JsonValue:
        anchor = self.anchors.get(event.anchor or "")
        if anchor is None:
            self.fault(
                place, _line(event), f"*{event.anchor} refers to nothing: no &{event.anchor} stands above it"
            )
            return None
        if not anchor.is_complete:
            raise _fatal(
                self.file, _line(event), f"*{event.anchor} refers to what it is itself a part of", place
            )
        self.count(anchor.size, event, place)
        return anchor.value

    def count(self, nodes: int, event: yaml.Event, place: Place) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            message = (
                f"the file holds more than {MAX_NODES:,} values (aliases counted as often as they are used)"
            )
            raise _fatal(self.file, _line(event), message, place[:1])

    def scalar(self, event: yaml.ScalarEvent, place: Place) -> JsonValue:
        is_plain = event.style is None and event.tag is None
        try:
            return plain_scalar(event.value) if is_plain else well_formed(event.value)
        except ValueError as error:
            self.fault(place, _line(event), str(error))
            return None

    def sequence(self, place: Place) -> list[JsonValue]:
        items: list[JsonValue] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, (*place, len(items))))
        return items

    def mapping(self, place: Place) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {}
        seen: dict[str | None, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = _line(event)
            key = self.key(event, place)
            inner = (*place, key if key is not None else "?")
            is_repeated = key in seen
            if is_repeated:
                self.report(inner, line, f"`{key}` is given twice, first on line {seen[key]}; keep one")
            elif key is not None:
                seen[key] = self.lines[inner] = line
            value = self.node(next(self.events), inner)
            if key is not None and not is_repeated:
                found[key] = value
        return found

    def key(self, event: yaml.Event, place: Place) -> str | None:
        """The key that `event` begins, None where it is no text (which is reported)."""
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self.count(1, event, place)
            self.node(event, (*place, "?"))
            self.report(place, line, "a key has to be plain text, not a list, a mapping or an alias")
            return None
        self.count(1, event, place)
        if event.style is None and event.value == "<<":
            self.report(place, line, "`<<` (merging of mappings) is not supported; write the fields out")
            return None
        try:
            key = (
                plain_scalar(event.value)
                if event.style is None and event.tag is None
                else well_formed(event.value)
            )
        except ValueError:
            key = None
        if isinstance(key, str):
            return key
        shown = event.value if event.value else "an empty key"
        self.report(place, line, f'{shown} is not text, and a key has to be: write "{event.value}" in quotes')
        return None

    def fault(self, place: Place, line: int, message: str) -> None:
        self.unreadable.add(place)
        self.report(place, line, message)

    def report(self, place: Place, line: int, message: str) -> None:
        self.faults.append(fault_at(place, message, file=self.file, line=line))


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None  # a parser that reads text marks every event
    return event.start_mark.line + 1


def _plain_words(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's message for the commonest slips in words that say what to do; its own words for the rest."""
    problem, context = error.problem or "", error.context or ""
    opened = f" (it begins on line {error.context_mark.line + 1})" if error.context_mark else ""
    for sign, words in _SLIPS:
        if sign in f"{context}; {problem}":
            return f"not YAML: {words}".replace("{opened}", opened)
    return f"not YAML: {'; '.join(part for part in (context, problem) if part)}"


_SLIPS = (
    (
        "expected the node content",
        "a value is missing, or a [ or { is never closed; text that begins with ], } or , has to stand in quotes",
    ),
    ("sequence entries are not allowed", "an item of a list (`- `) has to begin a line of its own"),
    ("while scanning a block scalar", "text that begins with | or > has to stand in quotes"),
    (r"found character '\t'", "a tab stands where YAML allows only spaces; indent with spaces"),
    (
        "mapping values are not allowed",
        "a second `: ` in one line, or wrong indentation; put text that holds `: ` in quotes",
    ),
    ("could not find expected ':'", "a line without `: `; a field is written as `name: value`"),
    (
        "while scanning a double-quoted scalar",
        "a backslash between double quotes; use single quotes, or / in a path",
    ),
    ("while scanning an alias", "text that begins with * has to stand in quotes"),
    ("while scanning an anchor", "text that begins with & has to stand in quotes"),
    ("expected '<document start>'", "something follows the end of the document"),
    ("while scanning a quoted scalar", "a quote is opened and never closed{opened}"),
    ("while parsing a flow sequence", "a list opened with [ lacks a comma or its ]{opened}"),
    ("while parsing a flow mapping", "a mapping opened with { lacks a comma or its }{opened}"),
    ("while parsing a block mapping", "the indentation does not fit the lines above{opened}"),
    ("while parsing a block collection", "the indentation does not fit the lines above{opened}"),
    ("cannot start any token", "text that begins with @, ` or % has to stand in quotes"),
    ("found undefined tag handle", "a word that begins with ! has to stand in quotes"),
)
