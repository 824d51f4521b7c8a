"""HTML from plain values; whatever is text is escaped here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: Sequence[int] = (),
    why: int | None = None,
    narrow: bool = False,
    tall: bool = False,
) -> str:
    """A table of cells that are HTML already."""

    def kind(column: int) -> str:
        return ' class="n"' if column in numeric else ' class="why"' if column == why else ""

    head = "".join(f"<th{kind(column)}>{text}</th>" for column, text in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(f'<td{kind(column)}>{cell}</td>' for column, cell in enumerate(row))}</tr>"
        for row in rows
    )
    table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    outer = "scroll tall" if tall else "scroll"
    return f'<div class="{outer}"><table class="{"narrow" if narrow else "wide"}">{table}</div>'


def pairs(values: Any, *, code: bool = False) -> str:
    """Names with their values, nested ones under dotted names."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f"<td>{f'<code>{escape(text)}</code>' if code else escape(text)}</td></tr>"
        for name, text in _flat(values)
    )
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value, start=1):
                yield from _flat(item, f"{name} {number}".strip() if len(value) > 1 else name)
        else:
            yield name, ", ".join(_plain(item) for item in value) or "none"
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def fact(name: str, value: str, note: str = "") -> str:
    """One number that is worth a large type, with a note under it."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{small}</dd></div>"


def pill(text: str, colour: str) -> str:
    """A word on a coloured ground."""
    return f'<span class="pill {colour}">{escape(text)}</span>'


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def printable(text: str) -> str:
    """`text` without the control characters that HTML forbids."""
    return "".join(
        char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text
    )
