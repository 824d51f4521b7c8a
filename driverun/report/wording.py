"""How values read to people, in reports as in the terminal."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from driverun.runs.record import Exactness
from driverun.runs.state import WaitingFor

EXACTNESS_NAMES = {
    Exactness.EXACT: "exact",
    Exactness.STEP_EXACT: "step-exact",
    Exactness.APPROXIMATE: "approximate",
}

EXACTNESS_MEANS = {
    Exactness.EXACT: "The same bits as a run that was never interrupted.",
    Exactness.STEP_EXACT: (
        "No step was lost or repeated in the result, and the data came in the same order; "
        "the kernels are not deterministic, so the last digits may differ from run to run."
    ),
    Exactness.APPROXIMATE: (
        "Something was missing or changed when the run was taken up, "
        "so the result may differ from that of an uninterrupted run."
    ),
}

WAITING_NAMES = {
    WaitingFor.ACCELERATOR: "an accelerator that this runtime lacks",
    WaitingFor.MEMORY: "a runtime with more memory",
    WaitingFor.DATA: "data that is not on the root yet",
    WaitingFor.APPROVAL: "somebody's approval of its code",
    WaitingFor.AFTER: "another run to succeed first",
    WaitingFor.SWEEP: "another run of its sweep to end",
    WaitingFor.SECRET: "a secret that is nowhere where this worker can ask",
    WaitingFor.BACKOFF: "a while after its last failure",
}

_LENGTHS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def number_text(value: float) -> str:
    """A measured number: four decimals, or an exponent where these say nothing."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        digits, _, exponent = f"{value:.3e}".partition("e")
        return f"{digits}e{int(exponent)}".replace("-", "−")
    return (f"{value:,.4f}" if size < 1e4 else f"{value:,.1f}").replace("-", "−")


def count_text(number: int, noun: str) -> str:
    """`1 step`, `4,690 steps`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(size_bytes: int) -> str:
    """`812 B`, `4.19 MB`: three digits of a decimal unit."""
    # Half a unit of the last digit early, so that 999,999 bytes are 1.00 MB and not 1000 kB.
    for factor, unit in _SIZES:
        if size_bytes >= factor * 0.9995:
            number = size_bytes / factor
            decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
            return f"{number:.{decimals}f} {unit}"
    return f"{size_bytes} B"


def duration_text(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`: the two largest units."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for (length, unit), (part, part_unit) in pairwise(_LENGTHS):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit} {rest:02d} {part_unit}" if rest else f"{whole // length} {unit}"
    return f"{whole} s"


def age_text(seconds: float) -> str:
    """`just now`, `40 s ago`, `3 min ago`, `2 h ago`, `5 d ago`: the largest unit alone."""
    if seconds < 5:
        return "just now"
    for length, unit in _LENGTHS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def short_duration(seconds: float) -> str:
    """A duration for an axis, in one unit: `30 s`, `5 min`, `1.5 h`, `2 d`."""
    for length, unit in _LENGTHS[:3]:
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def time_text(at: datetime) -> str:
    """To the second, in UTC; the zone is said once, by whoever shows many of them."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def value_text(value: Any) -> str:
    """The value of a param as a job file writes it; nothing for nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
