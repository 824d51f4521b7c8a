"""Durations and sizes: one rule, both ways."""

from __future__ import annotations

import pytest

from driverun.spec.units import exact_duration, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("11h30m", 41_400),
        ("2d", 172_800),
        ("500ms", 0.5),
        ("7ms", 0.007),
        ("1.5h", 5400),
        ("1h 30m", 5400),
        ("30 s", 30),
        ("1m0.1s", 60.1),
        ("1d2h3m4s5ms", 93_784.005),
        ("0s", 0),
    ],
)
def test_a_duration_is_read_to_the_last_bit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "5min",
        "-5s",
        "1:30",
        "30m1h",
        "1h1h",
        "5 ",
        " 5s",
        "5s ",
        "1e3s",
        "5S",
        "٣s",
        "5s\n",
        "1.s",
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: .* 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("1GB", 10**9),
        ("4MiB", 4 * 2**20),
        ("500 kB", 500_000),
        ("1.5GB", 1_500_000_000),
        ("1tib", 2**40),
        ("2KB", 2000),
        ("7B", 7),
        (123, 123),
        (0, 0),
    ],
)
def test_a_size_is_read_as_bytes(written: str | int, size_bytes: int) -> None:
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize(
    "written", ["", "1", "GB", "1 XB", "-1GB", "1.5B", "1GBs", "1e3 kB", "1GB\n", -1, True]
)
def test_what_is_no_size_is_refused_with_an_example(written: str | int) -> None:
    with pytest.raises(ValueError, match=r"is not a size: .* 4MiB"):
        parse_size(written)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0.4ms"),
        (0.5, "500ms"),
        (0.9999, "1s"),
        (1.25, "1.25s"),
        (12.3456, "12.3s"),
        (59.97, "1m"),
        (61.2, "1m1s"),
        (5400, "1h30m"),
        (100_000, "1d3h46m40s"),
    ],
)
def test_a_duration_is_shown_as_it_would_be_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    parse_duration(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1024, "1KiB"),
        (1500, "1.5kB"),
        (10**9, "1GB"),
        (4 * 2**20, "4MiB"),
        (1_536_789_123, "1.54GB"),
        (999_999, "1MB"),
        (15 * 10**12, "15TB"),
        (123_456 * 10**12, "123456TB"),
    ],
)
def test_a_size_is_shown_as_it_would_be_written(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text
    parse_size(text)


def test_what_is_shown_without_loss_is_read_back() -> None:
    assert all(parse_duration(format_duration(seconds)) == seconds for seconds in range(0, 200_000, 37))
    assert all(parse_size(format_size(number * 10**9)) == number * 10**9 for number in range(1000))


@pytest.mark.parametrize("seconds", [0.1 + 0.2, 1 / 3, 12.3456, 3601.25, 86_400.125, 1e-7, 30])
def test_an_exact_duration_loses_nothing(seconds: float) -> None:
    assert parse_duration(exact_duration(seconds)) == seconds


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_what_has_no_length_is_not_shown(number: float) -> None:
    with pytest.raises(ValueError, match="has to be 0 or more"):
        format_duration(number)
