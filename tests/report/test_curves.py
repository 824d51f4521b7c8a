from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

from driverun.report.curves import Curves, FitHistory, Series, history_csv, read_curves, read_histories
from tests.report.samples import epoch_ended, event


def series(curves: Curves, fit: int, metric: str) -> Series:
    return next(item for item in curves.fits[fit].series if item.metric == metric)


def values(curves: Curves, fit: int, metric: str) -> list[tuple[float, float, int]]:
    return [(point.epoch, point.value, point.attempt) for point in series(curves, fit, metric).points]


def test_nothing_told_gives_no_curves() -> None:
    assert read_curves([]) == Curves()
    assert read_curves([(1, b"")]) == Curves()


def test_segments_of_attempts_make_one_series() -> None:
    curves = read_curves(
        [
            (2, event("resumed", fit=0, step=10, epoch=1, step_in_epoch=0) + epoch_ended(0, 1, 20, loss=0.5)),
            (1, event("fit_begun", fit=0, step=0, epochs=3, steps_per_epoch=10)),
            (1, epoch_ended(0, 0, 10, loss=1.0, val_loss=1.5)),
            (2, epoch_ended(0, 2, 30, loss=0.25, val_loss=0.75)),
        ]
    )
    assert values(curves, 0, "loss") == [(1, 1.0, 1), (2, 0.5, 2), (3, 0.25, 2)]
    assert values(curves, 0, "val_loss") == [(1, 1.5, 1), (3, 0.75, 2)]
    fit = curves.fits[0]
    assert (fit.epochs, fit.steps_per_epoch) == (3, 10)
    assert [(resume.attempt, resume.step, resume.epoch) for resume in fit.resumes] == [(2, 10, 1.0)]


def test_a_later_attempt_wins_where_it_repeated_steps() -> None:
    curves = read_curves(
        [
            (1, epoch_ended(0, 0, 10, loss=1.0) + epoch_ended(0, 1, 20, loss=9.0)),
            (2, event("resumed", fit=0, step=15, epoch=1, step_in_epoch=5) + epoch_ended(0, 1, 20, loss=0.5)),
        ]
    )
    assert values(curves, 0, "loss") == [(1, 1.0, 1), (2, 0.5, 2)]


def test_what_a_lost_attempt_told_of_undone_steps_is_forgotten() -> None:
    lost = epoch_ended(0, 0, 10, loss=1.0) + epoch_ended(0, 1, 20, loss=9.0) + epoch_ended(1, 0, 30, loss=9.0)
    curves = read_curves([(1, lost), (2, event("resumed", fit=0, step=12, epoch=1, step_in_epoch=2))])
    assert values(curves, 0, "loss") == [(1, 1.0, 1)]
    assert len(curves.fits) == 1


def test_an_attempt_that_starts_over_undoes_everything() -> None:
    curves = read_curves(
        [
            (1, epoch_ended(0, 0, 10, loss=1.0) + epoch_ended(0, 1, 20, loss=9.0)),
            (
                2,
                event("fit_begun", fit=0, step=0, epochs=2, steps_per_epoch=10)
                + epoch_ended(0, 0, 10, loss=2.0),
            ),
        ]
    )
    assert values(curves, 0, "loss") == [(1, 2.0, 2)]


def test_samples_lie_within_their_epoch() -> None:
    begun = event("fit_begun", fit=1, step=100, epochs=2, steps_per_epoch=10)
    sample = event("progress", fit=1, epoch=1, step=115, logs={"loss": 0.75})
    curves = read_curves([(1, begun + epoch_ended(1, 0, 110, loss=1.0) + sample)])
    assert [(point.epoch, point.value) for point in series(curves, 0, "loss").samples] == [(1.5, 0.75)]


def test_a_sample_before_any_epoch_has_ended_is_placed_by_where_the_fit_began() -> None:
    begun = event("fit_begun", fit=1, step=100, epochs=2, steps_per_epoch=10)
    curves = read_curves([(1, begun + event("progress", fit=1, epoch=0, step=105, logs={"loss": 0.75}))])
    assert [point.epoch for point in series(curves, 0, "loss").samples] == [0.5]


def test_a_sample_in_an_epoch_of_unknown_length_is_left_out() -> None:
    curves = read_curves([(1, event("progress", fit=0, epoch=0, step=5, logs={"loss": 0.75}))])
    assert curves.fits == ()


def test_the_history_fills_in_what_a_cut_upload_lost() -> None:
    ended = event("fit_ended", fit=0, step=20, history={"loss": [1.0, 0.5]}, epochs=[0, 1], replayed=False)
    curves = read_curves([(2, epoch_ended(0, 1, 20, loss=0.5) + ended)])
    assert values(curves, 0, "loss") == [(1, 1.0, 2), (2, 0.5, 2)]
    assert curves.histories[0].epochs == (0, 1)


def test_evaluations_of_the_newest_attempt_count() -> None:
    curves = read_curves(
        [
            (1, event("evaluated", logs={"loss": 9.0})),
            (2, event("evaluated", logs={"loss": 1.0}) + event("evaluated", logs={"loss": 2.0})),
        ]
    )
    assert curves.evaluations == ({"loss": 1.0}, {"loss": 2.0})


def test_nan_survives_the_reading() -> None:
    curves = read_curves([(1, epoch_ended(0, 0, 10, loss=float("nan")))])
    assert math.isnan(series(curves, 0, "loss").points[0].value)


@pytest.mark.parametrize(
    "line",
    [
        b"{half a line",
        b"\xff\xfe\n",
        b"[]\n",
        b"17\n",
        event("epoch_ended", fit="x", epoch=0, logs={}),
        event("epoch_ended", fit=0, epoch="x", logs={"loss": 1.0}),
        event("epoch_ended", fit=0, epoch=0, step=1, logs=["loss"]),
        event("epoch_ended", fit=0, epoch=0, step=1, logs={"loss": "a tensor"}),
        event("progress", fit=0, logs={"loss": 1.0}),
        event("fit_ended", fit=0, history=None, epochs=None),
        event("unheard_of", fit=0),
        b"[" * 100_000 + b"\n",
    ],
)
def test_lines_that_make_no_sense_are_passed_over(line: bytes) -> None:
    curves = read_curves([(1, epoch_ended(0, 0, 10, loss=1.0) + line)])
    assert values(curves, 0, "loss") == [(1, 1.0, 1)]


def test_history_csv_has_the_metrics_as_they_first_appeared() -> None:
    text = history_csv(
        [
            FitHistory(fit=1, epochs=(0,), history={"mae": (0.1,), "loss": (1 / 3,)}),
            FitHistory(
                fit=0, epochs=(0, 1), history={"loss": (1.0, 0.1 + 0.2), "val_loss": (2.0, float("nan"))}
            ),
        ]
    )
    assert text == (
        "fit,epoch,loss,val_loss,mae\n"
        "0,0,1.0,2.0,\n"
        "0,1,0.30000000000000004,nan,\n"
        "1,0,0.3333333333333333,,0.1\n"
    )


def test_history_csv_places_validations_of_every_nth_epoch() -> None:
    history = FitHistory(
        fit=0, epochs=(0, 1, 2, 3, 4), history={"loss": (5.0, 4.0, 3.0, 2.0, 1.0), "val_loss": (7.0, 6.0)}
    )
    rows = list(csv.DictReader(io.StringIO(history_csv([history]))))
    assert [row["val_loss"] for row in rows] == ["", "7.0", "", "6.0", ""]


def test_history_csv_of_no_fit_is_its_head() -> None:
    assert history_csv([]) == "fit,epoch\n"


def test_histories_are_read_from_what_ended() -> None:
    fields: list[dict[str, Any]] = [
        {"fit": 1, "history": {"loss": [0.5]}, "epochs": [0]},
        {"fit": 0, "history": {"loss": ["1.5", None], "odd": "text"}, "epochs": [3, 4]},
        {"fit": 2},
    ]
    first, second = read_histories(fields)
    assert (first.fit, first.epochs, first.history) == (0, (3, 4), {"loss": (1.5, None)})
    assert second.fit == 1
