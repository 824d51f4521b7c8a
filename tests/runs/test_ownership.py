from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from driverun.runs.evidence import ClaimEvidence
from driverun.runs.layout import AttemptKey
from driverun.runs.ownership import manifest_counts, owner_of, owner_of_number, superseded_at

RUN = "digits-0123456789ab"


def at(minute: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


def key(number: int, worker: str) -> AttemptKey:
    return AttemptKey(run_id=RUN, number=number, worker=worker)


def claim(number: int, worker: str, *, minute: float, object_id: str = "x") -> ClaimEvidence:
    return ClaimEvidence(key=key(number, worker), created_at=at(minute), object_id=object_id)


FIRST = claim(1, "anna", minute=0)
SECOND = claim(2, "bert", minute=10)
SECOND_LATER = claim(2, "carl", minute=11)
SECOND_TWIN = claim(2, "dora", minute=10, object_id="w")


def test_nobody_owns_what_nobody_claimed() -> None:
    assert owner_of([]) is None
    assert owner_of_number([FIRST], 2) is None
    assert superseded_at([FIRST], 1) is None


@pytest.mark.parametrize(
    ("claims", "owner"),
    [
        ([FIRST], FIRST),
        ([FIRST, SECOND], SECOND),
        ([SECOND, SECOND_LATER], SECOND),
        ([SECOND, SECOND_TWIN], SECOND_TWIN),
        ([FIRST, SECOND, SECOND_LATER, SECOND_TWIN], SECOND_TWIN),
    ],
)
def test_the_highest_number_owns_then_the_earliest_claim_then_the_lesser_id(
    claims: list[ClaimEvidence], owner: ClaimEvidence
) -> None:
    for order in itertools.permutations(claims):
        assert owner_of(order) == owner


@pytest.mark.parametrize(
    ("number", "worker", "minute", "counts"),
    [
        (1, "anna", 9.99, True),
        (1, "anna", 10, False),
        (1, "anna", 10.5, False),
        (2, "dora", 99, True),
        (2, "bert", 10.5, False),
        (2, "carl", 12, False),
        (3, "eric", 12, False),
    ],
)
def test_a_manifest_counts_before_its_attempt_is_superseded(
    number: int, worker: str, minute: float, counts: bool
) -> None:
    claims = [FIRST, SECOND, SECOND_LATER, SECOND_TWIN]
    assert manifest_counts(key=key(number, worker), created_at=at(minute), claims=claims) is counts


def test_claims_that_come_later_change_nothing_about_a_manifest() -> None:
    late = [SECOND, claim(3, "eric", minute=20), claim(1, "fred", minute=20), claim(2, "gina", minute=21)]
    for made_at in (5.0, 15.0):
        for known in range(1, len(late) + 1):
            assert manifest_counts(
                key=key(1, "anna"), created_at=at(made_at), claims=[FIRST, *late[:known]]
            ) is (made_at < 10)
