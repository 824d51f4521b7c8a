"""Python values as JSON beside a list of arrays, without pickle."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np


class NotRepresentable(Exception):
    """A value has no exact form in JSON and arrays; the message names where it sits."""


def encode(value: Any, arrays: list[Any], *, where: str = "") -> Any:
    """`value` as JSON; its arrays are appended to `arrays` and stand in the JSON by position.

    Floats keep every bit (JSON writes the shortest text that reads back the same). Raises NotRepresentable.
    """
    if not isinstance(value, np.generic) and isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise NotRepresentable(f"{where or 'the value'} is an array of Python objects")
        arrays.append(array)
        return {"$array": len(arrays) - 1, "scalar": isinstance(value, np.generic)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, tuple):
        return {"$tuple": [encode(item, arrays, where=f"{where}[{at}]") for at, item in enumerate(value)]}
    if isinstance(value, list):
        return [encode(item, arrays, where=f"{where}[{at}]") for at, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        items = sorted(value, key=repr)  # equal sets have equal notes
        return {
            "$set": [encode(item, arrays, where=where) for item in items],
            "frozen": isinstance(value, frozenset),
        }
    if isinstance(value, deque):
        return {"$deque": [encode(item, arrays, where=where) for item in value], "maxlen": value.maxlen}
    if isinstance(value, dict):
        pairs = [
            [encode(key, arrays, where=where), encode(item, arrays, where=f"{where}.{key}")]
            for key, item in value.items()
        ]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        return {"$dict": pairs}
    if hasattr(value, "numpy") and callable(value.numpy):
        return encode(np.asarray(value.numpy()), arrays, where=where)
    raise NotRepresentable(f"{where or 'the value'} is a {type(value).__name__}")


def decode(value: Any, arrays: Sequence[Any]) -> Any:
    """What `encode` was given."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        array = np.array(arrays[value["$array"]])
        return array[()] if value["scalar"] else array
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    if "$tuple" in value:
        return tuple(decode(item, arrays) for item in value["$tuple"])
    if "$set" in value:
        items = {decode(item, arrays) for item in value["$set"]}
        return frozenset(items) if value["frozen"] else items
    if "$deque" in value:
        return deque((decode(item, arrays) for item in value["$deque"]), value["maxlen"])
    if "$dict" in value:
        return {decode(key, arrays): decode(item, arrays) for key, item in value["$dict"]}
    return {key: decode(item, arrays) for key, item in value.items()}
