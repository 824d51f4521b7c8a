from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from driverun.report.summary import CheckpointSummary, json_number, summarize, timestamp
from driverun.runs.evidence import ClaimEvidence, RunEvidence, WishEvidence
from driverun.runs.layout import WishKind
from driverun.runs.record import AttemptState, Exactness, Failure, ResultsRef
from driverun.runs.state import RunState, WaitingFor, derive_state
from tests.report.samples import RUN_FILE, RUN_ID, START, at, claim, key, run

PROMISED = {
    "run_id", "name", "state", "waiting_for", "exactness", "exactness_reasons", "epoch", "step",
    "total_steps", "state_sha256", "outputs_sha256", "metrics", "attempts", "checkpoints", "results",
}  # fmt: skip


def evidence(*claims: ClaimEvidence, wishes: tuple[WishEvidence, ...] = ()) -> RunEvidence:
    return RunEvidence(run_id=RUN_ID, run_file=RUN_FILE, created_at=START, claims=claims, wishes=wishes)


def wish(kind: WishKind, seconds: float, **details: object) -> WishEvidence:
    return WishEvidence(kind=kind, created_at=at(seconds), object_id=f"w{seconds}", details=details)


def results(number: int, seconds: float) -> ResultsRef:
    return ResultsRef(path=key(number).results_folder, created_at=at(seconds))


def test_a_run_that_nobody_has_claimed() -> None:
    seen = evidence(wishes=(wish(WishKind.SUBMIT, 0, job="jobs/mnist"),))
    summary = summarize(seen, derive_state(seen), waiting_for=WaitingFor.DATA, priority=5)
    shown = summary.to_json()
    assert shown.keys() >= PROMISED
    assert (shown["state"], shown["waiting_for"], shown["exactness"]) == ("QUEUED", "data", "exact")
    assert (shown["step"], shown["epoch"], shown["total_steps"]) == (0, None, None)
    assert (shown["state_sha256"], shown["outputs_sha256"], shown["results"]) == (None, None, None)
    assert (shown["metrics"], shown["attempts"], shown["checkpoints"]) == ({}, [], [])
    assert (shown["job"], shown["priority"], shown["name"]) == ("jobs/mnist", 5, "mnist")


def test_a_run_that_was_cut_once_and_succeeded() -> None:
    seen = evidence(
        claim(1, 0, heard=30, step=130, first_step=0, committed_step=100, total_steps=300),
        claim(
            2, 60, heard=90, state=AttemptState.SUCCEEDED, step=300, epoch=3, first_step=100, total_steps=300,
            committed_step=300, metrics={"evaluate.accuracy": 0.97}, state_sha256="5a", outputs_sha256="0b",
            results=results(2, 89),
        ),
    )  # fmt: skip
    shown = summarize(seen, derive_state(seen)).to_json()
    assert (shown["state"], shown["step"], shown["total_steps"], shown["epoch"]) == ("SUCCEEDED", 300, 300, 3)
    assert (shown["state_sha256"], shown["outputs_sha256"]) == ("5a", "0b")
    assert shown["results"] == {"path": key(2).results_folder}
    assert shown["metrics"] == {"evaluate.accuracy": 0.97}
    first, second = shown["attempts"]
    assert (first["number"], first["worker"], first["state"], first["died"]) == (
        1,
        "work1",
        "INTERRUPTED",
        True,
    )
    assert (first["started_at"], first["ended_at"]) == (
        "2025-03-01T12:00:00.000Z",
        "2025-03-01T12:00:30.000Z",
    )
    assert (first["first_step"], first["last_step"], second["first_step"]) == (0, 130, 100)
    assert first["reason"]


def test_the_list_has_no_details() -> None:
    full, short = run().to_json(), run().to_json(details=False)
    assert full.keys() - short.keys() == {"attempts", "checkpoints"}
    assert all(full[name] == short[name] for name in short)


def test_a_run_is_no_more_exact_than_its_least_exact_attempt() -> None:
    seen = evidence(
        claim(1, 0, step=5, exactness=Exactness.APPROXIMATE, exactness_reasons=("code changed", "GPU")),
        claim(2, 60, step=9, exactness=Exactness.STEP_EXACT, exactness_reasons=("GPU", "other kernels")),
    )
    summary = summarize(seen, derive_state(seen))
    assert summary.exactness is Exactness.APPROXIMATE
    assert summary.exactness_reasons == ("code changed", "GPU", "other kernels")


def test_a_fresh_start_forgets_what_came_before() -> None:
    seen = evidence(
        claim(1, 0, step=50, committed_step=40, exactness=Exactness.APPROXIMATE, exactness_reasons=("x",)),
        claim(2, 60, step=5, first_step=0, committed_step=4),
        wishes=(wish(WishKind.RETRY, 30, fresh=True),),
    )
    summary = summarize(seen, derive_state(seen))
    assert (summary.exactness, summary.exactness_reasons) == (Exactness.EXACT, ())
    assert (summary.step, summary.committed_step) == (5, 4)
    assert len(summary.attempts) == 2


def test_an_attempt_that_lost_its_number_says_nothing_about_the_run() -> None:
    late = claim(1, 1, step=3, exactness=Exactness.APPROXIMATE, exactness_reasons=("x",))
    assert late.record is not None
    loser = replace(late, key=replace(late.key, worker="zzzz"), object_id="z")
    seen = evidence(claim(1, 0, step=5), loser)
    summary = summarize(seen, derive_state(seen))
    assert summary.exactness is Exactness.EXACT
    assert [item.owned for item in summary.attempts] == [True, False]


def test_an_attempt_that_has_not_begun_to_train_stands_where_it_will_take_up() -> None:
    seen = evidence(
        claim(1, 0, step=130, first_step=0, committed_step=100, total_steps=300, metrics={"fit.loss": 1.0}),
        claim(2, 60, heard=61, reason="fetching data"),
    )
    summary = summarize(seen, derive_state(seen))
    assert (summary.state, summary.step, summary.total_steps) == (RunState.RUNNING, 100, 300)
    assert summary.metrics == {"fit.loss": 1.0}
    assert summary.lease is not None
    assert (summary.lease.worker, summary.lease.heard_at) == ("work2", at(61))


def test_results_that_a_later_attempt_found_keep_their_metrics() -> None:
    found = results(1, 50)
    seen = evidence(
        claim(1, 0, step=300, first_step=0, metrics={"fit.loss": 0.5}, exactness=Exactness.STEP_EXACT),
        claim(2, 60, state=AttemptState.SUCCEEDED, step=300, results=found),
    )
    summary = summarize(seen, derive_state(seen))
    assert summary.state is RunState.SUCCEEDED
    assert (summary.results_path, summary.metrics) == (found.path, {"fit.loss": 0.5})
    assert summary.exactness is Exactness.STEP_EXACT


def test_a_failed_run_says_why() -> None:
    failure = Failure(kind="ValueError", message="no such column", traceback="Traceback ...")
    seen = evidence(claim(1, 0, state=AttemptState.FAILED, step=3, failure=failure))
    summary = summarize(seen, derive_state(seen), waiting_for=WaitingFor.BACKOFF)
    assert summary.waiting_for is None  # it is not claimable, so it waits for nothing
    assert summary.to_json()["error"] == {
        "kind": "ValueError",
        "message": "no such column",
        "traceback": "Traceback ...",
    }


def test_checkpoints_are_sorted_and_tell_the_committed_step() -> None:
    infos = [
        CheckpointSummary(step=step, attempt=1, size_bytes=10, new_bytes=5, created_at=at(step))
        for step in (30, 10, 20)
    ]
    seen = evidence(claim(1, 0, step=35, first_step=0))
    summary = summarize(seen, derive_state(seen), checkpoints=infos)
    assert [item.step for item in summary.checkpoints] == [10, 20, 30]
    assert summary.committed_step == 30
    assert summary.to_json()["checkpoints"][0] == {
        "step": 10,
        "attempt": 1,
        "size_bytes": 10,
        "new_bytes": 5,
        "created_at": "2025-03-01T12:00:10.000Z",
    }


def test_a_run_whose_file_is_not_seen_yet_has_a_name() -> None:
    seen = RunEvidence(run_id=RUN_ID, claims=(claim(1, 0, step=1),))
    assert summarize(seen, derive_state(seen)).name == "mnist"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, 0.5), (float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity")],
)
def test_a_metric_that_is_not_finite_is_said_in_strict_json(value: float, shown: float | str) -> None:
    assert json_number(value) == shown
    json.dumps(run(metrics={"fit.loss": value}).to_json(), allow_nan=False)


def test_times_are_utc_with_a_z() -> None:
    berlin = timezone(timedelta(hours=1))
    assert timestamp(START.astimezone(berlin)) == "2025-03-01T12:00:00.000Z"
