from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from driverun.report.svg import Bar, Line, Mark, duration_ticks, line_chart, nice_ticks, tick_labels, timeline

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 4.2, [0, 1, 2, 3, 4]),
        (0.913, 0.991, [0.92, 0.94, 0.96, 0.98]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (0, 4690, [0, 1000, 2000, 3000, 4000]),
        (5, 5, [5]),
        (NAN, 1, []),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize("high", [1, 2, 3, 7, 10, 99, 1000, 12345])
def test_ticks_of_epochs_are_whole(high: int) -> None:
    ticks = nice_ticks(0, high, 6, whole=True)
    assert all(tick == int(tick) for tick in ticks)
    assert 2 <= len(ticks) <= 12


@pytest.mark.parametrize(("low", "high"), [(1e-300, 2e-300), (-1e300, 1e300), (1.0, math.nextafter(1.0, 2))])
def test_ticks_of_extreme_ranges_are_few(low: float, high: float) -> None:
    assert len(nice_ticks(low, high)) <= 12


def test_labels_of_an_axis_have_equally_many_decimals() -> None:
    assert tick_labels([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert tick_labels([-20.0, 0.0]) == ["−20", "0"]
    assert tick_labels([0.0, 5e-6, 1e-5]) == ["0", "5.0e−6", "1.0e−5"]
    assert tick_labels([5.0]) == ["5"]
    assert tick_labels([]) == []


@pytest.mark.parametrize("span", [0.01, 0.5, 3, 59, 200, 4000, 90_000, 5e6])
def test_ticks_of_a_timeline_are_few(span: float) -> None:
    ticks = duration_ticks(span)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 9
    assert ticks[-1] <= span * 1.001


def chart(*points: tuple[float, float]) -> str:
    return line_chart([Line(name="training", points=points)], title="loss", x_label="epoch")


def test_a_chart_is_well_formed_and_tells_each_value_on_hover() -> None:
    root = ElementTree.fromstring(chart((1, 0.5), (2, 0.25)))
    titles = [element.text for element in root.iter("title")]
    assert titles == ["training, epoch 1: 0.5000", "training, epoch 2: 0.2500"]
    assert root.get("aria-label") == "loss"


def test_a_chart_stays_within_its_frame() -> None:
    root = ElementTree.fromstring(chart((1, -5.0), (2, 1e6), (3, 40.0)))
    for circle in root.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= 460
        assert 0 <= float(circle.attrib["cy"]) <= 250


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_value_that_is_not_finite_breaks_the_line(value: float) -> None:
    drawn = chart((1, 0.5), (2, 0.4), (3, value), (4, 0.2), (5, 0.1))
    assert drawn.count('<path d="M') == 2
    assert drawn.count("<circle") == 4
    assert not re.search(r'"[^"]*\b(nan|inf)\b', drawn)


def test_a_chart_of_nothing_is_nothing() -> None:
    assert chart() == ""
    assert chart((1, NAN), (2, INF)) == ""


@pytest.mark.parametrize("value", [0.0, 1.0, -1e308, 1.7e308, 5e-324])
def test_one_value_alone_can_be_drawn(value: float) -> None:
    drawn = chart((1, value))
    ElementTree.fromstring(drawn)
    assert "nan" not in drawn


def test_names_in_a_chart_are_escaped() -> None:
    line = Line(name="<b>&", points=[(1, 1.0)])
    mark = Mark(x=1, title='"<i>"')
    drawn = line_chart([line], title='"><script>', x_label="epoch", marks=[mark])
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert "<script" not in drawn
    ElementTree.fromstring(drawn)


def bar(**fields: object) -> Bar:
    values = {
        "label": "Attempt 1",
        "note": "steps",
        "title": "t",
        "start_s": 0.0,
        "end_s": 10.0,
        "style": "done",
    }
    return Bar(**{**values, **fields})  # type: ignore[arg-type]


def test_a_timeline_shows_every_attempt_and_what_was_lost() -> None:
    drawn = timeline([bar(end_s=40.0, lost_fraction=0.25), bar(start_s=60.0, end_s=100.0)], title="attempts")
    root = ElementTree.fromstring(drawn)
    whole, lost, second = root.iter("rect")
    assert (whole.get("x"), whole.get("width")) == ("0.000%", "40.000%")
    assert (lost.get("class"), lost.get("x"), lost.get("width")) == ("lost", "30.000%", "10.000%")
    assert second.get("x") == "60.000%"


def test_an_attempt_of_no_length_can_be_seen() -> None:
    drawn = timeline([bar(end_s=0.0), bar(start_s=100.0, end_s=100.0)], title="attempts")
    for rect in ElementTree.fromstring(drawn).iter("rect"):
        x, width = (float(rect.attrib[name].rstrip("%")) for name in ("x", "width"))
        assert width > 0
        assert x + width <= 100.001


def test_many_attempts_take_thin_rows() -> None:
    root = ElementTree.fromstring(timeline([bar()] * 200, title="attempts"))
    assert int(root.attrib["height"]) < 200 * 20
    assert timeline([], title="attempts") == ""
