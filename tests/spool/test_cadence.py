from __future__ import annotations

import math

import pytest

from driverun.errors import SpoolError
from driverun.spool.cadence import LARGEST_SHARE, MTBF_S, SHORTEST_S, Cadence, CadenceKind, auto_interval_s


@pytest.mark.parametrize(
    ("capture_s", "commit_s", "interval_s"),
    [
        (0.0, 0.0, 10.0),
        (0.001, 0.0, 10.0),  # the optimum, 3.8 s, is shorter than the shortest
        (0.1, 0.0, math.sqrt(2 * 0.1 * 7200)),
        (0.1, 120.0, 120.0),  # the uplink is the bottleneck
        (3.0, 0.0, 300.0),  # the optimum, 208 s, would take 1.4 % of the time
        (-1.0, 0.0, 10.0),
    ],
)
def test_the_automatic_interval(capture_s: float, commit_s: float, interval_s: float) -> None:
    assert auto_interval_s(capture_s, commit_s) == pytest.approx(interval_s)


@pytest.mark.parametrize("capture_s", [0.0, 1e-4, 0.01, 0.3, 1.44, 5.0, 60.0])
def test_snapshots_never_take_more_than_their_share(capture_s: float) -> None:
    interval_s = auto_interval_s(capture_s)
    assert interval_s >= SHORTEST_S
    assert capture_s <= LARGEST_SHARE * interval_s * (1 + 1e-9)
    assert interval_s <= MTBF_S or capture_s > LARGEST_SHARE * MTBF_S


@pytest.mark.parametrize(
    ("cadence", "seconds", "steps", "epochs", "due"),
    [
        (Cadence(), 9.9, 5, 0, False),
        (Cadence(), 10.0, 5, 0, True),
        (Cadence.of_request("seconds", 2.5), 2.4, 5, 1, False),
        (Cadence.of_request("seconds", 2.5), 2.5, 5, 0, True),
        (Cadence.of_request("steps", 7), 999.0, 6, 9, False),
        (Cadence.of_request("steps", 7), 0.0, 7, 0, True),
        (Cadence.of_request("epochs", 2), 999.0, 99, 1, False),
        (Cadence.of_request("epochs", 2), 0.0, 99, 2, True),
        (Cadence.of_request("seconds", 2.5), 99.0, 0, 1, False),  # that step is kept already
    ],
)
def test_when_a_snapshot_is_due(cadence: Cadence, seconds: float, steps: int, epochs: int, due: bool) -> None:
    assert (
        cadence.due(
            now_s=100.0 + seconds, last_s=100.0, steps_since=steps, epochs_since=epochs, capture_s=0.0
        )
        is due
    )


def test_what_a_snapshot_cost_moves_the_next_one_away() -> None:
    def due(now_s: float, **cost: float) -> bool:
        return Cadence().due(now_s=now_s, last_s=0.0, steps_since=1, epochs_since=0, **cost)

    assert due(38.0, capture_s=0.1)
    assert not due(37.9, capture_s=0.1)
    assert not due(38.0, capture_s=0.1, commit_s=40.0)


def test_a_request_names_a_cadence_or_is_refused() -> None:
    assert Cadence.of_request("auto", None) == Cadence(kind=CadenceKind.AUTO)
    for kind, value in (
        ("hours", 1.0),
        ("steps", None),
        ("seconds", 0.0),
        ("epochs", -1.0),
        ("steps", math.nan),
    ):
        with pytest.raises(SpoolError, match="cannot take a snapshot every"):
            Cadence.of_request(kind, value)
