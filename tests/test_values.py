"""Values of which there are many behave as Python's frozen ones do."""

from __future__ import annotations

import pytest

from driverun.values import frozen_value


@frozen_value(frozen=True, slots=True, kw_only=True, order=True)
class Point:
    """A place."""

    x: int
    y: int = 0


def test_they_compare_hash_and_print_by_what_they_hold() -> None:
    assert Point(x=1) == Point(x=1, y=0) != Point(x=1, y=1)
    assert {Point(x=1): "here"}[Point(x=1)] == "here"
    assert Point(x=1, y=5) < Point(x=2)
    assert repr(Point(x=1)) == "Point(x=1, y=0)"


def test_they_hold_nothing_else() -> None:
    with pytest.raises(AttributeError):
        Point(x=1).z = 2  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg]


def test_what_may_be_changed_is_none() -> None:
    with pytest.raises(AssertionError):
        frozen_value(frozen=False, slots=True)(type("Changing", (), {}))
