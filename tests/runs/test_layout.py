from __future__ import annotations

import pytest

from driverun.runs import layout
from driverun.runs.layout import (
    AttemptKey,
    EntryKind,
    LedgerName,
    WishKind,
    attempt_of_path,
    parse_ledger_name,
)

RUN = "digits-0123456789ab"
KEY = AttemptKey(run_id=RUN, number=12, worker="anna")


def test_every_name_of_the_ledger_says_what_it_is() -> None:
    expected = {
        layout.run_file(RUN): LedgerName(kind=EntryKind.RUN, run_id=RUN),
        KEY.claim_file: LedgerName(kind=EntryKind.CLAIM, run_id=RUN, number=12, worker="anna"),
        KEY.record_file: LedgerName(kind=EntryKind.RECORD, run_id=RUN, number=12, worker="anna"),
        layout.wish_file(RUN, WishKind.RETRY, "7f3a"): LedgerName(
            kind=EntryKind.WISH, run_id=RUN, wish=WishKind.RETRY, wish_id="7f3a"
        ),
    }
    assert {path: parse_ledger_name(path) for path in expected} == expected


@pytest.mark.parametrize(
    "path",
    [
        "ledger/desktop.ini",
        f"ledger/{RUN}.0001.anna.claim (1).json",
        f"ledger/{RUN}.001.anna.claim.json",
        f"ledger/{RUN}.00001.anna.claim.json",
        f"ledger/{RUN}.0000.anna.claim.json",
        f"ledger/{RUN}.٠٠٠١.anna.claim.json",
        f"ledger/{RUN}.0001.ANNA.claim.json",
        f"ledger/{RUN}.destroy.7f3a.json",
        f"ledger/deeper/{RUN}.run.json",
        f"{RUN}.run.json",
        "ledger/-rf-0123456789ab.run.json",
        f"ledger/{RUN}.run.json\n",
    ],
)
def test_names_that_driverun_does_not_write_are_none_of_its_own(path: str) -> None:
    assert parse_ledger_name(path) is None


def test_everything_of_an_attempt_can_be_traced_back_to_it() -> None:
    paths = [
        KEY.folder,
        KEY.results_folder,
        KEY.results_manifest,
        KEY.checkpoint_file(step=500, fits_finished=1),
        KEY.fit_file(0),
        KEY.pack_file("ab"),
        KEY.log_segment(3),
        KEY.metrics_segment(3),
    ]
    assert {attempt_of_path(path) for path in paths} == {KEY}
    assert attempt_of_path(KEY.claim_file) is None
    assert attempt_of_path(f"runs/{RUN}/results") is None
    assert attempt_of_path(f"{KEY.folder}-copy/results") is None


def test_names_sort_as_their_numbers_do() -> None:
    steps = [KEY.checkpoint_file(step=step, fits_finished=0) for step in (9, 10, 100_000)]
    assert steps == sorted(steps)
    assert KEY.claim_file == f"ledger/{RUN}.0012.anna.claim.json"
    assert AttemptKey(run_id=RUN, number=12_345, worker="anna").folder == f"runs/{RUN}.12345.anna"
