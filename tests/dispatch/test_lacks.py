from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from driverun.dispatch.lacks import Looked, lacks_of, results_given, running_by_sweep
from driverun.runs.evidence import RunEvidence, WishEvidence
from driverun.runs.layout import WishKind
from driverun.runs.record import RunFile
from driverun.runs.state import Derived, RunState, WaitingFor, derive_state
from driverun.spec.model import JobSpec
from driverun.spec.parser import parse_job
from driverun.testing.clock import START

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def spec(**fields: object) -> JobSpec:
    text = "".join(f"{name}: {value}\n" for name, value in {"entrypoint": "t.py", **fields}.items())
    return parse_job(text.encode(), file="job.yaml", default_name="digits")


RUN = "digits-0123456789ab"
PREPARE, OTHER = "prepare-0123456789ab", "other-0123456789ab"
SWEEP = "digits@0123456789ab"


def wish(**details: Any) -> WishEvidence:
    return WishEvidence(kind=WishKind.SUBMIT, created_at=START, object_id="w", details=details)


def run_given(after: Any, **details: Any) -> RunEvidence:
    run_file = RunFile(run_id=RUN, name="digits", code_sha256="ab", computed={"after": after})
    return RunEvidence(run_id=RUN, run_file=run_file, created_at=START, wishes=(wish(**details),))


def stands(state: RunState) -> Derived:
    return replace(derive_state(RunEvidence(run_id=OTHER)), state=state)


def looked(
    evidence: RunEvidence | None = None,
    *,
    missing: Sequence[str] = (),
    states: Mapping[str, RunState] | None = None,
    running: int = 0,
) -> Looked:
    evidence = evidence or RunEvidence(run_id=RUN)
    known = {run_id: stands(state) for run_id, state in (states or {}).items()}
    return Looked(
        evidence=evidence,
        derived=derive_state(evidence),
        spec=spec(),
        missing_data=lambda: missing,
        state_of=known.get,
        running_in=lambda sweep: running if sweep == SWEEP else 0,
        now=lambda: NOW,
    )


@pytest.mark.parametrize("missing", [(), ("data/a.npz", "data/b.npz")])
def test_a_run_lacks_the_data_that_is_not_on_the_root(missing: Sequence[str]) -> None:
    lacks = lacks_of(looked(missing=missing))
    assert [lack.waiting_for for lack in lacks] == [WaitingFor.DATA] * bool(missing)
    if missing:
        assert "data/a.npz, data/b.npz" in lacks[0].text
        assert "driverun upload FILE data/a.npz" in lacks[0].text


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({}, f"comes after {PREPARE} (not to be seen yet) and 1 more"),
        ({PREPARE: RunState.SUCCEEDED, OTHER: RunState.RUNNING}, f"comes after {OTHER} (RUNNING)"),
        ({PREPARE: RunState.QUEUED, OTHER: RunState.QUEUED}, f"comes after {PREPARE} (QUEUED) and 1 more"),
        (
            {PREPARE: RunState.INTERRUPTED, OTHER: RunState.FAILED},
            f"comes after {OTHER} (FAILED) and 1 more. Mend that one: driverun retry {OTHER}. "
            f"Or give this one up: driverun cancel {RUN}",
        ),
        ({PREPARE: RunState.CANCELLED, OTHER: RunState.SUCCEEDED}, f"driverun retry {PREPARE}"),
        ({PREPARE: RunState.SUCCEEDED, OTHER: RunState.SUCCEEDED}, None),
    ],
)
def test_a_run_waits_until_all_that_it_comes_after_have_succeeded(
    states: Mapping[str, RunState], words: str | None
) -> None:
    evidence = run_given({"prepare": PREPARE, "others": [OTHER]})
    lacks = lacks_of(looked(evidence, states=states))
    assert [lack.waiting_for for lack in lacks] == [WaitingFor.AFTER] * (words is not None)
    assert [words in lack.text for lack in lacks if words is not None] == [True] * len(lacks)
    assert results_given(evidence) == (("prepare", PREPARE), (f"others/{OTHER}", OTHER))


@pytest.mark.parametrize(
    ("most", "running", "waits"), [(2, 1, False), (2, 2, True), (2, 3, True), (None, 9, False)]
)
def test_a_run_waits_while_enough_of_its_sweep_are_at_work(
    most: int | None, running: int, waits: bool
) -> None:
    evidence = run_given({}, sweep=SWEEP, max_parallel=most)
    lacks = lacks_of(looked(evidence, running=running))
    assert [lack.waiting_for for lack in lacks] == [WaitingFor.SWEEP] * waits


def test_only_what_is_at_work_is_counted_and_by_its_newest_submission() -> None:
    of_sweep = {name: RunEvidence(run_id=name, wishes=(wish(sweep=SWEEP),)) for name in ("a", "b", "c")}
    others = {
        "d": RunEvidence(run_id="d", wishes=(wish(sweep="digits@other"),)),
        "e": RunEvidence(run_id="e"),
    }
    states = dict.fromkeys(["a", "b", "d", "e"], stands(RunState.RUNNING)) | {"c": stands(RunState.QUEUED)}
    assert running_by_sweep({**of_sweep, **others}, states.get) == {SWEEP: 2, "digits@other": 1}
