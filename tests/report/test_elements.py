from __future__ import annotations

import math
import struct

import pytest

from driverun.report.elements import deviation, itemsize, numbers

CASES = [
    ("bool", "<2?", (True, False)),
    ("int8", "<2b", (-1, 5)),
    ("uint8", "<2B", (1, 255)),
    ("int16", "<2h", (-300, 5)),
    ("uint16", "<2H", (1, 65535)),
    ("int32", "<2i", (-70000, 5)),
    ("uint32", "<2I", (1, 2**32 - 1)),
    ("int64", "<2q", (-(2**40), 5)),
    ("uint64", "<2Q", (1, 2**64 - 1)),
    ("float16", "<2e", (0.5, -2.0)),
    ("float32", "<2f", (0.5, -2.0)),
    ("float64", "<2d", (0.1, -2.0)),
]


@pytest.mark.parametrize(("dtype", "form", "values"), CASES)
def test_numbers_are_read_from_their_bytes(dtype: str, form: str, values: tuple[float, float]) -> None:
    content = struct.pack(form, *values)
    assert list(numbers(dtype, content)) == list(values)
    assert itemsize(dtype) == len(content) // 2


@pytest.mark.parametrize(("dtype", "form", "values"), CASES)
def test_the_deviation_of_each_dtype_is_measured(dtype: str, form: str, values: tuple[float, float]) -> None:
    a, b = struct.pack(form, *values), struct.pack(form, values[0], values[0])
    found = deviation(dtype, a, b)
    assert found is not None
    assert (found.count, found.first, found.first_values) == (1, 1, (values[1], values[0]))
    assert found.largest == pytest.approx(abs(values[1] - values[0]))


def test_bfloat16_is_the_upper_half_of_a_float32() -> None:
    content = struct.pack("<f", 1.5)[2:] + struct.pack("<f", -0.0078125)[2:]
    assert list(numbers("bfloat16", content)) == [1.5, -0.0078125]


def test_complex_numbers_differ_by_their_distance() -> None:
    found = deviation("complex64", struct.pack("<2f", 3.0, 4.0), struct.pack("<2f", 0.0, 0.0))
    assert found is not None
    assert (found.count, found.largest) == (1, 5.0)


def test_equal_bytes_do_not_deviate_even_if_they_are_nan() -> None:
    content = struct.pack("<2f", math.nan, 1.0)
    assert deviation("float32", content, content) is None


def test_nan_against_a_number_is_a_deviation_without_a_size() -> None:
    found = deviation("float32", struct.pack("<2f", math.nan, 1.0), struct.pack("<2f", 0.0, 1.0))
    assert found is not None
    assert found.count == 1
    assert found.largest is not None
    assert math.isnan(found.largest)


def test_minus_zero_is_another_bit_pattern() -> None:
    found = deviation("float32", struct.pack("<f", 0.0), struct.pack("<f", -0.0))
    assert found is not None
    assert (found.count, found.largest) == (1, 0.0)


def test_bytes_of_an_unknown_dtype_are_counted() -> None:
    found = deviation("float8_e4m3fn", b"abcd", b"abXY")
    assert found is not None
    assert (found.count, found.first, found.largest) == (2, 2, None)


def test_long_stretches_are_counted_in_full() -> None:
    a, b = bytearray(40_000), bytearray(40_000)
    for place in (0, 20_000, 39_999):
        b[place] = 7
    found = deviation("uint8", bytes(a), bytes(b))
    assert found is not None
    assert (found.count, found.first, found.largest) == (3, 0, 7.0)


def test_distances_beyond_the_greatest_float_are_infinite() -> None:
    found = deviation("float64", struct.pack("<d", 1.7e308), struct.pack("<d", -1.7e308))
    assert found is not None
    assert found.largest == math.inf
