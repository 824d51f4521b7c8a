"""What the cell shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from driverun.execution.context import Stop
from driverun.execution.hardware import GpuUse
from driverun.execution.viewing import AttemptView, RunView, Sending, WorkerView
from driverun.launchers.cell_text import CellView, queue_text, span, text_of
from driverun.runs.state import RunState

ATTEMPT = AttemptView(
    run_id="mnist-1a2b3c4d5e6f",
    number=2,
    doing="training",
    epoch=2,
    step=5120,
    total_steps=9375,
    steps_per_s=50.0,
    logs={"loss": 0.11234, "accuracy": 0.97},
    first_step=3420,
    resumed_step=3420,
    resumed_from_attempt=1,
    committed_step=5000,
    committed_age_s=12.0,
    sending=Sending(done_bytes=3_000_000, total_bytes=12_000_000, left_s=4.0),
)
VIEW = CellView(
    banner="driverun on a Tesla T4",
    worker=WorkerView(
        runs=(
            RunView(run_id=ATTEMPT.run_id, state=RunState.RUNNING),
            RunView(
                run_id="cifar-0123456789ab", state=RunState.QUEUED, note="not on the root yet: data/cifar.npz"
            ),
        ),
        attempt=ATTEMPT,
    ),
    left_s=3 * 3600.0,
    gpus=(
        GpuUse(
            name="Tesla T4",
            total_bytes=15 << 30,
            used_bytes=32 * (1 << 30) // 10,
            busy_percent=87,
            driver="580",
            uuid="x",
        ),
    ),
    said=tuple(f"said {number}" for number in range(9)),
    written=tuple(f"written {number}" for number in range(9)),
)


def test_all_that_a_person_wants_to_know_is_there() -> None:
    text = text_of(VIEW)
    for words in (
        "driverun on a Tesla T4",
        "mnist-1a2b3c4d5e6f  attempt 2, resumed from step 3,420 of attempt 1",
        "training, step 5,120 of 9,375 (epoch 3), 50 steps/s, 1 min 25 s to go, loss 0.1123, accuracy 0.97",
        "last checkpoint on the root: step 5,000, 12 s ago; sending 3.0 MB of 12.0 MB, 4 s left",
        "Tesla T4: 87 % busy, 3.2 of 15.0 GB",
        "cifar-0123456789ab  QUEUED  not on the root yet: data/cifar.npz",
        "hands over in 3 h at the latest",
    ):
        assert words in text
    assert text.count("mnist-1a2b3c4d5e6f") == 1
    assert "said 8" in text and "said 0" not in text, "the newest lines"  # noqa: PT018
    assert "| written 8" in text


def test_after_a_stop_the_time_left_is_shown() -> None:
    stopped = replace(VIEW, worker=replace(VIEW.worker, stop=Stop.USER))
    assert (
        "stopped by a person: committing and handing over (4 s left); stop once more to abandon"
        in text_of(stopped)
    )


def test_the_ending_takes_the_place_of_what_may_still_be_done() -> None:
    stopped = replace(VIEW, worker=replace(VIEW.worker, stop=Stop.USER), ending=("Stopped.",))
    text = text_of(stopped)
    assert text.endswith("Stopped.")
    assert "stop once more" not in text


def test_an_attempt_that_has_nothing_yet() -> None:
    attempt = AttemptView(run_id="a-1", number=1, doing="preparing", logs={})
    text = text_of(CellView(banner="b", worker=WorkerView(attempt=attempt), left_s=60.0))
    assert "a-1  attempt 1, from the start\n  preparing\n" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.6, "1 min"),
        (65, "1 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7800, "2 h 10 min"),
        (-3, "0 s"),
        (float("inf"), "a long time"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_the_queue_in_numbers() -> None:
    assert queue_text(["QUEUED", "RUNNING", "QUEUED"]) == "2 queued, 1 running"
    assert queue_text([]) == "nothing in the queue"
