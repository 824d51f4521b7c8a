from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from driverun.runs.evidence import ClaimEvidence, RunEvidence, WishEvidence
from driverun.runs.layout import AttemptKey, WishKind
from driverun.runs.record import AttemptState, Failure, ProcessId, Record, ResultsRef, RunFile
from driverun.runs.state import NO_PROGRESS_LIMIT, Derived, RunState, derive_state, wish_refusal

RUN = "digits-0123456789ab"
PROCESS = ProcessId(host="lab", boot_id="b1", pid=7, started="99")


def at(minute: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


def key(number: int, worker: str = "anna") -> AttemptKey:
    return AttemptKey(run_id=RUN, number=number, worker=worker)


def attempt(
    number: int,
    said: str | None,
    *,
    worker: str = "anna",
    minute: float | None = None,
    said_at: float | None = None,
    committed: int | None = None,
    results_of: AttemptKey | None = None,
    results_at: float | None = None,
) -> ClaimEvidence:
    """Attempt `number`, claimed at minute 10 * number and heard of five minutes later, unless told."""
    start = 10.0 * number if minute is None else minute
    end = start + 5 if said_at is None else said_at
    claim = ClaimEvidence(key=key(number, worker), created_at=at(start), object_id=f"id-{number}-{worker}")
    if said is None:
        return claim
    state = AttemptState(said)
    results = None
    if state is AttemptState.SUCCEEDED:
        made_at = at(end - 0.5 if results_at is None else results_at)
        results = ResultsRef(path=(results_of or claim.key).results_folder, created_at=made_at)
    record = Record(
        run_id=RUN,
        number=number,
        worker=worker,
        process=PROCESS,
        state=state,
        beat=3,
        started_at=at(start),
        updated_at=at(end),
        committed_step=committed,
        step=committed or 0,
        results=results,
        failure=Failure(kind="ValueError", message="boom", traceback="") if said == "FAILED" else None,
    )
    return replace(claim, record=record, record_modified_at=at(end))


def wish(kind: WishKind, minute: float, **details: Any) -> WishEvidence:
    return WishEvidence(kind=kind, created_at=at(minute), object_id=f"wish-{minute}", details=details)


def cancel(minute: float) -> WishEvidence:
    return wish(WishKind.CANCEL, minute)


def retry(minute: float, **details: Any) -> WishEvidence:
    return wish(WishKind.RETRY, minute, **details)


def derived(
    *found: ClaimEvidence | WishEvidence, stale: tuple[int, ...] = (), max_errors: int = 1
) -> Derived:
    evidence = RunEvidence(
        run_id=RUN,
        claims=tuple(item for item in found if isinstance(item, ClaimEvidence)),
        wishes=tuple(item for item in found if isinstance(item, WishEvidence)),
    )
    return derive_state(evidence, stale={key(number) for number in stale}, max_errors=max_errors)


Q, R, I, S, F, C = RunState  # noqa: E741 - a table is read by columns

CASES: list[tuple[str, list[ClaimEvidence | WishEvidence], tuple[int, ...], RunState]] = [
    ("nothing but the run", [], (), Q),
    ("claimed, no record yet", [attempt(1, None)], (), R),
    ("claimed, never heard of again", [attempt(1, None)], (1,), I),
    ("at work", [attempt(1, "RUNNING")], (), R),
    ("power cut", [attempt(1, "RUNNING")], (1,), I),
    ("power cut, taken up", [attempt(1, "RUNNING"), attempt(2, "RUNNING")], (1,), R),
    ("taken up before anybody judged the first", [attempt(1, "RUNNING"), attempt(2, None)], (), R),
    ("deadline", [attempt(1, "INTERRUPTED")], (), I),
    ("done", [attempt(1, "SUCCEEDED")], (), S),
    ("done at the second try", [attempt(1, "RUNNING"), attempt(2, "SUCCEEDED")], (1,), S),
    ("done, whatever is stale", [attempt(1, "SUCCEEDED")], (1,), S),
    ("done, then claimed by a late worker", [attempt(1, "SUCCEEDED"), attempt(2, "RUNNING")], (), S),
    (
        "results made in time, told too late",
        [attempt(1, "SUCCEEDED", said_at=99, results_at=15), attempt(2, "RUNNING")],
        (),
        S,
    ),
    (
        "results made too late",
        [attempt(1, "SUCCEEDED", said_at=21, results_at=20.5), attempt(2, "RUNNING")],
        (),
        R,
    ),
    (
        "results made at the very time of the next claim",
        [attempt(1, "SUCCEEDED", said_at=21, results_at=20), attempt(2, "RUNNING")],
        (),
        R,
    ),
    (
        "results found by a later attempt",
        [attempt(1, "RUNNING"), attempt(2, "SUCCEEDED", results_of=key(1), results_at=15)],
        (),
        S,
    ),
    (
        "a later attempt trusts results that came too late",
        [attempt(1, "RUNNING"), attempt(2, "SUCCEEDED", results_of=key(1), results_at=20.5)],
        (),
        I,
    ),
    (
        "results of an attempt that lost its number",
        [attempt(1, "RUNNING"), attempt(1, "SUCCEEDED", worker="bert", minute=11)],
        (),
        R,
    ),
    (
        "results of another run",
        [
            attempt(1, "RUNNING"),
            attempt(2, "SUCCEEDED", results_of=AttemptKey(run_id="x-000000000000", number=1, worker="anna")),
        ],
        (),
        I,
    ),
    ("failed", [attempt(1, "FAILED")], (), F),
    ("failed, asked to try again", [attempt(1, "FAILED"), retry(17)], (), I),
    ("failed after it was asked to try again", [attempt(1, "FAILED", said_at=18), retry(17)], (), I),
    ("failed again after a retry", [attempt(1, "FAILED"), retry(17), attempt(2, "FAILED")], (), F),
    ("failed, taken up by a late worker", [attempt(1, "FAILED"), attempt(2, "RUNNING")], (), R),
    ("failed, taken up by a late worker that died", [attempt(1, "FAILED"), attempt(2, "RUNNING")], (2,), F),
    (
        "failed when it owned the run no more",
        [attempt(1, "FAILED", said_at=22), attempt(2, "INTERRUPTED")],
        (),
        I,
    ),
    (
        "failed without owning its number",
        [attempt(1, "FAILED", worker="bert", minute=11), attempt(1, "RUNNING")],
        (),
        R,
    ),
    ("cancelled before it began", [cancel(5)], (), C),
    ("asked to stop, at work", [attempt(1, "RUNNING"), cancel(17)], (), R),
    ("asked to stop, dead", [attempt(1, "RUNNING"), cancel(17)], (1,), C),
    ("asked to stop, stopped", [attempt(1, "CANCELLED"), cancel(14)], (), C),
    ("asked to stop, interrupted", [attempt(1, "INTERRUPTED"), cancel(14)], (), C),
    ("asked to stop, failed", [attempt(1, "FAILED"), cancel(14)], (), C),
    ("asked to stop, but done by then", [attempt(1, "SUCCEEDED"), cancel(14)], (), S),
    ("cancelled after it was done", [attempt(1, "SUCCEEDED"), cancel(99)], (), S),
    ("cancelled, claimed by a late worker", [cancel(5), attempt(1, "RUNNING")], (), R),
    ("cancelled, then asked for again", [attempt(1, "CANCELLED"), cancel(14), retry(30)], (), I),
    ("cancelled before it began, then asked for again", [cancel(5), retry(6)], (), Q),
    ("asked for again, then cancelled", [attempt(1, "FAILED"), retry(17), cancel(18)], (), C),
    (
        "the cancel was taken back before it was obeyed",
        [attempt(1, "CANCELLED", said_at=18), cancel(16), retry(17)],
        (),
        I,
    ),
    ("says cancelled, and the wish is lost", [attempt(1, "CANCELLED")], (), C),
    ("approval and priority are no orders", [wish(WishKind.PRIORITY, 1), wish(WishKind.APPROVE, 2)], (), Q),
]


@pytest.mark.parametrize(
    ("found", "stale", "state"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_state_follows_from_what_is_found(
    found: list[ClaimEvidence | WishEvidence], stale: tuple[int, ...], state: RunState
) -> None:
    assert derived(*found, stale=stale).state is state
    assert derived(*reversed(found), stale=stale) == derived(*found, stale=stale), (
        "the order of reading matters"
    )


def test_a_run_that_is_asked_to_stop_says_so_while_it_is_at_work() -> None:
    assert derived(attempt(1, "RUNNING"), cancel(17)).cancel_requested
    assert not derived(attempt(1, "RUNNING"), cancel(17), stale=(1,)).cancel_requested
    assert not derived(attempt(1, "RUNNING"), cancel(17), retry(18)).cancel_requested


def test_so_many_errors_are_borne_as_were_allowed() -> None:
    first, cut, second = attempt(1, "FAILED"), attempt(2, "RUNNING"), attempt(3, "FAILED")
    assert derived(first, max_errors=2).state is RunState.INTERRUPTED
    assert derived(first, cut, max_errors=2, stale=(2,)).state is RunState.INTERRUPTED
    failed = derived(first, cut, second, max_errors=2)
    assert (failed.state, failed.errors, failed.reason) == (RunState.FAILED, 2, "boom")


def deaths(first: int, last: int, *, committed: int | None = None) -> list[ClaimEvidence]:
    return [attempt(number, "RUNNING", committed=committed) for number in range(first, last + 1)]


def test_a_run_that_kills_its_runtimes_is_set_aside_with_what_to_do() -> None:
    poisoned = derived(*deaths(1, NO_PROGRESS_LIMIT), stale=(NO_PROGRESS_LIMIT,))
    assert poisoned.state is RunState.FAILED
    assert f"driverun logs {RUN}" in poisoned.reason
    assert f"driverun retry {RUN}" in poisoned.reason
    assert derived(*deaths(1, NO_PROGRESS_LIMIT)).state is RunState.RUNNING, "the last one is still alive"
    assert (
        derived(*deaths(1, NO_PROGRESS_LIMIT - 1), stale=(NO_PROGRESS_LIMIT - 1,)).state
        is RunState.INTERRUPTED
    )


def test_progress_or_an_orderly_end_breaks_the_row_of_deaths() -> None:
    last = NO_PROGRESS_LIMIT + 1
    moving = [attempt(number, "RUNNING", committed=100 * number) for number in range(1, last + 1)]
    assert derived(*moving, stale=(last,)).state is RunState.INTERRUPTED
    stuck = [attempt(1, "RUNNING", committed=100), *deaths(2, last, committed=100)]
    assert derived(*stuck, stale=(last,)).state is RunState.FAILED
    assert (
        derived(*stuck[:4], attempt(5, "INTERRUPTED"), *stuck[5:], stale=(last,)).state
        is RunState.INTERRUPTED
    )


def test_a_retry_begins_the_count_of_deaths_anew_but_not_the_progress() -> None:
    asked = retry(10 * NO_PROGRESS_LIMIT + 5)
    first, last = NO_PROGRESS_LIMIT + 1, 2 * NO_PROGRESS_LIMIT
    old = deaths(1, NO_PROGRESS_LIMIT, committed=100)
    assert derived(*old, asked, stale=(NO_PROGRESS_LIMIT,)).state is RunState.INTERRUPTED
    again = deaths(first, last, committed=100)
    assert derived(*old, asked, *again[:-1], stale=(last - 1,)).state is RunState.INTERRUPTED
    assert derived(*old, asked, *again, stale=(last,)).state is RunState.FAILED
    fresh = retry(10 * NO_PROGRESS_LIMIT + 5, fresh=True)
    assert derived(*old, fresh, *again, stale=(last,)).state is RunState.INTERRUPTED, (
        "step 100 is progress anew"
    )


def test_attempts_are_told_one_by_one() -> None:
    told = derived(
        attempt(1, "RUNNING", committed=70),
        attempt(2, "FAILED", said_at=35),
        attempt(3, "INTERRUPTED"),
        attempt(3, "RUNNING", worker="bert", minute=31),
        attempt(3, None, worker="carl", minute=31),
        attempt(4, None),
    ).attempts
    assert [(view.key.number, view.key.worker, view.state.value, view.died) for view in told] == [
        (1, "anna", "INTERRUPTED", True),
        (2, "anna", "INTERRUPTED", True),
        (3, "anna", "INTERRUPTED", False),
        (3, "bert", "INTERRUPTED", False),
        (4, "anna", "RUNNING", False),
    ]
    assert [view.owned for view in told] == [True, True, True, False, True]
    assert [view.ended_at for view in told] == [at(15), at(30), at(35), at(36), None]
    assert told[0].last_step == 70


def test_results_are_those_of_the_lowest_attempt_that_has_some() -> None:
    late = attempt(1, "SUCCEEDED", said_at=99, results_at=15)
    pointing = attempt(2, "SUCCEEDED", results_of=key(1), results_at=15)
    for found in ([late, pointing], [attempt(1, "RUNNING"), pointing]):
        done = derived(*found)
        assert done.results_key == key(1)
        assert done.results == ResultsRef(path=key(1).results_folder, created_at=at(15))
    assert derived(late, pointing).record == late.record
    assert derived(attempt(1, "RUNNING"), pointing).record == pointing.record


def test_the_last_word_is_that_of_the_last_owner_that_spoke() -> None:
    spoke = attempt(1, "RUNNING", committed=50)
    assert derived(spoke, attempt(2, None)).record == spoke.record
    assert derived(attempt(1, None)).record is None


def test_a_fresh_retry_shuts_out_the_checkpoints_before_it() -> None:
    old = [attempt(1, "RUNNING"), attempt(2, "FAILED")]
    assert derived(*old, retry(27)).resume_after == 0
    asked = derived(*old, retry(27, fresh=True))
    assert (asked.resume_after, asked.starts_over) == (2, True)
    later = derived(*old, retry(27, fresh=True), attempt(3, "FAILED"), retry(37))
    assert (later.resume_after, later.starts_over) == (2, False)
    assert not derived().starts_over


def test_a_retry_says_which_code_runs_from_now_on() -> None:
    assert derived(retry(1)).code_sha256 is None
    assert (
        derived(
            retry(1, code_sha256="aa"), retry(2, code_sha256="bb"), retry(3, code_sha256=None)
        ).code_sha256
        == "bb"
    )
    assert derived(retry(1, code_sha256=["?"], fresh="yes")).code_sha256 is None


def test_a_run_is_complete_once_all_files_of_its_submission_are_seen() -> None:
    run_file = RunFile(run_id=RUN, name="digits", code_sha256="ab", computed={})
    submitted = (wish(WishKind.SUBMIT, 1, spec={"seed": 1}), wish(WishKind.SUBMIT, 2, spec={"seed": 2}))
    whole = RunEvidence(run_id=RUN, run_file=run_file, wishes=submitted)
    assert whole.is_complete
    assert whole.spec == {"seed": 2}
    assert not replace(whole, run_file=None).is_complete
    assert not replace(whole, wishes=()).is_complete
    assert not replace(whole, wishes=(wish(WishKind.SUBMIT, 3, spec="?"),)).is_complete


@pytest.mark.parametrize(
    ("kind", "found", "hint"),
    [
        (WishKind.RETRY, [attempt(1, "SUCCEEDED")], "submit --again"),
        (WishKind.RETRY, [attempt(1, "RUNNING")], f"driverun cancel {RUN}"),
        (WishKind.RETRY, [], "driverun work"),
        (WishKind.RETRY, [attempt(1, "FAILED")], None),
        (WishKind.RETRY, [attempt(1, "INTERRUPTED")], None),
        (WishKind.RETRY, [cancel(1)], None),
        (WishKind.CANCEL, [], None),
        (WishKind.CANCEL, [attempt(1, "RUNNING")], None),
        (WishKind.CANCEL, [attempt(1, "FAILED")], "it is over (FAILED)"),
        (WishKind.CANCEL, [cancel(1)], "it is over (CANCELLED)"),
        (WishKind.PRIORITY, [attempt(1, "SUCCEEDED")], "it is over (SUCCEEDED)"),
        (WishKind.SUBMIT, [attempt(1, "SUCCEEDED")], None),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_with_what_to_do(
    kind: WishKind, found: list[ClaimEvidence | WishEvidence], hint: str | None
) -> None:
    refusal = wish_refusal(kind, derived(*found))
    assert (refusal is None) is (hint is None)
    assert hint is None or (refusal is not None and hint in refusal)


def test_what_is_claimable_is_not_over() -> None:
    assert [state for state in RunState if state.is_claimable] == [RunState.QUEUED, RunState.INTERRUPTED]
    assert [state for state in RunState if state.is_over] == [
        RunState.SUCCEEDED,
        RunState.FAILED,
        RunState.CANCELLED,
    ]
