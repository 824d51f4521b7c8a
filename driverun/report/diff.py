"""Where two runs first differ."""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driverun.report.elements import Deviation, Number, deviation, itemsize
from driverun.report.final_state import FinalState, OutputFile, Piece, Tensor
from driverun.report.output_diff import content_difference


class DifferenceKind(enum.Enum):
    """What two runs differ in."""

    MISSING_VARIABLE = "missing_variable"  #: only one of them has it
    DTYPE = "dtype"
    SHAPE = "shape"
    VALUES = "values"  #: of a variable
    STATE = "state"  #: history, callbacks, random state
    MISSING_OUTPUT = "missing_output"  #: only one of them has the file
    OUTPUT = "output"  #: content of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first thing in which two runs differ."""

    kind: DifferenceKind
    where: str  #: `optimizer[3] adam/dense/kernel_momentum`, `state: history.loss[2]`, `predictions.csv`
    message: str  #: one line, for people
    max_abs_difference: float | None = None  #: of a variable's elements or of a number; nan where NaN is one
    elements_differing: int | None = None
    elements: int | None = None
    first_index: tuple[int, ...] | None = None  #: of the first element that differs

    def to_json(self) -> dict[str, Any]:
        largest = self.max_abs_difference
        return {
            "kind": self.kind.value,
            "where": self.where,
            "message": self.message,
            "max_abs_difference": largest if largest is None or math.isfinite(largest) else str(largest),
            "elements_differing": self.elements_differing,
            "elements": self.elements,
            "first_index": list(self.first_index) if self.first_index is not None else None,
        }


def first_difference(
    a: FinalState, b: FinalState, *, ignore_state: Collection[str] = ()
) -> Difference | None:
    """The first difference between two runs: among variables, then the rest of the state, then output files.

    None means that they agree in everything. Only what differs by its digest is read.

    Args:
        ignore_state: dotted names in the JSON state that tell of time or place, such as `history.time`.
    """
    return _first_in_tensors(a, b) or _first_in_state(a, b, ignore_state) or _first_in_outputs(a, b)


def _first_in_tensors(a: FinalState, b: FinalState) -> Difference | None:
    others = {(tensor.group, tensor.index): tensor for tensor in b.tensors}
    for tensor in a.tensors:
        other = others.pop((tensor.group, tensor.index), None)
        if other is None:
            return _missing_tensor(tensor, has=a, lacks=b)
        found = _tensor_difference(tensor, other)
        if found is not None:
            return found
    if others:
        return _missing_tensor(next(iter(others.values())), has=b, lacks=a)
    return None


def _missing_tensor(tensor: Tensor, *, has: FinalState, lacks: FinalState) -> Difference:
    where = _name(tensor)
    message = f"{where}: {has.label} has it, {lacks.label} does not"
    return Difference(kind=DifferenceKind.MISSING_VARIABLE, where=where, message=message)


def _tensor_difference(a: Tensor, b: Tensor) -> Difference | None:
    where = _name(a)
    if a.dtype != b.dtype:
        message = f"{where}: {a.dtype} against {b.dtype}"
        return Difference(kind=DifferenceKind.DTYPE, where=where, message=message)
    if a.shape != b.shape:
        message = f"{where}: shape {_shape(a.shape)} against {_shape(b.shape)}"
        return Difference(kind=DifferenceKind.SHAPE, where=where, message=message)
    found = _merged(_deviations(a, b))
    if found is None:
        return None
    known = itemsize(a.dtype) is not None
    total = math.prod(a.shape) if known else sum(piece.size_bytes for piece in a.pieces)
    index = _unravel(found.first, a.shape) if known else None
    what = "values" if known else "bytes"
    message = f"{where}: {found.count:,} of {total:,} {what} differ"
    if found.largest is not None:
        message += f", by up to {found.largest:.6g}"
    if found.first_values is not None:
        one, other = found.first_values
        at = f" at {list(index)}" if index else ""
        message += f"; the first{at}: {_shown(one)} against {_shown(other)}"
    return Difference(
        kind=DifferenceKind.VALUES,
        where=where,
        message=message,
        max_abs_difference=found.largest,
        elements_differing=found.count,
        elements=total,
        first_index=index,
    )


def _deviations(a: Tensor, b: Tensor) -> Iterator[tuple[int, Deviation]]:
    """(elements before it, deviation) of every stretch that differs."""
    size = itemsize(a.dtype) or 1
    for offset, left, right in _stretches(a.pieces, b.pieces, size):
        found = deviation(a.dtype, left, right)
        if found is not None:
            yield offset // size, found


def _stretches(a: Sequence[Piece], b: Sequence[Piece], size: int) -> Iterator[tuple[int, bytes, bytes]]:
    """(offset, bytes, bytes) wherever two equally long tensors may differ, cut between elements."""
    cuts = [piece.size_bytes for piece in a]
    if cuts == [piece.size_bytes for piece in b] and all(cut % size == 0 for cut in cuts):
        offset = 0
        for left, right in zip(a, b, strict=True):
            if left.sha256 != right.sha256:
                yield offset, left.read(), right.read()
            offset += left.size_bytes
    else:  # cut in different places: formats of two versions
        yield 0, b"".join(piece.read() for piece in a), b"".join(piece.read() for piece in b)


def _merged(found: Iterator[tuple[int, Deviation]]) -> Deviation | None:
    count, largest = 0, None
    first: tuple[int, tuple[Number, Number] | None] | None = None
    for before, item in found:
        count += item.count
        if first is None:
            first = (before + item.first, item.first_values)
        if item.largest is not None:
            known = largest if largest is not None else 0.0
            largest = math.nan if math.isnan(item.largest) or math.isnan(known) else max(known, item.largest)
    if first is None:
        return None
    return Deviation(count=count, first=first[0], first_values=first[1], largest=largest)


def _first_in_state(a: FinalState, b: FinalState, ignore: Collection[str]) -> Difference | None:
    found = _json_difference(a.state, b.state, "", ignore, (a.label, b.label))
    if found is None:
        return None
    where, message, distance = found
    return Difference(
        kind=DifferenceKind.STATE,
        where=f"state: {where}",
        message=f"{where}: {message}",
        max_abs_difference=distance,
    )


def _json_difference(
    a: Any, b: Any, where: str, ignore: Collection[str], labels: tuple[str, str]
) -> tuple[str, str, float | None] | None:
    """(place, what differs, by how much) of the first difference between two JSON values."""
    if where in ignore:
        return None
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            place = f"{where}.{key}" if where else str(key)
            if place in ignore:
                continue
            if key not in a or key not in b:
                has, lacks = labels if key in a else labels[::-1]
                return place, f"{has} has it, {lacks} does not", None
            if found := _json_difference(a[key], b[key], place, ignore, labels):
                return found
        return None
    if _is_list(a) and _is_list(b):
        for number, (one, other) in enumerate(zip(a, b, strict=False)):
            if found := _json_difference(one, other, f"{where}[{number}]", ignore, labels):
                return found
        if len(a) != len(b):
            return where, f"{len(a):,} values against {len(b):,}", None
        return None
    if _is_number(a) and _is_number(b):
        if a == b or (a != a and b != b):
            return None
        distance = abs(float(a) - float(b)) if max(abs(a), abs(b)) < 1e300 else math.inf
        return where, f"{_shown(a)} against {_shown(b)}", distance
    if type(a) is type(b) and a == b:
        return None
    return where, f"{_shown(a)} against {_shown(b)}", None


def _first_in_outputs(a: FinalState, b: FinalState) -> Difference | None:
    left, right = _by_path(a.outputs), _by_path(b.outputs)
    for path in sorted({*left, *right}):
        if path not in left or path not in right:
            has, lacks = (a, b) if path in left else (b, a)
            message = f"{path}: {has.label} has it, {lacks.label} does not"
            return Difference(kind=DifferenceKind.MISSING_OUTPUT, where=path, message=message)
        if left[path].sha256 == right[path].sha256:
            continue
        found = content_difference(path, left[path].read(), right[path].read())
        if found is not None:
            return Difference(kind=DifferenceKind.OUTPUT, where=path, message=f"{path}: {found}")
    return None


def _by_path(outputs: Sequence[OutputFile]) -> dict[str, OutputFile]:
    """Without TensorBoard's files and executed notebooks: full of times, and no part of `outputs_sha256` either."""
    return {
        output.path: output
        for output in outputs
        if "events.out.tfevents." not in output.path and not output.path.endswith(".executed.ipynb")
    }


def _name(tensor: Tensor) -> str:
    return f"{tensor.group}[{tensor.index}] {tensor.path}".rstrip()


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in shape) or "()"


def _unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index in C order of the element that is the `flat`-th."""
    index: list[int] = []
    for length in reversed(shape):
        flat, place = divmod(flat, length)
        index.append(place)
    return tuple(reversed(index))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
