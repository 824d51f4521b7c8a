"""Partial answers: what a `fields` parameter leaves of a document.

The syntax is `a,b/c,d(e,f)`, with `*` for every field
(https://developers.google.com/drive/api/guides/fields-parameter).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from driverun.testing.drive_emulator.contract import Contract
from driverun.testing.drive_emulator.refusals import Refusal

#: A mask: the names that stay, each with the mask of what is in it; None: all that is in it.
Mask = Mapping[str, "Mask | None"]

_TOKEN = re.compile(r"\s*([A-Za-z0-9_.\-:]+|[*,()/])\s*")


def _refusal(selection: str) -> Refusal:
    return Refusal(400, "invalidParameter", f"Invalid field selection {selection}", location="fields")


@lru_cache(maxsize=1024)
def parse_mask(text: str) -> Mask:
    """Return the mask that `text` writes.

    Raises:
        Refusal: 400, it does not follow the syntax.
    """
    tokens = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _refusal(text[position:])
        tokens.append(found[1])
        position = found.end()
    mask, rest = _read_list(tokens, 0, text)
    if rest != len(tokens):
        raise _refusal(text)
    return mask


def _read_list(tokens: list[str], at: int, text: str) -> tuple[dict[str, Any], int]:
    mask: dict[str, Any] = {}
    while True:
        at = _read_item(tokens, at, text, mask)
        if at < len(tokens) and tokens[at] == ",":
            at += 1
            continue
        return mask, at


def _read_item(tokens: list[str], at: int, text: str, mask: dict[str, Any]) -> int:
    if at >= len(tokens) or tokens[at] in ",()/":
        raise _refusal(text)
    name = tokens[at]
    at += 1
    inner: dict[str, Any] | None = None
    if at < len(tokens) and tokens[at] == "/":
        inner = {}
        at = _read_item(tokens, at + 1, text, inner)
    elif at < len(tokens) and tokens[at] == "(":
        inner, at = _read_list(tokens, at + 1, text)
        if at >= len(tokens) or tokens[at] != ")":
            raise _refusal(text)
        at += 1
    mask[name] = _union(mask[name], inner) if name in mask else inner
    return at


def _union(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return None
    together = dict(one)
    for name, inner in other.items():
        together[name] = _union(together[name], inner) if name in together else inner
    return together


def check_mask(mask: Mask, schema: str, contract: Contract) -> None:
    """Hold a mask against the schema of what it is for.

    Raises:
        Refusal: 400, it names a field that is not in the schema.
    """
    _check(mask, {"$ref": schema}, contract, "")


def _check(mask: Mask, schema: Mapping[str, Any], contract: Contract, at: str) -> None:
    for name, inner in mask.items():
        if name == "*":
            continue
        field = contract.field_of(schema, name)
        if field is None:
            raise _refusal(f"{at}{name}")
        if inner is not None:
            _check(inner, field, contract, f"{at}{name}/")


def apply_mask(mask: Mask | None, document: Any) -> Any:
    """Return `document` with only what the mask leaves; lists are masked item by item."""
    if mask is None:
        return document
    if isinstance(document, list):
        return [apply_mask(mask, item) for item in document]
    if not isinstance(document, dict):
        return document
    everything = "*" in mask
    kept = {}
    for name, value in document.items():
        if name in mask:
            kept[name] = apply_mask(mask[name], value)
        elif everything:
            kept[name] = apply_mask(mask["*"], value)
    return kept


def wanted_names(mask: Mask | None) -> frozenset[str] | None:
    """Return the outermost names that a mask leaves; None: all."""
    if mask is None or "*" in mask:
        return None
    return frozenset(mask)
