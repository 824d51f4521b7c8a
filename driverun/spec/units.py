"""Durations and sizes as people write them, by one rule for the job file and the command line."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import lru_cache

_SECONDS: tuple[tuple[str, Decimal], ...] = (
    ("d", Decimal(86400)),
    ("h", Decimal(3600)),
    ("m", Decimal(60)),
    ("s", Decimal(1)),
    ("ms", Decimal("0.001")),
)
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,30})?"

#: A duration without anchors, for the JSON Schema too: each unit at most once, the largest first.
DURATION_PATTERN = r"(?=[0-9])(?!.* $)" + "".join(rf"(?:{_NUMBER} ?{unit} ?)?" for unit, _ in _SECONDS)

_BYTES: dict[str, int] = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}

#: A size without anchors, for the JSON Schema too. `b` is a byte as `B` is, never a bit.
SIZE_PATTERN = rf"(?:[0-9]{{1,15}} ?[bB]|{_NUMBER} ?[kKmMgGtT][iI]?[bB])"

_DECIMAL_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))
_BINARY_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


@lru_cache(maxsize=1024)  # thousands of jobs say the same few
def parse_duration(text: str) -> float:
    """Return the seconds that `text` stands for: `500ms`, `30s`, `5m`, `1h30m`, `1.5h`, `2d`.

    Raises:
        ValueError: the text is no duration; the message shows what is.
    """
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(
            f"{_quoted(text)} is not a duration: write a number with a unit, such as 500ms, 30s, 5m, 1h30m"
        )
    units = dict(_SECONDS)
    parts = re.findall(rf"({_NUMBER}) ?(ms|[dhms])", text)
    # Summed as decimals, so that 1m0.1s is the very float that 60.1 is.
    return float(sum((Decimal(number) * units[unit] for number, unit in parts), Decimal(0)))


def parse_size(text: str | int) -> int:
    """Return the bytes that `text` stands for: `1GB` is 10**9, `4MiB` is 4 * 2**20, a bare int is bytes.

    Raises:
        ValueError: the text is no size, or the number is negative; the message shows what is a size.
    """
    help_ = "write a number with a unit, such as 500 kB, 4MiB or 1GB, or a whole number of bytes"
    if isinstance(text, int):
        if text < 0 or isinstance(text, bool):
            raise ValueError(f"{text} is not a size: {help_}")
        return text
    if not re.fullmatch(SIZE_PATTERN, text):
        raise ValueError(f"{_quoted(text)} is not a size: {help_}")
    number, unit = re.findall(rf"^({_NUMBER}) ?(\w+)$", text)[0]
    return round(Decimal(number) * _BYTES[unit.lower()])


def format_duration(seconds: float) -> str:
    """Return a duration for people, which `parse_duration` reads too.

    Whole seconds come back exactly; parts of a second are shown to three digits, and not at all from a
    minute on.
    """
    _refuse_negative(seconds, "duration")
    if seconds < 1:
        milliseconds = _three_digits(seconds * 1000)
        if milliseconds != "1000":
            return "0s" if milliseconds == "0" else f"{milliseconds}ms"
    if seconds < 60:
        shown = _three_digits(seconds)
        if shown != "60":
            return f"{shown}s"
    left = round(seconds)
    parts: list[str] = []
    for unit, length in _SECONDS[:4]:
        count, left = divmod(left, int(length))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def exact_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads back as the same float."""
    shown = format_duration(seconds)
    return shown if parse_duration(shown) == seconds else f"{Decimal(repr(seconds)):f}s"


def format_size(size_bytes: int) -> str:
    """Return a size for people, which `parse_size` reads too.

    Sizes that take three digits of a unit come back exactly (`1GB`, `4MiB`); others are rounded to three.
    """
    _refuse_negative(size_bytes, "size")
    rounded = ((_three_digits(size_bytes / factor), unit, factor) for unit, factor in _DECIMAL_UNITS)
    shown, unit, factor = next((found for found in rounded if Decimal(found[0]) >= 1), ("0", "B", 1))
    if Decimal(shown) * factor != size_bytes:
        for binary_unit, binary_factor in _BINARY_UNITS:
            if size_bytes >= binary_factor and size_bytes % binary_factor == 0:
                return f"{size_bytes // binary_factor}{binary_unit}"
    return f"{shown}{unit}"


def _three_digits(number: float) -> str:
    """`number` to three significant digits, all digits before the point kept, no exponent, no idle zeros."""
    shown = f"{number:.0f}" if number >= 100 else f"{Decimal(f'{number:.3g}'):f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _refuse_negative(number: float, what: str) -> None:
    if not (number >= 0 and math.isfinite(number)):
        raise ValueError(f"{number} is not a {what}: it has to be 0 or more")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
