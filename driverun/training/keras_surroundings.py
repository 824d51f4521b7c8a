"""What callbacks share with the script around them: the list that a lambda appends to, the counter it raises.

A finished epoch is not run again, so what its callbacks left in the script's own variables is part of the state.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from driverun.training.arrays import NamedArray
from driverun.training.keras_reach import LIBRARIES, codes_of, globals_in, is_of_a_script, reach_of
from driverun.training.keras_values import is_kept, is_mutable, is_rebuilt, put_back, written
from driverun.training.trees import NotRepresentable

GROUP = "surroundings"


@dataclass(frozen=True, slots=True)
class Place:
    """A variable of the script that a callback's code uses."""

    name: str
    value: Any
    rebind: Callable[[Any], None]


def places_of(callbacks: Sequence[Any], report: Callable[[str], None]) -> list[Place]:
    """The variables of the script that may hold what callbacks have gathered, in an order that repeats."""
    found: list[Place] = []
    for callback in callbacks:
        for function in _functions_of(callback):
            for place in _places_in(function, report):
                if not any(_is_same(place, known) for known in found):
                    found.append(place)
    return found


def _is_same(one: Place, other: Place) -> bool:
    if one.value is other.value and is_mutable(one.value):
        return True
    return one.name == other.name and one.value is other.value


def _functions_of(callback: Any) -> Iterator[types.FunctionType]:
    """The script's own functions that the callback calls, those that they call included."""
    seen: list[types.FunctionType] = []
    starts = [value for value in vars(callback).values() if callable(value) and not isinstance(value, type)]
    for kind in type(callback).__mro__:
        if is_of_a_script(kind):
            starts += [value for value in vars(kind).values() if isinstance(value, types.FunctionType)]
    for start in starts:
        if isinstance(start, keras.Model | keras.layers.Layer):
            continue
        for function in reach_of(start).functions:
            if is_of_a_script(function) and not any(function is known for known in seen):
                seen.append(function)
                yield function


def _places_in(function: types.FunctionType, report: Callable[[str], None]) -> Iterator[Place]:
    rebound = _rebound_names(function)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            yield from _places_at(name, cell.cell_contents, _cell_setter(cell), name in rebound, report)
    known = function.__globals__
    for code in codes_of(function.__code__):
        for name in globals_in(code):
            if name in known:
                yield from _places_at(name, known[name], _item_setter(known, name), name in rebound, report)


def _places_at(
    name: str, value: Any, rebind: Callable[[Any], None], rebound: bool, report: Callable[[str], None]
) -> Iterator[Place]:
    if is_kept(value):
        if rebound or is_mutable(value):
            yield Place(name, value, rebind)
    elif _is_object_of_a_script(value):
        for field, content in sorted(vars(value).items()):
            if is_kept(content):
                yield Place(f"{name}.{field}", content, _attribute_setter(value, field))
            elif not is_rebuilt(content) and not _is_object_of_a_script(content):
                report(f"a callback uses {name}, whose {field} cannot be kept: {type(content).__name__}")
    elif is_mutable(value) and not is_rebuilt(value):
        report(f"a callback uses {name}, a {type(value).__name__} whose content cannot be kept")


def _is_object_of_a_script(value: Any) -> bool:
    if isinstance(
        value, type | types.ModuleType | keras.Model | keras.layers.Layer | keras.callbacks.Callback
    ):
        return False
    module = type(value).__module__.partition(".")[0]
    return hasattr(value, "__dict__") and module not in LIBRARIES and not is_rebuilt(value)


def _rebound_names(function: types.FunctionType) -> set[str]:
    import dis

    names = set()
    for code in codes_of(function.__code__):
        for step in dis.get_instructions(code):
            if step.opname in ("STORE_GLOBAL", "STORE_DEREF"):
                names.add(str(step.argval))
    return names


def _cell_setter(cell: Any) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        cell.cell_contents = value

    return put


def _item_setter(items: dict[str, Any], name: str) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        items[name] = value

    return put


def _attribute_setter(owner: Any, name: str) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        setattr(owner, name, value)

    return put


def surroundings_state(
    callbacks: Sequence[Any], report: Callable[[str], None]
) -> tuple[list[Any], list[NamedArray]]:
    """The content of those variables as JSON, and the arrays it refers to."""
    arrays: list[Any] = []
    notes: list[Any] = []
    for place in places_of(callbacks, report):
        mark = len(arrays)
        try:
            notes.append({"name": place.name, **written(place.value, arrays, where=place.name)})
        except NotRepresentable as exc:
            del arrays[mark:]
            report(f"a callback uses {place.name}, which cannot be kept: {exc}")
    return notes, [NamedArray(group=GROUP, path=f"array {at}", array=a) for at, a in enumerate(arrays)]


def restore_surroundings(
    callbacks: Sequence[Any], notes: Sequence[Any], arrays: Sequence[NamedArray]
) -> str | None:
    """Put the content back; says what was not found."""
    raw = [named.array for named in arrays]
    places = places_of(callbacks, lambda _: None)
    missing = []
    for note in notes:
        at = next((n for n, place in enumerate(places) if place.name == note["name"]), None)
        if at is None:
            missing.append(note["name"])
            continue
        place = places.pop(at)
        put_back(note, raw, place.value, place.rebind)
    return f"callbacks no longer use {', '.join(missing)}" if missing else None
