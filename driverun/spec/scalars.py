"""What a single YAML scalar means, by YAML 1.2 rather than by the 1.1 that PyYAML reads."""

from __future__ import annotations

import math
import re

from pydantic import JsonValue

_MAX_DIGITS = 400

# The core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema). PyYAML itself reads YAML 1.1,
# where 1e-3 is text, 010 is eight, 1:30 is ninety and no is false.
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONSTANTS: dict[str, JsonValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
#: Truth values to a YAML 1.1 reader and text to a YAML 1.2 one, so they are refused unless quoted.
_YES_OR_NO = {
    spelling: meaning
    for meaning, words in (("true", ("yes", "on")), ("false", ("no", "off")))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}


def plain_scalar(text: str) -> JsonValue:
    """Return what an unquoted scalar means by the core schema of YAML 1.2.

    Raises:
        ValueError: it is a number that JSON cannot say, or one of yes, no, on, off.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text in _YES_OR_NO:
        raise ValueError(
            f'{text} is read in two ways: write {_YES_OR_NO[text]}, or "{text}" in quotes for the text'
        )
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is no number that JSON can say: use text in quotes, or a large number")
    is_whole, has_base = _INT.fullmatch(text), _OCTAL_OR_HEX.fullmatch(text)
    if not (is_whole or has_base or _FLOAT.fullmatch(text)):
        return text
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} characters is too long: put it in quotes if it is text")
    if is_whole or has_base:
        return int(text, 0 if has_base else 10)
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a number: put it in quotes if it is text")
    return number


def well_formed(text: str) -> str:
    """Join surrogate pairs, as JSON's escapes write them; refuse half of one."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise ValueError("the text holds half a character (a lone surrogate escape)") from error
