from __future__ import annotations

import pytest

from driverun.report import wording
from driverun.runs.record import Exactness
from driverun.runs.state import WaitingFor
from tests.report.samples import START


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"), (0.97654, "0.9765"), (-1.5, "−1.5000"), (1234.5, "1,234.5000"),
        (123456.0, "123,456.0"), (3.2e-5, "3.200e−5"), (4e9, "4.000e9"), (float("nan"), "NaN"),
        (float("inf"), "∞"), (float("-inf"), "−∞"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert wording.number_text(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (4_194_304, "4.19 MB"), (48_200_000, "48.2 MB"),
        (999_999, "1.00 MB"), (250_000_000_000, "250 GB"), (15_000_000_000_000, "15.0 TB"),
    ],
)  # fmt: skip
def test_sizes(size: int, text: str) -> None:
    assert wording.size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"), (0.42, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min"), (185, "3 min 05 s"),
        (3600, "1 h"), (7800, "2 h 10 min"), (86400 * 3 + 4 * 3600, "3 d 04 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "just now"), (1, "just now"), (42, "42 s ago"), (200, "3 min ago"), (7300, "2 h ago"),
        (86400 * 5, "5 d ago"),
    ],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert wording.age_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "30 s"), (90, "1.5 min"), (5400, "1.5 h"), (172800, "2 d")]
)
def test_axis_durations(seconds: float, text: str) -> None:
    assert wording.short_duration(seconds) == text


def test_counts_and_times() -> None:
    assert wording.count_text(1, "step") == "1 step"
    assert wording.count_text(4690, "step") == "4,690 steps"
    assert wording.time_text(START) == "2025-03-01 12:00:00"


def test_every_state_has_its_words() -> None:
    assert set(wording.EXACTNESS_NAMES) == set(wording.EXACTNESS_MEANS) == set(Exactness)
    assert set(wording.WAITING_NAMES) == set(WaitingFor)
