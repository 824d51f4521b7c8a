"""Numbers out of raw bytes, for every dtype that a training state is made of."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

#: NumPy's name to the code of `array`. C leaves the sizes open; those below hold wherever CPython runs today.
_ARRAY_CODES = {
    "bool": "B", "uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
    "uint64": "Q", "int64": "q", "float32": "f", "float64": "d",
}  # fmt: skip
_SIZES = {
    "bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "float16": 2, "bfloat16": 2, "uint32": 4,
    "int32": 4, "float32": 4, "uint64": 8, "int64": 8, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip

Number = int | float | complex


def itemsize(dtype: str) -> int | None:
    """Bytes of one element; None for a dtype that is not known here."""
    return _SIZES.get(dtype)


def numbers(dtype: str, content: bytes) -> Sequence[Number]:
    """The elements that `content` holds, a whole number of them. Raises KeyError for an unknown dtype."""
    if dtype == "float16":
        return struct.unpack(f"<{len(content) // 2}e", content)
    if dtype == "bfloat16":
        # The upper half of a float32.
        widened = bytearray(2 * len(content))
        widened[2::4], widened[3::4] = content[0::2], content[1::2]
        return numbers("float32", bytes(widened))
    if dtype in ("complex64", "complex128"):
        parts = numbers("float32" if dtype == "complex64" else "float64", content)
        return [complex(re, im) for re, im in zip(parts[0::2], parts[1::2], strict=True)]
    values = array(_ARRAY_CODES[dtype])
    values.frombytes(content)
    if sys.byteorder == "big":
        values.byteswap()
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How two stretches of elements differ, bit by bit: NaN equals the same NaN, 0.0 does not equal -0.0."""

    count: int  #: of elements that differ
    first: int  #: index of the first one
    first_values: tuple[Number, Number] | None
    largest: float | None  #: absolute difference; None where there are no numbers, nan where one is NaN


def deviation(dtype: str, a: bytes, b: bytes) -> Deviation | None:
    """How `a` and `b`, of equal length, differ; None where they do not.

    Of an unknown dtype, the elements are bytes.
    """
    if a == b:
        return None
    size = itemsize(dtype)
    if size is None or len(a) % size:
        places = [place for place, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        return Deviation(count=len(places), first=places[0], first_values=None, largest=None)
    places = _differing(a, b, size)
    left, right = numbers(dtype, a), numbers(dtype, b)
    largest = 0.0
    for place in places:
        distance = _distance(left[place], right[place])
        if distance != distance:
            largest = distance
            break
        largest = max(largest, distance)
    first = places[0]
    return Deviation(
        count=len(places), first=first, first_values=(left[first], right[first]), largest=largest
    )


def _differing(a: bytes, b: bytes, size: int) -> list[int]:
    """Indices of the elements that differ in any bit, found among stretches that differ at all."""
    stretch = 4096 * size
    found: list[int] = []
    for begin in range(0, len(a), stretch):
        x, y = a[begin : begin + stretch], b[begin : begin + stretch]
        if x == y:
            continue
        found += [
            (begin + place) // size
            for place in range(0, len(x), size)
            if x[place : place + size] != y[place : place + size]
        ]
    return found


def _distance(a: Number, b: Number) -> float:
    if a == b:
        return 0.0
    try:
        return abs(float(abs(a - b)))
    except OverflowError:
        return float("inf")
