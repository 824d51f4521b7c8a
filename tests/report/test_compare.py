from __future__ import annotations

import json
import math
from typing import Any

import pytest

from driverun.errors import UsageError
from driverun.report.compare import Compared, compare
from driverun.runs.state import RunState

SUCCEEDED = RunState.SUCCEEDED


def run(name: str, state: RunState = SUCCEEDED, /, **fields: Any) -> Compared:
    return Compared(run_id=name, state=state, **fields)


def measured(name: str, value: float | None, state: RunState = SUCCEEDED) -> Compared:
    return run(name, state, metrics={} if value is None else {"evaluate.accuracy": value})


def test_the_best_comes_first_and_what_is_not_done_last() -> None:
    runs = [
        measured("running", 0.99, RunState.RUNNING),
        measured("middle", 0.7),
        measured("failed", None, RunState.FAILED),
        measured("nan", math.nan),
        measured("best", 0.9),
        measured("silent", None),
        measured("also-middle", 0.7),
        measured("queued", None, RunState.QUEUED),
    ]
    order = ["best", "middle", "also-middle", "nan", "silent", "running", "failed", "queued"]
    assert [each.run_id for each in compare(runs).runs] == order
    worst_first = [each.run_id for each in compare(runs, mode="min").runs]
    assert worst_first == ["middle", "also-middle", "best", *order[3:]]


@pytest.mark.parametrize(
    ("metrics", "fields", "asked", "mode", "metric", "is_max", "words"),
    [
        ({"evaluate.accuracy": 1, "evaluate.loss": 1}, {}, None, None, "evaluate.accuracy", True, "--metric"),
        ({"evaluate.loss": 1, "fit.val_accuracy": 1}, {}, None, None, "evaluate.loss", False, "--metric"),
        ({"evaluate.f1": 1, "fit.loss": 1}, {}, None, None, "evaluate.f1", True, "--metric"),
        ({"fit.val_mae": 1, "fit.loss": 1}, {}, None, None, "fit.val_mae", False, "--metric"),
        ({"fit.loss": 1}, {}, None, None, "fit.loss", False, "--metric"),
        ({"fit.val_loss": 1, "evaluate.accuracy": 1}, {"monitor": "val_loss"}, None, None, "fit.val_loss", False,
         "checkpoint.monitor"),
        ({"fit.score": 1}, {"monitor": "score", "mode": "max"}, None, None, "fit.score", True, "checkpoint.monitor"),
        ({"fit.score": 1}, {"monitor": "score", "mode": "max"}, None, "min", "fit.score", False, "checkpoint.monitor"),
        ({"fit.loss": 1}, {"monitor": "nothing"}, None, None, "fit.loss", False, "--metric"),
        ({"fit.loss": 1, "evaluate.loss": 1}, {}, "loss", None, "evaluate.loss", False, "as asked for"),
        ({"fit.loss": 1, "evaluate.loss": 1}, {}, "fit.loss", "max", "fit.loss", True, "as asked for"),
        ({}, {}, None, None, None, False, "no run has a metric"),
    ],
)  # fmt: skip
def test_the_metric_is_found_by_a_rule_that_is_told(
    metrics: dict[str, float],
    fields: dict[str, Any],
    asked: str | None,
    mode: str | None,
    metric: str | None,
    is_max: bool,
    words: str,
) -> None:
    ranking = compare([run("a"), run("b", metrics=metrics, **fields)], metric=asked, mode=mode).ranking
    assert (ranking.metric, ranking.is_max) == (metric, is_max)
    assert words in ranking.reason


def test_a_metric_that_no_run_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no run has that metric; they have evaluate.loss, fit.loss"):
        compare([run("a", metrics={"fit.loss": 1, "evaluate.loss": 2})], metric="accuracy")
    with pytest.raises(UsageError, match="they have none yet"):
        compare([], metric="accuracy")


def test_only_what_differs_is_shown() -> None:
    runs = [
        run("a", params={"lr": 0.1, "epochs": 3, "opt": {"name": "sgd", "m": 1}}, code_sha256="c" * 64),
        run("b", params={"lr": 0.01, "epochs": 3, "opt": {"name": "adam", "m": 1}}, code_sha256="c" * 64),
        run("c", params={"lr": 0.01, "epochs": 3, "opt": {"name": "adam"}}, code_sha256="c" * 64),
    ]
    assert compare(runs).params == ("lr", "opt.name", "opt.m")
    assert compare(runs[:1]).params == ()
    assert compare([runs[0], run("x", params=runs[0].params, code_sha256="d" * 64)]).params == ("code",)
    assert compare([run("x"), run("y", seed=1)]).params == ("seed",)
    assert compare([run("x", params={"seed": 1}), run("y", params={"seed": 2}, seed=1)]).params == (
        "seed",
        "(seed)",
    )
    assert compare([run("x", params={"a": 1}), run("y", params={"a": True})]).params == ("a",)
    assert compare([run("x", params={"a": None}), run("y")]).params == ("a",)


def test_json_and_csv_hold_the_table() -> None:
    runs = [
        run(
            "a",
            params={"lr": [1, 2], "text": 'x,"y'},
            metrics={"evaluate.loss": 0.1 + 0.2, "fit.loss": math.inf},
        ),
        run("b", RunState.QUEUED, params={"lr": 5}),
    ]
    found = compare(runs, of="digits")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == {
        "metric": "evaluate.loss",
        "mode": "min",
        "reason": "--metric names another",
        "runs": [
            {
                "run_id": "a",
                "state": "SUCCEEDED",
                "params": {"lr": [1, 2], "text": 'x,"y'},
                "metrics": {"evaluate.loss": 0.30000000000000004, "fit.loss": "Infinity"},
            },
            {"run_id": "b", "state": "QUEUED", "params": {"lr": 5}, "metrics": {}},
        ],
    }
    assert found.to_csv().splitlines() == [
        "run,state,lr,text,evaluate.loss,fit.loss",
        'a,SUCCEEDED,"[1, 2]","x,""y",0.30000000000000004,inf',
        "b,QUEUED,5,,,",
    ]
