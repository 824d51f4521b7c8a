"""What the end of an attempt means: every reason, in the order in which reasons win."""

from __future__ import annotations

import errno

import pytest

from driverun.errors import (
    DiskFull,
    IndexOutOfReach,
    IntegrityError,
    LostOwnership,
    ObjectNotFound,
    StoreAccessDenied,
    StoreQuotaExceeded,
    WaitTimeout,
)
from driverun.execution.concluding import outcome_of_error, outcome_of_exit
from driverun.execution.context import Stop
from driverun.execution.ending import Ended
from driverun.execution.outcome import ABANDONED, CANCELLED, Outcome
from driverun.execution.stopping import Abandoned
from driverun.execution.supervising import Trained
from driverun.execution.telling import Told
from driverun.execution.trainer import Exit
from driverun.runs.record import AttemptState, Failure
from driverun.spool.masking import Masker

FAILED, INTERRUPTED = AttemptState.FAILED, AttemptState.INTERRUPTED
OF_LIMIT = Failure(kind="limit", message="limit", traceback="")
OF_JOB = Failure(kind="ValueError", message="job", traceback="Traceback ...")


def trained(code: int, *, limit: Failure | None = None, oom: bool = False) -> Trained:
    return Trained(exit_=Exit(code=code, peak_bytes=2_000_000_000, killed_by_kernel=oom), limit=limit)


@pytest.mark.parametrize(
    ("exit_", "told", "stop", "state", "words"),
    [
        (trained(1, limit=OF_LIMIT), OF_JOB, Stop.DEADLINE, FAILED, "limit"),
        (trained(1), OF_JOB, Stop.DEADLINE, FAILED, "job"),
        (trained(0), None, Stop.DEADLINE, INTERRUPTED, Stop.DEADLINE.value),
        (trained(-9, oom=True), None, Stop.USER, INTERRUPTED, Stop.USER.value),
        (trained(-9, oom=True), None, None, FAILED, "for its memory, at a peak of 2.0 GB"),
        (trained(-11), None, None, FAILED, "ended by signal 11"),
        (trained(3), None, None, FAILED, "ended with code 3 before the script did"),
    ],
)
def test_the_first_reason_for_an_end_is_the_one_that_is_told(
    exit_: Trained, told: Failure | None, stop: Stop | None, state: AttemptState, words: str
) -> None:
    outcome = outcome_of_exit(exit_, Told(failure=told), stop=stop)
    assert outcome.state is state
    assert words in outcome.reason
    assert (outcome.failure is not None) is (state is FAILED)


@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [
        (StoreQuotaExceeded("full"), INTERRUPTED, None),
        (StoreAccessDenied("closed"), INTERRUPTED, None),
        (ObjectNotFound("gone"), INTERRUPTED, None),
        (DiskFull("no room"), INTERRUPTED, None),
        (IndexOutOfReach("no answer"), INTERRUPTED, None),
        (OSError(errno.ENOSPC, "no space"), INTERRUPTED, None),
        (OSError(errno.EDQUOT, "quota"), INTERRUPTED, None),
        (OSError(errno.EIO, "broken"), FAILED, "OSError"),
        (WaitTimeout("late"), FAILED, "WaitTimeout"),  # ours, though it is an OSError as well
        (IntegrityError("other bytes"), FAILED, "IntegrityError"),
        (ZeroDivisionError("ours"), FAILED, "ZeroDivisionError"),
    ],
)
def test_an_error_is_the_jobs_only_where_no_other_machine_or_moment_would_do(
    error: Exception, state: AttemptState, kind: str | None
) -> None:
    outcome = outcome_of_error(error)
    assert outcome.state is state
    assert not outcome.superseded
    assert (outcome.failure.kind if outcome.failure is not None else None) == kind


def test_who_ends_an_attempt_says_what_comes_of_it() -> None:
    assert outcome_of_error(Abandoned()) is ABANDONED
    assert outcome_of_error(Ended(CANCELLED)) is CANCELLED
    assert outcome_of_error(LostOwnership("another's")).superseded


def test_no_secret_is_in_any_text_of_an_outcome() -> None:
    secret = "s3cret-value"
    failure = Failure(kind=secret, message=f"m {secret}", traceback=f"t {secret}")
    assert secret not in repr(Outcome.failed(failure).masked(Masker({"TOKEN": secret})))
