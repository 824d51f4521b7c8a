"""Text of others, made safe to be looked at: nothing in it moves a cursor, turns the reading direction or hides."""

from __future__ import annotations

import re

#: Characters without a picture that change how the rest is shown: controls, halves of pairs, breaks of lines and
#: paragraphs, marks of the reading direction, and what is invisible. The joiners of emoji and of scripts stay.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\u00ad\u180e\u200b\u2060-\u2064\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
)
_PLAIN = re.compile(f"[{_UNSAFE}]")
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def shown(text: str, *, keep: str = "\n\t", colours: bool = False) -> str:
    """`text` with what is unsafe in it escaped, as in `\\u202e`.

    Args:
        keep: characters that stay as they are.
        colours: whether sequences that set colours stay, as in what training jobs print.
    """
    if not colours:
        return _PLAIN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)
    pieces = _COLOUR.split(text)
    return "".join(piece if number % 2 else shown(piece, keep=keep) for number, piece in enumerate(pieces))


def shown_json(text: str) -> str:
    """JSON that says the same, with the marks of the reading direction written as JSON escapes them."""
    return _DIRECTIONS.sub(lambda found: _escaped(found[0]), text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
