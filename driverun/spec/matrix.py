"""One job for many values of its params: the points of a matrix, in a stable order."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from driverun.spec.fields import json_params
from driverun.spec.reader import Place

MOST_POINTS = 1_000
RESERVED = ("include", "exclude", "max_parallel")

Point = Mapping[str, JsonValue]

_ENTRIES: dict[str, Any] = {"type": "array", "items": {"type": "object", "minProperties": 1}}
#: What `read_matrix` accepts but for the number of points, for editors.
MATRIX_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "include": _ENTRIES,
                "exclude": _ENTRIES,
                "max_parallel": {"type": "integer", "minimum": 1},
            },
            "additionalProperties": {"type": "array", "minItems": 1},
            "minProperties": 1,
        },
        {"type": "null"},
    ]
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """What a person wrote under `matrix`, as it is to be understood."""

    parameters: Mapping[str, tuple[JsonValue, ...]] = field(default_factory=dict)
    include: tuple[Point, ...] = ()
    exclude: tuple[Point, ...] = ()
    max_parallel: int | None = None  #: runs of it at a time; None: as many as there are workers

    @property
    def names(self) -> frozenset[str]:
        """All params that some point sets."""
        return frozenset(self.parameters).union(*self.include)

    def to_json(self) -> dict[str, JsonValue]:
        """As a job file would write it."""
        written: dict[str, JsonValue] = {name: list(values) for name, values in self.parameters.items()}
        if self.include:
            written["include"] = [dict(entry) for entry in self.include]
        if self.exclude:
            written["exclude"] = [dict(entry) for entry in self.exclude]
        if self.max_parallel is not None:
            written["max_parallel"] = self.max_parallel
        return written


class MatrixFaults(ValueError):
    """All that is wrong with a matrix: places under `matrix`, each with a message."""

    def __init__(self, found: Sequence[tuple[Place, str]]) -> None:
        super().__init__(found[0][1])
        self.found = tuple(found)


def read_matrix(written: Any) -> Any:
    """The matrix that is written so; nothing for nothing.

    Raises:
        MatrixFaults: it is none; with all that is wrong.
    """
    if written is None or isinstance(written, Matrix):
        return written
    found = list(_faults(written))
    if found:
        raise MatrixFaults(found)
    return Matrix(
        parameters={name: tuple(values) for name, values in written.items() if name not in RESERVED},
        include=tuple(written.get("include", ())),
        exclude=tuple(written.get("exclude", ())),
        max_parallel=written.get("max_parallel"),
    )


def points(matrix: Matrix) -> tuple[Point, ...]:
    """Every point once: the last parameter varies fastest, what `include` adds comes last.

    As in the workflows of GitHub Actions: `exclude` takes away the points that have all values of one of its
    entries. An entry of `include` is added to each point of which it changes no parameter; one that fits none is a
    point of its own, to which later entries add nothing.
    """
    names = list(matrix.parameters)
    made: list[dict[str, JsonValue]] = []
    if names:
        product = itertools.product(*matrix.parameters.values())
        originals = [dict(zip(names, values, strict=True)) for values in product]
        made = [point for point in originals if not any(_holds(point, entry) for entry in matrix.exclude)]
    extended = [dict(point) for point in made]
    alone: list[dict[str, JsonValue]] = []
    for entry in matrix.include:
        asked = {name: value for name, value in entry.items() if name in matrix.parameters}
        fitting = [
            extended[index] for index, point in enumerate(made) if _holds(point, asked)
        ]  # what an earlier entry added, a later one may change
        for point in fitting:
            point.update(entry)
        if not fitting:
            alone.append(dict(entry))
    return tuple({_canonical(point): point for point in (*extended, *alone)}.values())


def sweep_id_of(name: str, run_ids: Iterable[str]) -> str:
    """Which sweep runs belong to: the job's name and 12 hex digits of the ids of the runs at all its points."""
    digest = hashlib.sha256("\n".join(sorted(set(run_ids))).encode()).hexdigest()
    return f"{name}@{digest[:12]}"


def _holds(point: Point, entry: Point) -> bool:
    return all(name in point and _is_equal(point[name], value) for name, value in entry.items())


def _is_equal(a: JsonValue, b: JsonValue) -> bool:
    """As JSON has it: 1 is 1.0, but is not true."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return a == b


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _faults(written: Any) -> Iterator[tuple[Place, str]]:
    if not isinstance(written, dict):
        yield (
            (),
            "expected a mapping of params to lists of values, such as matrix: {learning_rate: [0.1, 0.01]}",
        )
        return
    lists = {name: values for name, values in written.items() if name not in RESERVED}
    for name, values in lists.items():
        if not isinstance(values, list):
            shown = json.dumps(values) if isinstance(values, (str, int, float, bool)) else "..."
            yield (name,), f"expected a list of values, such as {name}: [{shown}]"
        elif not values:
            yield (name,), "the list is empty, so there would be no run at all; give it a value, or remove it"
        if not all(str(name).split(".")):
            yield (name,), f"{name!r} cannot be the name of a param"
        try:
            json_params({str(name): values})
        except ValueError as error:
            yield (name,), str(error)
    yield from _entry_faults(written, "include")
    yield from _entry_faults(written, "exclude")
    for index, entry in enumerate(_mappings(written.get("exclude"))):
        for name in entry.keys() - lists.keys():
            known = f"; it has {', '.join(lists)}" if lists else ""
            yield ("exclude", index, name), f"the matrix has no parameter {name}{known}"
    at_a_time = written.get("max_parallel", 1)
    if isinstance(at_a_time, list):
        yield ("max_parallel",), _reserved("max_parallel", "how many of its runs are at work at a time")
    elif not isinstance(at_a_time, int) or isinstance(at_a_time, bool) or at_a_time < 1:
        yield ("max_parallel",), "expected a whole number of at least 1, such as max_parallel: 4"
    if not lists and not written.get("include"):
        yield (), "the matrix is empty; name params with their values, such as learning_rate: [0.1, 0.01]"
    yield from _too_many(lists, len(_mappings(written.get("include"))))


def _entry_faults(written: Mapping[str, Any], which: str) -> Iterator[tuple[Place, str]]:
    entries = written.get(which, [])
    what = f"a list of points to {which}, such as {which}: [{{learning_rate: 0.1}}]"
    if not isinstance(entries, list):
        yield (which,), f"expected {what}"
        return
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield (which, index), _reserved(which, what)
        elif not entry:
            yield (which, index), "this entry is empty; name a param with its value, or remove it"
        for name in entry if isinstance(entry, dict) else ():
            if not all(str(name).split(".")):
                yield (which, index), f"{name!r} cannot be the name of a param"


def _reserved(name: str, what: str) -> str:
    return f"a param of a matrix cannot be called {name}: here it is {what}"


def _mappings(entries: Any) -> list[dict[str, Any]]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _too_many(lists: Mapping[str, Any], included: int) -> Iterator[tuple[Place, str]]:
    lengths = [len(values) for values in lists.values() if isinstance(values, list)]
    count = math.prod(lengths) + included if lengths else included
    if count > MOST_POINTS:
        product = " * ".join(f"{length:,}" for length in lengths)
        sum_ = f"{product} + {included:,}" if included else product
        yield (
            (),
            f"the matrix has {count:,} points ({sum_}, before exclude); at most {MOST_POINTS:,} are allowed."
            " Give some of the params fewer values",
        )
