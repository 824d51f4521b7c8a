"""Values that a callback or a script gathers while it trains, out as JSON and arrays and back into place."""

from __future__ import annotations

import collections
import contextlib
import datetime
import io
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from driverun.training.keras_state import value_of
from driverun.training.trees import decode, encode

SMALL_ARRAY_BYTES = 1_000_000  #: larger arrays are taken for data that the script loads again
DEPTH = 5


def is_kept(value: Any, depth: int = 0) -> bool:
    """Whether the value can be written down and put back: numbers, texts, containers, small arrays, variables."""
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return True
    if isinstance(value, np.ndarray):
        return value.nbytes <= SMALL_ARRAY_BYTES and not value.dtype.hasobject
    if is_generator(value) or isinstance(value, keras.metrics.Metric):
        return True
    if is_variable(value):
        return int(np.prod(tuple(value.shape))) * 8 <= SMALL_ARRAY_BYTES
    if depth < DEPTH and isinstance(value, list | tuple | set | frozenset | collections.deque):
        return all(is_kept(item, depth + 1) for item in value)
    if depth < DEPTH and isinstance(value, dict):
        return all(is_kept(item, depth + 1) for pair in value.items() for item in pair)
    return False


def is_rebuilt(value: Any) -> bool:
    """Whether running the script again gives an equal value: functions, models, data, open files, wall times."""
    if callable(value) or isinstance(
        value, io.IOBase | keras.Model | keras.layers.Layer | keras.optimizers.Optimizer
    ):
        return True
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | datetime.tzinfo):
        return True
    if hasattr(value, "element_spec") or hasattr(value, "shape") or hasattr(value, "__fspath__"):
        return True
    if isinstance(value, keras.utils.PyDataset) or type(value).__module__ == "types":
        return True
    if isinstance(value, dict):
        return all(is_rebuilt(item) or is_kept(item) for item in value.values())
    return isinstance(value, list | tuple) and all(is_rebuilt(item) or is_kept(item) for item in value)


def is_generator(value: Any) -> bool:
    """Whether the value is a random generator of the script's own."""
    return isinstance(value, np.random.Generator | np.random.RandomState | random.Random)


def is_variable(value: Any) -> bool:
    return hasattr(value, "assign") and hasattr(value, "shape") and hasattr(value, "dtype")


def is_mutable(value: Any) -> bool:
    """Whether the value can change while the name for it stays."""
    kinds = list | dict | set | collections.deque | np.ndarray | keras.metrics.Metric
    return isinstance(value, kinds) or is_generator(value) or is_variable(value)


def written(value: Any, arrays: list[Any], *, where: str) -> Any:
    """A kept value as JSON; its arrays are appended to `arrays`."""
    if isinstance(value, np.random.Generator):
        return {"$rng": encode(value.bit_generator.state, arrays, where=where)}
    if isinstance(value, np.random.RandomState):
        return {"$rng": encode(value.get_state(legacy=False), arrays, where=where)}
    if isinstance(value, random.Random):
        return {"$rng": encode(value.getstate(), arrays, where=where)}
    if isinstance(value, keras.metrics.Metric):
        return {"$metric": [encode(np.array(value_of(v)), arrays, where=where) for v in value.variables]}
    if is_variable(value):
        return {"$variable": encode(np.array(value_of(value)), arrays, where=where)}
    return {"$value": encode(value, arrays, where=where)}


def put_back(note: Any, arrays: list[Any], existing: Any, rebind: Callable[[Any], None]) -> None:
    """Give `existing` the content that `written` took down, in place where it can be, else through `rebind`."""
    if "$rng" in note:
        _set_generator(existing, decode(note["$rng"], arrays))
    elif "$metric" in note:
        for variable, saved in zip(existing.variables, note["$metric"], strict=True):
            variable.assign(decode(saved, arrays))
    elif "$variable" in note:
        existing.assign(decode(note["$variable"], arrays))
    else:
        value = decode(note["$value"], arrays)
        if not _filled(existing, value):
            rebind(value)


def _set_generator(existing: Any, state: Any) -> None:
    if isinstance(existing, np.random.Generator):
        existing.bit_generator.state = state
    elif isinstance(existing, np.random.RandomState):
        existing.set_state(state)
    else:
        existing.setstate(state)


def _filled(existing: Any, value: Any) -> bool:
    """Whether the content went into the very object that is there, which others may hold too."""
    if isinstance(existing, list) and isinstance(value, list):
        existing[:] = value
    elif isinstance(existing, dict) and isinstance(value, dict):
        existing.clear()
        existing.update(value)
    elif isinstance(existing, set) and isinstance(value, set):
        existing.clear()
        existing |= value
    elif isinstance(existing, collections.deque) and isinstance(value, collections.deque):
        existing.clear()
        existing.extend(value)
    elif isinstance(existing, np.ndarray) and isinstance(value, np.ndarray):
        if existing.shape != value.shape or existing.dtype != value.dtype or not existing.flags.writeable:
            return False
        with contextlib.suppress(ValueError):
            np.copyto(existing, value)
    else:
        return False
    return True
